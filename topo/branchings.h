/* Arc-disjoint spanning trees (branchings): as many trees that lead from one rank to all others as there can be when
 * no two of them use a link in the same direction. Each is a pipeline of its own that shares nothing with the others,
 * so together they broadcast with the rate of all trees, and, run backwards, reduce. There can be as many as the
 * smallest of the maximum flows from the root to a rank: no broadcast is faster.
 *
 * Whole grids have closed forms (branchings.c), which ask for no table; other topologies, and tori that are small
 * enough, for whose shallower trees it is worth it, are searched (branchings_search.c). Where rates differ, a link
 * may serve several trees, in proportion to its rate. */
#ifndef MCI_BRANCHINGS_H
#define MCI_BRANCHINGS_H

#include "topo/graph.h"

#define MCI_BRANCHINGS_MAX_RANKS 4096 /* to be searched */
#define MCI_BRANCHINGS_MAX_TREES 64
#define MCI_BRANCHINGS_PORTS (2 * MCI_MAX_DIMS)
#define MCI_BRANCHINGS_ROOT 0xff
#define MCI_BRANCHINGS_NONE UINT32_MAX

typedef struct mci_branchings {
  const mci_topo* topo;
  uint32_t root;
  uint32_t ntrees; /* 0: the ranks' own links do not join them all */
  uint32_t depth;  /* links from the root to the farthest rank, of the deepest tree */
  uint32_t uses;   /* trees on the link that is busiest for its rate, and that rate */
  uint64_t bw_Bps;
  uint8_t* port; /* searched: per tree, per rank: place of the parent among mci_topo_neighbors, or ROOT; else NULL */
  struct mci_branchings* next; /* of those kept with a topology */
} mci_branchings;

/* NULL, or why there are none: a full graph, a single rank, too many ranks to search. */
const char* mci_branchings_refuse(const mci_topo* topo);
/* Of a topology that is not refused. Equal topologies get equal trees, on every machine. */
meshcclResult_t mci_branchings_of(const mci_topo* topo, uint32_t root, mci_branchings* out);
void mci_branchings_fini(mci_branchings* b);

uint32_t mci_branchings_parent(const mci_branchings* b, uint32_t tree, uint32_t rank); /* of the root: NONE */
/* Ascending by port; returns how many. */
uint32_t mci_branchings_children(const mci_branchings* b, uint32_t tree, uint32_t rank,
                                 uint32_t out[MCI_BRANCHINGS_PORTS]);

void mci_branchings_destroy(mci_branchings* list); /* topo only */
/* branchings.c only: fills all of *out but topo, root and next. `tries` orders of growing are compared. */
meshcclResult_t mci_branchings_search(const mci_topo* topo, uint32_t root, uint32_t tries, mci_branchings* out);

#endif
