/* Entering and leaving calls, one round of progress, queries, finalize, destroy and abort. */
#include "api/comm.h"

#include <stdio.h>
#include <string.h>

#include "base/globals.h"

meshcclResult_t mci_comm_enter(meshcclComm_t comm, const char* function) {
  if (!comm || comm->magic != MCI_COMM_MAGIC)
    MCI_FAIL(meshcclInvalidArgument, "%s: the communicator is NULL or was destroyed", function);
  if (comm->fork_generation != mci_fork_generation())
    MCI_FAIL(meshcclInvalidUsage, "%s: the communicator was made before fork(); a child makes its own", function);
  switch (atomic_load(&comm->state)) {
    case MCI_COMM_STARTING:
      MCI_FAIL(meshcclInvalidUsage, "%s: the communicator is still starting; poll meshcclCommGetAsyncError first",
               function);
    case MCI_COMM_BROKEN:
      MCI_FAIL(comm->async_error, "%s", comm->async_text);
    default:
      break;
  }
  atomic_fetch_add(&comm->callers, 1);
  if (!atomic_load(&comm->aborted)) return meshcclSuccess;
  mci_comm_leave(comm);
  MCI_FAIL(meshcclInvalidUsage, "%s: the communicator was aborted", function);
}

void mci_comm_leave(meshcclComm_t comm) { atomic_fetch_sub(&comm->callers, 1); }

void mci_comm_set_error(meshcclComm_t comm, meshcclResult_t result, const char* text) {
  if (comm->async_error != meshcclSuccess) return;
  snprintf(comm->async_text, sizeof comm->async_text, "%s", text);
  comm->async_error = result;
}

meshcclResult_t mci_comm_told(meshcclComm_t comm, meshcclResult_t result) {
  if (MCI_LIKELY(result == meshcclSuccess)) return result;
  if (atomic_load(&comm->aborted)) return mci_fail(meshcclInvalidUsage, "the communicator was aborted");
  mci_error_set(comm->async_text);
  return result;
}

/* A failure that came along the control tree ends everything here; what this rank was doing is added. */
static void take_failure(meshcclComm_t comm) {
  char text[900];
  meshcclResult_t result = mci_boot_status(comm->boot, text, sizeof text);
  if (result == meshcclSuccess || comm->async_error != meshcclSuccess) return;
  if (atomic_load(&comm->aborted)) return; /* what this rank itself told the others */
  mci_str full = {0};
  mci_str_add(&full, "%s", text);
  if (result == meshcclInvalidUsage) {
    mci_str_add(&full, " (here: ");
    mci_engine_explain(comm->engine, &full);
    mci_str_add(&full, ")");
  }
  mci_comm_set_error(comm, result, full.text ? full.text : text);
  mci_str_fini(&full);
  mci_engine_fail(comm->engine, result, comm->async_text);
}

static int take_messages(meshcclComm_t comm) {
  uint32_t attention = atomic_load_explicit(mci_boot_attention(comm->boot), memory_order_acquire);
  if (MCI_LIKELY(attention == comm->attention_seen)) return 0;
  comm->attention_seen = attention;
  take_failure(comm);
  mci_boot_message message;
  int taken = 0;
  while (mci_boot_receive(comm->boot, &message)) {
    taken++;
    if (message.kind != MCI_BOOT_MEET) continue;
    meshcclResult_t result = mci_engine_meet(comm->engine, (uint32_t)message.from, message.data, message.bytes);
    if (result == meshcclSuccess) continue;
    /* A peer that died after it introduced itself cannot be reached either: its death is told first, if it is one. */
    if (comm->unmet_since_ns == 0) comm->unmet_since_ns = mci_now_ns();
    comm->unmet_result = result;
    snprintf(comm->unmet_text, sizeof comm->unmet_text, "%s", mci_error_last());
  }
  return taken;
}

/* The engine's failure is the communicator's. */
static void take_error(meshcclComm_t comm) {
  const char* text;
  meshcclResult_t error = mci_engine_error(comm->engine, &text);
  if (MCI_UNLIKELY(error != meshcclSuccess)) mci_comm_set_error(comm, error, text);
}

static void give_up_unmet(meshcclComm_t comm) {
  if (comm->async_error != meshcclSuccess || mci_now_ns() - comm->unmet_since_ns < MCI_GRACE_NS) return;
  mci_boot_report(comm->boot, (int)comm->rank, comm->unmet_result, comm->unmet_text);
  mci_comm_set_error(comm, comm->unmet_result, comm->unmet_text);
  mci_engine_fail(comm->engine, comm->unmet_result, comm->unmet_text);
}

int mci_comm_progress(meshcclComm_t comm) {
  if (comm->threadless) mci_boot_progress(comm->boot);
  if (MCI_UNLIKELY(atomic_load_explicit(&comm->aborted, memory_order_relaxed))) {
    mci_comm_set_error(comm, meshcclInvalidUsage, "the communicator was aborted");
    mci_engine_fail(comm->engine, meshcclInvalidUsage, comm->async_text);
  }
  int moved = take_messages(comm);
  if (MCI_UNLIKELY(comm->unmet_since_ns != 0)) give_up_unmet(comm);
  moved += mci_engine_progress(comm->engine);
  take_error(comm);
  return moved;
}

void mci_comm_watch(meshcclComm_t comm, uint64_t now_ns) {
  mci_engine_watch(comm->engine, now_ns, comm->flushing);
  take_error(comm);
}

uint64_t mci_comm_ticks_ns(meshcclComm_t comm, uint64_t ticks) {
  uint64_t ns = mci_now_ns() - comm->ready_ns, counted = mci_ticks() - comm->ready_ticks;
  return counted ? (uint64_t)((double)ticks * (double)ns / (double)counted) : 0;
}

/* ---- queries -------------------------------------------------------------------------------------------------------
 */

const char* meshcclGetLastError(meshcclComm_t comm) {
  if (!comm || comm->magic != MCI_COMM_MAGIC) return mci_error_last();
  if (comm->async_error != meshcclSuccess) return comm->async_text;
  return mci_error_last();
}

meshcclResult_t meshcclCommCount(meshcclComm_t comm, int* count) {
  MCI_TRY(mci_comm_enter(comm, "meshcclCommCount"));
  if (count) *count = (int)comm->nranks;
  mci_comm_leave(comm);
  if (!count) MCI_FAIL(meshcclInvalidArgument, "meshcclCommCount: count is NULL");
  return meshcclSuccess;
}

meshcclResult_t meshcclCommUserRank(meshcclComm_t comm, int* rank) {
  MCI_TRY(mci_comm_enter(comm, "meshcclCommUserRank"));
  if (rank) *rank = (int)comm->rank;
  mci_comm_leave(comm);
  if (!rank) MCI_FAIL(meshcclInvalidArgument, "meshcclCommUserRank: rank is NULL");
  return meshcclSuccess;
}

static meshcclResult_t coordinates(meshcclComm_t comm, int rank, int* coords, int* ndims) {
  if (!coords || !ndims) MCI_FAIL(meshcclInvalidArgument, "meshcclCommCoordinates: coords or ndims is NULL");
  if (rank < 0 || (uint32_t)rank >= comm->nranks)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommCoordinates: rank %d is outside 0..%u", rank, comm->nranks - 1);
  uint32_t at[MCI_MAX_DIMS], dims = MCI_MAX(1u, mci_topo_ndims(comm->topo));
  if (*ndims < (int)dims)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommCoordinates: the topology has %u dimensions, coords holds %d", dims,
             *ndims);
  at[0] = (uint32_t)rank;
  if (mci_topo_ndims(comm->topo) > 0) mci_topo_coords(comm->topo, (uint32_t)rank, at);
  for (uint32_t d = 0; d < dims; d++) coords[d] = (int)at[d];
  *ndims = (int)dims;
  return meshcclSuccess;
}

meshcclResult_t meshcclCommCoordinates(meshcclComm_t comm, int rank, int* coords, int* ndims) {
  MCI_TRY(mci_comm_enter(comm, "meshcclCommCoordinates"));
  meshcclResult_t result = coordinates(comm, rank, coords, ndims);
  mci_comm_leave(comm);
  return result;
}

static meshcclResult_t neighbors(meshcclComm_t comm, int rank, int* peers, int* n) {
  if (!n || (!peers && *n > 0)) MCI_FAIL(meshcclInvalidArgument, "meshcclCommNeighbors: peers or n is NULL");
  if (rank < 0 || (uint32_t)rank >= comm->nranks)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommNeighbors: rank %d is outside 0..%u", rank, comm->nranks - 1);
  uint32_t cap = (uint32_t)MCI_MAX(*n, 0);
  _Static_assert(sizeof(int) == sizeof(uint32_t), "ranks are copied as they are");
  uint32_t found = mci_topo_neighbors(comm->topo, (uint32_t)rank, (uint32_t*)peers, cap);
  *n = (int)found;
  if (found > cap)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommNeighbors: rank %d has %u neighbours, peers holds %u", rank, found,
             cap);
  return meshcclSuccess;
}

meshcclResult_t meshcclCommNeighbors(meshcclComm_t comm, int rank, int* peers, int* n) {
  MCI_TRY(mci_comm_enter(comm, "meshcclCommNeighbors"));
  meshcclResult_t result = neighbors(comm, rank, peers, n);
  mci_comm_leave(comm);
  return result;
}

meshcclResult_t meshcclCommGetAsyncError(meshcclComm_t comm, meshcclResult_t* asyncError) {
  if (!comm || comm->magic != MCI_COMM_MAGIC || !asyncError)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommGetAsyncError: comm or asyncError is NULL");
  atomic_fetch_add(&comm->callers, 1);
  int state = atomic_load(&comm->state);
  bool usable = state != MCI_COMM_STARTING && state != MCI_COMM_BROKEN && !atomic_load(&comm->aborted) &&
                comm->fork_generation == mci_fork_generation();
  if (usable && pthread_mutex_trylock(&comm->lock) == 0) {
    mci_comm_progress(comm);
    pthread_mutex_unlock(&comm->lock);
  }
  *asyncError = state == MCI_COMM_STARTING ? meshcclInProgress : comm->async_error;
  mci_comm_leave(comm);
  return meshcclSuccess;
}

meshcclResult_t meshcclCommGetStats(meshcclComm_t comm, meshcclCommStats_t* stats) {
  MCI_TRY(mci_comm_enter(comm, "meshcclCommGetStats"));
  if (!stats || stats->size < sizeof(size_t)) {
    mci_comm_leave(comm);
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommGetStats: set stats->size to sizeof(meshcclCommStats_t) first");
  }
  pthread_mutex_lock(&comm->lock);
  mci_engine_stats engine = mci_engine_get_stats(comm->engine);
  meshcclCommStats_t all = {.size = MCI_MIN(stats->size, sizeof all),
                            .operations = engine.operations,
                            .bytesSent = engine.bytes_sent,
                            .bytesReceived = engine.bytes_received,
                            .callerNs = mci_comm_ticks_ns(comm, atomic_load(&comm->caller_ticks)),
                            .waitNs = atomic_load(&comm->wait_ns),
                            .plansBuilt = comm->plans_built,
                            .planHits = comm->plan_hits,
                            .peers = (int)engine.peers,
                            .memoryBytes = engine.memory_bytes};
  pthread_mutex_unlock(&comm->lock);
  memcpy(stats, &all, all.size);
  mci_comm_leave(comm);
  return meshcclSuccess;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

/* Waits until everything issued on comm is done. */
static void flush(meshcclComm_t comm) {
  mci_waiter waiter;
  mci_wait_begin(&waiter);
  pthread_mutex_lock(&comm->lock);
  comm->flushing = true;
  atomic_store(&comm->flushing_shown, true);
  while (!mci_engine_idle(comm->engine) || atomic_load(&comm->async_pending) > 0) {
    int moved = mci_comm_progress(comm);
    if (moved == 0 && comm->async_error != meshcclSuccess && atomic_load(&comm->async_pending) == 0) break;
    if (moved) {
      mci_wait_moved(&waiter, comm);
    } else {
      mci_wait_idle(&waiter, comm);
    }
  }
  comm->flushing = false;
  atomic_store(&comm->flushing_shown, false);
  pthread_mutex_unlock(&comm->lock);
}

meshcclResult_t meshcclCommFinalize(meshcclComm_t comm) {
  MCI_TRY(mci_comm_enter(comm, "meshcclCommFinalize"));
  flush(comm);
  int ready = MCI_COMM_READY;
  atomic_compare_exchange_strong(&comm->state, &ready, MCI_COMM_FINALIZED);
  meshcclResult_t result = comm->async_error;
  mci_comm_leave(comm);
  if (result != meshcclSuccess) mci_error_set(comm->async_text);
  return result;
}

meshcclResult_t meshcclCommDestroy(meshcclComm_t comm) {
  if (!comm) return meshcclSuccess;
  if (comm->magic != MCI_COMM_MAGIC)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommDestroy: the communicator was destroyed before");
  if (comm->fork_generation != mci_fork_generation())
    MCI_FAIL(meshcclInvalidUsage, "meshcclCommDestroy: the communicator belongs to the parent process; leave it alone");
  if (comm->has_starter) {
    pthread_join(comm->starter, NULL);
    comm->has_starter = false;
  }
  if (atomic_load(&comm->state) == MCI_COMM_READY) flush(comm);
  meshcclResult_t result = comm->async_error;
  if (result != meshcclSuccess) mci_error_set(comm->async_text);
  mci_comm_free(comm);
  return result;
}

meshcclResult_t meshcclCommAbort(meshcclComm_t comm) {
  if (!comm || comm->magic != MCI_COMM_MAGIC)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommAbort: the communicator is NULL or was destroyed");
  if (comm->fork_generation != mci_fork_generation())
    MCI_FAIL(meshcclInvalidUsage, "meshcclCommAbort: the communicator belongs to the parent process; leave it alone");
  atomic_store(&comm->aborted, 1); /* also ends a start that still waits for other ranks */
  if (comm->has_starter) {
    pthread_join(comm->starter, NULL);
    comm->has_starter = false;
  }
  if (comm->boot) {
    char text[160];
    snprintf(text, sizeof text, "rank %u aborted %s", comm->rank, comm->name);
    mci_boot_report(comm->boot, (int)comm->rank, meshcclRemoteError, text);
  }
  while (atomic_load(&comm->callers) > 0) sched_yield();
  if (comm->engine) {
    pthread_mutex_lock(&comm->lock);
    mci_engine_fail(comm->engine, meshcclInvalidUsage, "the communicator was aborted");
    pthread_mutex_unlock(&comm->lock);
  }
  mci_comm_free(comm);
  return meshcclSuccess;
}
