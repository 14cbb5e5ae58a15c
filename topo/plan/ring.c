/* Rings through all ranks: `ring` sends one way round, `bidir_ring` both ways with half the steps. They are phases.h on
 * a single axis, whose positions are the stations of cycle.c; where a step of the cycle is no link its messages take a
 * route and share links with others.
 *
 * Patarasuk and Yuan 2009 show that n - 1 steps of 1/n of the vector are the fewest bytes one port can do with; both
 * ways round (floor(n/2) steps) halves bytes per link and steps. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "topo/plan/cost.h"
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
  mci_phases phases = {
      .coll = request->coll, .wide = request->wide, .message_bytes = request->message_bytes, .naxes = 1};
  /* Two ranks have one link: both ways round are the two directions of a line. */
  phases.axes[0] = (mci_axis){.n = n, .ring = one_way || n > 2, .one_way = one_way};
  mci_phases_colors(&phases);
  return phases;
}

static int compare(const void* a, const void* b) {
  uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return (x > y) - (x < y);
}

#define MAX_ROUTE 512
#define MESSAGE 131072

/* Steps over the busiest link direction of a cycle with routes; a cautious guess when they cannot be counted. */
static uint32_t routes_load(const mci_topo* topo, uint32_t n, uint64_t round, bool one_way) {
  uint64_t* ids = round > (UINT32_C(1) << 20) ? NULL : mci_alloc((2 * round + 2 * MAX_ROUTE) * sizeof *ids);
  if (!ids) return one_way ? 2 : 4;
  size_t used = 0;
  for (uint32_t i = 0; i < (one_way ? n : 2 * n) && used <= 2 * round; i++) {
    mci_hop route[MAX_ROUTE];
    uint32_t a = mci_cycle_rank(topo, i / (one_way ? 1 : 2)), b = mci_cycle_rank(topo, (i / (one_way ? 1 : 2) + 1) % n);
    uint32_t hops =
        i % 2 && !one_way ? mci_topo_route(topo, b, a, route, MAX_ROUTE) : mci_topo_route(topo, a, b, route, MAX_ROUTE);
    for (uint32_t h = 0; h < MCI_MIN(hops, (uint32_t)MAX_ROUTE); h++) ids[used++] = route[h].id;
  }
  qsort(ids, used, sizeof *ids, compare);
  uint32_t most = 1;
  for (size_t i = 0, run = 1; i + 1 < used; i++) {
    run = ids[i] == ids[i + 1] ? run + 1 : 1;
    most = MCI_MAX(most, (uint32_t)run);
  }
  mci_free(ids);
  return most;
}

/* A block that goes round crosses all links of the routes whole: store and forward. */
static uint64_t detours_time(const mci_axis_links* links, uint64_t piece, bool one_way) {
  uint64_t hops = one_way ? links->detour : (links->detour + 1) / 2;
  return hops * (mci_cost_wire(&links->link, piece) + links->link.cost_ps);
}

static void cost_of(const mci_topo* topo, const mci_request* request, bool one_way, mci_plan_cost* out) {
  mci_cycle cycle;
  mci_cycle_of(topo, &cycle);
  mci_phases phases = phases_of(topo, request, one_way);
  uint32_t n = phases.axes[0].n;
  mci_axis_links links = {mci_topo_worst(topo), cycle.round - n, cycle.round > n ? 2 : 1, 0};
  if (n == 2) links.load = 1; /* there and back are the two directions of one route */
  if (mci_topo_is_full(topo)) links = mci_load_ring(topo, one_way);
  bool detours = !mci_topo_is_full(topo) && n > 2 && cycle.round > n;
  if (detours) links.load = routes_load(topo, n, cycle.round, one_way);
  mci_phases_cost(&phases, &links, request->bytes, out);
  if (!detours) return;
  uint64_t slice = request->message_bytes ? request->message_bytes : MESSAGE;
  uint64_t piece = MCI_MIN(mci_cost_share(request->bytes, 1, (uint64_t)n * out->chunks), slice);
  out->cost_ps += detours_time(&links, piece, one_way) * (request->coll == MCI_ALL_REDUCE ? 2 : 1);
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
