/* The table of the in-memory test transport. A oneway is one direction between two contexts; it is made by whichever
 * side comes first and lives until both have let go of it, so early sends and late disconnects need no handshake. */
#include "support/transport_memory.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAGIC 0x79726f6d656dull
#define MAX_DEPTH 64u
#define MAX_PAYLOAD 65536u

typedef struct {
  unsigned char header[MESHCCL_HEADER_BYTES];
  size_t bytes;
  unsigned char* copy; /* the payload; NULL: lent, or none */
  meshcclPiece_t pieces[MESHCCL_MAX_PIECES];
  int npieces;
  void* token;
} message;

/* Queued messages are [tail, head); those in [returned, tail) are taken and their senders do not know it yet. */
typedef struct oneway {
  struct oneway* next;
  uint64_t from, to; /* contexts */
  uint64_t head, tail, returned;
  unsigned depth;
  bool sender, receiver; /* the sides that hold it */
  bool senderGone, receiverGone;
  message queue[MAX_DEPTH];
} oneway;

typedef struct arrival {
  struct arrival* next;
  unsigned char* data;
  meshcclPlace_t places[MESHCCL_MAX_PIECES];
  int nplaces;
  void* token;
  struct endpoint* ep;
} arrival;

typedef struct endpoint {
  struct endpoint* next;
  struct context* ctx;
  void* peer;
  oneway *out, *in;
} endpoint;

typedef struct context {
  struct context* next;
  const meshcclTransportHost_t* host;
  uint64_t id;
  int wake;
  unsigned depth;
  bool places, lend, poll;
  endpoint* endpoints;
  arrival* filling; /* newest first */
} context;

typedef struct {
  uint64_t magic, process, id;
} address_text;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static oneway* oneways;
static context* contexts;
static uint64_t last_id;

static meshcclResult_t fail(context* ctx, meshcclResult_t result, const char* text) {
  return ctx->host->fail(ctx->host->self, result, text);
}

/* ---- contexts ---- */

static void read_parameter(context* ctx) {
  const meshcclTransportHost_t* host = ctx->host;
  const char* text = host->parameter ? host->parameter(host->self, "TEST_MEMORY") : NULL;
  ctx->depth = 4;
  if (!text) return;
  ctx->places = strstr(text, "places") != NULL;
  ctx->lend = strstr(text, "lend") != NULL;
  ctx->poll = strstr(text, "poll") != NULL;
  const char* depth = strstr(text, "depth=");
  if (depth) ctx->depth = (unsigned)strtoul(depth + 6, NULL, 10);
  if (ctx->depth < 1 || ctx->depth > MAX_DEPTH) ctx->depth = 1;
}

static meshcclResult_t memory_open(const meshcclTransportHost_t* host, void** out) {
  context* ctx = calloc(1, sizeof *ctx);
  if (!ctx) return host->fail(host->self, meshcclSystemError, "memory: out of memory for a context");
  ctx->host = host;
  read_parameter(ctx);
  ctx->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (ctx->wake < 0) {
    free(ctx);
    return host->fail(host->self, meshcclSystemError, "memory: eventfd failed; raise the limit of open files");
  }
  pthread_mutex_lock(&lock);
  ctx->id = ++last_id;
  ctx->next = contexts;
  contexts = ctx;
  pthread_mutex_unlock(&lock);
  *out = ctx;
  return meshcclSuccess;
}

static meshcclResult_t memory_address(void* opaque, void* address, size_t* bytes) {
  context* ctx = opaque;
  address_text text = {MAGIC, (uint64_t)getpid(), ctx->id};
  if (*bytes < sizeof text) return fail(ctx, meshcclInvalidArgument, "memory: no room for the address");
  memcpy(address, &text, sizeof text);
  *bytes = sizeof text;
  return meshcclSuccess;
}

static bool reachable(const void* address, size_t bytes, address_text* text) {
  if (bytes != sizeof *text) return false;
  memcpy(text, address, sizeof *text);
  return text->magic == MAGIC && text->process == (uint64_t)getpid();
}

static meshcclResult_t memory_reach(void* opaque, const void* address, size_t bytes,
                                    meshcclTransportFigures_t* figures) {
  (void)opaque;
  address_text text;
  if (!reachable(address, bytes, &text)) return meshcclNotSupported;
  *figures = (meshcclTransportFigures_t){.lat_ns = 2000,
                                         .bw_Bps = 1000000000u,
                                         .maxPayload = MAX_PAYLOAD,
                                         .maxPieces = MESHCCL_MAX_PIECES,
                                         .flags = MESHCCL_SAME_PROCESS};
  return meshcclSuccess;
}

/* ---- queues; the lock is held ---- */

static void wake(uint64_t id) {
  for (context* ctx = contexts; ctx; ctx = ctx->next)
    if (ctx->id == id && eventfd_write(ctx->wake, 1) != 0) return;
}

static oneway* oneway_find(uint64_t from, uint64_t to, unsigned depth) {
  for (oneway* p = oneways; p; p = p->next)
    if (p->from == from && p->to == to) return p;
  oneway* p = calloc(1, sizeof *p);
  if (!p) return NULL;
  p->from = from;
  p->to = to;
  p->depth = depth;
  p->next = oneways;
  oneways = p;
  return p;
}

static void oneway_release(oneway* p) {
  /* A receiver that never came can still come: what was accepted waits for it as long as its context is open. */
  bool awaited = false;
  for (context* ctx = contexts; ctx && !p->receiverGone; ctx = ctx->next) awaited |= ctx->id == p->to;
  if (p->sender || p->receiver || (awaited && p->tail != p->head)) return;
  oneway** at = &oneways;
  while (*at != p) at = &(*at)->next;
  *at = p->next;
  for (; p->tail != p->head; p->tail++) free(p->queue[p->tail % p->depth].copy);
  free(p);
}

/* Also ends what was kept for this context and never fetched. */
static void memory_close(void* opaque) {
  context* ctx = opaque;
  pthread_mutex_lock(&lock);
  context** at = &contexts;
  while (*at != ctx) at = &(*at)->next;
  *at = ctx->next;
  for (oneway *p = oneways, *next; p; p = next) {
    next = p->next;
    if (p->to == ctx->id) oneway_release(p);
  }
  pthread_mutex_unlock(&lock);
  close(ctx->wake);
  free(ctx);
}

/* ---- endpoints ---- */

static meshcclResult_t memory_connect(void* opaque, void* peer, int peerRank, const void* address, size_t bytes,
                                      void** out) {
  context* ctx = opaque;
  address_text text;
  (void)peerRank;
  if (!reachable(address, bytes, &text))
    return fail(ctx, meshcclInvalidArgument, "memory: an address of another process");
  endpoint* ep = calloc(1, sizeof *ep);
  if (!ep) return fail(ctx, meshcclSystemError, "memory: out of memory for an endpoint");
  ep->ctx = ctx;
  ep->peer = peer;
  pthread_mutex_lock(&lock);
  ep->out = oneway_find(ctx->id, text.id, ctx->depth);
  ep->in = ep->out ? oneway_find(text.id, ctx->id, ctx->depth) : NULL;
  if (ep->in) {
    ep->out->sender = true;
    ep->in->receiver = true;
  }
  pthread_mutex_unlock(&lock);
  if (!ep->in) {
    free(ep);
    return fail(ctx, meshcclSystemError, "memory: out of memory for a queue");
  }
  ep->next = ctx->endpoints;
  ctx->endpoints = ep;
  *out = ep;
  return meshcclSuccess;
}

static void gather(unsigned char* to, const meshcclPiece_t* pieces, int n) {
  for (int i = 0; i < n; i++) {
    if (pieces[i].bytes) memcpy(to, pieces[i].base, pieces[i].bytes);
    to += pieces[i].bytes;
  }
}

/* Lent payloads become copies, because their memory is the caller's again when the context is closed. */
static void keep_lent(oneway* p) {
  for (uint64_t i = p->tail; i != p->head; i++) {
    message* m = &p->queue[i % p->depth];
    if (m->copy || m->npieces == 0) continue;
    m->copy = malloc(m->bytes + 1);
    gather(m->copy, m->pieces, m->npieces);
    m->npieces = 0;
  }
}

static void forget_arrivals(context* ctx, endpoint* ep) {
  for (arrival** at = &ctx->filling; *at;) {
    arrival* a = *at;
    if (a->ep != ep) {
      at = &a->next;
      continue;
    }
    *at = a->next;
    free(a->data);
    free(a);
  }
}

static void memory_disconnect(void* opaque) {
  endpoint* ep = opaque;
  context* ctx = ep->ctx;
  endpoint** at = &ctx->endpoints;
  while (*at != ep) at = &(*at)->next;
  *at = ep->next;
  forget_arrivals(ctx, ep);
  pthread_mutex_lock(&lock);
  oneway *out = ep->out, *in = ep->in;
  keep_lent(out);
  out->sender = false;
  in->receiver = false;
  in->receiverGone = true;
  wake(in->from);
  oneway_release(out);
  oneway_release(in);
  pthread_mutex_unlock(&lock);
  free(ep);
}

static meshcclResult_t memory_send(void* opaque, const void* header, const meshcclPiece_t* pieces, int npieces,
                                   void* token) {
  endpoint* ep = opaque;
  size_t bytes = 0;
  for (int i = 0; i < npieces; i++) bytes += pieces[i].bytes;
  if (bytes > MAX_PAYLOAD) return fail(ep->ctx, meshcclInvalidArgument, "memory: a payload above the figure");
  bool lend = ep->ctx->lend && bytes > 0;
  unsigned char* copy = lend || bytes == 0 ? NULL : malloc(bytes);
  if (bytes && !lend && !copy) return fail(ep->ctx, meshcclSystemError, "memory: out of memory for a payload");
  if (copy) gather(copy, pieces, npieces);
  pthread_mutex_lock(&lock);
  oneway* p = ep->out;
  bool full = p->head - p->returned == p->depth;
  if (!full && !p->receiverGone) {
    message* m = &p->queue[p->head++ % p->depth];
    *m = (message){.bytes = bytes, .copy = copy, .npieces = lend ? npieces : 0, .token = token};
    memcpy(m->header, header, sizeof m->header);
    if (lend) memcpy(m->pieces, pieces, sizeof *pieces * (size_t)npieces);
    copy = NULL;
    wake(p->to);
  }
  bool dropped = p->receiverGone;
  pthread_mutex_unlock(&lock);
  free(copy);
  return dropped ? meshcclSuccess : full ? meshcclBusy : lend ? meshcclInProgress : meshcclSuccess;
}

/* ---- progress ---- */

/* Ends the sends that the receiver has taken. */
static int return_sends(endpoint* ep) {
  int events = 0;
  for (;; events++) {
    pthread_mutex_lock(&lock);
    oneway* p = ep->out;
    if (p->receiverGone) p->tail = p->head; /* nobody will take them */
    bool any = p->returned != p->tail;
    message m = p->queue[p->returned % p->depth];
    if (any) p->queue[p->returned++ % p->depth].copy = NULL;
    pthread_mutex_unlock(&lock);
    if (!any) return events;
    free(m.copy);
    if (m.npieces) ep->ctx->host->sent(ep->ctx->host->self, m.token, meshcclSuccess);
  }
}

/* Takes the oldest message out, its payload in memory of our own. */
static bool take(endpoint* ep, message* out, unsigned char** data) {
  pthread_mutex_lock(&lock);
  oneway* p = ep->in;
  bool any = p->tail != p->head;
  if (any) {
    message* m = &p->queue[p->tail % p->depth];
    *out = *m;
    *data = m->copy;
    m->copy = NULL;
    if (!*data && m->npieces) {
      *data = malloc(m->bytes);
      gather(*data, m->pieces, m->npieces);
    }
    p->tail++;
    wake(p->from);
  }
  pthread_mutex_unlock(&lock);
  return any;
}

static void deliver(endpoint* ep, const message* m, unsigned char* data) {
  context* ctx = ep->ctx;
  const meshcclTransportHost_t* host = ctx->host;
  arrival* a = ctx->places && m->bytes ? calloc(1, sizeof *a) : NULL;
  meshcclPlace_t places[MESHCCL_MAX_PIECES];
  int nplaces = 0;
  void* token = NULL;
  meshcclResult_t result =
      host->arrive(host->self, ep->peer, m->header, m->bytes, a ? NULL : data, places, &nplaces, &token);
  if (!a || result != meshcclSuccess) {
    free(a);
    free(data);
    return;
  }
  *a = (arrival){.next = ctx->filling, .data = data, .nplaces = nplaces, .token = token, .ep = ep};
  memcpy(a->places, places, sizeof *places * (size_t)nplaces);
  ctx->filling = a;
}

/* Fills the places of the last progress(), newest first. */
static int fill(context* ctx) {
  int events = 0;
  for (; ctx->filling; events++) {
    arrival* a = ctx->filling;
    ctx->filling = a->next;
    size_t at = 0;
    for (int i = 0; i < a->nplaces; at += a->places[i++].bytes)
      memcpy(a->places[i].base, a->data + at, a->places[i].bytes);
    ctx->host->received(ctx->host->self, a->token, meshcclSuccess);
    free(a->data);
    free(a);
  }
  return events;
}

static int memory_progress(void* opaque) {
  context* ctx = opaque;
  eventfd_t ignored;
  if (eventfd_read(ctx->wake, &ignored) != 0) ignored = 0;
  int events = fill(ctx);
  for (endpoint *ep = ctx->endpoints, *next; ep; ep = next) {
    next = ep->next;
    message m;
    unsigned char* data = NULL;
    events += return_sends(ep);
    for (unsigned i = 0; i < ctx->depth && take(ep, &m, &data); i++, events++) deliver(ep, &m, data);
  }
  return events;
}

static meshcclResult_t memory_wait_handle(void* opaque, int* fd, uint32_t* poll_us) {
  context* ctx = opaque;
  *fd = ctx->poll ? -1 : ctx->wake;
  *poll_us = ctx->poll ? 200 : 0;
  return meshcclSuccess;
}

/* The descriptor counts every change since the last progress(), so nothing can slip between arm() and sleep. */
static meshcclResult_t memory_arm(void* opaque) {
  context* ctx = opaque;
  bool pending = ctx->filling != NULL;
  pthread_mutex_lock(&lock);
  for (endpoint* ep = ctx->endpoints; ep; ep = ep->next)
    pending |= ep->in->tail != ep->in->head || ep->out->returned != ep->out->tail;
  pthread_mutex_unlock(&lock);
  return pending ? meshcclBusy : meshcclSuccess;
}

const meshcclTransport_t mci_test_transport_memory = {
    .abi = MESHCCL_TRANSPORT_ABI,
    .size = sizeof(meshcclTransport_t),
    .name = "memory",
    .open = memory_open,
    .close = memory_close,
    .address = memory_address,
    .reach = memory_reach,
    .connect = memory_connect,
    .disconnect = memory_disconnect,
    .send = memory_send,
    .progress = memory_progress,
    .waitHandle = memory_wait_handle,
    .arm = memory_arm,
};
