/* What a program relies on beside results: groups, point to point, streams, events, splits, operators, errors with a
 * cause and a remedy, calls that differ, abort, fork, non-blocking start. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
/* after the others */
#include <cmocka.h>

#include "harness.h"

static void run_everywhere(int n, rank_main fn) {
  for (run_mode mode = AS_PROCESSES; mode <= AS_MIXED; mode++)
    if (run_ranks(mode, n, fn, NULL)) fail_msg("%d ranks as %s", n, run_mode_name(mode));
}

/* ---- point to point -------------------------------------------------------------------------------------------------
 */

static int exchange(rank_env* env) {
  enum { COUNT = 50021 };
  meshcclComm_t comm;
  need(open_comm(env, NULL, &comm));
  int n = env->nranks;
  int32_t* out = malloc((size_t)n * COUNT * 4);
  int32_t* in = malloc((size_t)n * COUNT * 4);
  for (int round = 0; round < 3; round++) {
    for (int k = 0; k < n; k++)
      for (int i = 0; i < COUNT; i++) out[k * COUNT + i] = env->rank * 1000 + k * 100 + i + round;
    need(meshcclGroupStart());
    for (int k = 0; k < n; k++) { /* the rank itself included; receives first on some ranks */
      if (env->rank % 2) need(meshcclRecv(in + k * COUNT, COUNT, meshcclInt32, k, comm, NULL));
      need(meshcclSend(out + k * COUNT, COUNT, meshcclInt32, k, comm, NULL));
      if (env->rank % 2 == 0) need(meshcclRecv(in + k * COUNT, COUNT, meshcclInt32, k, comm, NULL));
    }
    need(meshcclGroupEnd());
    for (int k = 0; k < n; k++)
      for (int i = 0; i < COUNT; i++)
        expect(in[k * COUNT + i] == k * 1000 + env->rank * 100 + i + round, "from rank %d element %d is %d", k, i,
               in[k * COUNT + i]);
  }
  free(in);
  free(out);
  need(meshcclCommDestroy(comm));
  return 0;
}

static void sends_meet_receives_in_a_group(void** state) {
  (void)state;
  run_everywhere(4, exchange);
}

/* The k-th send meets the k-th receive, also when several to one peer are in one group, on a stream. */
static int ordered_sends(rank_env* env) {
  meshcclComm_t comm;
  meshcclStream_t stream;
  need(open_comm(env, NULL, &comm));
  need(meshcclStreamCreate(&stream));
  int32_t values[64];
  for (int i = 0; i < 64; i++) values[i] = env->rank == 0 ? i : -1;
  need(meshcclGroupStart());
  for (int i = 0; i < 64; i++) {
    if (env->rank == 0) need(meshcclSend(&values[i], 1, meshcclInt32, 1, comm, stream));
    if (env->rank == 1) need(meshcclRecv(&values[i], 1, meshcclInt32, 0, comm, stream));
  }
  need(meshcclGroupEnd());
  need(meshcclStreamSynchronize(stream));
  for (int i = 0; i < 64 && env->rank < 2; i++) expect(values[i] == i, "message %d is %d", i, values[i]);
  need(meshcclStreamDestroy(stream));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void messages_of_a_pair_stay_in_order(void** state) {
  (void)state;
  run_everywhere(3, ordered_sends);
}

/* ---- streams, events, communicators ------------------------------------------------------------------------------ */

static void add_one(void* arg) { ++*(int*)arg; }

static int streams(rank_env* env) {
  enum { STEPS = 40, COUNT = 3001 };
  meshcclComm_t comm;
  meshcclStream_t a, b;
  meshcclEvent_t event;
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.progressThread = env->rank % 2;
  need(meshcclCommInitRankConfig(&comm, env->nranks, env->id, env->rank, &config));
  need(meshcclStreamCreate(&a));
  need(meshcclStreamCreate(&b));
  need(meshcclEventCreate(&event));
  float* x = malloc(COUNT * sizeof *x);
  for (int i = 0; i < COUNT; i++) x[i] = 1;
  int calls = 0;
  for (int s = 0; s < STEPS; s++) { /* x becomes n^2s; each stream waits for the other's event */
    need(meshcclAllReduce(x, x, COUNT, meshcclFloat32, meshcclMax, comm, a));
    need(meshcclLaunchHostFunc(a, add_one, &calls));
    need(meshcclEventRecord(event, a));
    need(meshcclStreamWaitEvent(b, event));
    need(meshcclAllReduce(x, x, COUNT, meshcclFloat32, meshcclSum, comm, b));
    need(meshcclEventRecord(event, b));
    need(meshcclStreamWaitEvent(a, event));
    if (s % 8 == 7) {
      while (meshcclStreamQuery(b) == meshcclInProgress) continue;
      for (int i = 0; i < COUNT; i++) x[i] = 1;
    }
  }
  need(meshcclStreamSynchronize(a));
  need(meshcclStreamSynchronize(b));
  need(meshcclEventQuery(event));
  expect(calls == STEPS, "%d host functions ran", calls);
  expect(x[0] == 1 && x[COUNT - 1] == 1, "x is %g", (double)x[0]);
  need(meshcclEventDestroy(event));
  need(meshcclStreamDestroy(a));
  need(meshcclStreamDestroy(b));
  free(x);
  need(meshcclCommDestroy(comm));
  return 0;
}

static void streams_events_and_callbacks_keep_their_order(void** state) {
  (void)state;
  run_everywhere(3, streams);
}

/* Rank 0 uses first a then b, rank 1 first b then a, each on its own stream. */
static int two_communicators(rank_env* env) {
  meshcclComm_t comms[2];
  meshcclStream_t streams_of[2];
  need(open_comm(env, NULL, &comms[0]));
  need(meshcclCommSplit(comms[0], 0, env->rank, &comms[1], NULL));
  for (int k = 0; k < 2; k++) need(meshcclStreamCreate(&streams_of[k]));
  int64_t sums[2];
  for (int round = 0; round < 50; round++) {
    for (int k = 0; k < 2; k++) {
      int which = env->rank % 2 ? 1 - k : k;
      sums[which] = env->rank + which;
      need(meshcclAllReduce(&sums[which], &sums[which], 1, meshcclInt64, meshcclSum, comms[which], streams_of[which]));
    }
    need(meshcclStreamSynchronize(streams_of[env->rank % 2])); /* waiting for one drives both */
    need(meshcclStreamSynchronize(streams_of[1 - env->rank % 2]));
    int64_t n = env->nranks, base = n * (n - 1) / 2;
    expect(sums[0] == base && sums[1] == base + n, "sums are %lld and %lld", (long long)sums[0], (long long)sums[1]);
  }
  for (int k = 0; k < 2; k++) need(meshcclStreamDestroy(streams_of[k]));
  need(meshcclCommDestroy(comms[1]));
  need(meshcclCommDestroy(comms[0]));
  return 0;
}

static void communicators_in_different_order_do_not_deadlock(void** state) {
  (void)state;
  run_everywhere(4, two_communicators);
}

/* ---- splits ------------------------------------------------------------------------------------------------------ */

static int splits(rank_env* env) {
  meshcclComm_t comm, row, column, odd;
  need(open_comm(env, "torus:3x2", &comm));
  int coords[MESHCCL_MAX_DIMS], ndims = MESHCCL_MAX_DIMS, count, rank;
  need(meshcclCommCoordinates(comm, env->rank, coords, &ndims));
  expect(ndims == 2 && coords[0] == env->rank / 2 && coords[1] == env->rank % 2, "coordinates %d.%d", coords[0],
         coords[1]);
  int peers[8], npeers = 8;
  need(meshcclCommNeighbors(comm, env->rank, peers, &npeers));
  expect(npeers == 3, "%d neighbours", npeers); /* two on the ring of 3, one on the side of 2 */
  need(meshcclCommSplitAxes(comm, "x", &row));
  need(meshcclCommSplitAxes(comm, "y", &column));
  need(meshcclCommCount(row, &count));
  expect(count == 2, "row of %d", count);
  need(meshcclCommCount(column, &count));
  need(meshcclCommUserRank(column, &rank));
  expect(count == 3 && rank == env->rank / 2, "column of %d, rank %d", count, rank);
  int32_t x = env->rank, y;
  need(meshcclAllReduce(&x, &y, 1, meshcclInt32, meshcclSum, row, NULL));
  expect(y == env->rank / 2 * 4 + 1, "row sum %d", y);
  need(meshcclAllReduce(&x, &y, 1, meshcclInt32, meshcclSum, column, NULL));
  expect(y == 6 + 3 * (env->rank % 2), "column sum %d", y);
  need(meshcclCommSplit(comm, env->rank % 2 ? 7 : -1, -env->rank, &odd, NULL));
  expect((odd != NULL) == (env->rank % 2 == 1), "wrong half");
  if (odd) {
    need(meshcclCommUserRank(odd, &rank));
    expect(rank == 2 - env->rank / 2, "key does not order: %d", rank);
    need(meshcclCommDestroy(odd));
  }
  meshcclResult_t result = meshcclCommSplitAxes(comm, "z", &odd);
  expect(result == meshcclInvalidArgument && strstr(meshcclGetLastError(NULL), "z"), "axis z: %s",
         meshcclGetLastError(NULL));
  need(meshcclCommDestroy(row));
  need(meshcclCommDestroy(column));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void splits_keep_the_topology(void** state) {
  (void)state;
  run_everywhere(6, splits);
}

/* ---- operators --------------------------------------------------------------------------------------------------- */

static int operators(rank_env* env) {
  meshcclComm_t comm;
  need(open_comm(env, NULL, &comm));
  int n = env->nranks;
  enum { COUNT = 5003 };
  float *x = malloc(COUNT * 4), *y = malloc(COUNT * 4), scale = env->rank % 2 ? 2.0f : 1.0f;
  for (int i = 0; i < COUNT; i++) x[i] = (float)(i % 11);
  meshcclRedOp_t op;
  need(meshcclRedOpCreatePreMulSum(&op, &scale, meshcclFloat32, meshcclScalarHostImmediate, comm));
  need(meshcclAllReduce(x, y, COUNT, meshcclFloat32, op, comm, NULL));
  for (int i = 0; i < COUNT; i++)
    expect(y[i] == (float)(i % 11) * (float)(n + n / 2), "premulsum element %d is %g", i, (double)y[i]);
  need(meshcclAllReduce(x, x, COUNT, meshcclFloat32, op, comm, NULL));
  for (int i = 0; i < COUNT; i++)
    expect(x[i] == (float)(i % 11) * (float)(n + n / 2), "in place premulsum element %d is %g", i, (double)x[i]);
  int32_t k = 7;
  expect(meshcclAllReduce(&k, &k, 1, meshcclInt32, op, comm, NULL) == meshcclInvalidArgument,
         "an operator of another type was taken");
  need(meshcclRedOpDestroy(op, comm));
  expect(meshcclAllReduce(x, x, 1, meshcclFloat32, op, comm, NULL) == meshcclInvalidArgument,
         "a destroyed operator was taken");
  double avg = env->rank;
  need(meshcclAllReduce(&avg, &avg, 1, meshcclFloat64, meshcclAvg, comm, NULL));
  expect(avg == (n - 1) / 2.0, "average %g", avg);
  free(x);
  free(y);
  need(meshcclCommDestroy(comm));
  return 0;
}

static void premulsum_and_average(void** state) {
  (void)state;
  run_everywhere(4, operators);
}

/* ---- errors
 * --------------------------------------------------------------------------------------------------------------------
 */

static int wrong_arguments(rank_env* env) {
  meshcclComm_t comm;
  float x[8] = {0};
  need(open_comm(env, NULL, &comm));
  struct {
    meshcclResult_t result;
    const char* part;
  } rows[] = {
      {meshcclAllReduce(NULL, x, 8, meshcclFloat32, meshcclSum, comm, NULL), "sendbuff is NULL"},
      {meshcclAllReduce(x, NULL, 8, meshcclFloat32, meshcclSum, comm, NULL), "recvbuff is NULL"},
  };
  for (size_t i = 0; i < 2; i++) expect(rows[i].result == meshcclInvalidArgument, "row %zu", i);
  expect(meshcclAllReduce(x, x, 8, (meshcclDataType_t)99, meshcclSum, comm, NULL) == meshcclInvalidArgument &&
             strstr(meshcclGetLastError(NULL), "99"),
         "type");
  expect(meshcclAllReduce(x, x, 8, meshcclFloat32, (meshcclRedOp_t)77, comm, NULL) == meshcclInvalidArgument &&
             strstr(meshcclGetLastError(NULL), "77"),
         "op");
  expect(meshcclBroadcast(x, x, 8, meshcclFloat32, 5, comm, NULL) == meshcclInvalidArgument &&
             strstr(meshcclGetLastError(NULL), "root 5"),
         "root: %s", meshcclGetLastError(NULL));
  expect(meshcclAllReduce(x, x + 1, 4, meshcclFloat32, meshcclSum, comm, NULL) == meshcclInvalidArgument &&
             strstr(meshcclGetLastError(NULL), "overlap"),
         "overlap");
  expect(meshcclSend(x, 1, meshcclFloat32, -1, comm, NULL) == meshcclInvalidArgument, "peer");
  expect(meshcclAllReduce(x, x, 8, meshcclFloat32, meshcclSum, NULL, NULL) == meshcclInvalidArgument,
         "NULL communicator");
  expect(meshcclGroupEnd() == meshcclInvalidUsage, "end without start");
  need(meshcclGroupStart()); /* an error inside a group comes out at its end, and nothing of the group is issued */
  need(meshcclAllReduce(x, x, 8, meshcclFloat32, meshcclSum, comm, NULL));
  meshcclAllReduce(x, x, 8, (meshcclDataType_t)99, meshcclSum, comm, NULL);
  expect(meshcclGroupEnd() == meshcclInvalidArgument, "group");
  need(meshcclBarrier(comm, NULL)); /* the communicator is still good */
  need(meshcclCommFinalize(comm));
  expect(meshcclBarrier(comm, NULL) == meshcclInvalidUsage && strstr(meshcclGetLastError(NULL), "finalized"),
         "finalized");
  need(meshcclCommDestroy(comm));
  return 0;
}

static void wrong_arguments_are_named(void** state) {
  (void)state;
  run_everywhere(2, wrong_arguments);
}

static int mismatch(rank_env* env) {
  int kind = *(int*)env->arg;
  meshcclComm_t comm;
  float x[128] = {0}, y[512];
  need(open_comm(env, NULL, &comm));
  bool odd_one = env->rank == env->nranks - 1;
  meshcclResult_t result =
      meshcclAllReduce(x, x, 100, meshcclFloat32, meshcclSum, comm, NULL); /* alike; may still be under way */
  for (int k = 0; k < 3 && result == meshcclSuccess; k++) {                /* a difference may show one call later */
    if (kind == 0) result = meshcclAllReduce(x, x, odd_one ? 99 : 100, meshcclFloat32, meshcclSum, comm, NULL);
    if (kind == 1)
      result = meshcclAllReduce(x, x, 100, odd_one ? meshcclInt32 : meshcclFloat32, meshcclSum, comm, NULL);
    if (kind == 2) result = meshcclAllReduce(x, x, 100, meshcclFloat32, odd_one ? meshcclMax : meshcclSum, comm, NULL);
    if (kind == 3) result = meshcclBroadcast(x, x, 100, meshcclFloat32, odd_one ? 1 : 0, comm, NULL);
    if (kind == 4)
      result = odd_one ? meshcclAllGather(x, y, 25, meshcclFloat32, comm, NULL)
                       : meshcclAllReduce(x, x, 100, meshcclFloat32, meshcclSum, comm, NULL);
    if (kind == 5) result = meshcclAllReduce(x, x, odd_one ? 0 : 100, meshcclFloat32, meshcclSum, comm, NULL);
  }
  for (double until = now_seconds() + 5;
       result == meshcclSuccess && now_seconds() < until;) /* a sender may be done before it hears */
    need(meshcclCommGetAsyncError(comm, &result));
  const char* text = meshcclGetLastError(comm);
  expect(result == meshcclInvalidUsage, "kind %d: %s (%s)", kind, meshcclGetErrorString(result), text);
  expect(strstr(text, "do not match") && strstr(text, "rank"), "kind %d: %s", kind, text);
  expect(meshcclCommAbort(comm) == meshcclSuccess, "abort");
  return 0;
}

static void calls_that_differ_are_named_on_every_rank(void** state) {
  (void)state;
  for (int kind = 0; kind < 6; kind++) {
    if (run_ranks(AS_PROCESSES, 3, mismatch, &kind)) fail_msg("kind %d", kind);
    if (run_ranks(AS_THREADS, 2, mismatch, &kind)) fail_msg("kind %d", kind);
  }
}

static int wrong_topology(rank_env* env) {
  meshcclComm_t comm;
  meshcclResult_t result = open_comm(env, "torus:3x3", &comm);
  expect(result == meshcclInvalidArgument && strstr(meshcclGetLastError(NULL), "9 nodes"), "%s",
         meshcclGetLastError(NULL));
  result = open_comm(env, "torus:banana", &comm);
  expect(result == meshcclInvalidArgument && strstr(meshcclGetLastError(NULL), "banana"), "%s",
         meshcclGetLastError(NULL));
  return 0;
}

static void a_topology_that_does_not_fit_is_refused(void** state) {
  (void)state;
  run_everywhere(2, wrong_topology);
}

/* ---- abort, fork, start ------------------------------------------------------------------------------------------ */

static void* abort_later(void* comm) {
  usleep(100000);
  meshcclCommAbort(comm);
  return NULL;
}

/* Rank 0 never calls; its other thread aborts. The others see it as a remote error that names rank 0. */
static int abort_while_waiting(rank_env* env) {
  meshcclComm_t comm;
  float x = 0;
  need(open_comm(env, NULL, &comm));
  if (env->rank == 0) {
    pthread_t thread;
    pthread_create(&thread, NULL, abort_later, comm);
    pthread_join(thread, NULL);
    return 0;
  }
  meshcclResult_t result = meshcclAllReduce(&x, &x, 1, meshcclFloat32, meshcclSum, comm, NULL);
  expect(result == meshcclRemoteError && strstr(meshcclGetLastError(comm), "rank 0 aborted"), "%s: %s",
         meshcclGetErrorString(result), meshcclGetLastError(comm));
  meshcclCommDestroy(comm);
  return 0;
}

/* The thread inside a call is released by an abort from another thread. */
static int abort_own_call(rank_env* env) {
  meshcclComm_t comm;
  float x = 0;
  need(open_comm(env, NULL, &comm));
  if (env->rank == 1) {
    usleep(400000);
    return meshcclCommAbort(comm) != meshcclSuccess;
  }
  pthread_t thread;
  pthread_create(&thread, NULL, abort_later, comm);
  meshcclResult_t result = meshcclAllReduce(&x, &x, 1, meshcclFloat32, meshcclSum, comm, NULL);
  pthread_join(thread, NULL);
  expect(result != meshcclSuccess, "an aborted call succeeded");
  return 0;
}

static void abort_ends_calls_everywhere(void** state) {
  (void)state;
  run_everywhere(3, abort_while_waiting);
  if (run_ranks(AS_PROCESSES, 2, abort_own_call, NULL)) fail_msg("own call");
}

static int forks(rank_env* env) {
  meshcclComm_t comm;
  int32_t x = 1;
  need(open_comm(env, NULL, &comm));
  need(meshcclAllReduce(&x, &x, 1, meshcclInt32, meshcclSum, comm, NULL));
  pid_t pid = fork();
  if (pid == 0) {
    meshcclResult_t result = meshcclAllReduce(&x, &x, 1, meshcclInt32, meshcclSum, comm, NULL);
    _exit(result == meshcclInvalidUsage && meshcclCommDestroy(comm) == meshcclInvalidUsage ? 0 : 1);
  }
  int status = 1;
  waitpid(pid, &status, 0);
  expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child's calls: status %d", status);
  for (int k = 0; k < 20; k++) { /* the child's exit disturbs nobody */
    x = 1;
    need(meshcclAllReduce(&x, &x, 1, meshcclInt32, meshcclSum, comm, NULL));
    expect(x == env->nranks, "sum %d", x);
  }
  need(meshcclCommDestroy(comm));
  return 0;
}

static void a_forked_child_does_not_disturb(void** state) {
  (void)state;
  if (run_ranks(AS_PROCESSES, 3, forks, NULL)) fail_msg("processes");
}

static int non_blocking(rank_env* env) {
  meshcclComm_t comm;
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  char spec[] = "ring:3";
  config.blocking = 0;
  config.topology = spec;
  meshcclResult_t result = meshcclCommInitRankConfig(&comm, env->nranks, env->id, env->rank, &config);
  memset(spec, 'x', sizeof spec - 1); /* the configuration is the caller's again */
  expect(result == meshcclInProgress, "%s", meshcclGetErrorString(result));
  do {
    expect(meshcclCommGetAsyncError(comm, &result) == meshcclSuccess, "poll");
    usleep(1000);
  } while (result == meshcclInProgress);
  expect(result == meshcclSuccess, "%s", meshcclGetLastError(comm));
  need(meshcclBarrier(comm, NULL));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void init_can_be_non_blocking(void** state) {
  (void)state;
  run_everywhere(3, non_blocking);
}

static void one_process_makes_all_ranks(void** state) {
  (void)state;
  meshcclComm_t comms[5];
  int32_t x[5];
  assert_int_equal(meshcclCommInitAll(comms, 5, NULL), meshcclSuccess);
  for (int round = 0; round < 20; round++) {
    assert_int_equal(meshcclGroupStart(), meshcclSuccess);
    for (int r = 0; r < 5; r++) {
      x[r] = r + round;
      assert_int_equal(meshcclAllReduce(&x[r], &x[r], 1, meshcclInt32, meshcclSum, comms[r], NULL), meshcclSuccess);
    }
    assert_int_equal(meshcclGroupEnd(), meshcclSuccess);
    for (int r = 0; r < 5; r++) assert_int_equal(x[r], 10 + 5 * round);
  }
  for (int r = 0; r < 5; r++) assert_int_equal(meshcclCommDestroy(comms[r]), meshcclSuccess);
}

static int statistics(rank_env* env) {
  meshcclComm_t comm;
  meshcclCommStats_t stats = {.size = sizeof stats};
  static float x[100000];
  need(open_comm(env, NULL, &comm));
  for (int k = 0; k < 10; k++) need(meshcclAllReduce(x, x, 100000, meshcclFloat32, meshcclSum, comm, NULL));
  for (int k = 0; k < 10; k++) need(meshcclAllReduce(x, x, 99999, meshcclFloat32, meshcclSum, comm, NULL));
  need(meshcclCommGetStats(comm, &stats));
  expect(stats.operations == 20 && stats.plansBuilt == 1 && stats.planHits == 19,
         "%llu operations, %llu plans, %llu hits", (unsigned long long)stats.operations,
         (unsigned long long)stats.plansBuilt, (unsigned long long)stats.planHits);
  expect(stats.bytesSent >= 20u * 399996 / 2, "%llu bytes sent", (unsigned long long)stats.bytesSent);
  expect(stats.callerNs > 0 && stats.peers == 1, "caller %llu ns, %d peers", (unsigned long long)stats.callerNs,
         stats.peers);
  need(meshcclCommDestroy(comm));
  return 0;
}

static void statistics_count(void** state) {
  (void)state;
  if (run_ranks(AS_PROCESSES, 2, statistics, NULL)) fail_msg("processes");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sends_meet_receives_in_a_group),
      cmocka_unit_test(messages_of_a_pair_stay_in_order),
      cmocka_unit_test(streams_events_and_callbacks_keep_their_order),
      cmocka_unit_test(communicators_in_different_order_do_not_deadlock),
      cmocka_unit_test(splits_keep_the_topology),
      cmocka_unit_test(premulsum_and_average),
      cmocka_unit_test(wrong_arguments_are_named),
      cmocka_unit_test(calls_that_differ_are_named_on_every_rank),
      cmocka_unit_test(a_topology_that_does_not_fit_is_refused),
      cmocka_unit_test(abort_ends_calls_everywhere),
      cmocka_unit_test(a_forked_child_does_not_disturb),
      cmocka_unit_test(init_can_be_non_blocking),
      cmocka_unit_test(one_process_makes_all_ranks),
      cmocka_unit_test(statistics_count),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
