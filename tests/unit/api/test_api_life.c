/* Ranks that leave early or late, that never call, that abort at any moment: no data is lost, nobody hangs or crashes.
 */
#include <pthread.h>
#include <unistd.h>

#include "api/comm.h"
#include "oracle.h"
#include "setting.h"

static meshcclResult_t open_limited(rank_env* env, double op_timeout, meshcclComm_t* comm) {
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.opTimeout = op_timeout;
  config.initTimeout = 30;
  return meshcclCommInitRankConfig(comm, env->nranks, env->id, env->rank, &config);
}

/* ---- leaving ---- */

/* Rank 0 sends and leaves at once; rank 1 receives much later. */
static int send_and_leave(rank_env* env) {
  size_t count = *(size_t*)env->arg;
  meshcclComm_t comm;
  int32_t* x = malloc(count * 4);
  need(open_limited(env, 20, &comm));
  for (size_t i = 0; i < count; i++) x[i] = env->rank == 0 ? (int32_t)i * 3 : -1;
  if (env->rank == 0) need(meshcclSend(x, count, meshcclInt32, 1, comm, NULL));
  if (env->rank == 1) usleep(150000);
  if (env->rank == 1) need(meshcclRecv(x, count, meshcclInt32, 0, comm, NULL));
  need(meshcclCommDestroy(comm));
  for (size_t i = 0; i < count && env->rank == 1; i++) expect(x[i] == (int32_t)i * 3, "element %zu is %d", i, x[i]);
  free(x);
  return 0;
}

static void what_was_sent_arrives_after_the_sender_left(void** state) {
  (void)state;
  for (run_mode mode = AS_PROCESSES; mode <= AS_THREADS; mode++)
    for (size_t count = 1; count <= 100000; count *= 10)
      if (run_ranks(mode, 2, send_and_leave, &count)) fail_msg("%zu elements as %s", count, run_mode_name(mode));
}

/* In each round other ranks leave first, and half of them leave the parent before the child. */
static int leave_in_turn(rank_env* env) {
  int round = *(int*)env->arg;
  oracle_call c = {.type = meshcclInt32, .count = 5003, .coll = ALL_REDUCE};
  meshcclComm_t comm, child;
  need(open_limited(env, 30, &comm));
  if (oracle_run(env, comm, &c)) return 1;
  need(meshcclCommSplit(comm, 0, env->rank, &child, NULL));
  usleep((unsigned)((env->rank + round) % env->nranks) * 3000u);
  if ((env->rank + round) % 2) {
    need(meshcclCommDestroy(comm));
    if (oracle_run(env, child, &c)) return 1;
    need(meshcclCommDestroy(child));
  } else {
    if (oracle_run(env, child, &c)) return 1;
    need(meshcclCommDestroy(child));
    need(meshcclCommDestroy(comm));
  }
  return 0;
}

static void ranks_leave_in_any_order(void** state) {
  (void)state;
  for (int round = 0; round < 4; round++)
    for (run_mode mode = AS_PROCESSES; mode <= AS_MIXED; mode++)
      if (run_ranks(mode, 4, leave_in_turn, &round)) fail_msg("round %d as %s", round, run_mode_name(mode));
}

/* The last rank makes one call less than the others and leaves. */
static int one_call_less(rank_env* env) {
  size_t count = *(size_t*)env->arg;
  meshcclComm_t comm;
  float* x = calloc(count, sizeof *x);
  need(open_limited(env, 3, &comm));
  need(meshcclAllReduce(x, x, count, meshcclFloat32, meshcclSum, comm, NULL));
  bool leaves = env->rank == env->nranks - 1;
  meshcclResult_t result = meshcclSuccess;
  double began = now_seconds();
  if (!leaves) result = meshcclAllReduce(x, x, count, meshcclFloat32, meshcclSum, comm, NULL);
  char text[1024];
  snprintf(text, sizeof text, "%s", meshcclGetLastError(comm));
  meshcclCommDestroy(comm);
  free(x);
  if (leaves) return 0;
  char name[32];
  snprintf(name, sizeof name, "rank %d", env->nranks - 1);
  expect(result == meshcclRemoteError || result == meshcclTimeout || result == meshcclInvalidUsage, "%s: %s",
         meshcclGetErrorString(result), text);
  expect(strstr(text, name), "\"%s\" does not name %s", text, name);
  expect(now_seconds() - began < 8, "after %.1f s", now_seconds() - began);
  return 0;
}

static void a_rank_that_leaves_too_early_is_named(void** state) {
  (void)state;
  for (size_t count = 1; count < 200000; count = count * 400 + 1) {
    if (run_ranks(AS_PROCESSES, 3, one_call_less, &count)) fail_msg("%zu, processes", count);
    if (run_ranks(AS_THREADS, 2, one_call_less, &count)) fail_msg("%zu, threads", count);
  }
}

/* ---- limits ---- */

static int silent_rank(rank_env* env) {
  bool stream_used = *(bool*)env->arg;
  meshcclComm_t comm;
  meshcclStream_t stream = NULL;
  static float x[1000];
  need(open_limited(env, 1, &comm));
  need(meshcclBarrier(comm, NULL));
  if (stream_used) need(meshcclStreamCreate(&stream));
  if (env->rank == 1) {
    double until = now_seconds() + 20;
    meshcclResult_t heard = meshcclSuccess;
    while (heard == meshcclSuccess && now_seconds() < until) {
      usleep(10000);
      need(meshcclCommGetAsyncError(comm, &heard));
    }
    expect(heard == meshcclTimeout, "the silent rank heard %s", meshcclGetErrorString(heard));
    need(meshcclStreamDestroy(stream));
    meshcclCommDestroy(comm);
    return 0;
  }
  double began = now_seconds();
  meshcclResult_t result = meshcclAllReduce(x, x, 1000, meshcclFloat32, meshcclSum, comm, stream);
  if (stream && result == meshcclSuccess) result = meshcclStreamSynchronize(stream);
  const char* text = meshcclGetLastError(comm);
  expect(result == meshcclTimeout, "%s: %s", meshcclGetErrorString(result), text);
  const char* parts[] = {"MESHCCL_OP_TIMEOUT", "operation 2", "all_reduce of 1000 float", "channel ",
                         "waits for rank 1"};
  for (size_t i = 0; i < MCI_COUNT(parts); i++) expect(strstr(text, parts[i]), "\"%s\" lacks \"%s\"", text, parts[i]);
  double took = now_seconds() - began;
  expect(took > 0.9 && took < 10, "after %.1f s", took);
  need(meshcclStreamDestroy(stream));
  expect(meshcclCommDestroy(comm) == meshcclTimeout, "destroy forgot the error");
  return 0;
}

static void a_rank_that_does_not_call_is_named_after_the_limit(void** state) {
  (void)state;
  for (int stream = 0; stream < 2; stream++) {
    bool used = stream;
    if (run_ranks(AS_PROCESSES, 2, silent_rank, &used)) fail_msg("processes, stream %d", stream);
    if (run_ranks(AS_THREADS, 2, silent_rank, &used)) fail_msg("threads, stream %d", stream);
  }
}

static int missing_rank(rank_env* env) {
  if (env->rank == 2) return 0;
  meshcclComm_t comm;
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.initTimeout = 1;
  meshcclResult_t result = meshcclCommInitRankConfig(&comm, env->nranks, env->id, env->rank, &config);
  expect(result == meshcclTimeout && strstr(meshcclGetLastError(NULL), "2"), "%s: %s", meshcclGetErrorString(result),
         meshcclGetLastError(NULL));
  return 0;
}

static void init_names_the_missing_rank(void** state) {
  (void)state;
  if (run_ranks(AS_PROCESSES, 3, missing_rank, NULL)) fail_msg("processes");
  if (run_ranks(AS_THREADS, 3, missing_rank, NULL)) fail_msg("threads");
}

/* ---- abort ---- */

typedef struct {
  meshcclComm_t comm;
  unsigned delay_us;
  atomic_bool last_call, over; /* the next call of the victim is its last; it has returned */
} abort_order;

static void* abort_after(void* arg) {
  abort_order* order = arg;
  while (!atomic_load(&order->last_call) || !(atomic_load(&order->comm->callers) || atomic_load(&order->over)))
    usleep(10);
  usleep(order->delay_us);
  meshcclCommAbort(order->comm);
  return NULL;
}

/* One call under way per rank; rank round % n is aborted by another thread at a random moment of it. Memory of the
 * aborted rank is freed at once: nobody may read it any more. */
static int abort_somewhere(rank_env* env) {
  const uint64_t* round = env->arg;
  uint64_t random = *round * 77 + (uint64_t)env->rank;
  meshcclComm_t comm;
  need(open_limited(env, 20, &comm));
  bool victim = (int)(*round % (uint64_t)env->nranks) == env->rank, grouped = *round % 3 == 1, shared = *round % 2;
  size_t count = 400000;
  float* x = shared ? oracle_mem_alloc.alloc(count * sizeof *x) : malloc(count * sizeof *x);
  memset(x, 0, count * sizeof *x);
  meshcclResult_t result = meshcclBarrier(comm, NULL); /* an abort may be heard on the way out of it */
  pthread_t thread;
  abort_order order = {.comm = comm, .delay_us = (unsigned)(test_random(&random) % 1500)};
  if (victim) pthread_create(&thread, NULL, abort_after, &order);
  atomic_store(&order.last_call, !grouped);
  if (grouped) need(meshcclGroupStart());
  for (int k = 0; k < (victim && !grouped ? 1 : 3) && (victim || result == meshcclSuccess); k++)
    result = meshcclAllReduce(x, x, count, meshcclFloat32, meshcclSum, comm, NULL);
  if (grouped) atomic_store(&order.last_call, true);
  if (grouped) result = meshcclGroupEnd();
  atomic_store(&order.over, true);
  if (victim) pthread_join(thread, NULL);
  if (shared) {
    meshcclMemFree(x);
  } else {
    free(x);
  }
  if (!victim) meshcclCommDestroy(comm);
  expect(result == meshcclSuccess || result == (victim ? meshcclInvalidUsage : meshcclRemoteError), "%s rank: %s",
         victim ? "aborted" : "other", meshcclGetErrorString(result));
  return 0;
}

static void an_abort_at_any_moment_harms_nobody(void** state) {
  (void)state;
  for (uint64_t round = 0; round < 100; round++) {
    run_mode mode = round % 4 == 3 ? AS_MIXED : AS_THREADS;
    if (run_ranks(mode, 2 + (int)(round % 3), abort_somewhere, &round))
      fail_msg("round %llu as %s", (unsigned long long)round, run_mode_name(mode));
  }
}

/* ---- many ---- */

static int twenty(rank_env* env) {
  enum { MANY = 20 };
  meshcclComm_t comms[MANY];
  need(open_limited(env, 30, &comms[0]));
  for (int k = 1; k < MANY; k++)
    need(meshcclCommSplit(comms[k / 2], 0, k % 2 ? env->rank : -env->rank, &comms[k], NULL));
  for (int k = 0; k < MANY; k++) {
    int32_t x = env->rank + k;
    need(meshcclAllReduce(&x, &x, 1, meshcclInt32, meshcclSum, comms[k], NULL));
    expect(x == env->nranks * (env->nranks - 1) / 2 + k * env->nranks, "communicator %d: %d", k, x);
  }
  for (int k = 0; k < MANY; k++) need(meshcclCommDestroy(comms[(k * 7 + env->rank * 3) % MANY]));
  return 0;
}

static void twenty_communicators_live_at_once(void** state) {
  (void)state;
  if (run_ranks(AS_PROCESSES, 3, twenty, NULL)) fail_msg("processes");
  if (run_ranks(AS_THREADS, 3, twenty, NULL)) fail_msg("threads");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_sent_arrives_after_the_sender_left),
      cmocka_unit_test(ranks_leave_in_any_order),
      cmocka_unit_test(a_rank_that_leaves_too_early_is_named),
      cmocka_unit_test(a_rank_that_does_not_call_is_named_after_the_limit),
      cmocka_unit_test(init_names_the_missing_rank),
      cmocka_unit_test(an_abort_at_any_moment_harms_nobody),
      cmocka_unit_test(twenty_communicators_live_at_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
