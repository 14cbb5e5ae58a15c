/* Host streams and events: queues of items that go by in order. An operation is in its engine's queue from the call on;
 * the stream only tells when it may start. Locks: a stream's lock is innermost; nothing is called under it. Host
 * functions run with no lock of the runtime held: they may take long and wait for other threads. */
#include <sched.h>
#include <stdio.h>

#include "api/comm.h"
#include "base/globals.h"

#define STREAM_MAGIC 0x6d65736873747231ull
#define EVENT_MAGIC 0x6d65736865766e74ull

mci_item* mci_item_create(mci_item_kind kind) {
  mci_item* item = mci_alloc(sizeof *item);
  if (item) item->kind = kind;
  return item;
}

void mci_item_add(mci_item* item, meshcclStream_t stream, mci_call* call) {
  call->stream = stream;
  call->item = item;
  call->next = NULL;
  if (item->last) {
    item->last->next = call;
  } else {
    item->calls = call;
  }
  item->last = call;
  atomic_fetch_add(&item->remaining, 1);
  atomic_fetch_add(&call->comm->async_pending, 1);
}

static void event_release(meshcclEvent_t event) {
  if (atomic_fetch_sub(&event->references, 1) == 1) mci_free(event);
}

static void item_free(mci_item* item) {
  for (mci_call *call = item->calls, *next; call; call = next) {
    next = call->next;
    mci_free(call);
  }
  if (item->event) event_release(item->event);
  mci_free(item);
}

/* ---- the queue --------------------------------------------------------------------------------------------------- */

static void start_calls(mci_item* item) {
  for (mci_call* call = item->calls; call; call = call->next) mci_call_start(call);
}

/* Whether the item at the head has gone by. The stream is locked. */
static bool head_done(meshcclStream_t stream) {
  mci_item* item = stream->head;
  switch (item->kind) {
    case MCI_ITEM_CALLS:
      if (!item->started) start_calls(item);
      item->started = true;
      return atomic_load_explicit(&item->remaining, memory_order_acquire) == 0;
    case MCI_ITEM_RECORD:
      if (atomic_load(&item->event->reached) < item->ticket) atomic_store(&item->event->reached, item->ticket);
      return true;
    case MCI_ITEM_WAIT:
      return atomic_load(&item->event->reached) >= item->ticket;
    case MCI_ITEM_HOST:
      return false; /* whoever claims it takes it out */
  }
  return true;
}

static void drop_head(meshcclStream_t stream) {
  mci_item* item = stream->head;
  stream->head = item->next;
  if (!stream->head) stream->tail = NULL;
  item_free(item);
}

int mci_stream_advance(meshcclStream_t stream) {
  int gone = 0;
  pthread_mutex_lock(&stream->lock);
  while (!stream->advancing && stream->head && head_done(stream)) {
    drop_head(stream);
    gone++;
  }
  pthread_mutex_unlock(&stream->lock);
  return gone;
}

bool mci_stream_claim(meshcclStream_t stream) {
  pthread_mutex_lock(&stream->lock);
  bool claimed = stream->head && stream->head->kind == MCI_ITEM_HOST && !stream->advancing;
  if (claimed) {
    stream->advancing = true;
    atomic_fetch_add(&stream->users, 1);
  }
  pthread_mutex_unlock(&stream->lock);
  return claimed;
}

void mci_stream_run_claimed(meshcclStream_t stream) {
  stream->head->function(stream->head->argument); /* the head is the claimant's */
  pthread_mutex_lock(&stream->lock);
  drop_head(stream);
  stream->advancing = false;
  pthread_mutex_unlock(&stream->lock);
  mci_stream_advance(stream);
  atomic_fetch_sub(&stream->users, 1);
}

bool mci_stream_needs_driver(meshcclStream_t stream) {
  pthread_mutex_lock(&stream->lock);
  bool needs = stream->head && stream->head->kind != MCI_ITEM_CALLS && !stream->advancing;
  pthread_mutex_unlock(&stream->lock);
  return needs;
}

void mci_stream_enqueue(meshcclStream_t stream, mci_item* item) {
  pthread_mutex_lock(&stream->lock);
  if (stream->tail) {
    stream->tail->next = item;
  } else {
    stream->head = item;
  }
  stream->tail = item;
  pthread_mutex_unlock(&stream->lock);
  mci_stream_advance(stream);
}

bool mci_stream_idle(meshcclStream_t stream) {
  pthread_mutex_lock(&stream->lock);
  bool idle = stream->head == NULL;
  pthread_mutex_unlock(&stream->lock);
  return idle;
}

void mci_stream_call_finished(mci_call* call) {
  meshcclStream_t stream = call->stream;
  mci_item* item = call->item;
  meshcclComm_t comm = call->comm;
  atomic_fetch_add(&stream->users, 1);
  if (call->op.result != meshcclSuccess) {
    pthread_mutex_lock(&stream->lock);
    if (stream->error == meshcclSuccess) {
      stream->error = call->op.result;
      const char* text;
      mci_engine_error(comm->engine, &text);
      snprintf(stream->error_text, sizeof stream->error_text, "%s", text);
    }
    pthread_mutex_unlock(&stream->lock);
  }
  atomic_fetch_sub_explicit(&item->remaining, 1, memory_order_acq_rel); /* call and item may be gone from here on */
  mci_stream_advance(stream);
  atomic_fetch_sub(&comm->async_pending, 1); /* last: while it counts, the progress thread looks at the stream */
  atomic_fetch_sub(&stream->users, 1);
}

meshcclResult_t mci_stream_check(meshcclStream_t stream, const char* function) {
  if (!stream) return meshcclSuccess;
  if (stream->magic != STREAM_MAGIC)
    MCI_FAIL(meshcclInvalidArgument, "%s: the stream was not made by meshcclStreamCreate, or was destroyed", function);
  if (stream->fork_generation != mci_fork_generation())
    MCI_FAIL(meshcclInvalidUsage, "%s: the stream was made before fork(); a child makes its own", function);
  return meshcclSuccess;
}

static meshcclResult_t need_stream(meshcclStream_t stream, const char* function) {
  if (!stream) MCI_FAIL(meshcclInvalidArgument, "%s: stream is NULL", function);
  return mci_stream_check(stream, function);
}

static meshcclResult_t need_event(meshcclEvent_t event, const char* function) {
  if (event && event->magic == EVENT_MAGIC) return meshcclSuccess;
  MCI_FAIL(meshcclInvalidArgument, "%s: the event is NULL or was destroyed", function);
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

meshcclResult_t meshcclStreamCreate(meshcclStream_t* stream) {
  if (!stream) MCI_FAIL(meshcclInvalidArgument, "meshcclStreamCreate: stream is NULL");
  meshcclStream_t made = mci_alloc(sizeof *made);
  if (!made) return mci_oom(sizeof *made);
  mci_fork_watch();
  made->magic = STREAM_MAGIC;
  made->fork_generation = mci_fork_generation();
  pthread_mutex_init(&made->lock, NULL);
  mci_runtime_add_stream(made);
  *stream = made;
  return meshcclSuccess;
}

static void wait_idle(meshcclStream_t stream) {
  mci_waiter waiter;
  mci_wait_begin(&waiter);
  while (!mci_stream_idle(stream)) {
    if (mci_runtime_progress() > 0) {
      mci_wait_moved(&waiter, NULL);
    } else {
      mci_wait_idle(&waiter, NULL);
    }
  }
}

static meshcclResult_t stream_result(meshcclStream_t stream) {
  pthread_mutex_lock(&stream->lock);
  meshcclResult_t result = stream->error;
  if (result != meshcclSuccess) mci_error_set(stream->error_text);
  pthread_mutex_unlock(&stream->lock);
  return result;
}

meshcclResult_t meshcclStreamDestroy(meshcclStream_t stream) {
  if (!stream) return meshcclSuccess;
  MCI_TRY(mci_stream_check(stream, "meshcclStreamDestroy"));
  wait_idle(stream);
  mci_runtime_remove_stream(stream);
  while (atomic_load(&stream->users) > 0) sched_yield();
  pthread_mutex_destroy(&stream->lock);
  stream->magic = 0;
  mci_free(stream);
  return meshcclSuccess;
}

meshcclResult_t meshcclStreamQuery(meshcclStream_t stream) {
  MCI_TRY(need_stream(stream, "meshcclStreamQuery"));
  mci_runtime_progress();
  return mci_stream_idle(stream) ? stream_result(stream) : meshcclInProgress;
}

meshcclResult_t meshcclStreamSynchronize(meshcclStream_t stream) {
  MCI_TRY(need_stream(stream, "meshcclStreamSynchronize"));
  wait_idle(stream);
  return stream_result(stream);
}

static meshcclResult_t enqueue_event(meshcclStream_t stream, mci_item_kind kind, meshcclEvent_t event,
                                     uint64_t ticket) {
  mci_item* item = mci_item_create(kind);
  if (!item) return mci_oom(sizeof *item);
  item->event = event;
  item->ticket = ticket;
  atomic_fetch_add(&event->references, 1);
  mci_stream_enqueue(stream, item);
  if (mci_stream_needs_driver(stream)) mci_runtime_wake(); /* else whoever carries the work before it comes by */
  return meshcclSuccess;
}

meshcclResult_t meshcclStreamWaitEvent(meshcclStream_t stream, meshcclEvent_t event) {
  MCI_TRY(need_stream(stream, "meshcclStreamWaitEvent"));
  MCI_TRY(need_event(event, "meshcclStreamWaitEvent"));
  return enqueue_event(stream, MCI_ITEM_WAIT, event, atomic_load(&event->recorded));
}

meshcclResult_t meshcclLaunchHostFunc(meshcclStream_t stream, void (*fn)(void*), void* arg) {
  MCI_TRY(need_stream(stream, "meshcclLaunchHostFunc"));
  if (!fn) MCI_FAIL(meshcclInvalidArgument, "meshcclLaunchHostFunc: fn is NULL");
  mci_item* item = mci_item_create(MCI_ITEM_HOST);
  if (!item) return mci_oom(sizeof *item);
  item->function = fn;
  item->argument = arg;
  mci_stream_enqueue(stream, item);
  mci_runtime_wake();
  return meshcclSuccess;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

meshcclResult_t meshcclEventCreate(meshcclEvent_t* event) {
  if (!event) MCI_FAIL(meshcclInvalidArgument, "meshcclEventCreate: event is NULL");
  meshcclEvent_t made = mci_alloc(sizeof *made);
  if (!made) return mci_oom(sizeof *made);
  made->magic = EVENT_MAGIC;
  atomic_store(&made->references, 1);
  *event = made;
  return meshcclSuccess;
}

meshcclResult_t meshcclEventDestroy(meshcclEvent_t event) {
  if (!event) return meshcclSuccess;
  MCI_TRY(need_event(event, "meshcclEventDestroy"));
  event->magic = 0; /* items that still hold it do not ask */
  event_release(event);
  return meshcclSuccess;
}

meshcclResult_t meshcclEventRecord(meshcclEvent_t event, meshcclStream_t stream) {
  MCI_TRY(need_event(event, "meshcclEventRecord"));
  MCI_TRY(mci_stream_check(stream, "meshcclEventRecord"));
  uint64_t ticket = atomic_fetch_add(&event->recorded, 1) + 1;
  if (stream) return enqueue_event(stream, MCI_ITEM_RECORD, event, ticket);
  atomic_store(&event->reached, ticket);
  return meshcclSuccess;
}

static bool reached(meshcclEvent_t event) { return atomic_load(&event->reached) >= atomic_load(&event->recorded); }

meshcclResult_t meshcclEventQuery(meshcclEvent_t event) {
  MCI_TRY(need_event(event, "meshcclEventQuery"));
  mci_runtime_progress();
  return reached(event) ? meshcclSuccess : meshcclInProgress;
}

meshcclResult_t meshcclEventSynchronize(meshcclEvent_t event) {
  MCI_TRY(need_event(event, "meshcclEventSynchronize"));
  mci_waiter waiter;
  mci_wait_begin(&waiter);
  while (!reached(event)) {
    if (mci_runtime_progress() > 0) {
      mci_wait_moved(&waiter, NULL);
    } else {
      mci_wait_idle(&waiter, NULL);
    }
  }
  return meshcclSuccess;
}
