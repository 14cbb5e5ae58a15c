/* The simulator's entry: options, main loop, report. At one time, first all events happen, then the channels run until
 * they must wait, then the links that may begin choose from everything that waits by then. */
#include "topo/sim/sim.h"

#include "topo/sim/state.h"

#define DEFAULT_MESSAGE_BYTES 131072
#define DEFAULT_CREDITS 8
#define MAX_CREDITS 64

static meshcclResult_t set_up(mci_sim* sim, const mci_sim_options* options) {
  const mci_program* first = sim->schedule->programs[0];
  mci_sim_options* o = &sim->options;
  *o = *options;
  if (sim->schedule->nranks != mci_topo_nranks(sim->topo))
    MCI_FAIL(meshcclInvalidArgument, "a schedule for %u ranks on a topology of %u", sim->schedule->nranks,
             mci_topo_nranks(sim->topo));
  if (o->type_size == 0) o->type_size = 4;
  if (o->message_bytes == 0) o->message_bytes = DEFAULT_MESSAGE_BYTES;
  if (o->credits == 0) o->credits = DEFAULT_CREDITS;
  if (o->credits > MAX_CREDITS)
    MCI_FAIL(meshcclInvalidArgument, "%u credits per lane; 1 .. %d are allowed", o->credits, MAX_CREDITS);
  if (o->message_bytes < o->type_size)
    MCI_FAIL(meshcclInvalidArgument, "messages of %llu bytes hold no element of %u",
             (unsigned long long)o->message_bytes, o->type_size);
  uint64_t blocks = first->layout.block_major ? first->layout.nblocks : 1;
  sim->layout = &first->layout;
  sim->count = MCI_MAX(o->bytes / o->type_size / blocks, UINT64_C(1));
  sim->options.bytes = sim->count * blocks * o->type_size;
  sim->slice_bytes = o->message_bytes / o->type_size * o->type_size;
  sim->free_message = MCI_SIM_NONE;
  for (uint32_t r = 0; o->finish_ps && r < sim->schedule->nranks; r++) o->finish_ps[r] = 0;
  return mci_sim_open_channels(sim);
}

static meshcclResult_t happen(mci_sim* sim, mci_sim_event event) {
  uint32_t index = event.what & ((1u << MCI_SIM_INDEX_BITS) - 1);
  sim->events_done++;
  switch ((mci_sim_kind)(event.what >> MCI_SIM_INDEX_BITS)) {
    case MCI_SIM_LINK_FREE:
      return mci_sim_link_free(sim, index);
    case MCI_SIM_ARRIVES:
      return mci_sim_arrive(sim, index);
    case MCI_SIM_CREDIT:
      return mci_sim_credit(sim, index);
    default:
      return mci_sim_folded(sim, index);
  }
}

static meshcclResult_t run(mci_sim* sim) {
  for (;;) {
    MCI_TRY(mci_sim_run_channels(sim));
    MCI_TRY(mci_sim_serve(sim));
    if (sim->nevents == 0) break;
    sim->now = sim->events[0].at;
    if (sim->options.limit_ps && sim->now > sim->options.limit_ps) {
      sim->last_ps = UINT64_MAX;
      return meshcclSuccess;
    }
    while (sim->nevents && sim->events[0].at == sim->now) MCI_TRY(happen(sim, mci_sim_pop(sim)));
  }
  return sim->ended == sim->nchannels ? meshcclSuccess : mci_sim_stuck(sim);
}

/* ---- the report ---- */

static uint64_t longest_delay(const mci_topo* topo) {
  uint64_t most = 0;
  for (uint32_t c = 0; c < mci_topo_nclasses(topo); c++) most = MCI_MAX(most, mci_topo_class(topo, c).lat_ps);
  for (uint32_t p = 0; p < mci_topo_nplanes(topo); p++) most = MCI_MAX(most, mci_topo_plane_link(topo, p).lat_ps);
  return most;
}

static uint64_t scaled(uint64_t delay_ps, uint64_t to_ps, uint64_t from_ps) {
  return from_ps == 0 ? 0 : (uint64_t)((unsigned __int128)delay_ps * to_ps / from_ps);
}

/* The bound with the delay that was simulated. What it says about delays is counted in the described ones: as so many
 * hops at least as make it up when every hop has the longest. */
static meshcclResult_t find_bound(const mci_sim* sim, uint64_t* out) {
  const mci_program* first = sim->schedule->programs[0];
  *out = 0;
  if (first->coll == MCI_SEND_RECV) return meshcclSuccess;
  mci_bound bound;
  MCI_TRY(mci_bound_of(sim->topo, first->coll, sim->options.bytes, first->root, &bound));
  if (sim->options.set_lat) {
    uint64_t longest = longest_delay(sim->topo), entry_ps = bound.combined_ps - bound.way_ps;
    bound.latency_ps = scaled(bound.latency_ps, sim->options.lat_ps, longest);
    bound.combined_ps = entry_ps + scaled(bound.way_ps, sim->options.lat_ps, longest);
    bound.bound_ps = MCI_MAX(bound.bandwidth_ps, MCI_MAX(bound.latency_ps, bound.combined_ps));
  }
  *out = bound.bound_ps;
  return meshcclSuccess;
}

static void sum_links(const mci_sim* sim, mci_sim_report* out) {
  double busy = 0, fill = 0, starved = 0, credit = 0, whole = (double)sim->last_ps * sim->nlinks;
  uint64_t most = 0;
  for (uint32_t i = 0; i < sim->nlinks; i++) {
    const mci_sim_link* link = &sim->links[i];
    if (link->busy_ps > most) {
      most = link->busy_ps;
      out->busiest_link = link->id;
    }
    busy += (double)link->busy_ps;
    fill += (double)link->fill_ps;
    starved += (double)link->starved_ps;
    credit += (double)link->credit_ps;
  }
  if (whole == 0) return;
  out->busiest = (double)most / (double)sim->last_ps;
  out->busy = busy / whole;
  out->fill = fill / whole;
  out->starved = starved / whole;
  out->credit = credit / whole;
  out->drain = 1 - out->busy - out->fill - out->starved - out->credit;
}

static meshcclResult_t make_report(const mci_sim* sim, mci_sim_report* out) {
  if (sim->last_ps == UINT64_MAX) {
    *out = (mci_sim_report){.total_ps = UINT64_MAX};
    return meshcclSuccess;
  }
  mci_sim_report report = {.total_ps = sim->last_ps,
                           .messages = sim->messages_sent,
                           .bytes = sim->bytes_carried,
                           .events = sim->events_done,
                           .links = sim->nlinks,
                           .max_queue = sim->max_queue};
  MCI_TRY(find_bound(sim, &report.bound_ps));
  report.share = report.total_ps ? (double)report.bound_ps / (double)report.total_ps : 1;
  sum_links(sim, &report);
  *out = report;
  return meshcclSuccess;
}

static void release(mci_sim* sim) {
  for (uint32_t i = 0; i < sim->nlinks; i++) mci_free(sim->links[i].queue);
  for (uint32_t i = 0; i < sim->nlanes; i++) {
    mci_free(sim->lanes[i].departures);
    mci_free(sim->lanes[i].returned);
  }
  void* arrays[] = {sim->events,   sim->links, sim->link_table,  sim->dirty,        sim->messages,
                    sim->lanes,    sim->hops,  sim->lane_table,  sim->route,        sim->channels,
                    sim->operands, sim->queue, sim->folder_free, sim->first_channel};
  for (size_t i = 0; i < MCI_COUNT(arrays); i++) mci_free(arrays[i]);
}

meshcclResult_t mci_sim_run(const mci_topo* topo, const mci_schedule* schedule, const mci_sim_options* options,
                            mci_sim_report* report) {
  mci_sim sim = {.topo = topo, .schedule = schedule};
  meshcclResult_t result = set_up(&sim, options);
  if (result == meshcclSuccess) result = run(&sim);
  if (result == meshcclSuccess) result = make_report(&sim, report);
  release(&sim);
  return result;
}
