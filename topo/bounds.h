/* Lower bounds on the time of a collective on a topology: what no schedule can beat. */
#ifndef MCI_BOUNDS_H
#define MCI_BOUNDS_H

#include "sched/sched.h"
#include "topo/graph.h"

typedef struct {
  double factor; /* bandwidth term in units of N / rate (N: bytes of the whole vector) */
  uint64_t bandwidth_ps, latency_ps;
  uint64_t bound_ps; /* the larger of the two */
  bool exact;        /* factor is the exact optimum of this graph, else only a valid lower bound */
} mci_bound;

/* bytes: the whole vector (all-reduce, broadcast, reduce: count*size; the others: nranks*count*size, all-to-all: what
 * one rank sends, its own block included). */
meshcclResult_t mci_bound_of(const mci_topo* topo, mci_coll coll, uint64_t bytes, uint32_t root, mci_bound* out);
#endif
