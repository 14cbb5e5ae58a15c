/* Delays in lower bounds, for bounds.c. */
#ifndef MCI_BOUNDS_DELAY_H
#define MCI_BOUNDS_DELAY_H

#include "topo/graph.h"

/* Delay to the farthest rank, from the root or from any. Exact on full graphs and along open dimensions of whole grids;
 * elsewhere every hop counts as the shortest one. */
uint64_t mci_bound_delay_ps(const mci_topo* topo, bool rooted, uint32_t root);

/* A vector that every rank receives, or gives, whole, and of which nothing can come before the farthest rank has been
 * heard of: the delay of that way, and the time in which the vector passes the links of the rank at its end. */
typedef struct {
  uint64_t way_ps, entry_ps;
} mci_bound_way;

/* The worst such way of a topology: between any two ranks, or between the root and any. */
mci_bound_way mci_bound_way_of(const mci_topo* topo, bool rooted, uint32_t root, uint64_t bytes);

#endif
