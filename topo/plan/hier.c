/* All-reduce, reduce-scatter and all-gather over the levels of a topology, with direct messages at every stage; for
 * full graphs whose ranks live on hosts, with any number of ranks on each.
 *
 *     host A (3 ranks)    host B (2)         the vector is cut so that every host spreads it over all its ranks:
 *      0    1    2         3    4            here 6 blocks for each host; 0, 1, 2 hold two of six, 3 and 4 three
 *      |<-->|<-->|         |<-->|     up     reduce-scatter inside: a block's rail has the host's sum
 *      0====3  1====3,4  2====4       up     reduce-scatter between the rails of a block; one host is its owner
 *                                     down   all-gather between the rails, then inside
 *
 * So every host sends a block once to each owner, instead of once per rank, and the chunks of the vector follow each
 * other: chunk c + 1 is reduced inside while chunk c travels between hosts. Small vectors have one rail per host, and
 * the last stage may be an exchange: all rails send each other their sums, and fold all of them in the same order.
 *
 * Reduce-scatter is the way up alone, all-gather the way down, with a rank's block as the item; where groups are uneven
 * every block goes by itself. Ends: at each stage all sends of a chunk come before its first arrival is waited for, and
 * phases are ordered. One rank folds each value, or all do alike. Sources: two-level all-reduce as in Thakur,
 * Rabenseifner and Gropp 2005 for nodes with several processes; the spreading over uneven groups is derived in hier.h.
 */
#include "topo/plan/hier.h"

#include <stdio.h>

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"

#define COLLS                                                                                       \
  (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_ALL_GATHER) | MCI_COLL_BIT(MCI_REDUCE_SCATTER) | \
   MCI_COLL_BIT(MCI_BARRIER) | MCI_COLL_BIT(MCI_ALL_TO_ALL))
#define MAX_FOLD 64 /* sources of one step */
#define MAX_CHUNKS 64
#define MAX_LISTED 4096 /* ranks whose blocks are listed one by one */
#define MAX_RADIX 64    /* a common multiple of the groups' sizes */

static const char* refuse_hier(const mci_hier* h, const mci_request* request, char* buffer, size_t size) {
  if (request->coll == MCI_ALL_TO_ALL)
    return mci_topo_is_full(h->topo) ? NULL : "on a grid every block of an all-to-all has its own way";
  for (uint32_t s = 0; s < h->nstages; s++) {
    if (h->most[s] <= MAX_FOLD) continue;
    snprintf(buffer, size, "a group of %u: more than %d would be folded in one step", h->most[s], MAX_FOLD);
    return buffer;
  }
  if (!mci_coll_block_major(request->coll) || h->even || mci_topo_nranks(h->topo) <= MAX_LISTED) return NULL;
  snprintf(buffer, size, "uneven groups: every program would list the blocks of more than %d ranks", MAX_LISTED);
  return buffer;
}

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  const char* reason = mci_hier_refuse(topo);
  if (!reason) reason = mci_routes_refuse_pairs(topo, buffer, size);
  if (reason) return reason;
  mci_hier h;
  if (mci_hier_of(topo, &h) != meshcclSuccess) return "there is no memory for the groups";
  reason = refuse_hier(&h, request, buffer, size);
  mci_hier_fini(&h);
  return reason;
}

/* ---- cost ---- */
/* A stage's way: a link, how much of the vector the busiest one carries in one phase, and in how many messages. */
typedef struct {
  mci_link link;
  uint64_t bytes, messages;
  uint64_t folded; /* beyond one vector's worth, by a rank that folds whole vectors: charged as in exchange.c */
} stage_load;

typedef struct {
  const mci_hier* h;
  const mci_request* request;
  mci_hier_shape shape;
} question;

static bool up(mci_coll coll) { return coll != MCI_ALL_GATHER; }
static bool down(mci_coll coll) { return coll != MCI_REDUCE_SCATTER; }

/* On a grid the middle of the group's longest side is crossed by every pair of units on either side, over as many
 * parallel links as units are wide. */
static uint64_t grid_bytes(const mci_hier* h, uint32_t stage, uint64_t bytes) {
  uint32_t unit[MCI_MAX_DIMS], group[MCI_MAX_DIMS];
  uint64_t worst = 0, ranks = 1;
  mci_hier_extent(h, stage, false, unit);
  mci_hier_extent(h, stage, true, group);
  for (uint32_t d = 0; d < MCI_MAX_DIMS; d++) ranks *= unit[d];
  for (uint32_t d = 0; d < mci_topo_ndims(h->topo); d++) {
    uint64_t along = (group[d] + unit[d] - 1) / unit[d], half = along / 2;
    worst = MCI_MAX(worst, mci_cost_share(bytes, half * (along - half) * unit[d], along * ranks));
  }
  if (!h->even) worst = MCI_MAX(worst, bytes / mci_topo_ndims(h->topo)); /* the least unit may be a node in a corner */
  return mci_topo_is_regular(h->topo) ? worst : worst + worst / 2;
}

/* What leaves or enters the busiest unit when every rank owns its own block: all but its ranks' blocks go out, and the
 * others' sums for its own blocks come in. */
static uint64_t listed_bytes(const mci_hier* h, uint32_t stage, uint64_t bytes) {
  uint64_t worst = 0;
  for (uint32_t g = 0; g < h->ngroups[stage]; g++) {
    uint64_t units = mci_hier_count(h, stage, g), ranks = 0;
    for (uint32_t i = 0; i < units; i++)
      ranks += mci_topo_group_size(h->topo, h->level[stage - 1], mci_hier_unit(h, stage, g, i));
    for (uint32_t i = 0; i < units; i++) {
      uint64_t own = mci_topo_group_size(h->topo, h->level[stage - 1], mci_hier_unit(h, stage, g, i));
      worst = MCI_MAX(worst, mci_cost_share(bytes, MCI_MAX(ranks - own, own * (units - 1)), ranks));
    }
  }
  return worst;
}

static uint64_t pieces_below(const question* q, uint32_t stage) {
  uint64_t n = 1;
  for (uint32_t t = 0; t < stage && !q->shape.listed; t++) n *= q->shape.radix[t];
  return q->shape.listed ? mci_topo_nranks(q->h->topo) : n;
}

static bool across(const question* q, uint32_t stage) { return q->shape.exchange && stage + 1 == q->h->nstages; }

/* Bytes over the busiest link, or a group's way out, when a rank of every unit sends `share` to one of every other. */
static uint64_t crossing(const mci_hier* h, uint32_t stage, uint64_t share) {
  uint64_t c = h->most[stage];
  if (mci_topo_is_full(h->topo)) return share * (c - 1);
  mci_link plane;
  uint32_t ports = mci_hier_ports(h, stage, &plane);
  return ports ? mci_cost_share(share, c - 1, ports) : grid_bytes(h, stage, share * c);
}

static stage_load load_of(const question* q, uint32_t stage) {
  const mci_hier* h = q->h;
  stage_load out = {.link = h->link[stage]};
  uint64_t c = h->most[stage], bytes = q->request->bytes, radix = q->shape.radix[stage];
  bool full = mci_topo_is_full(h->topo);
  if (!full) mci_hier_ports(h, stage, &out.link);
  if (across(q, stage)) {
    out.messages = pieces_below(q, stage) * (c - 1);
    out.bytes = crossing(h, stage, bytes);
    return out;
  }
  /* The unit with the most digits takes that much. */
  uint64_t share = q->shape.listed || radix % c == 0 ? mci_cost_share(bytes, 1, c)
                                                     : mci_cost_share(bytes, (radix + c - 1) / c, radix);
  if (stage == 0 && full) {
    out.bytes = share;
    out.folded = share * c > bytes ? share * c - bytes : 0;
    out.messages = q->shape.listed ? (pieces_below(q, 0) + c - 1) / c : 1;
    return out;
  }
  out.messages = stage == 0 ? c : pieces_below(q, stage) * (c - 1);
  out.bytes = crossing(h, stage, share);
  if (full) out.bytes = q->shape.listed ? listed_bytes(h, stage, bytes) : bytes - mci_cost_share(bytes, 1, c);
  if (full && q->shape.listed && bytes) /* as many as the bytes have blocks */
    out.messages = mci_cost_share(out.bytes, mci_topo_nranks(h->topo), bytes);
  return out;
}

static uint64_t time_of(const stage_load* load, uint32_t chunks) {
  return mci_cost_wire(&load->link, mci_cost_share(load->bytes + load->folded, 1, chunks)) +
         load->messages * load->link.cost_ps;
}

/* Each phase once, for the first chunk; then the others, as far apart as the busiest stage, or half a phase, allows:
 * two chunks of a phase are under way at once. */
static uint64_t predict(const question* q, uint32_t chunks) {
  uint64_t once = 0, apart = 0;
  for (uint32_t s = 0; s < q->h->nstages; s++) {
    stage_load load = load_of(q, s);
    uint64_t phases = across(q, s) ? 1 : (uint64_t)up(q->request->coll) + down(q->request->coll);
    uint64_t busy = time_of(&load, chunks), phase = busy + mci_hier_longest_delay(q->h, s);
    once += phases * phase;
    apart = MCI_MAX(apart, MCI_MAX(phases * busy, phase / 2));
    if (across(q, s)) /* copied, and folded by all: charged as in exchange.c */
      once += mci_cost_share(mci_cost_wire(&q->h->link[0], q->request->bytes), q->h->most[s] * (uint64_t)1,
                             pieces_below(q, s) * chunks);
  }
  return once + (chunks - 1) * apart;
}

static uint64_t smallest_message(const question* q, uint32_t chunks) {
  return q->request->bytes / mci_hier_blocks(q->h, &q->shape) / chunks;
}

static void try_chunks(const question* q, mci_hier_shape* shape, mci_plan_cost* out) {
  for (uint32_t chunks = 1; chunks <= MAX_CHUNKS; chunks *= 2) {
    if (chunks > 1 && smallest_message(q, chunks) < MCI_COST_MIN_MESSAGE) return;
    uint64_t time = predict(q, chunks);
    if (time >= out->cost_ps - out->cost_ps / 50) continue;
    out->cost_ps = time;
    out->chunks = chunks;
    *shape = q->shape;
  }
}

static uint32_t common_multiple(const mci_hier* h, uint32_t stage) {
  uint64_t multiple = 1;
  for (uint32_t g = 0; g < h->ngroups[stage]; g++) {
    uint64_t a = multiple, b = mci_hier_count(h, stage, g);
    multiple *= b;
    while (b) {
      uint64_t rest = a % b;
      a = b, b = rest;
    }
    multiple /= a;
    if (multiple > MAX_RADIX) return h->most[stage];
  }
  return (uint32_t)multiple;
}

enum { WHOLE, BY_LARGEST, EVENLY };

/* Returns how many blocks there are. */
static uint64_t cut_by(question* q, unsigned cut) {
  uint64_t blocks = 1;
  for (uint32_t s = 0; s < q->h->nstages; s++) {
    q->shape.radix[s] = cut == WHOLE ? 1 : cut == BY_LARGEST ? q->h->most[s] : common_multiple(q->h, s);
    blocks *= q->shape.radix[s];
  }
  return blocks;
}

/* How finely an all-reduce is cut: not at all, by the largest group, or so that every group is cut evenly; and whether
 * its last stage is an exchange. What is about equally good falls to the finest cut when that leaves large messages,
 * which spreads the work over all ranks, else to the coarsest, which sends the fewest. */
static void try_radices(question* q, mci_hier_shape* shape, mci_plan_cost* out) {
  uint32_t top = q->h->nstages - 1;
  bool large = q->request->bytes / cut_by(q, EVENLY) >= MCI_COST_MIN_MESSAGE;
  for (unsigned i = 0; i < 3; i++) {
    unsigned cut = large ? EVENLY - i : i;
    if (cut_by(q, cut) > MAX_LISTED && cut != WHOLE) continue;
    uint32_t radix = q->shape.radix[top];
    for (int exchange = 0; exchange < 2; exchange++) {
      q->shape.exchange = exchange;
      q->shape.radix[top] = exchange ? 1 : radix;
      try_chunks(q, shape, out);
    }
  }
}

static void choose(const mci_hier* h, const mci_request* request, mci_hier_shape* shape, mci_plan_cost* out) {
  question q = {.h = h, .request = request, .shape = {.coll = request->coll, .wide = request->wide}};
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX};
  if (mci_coll_block_major(request->coll)) {
    q.shape.listed = !h->even;
    for (uint32_t s = 0; s < h->nstages; s++) q.shape.radix[s] = h->most[s];
    try_chunks(&q, shape, out);
  } else {
    try_radices(&q, shape, out);
  }
  q.shape = *shape;
  for (uint32_t s = 0; s < h->nstages; s++) {
    uint32_t phases = across(&q, s) ? 1 : (uint32_t)up(request->coll) + down(request->coll);
    uint64_t bytes = load_of(&q, s).bytes * phases;
    out->steps += phases;
    out->load = request->bytes ? MCI_MAX(out->load, (double)bytes / (double)request->bytes) : 0;
  }
  out->channels = out->steps * (out->chunks > 1 ? 2 : 1);
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_hier h;
  mci_hier_shape shape;
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .chunks = 1};
  if (mci_hier_of(topo, &h) != meshcclSuccess) return;
  if (request->coll == MCI_ALL_TO_ALL) {
    mci_hier_all_to_all_cost(&h, request, out);
  } else {
    choose(&h, request, &shape, out);
  }
  mci_hier_fini(&h);
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_hier h;
  mci_hier_shape shape;
  mci_plan_cost free_choice;
  MCI_TRY(mci_hier_of(topo, &h));
  meshcclResult_t result;
  if (request->coll == MCI_ALL_TO_ALL) {
    result = mci_hier_all_to_all_build(&h, request, rank, out);
  } else {
    choose(&h, request, &shape, &free_choice);
    shape.chunks = cost_of->chunks;
    result = mci_hier_build(&h, &shape, rank, out);
  }
  mci_hier_fini(&h);
  if (result == meshcclSuccess) (*out)->steps = cost_of->steps;
  return result;
}

const mci_family mci_family_hier = {"hier", COLLS, "inside the groups of every level, then between them",
                                    refuse, cost,  build};
