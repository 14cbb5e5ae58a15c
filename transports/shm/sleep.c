/* Sleeping and waking. A context that wants to sleep sets flags that its peers look at after they publish something,
 * and then looks once more itself; a peer that sees a flag writes to the context's pipe. Either the sleeper sees what
 * was published, or the peer sees the flag: no wake-up is lost. To spare the senders a fence per message the sleeper
 * has one run on all processors. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm.h"

/* Registers the process: barriers of other processes then reach its threads. */
bool mci_shm_barrier_init(void) {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0 &&
         syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

/* A full pipe is as good as a written one. */
void mci_shm_wake(struct mci_shm_ep* ep) {
  if (!ep->bell || atomic_exchange(&ep->bell->asleep, 0) == 0) return;
  while (write(ep->wake_fd, "", 1) < 0 && errno == EINTR) continue;
}

static struct mci_shm_bell* own_bell(const struct mci_shm_ctx* ctx) {
  return (struct mci_shm_bell*)(ctx->base + MCI_SHM_PAGE);
}

/* The pipe is emptied even when nobody cleared the flag: a late writer of an earlier sleep may have filled it. */
void mci_shm_disarm(struct mci_shm_ctx* ctx) {
  char bytes[64];
  ssize_t n;
  ctx->armed = false;
  atomic_store(&own_bell(ctx)->asleep, 0);
  do {
    n = read(ctx->wake_read, bytes, sizeof bytes);
  } while (n == (ssize_t)sizeof bytes || (n < 0 && errno == EINTR));
}

meshcclResult_t mci_shm_wait_handle(void* opaque, int* fd, uint32_t* poll_us) {
  *fd = ((struct mci_shm_ctx*)opaque)->wake_read;
  *poll_us = 0;
  return meshcclSuccess;
}

static bool has_work(const struct mci_shm_ep* ep) {
  if (!ep->broken && mci_shm_rx_pending(&ep->rx)) return true;
  if (!ep->starved) return false;
  return atomic_load_explicit(&ep->tx.ring->consumed, memory_order_acquire) != ep->tx.consumed;
}

meshcclResult_t mci_shm_arm(void* opaque) {
  struct mci_shm_ctx* ctx = opaque;
  ctx->armed = true;
  atomic_exchange(&own_bell(ctx)->asleep, 1);
  for (uint32_t i = 0; i < ctx->neps && ctx->nstarved > 0; i++)
    if (ctx->eps[i]->starved) atomic_exchange(&ctx->eps[i]->tx.ring->wants_room, 1);
  if ((ctx->self.flags & MCI_SHM_ADDRESS_BARRIER) &&
      syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) != 0)
    return mci_shm_fail(ctx, meshcclSystemError, "shm: membarrier worked before and fails now: %s", strerror(errno));
  for (uint32_t i = 0; i < ctx->neps; i++)
    if (has_work(ctx->eps[i])) return meshcclBusy;
  return meshcclSuccess;
}
