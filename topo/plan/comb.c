/* The family of rotating combs: when they apply, what they cost; see comb.h. */
#include "topo/plan/comb.h"

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"

/* Links may be slower than described, and hops that are longer than the order allows for do harm (simulated: an order
 * for no delay on a machine with 500 ns). So it allows for more, as long as that costs little. */
#define SAFE_DELAY 500000   /* ps, margin included, where the lanes of a link keep one order */
#define LEAST_MARGIN 100000 /* and beyond the description in any case */
#define MARGIN_SHARE 25     /* it may lengthen the order by 1 / so much; about half of that is seen in the time */

#define LEAST_MESSAGE 2048
#define GOOD_MESSAGE 7000 /* bytes; what eight credits hold still covers 500 ns both ways at 50 GB/s */
#define MANY_MESSAGES 256 /* of a vector, below which they may be smaller than good */

static uint32_t shortest_side(const mci_topo* topo) {
  uint32_t least = UINT32_MAX;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++)
    if (mci_topo_side(topo, d) > 1) least = MCI_MIN(least, mci_topo_side(topo, d));
  return least;
}

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  static const char too_many[] = "too many combs: their messages are listed";
  (void)buffer, (void)size;
  const char* why = mci_grid_refuse(topo);
  if (why) return why;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++)
    if (mci_topo_wraps(topo, d)) return "a dimension closes to a ring";
  mci_combs combs;
  mci_comb_way way = {.chunks = 1};
  if (mci_topo_nranks(topo) / shortest_side(topo) > MCI_COMB_MAX_MESSAGES) return too_many;
  mci_combs_init(&combs, topo, request, 0, &way);
  return mci_combs_messages(&combs) > MCI_COMB_MAX_MESSAGES ? too_many : NULL;
}

/* Looks for the fastest way, then for the fewest chunks that are hardly slower. */
typedef struct {
  const mci_topo* topo;
  const mci_request* request;
  uint64_t fastest_ps;
  uint32_t nparts; /* of the way chosen; 0: none yet */
  mci_comb_way way;
  bool second;
} search;

static void size_up(const search* s, uint32_t chunks, uint32_t spines, mci_combs* out) {
  mci_comb_way way = {.chunks = chunks, .spines = spines};
  mci_combs_init(out, s->topo, s->request, 0, &way);
}

static void try(search* s, uint32_t chunks, uint32_t spines) {
  mci_combs combs;
  size_up(s, chunks, spines, &combs);
  uint64_t time = mci_combs_time(&combs);
  if (!s->second) {
    s->fastest_ps = MCI_MIN(s->fastest_ps, time);
  } else if (time <= s->fastest_ps + s->fastest_ps / 2000 && (s->nparts == 0 || combs.nparts < s->nparts)) {
    s->nparts = combs.nparts;
    s->way = combs.way;
  }
}

/* The most chunks whose messages have at least so many bytes and can still be listed. */
static uint32_t most_chunks(const search* s, uint32_t spines, uint64_t bytes) {
  uint32_t low = 1, high = MCI_COMB_MAX_MESSAGES;
  while (low < high) {
    mci_combs combs;
    uint32_t middle = low + (high - low + 1) / 2;
    size_up(s, middle, spines, &combs);
    if (mci_combs_messages(&combs) <= MCI_COMB_MAX_MESSAGES && s->request->bytes / combs.nparts >= bytes) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

/* Chunks of any size, and such that are just not longer than a message, or two, .. */
static void try_spines(search* s, uint32_t spines) {
  uint64_t good = MCI_MIN(s->request->bytes / MANY_MESSAGES, (uint64_t)GOOD_MESSAGE);
  uint32_t most = most_chunks(s, spines, MCI_MAX(good, (uint64_t)LEAST_MESSAGE));
  for (uint32_t chunks = 1; chunks < most; chunks += chunks / 6 + 1) try(s, chunks, spines);
  try(s, most, spines);
  for (uint64_t messages = 1; messages <= 8; messages *= 2) {
    uint32_t whole = most_chunks(s, spines, messages * mci_cost_message(s->request));
    for (uint32_t chunks = whole; chunks <= MCI_MIN(most, whole + 2); chunks++) try(s, chunks, spines);
  }
}

static void try_all(search* s) {
  uint32_t longest = 0;
  for (uint32_t d = 0; d < mci_topo_ndims(s->topo); d++) longest = MCI_MAX(longest, mci_topo_side(s->topo, d));
  try_spines(s, 0);
  for (uint32_t spines = 2; spines <= 8 && spines < longest; spines += 2) try_spines(s, spines);
}

/* The longest margin that hardly lengthens the order. */
static void set_margin(const mci_topo* topo, const mci_request* request, uint64_t margin_ps, mci_comb_way* way) {
  mci_combs combs;
  way->margin_ps = 0;
  mci_combs_init(&combs, topo, request, 0, way);
  uint64_t most = mci_combs_order_time(&combs);
  most += most / MARGIN_SHARE;
  for (; margin_ps > 1000; margin_ps -= margin_ps / 4) {
    way->margin_ps = margin_ps;
    mci_combs_init(&combs, topo, request, 0, way);
    if (mci_combs_order_time(&combs) <= most) return;
  }
  way->margin_ps = 0;
}

static mci_comb_way way_of(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of) {
  mci_comb_way way = {.chunks = cost_of->chunks, .spines = cost_of->variant};
  mci_combs combs;
  mci_combs_init(&combs, topo, request, 0, &way);
  uint64_t delay = combs.links[0].lat_ps, margin = LEAST_MARGIN;
  if (combs.apart) {
    margin = MCI_MAX(margin, combs.send_ps[0]);
  } else if (delay + LEAST_MARGIN < SAFE_DELAY) {
    margin = SAFE_DELAY - delay;
  }
  set_margin(topo, request, margin, &way);
  return way;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  search s = {.topo = topo, .request = request, .fastest_ps = UINT64_MAX};
  mci_combs combs;
  try_all(&s);
  s.second = true;
  try_all(&s);
  mci_combs_init(&combs, topo, request, 0, &s.way);
  *out = (mci_plan_cost){.cost_ps = mci_combs_time(&combs),
                         .steps = mci_combs_depth(&combs),
                         .channels = 2 * combs.naxes * combs.lanes,
                         .chunks = s.way.chunks,
                         .variant = s.way.spines,
                         .load = mci_combs_load(&combs)};
  if (combs.apart) return;
  /* About half of the margin is seen in the time. */
  uint64_t order_ps = mci_combs_order_time(&combs);
  s.way = way_of(topo, request, out);
  mci_combs_init(&combs, topo, request, 0, &s.way);
  out->cost_ps += (mci_combs_order_time(&combs) - order_ps) / 2;
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_combs combs;
  mci_comb_way way = way_of(topo, request, cost_of);
  mci_combs_init(&combs, topo, request, rank, &way);
  MCI_TRY(mci_combs_build(&combs, mci_topo_nranks(topo), rank, out));
  (*out)->steps = mci_combs_depth(&combs);
  return meshcclSuccess;
}

const mci_family mci_family_comb = {"comb",
                                    MCI_COLL_BIT(MCI_ALL_REDUCE),
                                    "combs on a mesh, one per spine, in a static order: every link alike",
                                    refuse,
                                    cost,
                                    build};
