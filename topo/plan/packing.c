/* The family of packed trees: when they apply, what they cost; see packing.h. */
#include "topo/plan/packing.h"

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"

/* How many times longer than it is the order counts a message on a link, and how much of that is seen in the time of a
 * whole run (simulated: less keeps links waiting, more only fills and drains them longer). Trees with owners begin
 * everywhere at once, so that links have something to send from the start. */
#define SLACK 16
#define FILL 8
#define FILL_OWNED 1
#define LAT_SLACK 2 /* the same for the delay of a hop, which messages do not lengthen for each other */
#define CREDITS 8   /* messages that a lane can be expected to have under way */
#define MIN_MESSAGE 4096
#define MIN_SLOW_MESSAGE 1024 /* on links that take longer than 50 us for MIN_MESSAGE */
#define QUICK_PER_SECOND 20000
#define MIN_CHUNKS 4 /* of a tree, before there are more trees */
#define LEAST_ROUNDS 8
#define ENOUGH_OWNED 128
#define FEW_RANKS 256 /* for more, trees of every rank take seconds: only for blocks of */
#define LEAST_BLOCK 1024
#define MOST_PLACES (UINT32_C(1) << 20) /* trees times ranks */
#define MOST_PARTS 65536

/* What a message costs its ends is little against the time that a slow link takes for it: there they may be shorter. */
static uint64_t min_message(const mci_topo* topo) {
  uint64_t quick = mci_topo_worst(topo).bw_Bps / QUICK_PER_SECOND;
  return MCI_MAX(MCI_MIN(quick, (uint64_t)MIN_MESSAGE), (uint64_t)MIN_SLOW_MESSAGE);
}

/* Trees for so many bytes: with few bytes there is no use for many. */
static uint32_t rounds_of(const mci_topo* topo, uint64_t bytes) {
  uint32_t rounds = LEAST_ROUNDS;
  uint64_t most = MCI_MIN((uint64_t)MCI_PACKING_MAX_TREES, MOST_PLACES / mci_topo_nranks(topo));
  while (2 * rounds <= most && bytes / min_message(topo) / MIN_CHUNKS >= 2 * rounds) rounds *= 2;
  return rounds;
}

/* Trees of every rank: as many as share out its block evenly over the links of any rank, and about ENOUGH_OWNED in all. */
static uint32_t each_of(const mci_topo* topo, uint64_t bytes) {
  uint32_t low, high, each, n = mci_topo_nranks(topo);
  mci_topo_degrees(topo, &low, &high);
  low = MCI_MAX(low, 2u);
  for (each = low; each * n < ENOUGH_OWNED && 2 * each <= MCI_PACKING_MAX_OWNED; each *= 2)
    if (bytes / n / (2 * each) < MIN_MESSAGE) break;
  return each;
}

static meshcclResult_t trees_of(const mci_topo* topo, const mci_request* request, const mci_packing** out) {
  if (request->coll != MCI_ALL_REDUCE) return mci_topo_owned_packing(topo, each_of(topo, request->bytes), out);
  return mci_topo_packing(topo, rounds_of(topo, request->bytes), out);
}

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  const mci_packing* trees;
  (void)buffer, (void)size;
  if (mci_topo_is_full(topo)) return "the ranks are joined pairwise, not as a grid";
  if (mci_topo_nranks(topo) == 1) return "a single rank has no neighbours";
  if (mci_topo_is_regular(topo) && !mci_topo_is_uneven(topo))
    return "the grid is whole and its links alike: regular trees serve it";
  if (mci_topo_nplanes(topo) > 0) return "trees along links leave switches unused";
  if (mci_topo_nranks(topo) > MCI_PACKING_MAX_RANKS) return "more than 4096 ranks: searching trees takes too long";
  if (request->coll != MCI_ALL_REDUCE && mci_topo_nranks(topo) > FEW_RANKS &&
      request->bytes / mci_topo_nranks(topo) < LEAST_BLOCK)
    return "blocks are too short to be worth a search for trees of every rank";
  if (trees_of(topo, request, &trees) == meshcclSuccess && trees->ntrees == 0)
    return "some ranks are joined only through nodes that are none";
  return NULL;
}

static uint64_t longest_delay(const mci_topo* topo) {
  uint64_t longest = mci_topo_class(topo, 0).lat_ps;
  for (uint32_t c = 1; c < mci_topo_nclasses(topo); c++)
    if (mci_topo_ngroups(topo, c - 1) > 1) longest = MCI_MAX(longest, mci_topo_class(topo, c).lat_ps);
  return longest;
}

typedef struct {
  uint64_t message_ps, slot_ps; /* one message; one part on the busiest link */
  uint64_t lat_ps;
} figures;

static figures figures_of(const mci_topo* topo, const mci_request* request, const mci_packing* trees, uint32_t chunks) {
  mci_link link = mci_topo_worst(topo);
  figures f = {.lat_ps = link.lat_ps};
  uint64_t unit = (uint64_t)MCI_PACKING_UNIT * trees->ntrees;
  link.bw_Bps = trees->bw_Bps;
  f.message_ps = mci_cost_wire(&link, mci_cost_share(request->bytes, 1, (uint64_t)trees->ntrees * chunks));
  f.message_ps = MCI_MAX(f.message_ps + link.cost_ps, UINT64_C(1));
  f.slot_ps = mci_cost_share(f.message_ps, trees->load, unit);
  uint64_t turn_ps = 2 * longest_delay(topo) + f.message_ps; /* until a credit returns */
  f.slot_ps = MCI_MAX(f.slot_ps, mci_cost_share(turn_ps, trees->load, unit * CREDITS));
  f.slot_ps = MCI_MAX(f.slot_ps, UINT64_C(1));
  return f;
}

/* Messages wait for each other at every hop, but not longer than half of what there is to wait for. */
static uint64_t time_of(const mci_packing* trees, const figures* f, uint32_t chunks) {
  uint64_t busy = f->slot_ps * trees->ntrees * chunks, fill = trees->owned ? FILL_OWNED : FILL;
  uint64_t waits = MCI_MIN((fill - 1) * f->message_ps * trees->longest, busy / 2);
  return busy + waits + (f->message_ps + f->lat_ps) * trees->longest;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  const mci_packing* trees;
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .chunks = 1};
  if (trees_of(topo, request, &trees) != meshcclSuccess) return;
  uint32_t most = (uint32_t)MCI_MIN(request->bytes / min_message(topo) / trees->ntrees, MOST_PARTS / trees->ntrees);
  for (uint32_t chunks = MCI_MAX(most, 1u); chunks > 0; chunks /= 2) {
    figures f = figures_of(topo, request, trees, chunks);
    uint64_t time = time_of(trees, &f, chunks);
    if (time >= out->cost_ps) continue;
    out->cost_ps = time;
    out->chunks = chunks;
  }
  out->steps = trees->longest;
  out->channels = 4 * mci_topo_ndims(topo);
  out->load = (double)trees->load / MCI_PACKING_UNIT / trees->ntrees;
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_packed packed = {.coll = request->coll, .wide = request->wide, .chunks = cost_of->chunks};
  MCI_TRY(trees_of(topo, request, &packed.trees));
  figures f = figures_of(topo, request, packed.trees, packed.chunks);
  uint64_t hop_ps = SLACK * f.message_ps + LAT_SLACK * f.lat_ps;
  packed.hop = (int64_t)mci_cost_share(hop_ps, MCI_PACKED_SLOT, f.slot_ps);
  MCI_TRY(mci_packed_build(topo, &packed, rank, out));
  (*out)->steps = cost_of->steps;
  return meshcclSuccess;
}

const mci_family mci_family_packing = {
    "packing",
    MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_ALL_GATHER) | MCI_COLL_BIT(MCI_REDUCE_SCATTER),
    "spanning trees packed around holes, in a static order: nearly the bound",
    refuse,
    cost,
    build};
