/* Lower bounds on the time of a collective on a topology: what no schedule can beat, however it cuts messages. The cost
 * per message is ignored: it only makes schedules slower.
 *
 * The combined term of all-reduce, broadcast and reduce. Let the way from u to v take the delay D, and let the links of
 * v together carry B bytes a second. Nothing that v receives before D depends on what u has, for a broadcast from u as
 * well as for a sum in which u takes part. But the whole result of N bytes does, and with everything else known it says
 * what u has, so N bytes must come in after D:
 *
 *     T >= D + N / B        on a mesh: diameter * delay + N / (2 rate), v being a corner; on a 2D torus N / (4 rate)
 *
 * The last links' own delay is part of D: what is to arrive by T has left a neighbour w of v by T less the delay of the
 * link, and no earlier than the way from u to w takes. A reduce to u is a broadcast with time reversed: what v gives
 * must have left it D before the end. Derived here; we found no published source for the sum. */
#ifndef MCI_BOUNDS_H
#define MCI_BOUNDS_H

#include "sched/sched.h"
#include "topo/graph.h"

typedef struct {
  double factor; /* bandwidth term in units of N / rate (N: bytes of the whole vector) */
  uint64_t bandwidth_ps, latency_ps;
  uint64_t combined_ps; /* delay of a way, then the vector over the links at its end; 0: not for this collective */
  uint64_t way_ps;      /* the delay in it */
  uint64_t bound_ps;    /* the largest of the three */
  bool exact;           /* factor is the exact optimum of this graph, else only a valid lower bound */
} mci_bound;

/* bytes: the whole vector (all-reduce, broadcast, reduce: count*size; the others: nranks*count*size, all-to-all: what
 * one rank sends, its own block included). */
meshcclResult_t mci_bound_of(const mci_topo* topo, mci_coll coll, uint64_t bytes, uint32_t root, mci_bound* out);
#endif
