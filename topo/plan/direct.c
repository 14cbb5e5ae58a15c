/* Every message goes straight to the rank that needs it, over a route where the two are not neighbours. The natural
 * choice where all ranks are joined pairwise, such as the ranks of one host, and for small blocks elsewhere.
 *
 *   all_reduce: reduce-scatter, then all-gather; reductions fold p sources in rank order in one step. Each rank starts
 *   with a different peer (rank + 1, rank + 2, ..), so that no receiver is everybody's first.
 *
 * Ends: all sends of a phase come before its first arrival is waited for. An all-to-all copies what it sends, because
 * in place the arrivals overwrite it; elsewhere a lent block is written again only with what was computed from it. */
#include <stdio.h>

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"
#include "topo/plan/load.h"

#define MAX_FOLD 64 /* sources of one step */

#define COLLS (((1u << MCI_NUM_COLLS) - 1) & ~(MCI_COLL_BIT(MCI_BARRIER) | MCI_COLL_BIT(MCI_SEND_RECV)))

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  if (mci_coll_reduces(request->coll) && mci_topo_nranks(topo) > MAX_FOLD) {
    snprintf(buffer, size, "more than %d ranks would be folded in one step", MAX_FOLD);
    return buffer;
  }
  return mci_routes_refuse_pairs(topo, buffer, size);
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_link link = mci_topo_worst(topo);
  uint32_t n = mci_topo_nranks(topo);
  bool rooted = mci_coll_rooted(request->coll), twice = request->coll == MCI_ALL_REDUCE;
  bool whole = request->coll == MCI_BROADCAST || request->coll == MCI_REDUCE;
  uint64_t sharing = rooted ? mci_routes_to_one(topo, request->root) : mci_routes_all_pairs(topo);
  uint64_t message = whole ? request->bytes : mci_cost_share(request->bytes, 1, n);
  uint64_t times = n == 1 ? 0 : twice ? 2 : 1;
  *out = (mci_plan_cost){.steps = (uint32_t)times, .channels = twice && n > 1 ? 2 : 1, .chunks = 1};
  uint64_t busy = sharing * (link.cost_ps + mci_cost_wire(&link, message));
  if (mci_topo_is_full(topo))
    busy = rooted ? mci_load_to_one(topo, request->root, message, &sharing)
                  : mci_load_all_pairs(topo, message, &sharing);
  out->cost_ps = times * (mci_topo_diameter(topo) * link.lat_ps + busy);
  out->load = (double)(times * sharing) / (whole ? 1 : n);
}

/* ---- building ---- */
typedef struct {
  mci_build* b;
  uint32_t n, rank, root;
  bool wide;
} plan;

static mci_shape block(mci_affine k) { return mci_span(k, 1, mci_const(0)); }
static mci_shape block_of(uint32_t k) { return block(mci_const((int32_t)k)); }

/* Calls step for every other rank, from this rank's next one (ascending) or last one (descending) on. */
static void each_peer(const plan* p, bool ascending, void (*step)(const plan*, mci_affine)) {
  struct {
    uint32_t first, count;
  } runs[2] = {{p->rank + 1, p->n - 1 - p->rank}, {0, p->rank}};
  if (!ascending) {
    runs[0].first = p->rank - 1, runs[0].count = p->rank;
    runs[1].first = p->n - 1, runs[1].count = p->n - 1 - p->rank;
  }
  for (unsigned i = 0; i < 2; i++) {
    if (runs[i].count == 0) continue;
    bool loop = runs[i].count > 1;
    if (loop) mci_build_repeat(p->b, runs[i].count);
    step(p, mci_lin((int32_t)runs[i].first, !loop ? 0 : ascending ? 1 : -1));
    if (loop) mci_build_end(p->b);
  }
}

static void send(const plan* p, mci_affine peer, unsigned flags, mci_kind kind, mci_shape shape) {
  mci_build_step(p->b, 0);
  mci_build_dst_lane(p->b, flags, peer);
  mci_build_src(p->b, kind, shape);
}

static void send_its_block(const plan* p, mci_affine peer) { send(p, peer, 0, MCI_IN, block(peer)); }
static void send_its_copy(const plan* p, mci_affine peer) { send(p, peer, MCI_COPY, MCI_IN, block(peer)); }
static void send_my_block(const plan* p, mci_affine peer) { send(p, peer, 0, MCI_OUT, block_of(p->rank)); }
static void send_whole(const plan* p, mci_affine peer) { send(p, peer, 0, MCI_IN, block_of(0)); }

static void send_my_sum(const plan* p, mci_affine peer) {
  send(p, peer, 0, MCI_OUT, block_of(p->rank));
  mci_build_after(p->b, 0, mci_const((int32_t)p->n)); /* n - 1 sends and the fold */
}

static void receive_its_block(const plan* p, mci_affine peer) {
  mci_build_step(p->b, 0);
  mci_build_dst(p->b, MCI_OUT, 0, block(peer));
  mci_build_src_lane(p->b, peer);
}

static void copy_own(const plan* p, uint32_t k) {
  mci_build_step(p->b, 0);
  mci_build_dst(p->b, MCI_OUT, 0, block_of(k));
  mci_build_src(p->b, MCI_IN, block_of(k));
}

/* All contributions to block k, in rank order. */
static void fold(const plan* p, uint32_t k) {
  mci_build_step(p->b, MCI_FINISH | (p->wide && p->n > 1 ? MCI_WIDE : 0));
  mci_build_dst(p->b, MCI_OUT, 0, block_of(k));
  for (uint32_t i = 0; i < p->n; i++) {
    if (i == p->rank) {
      mci_build_src(p->b, MCI_IN, block_of(k));
    } else {
      mci_build_src_lane(p->b, mci_const((int32_t)i));
    }
  }
}

static void receive_from_root(const plan* p, uint32_t k) {
  mci_build_step(p->b, 0);
  mci_build_dst(p->b, MCI_OUT, 0, block_of(k));
  mci_build_src_lane(p->b, mci_const((int32_t)p->root));
}

static void build_unrooted(const plan* p, mci_coll coll) {
  switch (coll) {
    case MCI_ALL_REDUCE:
      each_peer(p, true, send_its_block);
      fold(p, p->rank);
      if (p->n == 1) return;
      mci_build_channel(p->b, 1);
      each_peer(p, true, send_my_sum);
      each_peer(p, false, receive_its_block);
      return;
    case MCI_REDUCE_SCATTER:
      each_peer(p, true, send_its_block);
      fold(p, p->rank);
      return;
    case MCI_ALL_GATHER:
      copy_own(p, p->rank);
      each_peer(p, true, send_my_block);
      each_peer(p, false, receive_its_block);
      return;
    default: /* all-to-all */
      copy_own(p, p->rank);
      each_peer(p, true, send_its_copy);
      each_peer(p, false, receive_its_block);
      return;
  }
}

static void build_root(const plan* p, mci_coll coll) {
  switch (coll) {
    case MCI_BROADCAST:
      each_peer(p, true, send_whole);
      copy_own(p, 0);
      return;
    case MCI_REDUCE:
      fold(p, 0);
      return;
    case MCI_GATHER:
      copy_own(p, p->rank);
      each_peer(p, true, receive_its_block);
      return;
    default: /* scatter */
      each_peer(p, true, send_its_block);
      copy_own(p, p->rank);
      return;
  }
}

static void build_leaf(const plan* p, mci_coll coll) {
  mci_affine root = mci_const((int32_t)p->root);
  switch (coll) {
    case MCI_BROADCAST:
      receive_from_root(p, 0);
      return;
    case MCI_REDUCE:
      send_whole(p, root);
      return;
    case MCI_GATHER:
      send(p, root, 0, MCI_IN, block_of(p->rank));
      return;
    default: /* scatter */
      receive_from_root(p, p->rank);
      return;
  }
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  uint32_t n = mci_topo_nranks(topo);
  bool blocks = mci_coll_block_major(request->coll) || request->coll == MCI_ALL_REDUCE;
  mci_build* b = mci_build_begin(request->coll, "direct", n, rank, request->root);
  mci_build_layout(b, blocks ? n : 1, 1, NULL);
  mci_build_channel(b, 0);
  plan p = {b, n, rank, request->root, request->wide};
  if (!mci_coll_rooted(request->coll)) {
    build_unrooted(&p, request->coll);
  } else if (rank == request->root) {
    build_root(&p, request->coll);
  } else {
    build_leaf(&p, request->coll);
  }
  MCI_TRY(mci_build_finish(b, out));
  (*out)->steps = cost_of->steps;
  return meshcclSuccess;
}

const mci_family mci_family_direct = {"direct", COLLS, "each message straight to the rank that needs it",
                                      refuse,   cost,  build};
