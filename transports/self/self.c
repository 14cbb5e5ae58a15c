/* The transport of a rank to itself: a queue per endpoint, emptied by progress(). Small payloads are copied into the
 * queue; larger ones stay where they are until the host has taken them, so that no payload is copied twice. Delivery
 * happens in progress() only, never in send(): a callback that sends does not recurse. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "meshccl/transport.h"

#define MAGIC 0x666c6573u /* "self" */
#define QUEUE 64u
#define MAX_PAYLOAD ((size_t)16 << 20)
#define COPY_BYTES (MESHCCL_MAX_PIECES * sizeof(meshcclPiece_t))

struct message {
  unsigned char header[MESHCCL_HEADER_BYTES];
  size_t bytes;
  void* token;
  int npieces; /* 0: the payload was copied */
  union {
    meshcclPiece_t pieces[MESHCCL_MAX_PIECES];
    unsigned char copy[COPY_BYTES];
  };
};

struct self_ctx;

struct self_ep {
  struct self_ctx* ctx;
  struct self_ep* next;
  void* peer;
  uint64_t head, tail; /* messages queued and handled so far */
  bool gone;           /* disconnected while progress() stands in it */
  struct message queue[QUEUE];
};

struct self_ctx {
  const meshcclTransportHost_t* host;
  struct self_ep* eps;
  uint64_t token;
  bool in_progress;
  bool armed; /* arm() was called since the last progress(): a send makes fd readable */
  int fd;
};

struct self_address {
  uint32_t magic, zero;
  uint64_t token;
};

static meshcclResult_t fail(const struct self_ctx* ctx, meshcclResult_t result, const char* text) {
  return ctx->host->fail(ctx->host->self, result, text);
}

static meshcclResult_t self_open(const meshcclTransportHost_t* host, void** out) {
  char text[128];
  struct self_ctx* ctx = calloc(1, sizeof *ctx);
  if (!ctx) return host->fail(host->self, meshcclSystemError, "self: out of memory for a context");
  ctx->host = host;
  ctx->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (ctx->fd < 0 || getrandom(&ctx->token, sizeof ctx->token, 0) != sizeof ctx->token) {
    snprintf(text, sizeof text, "self: no descriptor or no random number: %s", strerror(errno));
    if (ctx->fd >= 0) close(ctx->fd);
    free(ctx);
    return host->fail(host->self, meshcclSystemError, text);
  }
  *out = ctx;
  return meshcclSuccess;
}

static void self_close(void* opaque) {
  struct self_ctx* ctx = opaque;
  close(ctx->fd);
  free(ctx);
}

static meshcclResult_t self_address(void* opaque, void* address, size_t* bytes) {
  struct self_ctx* ctx = opaque;
  struct self_address own = {.magic = MAGIC, .token = ctx->token};
  if (*bytes < sizeof own) return fail(ctx, meshcclInvalidArgument, "self: the place for the address is too small");
  memcpy(address, &own, sizeof own);
  *bytes = sizeof own;
  return meshcclSuccess;
}

static bool is_own(const struct self_ctx* ctx, const void* address, size_t bytes) {
  struct self_address other;
  if (bytes != sizeof other) return false;
  memcpy(&other, address, sizeof other);
  return other.magic == MAGIC && other.token == ctx->token;
}

static meshcclResult_t self_reach(void* ctx, const void* address, size_t bytes, meshcclTransportFigures_t* figures) {
  if (!is_own(ctx, address, bytes)) return meshcclNotSupported;
  *figures = (meshcclTransportFigures_t){.lat_ns = 30,
                                         .bw_Bps = 20000000000u,
                                         .maxPayload = MAX_PAYLOAD,
                                         .maxPieces = MESHCCL_MAX_PIECES,
                                         .flags = MESHCCL_CAN_MAP | MESHCCL_CAN_GET | MESHCCL_SAME_PROCESS};
  return meshcclSuccess;
}

static meshcclResult_t self_connect(void* opaque, void* peer, int peerRank, const void* address, size_t bytes,
                                    void** out) {
  struct self_ctx* ctx = opaque;
  char text[160];
  if (!is_own(ctx, address, bytes)) {
    snprintf(text, sizeof text, "self: rank %d is not this context; self reaches nobody else", peerRank);
    return fail(ctx, meshcclInvalidArgument, text);
  }
  struct self_ep* ep = calloc(1, sizeof *ep);
  if (!ep) return fail(ctx, meshcclSystemError, "self: out of memory for an endpoint");
  ep->ctx = ctx;
  ep->peer = peer;
  ep->next = ctx->eps;
  ctx->eps = ep;
  *out = ep;
  return meshcclSuccess;
}

static void release(struct self_ep* ep) {
  struct self_ep** link = &ep->ctx->eps;
  while (*link != ep) link = &(*link)->next;
  *link = ep->next;
  free(ep);
}

static void self_disconnect(void* opaque) {
  struct self_ep* ep = opaque;
  ep->gone = true;
  if (!ep->ctx->in_progress) release(ep);
}

static void gather(unsigned char* to, const meshcclPiece_t* pieces, int npieces) {
  for (int i = 0; i < npieces; i++) {
    if (pieces[i].bytes) memcpy(to, pieces[i].base, pieces[i].bytes);
    to += pieces[i].bytes;
  }
}

static meshcclResult_t self_send(void* opaque, const void* header, const meshcclPiece_t* pieces, int npieces,
                                 void* token) {
  struct self_ep* ep = opaque;
  size_t bytes = 0;
  if (npieces < 0 || npieces > MESHCCL_MAX_PIECES)
    return fail(ep->ctx, meshcclInvalidArgument, "self: a message has 0 to 16 pieces");
  for (int i = 0; i < npieces; i++) bytes += pieces[i].bytes;
  if (bytes > MAX_PAYLOAD) return fail(ep->ctx, meshcclInvalidArgument, "self: a payload has at most 16 MiB");
  if (ep->head - ep->tail == QUEUE) return meshcclBusy;
  struct message* message = &ep->queue[ep->head % QUEUE];
  memcpy(message->header, header, MESHCCL_HEADER_BYTES);
  message->bytes = bytes;
  message->token = token;
  message->npieces = bytes <= COPY_BYTES ? 0 : npieces;
  if (message->npieces == 0) {
    gather(message->copy, pieces, npieces);
  } else {
    memcpy(message->pieces, pieces, (size_t)npieces * sizeof *pieces);
  }
  ep->head++;
  if (__builtin_expect(ep->ctx->armed, 0)) eventfd_write(ep->ctx->fd, 1);
  return message->npieces == 0 ? meshcclSuccess : meshcclInProgress;
}

/* Copies what lies in pieces to where the host wants it; both hold the same number of bytes. */
static void scatter(const meshcclPiece_t* pieces, const meshcclPlace_t* places, size_t bytes) {
  size_t piece_at = 0, place_at = 0;
  while (bytes > 0) {
    size_t n = bytes;
    if (pieces->bytes - piece_at < n) n = pieces->bytes - piece_at;
    if (places->bytes - place_at < n) n = places->bytes - place_at;
    if (n) memmove((char*)places->base + place_at, (const char*)pieces->base + piece_at, n);
    bytes -= n;
    piece_at += n;
    place_at += n;
    if (piece_at == pieces->bytes) pieces++, piece_at = 0;
    if (place_at == places->bytes) places++, place_at = 0;
  }
}

static bool fits(const meshcclPlace_t* places, int nplaces, size_t bytes) {
  size_t room = 0;
  if (nplaces < 0 || nplaces > MESHCCL_MAX_PIECES) return false;
  for (int i = 0; i < nplaces; i++) room += places[i].bytes;
  return room == bytes;
}

/* A single stretch is shown to the host in place; several are copied once, to where it wants them. */
static void hand_over(struct self_ep* ep, const struct message* message) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  meshcclPlace_t places[MESHCCL_MAX_PIECES];
  void* token = NULL;
  int nplaces = 0;
  const void* data = message->npieces == 0 ? message->copy : message->npieces == 1 ? message->pieces[0].base : NULL;
  meshcclResult_t taken =
      host->arrive(host->self, ep->peer, message->header, message->bytes, data, places, &nplaces, &token);
  if (taken != meshcclSuccess || data) return;
  meshcclResult_t result = meshcclSuccess;
  if (fits(places, nplaces, message->bytes)) {
    scatter(message->pieces, places, message->bytes);
  } else {
    result = fail(ep->ctx, meshcclInternalError, "self: the places for a message do not hold its payload exactly");
  }
  host->received(host->self, token, result);
}

/* Handles what was queued at entry; what callbacks add waits for the next call, so that none keeps us here for ever. */
static int drain(struct self_ep* ep) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  uint64_t end = ep->head;
  int events = 0;
  while (ep->tail != end && !ep->gone) {
    struct message* message = &ep->queue[ep->tail % QUEUE];
    hand_over(ep, message);
    bool waited_for = message->npieces > 0;
    void* token = message->token;
    ep->tail++;
    if (waited_for && !ep->gone) host->sent(host->self, token, meshcclSuccess);
    events++;
  }
  return events;
}

static void disarm(struct self_ctx* ctx) {
  eventfd_t ignored;
  ctx->armed = false;
  eventfd_read(ctx->fd, &ignored);
}

static int self_progress(void* opaque) {
  struct self_ctx* ctx = opaque;
  int events = 0;
  if (__builtin_expect(ctx->armed, 0)) disarm(ctx);
  ctx->in_progress = true;
  for (struct self_ep* ep = ctx->eps; ep; ep = ep->next) events += drain(ep);
  ctx->in_progress = false;
  for (struct self_ep *ep = ctx->eps, *next; ep; ep = next) {
    next = ep->next;
    if (ep->gone) release(ep);
  }
  return events;
}

static meshcclResult_t self_wait_handle(void* opaque, int* fd, uint32_t* poll_us) {
  *fd = ((struct self_ctx*)opaque)->fd;
  *poll_us = 0;
  return meshcclSuccess;
}

static meshcclResult_t self_arm(void* opaque) {
  struct self_ctx* ctx = opaque;
  for (struct self_ep* ep = ctx->eps; ep; ep = ep->next)
    if (ep->head != ep->tail) return meshcclBusy;
  ctx->armed = true;
  return meshcclSuccess;
}

/* All of our own memory is mapped already: a key is its address. */
static meshcclResult_t self_memory_key(void* ctx, const meshcclMemory_t* memory, void* key) {
  (void)ctx;
  memset(key, 0, MESHCCL_KEY_BYTES);
  memcpy(key, &memory->base, sizeof memory->base);
  return meshcclSuccess;
}

static meshcclResult_t self_map(void* ep, const void* key, void** base) {
  (void)ep;
  memcpy(base, key, sizeof *base);
  return meshcclSuccess;
}

static void self_unmap(void* ep, const void* key, void* base) { (void)ep, (void)key, (void)base; }

static meshcclResult_t self_get(void* ep, uint64_t remote, void* local, size_t bytes, void* token) {
  (void)ep, (void)token;
  if (bytes) memmove(local, (const void*)(uintptr_t)remote, bytes);
  return meshcclSuccess;
}

const meshcclTransport_t mci_transport_self = {
    .abi = MESHCCL_TRANSPORT_ABI,
    .size = sizeof(meshcclTransport_t),
    .name = "self",
    .open = self_open,
    .close = self_close,
    .address = self_address,
    .reach = self_reach,
    .connect = self_connect,
    .disconnect = self_disconnect,
    .send = self_send,
    .progress = self_progress,
    .waitHandle = self_wait_handle,
    .arm = self_arm,
    .memoryKey = self_memory_key,
    .map = self_map,
    .unmap = self_unmap,
    .get = self_get,
};
