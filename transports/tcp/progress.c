/* One round: output that waits, then input. With few endpoints their sockets are read directly, which is one system call
 * for an idle look and none wasted on a busy one; with more, epoll says which. Strangers, attempts and timers are looked
 * at while there are any, after a sleep, and now and then. */
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tcp.h"

#define DIRECT 2u
#define SELDOM 64u
#define EVENTS 64

static int on_timer(struct mci_tcp_ctx* ctx) {
  uint64_t ticks, now = mci_tcp_now_ns();
  if (read(ctx->timer.fd, &ticks, sizeof ticks) < 0) return 0;
  ctx->timer_ns = 0;
  mci_tcp_strangers_step(ctx, now);
  for (struct mci_tcp_ep *ep = ctx->all, *next; ep; ep = next) {
    next = ep->next;
    if (ep->dial) mci_tcp_dial_step(ep, now);
  }
  return 1;
}

static int on_ep(struct mci_tcp_ep* ep, uint32_t events) {
  int handled = 0;
  if (events & EPOLLOUT) handled += mci_tcp_flush(ep);
  if ((events & ~(uint32_t)EPOLLOUT) && ep->source.fd >= 0) handled += mci_tcp_read(ep);
  return handled;
}

static int on_event(struct mci_tcp_ctx* ctx, struct mci_tcp_source* source, uint32_t events) {
  if (source->fd < 0) return 0; /* closed earlier in this round */
  switch (source->kind) {
    case MCI_TCP_S_LISTENER:
      return mci_tcp_listener_event(ctx);
    case MCI_TCP_S_TIMER:
      return on_timer(ctx);
    case MCI_TCP_S_STRANGER:
      return mci_tcp_stranger_event(ctx, (struct mci_tcp_stranger*)source);
    case MCI_TCP_S_ATTEMPT:
      return mci_tcp_attempt_event((struct mci_tcp_attempt*)source);
    case MCI_TCP_S_EP:
      return on_ep((struct mci_tcp_ep*)source, events);
  }
  return 0;
}

static int look_at_all(struct mci_tcp_ctx* ctx) {
  struct epoll_event events[EVENTS];
  int handled = 0, n = epoll_wait(ctx->epoll_fd, events, EVENTS, 0);
  for (int i = 0; i < n; i++) handled += on_event(ctx, events[i].data.ptr, events[i].events);
  return handled;
}

/* Output of all that have any, and the ends of those whose sending failed. */
static int write_out(struct mci_tcp_ctx* ctx) {
  int events = 0;
  for (struct mci_tcp_ep *ep = ctx->all, *next; ep; ep = next) {
    next = ep->next;
    if (ep->writing) events += mci_tcp_flush(ep);
    if (ep->tx_error && ep->established) events += mci_tcp_read(ep);
  }
  return events;
}

static int read_live(struct mci_tcp_ctx* ctx) {
  int events = 0;
  for (uint32_t i = ctx->nlive; i-- > 0;)
    if (i < ctx->nlive) events += mci_tcp_read(ctx->live[i]);
  return events;
}

void mci_tcp_release_gone(struct mci_tcp_ctx* ctx) {
  for (struct mci_tcp_ep* ep; (ep = ctx->gone_eps);) {
    ctx->gone_eps = ep->next_gone;
    free(ep->queue);
    free(ep);
  }
  for (struct mci_tcp_dial* dial; (dial = ctx->gone_dials);) {
    ctx->gone_dials = dial->next_gone;
    free(dial);
  }
  for (struct mci_tcp_stranger* stranger; (stranger = ctx->gone_strangers);) {
    ctx->gone_strangers = stranger->next_gone;
    free(stranger);
  }
}

int mci_tcp_progress(void* opaque) {
  struct mci_tcp_ctx* ctx = opaque;
  int events = 0;
  bool all = ctx->armed || ctx->nsearching || ctx->nstrangers || ctx->nlive > DIRECT || ++ctx->turn % SELDOM == 0;
  ctx->armed = false;
  ctx->round++;
  if (ctx->nwriting || ctx->nfailing) events += write_out(ctx);
  events += all ? look_at_all(ctx) : read_live(ctx);
  if (ctx->gone_eps || ctx->gone_dials || ctx->gone_strangers) mci_tcp_release_gone(ctx);
  return events;
}

meshcclResult_t mci_tcp_wait_handle(void* opaque, int* fd, uint32_t* poll_us) {
  *fd = ((struct mci_tcp_ctx*)opaque)->epoll_fd;
  *poll_us = 0;
  return meshcclSuccess;
}

/* The epoll set is level-triggered: what is pending in the system makes it readable. */
meshcclResult_t mci_tcp_arm(void* opaque) {
  struct mci_tcp_ctx* ctx = opaque;
  ctx->armed = true;
  if (ctx->nfailing) return meshcclBusy;
  for (struct mci_tcp_ep* ep = ctx->all; ep && ctx->nwriting; ep = ep->next)
    if (ep->writing) mci_tcp_watch_room(ep, true);
  return meshcclSuccess;
}
