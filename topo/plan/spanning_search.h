/* Trees by search, for spanning.c only. */
#ifndef MCI_PLAN_SPANNING_SEARCH_H
#define MCI_PLAN_SPANNING_SEARCH_H

#include "topo/plan/spanning.h"

/* Fills tables and depth of a tree that has topo and root. */
meshcclResult_t mci_tree_search(mci_tree* tree);
meshcclResult_t mci_tree_search_center(const mci_topo* topo, uint32_t* out);

#endif
