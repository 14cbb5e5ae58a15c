/* What the communicators and streams of one process share: the lists that waiters drive, and the thread that carries
 * work nobody waits for. The thread sleeps on a condition while there is none, and ends with the last communicator. */
#include "api/runtime.h"

#include <poll.h>
#include <time.h>

#include "api/comm.h"
#include "base/globals.h"

/* In a forked child everything listed is the parent's, and its thread and locks are not here: begin anew. */
static struct mci_runtime* runtime(void) {
  uint32_t generation = mci_fork_generation();
  if (MCI_UNLIKELY(mci_runtime.generation != generation))
    mci_runtime = (struct mci_runtime){
        .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .generation = generation};
  return &mci_runtime;
}

void mci_runtime_add_comm(meshcclComm_t comm) {
  struct mci_runtime* rt = runtime();
  pthread_mutex_lock(&rt->lock);
  comm->next = rt->comms;
  if (rt->comms) rt->comms->prev = comm;
  rt->comms = comm;
  comm->prev = NULL;
  pthread_mutex_unlock(&rt->lock);
}

void mci_runtime_add_stream(meshcclStream_t stream) {
  struct mci_runtime* rt = runtime();
  pthread_mutex_lock(&rt->lock);
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

/* One round over everything, the lists locked so that nothing is freed meanwhile. */
static int drive(struct mci_runtime* rt) {
  int moved = 0;
  for (meshcclComm_t comm = rt->comms; comm; comm = comm->next) {
    if (pthread_mutex_trylock(&comm->lock) != 0) continue;
    moved += mci_comm_progress(comm);
    mci_engine_watch(comm->engine, mci_now_ns());
    pthread_mutex_unlock(&comm->lock);
  }
  for (meshcclStream_t stream = rt->streams; stream; stream = stream->next) moved += mci_stream_advance(stream);
  return moved;
}

int mci_runtime_progress(void) {
  struct mci_runtime* rt = runtime();
  if (pthread_mutex_trylock(&rt->lock) != 0) return 0;
  int moved = drive(rt);
  pthread_mutex_unlock(&rt->lock);
  return moved;
}

/* ---- the thread
 * -------------------------------------------------------------------------------------------------------- */

/* Work on streams that this thread is to carry. */
static bool has_work(const struct mci_runtime* rt) {
  for (meshcclComm_t comm = rt->comms; comm; comm = comm->next)
    if (!comm->threadless && atomic_load(&comm->async_pending) > 0) return true;
  return false;
}

static void* carry(void* argument) {
  struct mci_runtime* rt = argument;
  uint32_t idle = 0;
  pthread_mutex_lock(&rt->lock);
  while (!rt->stopping) {
    if (!has_work(rt)) {
      idle = 0;
      pthread_cond_wait(&rt->wake, &rt->lock);
      continue;
    }
    idle = drive(rt) > 0 ? 0 : idle + 1;
    pthread_mutex_unlock(&rt->lock);
    if (idle > 1000) {
      nanosleep(&(struct timespec){.tv_nsec = idle > 3000 ? 200000 : 50000}, NULL);
    } else if (idle > 0) {
      sched_yield();
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
    if (!rt->running) {
      rt->stopping = false;
      rt->running = pthread_create(&rt->thread, NULL, carry, rt) == 0;
    }
    pthread_cond_signal(&rt->wake);
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
    rt->stopping = true;
    rt->running = false;
    pthread_cond_signal(&rt->wake);
  }
  pthread_t thread = rt->thread;
  pthread_mutex_unlock(&rt->lock);
  if (stop) pthread_join(thread, NULL);
}
