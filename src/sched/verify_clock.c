/* Vector clocks over all channels, shared until they change, and the marks: what was known when a channel had run the
 * number of steps that an `after` names. */
#include <stdlib.h>

#include "sched/verify.h"

mci_clock* mci_clock_new(mci_verifier* v) {
  mci_clock* clock = v->free_clocks;
  if (clock) {
    v->free_clocks = clock->next_free;
  } else {
    clock = mci_alloc(sizeof *clock + v->nchannels * sizeof *clock->known);
  }
  if (clock) clock->refs = 1;
  return clock;
}

mci_clock* mci_clock_hold(mci_clock* clock) {
  clock->refs++;
  return clock;
}

void mci_clock_drop(mci_verifier* v, mci_clock* clock) {
  if (!clock || --clock->refs) return;
  clock->next_free = v->free_clocks;
  v->free_clocks = clock;
}

meshcclResult_t mci_clock_learn(mci_verifier* v, mci_clock** clock, const mci_clock* other, uint32_t channel,
                                uint32_t count, uint32_t past) {
  if ((*clock)->known[channel] >= past) return meshcclSuccess;
  mci_clock *old = *clock, *target = old;
  if (old->refs > 1) {
    target = mci_clock_new(v);
    if (!target) return mci_oom(sizeof *target + v->nchannels * sizeof *target->known);
  }
  const uint32_t *mine = old->known, *theirs = other->known;
  for (uint32_t i = 0; i < v->nchannels; i++) target->known[i] = MCI_MAX(mine[i], theirs[i]);
  target->known[channel] = MCI_MAX(target->known[channel], count);
  if (target != old) mci_clock_drop(v, old);
  *clock = target;
  return meshcclSuccess;
}

/* ---- marks: counts of steps that an `after` names ---- */

meshcclResult_t mci_verify_mark(mci_verifier* v, uint32_t channel, uint64_t count) {
  MCI_TRY(mci_grow(&v->marks, sizeof *v->marks, &v->cap_marks, (size_t)v->nmarks + 1));
  v->marks[v->nmarks++] = (mci_mark){.channel = channel, .count = (uint32_t)count, .uses = 1};
  return meshcclSuccess;
}

static int by_channel(const void* a, const void* b) {
  const mci_mark *x = a, *y = b;
  if (x->channel != y->channel) return x->channel < y->channel ? -1 : 1;
  return x->count < y->count ? -1 : x->count > y->count;
}

void mci_verify_sort_marks(mci_verifier* v) {
  if (v->nmarks) qsort(v->marks, v->nmarks, sizeof *v->marks, by_channel);
  uint32_t n = 0;
  for (uint32_t i = 0; i < v->nmarks; i++) {
    if (n && by_channel(&v->marks[n - 1], &v->marks[i]) == 0) {
      v->marks[n - 1].uses++;
    } else {
      v->marks[n++] = v->marks[i];
    }
  }
  v->nmarks = n;
  for (uint32_t i = n; i-- > 0;) {
    mci_verify_channel* c = &v->channels[v->marks[i].channel];
    c->wanted = i;
    if (c->wanted_end == 0) c->wanted_end = i + 1;
  }
}

mci_mark* mci_verify_find_mark(mci_verifier* v, uint32_t channel, uint32_t count) {
  mci_mark key = {.channel = channel, .count = count};
  return bsearch(&key, v->marks, v->nmarks, sizeof *v->marks, by_channel);
}
