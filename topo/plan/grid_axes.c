/* A rank's place in a whole grid as axes, for the families that go dimension by dimension. */
#include "base/base.h"
#include "topo/plan/families.h"

static uint32_t neighbor(const mci_topo* topo, const uint32_t* at, uint32_t dim, uint32_t step) {
  uint32_t moved[MCI_MAX_DIMS];
  for (uint32_t d = 0; d < MCI_MAX_DIMS; d++) moved[d] = at[d];
  moved[dim] = (at[dim] + step) % mci_topo_side(topo, dim);
  return (uint32_t)mci_topo_rank_at(topo, moved);
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
