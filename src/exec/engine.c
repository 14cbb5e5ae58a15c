/* The progress engine: starts operations in order, runs their channels, pumps lanes, and ends operations whose memory
 * is free again. Called by src/api under the communicator's lock. */
#include "exec/engine.h"

#include <stdio.h>
#include <string.h>

#define EAGER_POLLS 4
#define EVERY_PORT_ROUNDS 16

static meshcclResult_t open_ports(mci_engine* engine) {
  const mci_engine_options* options = &engine->options;
  for (uint32_t i = 0; i < options->ntransports; i++) {
    mci_port* port = &engine->ports[engine->nports];
    port->engine = engine;
    port->index = i;
    mci_port_host(port);
    meshcclResult_t result = options->transports[i]->open(&port->host, &port->ctx);
    if (result == meshcclNotSupported) continue;
    MCI_TRY(result);
    engine->nports++;
  }
  if (engine->nports == 0)
    MCI_FAIL(meshcclNotSupported, "no transport can be used on this machine; look at MESHCCL_TRANSPORTS");
  return meshcclSuccess;
}

meshcclResult_t mci_engine_create(const mci_engine_options* options, mci_engine** out) {
  mci_engine* engine = mci_alloc(sizeof *engine);
  if (!engine) return mci_oom(sizeof *engine);
  engine->options = *options;
  engine->options.credits = MCI_MIN(options->credits, (uint32_t)MCI_MAX_CREDITS);
  engine->options.slice_bytes = options->slice_bytes / 64 * 64;
  meshcclResult_t result;
  MCI_TRY_OR(options->device->open(&engine->device_ctx), err_engine);
  MCI_TRY_OR(open_ports(engine), err_device);
  engine->frees_seen = mci_shared_frees();
  *out = engine;
  return meshcclSuccess;

err_device:
  for (uint32_t i = 0; i < engine->nports; i++)
    options->transports[engine->ports[i].index]->close(engine->ports[i].ctx);
  options->device->close(engine->device_ctx);
err_engine:
  mci_free(engine);
  return result;
}

void mci_engine_destroy(mci_engine* engine) {
  if (!engine) return;
  for (uint32_t i = 0; i < engine->npeers; i++) mci_peer_destroy(engine->peers[i]);
  for (uint32_t i = 0; i < engine->nports; i++)
    engine->options.transports[engine->ports[i].index]->close(engine->ports[i].ctx);
  for (uint32_t i = 0; i < engine->lane_slots; i++)
    if (engine->lanes[i]) mci_lane_destroy(engine->lanes[i]);
  engine->options.device->close(engine->device_ctx);
  mci_memory_fini(engine);
  mci_free(engine->lanes);
  mci_free(engine->peers);
  mci_free(engine);
}

static void finish_op(mci_engine* engine, mci_op* op, meshcclResult_t result) {
  mci_gain(&engine->finished, 1);
  mci_bounce_free_all(op);
  op->run->pins--;
  op->result = result;
  atomic_store_explicit(&op->done, 1, memory_order_release);
  op->finished(op);
}

void mci_engine_submit(mci_engine* engine, mci_op* op) {
  op->next = NULL;
  op->run->pins++;
  mci_gain(&engine->submitted, 1);
  if (engine->error != meshcclSuccess) {
    finish_op(engine, op, engine->error);
    return;
  }
  if (engine->queue_tail) {
    engine->queue_tail->next = op;
  } else {
    engine->queue_head = op;
  }
  engine->queue_tail = op;
}

void mci_engine_fetch_ahead(const mci_engine* engine) {
  for (int i = 0; i < 2; i++)
    meshcclFetchAllToWrite(atomic_load_explicit(&engine->writes_next[i].at, memory_order_relaxed),
                           atomic_load_explicit(&engine->writes_next[i].bytes, memory_order_relaxed));
}

const char* mci_op_text(const mci_op* op, char text[MCI_TEXT_BYTES]) {
  op->describe(op, text, MCI_TEXT_BYTES);
  return text;
}

mci_op* mci_engine_collective(mci_engine* engine) { return engine->collective_active ? engine->active : NULL; }

/* ---- start ---------------------------------------------------------------------------------------------------------
 */

static uint64_t vector_elements(const mci_op* op) {
  const mci_layout* layout = &op->run->program->layout;
  return layout->block_major ? op->count * layout->nblocks : op->count;
}

static void find_memory(mci_engine* engine, mci_op* op) {
  const void* buffers[2] = {op->in, op->out};
  uint64_t bytes = vector_elements(op) * op->type_size, block = op->count * op->type_size;
  op->small = bytes <= MCI_SMALL_BYTES;
  for (int i = 0; i < 2; i++) {
    op->regions[i].id = 0;
    op->host_memory[i] = engine->options.device->hostAccessible(engine->device_ctx, buffers[i]) != 0;
  }
  if (op->small) return;
  const mci_program* program = op->run->program;
  mci_coll_buffers_t used = mci_coll_buffers(program->coll, program->rank, program->root);
  for (int i = 0; i < 2; i++) {
    if (!buffers[i] || !op->host_memory[i]) continue;
    uint64_t extent = (i ? used.out_one_block : used.in_one_block) ? block : bytes;
    if (!mci_shared_find(buffers[i], extent, &op->regions[i])) op->regions[i].id = 0;
  }
}

/* Of larger vectors of the ranks of one host nothing is left in the last cache when the next operation comes: measured,
 * because virtual machines are told of caches that they share with others. */
#define CACHED_BYTES ((uint64_t)96 << 20)

/* In place the lines that are written have been read a moment before. */
static bool outgrows_caches(const mci_engine* engine, const mci_op* op) {
  const mci_program* program = op->run->program;
  mci_coll_buffers_t used = mci_coll_buffers(program->coll, program->rank, program->root);
  bool both = used.in_used && used.out_used;
  if (both && op->in == op->out) return false;
  uint64_t bytes = vector_elements(op) * op->type_size * (both ? 2 : 1), ranks = 1;
  for (uint32_t p = 0; p < engine->npeers; p++)
    ranks += (engine->peers[p]->figures.flags & MESHCCL_CAN_MAP) && engine->peers[p]->rank != engine->options.rank;
  return bytes >= CACHED_BYTES / ranks;
}

/* Up to here two ranks of a host do without slots, measured: input and output of an all-reduce, vectors of others.
 * Where others want the processors slots stay: a whole chunk waits in them, while what a peer is asked to write needs
 * both ranks to run at the same time, slice by slice. */
#define PAIR_SUMS ((uint64_t)16 << 20)
#define PAIR_COPIES ((uint64_t)32 << 20)

/* Reading by address pays while messages stay in the caches; what is folded or goes to several only between two ranks, since
 * slots are better with more. Two ranks also write to each other (channel.c), which pays longer. A send does without, so
 * that it ends before its receiver calls where slots hold all of it. */
static uint64_t fetched_bytes(const mci_engine* engine, const mci_op* op) {
  const mci_program* program = op->run->program;
  uint64_t bytes = vector_elements(op) * op->type_size;
  bool two = program->nranks == 2, pair = two && !mci_engine_keeps_apart(engine);
  switch (program->coll) {
    case MCI_SEND_RECV:
      return 0;
    case MCI_ALL_REDUCE:
      return pair && bytes * (op->in == op->out ? 1 : 2) <= PAIR_SUMS ? UINT64_MAX : 0;
    case MCI_REDUCE_SCATTER:
    case MCI_REDUCE:
      return pair ? (uint64_t)1 << 20 : two ? (uint64_t)256 << 10 : 0;
    case MCI_ALL_GATHER:
    case MCI_BROADCAST:
      return pair && bytes <= PAIR_COPIES ? UINT64_MAX : two ? (uint64_t)1 << 20 : 0;
    default:
      return (uint64_t)1 << 20;
  }
}

static void count_down(_Atomic uint32_t* counter) {
  uint32_t left = atomic_load_explicit(counter, memory_order_relaxed);
  if (left) atomic_store_explicit(counter, left - 1, memory_order_relaxed);
}

/* PreMulSum: the scaled input takes the place of the input. */
static meshcclResult_t scale_input(mci_engine* engine, mci_op* op) {
  uint64_t elements = vector_elements(op);
  if (!op->scaled || op->nparts || elements == 0) return meshcclSuccess; /* parts were scaled on the way in */
  void* room;
  MCI_TRY(mci_bounce_alloc(op, elements * op->type_size, &room));
  meshcclFold_t fold = {.destinations = &room,
                        .sources = &op->in,
                        .ndestinations = 1,
                        .nsources = 1,
                        .count = elements,
                        .type = op->type,
                        .op = op->op,
                        .scaled = 1,
                        .scale = &op->scale};
  uint64_t token;
  meshcclResult_t result = engine->options.device->fold(engine->device_ctx, &fold, &token);
  while (result == meshcclInProgress) result = engine->options.device->poll(engine->device_ctx, token);
  if (result != meshcclSuccess) return result;
  op->in = room;
  op->host_memory[0] = true;
  op->regions[0].id = 0; /* the room is not the region of the caller's input */
  return meshcclSuccess;
}

static meshcclResult_t reserve_scratch(mci_engine* engine, mci_op* op) {
  mci_run* run = op->run;
  if (run->program->nslots == 0) return meshcclSuccess;
  uint64_t bytes = mci_program_slot_elements(run->program, op->count) * op->type_size;
  run->slot_bytes = (bytes + 63) / 64 * 64;
  return run->slot_bytes ? mci_region_reserve(engine, &engine->scratch, run->slot_bytes * run->program->nslots)
                         : meshcclSuccess;
}

/* Messages that came before this operation began here must be its own. */
static meshcclResult_t check_early_arrivals(mci_engine* engine, const mci_op* op) {
  for (uint32_t i = 0; i < engine->lane_slots && engine->unconsumed; i++) {
    const mci_lane* lane = engine->lanes[i];
    if (!lane || lane->arrived == lane->consumed) continue;
    const mci_arrival* front = &lane->arrivals[lane->consumed % MCI_MAX_CREDITS];
    if (front->sequence == op->sequence && front->fingerprint != op->fingerprint)
      return mci_mismatch(engine, op, lane, front);
  }
  return meshcclSuccess;
}

static meshcclResult_t start_op(mci_engine* engine, mci_op* op) {
  mci_run* run = op->run;
  op->outstanding = 0;
  op->sequence = 0;
  if (!op->point_to_point) {
    if (++engine->sequence == 0) engine->sequence = 1;
    op->sequence = engine->sequence;
    atomic_store_explicit(&engine->last_collective, engine->sequence, memory_order_relaxed);
    engine->collective_active = true;
  }
  op->next = engine->active;
  engine->active = op;
  engine->nactive++;
  mci_gain(&engine->events, 1);
  mci_gain(&engine->started, 1);
  run->op = op;
  run->running = run->program->nchannels;
  MCI_TRY(mci_parts_gather(engine, op));
  if (MCI_UNLIKELY(engine->frees_seen != mci_shared_frees())) mci_peer_forget_freed(engine);
  find_memory(engine, op);
  if (!op->small) mci_lane_forget_shared(engine);
  op->outgrows_caches = !op->small && outgrows_caches(engine, op);
  op->fetched_bytes = op->small ? 0 : fetched_bytes(engine, op); /* small ones go by value */
  count_down(mci_engine_keeps_apart(engine) ? &engine->apart : &engine->apart_span);
  for (uint32_t c = 0; c < run->program->nchannels; c++) {
    mci_chan* chan = &run->channels[c];
    chan->phase = MCI_CHAN_LOAD;
    chan->step_pending = false;
    chan->steps_done = 0;
    chan->ntokens = 0;
    MCI_TRY(mci_brief_start(engine, run, chan));
    if (chan->phase == MCI_CHAN_LOAD) mci_cursor_start(&chan->cursor, chan->channel);
  }
  if (!op->point_to_point) MCI_TRY(check_early_arrivals(engine, op));
  MCI_TRY(scale_input(engine, op));
  return reserve_scratch(engine, op);
}

/* Collectives start alone; point to point operations start side by side, each program once at a time. */
static meshcclResult_t start_ready(mci_engine* engine) {
  mci_op** link = &engine->queue_head;
  mci_op* before = NULL;
  while (*link && !engine->collective_active) {
    mci_op* op = *link;
    if (!atomic_load_explicit(&op->ready, memory_order_acquire)) break;
    if (!op->point_to_point && (engine->nactive || link != &engine->queue_head)) break;
    if (op->run->op) {
      before = op;
      link = &op->next;
      continue;
    }
    *link = op->next;
    if (engine->queue_tail == op) engine->queue_tail = before;
    MCI_TRY(start_op(engine, op));
  }
  return meshcclSuccess;
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

static meshcclResult_t run_channels(mci_engine* engine, int* moved) {
  for (mci_op* op = engine->active; op; op = op->next) {
    mci_run* run = op->run;
    for (uint32_t c = 0; c < run->program->nchannels && run->running; c++)
      MCI_TRY(mci_chan_run(engine, run, &run->channels[c], moved));
  }
  return meshcclSuccess;
}

static meshcclResult_t pump_lanes(mci_engine* engine) {
  mci_lane* list = engine->listed;
  engine->listed = NULL;
  meshcclResult_t result = meshcclSuccess;
  while (list) {
    mci_lane* lane = list;
    list = lane->next_listed;
    lane->listed = false;
    if (result == meshcclSuccess) result = mci_lane_pump(lane);
  }
  return result;
}

static meshcclResult_t finish_ready(mci_engine* engine, int* moved) {
  for (mci_op** link = &engine->active; *link;) {
    mci_op* op = *link;
    if (op->run->running || op->outstanding) {
      link = &op->next;
      continue;
    }
    if (op->nparts) MCI_TRY(mci_parts_scatter(engine, op));
    *link = op->next;
    engine->nactive--;
    op->run->op = NULL;
    if (!op->point_to_point) engine->collective_active = false;
    finish_op(engine, op, meshcclSuccess);
    ++*moved;
  }
  return meshcclSuccess;
}

static meshcclResult_t advance(mci_engine* engine, int* moved) {
  if (MCI_UNLIKELY(engine->hellos_owed)) MCI_TRY(mci_peer_greet(engine));
  MCI_TRY(start_ready(engine));
  MCI_TRY(run_channels(engine, moved));
  int before = *moved;
  MCI_TRY(finish_ready(engine, moved));
  engine->callers_first = *moved > before;
  meshcclResult_t result = engine->listed ? pump_lanes(engine) : meshcclSuccess;
  MCI_TRY(result);
  if (!engine->callers_first) MCI_TRY(finish_ready(engine, moved));
  engine->callers_first = false;
  return engine->error;
}

bool mci_engine_idle(const mci_engine* engine) {
  return !engine->queue_head && !engine->active && !engine->listed && !engine->references && !engine->unheard;
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

/* Device work under way still writes to buffers: it must end before they are the caller's again. */
static void drain_device(mci_engine* engine, mci_run* run) {
  for (uint32_t c = 0; c < run->program->nchannels; c++) {
    mci_chan* chan = &run->channels[c];
    for (; chan->ntokens > 0; chan->ntokens--)
      while (engine->options.device->poll(engine->device_ctx, chan->tokens[chan->ntokens - 1]) == meshcclInProgress)
        mci_cpu_relax();
  }
}

static void drop_departures(mci_engine* engine) {
  for (uint32_t i = 0; i < engine->lane_slots; i++) {
    mci_lane* lane = engine->lanes[i];
    if (!lane) continue;
    for (uint64_t k = lane->head; k < lane->tail; k++) {
      mci_departure* d = mci_lane_departure(lane, k);
      while (d->copying && engine->options.device->poll(engine->device_ctx, d->token) == meshcclInProgress)
        mci_cpu_relax();
    }
    lane->head = lane->tail;
    memset(lane->in_flight, 0, sizeof lane->in_flight);
    lane->references = lane->asks = 0;
    lane->listed = false;
  }
  engine->listed = NULL;
  engine->references = 0;
}

/* Ends everything queued and running with the sticky error. */
static void end_all(mci_engine* engine) {
  meshcclResult_t result = engine->error;
  drop_departures(engine);
  mci_peer_refuse_puts(engine);
  mci_op *active = engine->active, *queued = engine->queue_head;
  engine->active = engine->queue_head = engine->queue_tail = NULL;
  engine->nactive = 0;
  engine->collective_active = false;
  while (active) {
    mci_op* next = active->next;
    drain_device(engine, active->run);
    active->run->op = NULL;
    finish_op(engine, active, result);
    active = next;
  }
  while (queued) {
    mci_op* next = queued->next;
    finish_op(engine, queued, result);
    queued = next;
  }
}

/* Inside progress the operations are still being walked: they end when that is over. */
void mci_engine_fail(mci_engine* engine, meshcclResult_t result, const char* text) {
  if (engine->error != meshcclSuccess) return;
  engine->error = result;
  snprintf(engine->error_text, sizeof engine->error_text, "%s", text);
  if (!engine->in_progress) end_all(engine);
}

bool mci_engine_hold(mci_engine* engine, meshcclResult_t result, const char* text) {
  if (engine->options.grace_ns == 0 || result != meshcclRemoteError) return false;
  if (engine->held == meshcclSuccess) engine->held_since_ns = mci_now_ns();
  engine->held = result;
  if (!engine->held_text[0]) snprintf(engine->held_text, sizeof engine->held_text, "%s", text);
  return true;
}

/* Nobody has said why the connection broke: that it did is the cause then. */
static void report_held(mci_engine* engine) {
  if (mci_now_ns() - engine->held_since_ns < engine->options.grace_ns) return;
  const char* text = engine->held_text[0] ? engine->held_text : "what was under way to or from a peer is lost";
  mci_fail(engine->held, "%s", text);
  engine->options.host.report(engine->options.host.self, engine->held, text);
  mci_engine_fail(engine, engine->held, text);
}

meshcclResult_t mci_engine_error(const mci_engine* engine, const char** text) {
  *text = engine->error_text;
  return engine->error;
}

void mci_engine_explain(const mci_engine* engine, mci_str* out) {
  char what[MCI_TEXT_BYTES];
  if (!engine->active) {
    mci_str_add(out, "rank %u runs nothing after operation %u", engine->options.rank, engine->sequence);
    for (uint32_t i = 0; i < engine->lane_slots; i++)
      if (engine->lanes[i] && engine->lanes[i]->references)
        mci_str_add(out, "; rank %u has not taken what it was sent on channel %u", engine->lanes[i]->peer->rank,
                    engine->lanes[i]->channel);
  }
  for (const mci_op* op = engine->active; op; op = op->next) {
    mci_str_add(out, "%srank %u, operation %u: %s", op == engine->active ? "" : "; ", engine->options.rank,
                op->sequence, mci_op_text(op, what));
    for (uint32_t c = 0; c < op->run->program->nchannels && c < 4; c++)
      mci_chan_explain(engine, &op->run->channels[c], out);
    if (op->run->running == 0) mci_str_add(out, "; waits for %u sends to be taken", op->outstanding);
  }
}

void mci_engine_watch(mci_engine* engine, uint64_t now_ns, bool flushing) {
  bool waits = engine->active || (flushing && (engine->references || engine->unheard));
  uint64_t events = mci_read(&engine->events);
  if (!waits || events != engine->events_seen) {
    engine->events_seen = events;
    engine->events_since_ns = now_ns;
  }
  mci_engine_publish(engine, now_ns, MCI_PUBLISH_IDLE_NS);
  uint64_t still_ns = now_ns - engine->events_since_ns;
  if (!waits || engine->error != meshcclSuccess || still_ns < mci_stall_look_ns(engine->options.stall_ns)) return;
  if (engine->options.host.stalled && engine->options.host.stalled(engine->options.host.self, now_ns, still_ns)) return;
  if (still_ns < engine->options.stall_ns) return;
  mci_str text = {0};
  mci_str_add(&text, "no progress for %.1f s (MESHCCL_OP_TIMEOUT): ", (double)engine->options.stall_ns / 1e9);
  mci_engine_explain(engine, &text);
  const char* message = text.text ? text.text : "no progress";
  mci_fail(meshcclTimeout, "%s", message);
  engine->options.host.report(engine->options.host.self, meshcclTimeout, message);
  mci_engine_fail(engine, meshcclTimeout, message);
  mci_str_fini(&text);
}

static int poll_port(const mci_port* port) {
  return port->engine->options.transports[port->index]->progress(port->ctx);
}

/* Whether all that could happen now is a message for the brief channel under way. */
bool mci_engine_only_waits(const mci_engine* engine) {
  if (!engine->collective_active || engine->listed || engine->hellos_owed) return false;
  const mci_run* run = engine->active->run;
  return run->running == 1 && run->program->nchannels == 1 && run->channels[0].phase == MCI_CHAN_BRIEF;
}

#define LEAST_APART 16u
#define MOST_APART 1024u

/* One interruption says little; one more soon after it, that they will go on. */
void mci_engine_interrupted(mci_engine* engine) {
  uint32_t span = atomic_load_explicit(&engine->apart_span, memory_order_relaxed);
  if (!mci_engine_keeps_apart(engine)) span = MCI_MIN(2 * span + LEAST_APART, MOST_APART);
  atomic_store_explicit(&engine->apart_span, span, memory_order_relaxed);
  atomic_store_explicit(&engine->apart, span, memory_order_relaxed);
}

void mci_engine_hurry(mci_engine* engine, bool hurries) {
  atomic_store_explicit(&engine->hurries, hurries, memory_order_relaxed);
}

/* All transports; but first the one that a brief channel waits for, a few times, or once where the sender may need this
 * processor. Often that is enough. */
static int poll_ports(mci_engine* engine) {
  bool hurries = atomic_load_explicit(&engine->hurries, memory_order_relaxed);
  int events = 0, polls = hurries ? 1 : EAGER_POLLS;
  const mci_peer* awaited =
      mci_engine_only_waits(engine) ? mci_brief_waits_for(&engine->active->run->channels[0]) : NULL;
  if (awaited && !awaited->ep) awaited = NULL;
  if (awaited)
    for (int i = 0; i < polls && events == 0; i++) events = poll_port(&engine->ports[awaited->transport]);
  if ((events || (awaited && hurries)) && ++engine->short_rounds % EVERY_PORT_ROUNDS != 0) return events;
  for (uint32_t i = 0; i < engine->nports; i++) events += poll_port(&engine->ports[i]);
  return events;
}

/* Those that have to send what is awaited now may need this processor for it: they get it without a look for what has come. */
static bool others_first(const mci_engine* engine) {
  return atomic_load_explicit(&engine->hurries, memory_order_relaxed) && mci_engine_only_waits(engine) &&
         mci_brief_gives_way(&engine->active->run->channels[0]);
}

int mci_engine_progress(mci_engine* engine) {
  int moved = 0;
  if (MCI_UNLIKELY(engine->held != meshcclSuccess && engine->error == meshcclSuccess)) report_held(engine);
  if (engine->error != meshcclSuccess) return 0;
  engine->in_progress = true;
  /* What a new operation sends need not wait until all transports were asked. */
  uint64_t started = mci_read(&engine->started);
  meshcclResult_t result = engine->queue_head ? advance(engine, &moved) : meshcclSuccess;
  bool settled = moved > 0 && engine->settled && !engine->active && !engine->queue_head && !engine->listed;
  if (result == meshcclSuccess && !settled) {
    bool fresh = started != mci_read(&engine->started);
    int events = fresh && others_first(engine) ? 0 : poll_ports(engine);
    moved += events;
    result = engine->error;
    if (result == meshcclSuccess && (events || !mci_engine_only_waits(engine))) result = advance(engine, &moved);
  }
  if (result != meshcclSuccess && engine->error == meshcclSuccess) {
    char text[sizeof engine->error_text];
    snprintf(text, sizeof text, "%s", mci_error_last());
    engine->options.host.report(engine->options.host.self, result, text);
    mci_engine_fail(engine, result, text);
  }
  engine->in_progress = false;
  if (engine->error != meshcclSuccess) end_all(engine);
  return moved;
}

/* ---- sleep and statistics ---------------------------------------------------------------------------------------- */

uint32_t mci_engine_wait_handles(mci_engine* engine, int* fds, uint32_t cap, uint32_t* poll_us, bool* busy) {
  uint32_t n = 0;
  *busy = engine->listed != NULL;
  for (uint32_t i = 0; i < engine->nports; i++) {
    const meshcclTransport_t* transport = engine->options.transports[engine->ports[i].index];
    int fd = -1;
    uint32_t wait_us = 1000;
    if (transport->waitHandle(engine->ports[i].ctx, &fd, &wait_us) == meshcclSuccess && fd >= 0 && n < cap) {
      if (transport->arm(engine->ports[i].ctx) == meshcclBusy) *busy = true;
      fds[n++] = fd;
    } else {
      *poll_us = MCI_MIN(*poll_us, wait_us);
    }
  }
  return n;
}

mci_engine_stats mci_engine_get_stats(const mci_engine* engine) {
  mci_engine_stats stats = engine->stats;
  stats.operations = mci_read(&engine->started);
  stats.bytes_sent = mci_read(&engine->bytes_sent);
  stats.bytes_received = mci_read(&engine->bytes_received);
  return stats;
}
