/* Opening and closing a context, its address, and the table of the transport. */
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "tcp.h"

#define LINGER_NS 1000000000ull

meshcclResult_t mci_tcp_fail(const struct mci_tcp_ctx* ctx, meshcclResult_t result, const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return ctx->host->fail(ctx->host->self, result, text);
}

void mci_tcp_log(const struct mci_tcp_ctx* ctx, int level, const char* format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  ctx->host->log(ctx->host->self, level, text);
}

uint64_t mci_tcp_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool mci_tcp_watch(struct mci_tcp_ctx* ctx, int fd, uint32_t events, struct mci_tcp_source* source) {
  struct epoll_event event = {.events = events, .data.ptr = source};
  if (epoll_ctl(ctx->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0 &&
      (errno != EEXIST || epoll_ctl(ctx->epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0))
    return false;
  source->fd = fd;
  return true;
}

/* The epoll set of a forked child is the parent's: a child must not take anything out of it. */
void mci_tcp_unwatch(struct mci_tcp_ctx* ctx, struct mci_tcp_source* source) {
  if (source->fd < 0) return;
  if (ctx->pid == getpid()) epoll_ctl(ctx->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
  close(source->fd);
  source->fd = -1;
}

void mci_tcp_wake_at(struct mci_tcp_ctx* ctx, uint64_t when_ns) {
  if (ctx->timer_ns && ctx->timer_ns <= when_ns) return;
  struct itimerspec at = {
      .it_value = {.tv_sec = (time_t)(when_ns / 1000000000u), .tv_nsec = (long)(when_ns % 1000000000u)}};
  if (timerfd_settime(ctx->timer.fd, TFD_TIMER_ABSTIME, &at, NULL) == 0) ctx->timer_ns = when_ns;
}

void mci_tcp_prove(const struct mci_tcp_ctx* ctx, int role, const unsigned char hello[MCI_TCP_HELLO],
                   const unsigned char nonce[MCI_TCP_NONCE], unsigned char proof[MCI_TCP_PROOF]) {
  unsigned char claim[MCI_TCP_CLAIM];
  mci_tcp_claim_write(role, hello, nonce, claim);
  ctx->host->mac(ctx->host->self, "tcp", claim, sizeof claim, proof);
}

static bool make_descriptors(struct mci_tcp_ctx* ctx) {
  ctx->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (ctx->epoll_fd < 0) return false;
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer >= 0 && mci_tcp_watch(ctx, timer, EPOLLIN, &ctx->timer)) return true;
  int cause = errno;
  if (timer >= 0) close(timer);
  close(ctx->epoll_fd);
  errno = cause;
  return false;
}

static meshcclResult_t tcp_open(const meshcclTransportHost_t* host, void** out) {
  if (!host->mac || !host->random || !host->listen || !host->accept || !host->dial)
    return host->fail(host->self, meshcclNotSupported, "tcp: this host lends no sockets");
  struct mci_tcp_ctx* ctx = calloc(1, sizeof *ctx);
  if (!ctx) return host->fail(host->self, meshcclSystemError, "tcp: out of memory for a context");
  ctx->host = host;
  ctx->pid = getpid();
  ctx->listener = (struct mci_tcp_source){MCI_TCP_S_LISTENER, -1};
  ctx->timer = (struct mci_tcp_source){MCI_TCP_S_TIMER, -1};
  ctx->self.host = host->hostId;
  ctx->self.rank = (uint32_t)host->rank;
  ctx->self.nranks = (uint32_t)host->nranks;
  host->random(host->self, ctx->self.token, sizeof ctx->self.token);
  if (!make_descriptors(ctx)) {
    meshcclResult_t result = mci_tcp_fail(ctx, meshcclSystemError,
                                          "tcp: no descriptors (epoll, timer): %s; look at "
                                          "ulimit -n",
                                          strerror(errno));
    free(ctx);
    return result;
  }
  *out = ctx;
  return meshcclSuccess;
}

static meshcclResult_t listen_now(struct mci_tcp_ctx* ctx) {
  const meshcclTransportHost_t* host = ctx->host;
  int fd = -1, n = MESHCCL_MAX_NET_ADDRESSES;
  meshcclResult_t result = host->listen(host->self, &fd, ctx->self.at, &n);
  if (result != meshcclSuccess) return result;
  ctx->self.n = n;
  if (mci_tcp_watch(ctx, fd, EPOLLIN, &ctx->listener)) {
    ctx->listening = true;
    return meshcclSuccess;
  }
  result = mci_tcp_fail(ctx, meshcclSystemError, "tcp: epoll does not take the listening socket: %s", strerror(errno));
  close(fd);
  return result;
}

static meshcclResult_t tcp_address(void* opaque, void* address, size_t* bytes) {
  struct mci_tcp_ctx* ctx = opaque;
  _Static_assert(MCI_TCP_ADDRESS_MAX <= MESHCCL_ADDRESS_BYTES, "an address fits its place");
  if (*bytes < MCI_TCP_ADDRESS_MAX)
    return mci_tcp_fail(ctx, meshcclInvalidArgument, "tcp: an address needs %d bytes, the place has %zu",
                        MCI_TCP_ADDRESS_MAX, *bytes);
  if (!ctx->listening) {
    meshcclResult_t result = listen_now(ctx);
    if (result != meshcclSuccess) return result;
  }
  *bytes = mci_tcp_address_write(&ctx->self, address);
  return meshcclSuccess;
}

/* Whether a peer can really be reached shows when connecting: nothing is tried here. */
static meshcclResult_t tcp_reach(void* opaque, const void* address, size_t bytes, meshcclTransportFigures_t* figures) {
  const struct mci_tcp_ctx* ctx = opaque;
  struct mci_tcp_address peer;
  if (!mci_tcp_address_read(address, bytes, &peer) || peer.rank == ctx->self.rank ||
      memcmp(peer.token, ctx->self.token, MCI_TCP_TOKEN) == 0)
    return meshcclNotSupported;
  bool near = peer.host == ctx->self.host;
  *figures = (meshcclTransportFigures_t){.lat_ns = near ? 8000 : 25000,
                                         .bw_Bps = near ? 4000000000u : 1200000000u,
                                         .maxPayload = MCI_TCP_MAX_PAYLOAD,
                                         .maxPieces = MESHCCL_MAX_PIECES,
                                         .flags = MESHCCL_FILLS_IN_PROGRESS};
  return meshcclSuccess;
}

/* ---- closing ---- */

/* Whether nothing that this endpoint has sent can be lost by closing it: the peer's system has all of it. */
static bool all_taken(struct mci_tcp_ep* ep) {
  int unsent = 0;
  if (ep->source.fd < 0 || !ep->established || ep->broken || ep->peer_gone) return true;
  mci_tcp_flush(ep);
  mci_tcp_read(ep); /* unread input would make close() a reset, which drops output */
  if (ep->source.fd < 0 || ep->tx_error) return true;
  return ep->shut && ioctl(ep->source.fd, SIOCOUTQ, &unsent) == 0 && unsent == 0;
}

/* Gives the last messages a moment to leave: the executor closes right after its last send. */
static void linger(struct mci_tcp_ctx* ctx) {
  uint64_t end = mci_tcp_now_ns() + LINGER_NS;
  for (;;) {
    bool waits = false;
    for (struct mci_tcp_ep *ep = ctx->all, *next; ep; ep = next) {
      next = ep->next;
      waits |= !all_taken(ep);
    }
    if (!waits || mci_tcp_now_ns() > end) return;
    poll(NULL, 0, 1);
  }
}

static void tcp_close(void* opaque) {
  struct mci_tcp_ctx* ctx = opaque;
  if (ctx->pid == getpid()) linger(ctx);
  mci_tcp_strangers_close(ctx);
  while (ctx->all) {
    mci_tcp_hang_up(ctx->all);
    mci_tcp_ep_release(ctx->all);
  }
  for (int fd; (fd = mci_tcp_claim_parked(ctx, NULL)) >= 0;) close(fd);
  mci_tcp_release_gone(ctx);
  mci_tcp_unwatch(ctx, &ctx->listener);
  mci_tcp_unwatch(ctx, &ctx->timer);
  close(ctx->epoll_fd);
  free(ctx->live);
  free(ctx);
}

const meshcclTransport_t mci_transport_tcp = {
    .abi = MESHCCL_TRANSPORT_ABI,
    .size = sizeof(meshcclTransport_t),
    .name = "tcp",
    .open = tcp_open,
    .close = tcp_close,
    .address = tcp_address,
    .reach = tcp_reach,
    .connect = mci_tcp_connect,
    .disconnect = mci_tcp_disconnect,
    .send = mci_tcp_send,
    .progress = mci_tcp_progress,
    .waitHandle = mci_tcp_wait_handle,
    .arm = mci_tcp_arm,
};
