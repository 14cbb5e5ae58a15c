/* What the communicators and streams of one process share: the lists that waiters drive, and the thread that carries
 * work nobody waits for. The thread sleeps on a condition while there is none, and ends with the last communicator. */
#define _GNU_SOURCE
#include "api/runtime.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "api/comm.h"
#include "base/globals.h"

static struct mci_runtime* runtime(void) { return &mci_runtime; }

static void before_fork(void) { pthread_mutex_lock(&mci_runtime.lock); }
static void after_fork_in_parent(void) { pthread_mutex_unlock(&mci_runtime.lock); }

/* The parent's communicators are not the child's to drive: both would take from the same rings. */
static void after_fork_in_child(void) {
  mci_runtime.comms = NULL;
  mci_runtime.streams = NULL;
  mci_runtime.running = mci_runtime.asleep = false;
  if (mci_runtime.wake_fd > 0) close(mci_runtime.wake_fd);
  mci_runtime.wake_fd = 0;
  mci_runtime.wake = (pthread_cond_t)PTHREAD_COND_INITIALIZER; /* the parent's thread may wait on it */
  pthread_mutex_unlock(&mci_runtime.lock);
}

static void watch_forks(struct mci_runtime* rt) {
  bool hooked = rt->fork_hooked;
  rt->fork_hooked = true;
  pthread_mutex_unlock(&rt->lock);
  if (!hooked) pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  pthread_mutex_lock(&rt->lock);
}

void mci_runtime_add_comm(meshcclComm_t comm) {
  struct mci_runtime* rt = runtime();
  pthread_mutex_lock(&rt->lock);
  watch_forks(rt);
  comm->next = rt->comms;
  if (rt->comms) rt->comms->prev = comm;
  rt->comms = comm;
  comm->prev = NULL;
  pthread_mutex_unlock(&rt->lock);
}

void mci_runtime_add_stream(meshcclStream_t stream) {
  struct mci_runtime* rt = runtime();
  pthread_mutex_lock(&rt->lock);
  watch_forks(rt);
  stream->next = rt->streams;
  if (rt->streams) rt->streams->prev = stream;
  rt->streams = stream;
  pthread_mutex_unlock(&rt->lock);
}

void mci_runtime_remove_stream(meshcclStream_t stream) {
  struct mci_runtime* rt = runtime();
  pthread_mutex_lock(&rt->lock);
  if (stream->prev) stream->prev->next = stream->next;
  if (stream->next) stream->next->prev = stream->prev;
  if (rt->streams == stream) rt->streams = stream->next;
  pthread_mutex_unlock(&rt->lock);
}

/* One round over everything, the lists locked so that nothing is freed meanwhile. A host function that is due is
 * claimed, at most one: it may take long and wait for other threads, so it runs when the lists are free again. */
static int drive(struct mci_runtime* rt, meshcclStream_t* claimed) {
  int moved = 0;
  for (meshcclComm_t comm = rt->comms; comm; comm = comm->next) {
    if (pthread_mutex_trylock(&comm->lock) != 0) continue;
    moved += mci_comm_progress(comm);
    mci_comm_watch(comm, mci_now_ns());
    pthread_mutex_unlock(&comm->lock);
  }
  for (meshcclStream_t stream = rt->streams; stream; stream = stream->next) {
    moved += mci_stream_advance(stream);
    if (!*claimed && mci_stream_claim(stream)) *claimed = stream;
  }
  return moved + (*claimed != NULL);
}

int mci_runtime_progress(void) {
  struct mci_runtime* rt = runtime();
  if (pthread_mutex_trylock(&rt->lock) != 0) return 0;
  meshcclStream_t claimed = NULL;
  int moved = drive(rt, &claimed);
  pthread_mutex_unlock(&rt->lock);
  if (claimed) mci_stream_run_claimed(claimed);
  return moved;
}

/* ---- the thread -------------------------------------------------------------------------------------------------- */

/* Work on streams that this thread is to carry. */
static bool has_work(const struct mci_runtime* rt) {
  bool serves = false;
  for (meshcclComm_t comm = rt->comms; comm; comm = comm->next) {
    if (comm->threadless) continue;
    if (atomic_load(&comm->async_pending) > 0) return true;
    serves = true;
  }
  for (meshcclStream_t stream = rt->streams; serves && stream; stream = stream->next)
    if (mci_stream_needs_driver(stream)) return true;
  return false;
}

/* How the thread rests while nothing moves. On a processor of its own it stays awake for a while, for what comes then is
 * served at once. Where it shares one with a thread that computes, a yield gives away a whole slice of time, often longer
 * than a message takes; who sleeps until something comes goes before such a thread. */
#define YIELDS 1000
#define SHARED_NS 20000u /* a yield that took longer ran somebody who computes */
#define SHARED_RESTS 256 /* so many rests are believed to be like the last one */
#define MAX_HANDLES 64
#define MOST_SLEEP_US 1000u /* timeouts are looked at, and what another thread has taken from the descriptors */
#define BLIND_SLEEP_US 200u /* what is waited for has no descriptor */

typedef struct {
  uint32_t idle, shared; /* rounds without progress; rests still believed to be on a shared processor */
  struct pollfd polled[MAX_HANDLES];
  uint32_t npolled, limit_us; /* 0: no sleep now */
} rester;

static void add_handles(meshcclComm_t comm, rester* rest) {
  int fds[MAX_HANDLES];
  bool busy = false;
  uint32_t n = mci_engine_wait_handles(comm->engine, fds, MAX_HANDLES - rest->npolled, &rest->limit_us, &busy);
  for (uint32_t i = 0; i < n; i++) rest->polled[rest->npolled++] = (struct pollfd){.fd = fds[i], .events = POLLIN};
  if (busy) rest->limit_us = 0;
}

/* What to sleep on. The lists are locked. */
static void prepare_sleep(struct mci_runtime* rt, rester* rest) {
  rest->limit_us = MOST_SLEEP_US;
  rest->npolled = 1;
  rest->polled[0] = (struct pollfd){.fd = rt->wake_fd, .events = POLLIN};
  for (meshcclStream_t stream = rt->streams; stream; stream = stream->next)
    if (mci_stream_needs_driver(stream)) rest->limit_us = BLIND_SLEEP_US;
  for (meshcclComm_t comm = rt->comms; comm && rest->limit_us > 0; comm = comm->next) {
    if (comm->threadless || atomic_load(&comm->async_pending) == 0) continue;
    if (pthread_mutex_trylock(&comm->lock) != 0) {
      rest->limit_us = MCI_MIN(rest->limit_us, BLIND_SLEEP_US);
      continue;
    }
    add_handles(comm, rest);
    pthread_mutex_unlock(&comm->lock);
  }
  rt->asleep = rest->limit_us > 0;
}

static void take_a_rest(rester* rest) {
  if (rest->limit_us > 0) {
    uint64_t count;
    ppoll(rest->polled, rest->npolled, &(struct timespec){.tv_nsec = (long)rest->limit_us * 1000}, NULL);
    if ((rest->polled[0].revents & POLLIN) && read(rest->polled[0].fd, &count, sizeof count) < 0) return;
    return;
  }
  uint64_t before = mci_now_ns();
  sched_yield();
  if (mci_now_ns() - before > SHARED_NS) rest->shared = SHARED_RESTS;
}

static void* carry(void* argument) {
  struct mci_runtime* rt = runtime();
  uint64_t tenure = (uintptr_t)argument;
  rester rest = {0};
  pthread_mutex_lock(&rt->lock);
  while (rt->tenure == tenure) {
    if (!has_work(rt)) {
      rest.idle = 0;
      pthread_cond_wait(&rt->wake, &rt->lock);
      continue;
    }
    meshcclStream_t claimed = NULL;
    rest.idle = drive(rt, &claimed) > 0 ? 0 : rest.idle + 1;
    if (rest.idle == 1 && rest.shared > 0) rest.shared--;
    rest.limit_us = 0;
    if (rest.idle > YIELDS || (rest.idle > 0 && rest.shared > 0)) prepare_sleep(rt, &rest);
    pthread_mutex_unlock(&rt->lock);
    if (claimed) mci_stream_run_claimed(claimed);
    if (rest.idle > 0) take_a_rest(&rest);
    pthread_mutex_lock(&rt->lock);
    if (rt->tenure == tenure) rt->asleep = false;
  }
  pthread_mutex_unlock(&rt->lock);
  return NULL;
}

/* Without a descriptor to be woken by there is no thread: work then advances in calls, as without one. */
static void start_thread(struct mci_runtime* rt) {
  if (rt->wake_fd <= 0) rt->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (rt->wake_fd <= 0) return;
  rt->running = pthread_create(&rt->thread, NULL, carry, (void*)(uintptr_t)++rt->tenure) == 0;
}

/* Unlocks, then wakes: a thread that ran at once, in place of its waker, would only wait for the lock. The descriptor is
 * kept for the life of the process, so that it is this one still. */
static void unlock_and_wake(struct mci_runtime* rt) {
  const uint64_t one = 1;
  bool asleep = rt->asleep;
  int fd = rt->wake_fd;
  rt->asleep = false;
  pthread_mutex_unlock(&rt->lock);
  pthread_cond_broadcast(&rt->wake);
  if (asleep && write(fd, &one, sizeof one) < 0) return; /* full: it is woken already */
}

void mci_runtime_wake(void) {
  struct mci_runtime* rt = runtime();
  pthread_mutex_lock(&rt->lock);
  bool work = has_work(rt);
  if (work && !rt->running) start_thread(rt);
  if (work) {
    unlock_and_wake(rt);
  } else {
    pthread_mutex_unlock(&rt->lock);
  }
}

void mci_runtime_remove_comm(meshcclComm_t comm) {
  struct mci_runtime* rt = runtime();
  pthread_mutex_lock(&rt->lock);
  if (comm->prev) comm->prev->next = comm->next;
  if (comm->next) comm->next->prev = comm->prev;
  if (rt->comms == comm) rt->comms = comm->next;
  bool stop = !rt->comms && rt->running;
  if (stop) {
    rt->tenure++;
    rt->running = false;
  }
  pthread_t thread = rt->thread;
  unlock_and_wake(rt);
  if (stop) pthread_join(thread, NULL);
}
