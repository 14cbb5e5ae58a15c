/* Lower bounds from a handful of cuts, for topologies whose links differ or that have planes. Valid always, exact
 * sometimes: bounds.c asks for better where it can. Capacities are in units in which a class 0 link has `base`; where
 * rates do not fit small numbers, capacities are rounded up and base down, which keeps bounds below the truth. */
#ifndef MCI_CUTS_H
#define MCI_CUTS_H

#include "sched/sched.h"
#include "topo/net.h"

typedef struct {
  uint64_t base;
  uint64_t of_class[MCI_MAX_LEVELS + 1], of_plane[MCI_MAX_PLANES];
  bool exact; /* nothing was rounded */
} mci_capacities;
void mci_capacities_of(const mci_topo* topo, mci_capacities* out);

typedef struct {
  const mci_topo* topo;
  mci_capacities cap;
  mci_coll coll;
  uint32_t root;
  mci_ratio worst; /* factor of N over the rate of class 0 */
} mci_cuts;

/* A set of `inside` ranks that `capacity` leaves, in each direction. */
void mci_cuts_set(mci_cuts* cuts, uint64_t inside, bool holds_root, uint64_t capacity);
/* A partition; `twice`: what all its parts may send at once. */
void mci_cuts_parts(mci_cuts* cuts, uint64_t parts, uint64_t twice);

/* Some cuts of a whole grid without planes, in closed form. */
void mci_cuts_whole(mci_cuts* cuts);
/* The worst factor of all cuts that are looked at: single ranks, groups of every level, what `apart` leaves together.
 */
meshcclResult_t mci_cuts_bound(const mci_topo* topo, mci_coll coll, uint32_t root, mci_ratio* out);
#endif
