/* Sleeping when messages are held: the caller polls one descriptor that follows the inner transport's and a timer. */
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "transport/fault.h"

static meshcclResult_t refuse(const mci_fault_context* ctx) {
  return ctx->host->fail(ctx->host->self, meshcclSystemError,
                         "fault hook: no descriptors for the timer of held messages; raise ulimit -n");
}

static bool join(int epoll, int fd) {
  struct epoll_event event = {.events = EPOLLIN};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static meshcclResult_t make_handle(mci_fault_context* ctx, int inner) {
  ctx->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll >= 0 && ctx->timer >= 0 && join(epoll, inner) && join(epoll, ctx->timer)) {
    ctx->epoll = epoll;
    return meshcclSuccess;
  }
  if (epoll >= 0) close(epoll);
  if (ctx->timer >= 0) close(ctx->timer);
  ctx->timer = -1;
  return refuse(ctx);
}

meshcclResult_t mci_fault_wait_handle(void* context, int* fd, uint32_t* poll_us) {
  mci_fault_context* ctx = context;
  int inner = -1;
  uint32_t interval = 0;
  MCI_TRY(ctx->inner->waitHandle(ctx->ctx, &inner, &interval));
  if (inner >= 0 && ctx->delays) {
    if (ctx->epoll < 0) MCI_TRY(make_handle(ctx, inner));
    inner = ctx->epoll;
  }
  *fd = inner;
  *poll_us = interval;
  return meshcclSuccess;
}

/* When the first held message is due that does not wait for room; UINT64_MAX: none. */
static uint64_t next_due(const mci_fault_context* ctx) {
  uint64_t next = UINT64_MAX;
  for (const mci_fault_link* link = ctx->links; link; link = link->next)
    if (link->head && !link->blocked) next = MCI_MIN(next, link->head->due_ns);
  return next;
}

meshcclResult_t mci_fault_wait_until(mci_fault_context* ctx, uint64_t due_ns) {
  if (ctx->timer < 0 || due_ns >= ctx->timer_ns) return meshcclSuccess;
  struct itimerspec at = {.it_value = {(time_t)(due_ns / 1000000000u), (long)(due_ns % 1000000000u)}};
  if (timerfd_settime(ctx->timer, TFD_TIMER_ABSTIME, &at, NULL) != 0) return refuse(ctx);
  ctx->timer_ns = due_ns;
  return meshcclSuccess;
}

meshcclResult_t mci_fault_arm(void* context) {
  mci_fault_context* ctx = context;
  for (const mci_fault_link* link = ctx->links; link; link = link->next)
    if (link->reset && !link->told && !link->leaving) return meshcclBusy;
  uint64_t next = next_due(ctx);
  if (next <= mci_now_ns()) return meshcclBusy;
  MCI_TRY(mci_fault_wait_until(ctx, next));
  return ctx->inner->arm(ctx->ctx);
}

void mci_fault_wait_drain(mci_fault_context* ctx) {
  uint64_t times;
  if (ctx->timer_ns == UINT64_MAX || mci_now_ns() < ctx->timer_ns) return;
  if (read(ctx->timer, &times, sizeof times) == sizeof times) ctx->timer_ns = UINT64_MAX;
}
