/* The family of rotating combs: when they apply, what they cost; see comb.h. */
#include "topo/plan/comb.h"

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"

/* Patience, in quarters. EXACT is what the link figures say. Programs are ordered with more, because hops that are
 * longer than the order allows for do harm (simulated: an order for no delay on a machine with 500 ns). */
#define EXACT 4
#define LEAST 6
#define EQUAL_SIDES 8
#define MARGIN_PS 500000 /* per hop */

#define MIN_MESSAGE 7000 /* bytes; what eight credits hold still covers 500 ns both ways at 50 GB/s */

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)buffer, (void)size;
  if (mci_topo_is_full(topo)) return "the ranks are joined pairwise, not as a grid";
  if (!mci_topo_is_regular(topo)) return "the grid has holes or not all of it takes part";
  if (mci_topo_nranks(topo) == 1) return "a single rank has no neighbours";
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++)
    if (mci_topo_wraps(topo, d)) return "a dimension closes to a ring";
  mci_combs combs;
  mci_combs_init(&combs, topo, request, 0, 1, EXACT);
  return mci_combs_messages(&combs) > MCI_COMB_MAX_MESSAGES ? "too many combs: their messages are listed" : NULL;
}

/* Lines are passed inwards and outwards, the spine once: partial sums and totals meet in its middle. */
static uint32_t depth(const mci_combs* combs) {
  uint32_t all = 0, spine = UINT32_MAX;
  for (uint32_t a = 0; a < combs->naxes; a++) {
    all += 2 * (combs->axes[a].n - 1);
    spine = MCI_MIN(spine, combs->axes[a].n - 1);
  }
  return all - spine;
}

static void try_chunks(const mci_topo* topo, const mci_request* request, uint32_t chunks, mci_plan_cost* out) {
  mci_combs combs;
  mci_combs_init(&combs, topo, request, 0, chunks, EXACT);
  uint64_t time = mci_combs_time(&combs);
  if (out->cost_ps != UINT64_MAX && time >= out->cost_ps - out->cost_ps / 1000) return;
  out->cost_ps = time;
  out->chunks = chunks;
  out->load = (double)mci_combs_messages(&combs) / combs.nparts;
}

/* The most chunks whose messages have at least so many bytes and can still be listed. */
static uint32_t most_chunks(const mci_topo* topo, const mci_request* request, uint64_t bytes) {
  uint32_t low = 1, high = MCI_COMB_MAX_MESSAGES;
  while (low < high) {
    mci_combs combs;
    uint32_t middle = low + (high - low + 1) / 2;
    mci_combs_init(&combs, topo, request, 0, middle, EXACT);
    if (mci_combs_messages(&combs) <= MCI_COMB_MAX_MESSAGES && request->bytes / combs.nparts >= bytes) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX};
  uint32_t chunks = 2;
  for (uint64_t bytes = MCI_COST_MIN_MESSAGE; chunks > 1; bytes += bytes / 2) {
    chunks = most_chunks(topo, request, bytes);
    try_chunks(topo, request, chunks, out);
  }
  try_chunks(topo, request, most_chunks(topo, request, MIN_MESSAGE), out);
  mci_combs combs;
  mci_combs_init(&combs, topo, request, 0, 1, EXACT);
  out->steps = depth(&combs);
  out->channels = 2 * combs.naxes * (combs.equal ? 2 * combs.naxes - 1 : 1);
}

static uint32_t patience(const mci_combs* combs) {
  if (combs->equal) return EQUAL_SIDES;
  return MCI_MAX((uint32_t)LEAST, EXACT + (uint32_t)(EXACT * (uint64_t)MARGIN_PS / combs->hop_ps));
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_combs combs;
  mci_combs_init(&combs, topo, request, rank, cost_of->chunks, EXACT);
  mci_combs_init(&combs, topo, request, rank, cost_of->chunks, patience(&combs));
  MCI_TRY(mci_combs_build(&combs, mci_topo_nranks(topo), rank, out));
  (*out)->steps = cost_of->steps;
  return meshcclSuccess;
}

const mci_family mci_family_comb = {"comb",
                                    MCI_COLL_BIT(MCI_ALL_REDUCE),
                                    "combs on a mesh, one per spine, in a static order: every link alike",
                                    refuse,
                                    cost,
                                    build};
