/* Small all-reduces of a group run as one: the latency of many calls is paid once, for a copy of their vectors. What is
 * joined is decided from what all ranks know of a call alone, in the order of the calls: never from streams, memory,
 * scalars or time, which may differ between ranks. Called by group.c. */
#include <stdio.h>

#include "api/comm.h"
#include "kernels/kernels.h"

#define MOST_CALLS 256
#define SMALL_SHARE 16 /* a call holds at most this part of what is joined */
#define JOINED 1       /* in fingerprints, where a single call has its root */

struct mci_fused {
  mci_call call;          /* first: the engine hands it back */
  atomic_uint unready;    /* calls whose stream has not come to them */
  atomic_uint references; /* the operation, and calls that may still be started */
  uint32_t ncalls;
  mci_call* calls[MOST_CALLS];
  mci_part parts[];
};

mci_call* mci_fused_call(mci_fused* fused) { return &fused->call; }
bool mci_fused_leads(const mci_call* call) { return call->fused->calls[0] == call; }

static void release(mci_fused* fused) {
  if (atomic_fetch_sub(&fused->references, 1) == 1) mci_free(fused);
}

void mci_fused_start(mci_fused* fused) {
  if (atomic_fetch_sub(&fused->unready, 1) == 1)
    atomic_store_explicit(&fused->call.op.ready, true, memory_order_release);
  release(fused);
}

void mci_fused_drop(mci_fused* fused) {
  for (uint32_t i = 0; i < fused->ncalls; i++) fused->calls[i]->fused = NULL;
  mci_run_release(fused->call.op.run);
  mci_free(fused);
}

/* Every call may be gone once it was told. */
static void finished(mci_op* op) {
  mci_fused* fused = (mci_fused*)op;
  for (uint32_t i = 0; i < fused->ncalls; i++) {
    mci_call* call = fused->calls[i];
    bool streamed = call->stream != NULL;
    call->op.result = op->result;
    atomic_store_explicit(&call->op.done, 1, memory_order_release);
    if (streamed) mci_stream_call_finished(call);
  }
  release(fused);
}

static void describe(const mci_op* op, char* out, size_t size) {
  snprintf(out, size, "%u all_reduces of a group joined to %llu %s %s (%s)", op->nparts, (unsigned long long)op->count,
           mci_type_name(op->type), op->scaled ? "premulsum" : mci_op_name(op->op),
           mci_run_program(op->run)->algorithm);
}

/* ---- which calls are joined ---- */

static uint64_t bytes_of(const mci_call* call) { return call->op.count * call->op.type_size; }

static bool small(const mci_call* call, uint64_t most) {
  return call->coll == MCI_ALL_REDUCE && bytes_of(call) <= most / SMALL_SHARE;
}

static bool alike(const mci_op* a, const mci_op* b) {
  return a->type == b->type && a->op == b->op && a->scaled == b->scaled;
}

/* The calls from the first on that are joined to it: the collectives that follow it on its communicator, up to one that
 * is not small, not alike or too much. */
static uint32_t collect(mci_call* const* calls, uint32_t n, uint64_t most, mci_call** joined) {
  uint64_t bytes = bytes_of(calls[0]);
  uint32_t njoined = 1;
  joined[0] = calls[0];
  for (uint32_t i = 1; i < n && njoined < MOST_CALLS; i++) {
    mci_call* call = calls[i];
    if (call->comm != calls[0]->comm || call->op.point_to_point) continue;
    if (!small(call, most) || !alike(&call->op, &calls[0]->op) || bytes + bytes_of(call) > most) break;
    bytes += bytes_of(call);
    joined[njoined++] = call;
  }
  return njoined;
}

/* ---- calls that need each other ---- */

typedef struct {
  uintptr_t first, end; /* of what was written so far */
} hull;

static bool overlap(const void* a, const void* b, uint64_t a_bytes, uint64_t b_bytes) {
  return (uintptr_t)a < (uintptr_t)b + b_bytes && (uintptr_t)b < (uintptr_t)a + a_bytes;
}

/* Each call is compared with those before it only when its input lies among what they write: mostly it does not. */
static meshcclResult_t check_apart(mci_call* const* calls, uint32_t n) {
  hull written = {UINTPTR_MAX, 0};
  for (uint32_t i = 0; i < n; i++) {
    const mci_op* op = &calls[i]->op;
    uint64_t bytes = bytes_of(calls[i]);
    if (bytes == 0) continue;
    bool among = (uintptr_t)op->in < written.end && written.first < (uintptr_t)op->in + bytes;
    for (uint32_t k = 0; k < i && among; k++)
      if (overlap(op->in, calls[k]->op.out, bytes, bytes_of(calls[k])))
        MCI_FAIL(
            meshcclInvalidUsage,
            "meshcclGroupEnd: of the small all-reduces that run as one, number %u reads what number %u writes; put "
            "calls that need each other into different groups (or MESHCCL_FUSE=0 on all ranks)",
            i + 1, k + 1);
    written.first = MCI_MIN(written.first, (uintptr_t)op->out);
    written.end = MCI_MAX(written.end, (uintptr_t)op->out + bytes);
  }
  return meshcclSuccess;
}

/* ---- joining ---- */

static uint32_t fingerprint(const mci_fused* fused, uint64_t algorithm) {
  const mci_op* op = &fused->call.op;
  uint64_t fields[MOST_CALLS + 3];
  fields[0] = (uint64_t)MCI_ALL_REDUCE << 32 | (uint64_t)op->type << 16 | (op->scaled ? MCI_PRE_MUL_SUM : op->op);
  fields[1] = (uint64_t)JOINED << 32 | fused->ncalls;
  fields[2] = algorithm;
  for (uint32_t i = 0; i < fused->ncalls; i++) fields[3 + i] = fused->parts[i].count;
  return (uint32_t)mci_hash64(fields, (3 + fused->ncalls) * sizeof *fields);
}

static void fill(mci_fused* fused, mci_call* const* calls, uint32_t n) {
  mci_op* op = &fused->call.op;
  fused->ncalls = n;
  atomic_store(&fused->unready, n);
  atomic_store(&fused->references, n + 1);
  fused->call.comm = calls[0]->comm;
  fused->call.coll = MCI_ALL_REDUCE;
  *op = (mci_op){.type = calls[0]->op.type,
                 .type_size = calls[0]->op.type_size,
                 .op = calls[0]->op.op,
                 .scaled = calls[0]->op.scaled,
                 .parts = fused->parts,
                 .nparts = n,
                 .describe = describe,
                 .finished = finished};
  for (uint32_t i = 0; i < n; i++) {
    const mci_op* one = &calls[i]->op;
    fused->calls[i] = calls[i];
    fused->parts[i] = (mci_part){.in = one->in, .out = one->out, .count = one->count, .scale = one->scale};
    op->count += one->count;
  }
}

/* Plans the joined operation, which then holds its plan in place of the calls. */
static meshcclResult_t plan(mci_fused* fused) {
  meshcclComm_t comm = fused->call.comm;
  mci_op* op = &fused->call.op;
  mci_plan* chosen;
  pthread_mutex_lock(&comm->lock);
  meshcclResult_t result = mci_plan_get(comm, MCI_ALL_REDUCE, op, 0, &chosen);
  if (result == meshcclSuccess) {
    op->run = chosen->run;
    op->fingerprint = fingerprint(fused, chosen->algorithm);
    mci_run_hold(op->run);
    for (uint32_t i = 0; i < fused->ncalls; i++) {
      mci_run_release(fused->calls[i]->op.run);
      fused->calls[i]->op.run = NULL;
      fused->calls[i]->fused = fused;
    }
  }
  pthread_mutex_unlock(&comm->lock);
  return result;
}

static meshcclResult_t join(mci_call* const* calls, uint32_t n) {
  MCI_TRY(check_apart(calls, n));
  size_t bytes = sizeof(mci_fused) + n * sizeof(mci_part);
  mci_fused* fused = mci_alloc(bytes);
  if (!fused) return mci_oom(bytes);
  fill(fused, calls, n);
  meshcclResult_t result = plan(fused);
  if (result != meshcclSuccess) mci_free(fused);
  return result;
}

meshcclResult_t mci_fuse(mci_call* const* calls, uint32_t n) {
  uint64_t most = (uint64_t)mci_param_int(MCI_P_FUSE);
  for (uint32_t i = 0; i + 1 < n && most > 0; i++) {
    mci_call* joined[MOST_CALLS];
    if (calls[i]->fused || !small(calls[i], most)) continue;
    uint32_t njoined = collect(calls + i, n - i, most, joined);
    if (njoined > 1) MCI_TRY(join(joined, njoined));
  }
  return meshcclSuccess;
}
