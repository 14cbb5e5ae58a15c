/* Between tree.c (the family, whole vectors), tree_blocks.c (gather and scatter) and tree_exchange.c (all-gather and
 * reduce-scatter). */
#ifndef MCI_PLAN_TREE_H
#define MCI_PLAN_TREE_H

#include "topo/plan/plan.h"
#include "topo/plan/spanning.h"

/* What one rank knows of its tree. */
typedef struct {
  const mci_tree* tree;
  mci_build* b;
  uint32_t rank, parent; /* parent MCI_TREE_NONE: the root */
  uint32_t nchildren, children[MCI_TREE_MAX_CHILDREN];
  bool wide;
  uint32_t chunks;
  uint16_t first_channel; /* of whole vectors: where channels, and chunks as parts, begin to be numbered */
  uint32_t first_chunk;
} mci_tree_spot;

/* Broadcast, reduce, all-reduce and barrier: up and down any tree; uses all but the spot's `tree`. Two channels, or one
 * where the root sends or gets. */
void mci_tree_build_whole(const mci_tree_spot* spot, mci_coll coll);
/* The largest number of blocks that passes between the root and one child. */
uint32_t mci_tree_largest_branch(const mci_tree* tree);
void mci_tree_build_gather(const mci_tree_spot* spot);
meshcclResult_t mci_tree_build_scatter(const mci_tree_spot* spot);
meshcclResult_t mci_tree_build_gather_root(const mci_tree_spot* spot);
/* The ranks of a branch in preorder: a rank, then the branches of its children. To be freed. */
meshcclResult_t mci_tree_branch(const mci_tree* tree, uint32_t top, uint32_t** ranks, uint32_t* n);
meshcclResult_t mci_tree_build_all_gather(const mci_tree_spot* spot);
meshcclResult_t mci_tree_build_reduce_scatter(const mci_tree_spot* spot);

#endif
