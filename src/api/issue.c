/* From a checked request to an operation of the engine: the plan, the fingerprint, and who waits. */
#include <stdio.h>
#include <string.h>

#include "api/comm.h"
#include "kernels/kernels.h"

static void describe(const mci_op* op, char* out, size_t size) {
  const mci_call* call = (const mci_call*)op;
  if (call->coll == MCI_SEND_RECV) {
    snprintf(out, size, "%s of %llu %s %s rank %u", call->is_send ? "send" : "receive", (unsigned long long)op->count,
             mci_type_name(op->type), call->is_send ? "to" : "from", call->root);
    return;
  }
  int n = snprintf(out, size, "%s of %llu %s", mci_coll_name(call->coll), (unsigned long long)op->count,
                   mci_type_name(op->type));
  if (mci_coll_reduces(call->coll))
    n += snprintf(out + n, size - (size_t)n, " %s", op->scaled ? "premulsum" : mci_op_name(op->op));
  if (mci_coll_rooted(call->coll)) n += snprintf(out + n, size - (size_t)n, " root %u", call->root);
  snprintf(out + n, size - (size_t)n, " (%s)", mci_run_program(op->run)->algorithm);
}

static void finished(mci_op* op) {
  mci_call* call = (mci_call*)op;
  if (call->stream) mci_stream_call_finished(call);
}

static mci_call* call_take(meshcclComm_t comm) {
  mci_call* call = comm->free_calls;
  if (!call) return mci_alloc(sizeof *call);
  comm->free_calls = call->next;
  return call;
}

void mci_call_give(mci_call* call) {
  call->next = call->comm->free_calls;
  call->comm->free_calls = call;
}

/* ---- calls that repeat themselves -------------------------------------------------------------------------------- */

void mci_call_forget(meshcclComm_t comm, const mci_run* run) {
  for (int coll = 0; coll < MCI_NUM_COLLS; coll++) {
    mci_call* call = comm->kept[coll];
    if (!call || call->op.run != run) continue;
    comm->kept[coll] = NULL;
    mci_call_give(call);
  }
}

static bool keeps(const mci_call* call) {
  return call->op.result == meshcclSuccess && !call->op.scaled && call->coll != MCI_SEND_RECV;
}

static void keep(meshcclComm_t comm, mci_call* call) {
  mci_call** place = &comm->kept[call->coll];
  if (*place) mci_call_give(*place);
  *place = call;
}

/* Two buffers of which none is missing and that do not overlap, or all-reduce and its like in place: what is certainly
 * right. The rest is for mci_call_check. */
static bool buffers_fit(const mci_call* call, const void* in, const void* out) {
  uintptr_t from = (uintptr_t)in, to = (uintptr_t)out;
  if ((call->in_bytes && !in) || (call->out_bytes && !out)) return false;
  bool same = from == to && !mci_coll_block_major(call->coll);
  return same || from + call->in_bytes <= to || to + call->out_bytes <= from;
}

/* The last call of this kind, if this one differs from it in the buffers only: what was checked, chosen and worked out
 * for that one holds. NULL: there is none. */
static mci_call* repeat(meshcclComm_t comm, const mci_request_call* request) {
  mci_call* call = comm->kept[request->coll];
  if (!call || call->op.count != request->count || call->op.type != request->type || call->op.op != request->op ||
      call->root != request->root || !buffers_fit(call, request->in, request->out))
    return NULL;
  comm->kept[request->coll] = NULL;
  call->op.in = request->in;
  call->op.out = request->out;
  atomic_store_explicit(&call->op.done, 0, memory_order_relaxed);
  mci_plan_used_again(comm, call->op.run);
  return call;
}

/* Calls repeat themselves: the plan remembers the last one's. */
static uint32_t fingerprint(const mci_call* call, mci_plan* plan) {
  const mci_op* op = &call->op;
  bool reduces = mci_coll_reduces(call->coll), rooted = mci_coll_rooted(call->coll);
  uint64_t reduction = !reduces ? 0 : op->scaled ? MCI_PRE_MUL_SUM : op->op;
  uint64_t fields[4] = {(uint64_t)call->coll << 32 | (uint64_t)op->type << 16 | reduction, rooted ? call->root : 0,
                        op->count, op->point_to_point ? 0 : plan->algorithm};
  if (memcmp(fields, plan->described, sizeof plan->described) == 0 && plan->fingerprint) return plan->fingerprint;
  memcpy(plan->described, fields, sizeof plan->described);
  plan->fingerprint = (uint32_t)mci_hash64(fields, sizeof fields);
  return plan->fingerprint;
}

static meshcclResult_t apply_operator(meshcclComm_t comm, const mci_request_call* request, mci_op* op) {
  op->op = request->op;
  op->scaled = false;
  if (request->op < meshcclNumOps) return meshcclSuccess;
  uint32_t index = (uint32_t)request->op - meshcclNumOps;
  const mci_user_op* user = index < comm->nuser_ops ? &comm->user_ops[index] : NULL;
  if (!user || !user->live)
    MCI_FAIL(meshcclInvalidArgument, "%s: operator %d is neither built in nor one that this communicator made",
             request->function, request->op);
  if (user->type != request->type)
    MCI_FAIL(meshcclInvalidArgument, "%s: the operator was made for %s, the call is for %s", request->function,
             mci_type_name(user->type), mci_type_name(request->type));
  op->op = meshcclSum;
  op->scaled = true;
  op->scale = user->scalar;
  return meshcclSuccess;
}

static meshcclResult_t fill(meshcclComm_t comm, const mci_request_call* request, mci_call* call) {
  mci_op* op = &call->op;
  uint64_t in, out;
  bool point_to_point = request->coll == MCI_SEND_RECV;
  mci_plan* plan = NULL;
  memset(call, 0, sizeof *call);
  call->comm = comm;
  call->coll = request->coll;
  call->root = request->root;
  call->is_send = request->is_send;
  op->in = request->in;
  op->out = request->out;
  op->count = request->count;
  op->type = request->type;
  op->type_size = (uint32_t)mci_type_size(request->type);
  MCI_TRY(apply_operator(comm, request, op));
  if (point_to_point) {
    MCI_TRY(mci_plan_point_to_point(comm, request->is_send, request->root, &plan));
  } else {
    uint32_t root = mci_coll_rooted(request->coll) ? request->root : 0;
    MCI_TRY(mci_plan_get(comm, request->coll, op, root, &plan));
  }
  op->run = plan->run;
  mci_call_extents(request, comm->rank, comm->nranks, &in, &out);
  call->in_bytes = in * op->type_size;
  call->out_bytes = out * op->type_size;
  op->point_to_point = point_to_point;
  op->fingerprint = fingerprint(call, plan);
  op->describe = describe;
  op->finished = finished;
  return meshcclSuccess;
}

void mci_call_start(mci_call* call) {
  if (call->fused) {
    mci_fused_start(call->fused);
  } else {
    atomic_store_explicit(&call->op.ready, true, memory_order_release);
  }
}

void mci_call_submit(mci_call* call) { mci_engine_submit(call->comm->engine, &call->op); }

static meshcclResult_t run_now(meshcclComm_t comm, mci_call* call) {
  atomic_store_explicit(&call->op.ready, true, memory_order_relaxed);
  mci_call_submit(call);
  mci_wait_call(comm, call);
  meshcclResult_t result = mci_comm_told(comm, call->op.result);
  if (keeps(call)) {
    keep(comm, call);
  } else {
    mci_call_give(call);
  }
  return result;
}

/* again: it may be the last one of its kind, which is waited for. */
static meshcclResult_t make_call(meshcclComm_t comm, const mci_request_call* request, bool again, mci_call** out) {
  if (MCI_UNLIKELY(atomic_load_explicit(&comm->state, memory_order_relaxed) == MCI_COMM_FINALIZED))
    MCI_FAIL(meshcclInvalidUsage, "%s: the communicator was finalized", request->function);
  if (MCI_UNLIKELY(comm->async_error != meshcclSuccess)) {
    mci_error_set(comm->async_text);
    return comm->async_error;
  }
  if ((*out = again ? repeat(comm, request) : NULL)) return meshcclSuccess;
  MCI_TRY(mci_call_check(comm, request));
  mci_call* call = call_take(comm);
  if (!call) return mci_oom(sizeof *call);
  meshcclResult_t result = fill(comm, request, call);
  if (result == meshcclSuccess) {
    *out = call;
  } else {
    call->comm = comm;
    mci_call_give(call);
  }
  return result;
}

/* Submitted under the communicator's lock, so that the order of issue is the order of the engine. */
static meshcclResult_t put_on_stream(mci_call* call, meshcclStream_t stream, mci_item** item_out) {
  mci_item* item = mci_item_create(MCI_ITEM_CALLS);
  if (!item) {
    mci_call_give(call);
    return mci_oom(sizeof *item);
  }
  mci_item_add(item, stream, call);
  mci_call_submit(call);
  *item_out = item;
  return meshcclSuccess;
}

/* comm is locked: nobody else counts. */
static void count_ticks(meshcclComm_t comm, uint64_t began) {
  uint64_t ended = mci_ticks(), sum = atomic_load_explicit(&comm->caller_ticks, memory_order_relaxed);
  atomic_store_explicit(&comm->caller_ticks, sum + (ended - began), memory_order_relaxed);
  atomic_store_explicit(&comm->left_ticks, ended, memory_order_relaxed);
}

meshcclResult_t mci_issue(meshcclComm_t comm, const mci_request_call* request, meshcclStream_t stream) {
  mci_engine_fetch_ahead(comm->engine);
  MCI_TRY(mci_stream_check(stream, request->function));
  uint64_t began = mci_ticks();
  pthread_mutex_lock(&comm->lock);
  mci_call* call = NULL;
  mci_item* item = NULL;
  bool group = mci_group_open();
  meshcclResult_t result = make_call(comm, request, !stream && !group, &call);
  if (result == meshcclSuccess && group) {
    result = mci_group_add(call, stream);
    if (result != meshcclSuccess) mci_call_give(call);
  } else if (result == meshcclSuccess) {
    result = stream ? put_on_stream(call, stream, &item) : run_now(comm, call);
  }
  count_ticks(comm, began);
  pthread_mutex_unlock(&comm->lock);
  if (!item) return result;
  began = mci_ticks();
  mci_stream_enqueue(stream, item);
  mci_runtime_wake();
  pthread_mutex_lock(&comm->lock);
  count_ticks(comm, began);
  pthread_mutex_unlock(&comm->lock);
  return result;
}
