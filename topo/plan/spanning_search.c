/* Breadth-first trees, for grids with holes and for parts of grids: memory per rank.
 *
 * Ranks that no chain of neighbouring ranks reaches form islands; the first rank of island i hangs under the first rank
 * of island (i - 1) / 2, over a route, so that nobody gets more than two of them. */
#include "topo/plan/spanning_search.h"

#include <string.h>

#include "base/base.h"

typedef struct {
  mci_tree* tree;
  uint32_t n;
  uint32_t *depth, *hops;
  uint32_t* queue;
  uint32_t head, tail;
} search;

static void join(search* s, uint32_t parent, uint32_t rank, uint32_t hops) {
  s->tree->parent[rank] = parent;
  s->depth[rank] = s->depth[parent] + 1;
  s->hops[rank] = s->hops[parent] + hops;
  s->tree->depth = MCI_MAX(s->tree->depth, s->depth[rank]);
  s->tree->hops = MCI_MAX(s->tree->hops, s->hops[rank]);
  s->queue[s->tail++] = rank;
}

static void spread(search* s) {
  while (s->head < s->tail) {
    uint32_t rank = s->queue[s->head++], near[2 * MCI_MAX_DIMS];
    uint32_t count = mci_topo_neighbors(s->tree->topo, rank, near, MCI_COUNT(near));
    for (uint32_t i = 0; i < count; i++)
      if (s->tree->parent[near[i]] == MCI_TREE_NONE) join(s, rank, near[i], 1);
  }
}

/* Reaches every rank; the first ranks of islands stay in `islands`. */
static void search_all(search* s, uint32_t* islands) {
  uint32_t nislands = 1;
  islands[0] = s->tree->root;
  s->tree->parent[s->tree->root] = s->tree->root;
  s->queue[s->tail++] = s->tree->root;
  spread(s);
  for (uint32_t rank = 0; rank < s->n && s->tail < s->n; rank++) {
    if (s->tree->parent[rank] != MCI_TREE_NONE) continue;
    uint32_t above = islands[(nislands - 1) / 2];
    islands[nislands++] = rank;
    s->tree->routed = true;
    join(s, above, rank, mci_topo_hops(s->tree->topo, above, rank));
    spread(s);
  }
}

/* The queue holds parents before children: backwards, sizes are complete when they are added. */
static void link_children(search* s) {
  mci_tree* tree = s->tree;
  for (uint32_t i = 0; i < s->n; i++) tree->size[i] = 1;
  for (uint32_t i = s->n; i-- > 1;) {
    uint32_t rank = s->queue[i], parent = tree->parent[rank];
    tree->size[parent] += tree->size[rank];
    tree->sibling[rank] = tree->child[parent];
    tree->child[parent] = rank;
  }
}

static meshcclResult_t run(mci_tree* tree, search* s) {
  size_t bytes = s->n * sizeof(uint32_t);
  tree->parent = mci_alloc(bytes);
  tree->size = mci_alloc(bytes);
  tree->child = mci_alloc(bytes);
  tree->sibling = mci_alloc(bytes);
  s->depth = mci_alloc(bytes);
  s->hops = mci_alloc(bytes);
  s->queue = mci_alloc(bytes);
  if (!tree->parent || !tree->size || !tree->child || !tree->sibling) return mci_oom(bytes);
  if (!s->depth || !s->hops || !s->queue) return mci_oom(bytes);
  memset(tree->parent, 0xff, bytes);
  memset(tree->child, 0xff, bytes);
  memset(tree->sibling, 0xff, bytes);
  search_all(s, tree->size); /* sizes come later: until then their room serves for the islands */
  link_children(s);
  return meshcclSuccess;
}

meshcclResult_t mci_tree_search(mci_tree* tree) {
  search s = {.tree = tree, .n = mci_topo_nranks(tree->topo)};
  meshcclResult_t result = run(tree, &s);
  mci_free(s.depth);
  mci_free(s.hops);
  mci_free(s.queue);
  if (result != meshcclSuccess) mci_tree_fini(tree);
  return result;
}

static uint32_t farthest(const mci_topo* topo, uint32_t from) {
  uint32_t best = from, distance = 0;
  for (uint32_t r = 0; r < mci_topo_nranks(topo); r++) {
    uint32_t hops = mci_topo_hops(topo, from, r);
    if (hops <= distance) continue;
    best = r;
    distance = hops;
  }
  return best;
}

/* The middle of the way between two ranks that are far from each other. */
meshcclResult_t mci_tree_search_center(const mci_topo* topo, uint32_t* out) {
  uint32_t end = farthest(topo, 0), rank = farthest(topo, end);
  mci_tree tree;
  MCI_TRY(mci_tree_of(topo, end, &tree));
  uint32_t length = 0;
  for (uint32_t r = rank; r != end; r = tree.parent[r]) length++;
  for (uint32_t i = 0; i < length / 2; i++) rank = tree.parent[rank];
  mci_tree_fini(&tree);
  *out = rank;
  return meshcclSuccess;
}
