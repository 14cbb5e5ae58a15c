/* Brief channels: few steps with short messages, without the machinery of channel.c. All that does not change from call to
 * call (lanes, places, lengths) is worked out once per count and type; a step then sends its values at once, or folds
 * what has arrived where it arrived. The messages are the same, so that a peer may run the channel either way.
 *
 * Whatever cannot be done at once (a peer that is not connected, no credit, a message before it on the lane) is left to
 * the channel: it goes on with the same step. */
#include <string.h>

#include "exec/engine.h"

#define MOST_STEPS 32 /* repeats unrolled */
#define MOST_OPERANDS 128

typedef struct {
  mci_lane* lane; /* NULL: local */
  uint64_t at;    /* bytes into the buffer */
  uint8_t buffer; /* 0 in, 1 out */
  bool copies;    /* a lane that must not be lent the memory */
} operand;

typedef struct {
  uint64_t elements;
  uint16_t ndst, nsrc;
  uint32_t first; /* operand: destinations, then sources */
  uint8_t flags;
  bool sends;     /* some destination is a lane */
  uint16_t place; /* operand that lanes send from; a source only when nothing is folded */
  bool folds;
  uint16_t lacks; /* messages that come from here on, before anything is sent */
} step;

struct mci_brief {
  uint64_t count; /* what the steps were worked out for */
  uint32_t type_size;
  bool known, fits;
  bool only_sends; /* waits for nobody */
  uint32_t nsteps;
  step steps[MOST_STEPS];
  operand operands[MOST_OPERANDS];
};

meshcclResult_t mci_brief_create(const mci_channel* channel, mci_brief** out) {
  *out = NULL;
  if (mci_channel_steps(channel) > MOST_STEPS) return meshcclSuccess;
  for (uint32_t i = 0; i < channel->ninstrs; i++)
    if (channel->instrs[i].nafter > 0) return meshcclSuccess;
  for (uint32_t i = 0; i < channel->noperands; i++)
    if (channel->operands[i].kind == MCI_TMP) return meshcclSuccess;
  *out = mci_alloc(sizeof **out);
  return *out ? meshcclSuccess : mci_oom(sizeof **out);
}

/* ---- working it out ---- */

static bool find_place(const mci_run* run, const mci_arg* arg, operand* out, uint64_t* elements) {
  const mci_program* program = run->program;
  mci_coll_buffers_t buffers = mci_coll_buffers(program->coll, program->rank, program->root);
  bool input = arg->kind == MCI_IN, one = input ? buffers.in_one_block : buffers.out_one_block;
  uint64_t offset = 0, length = 0;
  mci_pieces pieces;
  *elements = mci_layout_elements(&program->layout, run->op->count, arg);
  mci_pieces_start(&pieces, &program->layout, run->op->count, arg, one ? (int64_t)program->rank : -1);
  if (*elements > 0 && (!mci_pieces_next(&pieces, &offset, &length) || length != *elements)) return false;
  out->at = offset * run->op->type_size;
  out->buffer = input ? 0 : 1;
  return true;
}

static meshcclResult_t work_out_step(mci_engine* engine, const mci_run* run, const mci_chan* chan,
                                     const mci_cursor* cursor, const mci_instr* instr, uint32_t first, step* out) {
  mci_brief* brief = chan->brief;
  *out = (step){.ndst = instr->ndst, .nsrc = instr->nsrc, .flags = instr->flags, .first = first};
  uint16_t local = instr->ndst; /* the only source of a step that just sends */
  for (uint16_t k = 0; k < instr->ndst + instr->nsrc; k++) {
    operand* o = &brief->operands[out->first + k];
    mci_arg arg = mci_cursor_arg(cursor, instr, k);
    *o = (operand){0};
    if (arg.kind == MCI_LANE) {
      MCI_TRY(mci_lane_get(engine, arg.peer, chan->channel->id, &o->lane));
      o->copies = arg.flags & MCI_COPY;
      out->sends = out->sends || k < instr->ndst;
      brief->only_sends = brief->only_sends && k < instr->ndst;
    } else {
      brief->fits = brief->fits && find_place(run, &arg, o, &out->elements);
      if (k < instr->ndst && local == instr->ndst) local = k;
      out->folds = out->folds || k < instr->ndst;
    }
  }
  out->place = local;
  return meshcclSuccess;
}

static void count_lacks(mci_brief* brief) {
  uint16_t lacks = 0;
  for (uint32_t i = brief->nsteps; i-- > 0; brief->steps[i].lacks = lacks) {
    const step* s = &brief->steps[i];
    if (s->sends) lacks = 0;
    for (uint32_t k = s->ndst; k < (uint32_t)s->ndst + s->nsrc; k++)
      if (brief->operands[s->first + k].lane) lacks++;
  }
}

static meshcclResult_t work_out(mci_engine* engine, const mci_run* run, const mci_chan* chan) {
  mci_brief* brief = chan->brief;
  const mci_op* op = run->op;
  brief->known = false;
  brief->fits = brief->only_sends = true;
  brief->nsteps = 0;
  mci_cursor cursor;
  mci_cursor_start(&cursor, chan->channel);
  uint64_t most = MCI_MIN(mci_slice_elements(engine, op), MCI_SMALL_BYTES / op->type_size);
  uint32_t noperands = 0;
  for (const mci_instr* instr; brief->fits && (instr = mci_cursor_next(&cursor));) {
    step* s = &brief->steps[brief->nsteps++];
    uint32_t first = noperands;
    noperands += (uint32_t)instr->ndst + instr->nsrc;
    brief->fits = noperands <= MOST_OPERANDS;
    if (!brief->fits) break;
    MCI_TRY(work_out_step(engine, run, chan, &cursor, instr, first, s));
    brief->fits = brief->fits && s->elements <= most;
  }
  if (brief->fits) count_lacks(brief);
  brief->count = op->count;
  brief->type_size = op->type_size;
  brief->known = true;
  return meshcclSuccess;
}

meshcclResult_t mci_brief_start(mci_engine* engine, const mci_run* run, mci_chan* chan) {
  const mci_op* op = run->op;
  mci_brief* brief = chan->brief;
  if (!brief || op->scaled || !op->host_memory[0] || !op->host_memory[1]) return meshcclSuccess;
  if (!brief->known || brief->count != op->count || brief->type_size != op->type_size)
    MCI_TRY(work_out(engine, run, chan));
  if (brief->fits) chan->phase = MCI_CHAN_BRIEF;
  return meshcclSuccess;
}

/* ---- running it ---- */

static char* place_of(const mci_op* op, const operand* o) {
  return (o->buffer ? (char*)op->out : (char*)(uintptr_t)op->in) + o->at;
}

static void hand_over(mci_chan* chan) {
  mci_cursor_start(&chan->cursor, chan->channel);
  for (uint64_t i = 0; i < chan->steps_done; i++) mci_cursor_next(&chan->cursor);
  chan->phase = MCI_CHAN_LOAD;
}

static bool can_send(const operand* operands, const step* s, uint64_t bytes) {
  for (uint16_t k = 0; k < s->ndst; k++)
    if (operands[k].lane && !mci_lane_sends_now(operands[k].lane, bytes)) return false;
  return true;
}

/* All that arrives in this step is there, and is what it should be. What is still to be read from a peer's memory is
 * left to the channel. */
static meshcclResult_t arrived(mci_engine* engine, const mci_op* op, mci_chan* chan, const operand* operands,
                               const step* s, bool* out) {
  uint64_t bytes = s->elements * op->type_size;
  *out = false;
  for (uint16_t k = s->ndst; k < s->ndst + s->nsrc; k++) {
    const mci_lane* lane = operands[k].lane;
    if (!lane) continue;
    const mci_arrival* front = mci_lane_front(lane);
    if (!front) return meshcclSuccess;
    if (front->sequence != op->sequence || front->fingerprint != op->fingerprint || front->bytes != bytes)
      return mci_mismatch(engine, op, lane, front);
    if (MCI_UNLIKELY(front->remote)) {
      hand_over(chan);
      return meshcclSuccess;
    }
  }
  *out = true;
  return meshcclSuccess;
}

static meshcclResult_t fold(mci_engine* engine, const mci_run* run, const operand* operands, const step* s) {
  const mci_op* op = run->op;
  void* destinations[MESHCCL_MAX_FOLD_SOURCES];
  const void* sources[MESHCCL_MAX_FOLD_SOURCES];
  meshcclFold_t what = {.destinations = destinations,
                        .sources = sources,
                        .nsources = s->nsrc,
                        .count = s->elements,
                        .type = op->type,
                        .op = op->op,
                        .divisor = run->program->nranks};
  for (uint16_t k = 0; k < s->nsrc; k++) {
    const operand* o = &operands[s->ndst + k];
    sources[k] = o->lane ? mci_lane_front(o->lane)->data : place_of(op, o);
  }
  bool divides = (s->flags & MCI_FINISH) && op->op == meshcclAvg;
  for (uint16_t k = 0; k < s->ndst; k++) {
    if (operands[k].lane) continue;
    void* to = place_of(op, &operands[k]);
    if (s->nsrc > 1 || divides || to != sources[0]) destinations[what.ndestinations++] = to;
  }
  if (s->nsrc == 1 && !divides) {
    for (int k = 0; k < what.ndestinations; k++) memcpy(destinations[k], sources[0], s->elements * op->type_size);
    return meshcclSuccess;
  }
  if (s->flags & MCI_WIDE) what.flags |= MESHCCL_FOLD_WIDE;
  if (s->flags & MCI_FINISH) what.flags |= MESHCCL_FOLD_FINISH;
  uint64_t token;
  meshcclResult_t result = engine->options.device->fold(engine->device_ctx, &what, &token);
  while (result == meshcclInProgress) result = engine->options.device->poll(engine->device_ctx, token);
  return result;
}

/* Transports that map copy small payloads before send() returns; others may still read them then. */
static meshcclResult_t send_one(mci_op* op, const operand* o, const char* at, uint64_t elements) {
  uint64_t bytes = elements * op->type_size;
  if (o->copies && bytes > 0 && !(o->lane->peer->figures.flags & MESHCCL_CAN_MAP)) {
    void* room;
    MCI_TRY(mci_bounce_alloc(op, bytes, &room));
    at = memcpy(room, at, bytes);
  }
  return mci_lane_send_now(o->lane, op, at, elements);
}

static meshcclResult_t send(mci_op* op, const operand* operands, const step* s) {
  const char* at = place_of(op, &operands[s->place]);
  for (uint16_t k = 0; k < s->ndst; k++)
    if (operands[k].lane) MCI_TRY(send_one(op, &operands[k], at, s->elements));
  return meshcclSuccess;
}

/* *done: the step has run; else it waits for a message, or the channel goes on with it. */
static meshcclResult_t run_step(mci_engine* engine, const mci_run* run, mci_chan* chan, bool* done) {
  const mci_brief* brief = chan->brief;
  const step* s = &brief->steps[chan->steps_done];
  const operand* operands = &brief->operands[s->first];
  MCI_TRY(arrived(engine, run->op, chan, operands, s, done));
  if (!*done) return meshcclSuccess;
  if (s->sends && !can_send(operands, s, s->elements * brief->type_size)) {
    hand_over(chan);
    *done = false;
    return meshcclSuccess;
  }
  if (s->folds && s->elements > 0) MCI_TRY(fold(engine, run, operands, s));
  for (uint16_t k = s->ndst; k < s->ndst + s->nsrc; k++)
    if (operands[k].lane) mci_lane_consume(operands[k].lane);
  return s->sends ? send(run->op, operands, s) : meshcclSuccess;
}

/* What has left needs no more help: it is where the peers read it, and the next one has credit. */
static bool settled(const mci_brief* brief) {
  for (uint32_t i = 0; i < brief->nsteps; i++)
    for (uint32_t k = 0; k < brief->steps[i].ndst; k++) {
      const mci_lane* lane = brief->operands[brief->steps[i].first + k].lane;
      if (lane && (!(lane->peer->figures.flags & MESHCCL_CAN_MAP) || !mci_lane_sends_now(lane, 0))) return false;
    }
  return true;
}

meshcclResult_t mci_brief_run(mci_engine* engine, mci_run* run, mci_chan* chan, int* moved) {
  while (chan->steps_done < chan->brief->nsteps) {
    bool done;
    MCI_TRY(run_step(engine, run, chan, &done));
    if (!done) return meshcclSuccess;
    chan->steps_done++;
    mci_gain(&engine->events, 1);
    (*moved)++;
  }
  chan->phase = MCI_CHAN_DONE;
  run->running--;
  engine->settled = chan->brief->only_sends && settled(chan->brief);
  return meshcclSuccess;
}

meshcclResult_t mci_brief_arrived(mci_engine* engine, const mci_lane* lane) {
  mci_op* op = mci_engine_collective(engine);
  if (!op) return meshcclSuccess;
  for (uint32_t c = 0; c < op->run->program->nchannels; c++) {
    mci_chan* chan = &op->run->channels[c];
    int moved = 0;
    if (chan->phase == MCI_CHAN_BRIEF && chan->channel->id == lane->channel)
      return mci_brief_run(engine, op->run, chan, &moved);
  }
  return meshcclSuccess;
}

const mci_peer* mci_brief_waits_for(const mci_chan* chan) {
  const step* s = &chan->brief->steps[chan->steps_done];
  for (uint16_t k = s->ndst; k < s->ndst + s->nsrc; k++) {
    const mci_lane* lane = chan->brief->operands[s->first + k].lane;
    if (lane && !mci_lane_front(lane)) return lane->peer;
  }
  return NULL;
}

bool mci_brief_gives_way(const mci_chan* chan) {
  return chan->steps_done == 0 || chan->brief->steps[chan->steps_done].lacks > 1;
}
