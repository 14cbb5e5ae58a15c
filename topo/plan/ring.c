/* Rings through all ranks: `ring` sends one way round, `bidir_ring` both ways with half the steps. They are phases.h on
 * a single axis, whose positions are the stations of cycle.c; where a step of the cycle is no link its messages take a
 * route and share links with others.
 *
 * Patarasuk and Yuan 2009 show that n - 1 steps of 1/n of the vector are the fewest bytes one port can do with; both
 * ways round (floor(n/2) steps) halves bytes per link and steps. */
#include <stdio.h>

#include "base/base.h"
#include "topo/plan/families.h"
#include "topo/plan/load.h"
#include "topo/plan/phases.h"

#define COLLS (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_ALL_GATHER) | MCI_COLL_BIT(MCI_REDUCE_SCATTER))

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)request;
  if (mci_topo_nranks(topo) == 1) return "a single rank has no ring";
  if (mci_topo_routed(topo) || mci_topo_is_full(topo)) return NULL;
  mci_cycle cycle;
  mci_cycle_of(topo, &cycle);
  if (cycle.round == mci_topo_nranks(topo) || mci_topo_nranks(topo) == 2) return NULL;
  snprintf(buffer, size, "the ring passes from rank %u to rank %u, which are not neighbours", cycle.from, cycle.to);
  return buffer;
}

static mci_phases phases_of(const mci_topo* topo, const mci_request* request, bool one_way) {
  uint32_t n = mci_topo_nranks(topo);
  mci_phases phases = {.coll = request->coll, .wide = request->wide, .message_bytes = request->message_bytes, .naxes = 1};
  /* Two ranks have one link: both ways round are the two directions of a line. */
  phases.axes[0] = (mci_axis){.n = n, .ring = one_way || n > 2, .one_way = one_way};
  mci_phases_colors(&phases);
  return phases;
}

static void cost_of(const mci_topo* topo, const mci_request* request, bool one_way, mci_plan_cost* out) {
  mci_cycle cycle;
  mci_cycle_of(topo, &cycle);
  mci_phases phases = phases_of(topo, request, one_way);
  uint32_t n = phases.axes[0].n;
  mci_axis_links links = {mci_topo_worst(topo), cycle.round - n, cycle.round > n ? 2 : 1, 0};
  if (n == 2) links.load = 1; /* there and back are the two directions of one route */
  if (mci_topo_is_full(topo)) links = mci_load_ring(topo, one_way);
  mci_phases_cost(&phases, &links, request->bytes, out);
}

/* Position of every rank's block: memory per rank, unless the ring is in rank order. */
static meshcclResult_t places(const mci_topo* topo, const mci_request* request, uint32_t** out) {
  *out = NULL;
  if (request->coll == MCI_ALL_REDUCE) return meshcclSuccess;
  uint32_t n = mci_topo_nranks(topo);
  uint32_t* place = mci_alloc(n * sizeof *place);
  if (!place) return mci_oom(n * sizeof *place);
  for (uint32_t i = 0; i < n; i++) place[i] = mci_cycle_rank(topo, i);
  *out = place;
  return meshcclSuccess;
}

static meshcclResult_t build_any(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost,
                                 uint32_t rank, bool one_way, mci_program** out) {
  mci_phases phases = phases_of(topo, request, one_way);
  mci_axis* axis = &phases.axes[0];
  axis->at = mci_cycle_position(topo, rank);
  axis->peer[MCI_AHEAD] = mci_cycle_rank(topo, (axis->at + 1) % axis->n);
  axis->peer[MCI_BEHIND] = mci_cycle_rank(topo, (axis->at + axis->n - 1) % axis->n);
  uint32_t* place;
  MCI_TRY(places(topo, request, &place));
  meshcclResult_t result = mci_phases_build(&phases, one_way ? "ring" : "bidir_ring", axis->n, rank, cost, place, out);
  mci_free(place);
  return result;
}

static void cost_one_way(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  cost_of(topo, request, true, out);
}

static void cost_both_ways(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  cost_of(topo, request, false, out);
}

static meshcclResult_t build_one_way(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost,
                                     uint32_t rank, mci_program** out) {
  return build_any(topo, request, cost, rank, true, out);
}

static meshcclResult_t build_both_ways(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost,
                                       uint32_t rank, mci_program** out) {
  return build_any(topo, request, cost, rank, false, out);
}

const mci_family mci_family_ring = {"ring", COLLS,        "one way round a ring through all ranks",
                                    refuse, cost_one_way, build_one_way};
const mci_family mci_family_bidir_ring = {
    "bidir_ring", COLLS,          "both ways round a ring through all ranks, in half the steps",
    refuse,       cost_both_ways, build_both_ways};
