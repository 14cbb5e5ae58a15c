/* Every message goes straight to the rank that needs it, over a route where the two are not neighbours. The natural
 * choice where all ranks are joined pairwise, such as the ranks of one host, and for small blocks elsewhere.
 *
 *   all_reduce: reduce-scatter, then all-gather; reductions fold p sources in rank order in one step. Each rank starts
 *   with a different peer (rank + 1, rank + 2, ..), so that no receiver is everybody's first.
 *
 * An all-reduce of long vectors goes part by part, on one channel: what was folded leaves with the fold, and its
 * receivers store it while they and the sender still have it in their caches. Parts i - 1, i, i + 1 are under way at a
 * time, in the order in which they arrive (rank 0 of 2):
 *
 *     >1 <- in[1, i+1]     out[0, i] >1 <- in[0, i] + <1     out[1, i-1] <- <1
 *
 * Blocks that are longer than a message are received on several channels, one after the other on each: peers at
 * distances c + 1, c + 1 + C, .. on channel c of C. On one channel the later ones would wait for the first one's end.
 *
 * Ends: all sends of a channel come before its first arrival is waited for. An all-to-all copies what it sends, because
 * in place the arrivals overwrite it, and an arrival waits for that copy; elsewhere a lent block is written again only
 * with what was computed from it. */
#include <stdio.h>

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"
#include "topo/plan/load.h"

#define MAX_FOLD 64     /* sources of one step */
#define MAX_CHANNELS 64 /* that receive at the same time */
#define MAX_PARTS 4096

#define COLLS (((1u << MCI_NUM_COLLS) - 1) & ~(MCI_COLL_BIT(MCI_BARRIER) | MCI_COLL_BIT(MCI_SEND_RECV)))

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  if (mci_coll_reduces(request->coll) && mci_topo_nranks(topo) > MAX_FOLD) {
    snprintf(buffer, size, "more than %d ranks would be folded in one step", MAX_FOLD);
    return buffer;
  }
  return mci_routes_refuse_pairs(topo, buffer, size);
}

/* Blocks arrive one by one where they are gathered; a reduction takes all arrivals together. */
static uint32_t receivers(const mci_request* request, uint32_t n) {
  switch (request->coll) {
    case MCI_ALL_GATHER:
    case MCI_ALL_TO_ALL:
    case MCI_GATHER:
      return request->bytes / n > mci_cost_message(request) ? MCI_MIN(n - 1, MAX_CHANNELS) : 1;
    default:
      return 1;
  }
}

/* As many that a block of each is one message. */
static uint32_t parts_of(const mci_request* request, uint32_t n) {
  if (request->coll != MCI_ALL_REDUCE || n == 1) return 1;
  uint64_t block = mci_cost_share(request->bytes, 1, n), message = mci_cost_message(request);
  return (uint32_t)MCI_MIN((block + message - 1) / message, (uint64_t)MAX_PARTS) + (block == 0);
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_link link = mci_topo_worst(topo);
  uint32_t n = mci_topo_nranks(topo);
  bool rooted = mci_coll_rooted(request->coll), twice = request->coll == MCI_ALL_REDUCE;
  bool whole = request->coll == MCI_BROADCAST || request->coll == MCI_REDUCE;
  bool gathers = request->coll == MCI_REDUCE || request->coll == MCI_GATHER;
  uint64_t sharing = rooted ? mci_routes_to_one(topo, request->root) : mci_routes_all_pairs(topo);
  uint64_t block = whole ? request->bytes : mci_cost_share(request->bytes, 1, n);
  uint64_t times = n == 1 ? 0 : twice ? 2 : 1, hops = mci_topo_diameter(topo);
  *out = (mci_plan_cost){.steps = (uint32_t)times, .chunks = parts_of(request, n)};
  out->channels = n == 1 ? 1 : receivers(request, n);
  uint64_t busy = sharing * mci_cost_busy(&link, block, mci_cost_message(request));
  if (mci_topo_is_full(topo))
    busy = rooted ? mci_load_to_one(topo, request->root, gathers, block, &sharing)
                  : mci_load_all_pairs(topo, block, &sharing);
  uint64_t lane = mci_cost_lane(&link, block, mci_cost_message(request), hops);
  out->cost_ps = times * (hops * link.lat_ps + MCI_MAX(busy, lane));
  if (hops > 1) /* stored on the way */
    out->cost_ps += times * (hops - 1) * mci_cost_busy(&link, MCI_MIN(block, mci_cost_message(request)), UINT64_MAX);
  out->load = (double)(times * sharing) / (whole ? 1 : n);
}

/* ---- building ---- */
typedef struct {
  mci_build* b;
  uint32_t n, rank, root;
  bool wide;
  uint32_t parts;
  uint32_t channels, channel; /* how many receive; the one being built */
} plan;

static mci_shape block(mci_affine k) { return mci_span(k, 1, mci_const(0)); }
static mci_shape block_of(uint32_t k) { return block(mci_const((int32_t)k)); }

/* Calls step for every other rank whose distance is one of the channel's, from this rank's next one (ascending) or
 * last one (descending) on; it may be in a loop. `distance` is that of the first peer of a loop. */
typedef void (*visit)(const plan*, mci_affine peer, uint32_t distance);

static void each_peer(const plan* p, bool ascending, visit step) {
  uint32_t stride = p->channels, first = p->channel + 1, edge = ascending ? p->n - 1 - p->rank : p->rank;
  uint32_t all = first < p->n ? (p->n - 1 - first) / stride + 1 : 0,
           near = edge < first ? 0 : (edge - first) / stride + 1;
  struct {
    uint32_t distance, count;
  } runs[2] = {{first, near}, {first + near * stride, all - near}};
  for (unsigned i = 0; i < 2; i++) {
    if (runs[i].count == 0) continue;
    bool loop = runs[i].count > 1;
    uint32_t d = runs[i].distance, peer = (ascending ? p->rank + d : p->rank + p->n - d) % p->n;
    if (loop) mci_build_repeat(p->b, runs[i].count);
    step(p, mci_lin((int32_t)peer, !loop ? 0 : ascending ? (int32_t)stride : -(int32_t)stride), d);
    if (loop) mci_build_end(p->b);
  }
}

static void send(const plan* p, mci_affine peer, unsigned flags, mci_kind kind, mci_shape shape) {
  mci_build_step(p->b, 0);
  mci_build_dst_lane(p->b, flags, peer);
  mci_build_src(p->b, kind, shape);
}

static void send_its_block(const plan* p, mci_affine peer, uint32_t distance) {
  (void)distance;
  send(p, peer, 0, MCI_IN, block(peer));
}

static void send_its_copy(const plan* p, mci_affine peer, uint32_t distance) {
  (void)distance;
  send(p, peer, MCI_COPY, MCI_IN, block(peer));
}

/* From the input: what was just copied to the output would have to be taken out of the copier's cache. */
static void send_my_block(const plan* p, mci_affine peer, uint32_t distance) {
  (void)distance;
  send(p, peer, 0, MCI_IN, block_of(p->rank));
}

static void send_whole(const plan* p, mci_affine peer, uint32_t distance) {
  (void)distance;
  send(p, peer, 0, MCI_IN, block_of(0));
}

static void receive_its_block(const plan* p, mci_affine peer, uint32_t distance) {
  (void)distance;
  mci_build_step(p->b, 0);
  mci_build_dst(p->b, MCI_OUT, 0, block(peer));
  mci_build_src_lane(p->b, peer);
}

/* The block at distance d behind is the one sent to distance n - d ahead. */
static void receive_in_its_place(const plan* p, mci_affine peer, uint32_t distance) {
  uint32_t sent = p->n - distance - 1, channel = sent % p->channels;
  mci_affine steps = mci_lin((int32_t)(sent / p->channels + 1), peer.step[0] ? -1 : 0);
  mci_build_step(p->b, 0);
  if (channel != p->channel) mci_build_after(p->b, (uint16_t)channel, steps);
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

/* All sends of a channel, then its arrivals; the own block is copied before the first arrival is waited for. */
static void exchange(const plan* p, visit to, visit from) {
  plan at = *p;
  for (at.channel = 0; at.channel < p->channels; at.channel++) {
    mci_build_channel(p->b, (uint16_t)at.channel);
    if (to) each_peer(&at, true, to);
    if (at.channel == 0) copy_own(p, p->rank);
    each_peer(&at, to == NULL, from);
  }
}

static void scatter_and_fold(const plan* p) {
  mci_build_channel(p->b, 0);
  each_peer(p, true, send_its_block);
  fold(p, p->rank);
}

/* ---- all-reduce, part by part ---- */
static mci_shape block_in(uint32_t k, mci_affine part) { return mci_span(mci_const((int32_t)k), 1, part); }

static mci_affine peer_at(const plan* p, uint32_t distance) {
  return mci_const((int32_t)((p->rank + distance) % p->n));
}

static void scatter_part(const plan* p, mci_affine part) {
  for (uint32_t d = 1; d < p->n; d++) send(p, peer_at(p, d), 0, MCI_IN, block_in((p->rank + d) % p->n, part));
}

static void fold_part(const plan* p, mci_affine part) {
  mci_build_step(p->b, MCI_FINISH | (p->wide && p->n > 1 ? MCI_WIDE : 0));
  mci_build_dst(p->b, MCI_OUT, 0, block_in(p->rank, part));
  for (uint32_t d = 1; d < p->n; d++) mci_build_dst_lane(p->b, 0, peer_at(p, d));
  for (uint32_t i = 0; i < p->n; i++) {
    if (i == p->rank) {
      mci_build_src(p->b, MCI_IN, block_in(i, part));
    } else {
      mci_build_src_lane(p->b, mci_const((int32_t)i));
    }
  }
}

static void gather_part(const plan* p, mci_affine part) {
  for (uint32_t d = p->n - 1; d > 0; d--) {
    mci_build_step(p->b, 0);
    mci_build_dst(p->b, MCI_OUT, 0, block_in((p->rank + d) % p->n, part));
    mci_build_src_lane(p->b, peer_at(p, d));
  }
}

static void all_reduce(const plan* p) {
  int32_t last = (int32_t)p->parts - 1;
  mci_build_channel(p->b, 0);
  scatter_part(p, mci_const(0));
  if (last > 0) scatter_part(p, mci_const(1));
  fold_part(p, mci_const(0));
  if (last > 1) {
    mci_build_repeat(p->b, (uint32_t)last - 1);
    scatter_part(p, mci_lin(2, 1));
    fold_part(p, mci_lin(1, 1));
    gather_part(p, mci_lin(0, 1));
    mci_build_end(p->b);
  }
  if (last > 0) {
    fold_part(p, mci_const(last));
    gather_part(p, mci_const(last - 1));
  }
  gather_part(p, mci_const(last));
}

static void build_unrooted(plan* p, mci_coll coll) {
  switch (coll) {
    case MCI_ALL_REDUCE:
      all_reduce(p);
      return;
    case MCI_REDUCE_SCATTER:
      scatter_and_fold(p);
      return;
    case MCI_ALL_GATHER:
      exchange(p, send_my_block, receive_its_block);
      return;
    default: /* all-to-all */
      exchange(p, send_its_copy, p->channels > 1 ? receive_in_its_place : receive_its_block);
      return;
  }
}

static void build_root(const plan* p, mci_coll coll) {
  if (coll != MCI_GATHER) mci_build_channel(p->b, 0);
  switch (coll) {
    case MCI_BROADCAST:
      each_peer(p, true, send_whole);
      copy_own(p, 0);
      return;
    case MCI_REDUCE:
      fold(p, 0);
      return;
    case MCI_GATHER:
      exchange(p, NULL, receive_its_block);
      return;
    default: /* scatter */
      each_peer(p, true, send_its_block);
      copy_own(p, p->rank);
      return;
  }
}

static void build_leaf(const plan* p, mci_coll coll) {
  mci_affine root = mci_const((int32_t)p->root);
  mci_build_channel(p->b, (uint16_t)((p->rank + p->n - p->root) % p->n - 1) % p->channels);
  switch (coll) {
    case MCI_BROADCAST:
      receive_from_root(p, 0);
      return;
    case MCI_REDUCE:
      send_whole(p, root, 0);
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
  uint32_t parts = request->coll == MCI_ALL_REDUCE ? cost_of->chunks : 1;
  mci_build_layout(b, blocks ? n : 1, parts, NULL);
  plan p = {b, n, rank, request->root, request->wide, parts, cost_of->channels, 0};
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
