/* Peers: connections made on first use, and the memory that both sides know of each other. */
#include <stdio.h>
#include <string.h>

#include "exec/engine.h"

#define EAGER_BYTES ((size_t)8192)
#define LENT_CREDITS 4u
#define CARRIED_CREDITS 8u

/* Index of the first peer whose rank is not below `rank`. */
static uint32_t position(const mci_engine* engine, uint32_t rank) {
  uint32_t low = 0, high = engine->npeers;
  while (low < high) {
    uint32_t mid = (low + high) / 2;
    if (engine->peers[mid]->rank < rank) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  return low;
}

mci_peer* mci_peer_find(mci_engine* engine, uint32_t rank) {
  uint32_t at = position(engine, rank);
  return at < engine->npeers && engine->peers[at]->rank == rank ? engine->peers[at] : NULL;
}

static meshcclResult_t add_peer(mci_engine* engine, uint32_t rank, mci_peer** out) {
  MCI_TRY(mci_grow(&engine->peers, sizeof *engine->peers, &engine->cap_peers, (size_t)engine->npeers + 1));
  mci_peer* peer = mci_alloc(sizeof *peer);
  if (!peer) return mci_oom(sizeof *peer);
  peer->engine = engine;
  peer->rank = rank;
  uint32_t at = position(engine, rank);
  memmove(&engine->peers[at + 1], &engine->peers[at], (engine->npeers - at) * sizeof *engine->peers);
  engine->peers[at] = peer;
  engine->npeers++;
  *out = peer;
  return meshcclSuccess;
}

/* The blob: for each open transport its name's length, name, address length (2 bytes) and address. */
static meshcclResult_t make_blob(mci_engine* engine, unsigned char* blob, size_t* bytes_out) {
  size_t n = 0;
  for (uint32_t i = 0; i < engine->nports; i++) {
    const meshcclTransport_t* transport = engine->options.transports[engine->ports[i].index];
    size_t name = strlen(transport->name), length = MESHCCL_ADDRESS_BYTES;
    if (n + name + MESHCCL_ADDRESS_BYTES + 3 > MCI_BLOB_MAX)
      MCI_FAIL(meshcclInternalError, "the addresses of %u transports do not fit into %d bytes", engine->nports,
               MCI_BLOB_MAX);
    blob[n++] = (unsigned char)name;
    memcpy(blob + n, transport->name, name);
    n += name;
    MCI_TRY(transport->address(engine->ports[i].ctx, blob + n + 2, &length));
    blob[n] = (unsigned char)length;
    blob[n + 1] = (unsigned char)(length >> 8);
    n += 2 + length;
  }
  *bytes_out = n;
  return meshcclSuccess;
}

/* The address of `name` in a blob from a peer, or NULL. */
static const unsigned char* find_address(const unsigned char* blob, size_t bytes, const char* name,
                                         size_t* length_out) {
  size_t n = 0;
  while (n < bytes) {
    size_t name_length = blob[n++];
    if (bytes - n < name_length + 2) return NULL;
    const unsigned char* its_name = blob + n;
    n += name_length;
    size_t length = blob[n] | (size_t)blob[n + 1] << 8;
    n += 2;
    if (bytes - n < length) return NULL;
    if (name_length == strlen(name) && memcmp(its_name, name, name_length) == 0) {
      *length_out = length;
      return blob + n;
    }
    n += length;
  }
  return NULL;
}

static meshcclResult_t introduce(mci_peer* peer) {
  if (peer->introduced) return meshcclSuccess;
  mci_engine* engine = peer->engine;
  unsigned char blob[MCI_BLOB_MAX];
  size_t bytes = 0;
  MCI_TRY(make_blob(engine, blob, &bytes));
  peer->introduced = true;
  if (peer->rank == engine->options.rank) return mci_engine_meet(engine, peer->rank, blob, bytes);
  return engine->options.host.introduce(engine->options.host.self, peer->rank, blob, bytes);
}

meshcclResult_t mci_peer_get(mci_engine* engine, uint32_t rank, mci_peer** out) {
  mci_peer* peer = mci_peer_find(engine, rank);
  if (!peer) MCI_TRY(add_peer(engine, rank, &peer));
  MCI_TRY(introduce(peer));
  *out = peer;
  return meshcclSuccess;
}

/* Why the transports before the chosen one were not. */
static void pass_over(char* text, size_t size, const char* name, bool first, bool offered) {
  size_t used = first ? 0 : strlen(text);
  snprintf(text + used, size - used, "%s%s %s", first ? "" : ", ", name,
           offered ? "does not reach it" : "is not there");
}

/* Takes the first transport in order of preference that reaches the address; both sides see the same order. */
static meshcclResult_t connect_peer(mci_peer* peer, const unsigned char* blob, size_t bytes) {
  mci_engine* engine = peer->engine;
  char passed[160] = "it comes first";
  for (uint32_t i = 0; i < engine->nports && !peer->ep; i++) {
    mci_port* port = &engine->ports[i];
    const meshcclTransport_t* transport = engine->options.transports[port->index];
    size_t length;
    const unsigned char* address = find_address(blob, bytes, transport->name, &length);
    if (!address || transport->reach(port->ctx, address, length, &peer->figures) != meshcclSuccess) {
      pass_over(passed, sizeof passed, transport->name, i == 0, address != NULL);
      continue;
    }
    MCI_TRY(transport->connect(port->ctx, peer, (int)peer->rank, address, length, &peer->ep));
    peer->transport = i;
    bool can_map = peer->figures.flags & MESHCCL_CAN_MAP;
    peer->raw = (peer->figures.flags & MESHCCL_SAME_PROCESS) && (!can_map || peer->rank == engine->options.rank);
    bool maps = can_map || peer->raw;
    size_t largest = MCI_MIN(peer->figures.maxPayload, engine->options.slice_bytes);
    if (!maps && largest < engine->options.slice_bytes)
      MCI_FAIL(meshcclNotSupported, "transport %s carries %zu bytes per message, MESHCCL_SLICE is %llu: set it to %zu",
               transport->name, largest, (unsigned long long)engine->options.slice_bytes, largest);
    peer->eager_bytes = maps ? MCI_MIN(largest, EAGER_BYTES) : largest;
    peer->credits = engine->options.credits ? engine->options.credits : maps ? LENT_CREDITS : CARRIED_CREDITS;
    MCI_INFO("%s: rank %u reaches rank %u over %s: %s", engine->options.name, engine->options.rank, peer->rank,
             transport->name, passed);
  }
  if (!peer->ep)
    MCI_FAIL(meshcclNotSupported,
             "rank %u and rank %u have no transport in common that joins them; look at MESHCCL_TRANSPORTS and "
             "MESHCCL_HOST_ID",
             engine->options.rank, peer->rank);
  engine->stats.peers++;
  peer->hello_owed = true;
  engine->hellos_owed++;
  engine->unheard++;
  return meshcclSuccess;
}

meshcclResult_t mci_peer_greet(mci_engine* engine) {
  for (uint32_t p = 0; p < engine->npeers && engine->hellos_owed; p++) {
    mci_peer* peer = engine->peers[p];
    if (!peer->hello_owed) continue;
    mci_header header = {.kind = MCI_MSG_HELLO, .region = peer->figures.flags & MESHCCL_CAN_GET ? 1 : 0};
    meshcclResult_t result = mci_peer_send(peer, &header, NULL, 0, NULL);
    if (result == meshcclBusy) continue;
    MCI_TRY(result);
    peer->hello_owed = false;
    engine->hellos_owed--;
  }
  return meshcclSuccess;
}

meshcclResult_t mci_engine_meet(mci_engine* engine, uint32_t rank, const void* blob, size_t bytes) {
  mci_peer* peer = mci_peer_find(engine, rank);
  if (!peer) MCI_TRY(add_peer(engine, rank, &peer));
  if (peer->ep) return meshcclSuccess;
  MCI_TRY(introduce(peer));
  if (peer->ep) return meshcclSuccess; /* introduced to itself */
  MCI_TRY(connect_peer(peer, blob, bytes));
  mci_gain(&engine->events, 1);
  for (uint32_t i = 0; i < engine->lane_slots; i++)
    if (engine->lanes[i] && engine->lanes[i]->peer == peer) mci_lane_list(engine->lanes[i]);
  return meshcclSuccess;
}

static const meshcclTransport_t* transport_of(const mci_peer* peer) {
  return peer->engine->options.transports[peer->engine->ports[peer->transport].index];
}

/* The transport knows the cause, only this side what was going on. */
meshcclResult_t mci_peer_broke(mci_peer* peer, meshcclResult_t result, const char* why) {
  mci_engine* engine = peer->engine;
  const mci_op* op = engine->active;
  char what[MCI_TEXT_BYTES], text[1024];
  snprintf(text, sizeof text, "the connection of rank %u to rank %u broke %s operation %u%s%s: %s",
           engine->options.rank, peer->rank, op ? "in" : "after", op ? op->sequence : engine->sequence, op ? ": " : "",
           op ? mci_op_text(op, what) : "", why);
  peer->broken = true;
  if (mci_engine_hold(engine, result, text)) return meshcclBusy;
  return mci_fail(result, "%s", text);
}

meshcclResult_t mci_peer_send(mci_peer* peer, const mci_header* header, const meshcclPiece_t* pieces, int npieces,
                              void* token) {
  if (MCI_UNLIKELY(peer->broken)) return meshcclBusy;
  meshcclResult_t result = transport_of(peer)->send(peer->ep, header, pieces, npieces, token);
  if (MCI_LIKELY(result == meshcclSuccess || result == meshcclBusy || result == meshcclInProgress)) return result;
  return mci_peer_broke(peer, result, mci_error_last());
}

void mci_peer_writes_next(const mci_peer* peer) {
  const meshcclTransport_t* transport = transport_of(peer);
  meshcclPlace_t lines[2] = {{NULL, 0}, {NULL, 0}};
  if (transport->writesNext) transport->writesNext(peer->ep, lines);
  for (int i = 0; i < 2; i++) {
    atomic_store_explicit(&peer->engine->writes_next[i].at, lines[i].base, memory_order_relaxed);
    atomic_store_explicit(&peer->engine->writes_next[i].bytes, (uint32_t)lines[i].bytes, memory_order_relaxed);
  }
}

meshcclResult_t mci_peer_put(mci_peer* peer, uint64_t remote, const void* from, uint64_t bytes) {
  if (MCI_UNLIKELY(peer->broken)) return meshcclBusy;
  meshcclResult_t result = transport_of(peer)->put(peer->ep, remote, from, bytes);
  if (MCI_LIKELY(result == meshcclSuccess || result == meshcclBusy)) return result;
  return mci_peer_broke(peer, result, mci_error_last());
}

void mci_peer_refuse_puts(mci_engine* engine) {
  for (uint32_t p = 0; p < engine->npeers && engine->asked; p++)
    if (engine->peers[p]->ep) transport_of(engine->peers[p])->refusePuts(engine->peers[p]->ep);
  engine->asked = 0;
}

meshcclResult_t mci_peer_fetch(mci_peer* peer, mci_arrival* arrival, uint32_t bytes) {
  if (MCI_UNLIKELY(peer->broken)) return meshcclBusy;
  meshcclResult_t result = transport_of(peer)->get(peer->ep, arrival->remote, (void*)(uintptr_t)arrival->data, bytes,
                                                   (void*)((uintptr_t)arrival | MCI_FETCH_TOKEN));
  if (result == meshcclInProgress) return meshcclBusy; /* the transport may have said within get() that it is over */
  if (MCI_UNLIKELY(result != meshcclSuccess)) return mci_peer_broke(peer, result, mci_error_last());
  arrival->got = true;
  arrival->full = !arrival->asked;
  return meshcclSuccess;
}

static meshcclResult_t tell_key(mci_peer* peer, uint32_t number, const struct mci_shared_region* region) {
  unsigned char key[MESHCCL_KEY_BYTES] = {0};
  meshcclMemory_t memory = {.id = region->id, .fd = region->fd, .base = region->base, .bytes = region->bytes};
  MCI_TRY(transport_of(peer)->memoryKey(peer->engine->ports[peer->transport].ctx, &memory, key));
  mci_header header = {.kind = MCI_MSG_KEY, .bytes = sizeof key, .region = number, .offset = region->bytes};
  meshcclPiece_t piece = {key, sizeof key};
  return mci_peer_send(peer, &header, &piece, 1, NULL);
}

meshcclResult_t mci_peer_announce(mci_peer* peer, const struct mci_shared_region* region, uint32_t* number_out) {
  uint32_t number = peer->nannounced;
  for (uint32_t i = 0; i < peer->nannounced; i++) {
    if (peer->announced[i].id == region->id) {
      *number_out = i;
      return meshcclSuccess;
    }
    if (peer->announced[i].id == 0) number = MCI_MIN(number, i);
  }
  MCI_TRY(mci_grow(&peer->announced, sizeof *peer->announced, &peer->cap_announced, (size_t)number + 1));
  MCI_TRY(tell_key(peer, number, region));
  peer->announced[number] = (mci_announced){.id = region->id};
  peer->nannounced = MCI_MAX(peer->nannounced, number + 1);
  *number_out = number;
  return meshcclSuccess;
}

/* Regions freed by the application: peers give their mappings back, so that memory does not leak through them. */
void mci_peer_forget_freed(mci_engine* engine) {
  uint64_t frees = mci_shared_frees();
  if (frees == engine->frees_seen) return;
  bool all_told = true;
  for (uint32_t p = 0; p < engine->npeers; p++) {
    mci_peer* peer = engine->peers[p];
    for (uint32_t i = 0; i < peer->nannounced; i++) {
      mci_announced* known = &peer->announced[i];
      if (!known->id || mci_shared_alive(known->id)) continue;
      mci_header header = {.kind = MCI_MSG_FORGET, .region = i};
      if (mci_peer_send(peer, &header, NULL, 0, NULL) == meshcclBusy) {
        all_told = false;
      } else {
        known->id = 0;
      }
    }
  }
  if (all_told) engine->frees_seen = frees;
}

meshcclResult_t mci_peer_map(mci_peer* peer, uint32_t number, uint64_t bytes, const void* key) {
  if (number > 65535) MCI_FAIL(meshcclInternalError, "rank %u announces memory region %u", peer->rank, number);
  MCI_TRY(mci_grow(&peer->mappings, sizeof *peer->mappings, &peer->cap_mappings, (size_t)number + 1));
  peer->nmappings = MCI_MAX(peer->nmappings, number + 1);
  mci_peer_unmap(peer, number);
  mci_mapping* mapping = &peer->mappings[number];
  memcpy(mapping->key, key, sizeof mapping->key);
  MCI_TRY(transport_of(peer)->map(peer->ep, key, &mapping->base));
  mapping->bytes = bytes;
  return meshcclSuccess;
}

void mci_peer_unmap(mci_peer* peer, uint32_t number) {
  if (number >= peer->nmappings || !peer->mappings[number].base) return;
  transport_of(peer)->unmap(peer->ep, peer->mappings[number].key, peer->mappings[number].base);
  peer->mappings[number].base = NULL;
}

void mci_peer_destroy(mci_peer* peer) {
  for (uint32_t i = 0; i < peer->nmappings; i++) mci_peer_unmap(peer, i);
  if (peer->ep) transport_of(peer)->disconnect(peer->ep);
  mci_free(peer->announced);
  mci_free(peer->mappings);
  mci_free(peer);
}
