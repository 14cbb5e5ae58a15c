/* What transports call: messages that arrive, sends that end, endpoints that break. */
#include <stdio.h>
#include <string.h>

#include "base/net.h"
#include "exec/engine.h"

static void log_line(void* self, int level, const char* text) {
  (void)self;
  mci_log_write((mci_log_level)level, "%s", text);
}

static meshcclResult_t fail_with(void* self, meshcclResult_t result, const char* text) {
  (void)self;
  return mci_fail(result, "%s", text);
}

static const char* parameter(void* self, const char* name) {
  (void)self;
  for (int id = 0; id < MCI_NUM_PARAMS; id++)
    if (strcmp(mci_param_rows[id].name, name) == 0) return mci_param_text((mci_param_id)id);
  char full[96]; /* a variable that only the plugin knows */
  snprintf(full, sizeof full, "MESHCCL_%s", name);
  return mci_env(full);
}

/* Fails the engine with the last error and tells the others. */
static meshcclResult_t give_up(mci_engine* engine, meshcclResult_t result) {
  char text[1024];
  snprintf(text, sizeof text, "%s", mci_error_last());
  engine->options.host.report(engine->options.host.self, result, text);
  mci_engine_fail(engine, result, text);
  return result;
}

meshcclResult_t mci_mismatch(mci_engine* engine, const mci_op* op, const mci_lane* lane, const mci_arrival* arrival) {
  char what[MCI_TEXT_BYTES];
  mci_op_text(op, what);
  if (op->point_to_point)
    return mci_fail(meshcclInvalidUsage,
                    "calls do not match: rank %u called %s, but what rank %u sends has another count or type",
                    engine->options.rank, what, lane->peer->rank);
  return mci_fail(
      meshcclInvalidUsage,
      "calls do not match: operation %u of %s is %s on rank %u; rank %u is in operation %u, which differs (collective, "
      "type, operator, root, count, algorithm, or the calls of a group); every rank must make the same calls in the "
      "same "
      "order",
      op->sequence, engine->options.name, what, engine->options.rank, lane->peer->rank, arrival->sequence);
}

/* A message of the collective under way, or of one that is over, must carry its fingerprint. Later ones wait. */
static meshcclResult_t check_operation(mci_engine* engine, const mci_lane* lane, const mci_arrival* arrival) {
  if (arrival->sequence == 0) return meshcclSuccess; /* point to point */
  const mci_op* op = mci_engine_collective(engine);
  int32_t ahead = (int32_t)(arrival->sequence - engine->sequence);
  if (ahead > 0 || (ahead == 0 && op && arrival->fingerprint == op->fingerprint)) return meshcclSuccess;
  if (op) return mci_mismatch(engine, op, lane, arrival);
  return mci_fail(
      meshcclInvalidUsage,
      "calls do not match: rank %u still sends for operation %u of %s, which rank %u finished as %u; every rank must "
      "make the same calls in the same order",
      lane->peer->rank, arrival->sequence, engine->options.name, engine->options.rank, engine->sequence);
}

static meshcclResult_t new_arrival(mci_lane* lane, const mci_header* header, mci_arrival** out) {
  if (lane->arrived - lane->consumed >= lane->peer->credits)
    MCI_FAIL(meshcclInternalError, "rank %u sent more than its %u credits on channel %u", lane->peer->rank,
             lane->peer->credits, lane->channel);
  mci_arrival* arrival = &lane->arrivals[lane->arrived % MCI_MAX_CREDITS];
  *arrival = (mci_arrival){.bytes = header->bytes, .sequence = header->sequence, .fingerprint = header->fingerprint};
  *out = arrival;
  return meshcclSuccess;
}

/* While nothing waits here the first slot is taken again: memory that a lane never needs is never touched. */
static meshcclResult_t slot_for(mci_lane* lane, uint64_t number, size_t bytes, char** out) {
  mci_engine* engine = lane->peer->engine;
  size_t credits = lane->peer->credits;
  if (!lane->slots) {
    lane->slot_bytes = lane->peer->eager_bytes;
    lane->slots = mci_alloc_aligned(64, credits * lane->slot_bytes);
    if (!lane->slots) return mci_oom(credits * lane->slot_bytes);
    engine->stats.memory_bytes += credits * lane->slot_bytes;
  }
  if (bytes > lane->slot_bytes)
    MCI_FAIL(meshcclInternalError, "rank %u sent a message of %zu bytes, at most %zu were agreed", lane->peer->rank,
             bytes, lane->slot_bytes);
  if (number == lane->consumed) lane->first_slot = number;
  *out = lane->slots + ((number - lane->first_slot) % credits) * lane->slot_bytes;
  return meshcclSuccess;
}

/* The payload goes where it is needed, else into a slot; a brief channel uses what the transport shows where it stands. */
static meshcclResult_t take_value(mci_lane* lane, const mci_header* header, size_t bytes, const void* data,
                                  meshcclPlace_t* places, int* nplaces, void** token) {
  mci_engine* engine = lane->peer->engine;
  mci_arrival* arrival = NULL;
  MCI_TRY(new_arrival(lane, header, &arrival));
  arrival->bytes = (uint32_t)bytes;
  arrival->data = data;
  arrival->full = data || bytes == 0;
  char* place = bytes > 0 ? mci_place_of(lane, header, bytes) : NULL;
  uint64_t number = lane->arrived++;
  engine->unconsumed++;
  MCI_TRY(check_operation(engine, lane, arrival));
  if (arrival->full) MCI_TRY(mci_brief_arrived(engine, lane));
  if (bytes == 0 || lane->consumed > number) return meshcclSuccess;
  if (!place) MCI_TRY(slot_for(lane, number, bytes, &place));
  arrival->data = place;
  if (data) {
    memcpy(place, data, bytes);
  } else {
    places[0] = (meshcclPlace_t){place, bytes};
    *nplaces = 1;
    *token = arrival;
  }
  return meshcclSuccess;
}

static meshcclResult_t take_reference(mci_lane* lane, const mci_header* header) {
  mci_peer* peer = lane->peer;
  mci_arrival* arrival = NULL;
  MCI_TRY(new_arrival(lane, header, &arrival));
  if (header->region == MCI_RAW_ADDRESS && peer->raw) {
    arrival->data = (const void*)(uintptr_t)header->offset;
  } else if (header->region == MCI_RAW_ADDRESS && (peer->figures.flags & MESHCCL_CAN_GET) && header->offset != 0 &&
             header->bytes <= peer->engine->options.slice_bytes) {
    arrival->remote = header->offset;
    arrival->puts = header->flags & MCI_REF_PUTS;
  } else {
    const mci_mapping* mapping = header->region < peer->nmappings ? &peer->mappings[header->region] : NULL;
    if (!mapping || !mapping->base || header->offset > mapping->bytes ||
        header->bytes > mapping->bytes - header->offset)
      MCI_FAIL(meshcclInternalError, "rank %u lends memory that it did not announce", peer->rank);
    arrival->data = (const char*)mapping->base + header->offset;
  }
  arrival->by_reference = true;
  arrival->full = true;
  lane->arrived++;
  peer->engine->unconsumed++;
  return check_operation(peer->engine, lane, arrival);
}

static meshcclResult_t take(mci_peer* peer, const mci_header* header, size_t bytes, const void* data,
                            meshcclPlace_t* places, int* nplaces, void** token) {
  if (header->kind == MCI_MSG_HELLO) {
    if (!peer->heard) peer->engine->unheard--;
    peer->heard = true;
    peer->fetches = header->region != 0;
    return meshcclSuccess;
  }
  if (header->kind == MCI_MSG_KEY) {
    if (!data || bytes != MESHCCL_KEY_BYTES) MCI_FAIL(meshcclInternalError, "rank %u sent a malformed key", peer->rank);
    return mci_peer_map(peer, header->region, header->offset, data);
  }
  if (header->kind == MCI_MSG_FORGET) {
    mci_peer_unmap(peer, header->region);
    return meshcclSuccess;
  }
  mci_lane* lane = peer->last_lane;
  if (MCI_UNLIKELY(!lane || lane->channel != header->channel)) {
    MCI_TRY(mci_lane_get(peer->engine, peer->rank, header->channel, &lane));
    peer->last_lane = lane;
  }
  if (header->ack != (uint32_t)lane->acked) mci_lane_acked(lane, header->ack);
  switch (header->kind) {
    case MCI_MSG_ACK:
      return meshcclSuccess;
    case MCI_MSG_DATA:
      return take_value(lane, header, bytes, data, places, nplaces, token);
    case MCI_MSG_REF:
      return take_reference(lane, header);
    case MCI_MSG_ASK:
      return mci_lane_asked(lane, header);
    case MCI_MSG_PUT:
      return mci_lane_was_put(lane, header);
    default:
      MCI_FAIL(meshcclInternalError, "rank %u sent a message of unknown kind %u", peer->rank, header->kind);
  }
}

static meshcclResult_t arrive(void* self, void* peer_tag, const void* header_bytes, size_t bytes, const void* data,
                              meshcclPlace_t* places, int* nplaces, void** token) {
  mci_port* port = self;
  mci_header header;
  memcpy(&header, header_bytes, sizeof header);
  mci_gain(&port->engine->events, 1);
  if (port->engine->error != meshcclSuccess) return port->engine->error;
  meshcclResult_t result = take(peer_tag, &header, bytes, data, places, nplaces, token);
  return result == meshcclSuccess ? result : give_up(port->engine, result);
}

/* A transfer failed; when its connection broke, that is told next. */
static void lost(mci_engine* engine, meshcclResult_t result) {
  if (!mci_engine_hold(engine, result, "")) give_up(engine, result);
}

static void received(void* self, void* token, meshcclResult_t result) {
  mci_port* port = self;
  mci_arrival* arrival = token;
  mci_gain(&port->engine->events, 1);
  arrival->full = result == meshcclSuccess;
  if (result != meshcclSuccess) lost(port->engine, result);
}

static void sent(void* self, void* token, meshcclResult_t result) {
  mci_port* port = self;
  bool fetched = (uintptr_t)token & MCI_FETCH_TOKEN;
  mci_op* op = fetched ? NULL : token;
  mci_gain(&port->engine->events, 1);
  if (result != meshcclSuccess) {
    lost(port->engine, result); /* the operation does not end as if all had gone well */
  } else if (fetched) {
    mci_arrival* arrival = (mci_arrival*)((uintptr_t)token & ~MCI_FETCH_TOKEN);
    arrival->got = true;
    arrival->full = !arrival->asked;
  } else if (op && port->engine->error == meshcclSuccess) {
    op->outstanding--;
  }
}

static void broken(void* self, void* peer_tag, meshcclResult_t result, const char* why) {
  mci_port* port = self;
  result = mci_peer_broke(peer_tag, result, why);
  if (result != meshcclBusy) give_up(port->engine, result);
}

static void keyed_hash(void* self, const char* purpose, const void* data, size_t bytes,
                       unsigned char out[MESHCCL_MAC_BYTES]) {
  const mci_engine_host* owner = &((mci_port*)self)->engine->options.host;
  owner->mac(owner->self, purpose, data, bytes, out);
}

static void random_bytes(void* self, void* out, size_t bytes) {
  (void)self;
  mci_random(out, bytes);
}

static meshcclResult_t listen_here(void* self, int* fd, meshcclNetAddress_t* addresses, int* n) {
  mci_net_addresses list;
  MCI_TRY(mci_net_listen(((mci_port*)self)->engine->options.host.trusted, 0, fd, &list));
  *n = MCI_MIN(*n, list.n);
  memcpy(addresses, list.at, (size_t)*n * sizeof *addresses);
  return meshcclSuccess;
}

static int accept_next(void* self, int fd, const meshcclNetAddress_t* addresses, int n) {
  (void)self;
  mci_net_addresses list = {.n = MCI_MIN(n, MCI_NET_MAX)};
  memcpy(list.at, addresses, (size_t)list.n * sizeof *addresses);
  return mci_net_accept(fd, &list);
}

static int dial(void* self, const meshcclNetAddress_t* to) {
  (void)self;
  return mci_net_connect(to);
}

void mci_port_host(mci_port* port) {
  const mci_engine_options* options = &port->engine->options;
  port->host = (meshcclTransportHost_t){.abi = MESHCCL_TRANSPORT_ABI,
                                        .size = sizeof port->host,
                                        .self = port,
                                        .rank = (int)options->rank,
                                        .nranks = (int)options->nranks,
                                        .log = log_line,
                                        .fail = fail_with,
                                        .parameter = parameter,
                                        .arrive = arrive,
                                        .received = received,
                                        .sent = sent,
                                        .broken = broken,
                                        .hostId = mci_host_id(),
                                        .mac = keyed_hash,
                                        .random = random_bytes,
                                        .listen = listen_here,
                                        .accept = accept_next,
                                        .dial = dial};
}
