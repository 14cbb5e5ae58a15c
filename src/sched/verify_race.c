/* Two accesses to a place, one of them a write, must be ordered in every execution.
 *
 * Ordered means: the first has ended before the second begins, by the order of a channel, `after` conditions and
 * messages. A message alone orders slice by slice only: when the second step is fed, over messages and nothing else, by
 * the first one, then slice s of the second begins after slice s of the first. That is enough where the second touches
 * the place in the same or a later cell of its chunk.
 *
 * A lent read ends when the receiver's step has run. Reading a source at the step, as when it is copied at once, ends
 * earlier and is ordered by the same events, so this one proof covers both. Only the last write and the reads since
 * are kept: what was ordered before them is ordered before all that follows. */
#include "sched/verify.h"

/* Whether step `step` (from 1) of `channel`, touching the place as cell `before`, ends before ours as cell `after`. */
static bool ordered(const mci_verifier* v, uint32_t channel, uint32_t step, uint32_t before, uint32_t after) {
  if (channel == v->now_channel) return step <= v->now->done || before == after;
  if (v->start->known[channel] >= step) return true;
  return v->complete->known[channel] >= step && before <= after;
}

static meshcclResult_t conflict_step(mci_verifier* v, uint32_t channel, uint32_t step, const char* verb,
                                     const char* what) {
  if (channel == v->now_channel && step == v->now->done + 1)
    return mci_verify_fail(v, v->now, "%s overlaps another operand of the step in another place", what);
  return mci_verify_fail(v, v->now,
                         "%s while step %u of channel %u may still %s it: nothing orders the two; add \"after %u:%u\"",
                         what, step, v->channels[channel].channel->id, verb, v->channels[channel].channel->id, step);
}

static meshcclResult_t conflict_lent(mci_verifier* v, const mci_read* read, const char* what) {
  const mci_verify_lane* lane = &v->lanes[read->lane];
  return mci_verify_fail(v, v->now,
                         "%s while it may still be lent to rank %u as message %u of channel %u (sent by step %u): mark "
                         "that departure copy, or order this after it was taken",
                         what, v->channels[lane->target].rank, read->message + 1,
                         v->channels[read->channel].channel->id, read->step);
}

meshcclResult_t mci_verify_read(mci_verifier* v, uint32_t place, uint32_t position, const char* what) {
  const mci_place* p = &v->places[place];
  if (p->written == 0 || ordered(v, p->writer, p->written, p->position, position)) return meshcclSuccess;
  return conflict_step(v, p->writer, p->written, "write", what);
}

/* The later of two reads of a channel, or of two messages of a lane, ends last: it stands for both. */
static bool replaces(const mci_read* old, const mci_read* fresh) {
  if (old->lane != fresh->lane) return false;
  return fresh->lane != MCI_NONE || old->channel == fresh->channel;
}

meshcclResult_t mci_verify_note_read(mci_verifier* v, uint32_t place, uint32_t position, uint32_t lane,
                                     uint32_t message) {
  mci_place* p = &v->places[place];
  mci_read fresh = {lane, v->now_channel, v->now->done + 1, message, position, MCI_NONE};
  for (uint32_t i = p->reads; i != MCI_NONE; i = v->reads[i].next) {
    if (!replaces(&v->reads[i], &fresh)) continue;
    fresh.next = v->reads[i].next;
    v->reads[i] = fresh;
    return meshcclSuccess;
  }
  uint32_t at = v->free_reads;
  if (at != MCI_NONE) {
    v->free_reads = v->reads[at].next;
  } else {
    MCI_TRY(mci_grow(&v->reads, sizeof *v->reads, &v->cap_reads, (size_t)v->nreads + 1));
    at = v->nreads++;
  }
  fresh.next = p->reads;
  v->reads[at] = fresh;
  p->reads = at;
  return meshcclSuccess;
}

/* Whether a read has ended before the step under way writes as cell `position`. */
static meshcclResult_t read_ended(mci_verifier* v, const mci_read* read, uint32_t position, const char* what) {
  if (read->lane == MCI_NONE)
    return ordered(v, read->channel, read->step, read->position, position)
               ? meshcclSuccess
               : conflict_step(v, read->channel, read->step, "read", what);
  const mci_verify_lane* lane = &v->lanes[read->lane];
  bool taken = read->message < lane->taken;
  if (taken && ordered(v, lane->target, lane->taken_by[read->message], read->position, position)) return meshcclSuccess;
  return conflict_lent(v, read, what);
}

meshcclResult_t mci_verify_write(mci_verifier* v, uint32_t place, uint32_t position, const char* what) {
  mci_place* p = &v->places[place];
  if (p->written && p->writer == v->now_channel && p->written == v->now->done + 1)
    return mci_verify_fail(v, v->now, "%s, which another destination of the step writes, too", what);
  if (p->written && !ordered(v, p->writer, p->written, p->position, position))
    return conflict_step(v, p->writer, p->written, "write", what);
  uint32_t last = MCI_NONE;
  for (uint32_t i = p->reads; i != MCI_NONE; i = v->reads[i].next) {
    MCI_TRY(read_ended(v, &v->reads[i], position, what));
    last = i;
  }
  if (last != MCI_NONE) {
    v->reads[last].next = v->free_reads;
    v->free_reads = p->reads;
    p->reads = MCI_NONE;
  }
  p->writer = v->now_channel;
  p->written = v->now->done + 1;
  p->position = position;
  return meshcclSuccess;
}
