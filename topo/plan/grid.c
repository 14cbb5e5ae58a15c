/* Meshes and tori of any sides, dimension by dimension: phases.h with one axis per side longer than 1, one colour per
 * axis, all ports busy both ways. On a torus steps and bytes are optimal (two phases of sum floor(side/2) steps). */
#include <stdio.h>

#include "base/base.h"
#include "topo/plan/families.h"
#include "topo/plan/phases.h"

#define COLLS (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_ALL_GATHER) | MCI_COLL_BIT(MCI_REDUCE_SCATTER))

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)request, (void)buffer, (void)size;
  const char* why = mci_grid_refuse(topo);
  if (why) return why;
  uint32_t longer = 0, rings = 0;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    longer += mci_topo_side(topo, d) > 1;
    rings += mci_topo_wraps(topo, d);
  }
  return longer == 1 && rings == 1 ? "a single ring: bidir_ring is the same" : NULL;
}

static mci_phases phases_of(const mci_topo* topo, const mci_request* request, uint32_t rank) {
  mci_phases phases = {.coll = request->coll, .wide = request->wide, .message_bytes = request->message_bytes};
  phases.naxes = mci_grid_axes(topo, rank, phases.axes);
  mci_phases_colors(&phases);
  return phases;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_phases phases = phases_of(topo, request, 0);
  mci_axis_links links[MCI_MAX_DIMS];
  for (uint32_t d = 0, a = 0; d < mci_topo_ndims(topo); d++)
    if (mci_topo_side(topo, d) > 1) links[a++] = (mci_axis_links){.link = mci_topo_axis_worst(topo, d), .load = 1};
  mci_phases_cost(&phases, links, request->bytes, out);
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_phases phases = phases_of(topo, request, rank);
  return mci_grid_build(topo, &phases, "grid", rank, cost_of, out);
}

const mci_family mci_family_grid = {"grid", COLLS, "dimension by dimension on a mesh or torus, all ports at once",
                                    refuse, cost,  build};
