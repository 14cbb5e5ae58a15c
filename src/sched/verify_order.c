/* Runs all channels of all ranks against each other, one step at a time, and keeps for every step what is known to have
 * run before it (vector clocks over channels).
 *
 * The programs are a network of sequential processes that wait for named events only, so every execution makes the same
 * steps with the same messages: one run shows all of them. Credits do not enter: a step never waits for them, and a
 * departure that waits for the credit of message k - C waits for a step that comes before the taker of k anyway. */
#include <string.h>

#include "sched/verify.h"

static void enqueue(mci_verifier* v, uint32_t channel) {
  mci_verify_channel* c = &v->channels[channel];
  if (c->queued || c->wait == MCI_ENDED) return;
  c->queued = true;
  v->queue[(v->queue_head + v->queue_length++) % v->nchannels] = channel;
}

/* Whether the step of c can run; else c waits for the first thing that is missing. */
static meshcclResult_t ready(mci_verifier* v, uint32_t channel, bool* out) {
  mci_verify_channel* c = &v->channels[channel];
  *out = false;
  for (uint32_t k = 0; k < c->step->nafter; k++) {
    uint16_t id;
    uint32_t count = (uint32_t)mci_cursor_after(&c->cursor, c->step, k, &id);
    uint32_t other = mci_verify_find_channel(v, c->rank, id);
    if (v->channels[other].done >= count) continue;
    c->wait = MCI_WAITS_AFTER;
    c->wait_for = other;
    c->wait_count = count;
    c->next_waiter = v->channels[other].waiters;
    v->channels[other].waiters = channel + 1;
    return meshcclSuccess;
  }
  for (uint32_t k = 0; k < c->step->nsrc; k++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, c->step, c->step->ndst + k);
    if (arg.kind != MCI_LANE) continue;
    uint32_t lane, wanted = 1;
    MCI_TRY(mci_verify_lane_of(v, mci_verify_find_channel(v, arg.peer, c->channel->id), c->rank, &lane));
    for (uint32_t i = 0; i < k; i++) {
      mci_arg before = mci_cursor_arg(&c->cursor, c->step, c->step->ndst + i);
      wanted += before.kind == MCI_LANE && before.peer == arg.peer;
    }
    if (v->lanes[lane].sent - v->lanes[lane].taken >= wanted) continue;
    c->wait = MCI_WAITS_LANE;
    c->wait_for = lane;
    return meshcclSuccess;
  }
  c->wait = MCI_RUNS;
  *out = true;
  return meshcclSuccess;
}

static meshcclResult_t take_arrivals(mci_verifier* v, uint32_t* depth) {
  mci_verify_channel* c = v->now;
  v->narrivals = 0;
  for (uint32_t k = 0; k < c->step->nsrc; k++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, c->step, c->step->ndst + k);
    if (arg.kind != MCI_LANE) continue;
    uint32_t index;
    MCI_TRY(mci_verify_lane_of(v, mci_verify_find_channel(v, arg.peer, c->channel->id), c->rank, &index));
    MCI_TRY(mci_grow(&v->arrivals, sizeof *v->arrivals, &v->cap_arrivals, (size_t)v->narrivals + 1));
    mci_verify_lane* lane = &v->lanes[index];
    MCI_TRY(mci_grow(&lane->taken_by, sizeof *lane->taken_by, &lane->cap_taken, (size_t)lane->taken + 1));
    lane->taken_by[lane->taken] = c->done + 1;
    v->arrivals[v->narrivals++] = lane->messages[lane->taken++ & (lane->cap_messages - 1)];
    *depth = MCI_MAX(*depth, v->arrivals[v->narrivals - 1].depth + 1);
  }
  return meshcclSuccess;
}

/* What is known when the step begins (v->start) and when it has run (v->complete), itself left out. */
static meshcclResult_t set_clocks(mci_verifier* v, uint32_t* depth) {
  mci_verify_channel* c = v->now;
  for (uint32_t k = 0; k < c->step->nafter; k++) {
    uint16_t id;
    uint32_t count = (uint32_t)mci_cursor_after(&c->cursor, c->step, k, &id);
    if (count == 0) continue;
    uint32_t other = mci_verify_find_channel(v, c->rank, id);
    mci_mark* mark = mci_verify_find_mark(v, other, count);
    MCI_TRY(mci_clock_learn(v, &v->start, mark->clock, other, count, count));
    *depth = MCI_MAX(*depth, mark->depth);
    if (--mark->uses) continue;
    mci_clock_drop(v, mark->clock);
    mark->clock = NULL;
  }
  for (uint32_t i = 0; i < v->narrivals; i++) {
    const mci_message* m = &v->arrivals[i];
    MCI_TRY(mci_clock_learn(v, &v->start, m->start, m->channel, m->step, m->step + 1));
  }
  v->complete = mci_clock_hold(v->start);
  for (uint32_t i = 0; i < v->narrivals; i++) {
    const mci_message* m = &v->arrivals[i];
    MCI_TRY(mci_clock_learn(v, &v->complete, m->complete, m->channel, m->step + 1, m->step + 1));
  }
  return meshcclSuccess;
}

static meshcclResult_t send_all(mci_verifier* v, uint32_t cells, mci_size size, uint32_t depth) {
  mci_verify_channel* c = v->now;
  mci_load* load = NULL;
  meshcclResult_t result = meshcclSuccess;
  for (uint32_t k = 0; k < c->step->ndst && result == meshcclSuccess; k++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, c->step, k);
    if (arg.kind != MCI_LANE) continue;
    if (!load) {
      load = mci_alloc(sizeof *load + cells * sizeof *load->values);
      if (!load) return mci_oom(cells * sizeof *load->values);
      memcpy(load->values, v->values, cells * sizeof *load->values);
      load->refs = 1;
    }
    uint32_t lane;
    result = mci_verify_lane_of(v, v->now_channel, arg.peer, &lane);
    mci_message message = {load, cells, size, v->now_channel, c->done, depth, v->start, v->complete};
    if (result == meshcclSuccess) result = mci_message_push(v, &v->lanes[lane], message);
    if (result != meshcclSuccess) break;
    const mci_verify_channel* target = &v->channels[v->lanes[lane].target];
    if (target->wait == MCI_WAITS_LANE && target->wait_for == lane) enqueue(v, v->lanes[lane].target);
  }
  if (load && --load->refs == 0) mci_free(load);
  return result;
}

/* The step has run: those who wait for the count go on, and a mark keeps what is known here. */
static void advance(mci_verifier* v) {
  mci_verify_channel* c = v->now;
  c->done++;
  if (c->wanted < c->wanted_end && v->marks[c->wanted].count == c->done) {
    v->marks[c->wanted].clock = mci_clock_hold(c->known);
    v->marks[c->wanted++].depth = c->depth;
  }
  uint32_t waiter = c->waiters;
  c->waiters = 0;
  while (waiter) {
    mci_verify_channel* w = &v->channels[waiter - 1];
    uint32_t next = w->next_waiter;
    if (w->wait_count <= c->done) {
      enqueue(v, waiter - 1);
    } else {
      w->next_waiter = c->waiters;
      c->waiters = waiter;
    }
    waiter = next;
  }
  c->step = mci_cursor_next(&c->cursor);
  if (!c->step) c->wait = MCI_ENDED;
}

static meshcclResult_t run_step(mci_verifier* v, uint32_t channel) {
  mci_verify_channel* c = v->now = &v->channels[channel];
  uint32_t depth = c->depth, cells = 0;
  mci_size size = {0};
  v->now_channel = channel;
  meshcclResult_t result = take_arrivals(v, &depth);
  v->start = mci_clock_hold(c->known);
  v->complete = NULL;
  if (result == meshcclSuccess) result = set_clocks(v, &depth);
  if (result == meshcclSuccess) result = mci_verify_step(v, &cells, &size);
  if (result == meshcclSuccess) result = send_all(v, cells, size, depth);
  for (uint32_t i = 0; i < v->narrivals; i++) mci_message_drop(v, &v->arrivals[i]);
  mci_clock_drop(v, v->start);
  if (result == meshcclSuccess) {
    mci_clock_drop(v, c->known);
    c->known = v->complete;
    c->depth = depth;
    v->depth = MCI_MAX(v->depth, depth);
    advance(v);
  } else {
    mci_clock_drop(v, v->complete);
  }
  return result;
}

static meshcclResult_t nothing_left(mci_verifier* v) {
  for (uint32_t i = 0; i < v->nlanes; i++) {
    const mci_verify_lane* lane = &v->lanes[i];
    if (lane->sent == lane->taken) continue;
    const mci_verify_channel *from = &v->channels[lane->source], *to = &v->channels[lane->target];
    MCI_FAIL(meshcclInvalidUsage,
             "rank %u takes only %u of the %u messages that rank %u sends it on channel %u; the first left over is of "
             "step %u",
             to->rank, lane->taken, lane->sent, from->rank, from->channel->id,
             lane->messages[lane->taken & (lane->cap_messages - 1)].step + 1);
  }
  return meshcclSuccess;
}

meshcclResult_t mci_verify_run(mci_verifier* v) {
  for (uint32_t i = 0; i < v->nchannels; i++) {
    mci_verify_channel* c = &v->channels[i];
    c->step = mci_cursor_next(&c->cursor);
    c->wait = c->step ? MCI_RUNS : MCI_ENDED;
    enqueue(v, i);
  }
  while (v->queue_length) {
    uint32_t channel = v->queue[v->queue_head];
    v->queue_head = (v->queue_head + 1) % v->nchannels;
    v->queue_length--;
    v->channels[channel].queued = false;
    bool can;
    MCI_TRY(ready(v, channel, &can));
    if (!can) continue;
    MCI_TRY(run_step(v, channel));
    enqueue(v, channel);
  }
  for (uint32_t i = 0; i < v->nchannels; i++)
    if (v->channels[i].wait != MCI_ENDED) return mci_verify_stuck(v);
  return nothing_left(v);
}

meshcclResult_t mci_verify_order_init(mci_verifier* v) {
  mci_verify_sort_marks(v);
  v->queue = mci_alloc(v->nchannels * sizeof *v->queue);
  mci_clock* nothing = mci_clock_new(v); /* fresh memory: all zero */
  if (!v->queue || !nothing) {
    mci_free(nothing);
    return mci_oom(v->nchannels * sizeof *v->queue);
  }
  for (uint32_t i = 0; i < v->nchannels; i++) v->channels[i].known = mci_clock_hold(nothing);
  mci_clock_drop(v, nothing);
  return meshcclSuccess;
}

void mci_verify_order_fini(mci_verifier* v) {
  for (uint32_t i = 0; i < v->nlanes; i++) {
    mci_verify_lane* lane = &v->lanes[i];
    for (uint32_t k = lane->taken; k != lane->sent; k++)
      mci_message_drop(v, &lane->messages[k & (lane->cap_messages - 1)]);
    mci_free(lane->messages);
    mci_free(lane->taken_by);
  }
  for (uint32_t i = 0; i < v->nmarks; i++) mci_clock_drop(v, v->marks[i].clock);
  for (uint32_t i = 0; i < v->nchannels && v->channels; i++) mci_clock_drop(v, v->channels[i].known);
  for (mci_clock* clock = v->free_clocks; clock;) {
    mci_clock* next = clock->next_free;
    mci_free(clock);
    clock = next;
  }
  mci_free(v->lanes);
  mci_free(v->lane_table);
  mci_free(v->marks);
  mci_free(v->queue);
}
