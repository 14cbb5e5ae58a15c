/* Says why nothing runs any more: follows who waits for whom until a channel comes again (a cycle) or one has ended. */
#include <stdio.h>

#include "sched/verify.h"

static uint32_t waits_for(const mci_verifier* v, const mci_verify_channel* c) {
  return c->wait == MCI_WAITS_AFTER ? c->wait_for : v->lanes[c->wait_for].source;
}

static void describe(const mci_verifier* v, const mci_verify_channel* c, mci_str* out) {
  const mci_verify_channel* other = &v->channels[waits_for(v, c)];
  mci_str_add(out, "rank %u channel %u step %u waits for ", c->rank, c->channel->id, c->done + 1);
  if (c->wait == MCI_WAITS_AFTER) {
    mci_str_add(out, "its channel %u to run %u steps", other->channel->id, c->wait_count);
  } else {
    mci_str_add(out, "message %u of rank %u", v->lanes[c->wait_for].taken + 1, other->rank);
  }
}

meshcclResult_t mci_verify_stuck(mci_verifier* v) {
  uint32_t slow = 0;
  while (v->channels[slow].wait == MCI_ENDED) slow++;
  for (uint32_t i = 0; i < v->nchannels; i++) { /* as many moves as there are channels end inside the cycle */
    const mci_verify_channel* c = &v->channels[slow];
    uint32_t next = waits_for(v, c);
    if (v->channels[next].wait == MCI_ENDED)
      return mci_verify_fail(v, c, "waits for message %u of rank %u, which sends only %u on channel %u",
                             v->lanes[c->wait_for].taken + 1, v->channels[next].rank, v->lanes[c->wait_for].sent,
                             c->channel->id);
    slow = next;
  }
  mci_str text = {0};
  uint32_t at = slow, length = 0;
  do {
    if (length++ < 6) {
      mci_str_add(&text, length > 1 ? "; " : "");
      describe(v, &v->channels[at], &text);
    }
    at = waits_for(v, &v->channels[at]);
  } while (at != slow);
  if (length > 6) mci_str_add(&text, "; and %u more", length - 6);
  mci_fail(meshcclInvalidUsage, "deadlock: a cycle of %u channels that wait for each other: %s", length,
           text.text ? text.text : "");
  mci_str_fini(&text);
  return meshcclInvalidUsage;
}
