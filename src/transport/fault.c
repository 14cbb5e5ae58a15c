/* The table that stands in front of a transport under MESHCCL_FAULT, and the host that it shows to that transport. Keeps
 * the contract of transport.h itself: what it does to messages is what a slow, stuck, broken or cut wire does. */
#include "transport/fault.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/globals.h"

static bool lost(uint32_t state) { return state != 0; }
static bool stalled(uint32_t state) { return state == 1u << MCI_FAULT_STALL; }

/* ---- the host that the inner transport sees ---- */

/* Takes the message from the transport and gives it to nobody. */
static meshcclResult_t swallow(mci_fault_context* ctx, size_t bytes, const void* data, meshcclPlace_t* places,
                               int* nplaces, void** token) {
  if (data || bytes == 0) return meshcclSuccess;
  mci_fault_message* room = mci_alloc(sizeof *room + bytes);
  if (!room) return mci_oom(bytes);
  room->next = ctx->lent;
  ctx->lent = room;
  places[0] = (meshcclPlace_t){room->payload, bytes};
  *nplaces = 1;
  *token = room;
  return meshcclSuccess;
}

static meshcclResult_t on_arrive(void* self, void* tag, const void* header, size_t bytes, const void* data,
                                 meshcclPlace_t* places, int* nplaces, void** token) {
  mci_fault_context* ctx = self;
  mci_fault_link* link = tag;
  if (lost(mci_fault_count(link)) || link->reset || link->leaving)
    return swallow(ctx, bytes, data, places, nplaces, token);
  return ctx->host->arrive(ctx->host->self, link->peer, header, bytes, data, places, nplaces, token);
}

static void on_received(void* self, void* token, meshcclResult_t result) {
  mci_fault_context* ctx = self;
  if (!mci_fault_settle(ctx, token)) ctx->host->received(ctx->host->self, token, result);
}

static void on_sent(void* self, void* token, meshcclResult_t result) {
  mci_fault_context* ctx = self;
  if (!mci_fault_settle(ctx, token)) ctx->host->sent(ctx->host->self, token, result);
}

static void on_broken(void* self, void* tag, meshcclResult_t result, const char* why) {
  mci_fault_context* ctx = self;
  mci_fault_link* link = tag;
  bool tell = !link->told && !link->leaving && !(mci_fault_state(link) & 1u << MCI_FAULT_DROP);
  link->reset = link->told = true;
  if (tell) ctx->host->broken(ctx->host->self, link->peer, result, why);
}

static void on_log(void* self, int level, const char* text) {
  const meshcclTransportHost_t* host = ((mci_fault_context*)self)->host;
  host->log(host->self, level, text);
}

static meshcclResult_t on_fail(void* self, meshcclResult_t result, const char* text) {
  const meshcclTransportHost_t* host = ((mci_fault_context*)self)->host;
  return host->fail(host->self, result, text);
}

static const char* on_parameter(void* self, const char* name) {
  const meshcclTransportHost_t* host = ((mci_fault_context*)self)->host;
  return host->parameter(host->self, name);
}

static void on_mac(void* self, const char* purpose, const void* data, size_t bytes,
                   unsigned char out[MESHCCL_MAC_BYTES]) {
  const meshcclTransportHost_t* host = ((mci_fault_context*)self)->host;
  host->mac(host->self, purpose, data, bytes, out);
}

static void on_random(void* self, void* out, size_t bytes) {
  const meshcclTransportHost_t* host = ((mci_fault_context*)self)->host;
  host->random(host->self, out, bytes);
}

static meshcclResult_t on_listen(void* self, int* fd, meshcclNetAddress_t* addresses, int* n) {
  const meshcclTransportHost_t* host = ((mci_fault_context*)self)->host;
  return host->listen(host->self, fd, addresses, n);
}

static int on_accept(void* self, int fd, const meshcclNetAddress_t* addresses, int n) {
  const meshcclTransportHost_t* host = ((mci_fault_context*)self)->host;
  return host->accept(host->self, fd, addresses, n);
}

static int on_dial(void* self, const meshcclNetAddress_t* to) {
  const meshcclTransportHost_t* host = ((mci_fault_context*)self)->host;
  return host->dial(host->self, to);
}

static void show_host(mci_fault_context* ctx) {
  ctx->shown = *ctx->host;
  ctx->shown.self = ctx;
  ctx->shown.log = on_log;
  ctx->shown.fail = on_fail;
  ctx->shown.parameter = on_parameter;
  ctx->shown.arrive = on_arrive;
  ctx->shown.received = on_received;
  ctx->shown.sent = on_sent;
  ctx->shown.broken = on_broken;
  ctx->shown.mac = on_mac;
  ctx->shown.random = on_random;
  ctx->shown.listen = on_listen;
  ctx->shown.accept = on_accept;
  ctx->shown.dial = on_dial;
}

/* ---- context ---- */

/* The rules that concern this transport and rank. */
static void choose_rules(mci_fault_context* ctx, const mci_fault_plan* plan) {
  for (int i = 0; i < plan->n; i++) {
    const mci_fault_rule* rule = &plan->rules[i];
    bool ours = strcmp(rule->transport, "*") == 0 || strcmp(rule->transport, ctx->inner->name) == 0;
    bool rank = rule->rank == MCI_FAULT_ANY || rule->rank == ctx->host->rank;
    bool size = rule->size == MCI_FAULT_ANY || rule->size == ctx->host->nranks;
    if (!ours || !rank || !size) continue;
    ctx->active[ctx->nactive++].rule = *rule;
    ctx->delays |= rule->most_delay_ns > 0;
    ctx->random = mci_hash64_mix(ctx->random, rule->seed);
  }
}

static meshcclResult_t fault_open(int index, const meshcclTransportHost_t* host, void** out) {
  const char* text = mci_param_text(MCI_P_FAULT);
  mci_fault_plan plan = {0};
  if (text) MCI_TRY(mci_fault_parse(text, &plan));
  mci_fault_context* ctx = mci_alloc(sizeof *ctx);
  if (!ctx) return host->fail(host->self, meshcclSystemError, "fault hook: no memory for a context");
  ctx->inner = mci_globals.transports[index];
  ctx->host = host;
  ctx->epoll = ctx->timer = -1;
  ctx->timer_ns = UINT64_MAX;
  ctx->random = mci_hash64_mix((uint64_t)host->rank + 1, 2);
  choose_rules(ctx, &plan);
  show_host(ctx);
  meshcclResult_t result = ctx->inner->open(&ctx->shown, &ctx->ctx);
  if (result != meshcclSuccess) {
    mci_free(ctx);
    return result;
  }
  *out = ctx;
  return meshcclSuccess;
}

static void link_free(mci_fault_link* link) {
  mci_fault_link** at = &link->owner->links;
  while (*at != link) at = &(*at)->next;
  *at = link->next;
  mci_fault_drop_held(link);
  link->owner->inner->disconnect(link->ep);
  mci_free(link);
}

static void fault_close(void* context) {
  mci_fault_context* ctx = context;
  while (ctx->links) link_free(ctx->links);
  ctx->inner->close(ctx->ctx);
  while (ctx->lent) mci_fault_settle(ctx, ctx->lent);
  if (ctx->epoll >= 0) close(ctx->epoll);
  if (ctx->timer >= 0) close(ctx->timer);
  mci_free(ctx);
}

static meshcclResult_t fault_address(void* context, void* address, size_t* bytes) {
  mci_fault_context* ctx = context;
  return ctx->inner->address(ctx->ctx, address, bytes);
}

static meshcclResult_t fault_reach(void* context, const void* address, size_t bytes,
                                   meshcclTransportFigures_t* figures) {
  mci_fault_context* ctx = context;
  return ctx->inner->reach(ctx->ctx, address, bytes, figures);
}

static meshcclResult_t fault_memory_key(void* context, const meshcclMemory_t* memory, void* key) {
  mci_fault_context* ctx = context;
  return ctx->inner->memoryKey(ctx->ctx, memory, key);
}

static void tell_reset(mci_fault_link* link) {
  const meshcclTransportHost_t* host = link->owner->host;
  char text[96];
  link->told = true;
  snprintf(text, sizeof text, "%s: reset by the fault hook (MESHCCL_FAULT)", link->owner->inner->name);
  host->broken(host->self, link->peer, meshcclRemoteError, text);
}

/* One endpoint whose news are due, or NULL; a callback may disconnect any, so the search begins anew each time. */
static mci_fault_link* untold(const mci_fault_context* ctx) {
  for (mci_fault_link* link = ctx->links; link; link = link->next)
    if (link->reset && !link->told && !link->leaving) return link;
  return NULL;
}

static int fault_progress(void* context) {
  mci_fault_context* ctx = context;
  mci_fault_wait_drain(ctx);
  int events = ctx->inner->progress(ctx->ctx);
  uint64_t now = ctx->delays ? mci_now_ns() : 0;
  for (mci_fault_link *link = ctx->links, *next; link; link = next) {
    next = link->next;
    events += mci_fault_flush(link, now);
    if (link->leaving && !link->head) link_free(link);
  }
  for (mci_fault_link* link = untold(ctx); link; link = untold(ctx), events++) tell_reset(link);
  return events;
}

/* ---- endpoints ---- */

/* An endpoint to this rank that still hands on its last messages makes room for a new one. */
static void end_leaving(mci_fault_context* ctx, int rank) {
  for (mci_fault_link *link = ctx->links, *next; link; link = next) {
    next = link->next;
    if (link->leaving && link->rank == rank) link_free(link);
  }
}

static meshcclResult_t fault_connect(void* context, void* peer, int rank, const void* address, size_t bytes,
                                     void** out) {
  mci_fault_context* ctx = context;
  end_leaving(ctx, rank);
  mci_fault_link* link = mci_alloc(sizeof *link);
  if (!link) return ctx->host->fail(ctx->host->self, meshcclSystemError, "fault hook: no memory for an endpoint");
  *link = (mci_fault_link){.owner = ctx, .peer = peer, .rank = rank, .next = ctx->links};
  meshcclResult_t result = ctx->inner->connect(ctx->ctx, link, rank, address, bytes, &link->ep);
  if (result != meshcclSuccess) {
    mci_free(link);
    return result;
  }
  ctx->links = link;
  link->reset = (mci_fault_state(link) & 1u << MCI_FAULT_RESET) != 0;
  *out = link;
  return meshcclSuccess;
}

static void fault_disconnect(void* ep) {
  mci_fault_link* link = ep;
  link->leaving = true;
  mci_fault_flush(link, 0);
  if (!link->head) link_free(link);
}

/* Before the news are told the endpoint only looks busy: errors come in one order for everybody. */
static meshcclResult_t refuse(const mci_fault_link* link) {
  const meshcclTransportHost_t* host = link->owner->host;
  char text[128];
  if (!link->told) return meshcclBusy;
  snprintf(text, sizeof text, "%s: the endpoint to rank %d is broken; nothing can be sent to it",
           link->owner->inner->name, link->rank);
  return host->fail(host->self, meshcclRemoteError, text);
}

static meshcclResult_t fault_send(void* ep, const void* header, const meshcclPiece_t* pieces, int npieces,
                                  void* token) {
  mci_fault_link* link = ep;
  mci_fault_context* ctx = link->owner;
  uint32_t state = mci_fault_count(link);
  if (link->reset) return refuse(link);
  if (stalled(state)) return meshcclBusy;
  if (lost(state)) return meshcclSuccess;
  meshcclResult_t result = ctx->delays ? mci_fault_hold(link, header, pieces, npieces)
                                       : ctx->inner->send(link->ep, header, pieces, npieces, token);
  if (result != meshcclSuccess && result != meshcclInProgress) mci_fault_take_back(link);
  return result;
}

static meshcclResult_t fault_map(void* ep, const void* key, void** base) {
  mci_fault_link* link = ep;
  return link->owner->inner->map(link->ep, key, base);
}

static void fault_unmap(void* ep, const void* key, void* base) {
  mci_fault_link* link = ep;
  link->owner->inner->unmap(link->ep, key, base);
}

static meshcclResult_t fault_get(void* ep, uint64_t remote, void* local, size_t bytes, void* token) {
  mci_fault_link* link = ep;
  if (link->reset && link->told) return refuse(link);
  if (link->reset || lost(mci_fault_state(link))) return meshcclInProgress; /* which never ends */
  return link->owner->inner->get(link->ep, remote, local, bytes, token);
}

static meshcclResult_t fault_put(void* ep, uint64_t remote, const void* local, size_t bytes) {
  mci_fault_link* link = ep;
  if (link->reset && link->told) return refuse(link);
  if (link->reset || lost(mci_fault_state(link))) return meshcclBusy;
  return link->owner->inner->put(link->ep, remote, local, bytes);
}

static void fault_refuse_puts(void* ep) {
  mci_fault_link* link = ep;
  link->owner->inner->refusePuts(link->ep);
}

static void fault_writes_next(void* ep, meshcclPlace_t lines[2]) {
  mci_fault_link* link = ep;
  link->owner->inner->writesNext(link->ep, lines);
}

/* ---- tables ----
 * open() is the one slot without a context to find the inner table by, so every place of the registry has its own. */

#define OPEN(n) \
  static meshcclResult_t open_##n(const meshcclTransportHost_t* host, void** ctx) { return fault_open(n, host, ctx); }
#define FOUR(M, a, b, c, d) M(a) M(b) M(c) M(d)
#define ALL(M)            \
  FOUR(M, 0, 1, 2, 3)     \
  FOUR(M, 4, 5, 6, 7)     \
  FOUR(M, 8, 9, 10, 11)   \
  FOUR(M, 12, 13, 14, 15) \
  FOUR(M, 16, 17, 18, 19) FOUR(M, 20, 21, 22, 23) FOUR(M, 24, 25, 26, 27) FOUR(M, 28, 29, 30, 31)
#define NAME(n) open_##n,
ALL(OPEN)

static meshcclResult_t (*const opens[])(const meshcclTransportHost_t*, void**) = {ALL(NAME)};
_Static_assert(MCI_COUNT(opens) == MCI_MAX_PLUGINS, "one open for each place of the registry");

meshcclResult_t mci_fault_wrap(int index, const meshcclTransport_t** out) {
  const meshcclTransport_t* inner = mci_globals.transports[index];
  if (!mci_globals.faulty[index]) {
    meshcclTransport_t* table = mci_alloc(sizeof *table);
    if (!table) return mci_oom(sizeof *table);
    *table = (meshcclTransport_t){.abi = MESHCCL_TRANSPORT_ABI,
                                  .size = sizeof *table,
                                  .name = inner->name,
                                  .open = opens[index],
                                  .close = fault_close,
                                  .address = fault_address,
                                  .reach = fault_reach,
                                  .connect = fault_connect,
                                  .disconnect = fault_disconnect,
                                  .send = fault_send,
                                  .progress = fault_progress,
                                  .waitHandle = mci_fault_wait_handle,
                                  .arm = mci_fault_arm,
                                  .memoryKey = fault_memory_key,
                                  .map = fault_map,
                                  .unmap = fault_unmap,
                                  .get = fault_get,
                                  .put = fault_put,
                                  .refusePuts = fault_refuse_puts,
                                  .writesNext = fault_writes_next};
    mci_globals.faulty[index] = table;
  }
  *out = mci_globals.faulty[index];
  return meshcclSuccess;
}
