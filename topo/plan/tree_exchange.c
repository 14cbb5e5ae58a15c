/* All-gather and reduce-scatter over a tree, block by block: what serves holed grids whose ranks may talk to neighbours
 * only. Programs list every block, so they suit some thousand ranks at most.
 *
 *   all-gather      up:   own block, then the blocks of each branch below, kept and passed on
 *                   down: own block and those of the other branches, then what comes from above, kept and passed on
 *   reduce-scatter  up:   for every block outside this branch, in + <child + <child ..; then, for those inside, the
 *                         same without the branch that holds the block, kept in scratch
 *                   down: for every block inside, what was kept + <parent, passed on to the branch that holds it
 *
 * The blocks of a branch come in preorder. The others, seen from a child: reduce-scatter lists them from the root
 * downwards, all-gather from the nearest rank upwards, so that each rank's list begins or ends with its parent's. A
 * rank's sums are folded in the order of the tree; each block is finished by its owner alone. Ends: up waits only for
 * ranks below, down for ranks above and the rank's own up. */
#include "base/base.h"
#include "topo/plan/tree.h"

enum { UP, DOWN }; /* channels */

static mci_shape block_of(uint32_t rank) { return mci_span(mci_const((int32_t)rank), 1, mci_const(0)); }
static void lane_to(const mci_tree_spot* s, uint32_t rank) { mci_build_dst_lane(s->b, 0, mci_const((int32_t)rank)); }
static void lane_from(const mci_tree_spot* s, uint32_t rank) { mci_build_src_lane(s->b, mci_const((int32_t)rank)); }
static bool is_root(const mci_tree_spot* s) { return s->parent == MCI_TREE_NONE; }

/* A block, the child (or none) whose branch it is in, and its number in the preorder of that branch. */
typedef void (*visit)(const mci_tree_spot* s, uint32_t child, uint32_t rank, uint32_t index);

static meshcclResult_t each_in(const mci_tree_spot* s, uint32_t top, uint32_t child, visit step) {
  uint32_t *ranks, n;
  MCI_TRY(mci_tree_branch(s->tree, top, &ranks, &n));
  for (uint32_t i = 0; i < n; i++) step(s, child, ranks[i], i);
  mci_free(ranks);
  return meshcclSuccess;
}

/* The blocks that `above` adds to what lies outside the branch of its child `below`. */
static meshcclResult_t each_beside(const mci_tree_spot* s, uint32_t above, uint32_t below, visit step) {
  uint32_t children[MCI_TREE_MAX_CHILDREN], n = mci_tree_children(s->tree, above, children);
  step(s, MCI_TREE_NONE, above, 0);
  for (uint32_t i = 0; i < n; i++)
    if (children[i] != below) MCI_TRY(each_in(s, children[i], MCI_TREE_NONE, step));
  return meshcclSuccess;
}

/* Number, from 1, in the preorder of this rank's branch of block `index` of a child's branch; 1 is the rank's own. */
static uint32_t place_of(const mci_tree_spot* s, uint32_t child, uint32_t index) {
  uint32_t place = 2 + index;
  for (uint32_t i = 0; i < s->nchildren && s->children[i] != child; i++)
    place += mci_tree_size(s->tree, s->children[i]);
  return place;
}

/* ---- all-gather ---- */
static void receive_up(const mci_tree_spot* s, uint32_t child, uint32_t rank, uint32_t index) {
  (void)index;
  mci_build_step(s->b, 0);
  mci_build_dst(s->b, MCI_OUT, 0, block_of(rank));
  if (!is_root(s)) lane_to(s, s->parent);
  lane_from(s, child);
}

/* A block of this branch goes to all children but the one it came from. */
static void send_down(const mci_tree_spot* s, uint32_t child, uint32_t rank, uint32_t index) {
  if (s->nchildren == 0 || (s->nchildren == 1 && s->children[0] == child)) return;
  mci_build_step(s->b, 0);
  mci_build_after(s->b, UP, mci_const((int32_t)(child == MCI_TREE_NONE ? 1 : place_of(s, child, index))));
  for (uint32_t i = 0; i < s->nchildren; i++)
    if (s->children[i] != child) lane_to(s, s->children[i]);
  mci_build_src(s->b, MCI_OUT, block_of(rank));
}

static void receive_down(const mci_tree_spot* s, uint32_t child, uint32_t rank, uint32_t index) {
  (void)child, (void)index;
  mci_build_step(s->b, 0);
  mci_build_dst(s->b, MCI_OUT, 0, block_of(rank));
  for (uint32_t i = 0; i < s->nchildren; i++) lane_to(s, s->children[i]);
  lane_from(s, s->parent);
}

meshcclResult_t mci_tree_build_all_gather(const mci_tree_spot* s) {
  mci_build_channel(s->b, UP);
  mci_build_step(s->b, 0);
  mci_build_dst(s->b, MCI_OUT, 0, block_of(s->rank));
  if (!is_root(s)) lane_to(s, s->parent);
  mci_build_src(s->b, MCI_IN, block_of(s->rank));
  for (uint32_t i = 0; i < s->nchildren; i++) MCI_TRY(each_in(s, s->children[i], s->children[i], receive_up));
  mci_build_channel(s->b, DOWN);
  send_down(s, MCI_TREE_NONE, s->rank, 0);
  for (uint32_t i = 0; i < s->nchildren; i++) MCI_TRY(each_in(s, s->children[i], s->children[i], send_down));
  for (uint32_t below = s->rank, above = s->parent; above != MCI_TREE_NONE;) {
    MCI_TRY(each_beside(s, above, below, receive_down));
    below = above;
    above = mci_tree_parent(s->tree, above);
  }
  return meshcclSuccess;
}

/* ---- reduce-scatter ---- */
/* Slot 0 is for sums on their way up; those that stay lie in the slot of their place, and are folded in this order
 * after all that go up. */
static void after_kept(const mci_tree_spot* s, uint32_t place) {
  uint32_t outside = mci_topo_nranks(s->tree->topo) - mci_tree_size(s->tree, s->rank);
  mci_build_after(s->b, UP, mci_const((int32_t)(outside + place)));
}

static unsigned wide(const mci_tree_spot* s) { return s->wide ? MCI_WIDE : 0; }

static void add_children(const mci_tree_spot* s, uint32_t but, uint32_t rank) {
  mci_build_src(s->b, MCI_IN, block_of(rank));
  for (uint32_t i = 0; i < s->nchildren; i++)
    if (s->children[i] != but) lane_from(s, s->children[i]);
}

static void pass_up(const mci_tree_spot* s, uint32_t child, uint32_t rank, uint32_t index) {
  (void)child, (void)index;
  mci_build_step(s->b, s->nchildren ? wide(s) : 0);
  if (s->nchildren > 0) mci_build_dst_tmp(s->b, MCI_SPILL, mci_const(0), block_of(rank));
  mci_build_dst_lane(s->b, s->nchildren ? MCI_COPY : 0, mci_const((int32_t)s->parent));
  add_children(s, MCI_TREE_NONE, rank);
}

/* From the root down to the parent: the reverse of the order in which parents are found. */
static meshcclResult_t pass_all_up(const mci_tree_spot* s) {
  uint32_t *path = NULL, cap = 0, n = 0;
  meshcclResult_t result = meshcclSuccess;
  for (uint32_t r = s->rank; r != MCI_TREE_NONE; r = mci_tree_parent(s->tree, r)) {
    MCI_TRY_OR(mci_grow(&path, sizeof *path, &cap, (size_t)n + 1), err_path);
    path[n++] = r;
  }
  while (--n > 0) MCI_TRY_OR(each_beside(s, path[n], path[n - 1], pass_up), err_path);
err_path:
  mci_free(path);
  return result;
}

/* Sums of this rank and all branches but the child's own, for the blocks of the child's branch. */
static meshcclResult_t keep_sums(const mci_tree_spot* s, uint32_t child) {
  uint32_t *ranks, n;
  MCI_TRY(mci_tree_branch(s->tree, child, &ranks, &n));
  for (uint32_t i = 0; i < n; i++) {
    mci_build_step(s->b, s->nchildren > 1 ? wide(s) : 0);
    mci_build_dst_tmp(s->b, 0, mci_const((int32_t)place_of(s, child, i)), block_of(ranks[i]));
    add_children(s, child, ranks[i]);
  }
  mci_free(ranks);
  return meshcclSuccess;
}

static meshcclResult_t pass_sums_down(const mci_tree_spot* s, uint32_t child) {
  uint32_t *ranks, n;
  MCI_TRY(mci_tree_branch(s->tree, child, &ranks, &n));
  for (uint32_t i = 0; i < n; i++) {
    uint32_t place = place_of(s, child, i);
    mci_affine slot = mci_const((int32_t)place);
    mci_build_step(s->b, is_root(s) ? 0 : wide(s));
    after_kept(s, place);
    if (!is_root(s)) mci_build_dst_tmp(s->b, MCI_SPILL, slot, block_of(ranks[i]));
    lane_to(s, child);
    mci_build_src_tmp(s->b, slot, block_of(ranks[i]));
    if (!is_root(s)) lane_from(s, s->parent);
  }
  mci_free(ranks);
  return meshcclSuccess;
}

static void finish_own(const mci_tree_spot* s) {
  mci_build_step(s->b, MCI_FINISH | wide(s));
  after_kept(s, 1);
  mci_build_dst(s->b, MCI_OUT, 0, block_of(s->rank));
  mci_build_src_tmp(s->b, mci_const(1), block_of(s->rank));
  lane_from(s, s->parent);
}

meshcclResult_t mci_tree_build_reduce_scatter(const mci_tree_spot* s) {
  mci_build_slots(s->b, 1 + mci_tree_size(s->tree, s->rank));
  mci_build_channel(s->b, UP);
  if (!is_root(s)) MCI_TRY(pass_all_up(s));
  mci_build_step(s->b, (is_root(s) ? MCI_FINISH : 0) | (s->nchildren ? wide(s) : 0));
  if (is_root(s)) {
    mci_build_dst(s->b, MCI_OUT, 0, block_of(s->rank));
  } else {
    mci_build_dst_tmp(s->b, 0, mci_const(1), block_of(s->rank));
  }
  add_children(s, MCI_TREE_NONE, s->rank);
  for (uint32_t i = 0; i < s->nchildren; i++) MCI_TRY(keep_sums(s, s->children[i]));
  mci_build_channel(s->b, DOWN);
  if (!is_root(s)) finish_own(s);
  for (uint32_t i = 0; i < s->nchildren; i++) MCI_TRY(pass_sums_down(s, s->children[i]));
  return meshcclSuccess;
}
