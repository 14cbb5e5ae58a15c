/* Which healthy ranks to leave out of a damaged grid, because few links join them to the others. */
#ifndef MCI_ADVICE_H
#define MCI_ADVICE_H

#include "topo/graph.h"

/* Appends lines for people: whom to leave out, what all-reduce gains, and the option dead= to paste. Nothing when no
 * more than an eighth of the ranks is worth it, without damage, and on grids with planes, picked nodes or a rank map. */
meshcclResult_t mci_topo_advice(const mci_topo* topo, mci_str* out);
#endif
