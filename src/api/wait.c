/* How a caller waits: it drives progress itself, spins as long as that pays, then gives the processor away, then sleeps
 * until a transport or the control tree has something. Ranks may outnumber cores. */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>

#include "api/comm.h"

#define MAX_HANDLES 16
#define FREE_ROUNDS 32    /* rounds without a look at the clock */
#define EAGER_ROUNDS 16   /* and without a pause, which takes as long as a small message */
#define SWITCHED_NS 500u  /* a yield that took longer ran somebody else */
#define FOREIGN_NS 500000 /* ranks give the processor back sooner */
#define YIELD_NS 1000000u /* who waited so long for a message sleeps until it comes */
#define LEAST_NAP_US 50u  /* of who has no communicator to sleep on, and naps for a share of what he waited already */
#define MOST_NAP_US 2000u
#define NAP_SHARE 16

void mci_wait_begin(mci_waiter* waiter) { *waiter = (mci_waiter){0}; }

/* Sleeps until a descriptor of comm has something, for at most a few milliseconds. */
static void sleep_on(meshcclComm_t comm, uint64_t waited_ns) {
  int fds[MAX_HANDLES];
  struct pollfd polled[MAX_HANDLES + 1];
  uint32_t poll_us = 5000, n = 0;
  bool busy = false;
  if (comm) {
    n = mci_engine_wait_handles(comm->engine, fds, MAX_HANDLES, &poll_us, &busy);
    polled[n] = (struct pollfd){.fd = mci_boot_fd(comm->boot), .events = POLLIN};
  } else {
    poll_us = (uint32_t)MCI_MIN(MCI_MAX(waited_ns / NAP_SHARE / 1000, LEAST_NAP_US), MOST_NAP_US);
  }
  for (uint32_t i = 0; i < n; i++) polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
  if (busy) {
    sched_yield();
    return;
  }
  struct timespec limit = {.tv_nsec = (long)poll_us * 1000};
  ppoll(polled, comm ? n + 1 : 0, &limit, NULL);
  if (comm) mci_boot_clear(comm->boot);
}

/* Spinning pays where the awaited peer runs on another core, so whoever met nobody else on this one spins longer next
 * time. Where others want this core, it only keeps them from sending what is waited for. */
void mci_wait_moved(mci_waiter* waiter, meshcclComm_t comm) {
  if (comm && waiter->yielded && !waiter->shared) {
    uint32_t most = (uint32_t)mci_param_int(MCI_P_SPIN_US) * 1000;
    comm->spin_ns = MCI_MIN(comm->spin_ns * 2 + 100, most);
    mci_engine_hurry(comm->engine, comm->spin_ns == 0);
  }
  *waiter = (mci_waiter){0};
}

/* Lets others run, and learns whether there are any. */
static void yield(mci_waiter* waiter, meshcclComm_t comm, uint64_t now) {
  sched_yield();
  if (!comm) return;
  uint64_t took = mci_now_ns() - now;
  waiter->yielded = true;
  if (took > SWITCHED_NS) {
    waiter->shared = true;
    comm->spin_ns = 0;
    mci_engine_hurry(comm->engine, true);
    if (took > FOREIGN_NS) mci_engine_interrupted(comm->engine);
  }
  atomic_fetch_add_explicit(&comm->wait_ns, took, memory_order_relaxed);
}

void mci_wait_idle(mci_waiter* waiter, meshcclComm_t comm) {
  uint32_t idle = waiter->idle++, spin_ns = comm ? comm->spin_ns : 0;
  if (spin_ns > 0 && idle < FREE_ROUNDS) {
    if (idle >= EAGER_ROUNDS) mci_cpu_relax();
    return;
  }
  uint64_t now = mci_now_ns();
  if (waiter->since_ns == 0) waiter->since_ns = now;
  uint64_t waited = now - waiter->since_ns;
  bool sleeps = waited > YIELD_NS;
  if (comm && ((idle & 63) == 63 || sleeps)) {
    mci_comm_watch(comm, now);
    mci_runtime_progress();
  }
  if (waited < spin_ns) {
    mci_cpu_relax();
  } else if (!sleeps) {
    yield(waiter, comm, now);
  } else {
    sleep_on(comm, waited);
    if (comm) atomic_fetch_add_explicit(&comm->wait_ns, mci_now_ns() - now, memory_order_relaxed);
  }
}

/* Who shares its processor does not look twice for a message that the next one here may have to send, and when a call begins
 * mostly not even once. */
void mci_wait_call(meshcclComm_t comm, mci_call* call) {
  mci_waiter waiter;
  mci_wait_begin(&waiter);
  while (!atomic_load_explicit(&call->op.done, memory_order_relaxed)) {
    int moved = mci_comm_progress(comm);
    if (moved > 0) mci_wait_moved(&waiter, comm);
    if (atomic_load_explicit(&call->op.done, memory_order_relaxed)) break;
    if (moved == 0 || (comm->spin_ns == 0 && mci_engine_only_waits(comm->engine))) mci_wait_idle(&waiter, comm);
  }
}
