/* A rank's place in a whole grid as axes, for the families that go dimension by dimension. */
#include "base/base.h"
#include "topo/plan/families.h"

static uint32_t neighbor(const mci_topo* topo, const uint32_t* at, uint32_t dim, uint32_t step) {
  uint32_t moved[MCI_MAX_DIMS];
  for (uint32_t d = 0; d < MCI_MAX_DIMS; d++) moved[d] = at[d];
  moved[dim] = (at[dim] + step) % mci_topo_side(topo, dim);
  return (uint32_t)mci_topo_rank_at(topo, moved);
}

const char* mci_grid_refuse(const mci_topo* topo) {
  if (mci_topo_is_full(topo)) return "the ranks are joined pairwise, not as a grid";
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++)
    if (mci_topo_apart(topo, d)) return "a dimension has no links, only planes join what lies along it";
  if (!mci_topo_is_regular(topo)) return "the grid has holes or not all of it takes part";
  return mci_topo_nranks(topo) == 1 ? "a single rank has no neighbours" : NULL;
}

uint32_t mci_grid_axes(const mci_topo* topo, uint32_t rank, mci_axis axes[MCI_MAX_DIMS]) {
  uint32_t at[MCI_MAX_DIMS] = {0}, naxes = 0;
  mci_topo_coords(topo, rank, at);
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    uint32_t n = mci_topo_side(topo, d);
    if (n == 1) continue;
    axes[naxes++] = (mci_axis){.n = n,
                               .at = at[d],
                               .ring = mci_topo_wraps(topo, d),
                               .peer = {neighbor(topo, at, d, 1), neighbor(topo, at, d, n - 1)}};
  }
  return naxes;
}

meshcclResult_t mci_grid_places(const mci_topo* topo, uint32_t** out) {
  *out = NULL;
  if (!mci_topo_is_mapped(topo)) return meshcclSuccess;
  uint32_t n = mci_topo_nranks(topo), at[MCI_MAX_DIMS] = {0};
  uint32_t* place = mci_alloc(n * sizeof *place);
  if (!place) return mci_oom(n * sizeof *place);
  for (uint32_t i = 0; i < n; i++) {
    uint32_t rest = i;
    for (uint32_t d = mci_topo_ndims(topo); d-- > 0; rest /= mci_topo_side(topo, d))
      at[d] = rest % mci_topo_side(topo, d);
    place[i] = (uint32_t)mci_topo_rank_at(topo, at);
  }
  *out = place;
  return meshcclSuccess;
}

meshcclResult_t mci_grid_build(const mci_topo* topo, const mci_phases* phases, const char* name, uint32_t rank,
                               const mci_plan_cost* cost, mci_program** out) {
  uint32_t* place = NULL; /* of blocks; an all-reduce has none */
  if (phases->coll != MCI_ALL_REDUCE) MCI_TRY(mci_grid_places(topo, &place));
  meshcclResult_t result = mci_phases_build(phases, name, mci_topo_nranks(topo), rank, cost, place, out);
  mci_free(place);
  return result;
}
