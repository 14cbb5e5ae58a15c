/* Lanes: departures in order, credits, and the choice of how a slice travels: by value, lent where it stands, or
 * through a staging slot. Called by channels (to send) and by the callbacks of transports (acknowledgements). */
#include <string.h>

#include "exec/engine.h"

#define PATIENCE 256u   /* times that a slice waits for peers that lag; then no later one of its message does */
#define MOST_FILLED 4   /* messages of a lane whose next slices stand in slots before they may leave */
#define LONG_BYTES 8192 /* messages that take longer to carry than their acknowledgement */

static uint32_t lane_hash(uint32_t peer, uint16_t channel) { return (peer * 2654435761u) ^ (channel * 40503u); }

static mci_lane** lane_place(mci_engine* engine, uint32_t peer, uint16_t channel) {
  uint32_t at = lane_hash(peer, channel) & (engine->lane_slots - 1);
  while (engine->lanes[at] && (engine->lanes[at]->peer->rank != peer || engine->lanes[at]->channel != channel))
    at = (at + 1) & (engine->lane_slots - 1);
  return &engine->lanes[at];
}

static meshcclResult_t grow_table(mci_engine* engine) {
  uint32_t old_slots = engine->lane_slots, slots = MCI_MAX(64u, old_slots * 2);
  mci_lane **old = engine->lanes, **grown = mci_alloc(slots * sizeof *grown);
  if (!grown) return mci_oom(slots * sizeof *grown);
  engine->lanes = grown;
  engine->lane_slots = slots;
  for (uint32_t i = 0; i < old_slots; i++)
    if (old[i]) *lane_place(engine, old[i]->peer->rank, old[i]->channel) = old[i];
  mci_free(old);
  return meshcclSuccess;
}

meshcclResult_t mci_lane_get(mci_engine* engine, uint32_t peer, uint16_t channel, mci_lane** out) {
  if (MCI_UNLIKELY(engine->nlanes * 2 >= engine->lane_slots)) MCI_TRY(grow_table(engine));
  mci_lane** place = lane_place(engine, peer, channel);
  if (MCI_UNLIKELY(!*place)) {
    mci_peer* owner;
    MCI_TRY(mci_peer_get(engine, peer, &owner));
    mci_lane* lane = mci_alloc(sizeof *lane);
    if (!lane) return mci_oom(sizeof *lane);
    lane->peer = owner;
    lane->channel = channel;
    *lane_place(engine, peer, channel) = lane;
    engine->nlanes++;
    engine->stats.memory_bytes += sizeof *lane;
    *out = lane;
    return meshcclSuccess;
  }
  *out = *place;
  return meshcclSuccess;
}

void mci_lane_destroy(mci_lane* lane) {
  mci_free(lane->departures);
  mci_free(lane->slots);
  mci_free(lane->fetched);
  mci_free(lane);
}

void mci_lane_list(mci_lane* lane) {
  if (lane->listed) return;
  lane->listed = true;
  lane->next_listed = lane->peer->engine->listed;
  lane->peer->engine->listed = lane;
}

uint64_t mci_slice_elements(const mci_engine* engine, const mci_op* op) {
  return engine->options.slice_bytes / op->type_size;
}

static meshcclResult_t grow_departures(mci_lane* lane) {
  uint32_t cap = MCI_MAX(8u, lane->cap_departures * 2);
  mci_departure* grown = mci_alloc(cap * sizeof *grown);
  if (!grown) return mci_oom(cap * sizeof *grown);
  for (uint64_t i = lane->head; i < lane->tail; i++)
    grown[i & (cap - 1)] = lane->departures[i & (lane->cap_departures - 1)];
  mci_free(lane->departures);
  lane->departures = grown;
  lane->cap_departures = cap;
  return meshcclSuccess;
}

meshcclResult_t mci_lane_push(mci_lane* lane, mci_op* op, const mci_view* source, uint8_t buffer, uint64_t elements,
                              uint32_t nslices, uint64_t* number_out) {
  if (lane->tail - lane->head == lane->cap_departures) MCI_TRY(grow_departures(lane));
  *mci_lane_departure(lane, lane->tail) =
      (mci_departure){.op = op, .source = *source, .buffer = buffer, .elements = elements, .nslices = nslices};
  *number_out = lane->tail++;
  op->outstanding++;
  return meshcclSuccess;
}

static uint64_t slice_length(const mci_lane* lane, const mci_departure* d, uint32_t slice) {
  uint64_t per_slice = mci_slice_elements(lane->peer->engine, d->op), begin = slice * per_slice;
  return MCI_MIN(per_slice, d->elements - begin);
}

static bool has_credit(const mci_lane* lane) { return lane->sent - lane->acked < lane->peer->credits; }

/* The region that the departure's memory lies in; id 0: none. */
static const struct mci_shared_region* region_of(const mci_lane* lane, const mci_departure* d) {
  static const struct mci_shared_region none = {0};
  if (d->buffer < 2) return &d->op->regions[d->buffer];
  const struct mci_shared_region* scratch = &lane->peer->engine->scratch;
  bool inside =
      scratch->id && d->source.base >= (char*)scratch->base && d->source.base < (char*)scratch->base + scratch->bytes;
  return inside ? scratch : &none;
}

static bool host_memory(const mci_departure* d) { return d->buffer >= 2 || d->op->host_memory[d->buffer]; }

bool mci_lane_maps(const mci_lane* lane, const mci_departure* d) {
  return (lane->peer->figures.flags & MESHCCL_CAN_MAP) && region_of(lane, d)->id;
}

/* To read memory of another process by its address saves a copy and costs a system call. */
static bool fetches(const mci_lane* lane, const mci_departure* d) {
  return lane->peer->fetches && d->elements * d->op->type_size <= d->op->fetched_bytes;
}

bool mci_lane_lends(const mci_lane* lane, const mci_departure* d) {
  if (d->no_lend || !host_memory(d)) return false;
  return lane->peer->raw || mci_lane_maps(lane, d) || fetches(lane, d);
}

#define SHARED_WORK ((uint64_t)1 << 20) /* bytes of a broadcast from which on two ranks had better both copy */

/* A sum leaves the cache of the rank that made it faster than the peer takes it out, mapped or not; of a long broadcast
 * the root copies half. */
static bool rather_puts(const mci_lane* lane, const mci_departure* d) {
  mci_coll coll = d->op->run->program->coll;
  bool sum = coll == MCI_ALL_REDUCE && d->buffer == 1;
  bool copy = coll == MCI_BROADCAST && d->elements * d->op->type_size > SHARED_WORK;
  return (sum || copy) && fetches(lane, d) && (lane->peer->figures.flags & MESHCCL_CAN_PUT);
}

static mci_header data_header(const mci_lane* lane, const mci_departure* d, uint8_t kind, uint64_t bytes) {
  return (mci_header){.kind = kind,
                      .channel = lane->channel,
                      .sequence = d->op->sequence,
                      .fingerprint = d->op->fingerprint,
                      .ack = (uint32_t)lane->consumed,
                      .bytes = (uint32_t)bytes};
}

/* Bookkeeping after a slice has left. */
static void slice_left(mci_lane* lane, mci_departure* d, uint64_t bytes, bool lent) {
  mci_engine* engine = lane->peer->engine;
  lane->in_flight[lane->sent % MCI_MAX_CREDITS] = lent ? d->op : NULL;
  lane->slots_out[lane->sent % MCI_MAX_CREDITS] = d->slot;
  if (lent) d->op->outstanding++;
  lane->sent++;
  lane->ack_sent = lane->consumed;
  d->next++;
  d->waited = d->waited < PATIENCE ? 0 : PATIENCE;
  d->slot = NULL;
  d->staged = false;
  d->filled = 0;
  mci_gain(&engine->bytes_sent, bytes);
  lane->peer->bytes_sent += bytes;
  mci_gain(&engine->events, 1);
}

static meshcclResult_t send_reference(mci_lane* lane, mci_departure* d, const void* at, uint64_t bytes,
                                      const struct mci_shared_region* region, bool lent) {
  mci_header header = data_header(lane, d, MCI_MSG_REF, bytes);
  if (lane->peer->raw || !region || !region->id) {
    header.region = MCI_RAW_ADDRESS;
    header.offset = (uint64_t)(uintptr_t)at;
    header.flags = lane->peer->figures.flags & MESHCCL_CAN_PUT ? MCI_REF_PUTS : 0;
    lane->lent[lane->sent % MCI_MAX_CREDITS] = (mci_lent){.at = at, .bytes = (uint32_t)bytes};
  } else {
    MCI_TRY(mci_peer_announce(lane->peer, region, &header.region));
    header.offset = (uint64_t)((const char*)at - (const char*)region->base);
  }
  MCI_TRY(mci_peer_send(lane->peer, &header, NULL, 0, NULL));
  lane->references |= (uint64_t)1 << lane->sent % MCI_MAX_CREDITS;
  lane->peer->engine->references++;
  slice_left(lane, d, bytes, lent);
  return meshcclSuccess;
}

static meshcclResult_t send_value(mci_lane* lane, mci_departure* d, const meshcclPiece_t* pieces, int npieces,
                                  uint64_t bytes) {
  mci_header header = data_header(lane, d, MCI_MSG_DATA, 0);
  meshcclResult_t result = mci_peer_send(lane->peer, &header, pieces, npieces, d->op);
  if (result == meshcclInProgress) {
    d->op->outstanding++;
    result = meshcclSuccess;
  }
  MCI_TRY(result);
  slice_left(lane, d, bytes, false);
  return meshcclSuccess;
}

/* Where the slice stands if other peers may get it from the same slot, else NULL: the operation sends the same to
 * several and does not write its input, in place either. */
static const void* shared_from(const mci_departure* d, uint64_t length) {
  mci_coll coll = d->op->run->program->coll;
  mci_view view = d->source;
  uint64_t contiguous;
  if ((coll != MCI_BROADCAST && coll != MCI_ALL_GATHER) || d->buffer != 0) return NULL;
  const void* at = mci_view_peek(&view, &contiguous);
  return contiguous >= length ? at : NULL;
}

static bool find_shared(mci_engine* engine, mci_departure* d, const void* from, uint64_t length) {
  for (int i = 0; from && i < MCI_SHARED_SLOTS; i++) {
    const mci_shared_slot* s = &engine->shared[i];
    if (!s->slot || s->from != from || s->elements != length) continue;
    uint64_t got;
    mci_view_take(&d->source, length, &got);
    d->slot = s->slot;
    d->slot->users++;
    d->staged = true;
    return true;
  }
  return false;
}

static void share(mci_engine* engine, const mci_departure* d, const void* from, uint64_t length) {
  mci_shared_slot* s = &engine->shared[engine->next_shared++ % MCI_SHARED_SLOTS];
  if (s->slot) mci_slot_release(engine, s->slot);
  *s = (mci_shared_slot){d->slot, from, length};
  d->slot->users++;
}

void mci_lane_forget_shared(mci_engine* engine) {
  for (int i = 0; i < MCI_SHARED_SLOTS; i++) {
    if (engine->shared[i].slot) mci_slot_release(engine, engine->shared[i].slot);
    engine->shared[i].slot = NULL;
  }
}

/* Whether the slice waits until another peer that gets the same has been sent what the slot of this one would put out of
 * reach. A peer may lag because it waits for the one that this slice is for, so patience ends. */
static bool waits_for_others(const mci_lane* lane, mci_departure* d, const char* from) {
  const mci_engine* engine = lane->peer->engine;
  uint64_t slice_bytes = mci_slice_elements(engine, d->op) * d->op->type_size;
  if (!from || d->next < MCI_SHARED_SLOTS || d->waited == PATIENCE) return false;
  for (uint32_t i = 0; i < engine->lane_slots; i++) {
    const mci_lane* other = engine->lanes[i];
    if (!other || other->head == other->tail || !(other->peer->figures.flags & MESHCCL_CAN_MAP)) continue;
    const mci_departure* e = &other->departures[other->head & (other->cap_departures - 1)];
    bool same = e->op == d->op && e->buffer == 0 && e->elements == d->elements &&
                e->source.at + (d->next - e->next) * slice_bytes == from;
    if (same && e->next + MCI_SHARED_SLOTS <= d->next) {
      d->waited++;
      return true;
    }
  }
  return false;
}

/* Copies the slice into its slot. Busy: the device is not done, or others come first. */
static meshcclResult_t fill_slot(mci_lane* lane, mci_departure* d, uint64_t length) {
  mci_engine* engine = lane->peer->engine;
  const meshcclDevice_t* device = engine->options.device;
  const void* whole = d->slot ? NULL : shared_from(d, length);
  if (find_shared(engine, d, whole, length)) return meshcclSuccess;
  if (waits_for_others(lane, d, whole)) return meshcclBusy;
  if (!d->slot) MCI_TRY(mci_slot_take(engine, &d->slot));
  for (;;) {
    if (d->copying) {
      meshcclResult_t polled = device->poll(engine->device_ctx, d->token);
      if (polled == meshcclInProgress) return meshcclBusy;
      d->copying = false;
      MCI_TRY(polled);
    }
    if (d->filled == length) break;
    uint64_t got;
    char* to = d->slot->at + d->filled * d->op->type_size;
    const void* from = mci_view_take(&d->source, length - d->filled, &got);
    d->filled += got;
    meshcclResult_t result = device->copy(engine->device_ctx, to, from, got * d->op->type_size, &d->token);
    d->copying = result == meshcclInProgress;
    if (!d->copying) MCI_TRY(result);
  }
  d->staged = true;
  if (whole) share(engine, d, whole, length);
  return meshcclSuccess;
}

static meshcclResult_t send_staged(mci_lane* lane, mci_departure* d, uint64_t bytes) {
  if (bytes > lane->peer->eager_bytes) return send_reference(lane, d, d->slot->at, bytes, &d->slot->region, false);
  meshcclPiece_t piece = {d->slot->at, bytes};
  return send_value(lane, d, &piece, 1, bytes);
}

/* Lists the stretches of the next `length` elements; false when they are too many for one send. */
static bool gather(mci_lane* lane, mci_view* view, uint64_t length, meshcclPiece_t* pieces, int* npieces) {
  int limit = MCI_MIN(lane->peer->figures.maxPieces, MESHCCL_MAX_PIECES), n = 0;
  while (length > 0) {
    if (n == limit) return false;
    uint64_t got;
    pieces[n].base = mci_view_take(view, length, &got);
    pieces[n++].bytes = got * view->type_size;
    length -= got;
  }
  *npieces = n;
  return true;
}

static meshcclResult_t send_slice(mci_lane* lane, mci_departure* d) {
  uint64_t length = slice_length(lane, d, d->next), bytes = length * d->op->type_size;
  if (d->staged) return send_staged(lane, d, bytes);
  if (length == 0) return send_value(lane, d, NULL, 0, 0);
  if (bytes <= lane->peer->eager_bytes && host_memory(d) && d->filled == 0) {
    meshcclPiece_t pieces[MESHCCL_MAX_PIECES];
    int npieces;
    mci_view ahead = d->source;
    if (gather(lane, &ahead, length, pieces, &npieces)) {
      MCI_TRY(send_value(lane, d, pieces, npieces, bytes));
      d->source = ahead;
      return meshcclSuccess;
    }
  } else if (d->filled == 0 && mci_lane_lends(lane, d)) {
    uint64_t contiguous;
    void* at = mci_view_peek(&d->source, &contiguous);
    if (contiguous >= length) {
      MCI_TRY(send_reference(lane, d, at, bytes, rather_puts(lane, d) ? NULL : region_of(lane, d), true));
      mci_view_take(&d->source, length, &contiguous);
      return meshcclSuccess;
    }
  }
  MCI_TRY(fill_slot(lane, d, length));
  return send_staged(lane, d, bytes);
}

bool mci_lane_sends_now(const mci_lane* lane, uint64_t bytes) {
  const mci_peer* peer = lane->peer;
  return peer->ep && !peer->broken && bytes <= peer->eager_bytes && lane->head == lane->tail && has_credit(lane);
}

/* No room at the moment: a copy waits in the lane's queue. */
static meshcclResult_t send_later(mci_lane* lane, mci_op* op, const char* at, uint64_t elements) {
  uint64_t bytes = elements * op->type_size, number;
  void* room;
  MCI_TRY(mci_bounce_alloc(op, bytes, &room));
  if (bytes > 0) memcpy(room, at, bytes);
  mci_view view = {.base = room, .at = room, .left = elements, .type_size = op->type_size};
  MCI_TRY(mci_lane_push(lane, op, &view, 2, elements, 1, &number));
  mci_lane_departure(lane, number)->ready = 1;
  mci_lane_list(lane);
  return meshcclSuccess;
}

meshcclResult_t mci_lane_send_now(mci_lane* lane, mci_op* op, const char* at, uint64_t elements) {
  mci_engine* engine = lane->peer->engine;
  uint64_t bytes = elements * op->type_size;
  mci_header header = {.kind = MCI_MSG_DATA,
                       .channel = lane->channel,
                       .sequence = op->sequence,
                       .fingerprint = op->fingerprint,
                       .ack = (uint32_t)lane->consumed};
  meshcclPiece_t piece = {at, bytes};
  meshcclResult_t result = mci_peer_send(lane->peer, &header, &piece, bytes > 0, op);
  if (MCI_UNLIKELY(result == meshcclBusy)) return send_later(lane, op, at, elements);
  if (MCI_UNLIKELY(result == meshcclInProgress)) {
    op->outstanding++;
    result = meshcclSuccess;
  }
  mci_peer_writes_next(lane->peer);
  lane->in_flight[lane->sent % MCI_MAX_CREDITS] = NULL;
  lane->slots_out[lane->sent % MCI_MAX_CREDITS] = NULL;
  lane->sent++;
  lane->ack_sent = lane->consumed;
  mci_gain(&engine->bytes_sent, bytes);
  lane->peer->bytes_sent += bytes;
  return result;
}

/* Who asks waits for the slice and goes on when it is told that it has it. Busy: he refuses, having failed, or cannot
 * be told yet. */
static meshcclResult_t put_asked(mci_lane* lane) {
  while (lane->asks) {
    uint32_t i = (uint32_t)__builtin_ctzll(lane->asks);
    mci_lent* lent = &lane->lent[i];
    const char* from = lent->at + (lent->bytes - lent->asked);
    if (lent->to) MCI_TRY(mci_peer_put(lane->peer, lent->to, from, lent->asked));
    lent->to = 0;
    mci_header header = {.kind = MCI_MSG_PUT, .channel = lane->channel, .ack = (uint32_t)lane->consumed, .region = i};
    MCI_TRY(mci_peer_send(lane->peer, &header, NULL, 0, NULL));
    lane->asks &= ~((uint64_t)1 << i);
  }
  return meshcclSuccess;
}

static meshcclResult_t send_ack(mci_lane* lane) {
  mci_header header = {.kind = MCI_MSG_ACK, .channel = lane->channel, .ack = (uint32_t)lane->consumed};
  MCI_TRY(mci_peer_send(lane->peer, &header, NULL, 0, NULL));
  lane->ack_sent = lane->consumed;
  return meshcclSuccess;
}

/* Credit that the peer has enough of goes back after the caller, who waited for what came: with the next message, or in
 * the next call while that waits. */
static bool ack_may_wait(const mci_lane* lane) {
  if (!lane->peer->engine->callers_first || !lane->ack_owed || lane->ack_urgent) return false;
  return lane->consumed - lane->ack_sent <= lane->peer->credits / 2;
}

meshcclResult_t mci_lane_pump(mci_lane* lane) {
  if (!lane->peer->ep || lane->peer->broken) return meshcclSuccess;
  meshcclResult_t result = MCI_UNLIKELY(lane->asks != 0) ? put_asked(lane) : meshcclSuccess;
  while (lane->head != lane->tail && result == meshcclSuccess) {
    mci_departure* d = mci_lane_departure(lane, lane->head);
    if (d->next == d->nslices) {
      d->op->outstanding--;
      lane->head++;
      continue;
    }
    if (d->next >= d->ready || !has_credit(lane)) break;
    result = send_slice(lane, d);
  }
  if (ack_may_wait(lane)) {
    mci_lane_list(lane);
    return result == meshcclBusy ? meshcclSuccess : result;
  }
  if (lane->ack_owed && result == meshcclSuccess) {
    if (lane->ack_sent != lane->consumed) result = send_ack(lane);
    if (result == meshcclSuccess) lane->ack_owed = lane->ack_urgent = false;
  }
  if (result != meshcclBusy) return result;
  mci_lane_list(lane);
  return meshcclSuccess;
}

bool mci_lane_takes_slot(const mci_lane* lane, uint64_t number, uint32_t slice) {
  const mci_departure* d = &lane->departures[number & (lane->cap_departures - 1)];
  if (!lane->peer->ep || number - lane->head >= MOST_FILLED || d->next != slice || d->slot) return false;
  return slice_length(lane, d, slice) * d->op->type_size > lane->peer->eager_bytes;
}

void mci_lane_slot_filled(mci_lane* lane, uint64_t number, mci_slot* slot) {
  mci_departure* d = mci_lane_departure(lane, number);
  uint64_t left = slice_length(lane, d, d->next), got;
  for (; left > 0; left -= got) mci_view_take(&d->source, left, &got);
  d->slot = slot;
  d->staged = true;
}

void mci_lane_acked(mci_lane* lane, uint32_t ack) {
  uint32_t fresh = ack - (uint32_t)lane->acked;
  if (fresh > lane->sent - lane->acked) return; /* older than what is known */
  for (; fresh > 0; fresh--, lane->acked++) {
    mci_op** lender = &lane->in_flight[lane->acked % MCI_MAX_CREDITS];
    if (*lender) (*lender)->outstanding--;
    *lender = NULL;
    mci_slot** slot = &lane->slots_out[lane->acked % MCI_MAX_CREDITS];
    if (*slot) mci_slot_release(lane->peer->engine, *slot);
    *slot = NULL;
    uint64_t bit = (uint64_t)1 << lane->acked % MCI_MAX_CREDITS;
    if (lane->references & bit) lane->peer->engine->references--;
    lane->references &= ~bit;
  }
  if (lane->head != lane->tail) mci_lane_list(lane);
}

static meshcclResult_t ask(mci_lane* lane, char* to, uint32_t bytes) {
  mci_header header = {.kind = MCI_MSG_ASK,
                       .channel = lane->channel,
                       .ack = (uint32_t)lane->consumed,
                       .bytes = bytes,
                       .region = lane->consumed % MCI_MAX_CREDITS,
                       .offset = (uint64_t)(uintptr_t)to};
  MCI_TRY(mci_peer_send(lane->peer, &header, NULL, 0, NULL));
  lane->arrivals[header.region].asked = true;
  lane->peer->engine->asked++;
  return meshcclSuccess;
}

meshcclResult_t mci_lane_fetch_front(mci_lane* lane, void* to, uint32_t written, const mci_arrival** out) {
  mci_engine* engine = lane->peer->engine;
  *out = mci_lane_front(lane);
  if (!*out || !(*out)->remote) return meshcclSuccess;
  *out = NULL;
  if (!to && !lane->fetched) {
    lane->fetched = mci_alloc_aligned(4096, engine->options.slice_bytes);
    if (!lane->fetched) return mci_oom(engine->options.slice_bytes);
    engine->stats.memory_bytes += engine->options.slice_bytes;
  }
  mci_arrival* front = &lane->arrivals[lane->consumed % MCI_MAX_CREDITS];
  char* at = to ? to : lane->fetched;
  uint32_t read = front->bytes - written;
  meshcclResult_t result = written ? ask(lane, at + read, written) : meshcclSuccess;
  if (result != meshcclSuccess) return result == meshcclBusy ? meshcclSuccess : result;
  front->data = at;
  front->full = false;
  front->got = read == 0;
  if (read) result = mci_peer_fetch(lane->peer, front, read);
  front->remote = 0;
  if (front->full) *out = front;
  return result == meshcclBusy ? meshcclSuccess : result;
}

meshcclResult_t mci_lane_asked(mci_lane* lane, const mci_header* header) {
  uint32_t i = header->region;
  bool known = i < MCI_MAX_CREDITS && lane->in_flight[i] && lane->lent[i].at;
  if (!known || header->bytes > lane->lent[i].bytes)
    MCI_FAIL(meshcclInternalError, "rank %u asks for what is not lent to it", lane->peer->rank);
  lane->lent[i].to = header->offset;
  lane->lent[i].asked = header->bytes;
  lane->asks |= (uint64_t)1 << i;
  mci_lane_list(lane);
  return meshcclSuccess;
}

meshcclResult_t mci_lane_was_put(mci_lane* lane, const mci_header* header) {
  mci_arrival* arrival = &lane->arrivals[header->region % MCI_MAX_CREDITS];
  if (!arrival->asked)
    MCI_FAIL(meshcclInternalError, "rank %u has written what it was not asked for", lane->peer->rank);
  arrival->asked = false;
  arrival->full = arrival->got;
  lane->peer->engine->asked--;
  return meshcclSuccess;
}

/* References are acknowledged at once, because the sender's memory waits for it; values when half of the credits is
 * used, long ones of more than four credits when a quarter is: the acknowledgement has the time of the others to come
 * back. */
void mci_lane_consume(mci_lane* lane) {
  mci_engine* engine = lane->peer->engine;
  mci_arrival* front = &lane->arrivals[lane->consumed % MCI_MAX_CREDITS];
  uint32_t credits = lane->peer->credits;
  uint32_t enough = credits > 4 && front->bytes > LONG_BYTES ? credits / 4 : MCI_MAX(1u, credits / 2);
  front->full = false;
  lane->consumed++;
  engine->unconsumed--;
  mci_gain(&engine->bytes_received, front->bytes);
  lane->peer->bytes_received += front->bytes;
  if (front->by_reference || lane->consumed - lane->ack_sent >= enough) {
    lane->ack_owed = true;
    lane->ack_urgent = lane->ack_urgent || front->by_reference;
    mci_lane_list(lane);
  }
}
