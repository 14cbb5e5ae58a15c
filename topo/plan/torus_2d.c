/* Torus all-reduce as in the first published form: reduce-scatter round the rows, all-reduce round the columns, gather
 * round the rows, one way round and one phase after the other. A rank uses one of its ports at a time: kept as a
 * baseline for grid, which keeps all of them busy.
 *
 *      rows:  o -> o -> o -> o -.     columns:  o        3 phases, 4 when the middle one is cut in two:
 *             ^-----------------'               |        (c - 1) + 2 (r - 1) + (c - 1) steps, c columns and r rows
 *                                               v
 *                                               o
 *
 * It is phases.h with one colour, one chunk, and rings that go one way; why it ends stands there.
 *
 * Source: H. Mikami et al. (Sony), Massively distributed SGD: ImageNet/ResNet-50 training in a flash, 2018. */
#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"
#include "topo/plan/phases.h"
#include "topo/plan/rounds.h"

#define COLLS (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_ALL_GATHER) | MCI_COLL_BIT(MCI_REDUCE_SCATTER))

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)request, (void)buffer, (void)size;
  const char* why = mci_grid_refuse(topo);
  if (why) return why;
  uint32_t longer = 0;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    uint32_t n = mci_topo_side(topo, d);
    longer += n > 1;
    if (n > 2 && !mci_topo_wraps(topo, d)) return "a dimension is a line, not a ring";
  }
  return longer == 2 ? NULL : "a torus of two dimensions is needed";
}

static mci_phases phases_of(const mci_topo* topo, const mci_request* request, uint32_t rank) {
  mci_phases phases = {.coll = request->coll, .wide = request->wide, .ncolors = 1, .weight = {1}};
  phases.naxes = mci_grid_axes(topo, rank, phases.axes);
  for (uint32_t a = 0; a < phases.naxes; a++) {
    phases.axes[a].ring = phases.axes[a].one_way = true;
    phases.order[0][a] = (uint8_t)(phases.naxes - 1 - a); /* rows first */
  }
  return phases;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_phases phases = phases_of(topo, request, 0);
  uint64_t pieces = 1, times = request->coll == MCI_ALL_REDUCE ? 2 : 1;
  *out = (mci_plan_cost){.chunks = 1, .channels = (uint32_t)times * phases.naxes};
  for (uint32_t d = mci_topo_ndims(topo); d-- > 0;) {
    uint32_t n = mci_topo_side(topo, d);
    if (n == 1) continue;
    mci_link link = mci_topo_axis_worst(topo, d);
    pieces *= n;
    out->cost_ps +=
        times * mci_rounds(&link, mci_cost_share(request->bytes, 1, pieces), n - 1, mci_cost_message(request));
    out->steps += (uint32_t)times * (n - 1);
    out->load = MCI_MAX(out->load, (double)(times * (n - 1)) / (double)pieces);
  }
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_phases phases = phases_of(topo, request, rank);
  return mci_grid_build(topo, &phases, "torus_2d", rank, cost_of, out);
}

const mci_family mci_family_torus_2d = {
    "torus_2d", COLLS, "rings of a torus one after the other, rows first, one way round", refuse, cost, build};
