/* Messages on links: which waits where, which goes next, how long it takes, and where it arrives. Also keeps, per link,
 * why it was idle. */
#include "topo/sim/state.h"

/* ---- links by their number ---- */
static uint32_t slot_of(const mci_sim* sim, uint64_t id) {
  uint32_t at = (uint32_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (sim->link_slots - 1);
  while (sim->link_table[at] != MCI_SIM_NONE && sim->links[sim->link_table[at]].id != id)
    at = (at + 1) & (sim->link_slots - 1);
  return at;
}

static meshcclResult_t grow_table(mci_sim* sim) {
  uint32_t slots = MCI_MAX(64u, sim->link_slots * 2);
  uint32_t* table = mci_alloc(slots * sizeof *table);
  if (!table) return mci_oom(slots * sizeof *table);
  for (uint32_t i = 0; i < slots; i++) table[i] = MCI_SIM_NONE;
  mci_free(sim->link_table);
  sim->link_table = table;
  sim->link_slots = slots;
  for (uint32_t i = 0; i < sim->nlinks; i++) table[slot_of(sim, sim->links[i].id)] = i;
  return meshcclSuccess;
}

meshcclResult_t mci_sim_link_of(mci_sim* sim, const mci_hop* hop, uint32_t* out) {
  if (2 * sim->nlinks >= sim->link_slots) MCI_TRY(grow_table(sim));
  uint32_t at = slot_of(sim, hop->id);
  if (sim->link_table[at] == MCI_SIM_NONE) {
    MCI_TRY(mci_grow(&sim->links, sizeof *sim->links, &sim->cap_links, (size_t)sim->nlinks + 1));
    MCI_TRY(mci_grow(&sim->dirty, sizeof *sim->dirty, &sim->cap_dirty, (size_t)sim->nlinks + 1));
    mci_sim_link* link = &sim->links[sim->nlinks];
    *link = (mci_sim_link){.id = hop->id, .figures = hop->link, .port = hop->port, .delivers = MCI_SIM_NONE};
    link->timed_bytes = UINT64_MAX;
    if (sim->options.set_lat && !hop->port) link->figures.lat_ps = sim->options.lat_ps;
    if (sim->options.set_cost) link->figures.cost_ps = sim->options.cost_ps;
    sim->link_table[at] = sim->nlinks++;
  }
  *out = sim->link_table[at];
  return meshcclSuccess;
}

/* ---- the queue of a link ---- */
static bool before(const mci_sim_waiting* a, const mci_sim_waiting* b) {
  return a->key != b->key ? a->key < b->key : a->tie < b->tie;
}

static void insert(mci_sim_link* link, mci_sim_waiting entry) {
  mci_sim_waiting* heap = link->queue;
  uint32_t place = link->nqueue++;
  for (; place > 0; place = (place - 1) / 2) {
    uint32_t parent = (place - 1) / 2;
    if (!before(&entry, &heap[parent])) break;
    heap[place] = heap[parent];
  }
  heap[place] = entry;
}

static uint32_t remove_first(mci_sim_link* link) {
  mci_sim_waiting* heap = link->queue;
  uint32_t first = heap[0].message, n = --link->nqueue, place = 0;
  mci_sim_waiting last = heap[n];
  for (uint32_t child; (child = 2 * place + 1) < n; place = child) {
    if (child + 1 < n && before(&heap[child + 1], &heap[child])) child++;
    if (!before(&heap[child], &last)) break;
    heap[place] = heap[child];
  }
  heap[place] = last;
  return first;
}

static uint64_t key_of(const mci_sim* sim, const mci_sim_message* message, const mci_sim_channel* source) {
  switch (sim->options.order) {
    case MCI_SIM_PROGRAM:
      return (uint64_t)source->id << 32 | message->step;
    case MCI_SIM_PROGRESS:
      return (uint64_t)(((unsigned __int128)message->step << 32) / source->total);
    default:
      return sim->now;
  }
}

static void mark_dirty(mci_sim* sim, uint32_t index) {
  mci_sim_link* link = &sim->links[index];
  if (link->dirty || link->busy) return;
  link->dirty = true;
  sim->dirty[sim->ndirty++] = index;
}

/* The message waits at the link of its hop. */
static meshcclResult_t wait_at_link(mci_sim* sim, uint32_t index) {
  mci_sim_message* message = &sim->messages[index];
  const mci_sim_lane* lane = &sim->lanes[message->lane];
  const mci_sim_channel* source = &sim->channels[lane->source];
  uint32_t number = sim->hops[lane->hops + message->hop];
  mci_sim_link* link = &sim->links[number];
  if (MCI_UNLIKELY(link->nqueue == link->cap_queue))
    MCI_TRY(mci_grow(&link->queue, sizeof *link->queue, &link->cap_queue, (size_t)link->nqueue + 1));
  insert(link, (mci_sim_waiting){.key = key_of(sim, message, source),
                                 .tie = (uint64_t)source->id << 48 | link->sequence++,
                                 .message = index});
  sim->max_queue = MCI_MAX(sim->max_queue, link->nqueue);
  mark_dirty(sim, number);
  return meshcclSuccess;
}

meshcclResult_t mci_sim_send(mci_sim* sim, uint32_t lane, uint32_t step, uint64_t bytes) {
  uint32_t index = sim->free_message;
  if (index != MCI_SIM_NONE) {
    sim->free_message = sim->messages[index].next_free;
  } else {
    index = sim->nmessages;
    if (index >> MCI_SIM_INDEX_BITS) MCI_FAIL(meshcclNotSupported, "more than %u messages are under way", index);
    MCI_TRY(mci_grow(&sim->messages, sizeof *sim->messages, &sim->cap_messages, (size_t)index + 1));
    sim->nmessages++;
  }
  sim->messages[index] = (mci_sim_message){.lane = lane, .step = step, .bytes = bytes, .tail = sim->now};
  sim->messages_sent++;
  return sim->lanes[lane].nhops ? wait_at_link(sim, index) : mci_sim_arrive(sim, index);
}

meshcclResult_t mci_sim_arrive(mci_sim* sim, uint32_t index) {
  mci_sim_message* message = &sim->messages[index];
  mci_sim_lane* lane = &sim->lanes[message->lane];
  if (message->hop < lane->nhops) return wait_at_link(sim, index);
  message->next_free = sim->free_message;
  sim->free_message = index;
  lane->arrived++;
  const mci_sim_channel* target = &sim->channels[lane->target];
  if (target->wait == MCI_SIM_WAITS_LANE && target->wait_for == message->lane) mci_sim_wake(sim, lane->target);
  return meshcclSuccess;
}

/* ---- service ---- */
void mci_sim_account(mci_sim* sim, mci_sim_link* link) {
  if (link->busy) return;
  uint64_t idle = sim->now - link->mark;
  link->mark = sim->now;
  if (link->lacking) {
    link->credit_ps += idle;
  } else if (link->started) {
    link->starved_ps += idle;
  } else {
    link->fill_ps += idle;
  }
}

static uint64_t occupation(mci_sim_link* link, uint64_t bytes) {
  if (link->timed_bytes != bytes) {
    unsigned __int128 product = (unsigned __int128)bytes * 1000000000000u;
    link->timed_bytes = bytes;
    link->timed_ps = link->figures.cost_ps + (uint64_t)((product + link->figures.bw_Bps - 1) / link->figures.bw_Bps);
  }
  return link->timed_ps;
}

static void report_span(const mci_sim* sim, const mci_sim_link* link, const mci_sim_message* message, uint64_t end) {
  const mci_sim_lane* lane = &sim->lanes[message->lane];
  mci_sim_span span = {.start_ps = sim->now,
                       .end_ps = end,
                       .link = link->id,
                       .source = sim->channels[lane->source].rank,
                       .target = sim->channels[lane->target].rank,
                       .channel = (uint16_t)sim->channels[lane->source].id,
                       .step = message->step,
                       .hop = message->hop,
                       .bytes = message->bytes};
  sim->options.trace(sim->options.trace_arg, &span);
}

static meshcclResult_t begin(mci_sim* sim, uint32_t number) {
  mci_sim_link* link = &sim->links[number];
  uint32_t index = remove_first(link);
  mci_sim_message* message = &sim->messages[index];
  uint64_t end = sim->now + occupation(link, message->bytes), lat = link->figures.lat_ps;
  end = MCI_MAX(end, message->tail);
  mci_sim_account(sim, link);
  link->busy = link->started = true;
  link->busy_ps += end - sim->now;
  sim->bytes_carried += message->bytes;
  if (sim->options.trace) report_span(sim, link, message, end);
  bool last = ++message->hop == sim->lanes[message->lane].nhops;
  bool cut = (sim->options.cut_through && !last) || link->port;
  if (cut) message->tail = end + lat;
  link->delivers = !cut && lat == 0 ? index : MCI_SIM_NONE;
  if (link->delivers == MCI_SIM_NONE) MCI_TRY(mci_sim_at(sim, (cut ? sim->now : end) + lat, MCI_SIM_ARRIVES, index));
  return mci_sim_at(sim, end, MCI_SIM_LINK_FREE, number);
}

meshcclResult_t mci_sim_link_free(mci_sim* sim, uint32_t number) {
  mci_sim_link* link = &sim->links[number];
  uint32_t delivers = link->delivers;
  link->busy = false;
  link->mark = sim->now;
  if (link->nqueue) mark_dirty(sim, number);
  return delivers == MCI_SIM_NONE ? meshcclSuccess : mci_sim_arrive(sim, delivers);
}

meshcclResult_t mci_sim_serve(mci_sim* sim) {
  for (uint32_t i = 0; i < sim->ndirty; i++) {
    sim->links[sim->dirty[i]].dirty = false;
    MCI_TRY(begin(sim, sim->dirty[i]));
  }
  sim->ndirty = 0;
  return meshcclSuccess;
}
