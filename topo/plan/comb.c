/* The family of rotating combs: when they apply, what they cost; see comb.h. */
#include "topo/plan/comb.h"

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"

#define EXACT 4 /* patience, in quarters: what the link figures say */

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

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX};
  mci_combs combs;
  for (uint32_t chunks = 1;; chunks += MCI_MAX(chunks / 4, 1u)) {
    mci_combs_init(&combs, topo, request, 0, chunks, EXACT);
    if (mci_combs_messages(&combs) > MCI_COMB_MAX_MESSAGES) break;
    if (chunks > 1 && request->bytes / combs.nparts < MCI_COST_MIN_MESSAGE) break;
    uint64_t time = mci_combs_time(&combs);
    if (out->cost_ps != UINT64_MAX && time >= out->cost_ps - out->cost_ps / 500) continue;
    out->cost_ps = time;
    out->chunks = chunks;
    out->load = (double)mci_combs_messages(&combs) / combs.nparts;
  }
  out->steps = depth(&combs);
  out->channels = 2 * combs.naxes;
}

/* A message that takes longer than the delay forgives as much when the hops of the order are doubled; short ones need
 * more room. */
static uint32_t patience(const mci_combs* combs, const mci_topo* topo) {
  uint64_t lat = mci_topo_worst(topo).lat_ps, message = combs->hop_ps - MCI_MIN(lat, combs->hop_ps);
  return message >= lat ? 2 * EXACT : 3 * EXACT;
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_combs combs;
  mci_combs_init(&combs, topo, request, rank, cost_of->chunks, EXACT);
  mci_combs_init(&combs, topo, request, rank, cost_of->chunks, patience(&combs, topo));
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
