/* Groups: calls between Start and End are kept by the thread and issued together; so are starts of communicators. */
#include "api/comm.h"

typedef struct group_start {
  mci_start start;
  meshcclComm_t *out, comm;
  struct group_start* next;
} group_start;

typedef struct {
  mci_call* call;
  meshcclComm_t comm; /* the call may be gone */
  meshcclStream_t stream;
  mci_item* item; /* the stream's item of this group, at the first call of the stream */
} group_entry;

static _Thread_local struct {
  int depth;
  meshcclResult_t result;
  group_entry* entries;
  uint32_t nentries, cap_entries;
  group_start *starts, **last_start;
} group;

bool mci_group_open(void) { return group.depth > 0; }

void mci_group_error(meshcclResult_t result) {
  if (group.depth > 0 && group.result == meshcclSuccess) group.result = result;
}

meshcclResult_t mci_group_add(mci_call* call, meshcclStream_t stream) {
  MCI_TRY(mci_grow(&group.entries, sizeof *group.entries, &group.cap_entries, (size_t)group.nentries + 1));
  group.entries[group.nentries++] = (group_entry){.call = call, .stream = stream};
  mci_run_hold(call->op.run); /* later calls of the group may crowd its plan out of the cache */
  return meshcclSuccess;
}

meshcclResult_t mci_group_add_start(mci_start* start, meshcclComm_t* out) {
  group_start* entry = mci_alloc(sizeof *entry);
  if (!entry) return mci_oom(sizeof *entry);
  *entry = (group_start){.start = *start, .out = out};
  if (!group.starts) group.last_start = &group.starts;
  *group.last_start = entry;
  group.last_start = &entry->next;
  return meshcclSuccess;
}

meshcclResult_t meshcclGroupStart(void) {
  group.depth++;
  return meshcclSuccess;
}

/* Starts all communicators side by side, then waits for each. When one fails, none remains. */
static meshcclResult_t run_starts(void) {
  meshcclResult_t result = group.result;
  for (group_start* entry = group.starts; entry && result == meshcclSuccess; entry = entry->next) {
    result = mci_comm_start(&entry->start, false, &entry->comm);
    if (result == meshcclInProgress) result = meshcclSuccess;
  }
  for (group_start* entry = group.starts; entry; entry = entry->next) {
    if (!entry->comm) continue;
    pthread_join(entry->comm->starter, NULL);
    entry->comm->has_starter = false;
    if (result != meshcclSuccess || entry->comm->async_error == meshcclSuccess) continue;
    result = entry->comm->async_error;
    mci_error_set(entry->comm->async_text);
  }
  for (group_start *entry = group.starts, *next; entry; entry = next) {
    next = entry->next;
    if (result == meshcclSuccess) {
      *entry->out = entry->comm;
    } else if (entry->comm) {
      mci_comm_free(entry->comm);
    }
    mci_free(entry);
  }
  group.starts = NULL;
  return result;
}

static void drop_calls(void) {
  for (uint32_t i = 0; i < group.nentries; i++) {
    mci_call* call = group.entries[i].call;
    pthread_mutex_lock(&call->comm->lock);
    if (call->fused) mci_fused_drop(call->fused);
    if (call->op.run) mci_run_release(call->op.run);
    pthread_mutex_unlock(&call->comm->lock);
    if (call->item) atomic_fetch_sub(&call->comm->async_pending, 1);
    mci_free(group.entries[i].item);
    mci_free(call);
  }
}

/* Communicators are entered and left once for calls in a row. */
static bool changes(uint32_t i) { return i == 0 || group.entries[i].comm != group.entries[i - 1].comm; }

static void leave_all(uint32_t n) {
  uint64_t now = n > 0 ? mci_ticks() : 0;
  for (uint32_t i = 0; i < n; i++) {
    if (!changes(i)) continue;
    atomic_store_explicit(&group.entries[i].comm->left_ticks, now, memory_order_relaxed);
    mci_comm_leave(group.entries[i].comm);
  }
}

/* An abort by another thread waits until the group has let go of the communicator. */
static meshcclResult_t enter_all(void) {
  for (uint32_t i = 0; i < group.nentries; i++) {
    group.entries[i].comm = group.entries[i].call->comm;
    if (!changes(i)) continue;
    meshcclResult_t result = mci_comm_enter(group.entries[i].comm, "meshcclGroupEnd");
    if (result == meshcclSuccess) continue;
    leave_all(i);
    return result;
  }
  return meshcclSuccess;
}

static meshcclResult_t fuse(void) {
  if (group.nentries < 2) return meshcclSuccess;
  mci_call** calls = mci_alloc(group.nentries * sizeof(mci_call*));
  if (!calls) return mci_oom(group.nentries * sizeof(mci_call*));
  for (uint32_t i = 0; i < group.nentries; i++) calls[i] = group.entries[i].call;
  meshcclResult_t result = mci_fuse(calls, group.nentries);
  mci_free(calls);
  return result;
}

/* One item per stream, with the group's calls on it in order. */
static meshcclResult_t make_items(void) {
  for (uint32_t i = 0; i < group.nentries; i++) {
    group_entry* entry = &group.entries[i];
    if (!entry->stream || entry->call->item) continue;
    entry->item = mci_item_create(MCI_ITEM_CALLS);
    if (!entry->item) return mci_oom(sizeof *entry->item);
    for (uint32_t k = i; k < group.nentries; k++)
      if (group.entries[k].stream == entry->stream) mci_item_add(entry->item, entry->stream, group.entries[k].call);
  }
  return meshcclSuccess;
}

/* What the engine gets for a call: itself, what it leads, or nothing. */
static mci_call* to_submit(mci_call* call) {
  if (!call->fused) return call;
  return mci_fused_leads(call) ? mci_fused_call(call->fused) : NULL;
}

/* Hands all calls to their engines in the order of the group, whatever their streams. Once all of it has started, a joined
 * operation may end and be gone. */
static void submit_all(void) {
  for (uint32_t i = 0; i < group.nentries; i++) {
    const group_entry* entry = &group.entries[i];
    mci_call* submitted = to_submit(entry->call);
    if (submitted) {
      mci_run* run = submitted->op.run;
      pthread_mutex_lock(&entry->comm->lock);
      mci_call_submit(submitted);
      mci_run_release(run);
      pthread_mutex_unlock(&entry->comm->lock);
    }
    if (!entry->stream) mci_call_start(entry->call);
  }
  for (uint32_t i = 0; i < group.nentries; i++)
    if (group.entries[i].item) mci_stream_enqueue(group.entries[i].stream, group.entries[i].item);
  mci_runtime_wake();
}

/* Drives every communicator of the process until the call is done. */
static void drive_until_done(const mci_call* call) {
  mci_waiter waiter;
  mci_wait_begin(&waiter);
  while (!atomic_load_explicit(&call->op.done, memory_order_acquire)) {
    if (mci_runtime_progress() > 0) {
      mci_wait_moved(&waiter, NULL);
    } else {
      mci_wait_idle(&waiter, NULL);
    }
  }
}

static bool one_communicator(void) {
  uint32_t i = 1;
  while (i < group.nentries && !changes(i)) i++;
  return i == group.nentries;
}

static void take_result(const group_entry* entry, meshcclResult_t* result) {
  meshcclResult_t one = mci_comm_told(entry->comm, entry->call->op.result);
  mci_call_give(entry->call);
  if (*result == meshcclSuccess) *result = one;
}

/* A communicator alone is waited for as by a single call, which is quicker. */
static meshcclResult_t wait_alone(meshcclComm_t comm) {
  meshcclResult_t result = meshcclSuccess;
  pthread_mutex_lock(&comm->lock);
  for (uint32_t i = 0; i < group.nentries; i++) {
    if (group.entries[i].stream) continue;
    mci_wait_call(comm, group.entries[i].call);
    take_result(&group.entries[i], &result);
  }
  pthread_mutex_unlock(&comm->lock);
  return result;
}

/* Waits for the calls without a stream. */
static meshcclResult_t wait_all(void) {
  if (one_communicator()) return wait_alone(group.entries[0].comm);
  meshcclResult_t result = meshcclSuccess;
  for (uint32_t i = 0; i < group.nentries; i++) {
    const group_entry* entry = &group.entries[i];
    if (entry->stream) continue;
    drive_until_done(entry->call);
    pthread_mutex_lock(&entry->comm->lock);
    take_result(entry, &result);
    pthread_mutex_unlock(&entry->comm->lock);
  }
  return result;
}

meshcclResult_t meshcclGroupEnd(void) {
  if (group.depth == 0) MCI_FAIL(meshcclInvalidUsage, "meshcclGroupEnd without meshcclGroupStart");
  if (--group.depth > 0) return meshcclSuccess;
  meshcclResult_t result = run_starts();
  group.result = meshcclSuccess;
  if (result == meshcclSuccess) result = make_items();
  if (result == meshcclSuccess) result = enter_all();
  if (result == meshcclSuccess) {
    result = fuse();
    if (result != meshcclSuccess) leave_all(group.nentries);
  }
  if (result == meshcclSuccess) {
    submit_all();
    result = wait_all();
    leave_all(group.nentries);
  } else {
    drop_calls();
  }
  group.nentries = 0;
  mci_free(group.entries);
  group.entries = NULL;
  group.cap_entries = 0;
  return result;
}
