/* The listening side: whoever connects is a stranger with a place, a time limit and a few bytes until it has proved that
 * it knows the communicator's secret. Nothing a stranger says is believed, logged or answered with more than a nonce and
 * our own proof; a wrong word closes its socket and nothing else. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tcp.h"

#define PAUSE_NS 100000000ull

static void close_stranger(struct mci_tcp_ctx* ctx, struct mci_tcp_stranger* stranger) {
  int i = 0;
  while (ctx->strangers[i] != stranger) i++;
  ctx->strangers[i] = ctx->strangers[--ctx->nstrangers];
  mci_tcp_unwatch(ctx, &stranger->source);
  stranger->next_gone = ctx->gone_strangers;
  ctx->gone_strangers = stranger;
  if (!ctx->paused) return;
  ctx->resume_ns = 0; /* a place and a descriptor are free */
  mci_tcp_wake_at(ctx, mci_tcp_now_ns());
}

/* Level-triggered events of a listener that cannot be served would keep everybody awake. */
static void pause_listening(struct mci_tcp_ctx* ctx, uint64_t until_ns) {
  struct epoll_event none = {.events = 0, .data.ptr = &ctx->listener};
  epoll_ctl(ctx->epoll_fd, EPOLL_CTL_MOD, ctx->listener.fd, &none);
  ctx->paused = true;
  ctx->resume_ns = until_ns;
  mci_tcp_wake_at(ctx, until_ns);
}

static bool take_in(struct mci_tcp_ctx* ctx, int fd) {
  struct mci_tcp_stranger* stranger = calloc(1, sizeof *stranger);
  if (!stranger) return false;
  stranger->source = (struct mci_tcp_source){MCI_TCP_S_STRANGER, -1};
  if (!mci_tcp_watch(ctx, fd, EPOLLIN, &stranger->source)) {
    free(stranger);
    return false;
  }
  stranger->deadline_ns = mci_tcp_now_ns() + MCI_TCP_STRANGER_NS;
  mci_tcp_wake_at(ctx, stranger->deadline_ns);
  ctx->strangers[ctx->nstrangers++] = stranger;
  return true;
}

int mci_tcp_listener_event(struct mci_tcp_ctx* ctx) {
  int events = 0;
  while (ctx->nstrangers < MCI_TCP_STRANGERS) {
    int fd = ctx->host->accept(ctx->host->self, ctx->listener.fd, ctx->self.at, ctx->self.n);
    if (fd < 0 && errno != EAGAIN && errno != EWOULDBLOCK) pause_listening(ctx, mci_tcp_now_ns() + PAUSE_NS);
    if (fd < 0) return events;
    if (!take_in(ctx, fd)) close(fd);
    events++;
  }
  pause_listening(ctx, mci_tcp_now_ns() + MCI_TCP_STRANGER_NS);
  return events;
}

void mci_tcp_strangers_step(struct mci_tcp_ctx* ctx, uint64_t now_ns) {
  for (int i = ctx->nstrangers - 1; i >= 0; i--) {
    if (ctx->strangers[i]->deadline_ns <= now_ns) {
      close_stranger(ctx, ctx->strangers[i]);
    } else {
      mci_tcp_wake_at(ctx, ctx->strangers[i]->deadline_ns);
    }
  }
  if (!ctx->paused) return;
  if (now_ns < ctx->resume_ns) {
    mci_tcp_wake_at(ctx, ctx->resume_ns);
    return;
  }
  ctx->paused = false;
  mci_tcp_watch(ctx, ctx->listener.fd, EPOLLIN, &ctx->listener);
}

void mci_tcp_strangers_close(struct mci_tcp_ctx* ctx) {
  while (ctx->nstrangers > 0) close_stranger(ctx, ctx->strangers[0]);
}

/* ---- those who belong here ---- */

int mci_tcp_claim_parked(struct mci_tcp_ctx* ctx, const unsigned char token[MCI_TCP_TOKEN]) {
  struct mci_tcp_parked** link = &ctx->parked;
  while (*link && token && memcmp((*link)->token, token, MCI_TCP_TOKEN) != 0) link = &(*link)->next;
  struct mci_tcp_parked* found = *link;
  if (!found) return -1;
  int fd = found->fd;
  *link = found->next;
  free(found);
  return fd;
}

/* One per peer: a later connection of the same context takes the place of an earlier one. */
static void park(struct mci_tcp_ctx* ctx, int fd, const unsigned char token[MCI_TCP_TOKEN]) {
  int old = mci_tcp_claim_parked(ctx, token);
  if (old >= 0) close(old);
  struct mci_tcp_parked* parked = calloc(1, sizeof *parked);
  if (!parked) {
    close(fd); /* the peer sees it and dials again */
    return;
  }
  parked->fd = fd;
  memcpy(parked->token, token, MCI_TCP_TOKEN);
  parked->next = ctx->parked;
  ctx->parked = parked;
}

static struct mci_tcp_ep* expected(const struct mci_tcp_ctx* ctx, const unsigned char token[MCI_TCP_TOKEN]) {
  struct mci_tcp_ep* ep = ctx->all;
  while (ep && (ep->established || ep->broken || ep->peer_gone || memcmp(ep->address.token, token, MCI_TCP_TOKEN) != 0))
    ep = ep->next;
  return ep;
}

static void admit(struct mci_tcp_ctx* ctx, struct mci_tcp_stranger* stranger) {
  struct mci_tcp_hello hello;
  mci_tcp_hello_read(stranger->in, &hello);
  int fd = stranger->source.fd;
  bool told = mci_tcp_say(fd, mci_tcp_accepted, MCI_TCP_ACCEPTED);
  if (told) {
    epoll_ctl(ctx->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    stranger->source.fd = -1;
  }
  close_stranger(ctx, stranger);
  if (!told) return;
  struct mci_tcp_ep* ep = expected(ctx, hello.from_token);
  if (ep) {
    mci_tcp_established(ep, fd);
  } else {
    park(ctx, fd, hello.from_token);
  }
}

/* ---- the handshake ---- */

static bool challenge(struct mci_tcp_ctx* ctx, struct mci_tcp_stranger* stranger) {
  struct mci_tcp_hello hello;
  unsigned char out[MCI_TCP_CHALLENGE];
  if (!mci_tcp_hello_read(stranger->in, &hello) || hello.to != ctx->self.rank || hello.from == hello.to ||
      hello.from >= ctx->self.nranks || !mci_tcp_equal(hello.to_token, ctx->self.token, MCI_TCP_TOKEN))
    return false;
  ctx->host->random(ctx->host->self, stranger->nonce, MCI_TCP_NONCE);
  memcpy(out, stranger->nonce, MCI_TCP_NONCE);
  mci_tcp_prove(ctx, MCI_TCP_LISTENER, stranger->in, stranger->nonce, out + MCI_TCP_NONCE);
  stranger->challenged = true;
  stranger->got = 0;
  return mci_tcp_say(stranger->source.fd, out, sizeof out);
}

static bool proved(const struct mci_tcp_ctx* ctx, const struct mci_tcp_stranger* stranger) {
  unsigned char proof[MCI_TCP_PROOF];
  mci_tcp_prove(ctx, MCI_TCP_DIALLER, stranger->in, stranger->nonce, proof);
  return mci_tcp_equal(proof, stranger->proof, sizeof proof);
}

int mci_tcp_stranger_event(struct mci_tcp_ctx* ctx, struct mci_tcp_stranger* stranger) {
  unsigned char* to = stranger->challenged ? stranger->proof : stranger->in;
  size_t want = stranger->challenged ? MCI_TCP_PROOF : MCI_TCP_HELLO;
  ssize_t n = recv(stranger->source.fd, to + stranger->got, want - stranger->got, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  bool good = n > 0;
  if (good) stranger->got += (size_t)n;
  if (good && stranger->got < want) return 1;
  if (good && !stranger->challenged) {
    if (challenge(ctx, stranger)) return 1;
  } else if (good && proved(ctx, stranger)) {
    admit(ctx, stranger);
    return 1;
  }
  close_stranger(ctx, stranger);
  return 1;
}
