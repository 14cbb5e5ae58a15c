/* Integer arithmetic of the cost formulas, in picoseconds. */
#ifndef MCI_PLAN_COST_H
#define MCI_PLAN_COST_H

#include "topo/graph.h"

/* total * numerator / denominator, rounded up, without overflow in between. */
static inline uint64_t mci_cost_share(uint64_t total, uint64_t numerator, uint64_t denominator) {
  unsigned __int128 product = (unsigned __int128)total * numerator;
  return (uint64_t)((product + denominator - 1) / denominator);
}

/* Time that `bytes` keep a link busy. */
static inline uint64_t mci_cost_wire(const mci_link* link, uint64_t bytes) {
  return mci_cost_share(bytes, UINT64_C(1000000000000), link->bw_Bps);
}

/* Smallest message worth cutting a larger one into. */
#define MCI_COST_MIN_MESSAGE 8192

#endif
