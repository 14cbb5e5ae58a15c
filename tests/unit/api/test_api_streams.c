/* Streams, events and host functions used hard and wrongly; memory that comes and goes; children that make
 * communicators of their own. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oracle.h"
#include "setting.h"

/* ---- host functions ---- */

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t moved;
  int issued, ran;
} meeting;

static void wait_until_all_issued(void* arg) {
  meeting* m = arg;
  pthread_mutex_lock(&m->lock);
  while (m->issued < 2) pthread_cond_wait(&m->moved, &m->lock);
  m->ran++;
  pthread_mutex_unlock(&m->lock);
}

static meeting at; /* of the two ranks of one process */

/* Rank 0's host function ends only when rank 1 has issued later work of its own: no lock of the library may be held
 * while it runs. */
static int meet(rank_env* env) {
  meshcclComm_t comm;
  meshcclStream_t stream;
  int32_t x = 1, y = 2;
  need(open_comm(env, NULL, &comm));
  need(meshcclStreamCreate(&stream));
  need(meshcclAllReduce(&x, &x, 1, meshcclInt32, meshcclSum, comm, stream));
  if (env->rank == 0) need(meshcclLaunchHostFunc(stream, wait_until_all_issued, &at));
  if (env->rank == 1) usleep(50000);
  need(meshcclAllReduce(&y, &y, 1, meshcclInt32, meshcclSum, comm, stream));
  pthread_mutex_lock(&at.lock);
  at.issued++;
  pthread_cond_broadcast(&at.moved);
  pthread_mutex_unlock(&at.lock);
  need(meshcclStreamSynchronize(stream));
  expect(x == 2 && y == 4, "%d %d", x, y);
  if (env->rank == 0) expect(at.ran == 1, "the host function ran %d times", at.ran);
  need(meshcclStreamDestroy(stream));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void a_host_function_may_wait_for_other_threads(void** state) {
  (void)state;
  pthread_mutex_init(&at.lock, NULL);
  pthread_cond_init(&at.moved, NULL);
  if (run_ranks(AS_THREADS, 2, meet, NULL)) fail_msg("threads");
}

static void count_one(void* arg) { atomic_fetch_add((atomic_int*)arg, 1); }

/* Nobody waits or queries: the progress thread carries the stream to its end, behind the last operation too. */
static int unattended(rank_env* env) {
  meshcclComm_t comm;
  meshcclStream_t a, b;
  meshcclEvent_t event;
  static float x[5000];
  atomic_int ran = 0;
  need(open_comm(env, NULL, &comm));
  need(meshcclStreamCreate(&a));
  need(meshcclStreamCreate(&b));
  need(meshcclEventCreate(&event));
  need(meshcclAllReduce(x, x, 5000, meshcclFloat32, meshcclSum, comm, a));
  need(meshcclEventRecord(event, a));
  need(meshcclStreamWaitEvent(b, event));
  need(meshcclEventDestroy(event)); /* lives as long as it is waited for */
  need(meshcclLaunchHostFunc(b, count_one, &ran));
  double until = now_seconds() + 20;
  while (atomic_load(&ran) == 0 && now_seconds() < until) usleep(1000);
  expect(atomic_load(&ran) == 1, "the host function ran %d times", atomic_load(&ran));
  need(meshcclStreamDestroy(a));
  need(meshcclStreamDestroy(b));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void streams_that_nobody_waits_for_come_to_their_end(void** state) {
  (void)state;
  for (int round = 0; round < 5; round++)
    if (run_ranks(AS_PROCESSES, 3, unattended, NULL)) fail_msg("round %d", round);
}

/* ---- many streams, destroyed with work in flight ---- */

static int many(rank_env* env) {
  enum { STREAMS = 64, COUNT = 700 };
  meshcclComm_t comm;
  meshcclStream_t streams[STREAMS];
  int32_t* x = malloc(STREAMS * COUNT * sizeof *x);
  atomic_int ran = 0;
  need(open_comm(env, NULL, &comm));
  for (int s = 0; s < STREAMS; s++) need(meshcclStreamCreate(&streams[s]));
  for (int i = 0; i < STREAMS * COUNT; i++) x[i] = env->rank + i;
  for (int s = 0; s < STREAMS; s++) {
    need(meshcclAllReduce(x + s * COUNT, x + s * COUNT, COUNT, meshcclInt32, meshcclSum, comm, streams[s]));
    need(meshcclLaunchHostFunc(streams[s], count_one, &ran));
  }
  if (env->rank % 2) { /* the communicator first, its streams have work */
    need(meshcclCommDestroy(comm));
    for (int s = 0; s < STREAMS; s++) need(meshcclStreamDestroy(streams[s]));
  } else {
    for (int s = STREAMS - 1; s >= 0; s--) need(meshcclStreamDestroy(streams[s]));
    need(meshcclCommDestroy(comm));
  }
  expect(atomic_load(&ran) == STREAMS, "%d host functions ran", atomic_load(&ran));
  int n = env->nranks;
  for (int i = 0; i < STREAMS * COUNT; i++) expect(x[i] == n * i + n * (n - 1) / 2, "element %d is %d", i, x[i]);
  free(x);
  return 0;
}

static void streams_and_communicators_end_with_work_in_flight(void** state) {
  (void)state;
  for (run_mode mode = AS_PROCESSES; mode <= AS_MIXED; mode++)
    if (run_ranks(mode, 4, many, NULL)) fail_msg("%s", run_mode_name(mode));
}

/* ---- misuse ---- */

static int misuse(rank_env* env) {
  meshcclComm_t comm;
  meshcclStream_t stream;
  meshcclEvent_t event;
  int32_t x = 1;
  need(open_comm(env, NULL, &comm));
  need(meshcclStreamCreate(&stream));
  need(meshcclEventCreate(&event));
  expect(meshcclStreamQuery(NULL) == meshcclInvalidArgument, "query of NULL");
  expect(meshcclStreamWaitEvent(stream, NULL) == meshcclInvalidArgument, "wait for NULL");
  expect(meshcclLaunchHostFunc(stream, NULL, NULL) == meshcclInvalidArgument, "no function");
  expect(meshcclAllReduce(&x, &x, 1, meshcclInt32, meshcclSum, comm, (meshcclStream_t)event) == meshcclInvalidArgument,
         "an event as a stream");
  need(meshcclEventQuery(event)); /* never recorded: reached */
  for (int round = 0; round < 3; round++) {
    need(meshcclGroupStart());
    need(meshcclAllReduce(&x, &x, 1, meshcclInt32, meshcclSum, comm, round ? stream : NULL));
    expect(meshcclSend(&x, 1, meshcclInt32, 99, comm, stream) == meshcclInvalidArgument, "peer 99");
    need(meshcclGroupStart());
    need(meshcclGroupEnd());
    expect(meshcclGroupEnd() == meshcclInvalidArgument && strstr(meshcclGetLastError(NULL), "99"), "%s",
           meshcclGetLastError(NULL));
    need(meshcclGroupStart()); /* the next group is clean */
    need(meshcclGroupEnd());
  }
  x = 1;
  need(meshcclAllReduce(&x, &x, 1, meshcclInt32, meshcclSum, comm, stream));
  need(meshcclStreamSynchronize(stream));
  expect(x == env->nranks, "%d: a dropped call was issued", x);
  need(meshcclEventDestroy(event));
  need(meshcclStreamDestroy(stream));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void misuse_is_refused_and_leaves_nothing_behind(void** state) {
  (void)state;
  if (run_ranks(AS_MIXED, 3, misuse, NULL)) fail_msg("mixed");
}

/* ---- memory that comes and goes ---- */

static int memory(rank_env* env) {
  enum { COUNT = 60000 };
  meshcclComm_t comm;
  need(open_comm(env, NULL, &comm));
  for (int round = 0; round < 40; round++) {
    const oracle_memory* m = round % 4 == 3 ? &oracle_host : &oracle_mem_alloc;
    size_t bytes = COUNT * 4 + (size_t)(round % 3) * 65536;
    int32_t *in = m->alloc(bytes), *out = m->alloc(bytes);
    for (int i = 0; i < COUNT; i++) in[i] = env->rank * 1000 + i + round;
    int root = round % env->nranks;
    need(meshcclBroadcast(in, out, COUNT, meshcclInt32, root, comm, NULL));
    for (int i = 0; i < COUNT; i++)
      expect(out[i] == root * 1000 + i + round, "round %d element %d is %d", round, i, out[i]);
    m->give(round % 2 ? in : out);
    m->give(round % 2 ? out : in);
  }
  meshcclCommStats_t stats = {.size = sizeof stats};
  need(meshcclCommGetStats(comm, &stats));
  expect(stats.memoryBytes < 64u << 20, "%llu bytes are held", (unsigned long long)stats.memoryBytes);
  need(meshcclCommDestroy(comm));
  return 0;
}

static void memory_freed_between_calls_leaves_no_stale_view(void** state) {
  (void)state;
  for (run_mode mode = AS_PROCESSES; mode <= AS_MIXED; mode++)
    if (run_ranks(mode, 3, memory, NULL)) fail_msg("%s", run_mode_name(mode));
}

/* ---- fork ---- */

static int own_world(void) {
  meshcclComm_t comms[2];
  int32_t x[2] = {1, 2};
  meshcclStream_t stream;
  if (meshcclCommInitAll(comms, 2, NULL) || meshcclStreamCreate(&stream) || meshcclGroupStart()) return 1;
  for (int r = 0; r < 2; r++)
    if (meshcclAllReduce(&x[r], &x[r], 1, meshcclInt32, meshcclSum, comms[r], stream)) return 2;
  if (meshcclGroupEnd() || meshcclStreamSynchronize(stream) || x[0] != 3 || x[1] != 3) return 3;
  for (int r = 0; r < 2; r++)
    if (meshcclCommDestroy(comms[r])) return 4;
  return meshcclStreamDestroy(stream) ? 5 : 0;
}

/* While a child works with communicators of its own, the parent's go on and the child never touches them. */
static int fork_and_go_on(rank_env* env) {
  meshcclComm_t comm;
  meshcclStream_t stream;
  float* x = calloc(50000, sizeof *x);
  need(open_comm(env, NULL, &comm));
  need(meshcclStreamCreate(&stream));
  for (int round = 0; round < 4; round++) {
    need(meshcclAllReduce(x, x, 50000, meshcclFloat32, meshcclSum, comm, stream));
    pid_t pid = fork();
    if (pid == 0) _exit(meshcclStreamQuery(stream) == meshcclInvalidUsage ? own_world() : 9);
    for (int k = 0; k < 50; k++) need(meshcclAllReduce(x, x, 50000, meshcclFloat32, meshcclSum, comm, stream));
    need(meshcclStreamSynchronize(stream));
    int status = wait_process(pid, 30);
    expect(status == 0, "the child ended with %d", status);
  }
  need(meshcclStreamDestroy(stream));
  need(meshcclCommDestroy(comm));
  free(x);
  return 0;
}

static void a_child_makes_its_own_world(void** state) {
  (void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  skip(); /* one lets no child of several threads start threads, the other's allocator is locked in it for good */
#endif
  if (run_ranks(AS_PROCESSES, 2, fork_and_go_on, NULL)) fail_msg("processes");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_host_function_may_wait_for_other_threads),
      cmocka_unit_test(streams_that_nobody_waits_for_come_to_their_end),
      cmocka_unit_test(streams_and_communicators_end_with_work_in_flight),
      cmocka_unit_test(misuse_is_refused_and_leaves_nothing_behind),
      cmocka_unit_test(memory_freed_between_calls_leaves_no_stale_view),
      cmocka_unit_test(a_child_makes_its_own_world),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
