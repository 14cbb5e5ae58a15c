/* Lanes, found by their ends, and the messages on them. */
#include "sched/verify.h"

static uint32_t* lane_entry(const mci_verifier* v, uint32_t source, uint32_t target) {
  uint32_t mask = v->lane_table_size - 1;
  uint32_t at =
      (uint32_t)((source * UINT64_C(0x9e3779b97f4a7c15) + target * UINT64_C(0xc2b2ae3d27d4eb4f)) >> 32) & mask;
  for (; v->lane_table[at]; at = (at + 1) & mask) {
    const mci_verify_lane* lane = &v->lanes[v->lane_table[at] - 1];
    if (lane->source == source && lane->target == target) break;
  }
  return &v->lane_table[at];
}

static meshcclResult_t grow_lanes(mci_verifier* v) {
  MCI_TRY(mci_grow(&v->lanes, sizeof *v->lanes, &v->cap_lanes, (size_t)v->nlanes + 1));
  if ((uint64_t)v->nlanes * 2 < v->lane_table_size) return meshcclSuccess;
  uint32_t size = MCI_MAX(v->lane_table_size * 2, 256u);
  uint32_t* table = mci_alloc(size * sizeof *table);
  if (!table) return mci_oom(size * sizeof *table);
  mci_free(v->lane_table);
  v->lane_table = table;
  v->lane_table_size = size;
  for (uint32_t i = 0; i < v->nlanes; i++) *lane_entry(v, v->lanes[i].source, v->lanes[i].target) = i + 1;
  return meshcclSuccess;
}

meshcclResult_t mci_verify_lane_of(mci_verifier* v, uint32_t source, uint32_t target_rank, uint32_t* out) {
  uint32_t target = mci_verify_find_channel(v, target_rank, v->channels[source].channel->id);
  MCI_TRY(grow_lanes(v));
  uint32_t* entry = lane_entry(v, source, target);
  if (!*entry) {
    v->lanes[v->nlanes++] = (mci_verify_lane){.source = source, .target = target};
    *entry = v->nlanes;
  }
  *out = *entry - 1;
  return meshcclSuccess;
}

meshcclResult_t mci_message_push(mci_verifier* v, mci_verify_lane* lane, mci_message message) {
  uint32_t queued = lane->sent - lane->taken, old = lane->cap_messages;
  if (queued == old) {
    uint32_t size = MCI_MAX(old * 2, 4u);
    mci_message* ring = mci_alloc(size * sizeof *ring);
    if (!ring) return mci_oom(size * sizeof *ring);
    for (uint32_t k = lane->taken; k != lane->sent; k++) ring[k & (size - 1)] = lane->messages[k & (old - 1)];
    mci_free(lane->messages);
    lane->messages = ring;
    lane->cap_messages = size;
  }
  message.load->refs++;
  mci_clock_hold(message.start);
  mci_clock_hold(message.complete);
  lane->messages[lane->sent++ & (lane->cap_messages - 1)] = message;
  v->messages++;
  return meshcclSuccess;
}

void mci_message_drop(mci_verifier* v, mci_message* message) {
  if (message->load && --message->load->refs == 0) mci_free(message->load);
  mci_clock_drop(v, message->start);
  mci_clock_drop(v, message->complete);
}
