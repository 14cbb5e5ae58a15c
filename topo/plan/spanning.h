/* Spanning trees of a topology, asked one rank at a time: closed forms on whole grids and full graphs, a table from a
 * breadth-first search elsewhere. Edges are links; only ranks that no chain of ranks connects are joined over routes.
 */
#ifndef MCI_PLAN_SPANNING_H
#define MCI_PLAN_SPANNING_H

#include "topo/graph.h"

#define MCI_TREE_MAX_CHILDREN 32

typedef struct {
  const mci_topo* topo;
  uint32_t root;
  uint32_t depth, hops; /* messages and hops to the deepest rank */
  uint32_t* parent;     /* searched trees: per rank, the root's own is itself; else NULL */
  uint32_t* size;       /* searched trees: ranks at and below */
  uint32_t* child;      /* searched trees: first child; `sibling` the next one; MCI_TREE_NONE ends */
  uint32_t* sibling;
  bool routed; /* some edge is not a link */
} mci_tree;

#define MCI_TREE_NONE UINT32_MAX

meshcclResult_t mci_tree_of(const mci_topo* topo, uint32_t root, mci_tree* out);
void mci_tree_fini(mci_tree* tree);
/* A rank whose tree is shallow: the middle of the grid, or of a longest way. */
meshcclResult_t mci_tree_center(const mci_topo* topo, uint32_t* out);

uint32_t mci_tree_parent(const mci_tree* tree, uint32_t rank); /* of the root: MCI_TREE_NONE */
/* In the order in which they are served; returns how many. */
uint32_t mci_tree_children(const mci_tree* tree, uint32_t rank, uint32_t out[MCI_TREE_MAX_CHILDREN]);
uint32_t mci_tree_size(const mci_tree* tree, uint32_t rank); /* ranks at and below */

#endif
