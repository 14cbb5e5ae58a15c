/* Endpoints: connect, the moment a socket may carry messages, breaking, and the way to the end after disconnect. The
 * lower rank dials. An endpoint that was given back says goodbye after its last message and stays until the peer has
 * closed too, or the context ends. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tcp.h"

static struct mci_tcp_ep* find(const struct mci_tcp_ctx* ctx, const unsigned char token[MCI_TCP_TOKEN]) {
  struct mci_tcp_ep* ep = ctx->all;
  while (ep && (!ep->connected || memcmp(ep->address.token, token, MCI_TCP_TOKEN) != 0)) ep = ep->next;
  return ep;
}

static struct mci_tcp_ep* make(struct mci_tcp_ctx* ctx, void* peer, int rank, const struct mci_tcp_address* address) {
  struct mci_tcp_ep* ep = calloc(1, sizeof *ep);
  if (!ep) return NULL;
  ep->source = (struct mci_tcp_source){MCI_TCP_S_EP, -1};
  ep->ctx = ctx;
  ep->peer = peer;
  ep->rank = rank;
  ep->address = *address;
  ep->connected = true;
  return ep;
}

static bool room_for_live(struct mci_tcp_ctx* ctx, uint32_t n) {
  if (n <= ctx->cap_live) return true;
  struct mci_tcp_ep** grown = realloc(ctx->live, 2 * n * sizeof(struct mci_tcp_ep*));
  if (!grown) return false;
  ctx->live = grown;
  ctx->cap_live = 2 * n;
  return true;
}

meshcclResult_t mci_tcp_connect(void* opaque, void* peer, int peerRank, const void* address, size_t bytes, void** out) {
  struct mci_tcp_ctx* ctx = opaque;
  struct mci_tcp_address parsed;
  if (!mci_tcp_address_read(address, bytes, &parsed) || parsed.rank == ctx->self.rank)
    return mci_tcp_fail(ctx, meshcclInvalidArgument, "tcp: this is not the address of rank %d", peerRank);
  if (find(ctx, parsed.token))
    return mci_tcp_fail(ctx, meshcclInvalidUsage, "tcp: rank %d is connected already; one endpoint per peer", peerRank);
  uint32_t n = 1;
  for (const struct mci_tcp_ep* e = ctx->all; e; e = e->next) n++;
  struct mci_tcp_ep* ep = room_for_live(ctx, n) ? make(ctx, peer, peerRank, &parsed) : NULL;
  bool dials = ctx->self.rank < parsed.rank;
  if (!ep || (dials && !mci_tcp_dial_begin(ep))) {
    free(ep);
    return mci_tcp_fail(ctx, meshcclSystemError, "tcp: out of memory for an endpoint");
  }
  ep->next = ctx->all;
  ctx->all = ep;
  ep->searching = true;
  ctx->nsearching++;
  int fd = dials ? -1 : mci_tcp_claim_parked(ctx, parsed.token);
  if (fd >= 0) mci_tcp_established(ep, fd);
  *out = ep;
  return meshcclSuccess;
}

/* Notices after MESHCCL_SILENCE_TIMEOUT that the peer's host has vanished while nothing is being sent. */
static void keep_alive(const struct mci_tcp_ctx* ctx, int fd) {
  const char* text = ctx->host->parameter(ctx->host->self, "SILENCE_TIMEOUT");
  double seconds = text ? strtod(text, NULL) : 60;
  int on = 1, idle = seconds > 4 ? (int)(seconds / 2) : 1, interval = seconds > 12 ? (int)(seconds / 6) : 1, count = 3;
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

#define LONG_SEGMENT 32768 /* of loopback; shorter ones are put together on their way */

static size_t segment_of(int fd) {
  int segment = 0;
  socklen_t size = sizeof segment;
  if (getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, &size) != 0 || segment < LONG_SEGMENT) return 0;
  return (size_t)segment;
}

void mci_tcp_established(struct mci_tcp_ep* ep, int fd) {
  struct mci_tcp_ctx* ctx = ep->ctx;
  mci_tcp_dial_end(ep);
  keep_alive(ctx, fd);
  ep->segment = segment_of(fd);
  if (!mci_tcp_watch(ctx, fd, EPOLLIN, &ep->source)) {
    ep->source.fd = fd; /* without an event: the error is met at the first look */
    ep->tx_error = errno;
    ctx->nfailing++;
  }
  ep->established = true;
  ep->searching = false;
  ctx->nsearching--;
  ctx->live[ctx->nlive++] = ep;
  mci_tcp_update_writing(ep);
}

/* ---- the end ---- */

void mci_tcp_hang_up(struct mci_tcp_ep* ep) {
  struct mci_tcp_ctx* ctx = ep->ctx;
  mci_tcp_dial_end(ep);
  mci_tcp_unwatch(ctx, &ep->source);
  if (ep->established) {
    uint32_t i = 0;
    while (ctx->live[i] != ep) i++;
    ctx->live[i] = ctx->live[--ctx->nlive];
    ctx->nfailing -= ep->tx_error != 0;
  }
  ctx->nsearching -= ep->searching;
  ep->established = ep->searching = false;
  ep->broken = true;
  mci_tcp_update_writing(ep);
}

/* Takes the endpoint out of the world; hung up before. Its memory outlives the round of events. */
void mci_tcp_ep_release(struct mci_tcp_ep* ep) {
  struct mci_tcp_ep** link = &ep->ctx->all;
  while (*link != ep) link = &(*link)->next;
  *link = ep->next;
  ep->next_gone = ep->ctx->gone_eps;
  ep->ctx->gone_eps = ep;
}

/* Inside of progress() only. */
void mci_tcp_break(struct mci_tcp_ep* ep, const char* format, ...) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  char text[800], full[900];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  snprintf(full, sizeof full, "tcp: %s", text);
  mci_tcp_hang_up(ep);
  if (!ep->connected) {
    mci_tcp_ep_release(ep);
    return;
  }
  bool filling = ep->left > 0 && !ep->drop;
  ep->left = 0;
  if (filling) host->received(host->self, ep->token, meshcclRemoteError);
  mci_tcp_drop_queue(ep, meshcclRemoteError);
  if (ep->connected) host->broken(host->self, ep->peer, meshcclRemoteError, full);
}

void mci_tcp_disconnect(void* opaque) {
  struct mci_tcp_ep* ep = opaque;
  struct mci_tcp_ctx* ctx = ep->ctx;
  ep->connected = false;
  ep->left = 0; /* what comes from now on is thrown away */
  ep->goodbye = true;
  if (ctx->pid != getpid()) mci_tcp_hang_up(ep);
  if (ep->broken || (ep->peer_gone && ep->source.fd < 0)) {
    if (!ep->broken) mci_tcp_hang_up(ep);
    mci_tcp_ep_release(ep);
    return;
  }
  mci_tcp_update_writing(ep);
  if (ep->established) mci_tcp_flush(ep);
}
