/* Lanes: their routes, what waits on them and their credits. */
#include "topo/sim/state.h"

static uint32_t slot_of(const mci_sim* sim, uint32_t source, uint32_t target) {
  uint64_t key = (uint64_t)source << 32 | target;
  uint32_t at = (uint32_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (sim->lane_slots - 1);
  for (;; at = (at + 1) & (sim->lane_slots - 1)) {
    uint32_t lane = sim->lane_table[at];
    if (lane == MCI_SIM_NONE || (sim->lanes[lane].source == source && sim->lanes[lane].target == target)) return at;
  }
}

static meshcclResult_t grow_table(mci_sim* sim) {
  uint32_t slots = MCI_MAX(256u, sim->lane_slots * 2);
  uint32_t* table = mci_alloc(slots * sizeof *table);
  if (!table) return mci_oom(slots * sizeof *table);
  for (uint32_t i = 0; i < slots; i++) table[i] = MCI_SIM_NONE;
  mci_free(sim->lane_table);
  sim->lane_table = table;
  sim->lane_slots = slots;
  for (uint32_t i = 0; i < sim->nlanes; i++) table[slot_of(sim, sim->lanes[i].source, sim->lanes[i].target)] = i;
  return meshcclSuccess;
}

/* Lists the links from one rank to the other in sim->hops. */
static meshcclResult_t find_route(mci_sim* sim, uint32_t from, uint32_t to, mci_sim_lane* lane) {
  uint32_t nhops = mci_topo_route(sim->topo, from, to, sim->route, sim->cap_route);
  if (nhops == UINT32_MAX)
    MCI_FAIL(meshcclInvalidUsage, "a lane from rank %u to rank %u: no route joins them", from, to);
  if (nhops > sim->cap_route) {
    MCI_TRY(mci_grow(&sim->route, sizeof *sim->route, &sim->cap_route, nhops));
    mci_topo_route(sim->topo, from, to, sim->route, sim->cap_route);
  }
  MCI_TRY(mci_grow(&sim->hops, sizeof *sim->hops, &sim->cap_hops, (size_t)sim->nhops + nhops));
  lane->hops = sim->nhops;
  lane->nhops = nhops;
  for (uint32_t i = 0; i < nhops; i++) {
    MCI_TRY(mci_sim_link_of(sim, &sim->route[i], &sim->hops[sim->nhops]));
    lane->back_ps += sim->links[sim->hops[sim->nhops++]].figures.lat_ps;
  }
  return meshcclSuccess;
}

static meshcclResult_t make_lane(mci_sim* sim, uint32_t source, uint32_t target, uint32_t* out) {
  if (sim->nlanes >> MCI_SIM_INDEX_BITS) MCI_FAIL(meshcclNotSupported, "more than %u lanes", sim->nlanes);
  mci_sim_lane lane = {.source = source, .target = target};
  MCI_TRY(mci_grow(&sim->lanes, sizeof *sim->lanes, &sim->cap_lanes, (size_t)sim->nlanes + 1));
  MCI_TRY(find_route(sim, sim->channels[source].rank, sim->channels[target].rank, &lane));
  lane.returned = mci_alloc(sim->options.credits * sizeof *lane.returned);
  if (!lane.returned) return mci_oom(sim->options.credits * sizeof *lane.returned);
  sim->lanes[sim->nlanes] = lane;
  *out = sim->nlanes++;
  return meshcclSuccess;
}

meshcclResult_t mci_sim_lane_of(mci_sim* sim, uint32_t source, uint32_t target, uint32_t* out) {
  if (2 * sim->nlanes >= sim->lane_slots) MCI_TRY(grow_table(sim));
  uint32_t* place = &sim->lane_table[slot_of(sim, source, target)];
  if (*place == MCI_SIM_NONE) MCI_TRY(make_lane(sim, source, target, place));
  *out = *place;
  return meshcclSuccess;
}

/* ---- departures ---- */
static meshcclResult_t grow_ring(mci_sim_lane* lane) {
  uint32_t cap = MCI_MAX(4u, lane->cap_departures * 2);
  mci_sim_departure* grown = mci_alloc(cap * sizeof *grown);
  if (!grown) return mci_oom(cap * sizeof *grown);
  for (uint32_t i = lane->head; i != lane->tail; i++)
    grown[i & (cap - 1)] = lane->departures[i & (lane->cap_departures - 1)];
  mci_free(lane->departures);
  lane->departures = grown;
  lane->cap_departures = cap;
  return meshcclSuccess;
}

meshcclResult_t mci_sim_push(mci_sim* sim, uint32_t index, mci_sim_departure departure, uint32_t* number_out) {
  mci_sim_lane* lane = &sim->lanes[index];
  if (MCI_UNLIKELY(lane->tail - lane->head == lane->cap_departures)) MCI_TRY(grow_ring(lane));
  lane->departures[lane->tail & (lane->cap_departures - 1)] = departure;
  *number_out = lane->tail++;
  return meshcclSuccess;
}

meshcclResult_t mci_sim_ready(mci_sim* sim, uint32_t index, uint32_t number) {
  mci_sim_lane* lane = &sim->lanes[index];
  lane->departures[number & (lane->cap_departures - 1)].ready++;
  return mci_sim_pump(sim, index);
}

/* ---- credits ---- */
static void set_lacks(mci_sim* sim, mci_sim_lane* lane, bool lacks) {
  if (lane->lacks == lacks) return;
  lane->lacks = lacks;
  if (!lane->nhops) return;
  mci_sim_link* link = &sim->links[sim->hops[lane->hops]];
  mci_sim_account(sim, link);
  link->lacking += lacks ? 1u : UINT32_MAX;
}

/* Whether the next message of the lane has a credit; if not, whoever brings it pumps the lane. */
static meshcclResult_t has_credit(mci_sim* sim, uint32_t number, bool* out) {
  mci_sim_lane* lane = &sim->lanes[number];
  uint32_t credits = sim->options.credits;
  *out = true;
  if (lane->sent < credits) return meshcclSuccess;
  bool back = lane->taken + credits > lane->sent;
  uint64_t when = lane->returned[lane->sent % credits];
  *out = back && when <= sim->now;
  set_lacks(sim, lane, !*out);
  if (*out || !back || lane->expects) return meshcclSuccess;
  lane->expects = true;
  return mci_sim_at(sim, when, MCI_SIM_CREDIT, number);
}

meshcclResult_t mci_sim_pump(mci_sim* sim, uint32_t number) {
  mci_sim_lane* lane = &sim->lanes[number];
  while (lane->head != lane->tail) {
    mci_sim_departure* d = &lane->departures[lane->head & (lane->cap_departures - 1)];
    if (d->next == d->ready) break;
    bool may;
    MCI_TRY(has_credit(sim, number, &may));
    if (!may) break;
    uint64_t left = d->bytes - d->next * sim->slice_bytes;
    uint32_t step = d->step;
    if (++d->next == d->nslices) lane->head++;
    lane->sent++;
    MCI_TRY(mci_sim_send(sim, number, step, MCI_MIN(left, sim->slice_bytes)));
  }
  return meshcclSuccess;
}

meshcclResult_t mci_sim_take(mci_sim* sim, uint32_t number) {
  mci_sim_lane* lane = &sim->lanes[number];
  lane->returned[lane->taken++ % sim->options.credits] = sim->now + lane->back_ps;
  return lane->lacks ? mci_sim_pump(sim, number) : meshcclSuccess;
}

meshcclResult_t mci_sim_credit(mci_sim* sim, uint32_t number) {
  sim->lanes[number].expects = false;
  return mci_sim_pump(sim, number);
}
