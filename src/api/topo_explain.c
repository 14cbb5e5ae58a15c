/* meshcclPlanExplain: every algorithm for a collective on a topology with its predicted time, as a table. */
#include <string.h>

#include "meshccl/topo.h"
#include "topo/bounds.h"
#include "topo/plan/plan.h"

static void explain_candidate(const mci_candidate* candidate, bool chosen, const mci_bound* bound, mci_str* out) {
  const mci_plan_cost* cost = &candidate->cost;
  if (!candidate->applies) {
    mci_str_add(out, "  %-24s does not apply: %s\n", candidate->family->name, candidate->reason);
    return;
  }
  double share = cost->cost_ps ? 100 * (double)bound->bound_ps / (double)cost->cost_ps : 100;
  mci_str_add(out, "%s %-24s %14.3f us, %5.1f%% of the bound, %u steps, %u channels, %u chunks, load %.4g\n",
              chosen ? "*" : " ", candidate->family->name, (double)cost->cost_ps * 1e-6, share, cost->steps,
              cost->channels, cost->chunks, cost->load);
}

static meshcclResult_t explain(const mci_topo* topo, mci_coll coll, uint64_t bytes, mci_str* out) {
  mci_request request = mci_plan_request(coll, bytes, mci_topo_nranks(topo), true);
  mci_candidate candidates[MCI_MAX_CANDIDATES];
  uint32_t n;
  mci_bound bound;
  MCI_TRY(mci_bound_of(topo, coll, bytes, 0, &bound));
  MCI_TRY(mci_plan_candidates(topo, &request, candidates, &n));
  mci_str_add(out, "%s of %llu bytes on %u ranks; no schedule takes less than %.3f us\n", mci_coll_name(coll),
              (unsigned long long)bytes, mci_topo_nranks(topo), (double)bound.bound_ps * 1e-6);
  for (uint32_t i = 0; i < n; i++) explain_candidate(&candidates[i], i == 0 && candidates[i].applies, &bound, out);
  return mci_str_result(out);
}

meshcclResult_t meshcclPlanExplain(meshcclTopo_t topo, const char* collective, size_t bytes, char* text, size_t size,
                                   size_t* needed) {
  if (!topo || !collective)
    MCI_FAIL(meshcclInvalidArgument, "meshcclPlanExplain: %s is NULL", topo ? "collective" : "topo");
  mci_coll coll;
  MCI_TRY(mci_coll_parse(collective, &coll));
  mci_str str = {0};
  meshcclResult_t result = explain((const mci_topo*)topo, coll, bytes, &str);
  if (result == meshcclSuccess) result = mci_str_hand_out(&str, __func__, text, size, needed);
  mci_str_fini(&str);
  return result;
}
