/* What the communicators and streams of one process share: the lists that waiters drive, and the thread that carries
 * work nobody waits for. The thread sleeps on a condition while there is none, and ends with the last communicator. */
#include "api/runtime.h"

#include "api/comm.h"
#include "base/globals.h"

static struct mci_runtime* runtime(void) { return &mci_runtime; }

static void before_fork(void) { pthread_mutex_lock(&mci_runtime.lock); }
static void after_fork_in_parent(void) { pthread_mutex_unlock(&mci_runtime.lock); }

/* The parent's communicators are not the child's to drive: both would take from the same rings. */
static void after_fork_in_child(void) {
  mci_runtime.comms = NULL;
  mci_runtime.streams = NULL;
  mci_runtime.running = false;
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

/* ---- the thread
 * -------------------------------------------------------------------------------------------------------- */

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

static void* carry(void* argument) {
  struct mci_runtime* rt = runtime();
  uint64_t tenure = (uintptr_t)argument;
  mci_waiter waiter;
  mci_wait_begin(&waiter);
  pthread_mutex_lock(&rt->lock);
  while (rt->tenure == tenure) {
    if (!has_work(rt)) {
      mci_wait_begin(&waiter);
      pthread_cond_wait(&rt->wake, &rt->lock);
      continue;
    }
    meshcclStream_t claimed = NULL;
    bool moved = drive(rt, &claimed) > 0;
    pthread_mutex_unlock(&rt->lock);
    if (claimed) mci_stream_run_claimed(claimed);
    if (moved) {
      mci_wait_moved(&waiter, NULL);
    } else {
      mci_wait_idle(&waiter, NULL);
    }
    pthread_mutex_lock(&rt->lock);
  }
  pthread_mutex_unlock(&rt->lock);
  return NULL;
}

void mci_runtime_wake(void) {
  struct mci_runtime* rt = runtime();
  pthread_mutex_lock(&rt->lock);
  if (has_work(rt)) {
    if (!rt->running) rt->running = pthread_create(&rt->thread, NULL, carry, (void*)(uintptr_t)++rt->tenure) == 0;
    pthread_cond_broadcast(&rt->wake);
  }
  pthread_mutex_unlock(&rt->lock);
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
    pthread_cond_broadcast(&rt->wake);
  }
  pthread_t thread = rt->thread;
  pthread_mutex_unlock(&rt->lock);
  if (stop) pthread_join(thread, NULL);
}
