/* Receiving without a bounce: a step that only stores what arrives (one source, a lane) has its slices put where it would
 * copy them. Possible from the moment the step is loaded, because from then on it may write all of its destination; and
 * only over transports that let go of the memory when the operation fails. Called when a message is announced. */
#include "exec/engine.h"

static bool divides(const mci_op* op, const mci_instr* step) {
  return (step->flags & MCI_FINISH) && op->op == meshcclAvg;
}

/* The first local destination that is always written. */
static const mci_operand_state* destination(const mci_chan* chan) {
  for (unsigned k = 0; k < chan->step->ndst; k++) {
    const mci_arg* arg = &chan->operands[k].arg;
    if (arg->kind != MCI_LANE && !(arg->flags & MCI_SPILL)) return &chan->operands[k];
  }
  return NULL;
}

static bool waits_for(const mci_op* op, const mci_chan* chan, const mci_lane* lane) {
  if (chan->phase != MCI_CHAN_SLICE || chan->is_send || chan->channel->id != lane->channel) return false;
  const mci_operand_state* source = &chan->operands[chan->step->ndst];
  return chan->step->nsrc == 1 && source->arg.kind == MCI_LANE && source->lane == lane && !divides(op, chan->step);
}

/* The view stands at the slice that is consumed next; the message is `ahead` slices later. */
static void* in_view(const mci_op* op, const mci_chan* chan, const mci_lane* lane, uint64_t ahead, size_t bytes) {
  const mci_operand_state* to = destination(chan);
  uint64_t per_slice = mci_slice_elements(lane->peer->engine, op), got;
  uint64_t slice = chan->slice + ahead;
  if (!to || slice >= chan->nslices) return NULL;
  if (to->arg.kind != MCI_TMP && !op->host_memory[to->arg.kind == MCI_IN ? 0 : 1]) return NULL;
  uint64_t length = MCI_MIN(per_slice, chan->elements - slice * per_slice);
  if (length * op->type_size != bytes) return NULL;
  mci_view view = to->view;
  for (uint64_t skip = ahead * per_slice; skip > 0; skip -= got) mci_view_take(&view, skip, &got);
  void* at = mci_view_peek(&view, &got);
  return got >= length ? at : NULL;
}

/* Of the receives from one peer one is active at a time: what comes while it waits is its own. */
void* mci_place_of(const mci_lane* lane, const mci_header* header, size_t bytes) {
  const mci_engine* engine = lane->peer->engine;
  bool lets_go = lane->peer->figures.flags & MESHCCL_FILLS_IN_PROGRESS;
  if (!lets_go) return NULL;
  for (const mci_op* op = engine->active; op; op = op->next) {
    if (op->sequence != header->sequence || op->fingerprint != header->fingerprint) continue;
    for (uint32_t c = 0; c < op->run->program->nchannels; c++)
      if (waits_for(op, &op->run->channels[c], lane))
        return in_view(op, &op->run->channels[c], lane, lane->arrived - lane->consumed, bytes);
  }
  return NULL;
}

void* mci_place_of_front(const mci_op* op, const mci_chan* chan, const mci_lane* lane) {
  const mci_arrival* front = &lane->arrivals[lane->consumed % MCI_MAX_CREDITS];
  return waits_for(op, chan, lane) ? in_view(op, chan, lane, 0, front->bytes) : NULL;
}
