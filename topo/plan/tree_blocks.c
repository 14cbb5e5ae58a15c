/* Gather and scatter over a tree: every block travels as one message, and a rank in between passes on what it gets.
 *
 * The blocks of a branch come in preorder: a rank's own, then those of its first child's branch, and so on. So a rank
 * in between needs to know only how many there are below each child, and the root alone walks the tree. Each branch of
 * the root has its own channel. A passed block is copied when there is no room in a departing message at once: one
 * scratch slot serves for all. */
#include "base/base.h"
#include "topo/plan/tree.h"

static mci_shape block_of(uint32_t rank) { return mci_span(mci_const((int32_t)rank), 1, mci_const(0)); }

uint32_t mci_tree_largest_branch(const mci_tree* tree) {
  uint32_t children[MCI_TREE_MAX_CHILDREN], largest = 0;
  uint32_t n = mci_tree_children(tree, tree->root, children);
  for (uint32_t i = 0; i < n; i++) largest = MCI_MAX(largest, mci_tree_size(tree, children[i]));
  return largest;
}

/* Number of the root's branch that the rank is in. */
static uint16_t branch_of(const mci_tree_spot* s) {
  uint32_t top = s->rank, children[MCI_TREE_MAX_CHILDREN];
  for (uint32_t up = s->parent; up != s->tree->root; up = mci_tree_parent(s->tree, up)) top = up;
  uint32_t n = mci_tree_children(s->tree, s->tree->root, children), i = 0;
  while (i < n && children[i] != top) i++;
  return (uint16_t)i;
}

/* All blocks of the branch below child, from one lane to the other. */
static void pass_on(const mci_tree_spot* s, uint32_t child, uint32_t from, uint32_t to) {
  uint32_t count = mci_tree_size(s->tree, child);
  if (count > 1) mci_build_repeat(s->b, count);
  mci_build_step(s->b, 0);
  mci_build_dst_tmp(s->b, MCI_SPILL, mci_const(0), block_of(s->rank));
  mci_build_dst_lane(s->b, MCI_COPY, mci_const((int32_t)to));
  mci_build_src_lane(s->b, mci_const((int32_t)from));
  if (count > 1) mci_build_end(s->b);
}

static void keep_own(const mci_tree_spot* s) {
  mci_build_step(s->b, 0);
  mci_build_dst(s->b, MCI_OUT, 0, block_of(s->rank));
  mci_build_src(s->b, MCI_IN, block_of(s->rank));
}

static void root_gathers(const mci_tree_spot* s, uint32_t child, uint32_t rank) {
  mci_build_step(s->b, 0);
  mci_build_dst(s->b, MCI_OUT, 0, block_of(rank));
  mci_build_src_lane(s->b, mci_const((int32_t)child));
}

static void root_scatters(const mci_tree_spot* s, uint32_t child, uint32_t rank) {
  mci_build_step(s->b, 0);
  mci_build_dst_lane(s->b, 0, mci_const((int32_t)child));
  mci_build_src(s->b, MCI_IN, block_of(rank));
}

typedef void (*visit)(const mci_tree_spot* s, uint32_t child, uint32_t rank);

meshcclResult_t mci_tree_branch(const mci_tree* tree, uint32_t top, uint32_t** ranks, uint32_t* n) {
  uint32_t total = mci_tree_size(tree, top), *list = mci_alloc(2 * (size_t)total * sizeof *list);
  if (!list) return mci_oom(2 * (size_t)total * sizeof *list);
  uint32_t *stack = list + total, waiting = 1; /* what waits and what is listed are never more than all */
  stack[0] = top;
  for (*n = 0; waiting > 0;) {
    uint32_t below[MCI_TREE_MAX_CHILDREN];
    list[*n] = stack[--waiting];
    uint32_t count = mci_tree_children(tree, list[(*n)++], below);
    while (count > 0) stack[waiting++] = below[--count];
  }
  *ranks = list;
  return meshcclSuccess;
}

static meshcclResult_t walk_branch(const mci_tree_spot* s, uint32_t child, visit step) {
  uint32_t *ranks, n;
  MCI_TRY(mci_tree_branch(s->tree, child, &ranks, &n));
  for (uint32_t i = 0; i < n; i++) step(s, child, ranks[i]);
  mci_free(ranks);
  return meshcclSuccess;
}

static meshcclResult_t build_root(const mci_tree_spot* s, visit step) {
  for (uint32_t i = 0; i < s->nchildren; i++) {
    mci_build_channel(s->b, (uint16_t)i);
    if (i == 0) keep_own(s);
    MCI_TRY(walk_branch(s, s->children[i], step));
  }
  return meshcclSuccess;
}

meshcclResult_t mci_tree_build_gather_root(const mci_tree_spot* s) { return build_root(s, root_gathers); }

void mci_tree_build_gather(const mci_tree_spot* s) {
  mci_build_slots(s->b, s->nchildren > 0);
  mci_build_channel(s->b, branch_of(s));
  mci_build_step(s->b, 0);
  mci_build_dst_lane(s->b, 0, mci_const((int32_t)s->parent));
  mci_build_src(s->b, MCI_IN, block_of(s->rank));
  for (uint32_t i = 0; i < s->nchildren; i++) pass_on(s, s->children[i], s->children[i], s->parent);
}

meshcclResult_t mci_tree_build_scatter(const mci_tree_spot* s) {
  if (s->parent == MCI_TREE_NONE) return build_root(s, root_scatters);
  mci_build_slots(s->b, s->nchildren > 0);
  mci_build_channel(s->b, branch_of(s));
  mci_build_step(s->b, 0);
  mci_build_dst(s->b, MCI_OUT, 0, block_of(s->rank));
  mci_build_src_lane(s->b, mci_const((int32_t)s->parent));
  for (uint32_t i = 0; i < s->nchildren; i++) pass_on(s, s->children[i], s->parent, s->children[i]);
  return meshcclSuccess;
}
