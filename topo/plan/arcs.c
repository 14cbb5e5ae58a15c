/* Broadcast and reduce along arc-disjoint spanning trees (topo/branchings.h): every tree carries its share of the
 * vector in chunks, and no two of them meet on a link in the same direction. So each flows as if it were alone, and all
 * together they use as many links into every rank as there can be at once: the bound of a broadcast, half of what a
 * single tree takes on a mesh and a quarter on a torus.
 *
 *      broadcast, tree t:   out >child >child <- <parent             root:  out >child <- in
 *      reduce, tree t:      tmp? >parent <- in + <child + <child     root:  out <- in + <child
 *
 * Reduce is the same backwards: a link that led away from the root in one tree leads to it in the same tree only. Each
 * tree is a channel, a loop over its chunks. Children are folded in the order of ports, one rank folds each value.
 *
 * The number of chunks follows from the time  (K - 1) slot + depth (message + delay),  where a slot is a message on the
 * busiest link, or what eight messages under way leave of it: nothing collides, so that is the time. Messages are whole
 * chunks; one smaller than the largest fills the pipeline earlier.
 *
 * Ends: a step waits only for the rank above (broadcast) or those below (reduce) in its tree. Sources: Edmonds 1973 for
 * the trees; pipelining over them as in Johnsson and Ho 1989 on hypercubes. */
#include "base/base.h"
#include "topo/branchings.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"

#define MIN_MESSAGE 4096
#define MOST_PARTS 16384

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)buffer, (void)size;
  const char* reason = mci_branchings_refuse(topo);
  if (reason) return reason;
  if (mci_topo_nplanes(topo) > 0) return "trees along links leave switches unused";
  mci_branchings trees;
  if (mci_branchings_of(topo, request->root, &trees) != meshcclSuccess) return "there is no memory for trees";
  mci_branchings_fini(&trees);
  if (trees.ntrees == 0) return "some ranks are joined only through nodes that are none";
  if (request->bytes < (uint64_t)trees.ntrees * MIN_MESSAGE) return "too few bytes to be cut into shares of trees";
  return NULL;
}

/* Time with chunks of `bytes`; see above. */
static uint64_t time_of(const mci_topo* topo, const mci_branchings* trees, uint64_t chunks, uint64_t bytes) {
  mci_link link = mci_topo_worst(topo), busiest = link;
  busiest.bw_Bps = trees->bw_Bps;
  uint64_t message = mci_cost_wire(&link, bytes) + link.cost_ps;
  uint64_t slot = trees->uses * (mci_cost_wire(&busiest, bytes) + link.cost_ps);
  return (chunks - 1) * MCI_MAX(slot, mci_cost_pace(&link, bytes, 1)) + trees->depth * (message + link.lat_ps);
}

/* From the largest messages downwards; smaller ones must be worth it. */
static void cost_of(const mci_topo* topo, const mci_request* request, const mci_branchings* trees, mci_plan_cost* out) {
  uint64_t share = mci_cost_share(request->bytes, 1, trees->ntrees);
  uint64_t message = MCI_MAX(mci_cost_message(request), (uint64_t)MIN_MESSAGE);
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .steps = trees->depth, .channels = trees->ntrees};
  for (; message >= MIN_MESSAGE; message -= message / 8) {
    uint64_t chunks = MCI_MAX((share + message - 1) / message, UINT64_C(1));
    chunks = MCI_MIN(chunks, MOST_PARTS / trees->ntrees);
    uint64_t time = time_of(topo, trees, chunks, mci_cost_share(share, 1, chunks));
    if (out->cost_ps != UINT64_MAX && time >= out->cost_ps - out->cost_ps / 1000) continue;
    out->cost_ps = time;
    out->chunks = (uint32_t)chunks;
  }
  out->load = (double)trees->uses / trees->ntrees * (double)mci_topo_worst(topo).bw_Bps / (double)trees->bw_Bps;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_branchings trees;
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .chunks = 1};
  if (mci_branchings_of(topo, request->root, &trees) != meshcclSuccess) return;
  cost_of(topo, request, &trees, out);
  mci_branchings_fini(&trees);
}

/* ---- building ---- */
typedef struct {
  mci_build* b;
  uint32_t tree, chunks;
  uint32_t parent; /* NONE: the root */
  uint32_t nchildren, children[MCI_BRANCHINGS_PORTS];
  bool wide;
} spot;

static mci_affine chunk(const spot* s) { return mci_lin((int32_t)(s->tree * s->chunks), s->chunks > 1); }
static mci_shape part(const spot* s) { return mci_span(mci_const(0), 1, chunk(s)); }
static bool is_root(const spot* s) { return s->parent == MCI_BRANCHINGS_NONE; }

static void broadcast(const spot* s) {
  mci_build_step(s->b, 0);
  mci_build_dst(s->b, MCI_OUT, 0, part(s));
  for (uint32_t i = 0; i < s->nchildren; i++) mci_build_dst_lane(s->b, 0, mci_const((int32_t)s->children[i]));
  if (is_root(s)) {
    mci_build_src(s->b, MCI_IN, part(s));
  } else {
    mci_build_src_lane(s->b, mci_const((int32_t)s->parent));
  }
}

static void reduce(const spot* s) {
  mci_build_step(s->b, (is_root(s) ? MCI_FINISH : 0) | (s->wide && s->nchildren ? MCI_WIDE : 0));
  if (is_root(s)) {
    mci_build_dst(s->b, MCI_OUT, 0, part(s));
  } else {
    if (s->nchildren) mci_build_dst_tmp(s->b, MCI_SPILL, chunk(s), part(s));
    mci_build_dst_lane(s->b, 0, mci_const((int32_t)s->parent));
  }
  mci_build_src(s->b, MCI_IN, part(s));
  for (uint32_t i = 0; i < s->nchildren; i++) mci_build_src_lane(s->b, mci_const((int32_t)s->children[i]));
}

static bool passes_sums(const mci_branchings* trees, uint32_t rank) {
  uint32_t children[MCI_BRANCHINGS_PORTS], n = 0;
  for (uint32_t t = 0; t < trees->ntrees; t++) n += mci_branchings_children(trees, t, rank, children);
  return rank != trees->root && n > 0;
}

static void build_trees(mci_build* b, const mci_branchings* trees, const mci_request* request, uint32_t chunks,
                        uint32_t rank) {
  for (uint32_t t = 0; t < trees->ntrees; t++) {
    spot s = {.b = b, .tree = t, .chunks = chunks, .wide = request->wide};
    s.parent = mci_branchings_parent(trees, t, rank);
    s.nchildren = mci_branchings_children(trees, t, rank, s.children);
    mci_build_channel(b, (uint16_t)t);
    if (chunks > 1) mci_build_repeat(b, chunks);
    if (request->coll == MCI_BROADCAST) {
      broadcast(&s);
    } else {
      reduce(&s);
    }
    if (chunks > 1) mci_build_end(b);
  }
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of_it,
                             uint32_t rank, mci_program** out) {
  mci_branchings trees;
  MCI_TRY(mci_branchings_of(topo, request->root, &trees));
  uint32_t parts = trees.ntrees * cost_of_it->chunks;
  mci_build* b = mci_build_begin(request->coll, "arcs", mci_topo_nranks(topo), rank, request->root);
  mci_build_layout(b, 1, parts, NULL);
  if (request->coll == MCI_REDUCE && passes_sums(&trees, rank)) mci_build_slots(b, parts);
  build_trees(b, &trees, request, cost_of_it->chunks, rank);
  mci_branchings_fini(&trees);
  MCI_TRY(mci_build_finish(b, out));
  (*out)->steps = cost_of_it->steps;
  return meshcclSuccess;
}

const mci_family mci_family_arcs = {"arcs",
                                    MCI_COLL_BIT(MCI_BROADCAST) | MCI_COLL_BIT(MCI_REDUCE),
                                    "as many trees as the links into every rank allow, none sharing a link",
                                    refuse,
                                    cost,
                                    build};
