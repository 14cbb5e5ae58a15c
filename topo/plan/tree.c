/* Reduce up and broadcast down a spanning tree (spanning.c), in chunks that follow each other; all-reduce and barrier
 * do both around a centre. Uses links only, on any connected topology; steps are twice the radius at most.
 *
 *      channel 0, up:     tmp? >parent <- in + <child + <child       root: out <- in + <child ..
 *      channel 1, down:   out  >child >child <- <parent              root:      >child .. <- out
 *
 * Children are folded in the order of the tree, one rank folds each value, so all get the same bits. Ends: up waits
 * only for ranks below, down for ranks above. Pipelined trees: Robert van de Geijn, On global combine operations, 1994.
 */
#include "topo/plan/tree.h"

#include <stdio.h>

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"
#include "topo/plan/load.h"

#define COLLS (((1u << MCI_NUM_COLLS) - 1) & ~(MCI_COLL_BIT(MCI_ALL_TO_ALL) | MCI_COLL_BIT(MCI_SEND_RECV)))
#define MAX_CHUNKS 64
#define MAX_LISTED 4096 /* ranks whose blocks are listed one by one in every program */

enum { UP, DOWN }; /* channels */

static meshcclResult_t tree_of(const mci_topo* topo, const mci_request* request, mci_tree* out) {
  uint32_t root = request->root;
  if (!mci_coll_rooted(request->coll)) MCI_TRY(mci_tree_center(topo, &root));
  return mci_tree_of(topo, root, out);
}

/* Each block goes to, or comes from, everywhere. */
static bool everywhere(mci_coll coll) { return coll == MCI_ALL_GATHER || coll == MCI_REDUCE_SCATTER; }

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  if (mci_topo_nranks(topo) == 1) return "a single rank has no tree";
  if (everywhere(request->coll) && mci_topo_nranks(topo) > MAX_LISTED) {
    snprintf(buffer, size, "every rank's program would list the blocks of more than %d ranks", MAX_LISTED);
    return buffer;
  }
  if (mci_topo_routed(topo) || mci_topo_is_regular(topo) || mci_topo_is_full(topo)) return NULL;
  mci_tree tree;
  if (tree_of(topo, request, &tree) != meshcclSuccess) return "there is no memory for a tree";
  bool routed = tree.routed;
  mci_tree_fini(&tree);
  if (!routed) return NULL;
  snprintf(buffer, size, "not all ranks are joined to rank %u by links between ranks", tree.root);
  return buffer;
}

/* ---- cost ---- */
/* Time from one message to the next over every edge that shares a link with others: it is busy, or waits for credits
 * that come back over `hops` links. */
static uint64_t message_time(const mci_tree* tree, const mci_link* link, bool up, uint64_t bytes, double* load) {
  if (mci_topo_is_full(tree->topo)) {
    uint64_t messages;
    uint64_t time = mci_load_tree(tree, up, bytes, &messages);
    *load *= (double)messages;
    return time;
  }
  return mci_cost_wire(link, bytes) + link->cost_ps;
}

/* Delay of the way to the deepest rank. */
static uint64_t delay_of(const mci_tree* tree, const mci_link* link) {
  const mci_topo* topo = tree->topo;
  if (!mci_topo_is_full(topo) || mci_topo_nlevels(topo) == 0) return tree->hops * link->lat_ps;
  uint64_t most = 0;
  for (uint32_t r = 0; r < mci_topo_nranks(topo); r++) {
    uint64_t delay = 0;
    for (uint32_t at = r, up; (up = mci_tree_parent(tree, at)) != MCI_TREE_NONE; at = up)
      delay += mci_topo_class(topo, mci_topo_pair_class(topo, at, up)).lat_ps;
    most = MCI_MAX(most, delay);
  }
  return most;
}

/* Chunks follow each other message by message; the first passes all edges, the others come at the pace of one. */
static void cost_of_whole(const mci_topo* topo, const mci_request* request, const mci_tree* tree, mci_plan_cost* out) {
  mci_link link = mci_topo_worst(topo);
  uint64_t passes = mci_coll_rooted(request->coll) ? 1 : 2, steps = passes * tree->depth;
  uint64_t delay = passes * delay_of(tree, &link);
  bool up = request->coll != MCI_BROADCAST;
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .steps = (uint32_t)steps, .channels = (uint32_t)passes};
  for (uint32_t chunks = 1; chunks <= MAX_CHUNKS; chunks *= 2) {
    uint64_t bytes = mci_cost_share(request->bytes, 1, chunks);
    if (chunks > 1 && bytes < mci_cost_min_chunk(topo, request)) break;
    double load = 1, ignored = 1;
    uint64_t message = MCI_MIN(bytes, mci_cost_message(request)), messages = (bytes + message - 1) / message * chunks;
    uint64_t busy = message_time(tree, &link, up, message, &load), pace = mci_cost_pace(&link, message, 1);
    uint64_t all = chunks * message_time(tree, &link, up, bytes, &ignored) + (messages - chunks) * link.cost_ps;
    if (messages > MCI_COST_CREDITS && pace > busy) all += (messages - MCI_COST_CREDITS) * (pace - busy);
    uint64_t time = all + (steps - 1) * busy + delay;
    if (passes == 2) time += mci_cost_wire(&link, bytes - message); /* totals leave when a chunk is complete */
    if (time >= out->cost_ps) continue;
    out->cost_ps = time;
    out->chunks = chunks;
    out->load = load;
  }
}

/* Every block passes the root's link to its branch: the largest branch counts. Where every block meets every rank, a
 * link carries the blocks of all ranks on one of its sides, and a leaf has all others on the far one. */
static void cost_of_blocks(const mci_topo* topo, const mci_request* request, const mci_tree* tree, mci_plan_cost* out) {
  mci_link link = mci_topo_worst(topo);
  uint32_t n = mci_topo_nranks(topo), branch = everywhere(request->coll) ? n - 1 : mci_tree_largest_branch(tree);
  uint32_t children[MCI_TREE_MAX_CHILDREN];
  uint32_t passes = everywhere(request->coll) ? 2 : 1;
  *out = (mci_plan_cost){.steps = passes * tree->depth, .chunks = 1, .load = (double)branch / n};
  out->channels = passes == 2 ? 2 : mci_tree_children(tree, tree->root, children);
  uint64_t block = mci_cost_share(request->bytes, 1, n), message = MCI_MIN(block, mci_cost_message(request));
  uint64_t busy = message_time(tree, &link, request->coll != MCI_SCATTER, block, &out->load),
           pace = mci_cost_pace(&link, message, 1);
  uint64_t messages = branch * ((block + message - 1) / MCI_MAX(message, 1u));
  uint64_t all = branch * busy + (messages - branch) * link.cost_ps;
  uint64_t one = mci_cost_wire(&link, message) + link.cost_ps;
  if (messages > MCI_COST_CREDITS && pace > one) all += (messages - MCI_COST_CREDITS) * (pace - one);
  out->cost_ps = passes * delay_of(tree, &link) + all + (tree->depth - 1) * one;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_tree tree;
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .chunks = 1};
  if (tree_of(topo, request, &tree) != meshcclSuccess) return;
  if (mci_coll_block_major(request->coll)) {
    cost_of_blocks(topo, request, &tree, out);
  } else {
    cost_of_whole(topo, request, &tree, out);
  }
  mci_tree_fini(&tree);
}

/* ---- building ---- */
static mci_affine counted(const mci_tree_spot* s, uint32_t base) { return mci_lin((int32_t)base, s->chunks > 1); }
static mci_affine chunk(const mci_tree_spot* s) { return counted(s, s->first_chunk); }
static mci_shape part(const mci_tree_spot* s) { return mci_span(mci_const(0), 1, chunk(s)); }

static void open_channel(const mci_tree_spot* s, uint16_t id) {
  mci_build_channel(s->b, (uint16_t)(s->first_channel + id));
  if (s->chunks > 1) mci_build_repeat(s->b, s->chunks);
}

static void close_channel(const mci_tree_spot* s) {
  if (s->chunks > 1) mci_build_end(s->b);
}

static void to_children(const mci_tree_spot* s) {
  for (uint32_t i = 0; i < s->nchildren; i++) mci_build_dst_lane(s->b, 0, mci_const((int32_t)s->children[i]));
}

/* place: where a rank that passes its sum on keeps it meanwhile. */
static void reduce_up(const mci_tree_spot* s, mci_kind place) {
  bool root = s->parent == MCI_TREE_NONE;
  open_channel(s, UP);
  mci_build_step(s->b, (root ? MCI_FINISH : 0) | (s->wide && s->nchildren ? MCI_WIDE : 0));
  if (root) {
    mci_build_dst(s->b, MCI_OUT, 0, part(s));
  } else {
    if (s->nchildren && place == MCI_TMP) mci_build_dst_tmp(s->b, MCI_SPILL, chunk(s), part(s));
    if (s->nchildren && place == MCI_OUT) mci_build_dst(s->b, MCI_OUT, MCI_SPILL, part(s));
    mci_build_dst_lane(s->b, 0, mci_const((int32_t)s->parent));
  }
  mci_build_src(s->b, MCI_IN, part(s));
  for (uint32_t i = 0; i < s->nchildren; i++) mci_build_src_lane(s->b, mci_const((int32_t)s->children[i]));
  close_channel(s);
}

/* What the root sends: its input, which enters its output at the same time, or the sum in its output. */
static void broadcast_down(const mci_tree_spot* s, uint16_t id, bool sum) {
  bool root = s->parent == MCI_TREE_NONE;
  open_channel(s, id);
  mci_build_step(s->b, 0);
  if (root && sum) mci_build_after(s->b, (uint16_t)(s->first_channel + UP), counted(s, 1));
  if (!root || !sum) mci_build_dst(s->b, MCI_OUT, 0, part(s));
  to_children(s);
  if (root) {
    mci_build_src(s->b, sum ? MCI_OUT : MCI_IN, part(s));
  } else {
    mci_build_src_lane(s->b, mci_const((int32_t)s->parent));
  }
  close_channel(s);
}

void mci_tree_build_whole(const mci_tree_spot* s, mci_coll coll) {
  bool root = s->parent == MCI_TREE_NONE;
  switch (coll) {
    case MCI_BROADCAST:
      broadcast_down(s, 0, false);
      return;
    case MCI_REDUCE:
      if (!root && s->nchildren) mci_build_slots(s->b, s->first_chunk + s->chunks);
      reduce_up(s, MCI_TMP);
      return;
    default: /* all-reduce, barrier */
      reduce_up(s, MCI_OUT);
      broadcast_down(s, DOWN, true);
      return;
  }
}

static meshcclResult_t build_steps(const mci_tree_spot* s, mci_coll coll) {
  bool root = s->parent == MCI_TREE_NONE;
  switch (coll) {
    case MCI_GATHER:
      if (root) return mci_tree_build_gather_root(s);
      mci_tree_build_gather(s);
      return meshcclSuccess;
    case MCI_SCATTER:
      return mci_tree_build_scatter(s);
    case MCI_ALL_GATHER:
      return mci_tree_build_all_gather(s);
    case MCI_REDUCE_SCATTER:
      return mci_tree_build_reduce_scatter(s);
    default:
      mci_tree_build_whole(s, coll);
      return meshcclSuccess;
  }
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_tree tree;
  MCI_TRY(tree_of(topo, request, &tree));
  uint32_t n = mci_topo_nranks(topo);
  bool blocks = mci_coll_block_major(request->coll);
  mci_build* b = mci_build_begin(request->coll, "tree", n, rank, request->root);
  mci_build_layout(b, blocks ? n : 1, blocks ? 1 : cost_of->chunks, NULL);
  mci_tree_spot spot = {.tree = &tree, .b = b, .rank = rank, .wide = request->wide, .chunks = cost_of->chunks};
  spot.parent = mci_tree_parent(&tree, rank);
  spot.nchildren = mci_tree_children(&tree, rank, spot.children);
  meshcclResult_t result = build_steps(&spot, request->coll);
  mci_tree_fini(&tree);
  mci_program* program;
  meshcclResult_t built = mci_build_finish(b, &program);
  if (built == meshcclSuccess && result != meshcclSuccess) mci_program_destroy(program);
  MCI_TRY(result);
  MCI_TRY(built);
  program->steps = cost_of->steps;
  *out = program;
  return meshcclSuccess;
}

const mci_family mci_family_tree = {"tree", COLLS, "up and down a spanning tree of links, chunk by chunk",
                                    refuse, cost,  build};
