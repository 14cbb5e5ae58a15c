/* Shares of several patterns (colours, combs) such that the links of all axes carry alike. */
#ifndef MCI_PLAN_BALANCE_H
#define MCI_PLAN_BALANCE_H

#include "topo/graph.h"

/* load[d][c]: what a link of axis d carries, in any unit, when all of the vector follows pattern c. */
typedef int64_t mci_loads[MCI_MAX_DIMS][MCI_MAX_DIMS];

/* Writes shares that add up to about `sum` and solve  sum_c load(d, c) share_c = the same for every d,  by Cramer's
 * rule in integers; a pattern that would need a negative share gets 0. Changes load. */
void mci_balance(mci_loads load, uint32_t n, uint32_t sum, uint32_t* share_out);

#endif
