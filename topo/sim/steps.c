/* Channels: runs their steps slice by slice, as src/exec/channel.c does, with nothing but counts for data. */
#include "topo/sim/state.h"

/* ---- setting up ---- */
static uint32_t most_operands(const mci_channel* channel) {
  uint32_t most = 0;
  for (uint32_t pc = 0; pc < channel->ninstrs; pc++)
    if (channel->instrs[pc].kind == MCI_STEP)
      most = MCI_MAX(most, (uint32_t)channel->instrs[pc].ndst + channel->instrs[pc].nsrc);
  return most;
}

static meshcclResult_t allocate(mci_sim* sim, uint32_t total, size_t operands) {
  uint32_t nranks = sim->schedule->nranks;
  sim->first_channel = mci_alloc((nranks + 1) * sizeof *sim->first_channel);
  sim->folder_free = mci_alloc(nranks * sizeof *sim->folder_free);
  sim->channels = mci_alloc(total * sizeof *sim->channels);
  sim->queue = mci_alloc(total * sizeof *sim->queue);
  sim->operands = mci_alloc(operands * sizeof *sim->operands);
  bool all = sim->first_channel && sim->folder_free && sim->channels && sim->queue && sim->operands;
  return all ? meshcclSuccess : mci_oom(total * sizeof *sim->channels);
}

meshcclResult_t mci_sim_open_channels(mci_sim* sim) {
  const mci_schedule* schedule = sim->schedule;
  uint64_t total = 0;
  size_t operands = 1; /* no array is empty */
  for (uint32_t r = 0; r < schedule->nranks; r++) {
    const mci_program* p = schedule->programs[r];
    total += p->nchannels;
    for (uint32_t i = 0; i < p->nchannels; i++) operands += most_operands(&p->channels[i]);
  }
  if (total >> MCI_SIM_INDEX_BITS || operands >= MCI_SIM_NONE)
    MCI_FAIL(meshcclNotSupported, "%llu channels are too many", (unsigned long long)total);
  MCI_TRY(allocate(sim, (uint32_t)total + 1, operands));
  operands = 0;
  for (uint32_t r = 0; r < schedule->nranks; r++) {
    const mci_program* p = schedule->programs[r];
    sim->first_channel[r] = sim->nchannels;
    for (uint32_t i = 0; i < p->nchannels; i++) {
      mci_sim_channel* c = &sim->channels[sim->nchannels];
      *c = (mci_sim_channel){.channel = &p->channels[i],
                             .rank = r,
                             .id = p->channels[i].id,
                             .operands = (uint32_t)operands,
                             .waiters = MCI_SIM_NONE,
                             .total = mci_channel_steps(&p->channels[i])};
      operands += most_operands(c->channel);
      mci_cursor_start(&c->cursor, c->channel);
      mci_sim_wake(sim, sim->nchannels++);
    }
  }
  sim->first_channel[schedule->nranks] = sim->nchannels;
  return meshcclSuccess;
}

uint32_t mci_sim_find_channel(const mci_sim* sim, uint32_t rank, uint32_t id) {
  if (rank >= sim->schedule->nranks) return MCI_SIM_NONE;
  uint32_t low = sim->first_channel[rank], high = sim->first_channel[rank + 1];
  if (id < high - low && sim->channels[low + id].id == id) return low + id; /* mostly they are 0, 1, 2, .. */
  while (low < high) {
    uint32_t middle = low + (high - low) / 2, found = sim->channels[middle].id;
    if (found == id) return middle;
    if (found < id) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return MCI_SIM_NONE;
}

void mci_sim_wake(mci_sim* sim, uint32_t channel) {
  mci_sim_channel* c = &sim->channels[channel];
  if (c->queued || c->wait == MCI_SIM_ENDED) return;
  c->queued = true;
  c->wait = MCI_SIM_RUNS;
  uint32_t size = sim->first_channel[sim->schedule->nranks];
  if (size == 0) size = MCI_SIM_NONE; /* while they are set up, the queue begins at 0 */
  uint32_t at = sim->queue_head + sim->queue_length++;
  sim->queue[at >= size ? at - size : at] = channel;
}

/* ---- conditions ---- */
static meshcclResult_t afters_hold(mci_sim* sim, mci_sim_channel* c, bool* out) {
  *out = true;
  for (unsigned k = 0; k < c->step->nafter && *out; k++) {
    uint16_t id;
    uint64_t count = mci_cursor_after(&c->cursor, c->step, k, &id);
    if (count == 0) continue;
    uint32_t other = mci_sim_find_channel(sim, c->rank, id);
    if (other == MCI_SIM_NONE) MCI_FAIL(meshcclInvalidUsage, "rank %u has no channel %u to wait for", c->rank, id);
    mci_sim_channel* first = &sim->channels[other];
    if (first->done >= count) continue;
    *out = false;
    c->wait = MCI_SIM_WAITS_AFTER;
    c->wait_for = other;
    c->wait_count = count;
    c->next_waiter = first->waiters;
    first->waiters = (uint32_t)(c - sim->channels);
  }
  return meshcclSuccess;
}

static void wake_waiters(mci_sim* sim, mci_sim_channel* c) {
  uint32_t* link = &c->waiters;
  while (*link != MCI_SIM_NONE) {
    mci_sim_channel* waiter = &sim->channels[*link];
    if (waiter->wait_count > c->done) {
      link = &waiter->next_waiter;
      continue;
    }
    uint32_t index = *link;
    *link = waiter->next_waiter;
    mci_sim_wake(sim, index);
  }
}

/* Whether every lane source has the message of this slice; several sources of one lane need as many. */
static bool arrivals_there(mci_sim* sim, mci_sim_channel* c) {
  const mci_sim_operand* sources = &sim->operands[c->operands + c->step->ndst];
  for (unsigned k = 0; k < c->step->nsrc; k++) {
    if (sources[k].lane == MCI_SIM_NONE) continue;
    uint64_t needed = 1;
    for (unsigned i = 0; i < k; i++) needed += sources[i].lane == sources[k].lane;
    const mci_sim_lane* lane = &sim->lanes[sources[k].lane];
    if (lane->arrived >= lane->taken + needed) continue;
    c->wait = MCI_SIM_WAITS_LANE;
    c->wait_for = sources[k].lane;
    return false;
  }
  return true;
}

/* ---- steps ---- */
static meshcclResult_t find_lane(mci_sim* sim, const mci_sim_channel* c, uint32_t peer, bool departs, uint32_t* out) {
  uint32_t other = mci_sim_find_channel(sim, peer, c->id), self = (uint32_t)(c - sim->channels);
  if (other == MCI_SIM_NONE)
    MCI_FAIL(meshcclInvalidUsage, "rank %u channel %u names rank %u, which has no such channel", c->rank, c->id, peer);
  return departs ? mci_sim_lane_of(sim, self, other, out) : mci_sim_lane_of(sim, other, self, out);
}

static meshcclResult_t load_operands(mci_sim* sim, mci_sim_channel* c) {
  const mci_instr* step = c->step;
  uint64_t elements = 0;
  for (unsigned k = 0; k < (unsigned)step->ndst + step->nsrc; k++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, step, k);
    mci_sim_operand* operand = &sim->operands[c->operands + k];
    operand->lane = MCI_SIM_NONE;
    if (arg.kind == MCI_LANE) {
      MCI_TRY(find_lane(sim, c, arg.peer, k < step->ndst, &operand->lane));
    } else if (elements == 0) { /* all local operands of a step are alike */
      elements = mci_layout_elements(sim->layout, sim->count, &arg);
    }
  }
  c->bytes = elements * sim->options.type_size;
  uint64_t nslices = MCI_MAX((c->bytes + sim->slice_bytes - 1) / sim->slice_bytes, (uint64_t)1);
  if (nslices > UINT32_MAX)
    MCI_FAIL(meshcclNotSupported, "a chunk of %llu messages; raise the size of messages", (unsigned long long)nslices);
  c->nslices = (uint32_t)nslices;
  c->slice = 0;
  return meshcclSuccess;
}

static bool only_sends(const mci_sim* sim, const mci_sim_channel* c) {
  const mci_sim_operand* operands = &sim->operands[c->operands];
  for (unsigned k = 0; k < c->step->ndst; k++)
    if (operands[k].lane == MCI_SIM_NONE) return false;
  for (unsigned k = c->step->ndst; k < (unsigned)c->step->ndst + c->step->nsrc; k++)
    if (operands[k].lane != MCI_SIM_NONE) return false;
  return true;
}

/* Puts the step's departures on their lanes. A step that only sends has then run all its slices. */
static meshcclResult_t push_departures(mci_sim* sim, mci_sim_channel* c) {
  bool sends = only_sends(sim, c);
  mci_sim_departure departure = {
      .bytes = c->bytes, .nslices = c->nslices, .ready = sends ? c->nslices : 0, .step = (uint32_t)c->cursor.index};
  for (unsigned k = 0; k < c->step->ndst; k++) {
    mci_sim_operand* to = &sim->operands[c->operands + k];
    if (to->lane == MCI_SIM_NONE) continue;
    MCI_TRY(mci_sim_push(sim, to->lane, departure, &to->departure));
    if (sends) MCI_TRY(mci_sim_pump(sim, to->lane));
  }
  if (sends) c->slice = c->nslices;
  return meshcclSuccess;
}

static meshcclResult_t load(mci_sim* sim, mci_sim_channel* c, bool* loaded) {
  *loaded = false;
  if (!c->step && !(c->step = mci_cursor_next(&c->cursor))) {
    c->wait = MCI_SIM_ENDED;
    sim->ended++;
    return meshcclSuccess;
  }
  bool hold;
  MCI_TRY(afters_hold(sim, c, &hold));
  if (!hold) return meshcclSuccess;
  MCI_TRY(load_operands(sim, c));
  MCI_TRY(push_departures(sim, c));
  c->loaded = *loaded = true;
  return meshcclSuccess;
}

static meshcclResult_t finish_slice(mci_sim* sim, mci_sim_channel* c) {
  const mci_instr* step = c->step;
  const mci_sim_operand* operands = &sim->operands[c->operands];
  for (unsigned k = step->ndst; k < (unsigned)step->ndst + step->nsrc; k++)
    if (operands[k].lane != MCI_SIM_NONE) MCI_TRY(mci_sim_take(sim, operands[k].lane));
  for (unsigned k = 0; k < step->ndst; k++)
    if (operands[k].lane != MCI_SIM_NONE) MCI_TRY(mci_sim_ready(sim, operands[k].lane, operands[k].departure));
  c->slice++;
  return meshcclSuccess;
}

/* Lets the rank fold the slice. *busy: an event will tell when it is done. */
static meshcclResult_t start_fold(mci_sim* sim, mci_sim_channel* c, bool* busy) {
  *busy = false;
  uint64_t bytes = MCI_MIN(c->bytes - c->slice * sim->slice_bytes, sim->slice_bytes) * (c->step->nsrc - 1u);
  if (sim->options.fold_Bps == 0 || bytes == 0) return meshcclSuccess;
  uint64_t* free_at = &sim->folder_free[c->rank];
  unsigned __int128 product = (unsigned __int128)bytes * 1000000000000u;
  *free_at = MCI_MAX(*free_at, sim->now) + (uint64_t)((product + sim->options.fold_Bps - 1) / sim->options.fold_Bps);
  *busy = true;
  c->wait = MCI_SIM_FOLDS;
  return mci_sim_at(sim, *free_at, MCI_SIM_FOLDED, (uint32_t)(c - sim->channels));
}

static void step_done(mci_sim* sim, mci_sim_channel* c) {
  c->step = NULL;
  c->loaded = false;
  c->done++;
  sim->last_ps = sim->now;
  if (sim->options.finish_ps) sim->options.finish_ps[c->rank] = sim->now;
  if (c->waiters != MCI_SIM_NONE) wake_waiters(sim, c);
}

/* Runs the channel until it must wait. */
static meshcclResult_t advance(mci_sim* sim, mci_sim_channel* c) {
  for (;;) {
    bool loaded = c->loaded, busy;
    if (!loaded) MCI_TRY(load(sim, c, &loaded));
    if (!loaded) return meshcclSuccess;
    while (c->slice < c->nslices) {
      if (!arrivals_there(sim, c)) return meshcclSuccess;
      MCI_TRY(start_fold(sim, c, &busy));
      if (busy) return meshcclSuccess;
      MCI_TRY(finish_slice(sim, c));
    }
    step_done(sim, c);
  }
}

meshcclResult_t mci_sim_folded(mci_sim* sim, uint32_t channel) {
  MCI_TRY(finish_slice(sim, &sim->channels[channel]));
  mci_sim_wake(sim, channel);
  return meshcclSuccess;
}

meshcclResult_t mci_sim_run_channels(mci_sim* sim) {
  while (sim->queue_length > 0) {
    uint32_t channel = sim->queue[sim->queue_head];
    if (++sim->queue_head == sim->nchannels) sim->queue_head = 0;
    sim->queue_length--;
    sim->channels[channel].queued = false;
    MCI_TRY(advance(sim, &sim->channels[channel]));
  }
  return meshcclSuccess;
}

meshcclResult_t mci_sim_stuck(const mci_sim* sim) {
  const mci_sim_channel* c = sim->channels;
  while (c->wait == MCI_SIM_ENDED) c++;
  if (c->wait == MCI_SIM_WAITS_AFTER)
    MCI_FAIL(meshcclInvalidUsage,
             "nothing runs any more: rank %u channel %u step %llu waits for its channel %u; "
             "verify the schedule",
             c->rank, c->id, (unsigned long long)c->done + 1, sim->channels[c->wait_for].id);
  MCI_FAIL(meshcclInvalidUsage,
           "nothing runs any more: rank %u channel %u step %llu waits for a message of rank %u; "
           "verify the schedule",
           c->rank, c->id, (unsigned long long)c->done + 1, sim->channels[sim->lanes[c->wait_for].source].rank);
}
