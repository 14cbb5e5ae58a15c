/* Runs the steps of one channel: loads a step, waits for what it needs, folds it slice by slice and hands its
 * departures to the lanes. A channel never waits for credits (see src/sched/sched.h). Called by the engine. */
#include <string.h>

#include "exec/engine.h"

static bool is_local(const mci_arg* arg) { return arg->kind != MCI_LANE; }

static bool afters_hold(const mci_run* run, const mci_chan* chan) {
  for (unsigned k = 0; k < chan->step->nafter; k++) {
    uint16_t id;
    uint64_t count = mci_cursor_after(&chan->cursor, chan->step, k, &id);
    for (uint32_t c = 0; c < run->program->nchannels; c++)
      if (run->channels[c].channel->id == id && run->channels[c].steps_done < count) return false;
  }
  return true;
}

/* Base address, whether the buffer holds one block only, and the number that departures carry for it. */
static void* buffer_of(const mci_engine* engine, const mci_run* run, const mci_arg* arg, int64_t* one_block,
                       uint8_t* number) {
  const mci_program* program = run->program;
  const mci_op* op = run->op;
  mci_coll_buffers_t buffers = mci_coll_buffers(program->coll, program->rank, program->root);
  *one_block = -1;
  if (arg->kind == MCI_TMP) {
    *number = 2;
    return (char*)engine->scratch.base + arg->slot * run->slot_bytes;
  }
  bool input = arg->kind == MCI_IN;
  if (input ? buffers.in_one_block : buffers.out_one_block) *one_block = program->rank;
  *number = input ? 0 : 1;
  return input ? (void*)(uintptr_t)op->in : op->out;
}

static meshcclResult_t load_operands(mci_engine* engine, mci_run* run, mci_chan* chan) {
  const mci_instr* step = chan->step;
  const mci_arg* extent = NULL;
  for (unsigned k = 0; k < (unsigned)step->ndst + step->nsrc; k++) {
    mci_operand_state* operand = &chan->operands[k];
    operand->arg = mci_cursor_arg(&chan->cursor, step, k);
    if (!is_local(&operand->arg)) {
      MCI_TRY(mci_lane_get(engine, operand->arg.peer, chan->channel->id, &operand->lane));
      continue;
    }
    int64_t one_block;
    uint8_t number;
    void* base = buffer_of(engine, run, &operand->arg, &one_block, &number);
    mci_view_start(&operand->view, &run->program->layout, run->op->count, &operand->arg, one_block, base,
                   run->op->type_size);
    extent = &operand->arg;
  }
  chan->elements = mci_layout_elements(&run->program->layout, run->op->count, extent);
  uint64_t per_slice = mci_slice_elements(engine, run->op);
  chan->nslices = (uint32_t)MCI_MAX((chan->elements + per_slice - 1) / per_slice, (uint64_t)1);
  chan->slice = 0;
  return meshcclSuccess;
}

/* The local operand that departures of this step leave from: a local destination, else the only source. */
static mci_operand_state* departs_from(mci_chan* chan) {
  for (unsigned k = 0; k < chan->step->ndst; k++)
    if (is_local(&chan->operands[k].arg)) return &chan->operands[k];
  return &chan->operands[chan->step->ndst];
}

static meshcclResult_t push_departures(mci_run* run, mci_chan* chan) {
  const mci_operand_state* from = departs_from(chan);
  uint8_t number = from->arg.kind == MCI_TMP ? 2 : from->arg.kind == MCI_IN ? 0 : 1;
  chan->is_send = true;
  for (unsigned k = 0; k < chan->step->ndst; k++) {
    mci_operand_state* to = &chan->operands[k];
    if (is_local(&to->arg)) {
      chan->is_send = false;
      continue;
    }
    MCI_TRY(mci_lane_push(to->lane, run->op, &from->view, number, chan->elements, chan->nslices, &to->departure));
    to->room = NULL;
    if (to->arg.flags & MCI_COPY) mci_lane_departure(to->lane, to->departure)->no_lend = true;
  }
  return meshcclSuccess;
}

static meshcclResult_t note_token(const mci_engine* engine, mci_chan* chan, meshcclResult_t result, uint64_t token) {
  if (result != meshcclInProgress) return result;
  result = mci_grow(&chan->tokens, sizeof *chan->tokens, &chan->cap_tokens, (size_t)chan->ntokens + 1);
  if (result == meshcclSuccess) {
    chan->tokens[chan->ntokens++] = token;
  } else { /* nobody would wait for it */
    while (engine->options.device->poll(engine->device_ctx, token) == meshcclInProgress) mci_cpu_relax();
  }
  return result;
}

/* The result of a fold that a COPY destination sends stands in a room of its own: the local destination may be written
 * again before it has left. */
static meshcclResult_t make_rooms(mci_chan* chan) {
  for (unsigned k = 0; k < chan->step->ndst; k++) {
    mci_operand_state* to = &chan->operands[k];
    if (is_local(&to->arg) || !(to->arg.flags & MCI_COPY) || chan->elements == 0) continue;
    mci_departure* d = mci_lane_departure(to->lane, to->departure);
    MCI_TRY(mci_bounce_alloc(d->op, chan->elements * d->op->type_size, (void**)&to->room));
    d->source.base = d->source.at = to->room;
    d->source.left = chan->elements;
    d->buffer = 2;
    d->no_lend = false;
  }
  return meshcclSuccess;
}

/* Moves what has not left yet of a copied message into its own room. */
static meshcclResult_t bounce(mci_engine* engine, mci_chan* chan, mci_lane* lane, uint64_t number) {
  mci_departure* d = mci_lane_departure(lane, number);
  uint64_t per_slice = mci_slice_elements(engine, d->op), left = d->elements - d->next * per_slice - d->filled, got;
  char* room;
  MCI_TRY(mci_bounce_alloc(d->op, left * d->op->type_size, (void**)&room));
  char* at = room;
  for (; left > 0; left -= got, at += got * d->op->type_size) {
    const void* from = mci_view_take(&d->source, left, &got);
    uint64_t token;
    meshcclResult_t result = engine->options.device->copy(engine->device_ctx, at, from, got * d->op->type_size, &token);
    MCI_TRY(note_token(engine, chan, result, token));
  }
  d->source.base = d->source.at = room;
  d->source.left = (uint64_t)(at - room) / d->op->type_size;
  d->buffer = 2;
  d->no_lend = false;
  d->ready = d->next; /* the room fills until the channel's tokens are done */
  return meshcclSuccess;
}

/* A step that only sends: everything may leave from where it stands. COPY messages are out of the caller's memory, or
 * in their own room, when this returns and the channel's tokens are done. */
static meshcclResult_t run_send(mci_engine* engine, mci_chan* chan) {
  for (unsigned k = 0; k < chan->step->ndst; k++) {
    mci_operand_state* to = &chan->operands[k];
    mci_departure* d = mci_lane_departure(to->lane, to->departure);
    bool copies_at_once = to->lane->peer->ep && (to->lane->peer->figures.flags & MESHCCL_CAN_MAP);
    if (d->no_lend && !copies_at_once) MCI_TRY(bounce(engine, chan, to->lane, to->departure));
    if (chan->ntokens == 0) {
      mci_lane_departure(to->lane, to->departure)->ready = chan->nslices;
      MCI_TRY(mci_lane_pump(to->lane));
    }
    d = mci_lane_departure(to->lane, to->departure);
    if (to->lane->head <= to->departure && d->no_lend) MCI_TRY(bounce(engine, chan, to->lane, to->departure));
  }
  return meshcclSuccess;
}

static void step_done(mci_engine* engine, mci_chan* chan, int* moved) {
  chan->phase = MCI_CHAN_LOAD;
  chan->step_pending = false;
  chan->steps_done++;
  mci_gain(&engine->events, 1);
  (*moved)++;
}

static uint64_t slice_length(const mci_engine* engine, const mci_run* run, const mci_chan* chan) {
  uint64_t per_slice = mci_slice_elements(engine, run->op);
  return MCI_MIN(per_slice, chan->elements - chan->slice * per_slice);
}

#define LEAST_SHARED 32768u             /* bytes of a slice: for less the question takes longer than the copy */
#define LEAST_PUT ((uint64_t)256 << 10) /* bytes of a message */

/* How much of what one of two ranks lends the other shall write to its place itself; the rest is read. What it has just
 * computed, or its cache holds for it, takes twice as long to be taken out of that cache; and the root of a broadcast
 * has nothing else to do. Not where other programs want the processors, and the peer may have to wait for its own. */
static uint32_t written_by_peer(const mci_run* run, const mci_chan* chan, const mci_lane* lane,
                                const mci_arrival* front) {
  if (!front->puts || run->program->nranks != 2 || mci_engine_keeps_apart(lane->peer->engine)) return 0;
  switch (run->program->coll) {
    case MCI_ALL_REDUCE:
      return front->bytes;
    case MCI_ALL_GATHER:
      return chan->elements * run->op->type_size > LEAST_PUT ? front->bytes : 0;
    case MCI_BROADCAST:
      return front->bytes < LEAST_SHARED ? 0 : front->bytes / 2 / 4096 * 4096;
    default:
      return 0;
  }
}

/* Brings what the peer lends by address to where it belongs, or to a place of the lane's own. */
static meshcclResult_t fetch(const mci_run* run, const mci_chan* chan, mci_lane* lane, const mci_arrival** front) {
  void* place = mci_place_of_front(run->op, chan, lane);
  return mci_lane_fetch_front(lane, place, place ? written_by_peer(run, chan, lane, *front) : 0, front);
}

/* Whether every arrival of this slice is there, and is what it should be. What peers lend by address is read as it
 * comes.
 */
static meshcclResult_t arrivals_there(mci_engine* engine, const mci_run* run, const mci_chan* chan, bool* there) {
  uint64_t bytes = slice_length(engine, run, chan) * run->op->type_size;
  *there = true;
  for (unsigned k = 0; k < chan->step->nsrc; k++) {
    const mci_operand_state* operand = &chan->operands[chan->step->ndst + k];
    if (is_local(&operand->arg)) continue;
    const mci_arrival* front = mci_lane_front(operand->lane);
    if (front &&
        (front->sequence != run->op->sequence || front->fingerprint != run->op->fingerprint || front->bytes != bytes))
      return mci_mismatch(engine, run->op, operand->lane, front);
    if (front && front->remote) MCI_TRY(fetch(run, chan, operand->lane, &front));
    *there = *there && front;
  }
  return meshcclSuccess;
}

/* What is stored now will not be found in the caches by whoever reads it next. */
static bool streams(const mci_run* run) { return run->op->outgrows_caches && !run->rereads_output; }

/* Chooses which lane destinations get their slice from a slot that the fold fills: when the message only passes through
 * (all its local destinations are spills), when peers could not read the local destination through a mapping, and when
 * that is not left in the caches. One slot serves all of them. */
static meshcclResult_t choose_staging(mci_engine* engine, const mci_run* run, mci_chan* chan, bool* spill_needed) {
  bool only_spills = true, all_staged = true;
  int room = MESHCCL_MAX_FOLD_DESTINATIONS;
  for (unsigned k = 0; k < chan->step->ndst; k++) {
    const mci_arg* arg = &chan->operands[k].arg;
    room -= is_local(arg) || chan->operands[k].room;
    if (!is_local(arg)) continue;
    only_spills = only_spills && (arg->flags & MCI_SPILL);
  }
  chan->staged_now = 0;
  chan->slot = NULL;
  for (unsigned k = 0; k < chan->step->ndst; k++) {
    mci_operand_state* operand = &chan->operands[k];
    if (is_local(&operand->arg)) continue;
    const mci_departure* d = mci_lane_departure(operand->lane, operand->departure);
    /* A copy to the slot would be the only pass, or this rank will write the result where the peer wants it. */
    bool reads = chan->step->nsrc == 1 || run->program->coll == MCI_ALL_REDUCE;
    bool lent =
        operand->lane->peer->raw || mci_lane_maps(operand->lane, d) || (reads && mci_lane_lends(operand->lane, d));
    if (room > 0 && (only_spills || !lent || (streams(run) && !operand->lane->peer->raw)) &&
        mci_lane_takes_slot(operand->lane, operand->departure, chan->slice)) {
      chan->staged_now |= (uint64_t)1 << k;
    } else {
      all_staged = false;
    }
  }
  *spill_needed = !(only_spills && all_staged);
  chan->streamed = streams(run) && all_staged;
  if (!chan->staged_now) return meshcclSuccess;
  MCI_TRY(mci_slot_take(engine, &chan->slot));
  chan->slot->users = (uint32_t)__builtin_popcountll(chan->staged_now);
  return meshcclSuccess;
}

/* The longest stretch, at most `left`, that is contiguous in every local operand. */
static uint64_t common_stretch(mci_chan* chan, uint64_t left) {
  for (unsigned k = 0; k < (unsigned)chan->step->ndst + chan->step->nsrc; k++) {
    mci_operand_state* operand = &chan->operands[k];
    if (!is_local(&operand->arg)) continue;
    uint64_t contiguous;
    mci_view_peek(&operand->view, &contiguous);
    left = MCI_MIN(left, contiguous);
  }
  return left;
}

static bool moves_nothing(const mci_op* op, const meshcclFold_t* fold) {
  bool divides = (fold->flags & MESHCCL_FOLD_FINISH) && op->op == meshcclAvg;
  if (fold->nsources != 1 || divides) return false;
  for (int i = 0; i < fold->ndestinations; i++)
    if (fold->destinations[i] != fold->sources[0]) return false;
  return true;
}

/* Where the only source of a step stands that stores what arrives: it may be the destination itself (place.c). */
static const void* received_at(const mci_op* op, const mci_chan* chan, uint64_t offset) {
  const mci_operand_state* source = &chan->operands[chan->step->ndst];
  bool divides = (chan->step->flags & MCI_FINISH) && op->op == meshcclAvg;
  if (chan->step->nsrc != 1 || divides || is_local(&source->arg)) return NULL;
  return (const char*)mci_lane_front(source->lane)->data + offset;
}

/* Storing past the caches saves that a line is read before it is written; in place it has been read anyway. */
static void keep_in_caches(meshcclFold_t* fold) {
  for (int i = 0; fold->streamed >> i; i++)
    for (int k = 0; k < fold->nsources; k++)
      if (fold->destinations[i] == fold->sources[k]) fold->streamed &= ~((uint64_t)1 << i);
}

/* Folds `length` elements, which are contiguous everywhere, `offset` elements into the slice. */
static meshcclResult_t fold_stretch(mci_engine* engine, mci_run* run, mci_chan* chan, bool spill_needed,
                                    uint64_t offset, uint64_t length) {
  const mci_instr* step = chan->step;
  const mci_op* op = run->op;
  void* destinations[MESHCCL_MAX_FOLD_SOURCES];
  const void* sources[MESHCCL_MAX_FOLD_SOURCES];
  meshcclFold_t fold = {
      .destinations = destinations, .sources = sources, .count = length, .type = op->type, .op = op->op};
  uint64_t got;
  const void* received = received_at(op, chan, offset * op->type_size);
  if (chan->slot) destinations[fold.ndestinations++] = chan->slot->at + offset * op->type_size;
  for (unsigned k = 0; k < step->ndst; k++) {
    mci_operand_state* operand = &chan->operands[k];
    bool staged = chan->staged_now >> k & 1;
    if (!staged && !is_local(&operand->arg) && operand->room) {
      uint64_t done = chan->slice * mci_slice_elements(engine, op) + offset;
      destinations[fold.ndestinations++] = operand->room + done * op->type_size;
    }
    if (!is_local(&operand->arg)) continue;
    void* at = mci_view_take(&operand->view, length, &got);
    if (at == received || (!spill_needed && (operand->arg.flags & MCI_SPILL))) continue;
    if (chan->streamed && operand->arg.kind == MCI_OUT) fold.streamed |= (uint64_t)1 << fold.ndestinations;
    destinations[fold.ndestinations++] = at;
  }
  for (unsigned k = step->ndst; k < (unsigned)step->ndst + step->nsrc; k++) {
    mci_operand_state* operand = &chan->operands[k];
    sources[fold.nsources++] = is_local(&operand->arg)
                                   ? mci_view_take(&operand->view, length, &got)
                                   : (const char*)mci_lane_front(operand->lane)->data + offset * op->type_size;
  }
  if (step->flags & MCI_WIDE) fold.flags |= MESHCCL_FOLD_WIDE;
  if (step->flags & MCI_FINISH) fold.flags |= MESHCCL_FOLD_FINISH;
  fold.divisor = run->program->nranks;
  if (moves_nothing(op, &fold)) return meshcclSuccess;
  keep_in_caches(&fold);
  uint64_t token;
  meshcclResult_t result = engine->options.device->fold(engine->device_ctx, &fold, &token);
  return note_token(engine, chan, result, token);
}

static meshcclResult_t start_slice(mci_engine* engine, mci_run* run, mci_chan* chan) {
  bool spill_needed;
  MCI_TRY(choose_staging(engine, run, chan, &spill_needed));
  uint64_t left = slice_length(engine, run, chan), offset = 0;
  while (left > 0) {
    uint64_t length = common_stretch(chan, left);
    MCI_TRY(fold_stretch(engine, run, chan, spill_needed, offset, length));
    left -= length;
    offset += length;
  }
  chan->phase = MCI_CHAN_FOLDING;
  return meshcclSuccess;
}

/* Success: all folds of the channel are done. */
static meshcclResult_t poll_tokens(mci_engine* engine, mci_chan* chan) {
  while (chan->ntokens > 0) {
    meshcclResult_t result = engine->options.device->poll(engine->device_ctx, chan->tokens[chan->ntokens - 1]);
    if (result == meshcclInProgress) return result;
    chan->ntokens--;
    MCI_TRY(result);
  }
  return meshcclSuccess;
}

/* Success: no copied message is still being read from the caller's memory into its staging slot. */
static meshcclResult_t poll_copies(mci_engine* engine, mci_chan* chan) {
  for (unsigned k = 0; k < chan->step->ndst; k++) {
    mci_operand_state* to = &chan->operands[k];
    if (!chan->is_send || to->lane->head > to->departure || !(to->arg.flags & MCI_COPY)) continue;
    mci_departure* d = mci_lane_departure(to->lane, to->departure);
    if (!d->copying) continue;
    meshcclResult_t result = engine->options.device->poll(engine->device_ctx, d->token);
    if (result == meshcclInProgress) return result;
    d->copying = false;
    MCI_TRY(result);
  }
  return meshcclSuccess;
}

static meshcclResult_t finish_slice(mci_chan* chan) {
  const mci_instr* step = chan->step;
  for (unsigned k = step->ndst; k < (unsigned)step->ndst + step->nsrc; k++)
    if (!is_local(&chan->operands[k].arg)) mci_lane_consume(chan->operands[k].lane);
  for (unsigned k = 0; k < step->ndst; k++) {
    mci_operand_state* operand = &chan->operands[k];
    if (is_local(&operand->arg)) continue;
    if (chan->staged_now >> k & 1) mci_lane_slot_filled(operand->lane, operand->departure, chan->slot);
    mci_lane_departure(operand->lane, operand->departure)->ready++;
    MCI_TRY(mci_lane_pump(operand->lane));
  }
  chan->slice++;
  return meshcclSuccess;
}

static meshcclResult_t load(mci_engine* engine, mci_run* run, mci_chan* chan, bool* blocked) {
  *blocked = true;
  if (!chan->step_pending) {
    chan->step = mci_cursor_next(&chan->cursor);
    if (!chan->step) {
      chan->phase = MCI_CHAN_DONE;
      run->running--;
      return meshcclSuccess;
    }
    chan->step_pending = true;
  }
  if (!afters_hold(run, chan)) return meshcclSuccess;
  *blocked = false;
  MCI_TRY(load_operands(engine, run, chan));
  MCI_TRY(push_departures(run, chan));
  chan->phase = MCI_CHAN_SLICE;
  if (!chan->is_send) return make_rooms(chan);
  MCI_TRY(run_send(engine, chan));
  chan->phase = MCI_CHAN_FOLDING;
  return meshcclSuccess;
}

/* A send whose copies are done, or a slice whose folds are done. */
static meshcclResult_t finish_folding(mci_engine* engine, mci_chan* chan, int* moved) {
  if (!chan->is_send) {
    MCI_TRY(finish_slice(chan));
    chan->phase = MCI_CHAN_SLICE;
    if (chan->slice == chan->nslices) step_done(engine, chan, moved);
    return meshcclSuccess;
  }
  for (unsigned k = 0; k < chan->step->ndst; k++) {
    mci_operand_state* to = &chan->operands[k];
    if (to->lane->head > to->departure) continue;
    mci_lane_departure(to->lane, to->departure)->ready = chan->nslices;
    MCI_TRY(mci_lane_pump(to->lane));
  }
  step_done(engine, chan, moved);
  return meshcclSuccess;
}

meshcclResult_t mci_chan_run(mci_engine* engine, mci_run* run, mci_chan* chan, int* moved) {
  for (;;) {
    bool go_on = true;
    if (chan->phase == MCI_CHAN_BRIEF) {
      MCI_TRY(mci_brief_run(engine, run, chan, moved));
      go_on = chan->phase != MCI_CHAN_BRIEF;
    } else if (chan->phase == MCI_CHAN_LOAD) {
      bool blocked;
      MCI_TRY(load(engine, run, chan, &blocked));
      go_on = !blocked;
    } else if (chan->phase == MCI_CHAN_SLICE) {
      MCI_TRY(arrivals_there(engine, run, chan, &go_on));
      if (go_on) MCI_TRY(start_slice(engine, run, chan));
    } else if (chan->phase == MCI_CHAN_FOLDING) {
      meshcclResult_t result = poll_tokens(engine, chan);
      if (result == meshcclSuccess) result = poll_copies(engine, chan);
      go_on = result != meshcclInProgress;
      if (go_on) {
        MCI_TRY(result);
        MCI_TRY(finish_folding(engine, chan, moved));
      }
    } else {
      return meshcclSuccess;
    }
    if (!go_on) return meshcclSuccess;
  }
}

const mci_peer* mci_chan_waits_for(const mci_chan* chan) {
  if (chan->phase == MCI_CHAN_BRIEF) return mci_brief_waits_for(chan);
  if (chan->phase != MCI_CHAN_SLICE) return NULL;
  for (unsigned k = chan->step->ndst; k < (unsigned)chan->step->ndst + chan->step->nsrc; k++) {
    const mci_operand_state* operand = &chan->operands[k];
    if (!is_local(&operand->arg) && !mci_lane_front(operand->lane)) return operand->lane->peer;
  }
  return NULL;
}

static void explain_wait(const mci_engine* engine, const mci_peer* peer, mci_str* out) {
  const char* over =
      peer->ep ? engine->options.transports[engine->ports[peer->transport].index]->name : "not connected yet";
  mci_str_add(out, " waits for rank %u (%s)", peer->rank, over);
}

void mci_chan_explain(const mci_engine* engine, const mci_chan* chan, mci_str* out) {
  if (chan->phase == MCI_CHAN_DONE) return;
  mci_str_add(out, "; channel %u step %llu", chan->channel->id, (unsigned long long)chan->steps_done + 1);
  if (chan->phase == MCI_CHAN_LOAD) {
    mci_str_add(out, " waits for other channels");
    return;
  }
  if (chan->phase == MCI_CHAN_BRIEF) {
    const mci_peer* peer = mci_brief_waits_for(chan);
    if (peer) explain_wait(engine, peer, out);
    return;
  }
  mci_str_add(out, " slice %u of %u", chan->slice + 1, chan->nslices);
  for (unsigned k = chan->step->ndst; k < (unsigned)chan->step->ndst + chan->step->nsrc; k++) {
    const mci_operand_state* operand = &chan->operands[k];
    if (is_local(&operand->arg) || mci_lane_front(operand->lane)) continue;
    explain_wait(engine, operand->lane->peer, out);
  }
}
