/* Who has nothing to do uses no processor: idle communicators, and ranks that wait for a late one. The bounds are wide:
 * a waiter that spins or yields uses all of the time that it waits, one that sleeps a hundredth. */
#include <time.h>
#include <unistd.h>

#include "oracle.h"
#include "setting.h"

#define LATE_S 0.2

static double used_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static meshcclResult_t sum_one(meshcclComm_t comm, int32_t* x, meshcclStream_t stream) {
  *x = 1;
  return meshcclAllReduce(x, x, 1, meshcclInt32, meshcclSum, comm, stream);
}

static int idle(const rank_env* env, meshcclComm_t comm, meshcclStream_t stream) {
  (void)env;
  int32_t x;
  for (int i = 0; i < 20; i++) {
    need(sum_one(comm, &x, i % 2 ? stream : NULL));
    need(meshcclStreamSynchronize(stream));
  }
  double before = used_seconds();
  usleep((useconds_t)(LATE_S * 1e6));
  double used = used_seconds() - before;
  expect(used < LATE_S / 4, "doing nothing for %.1f s used the processor for %.3f s", LATE_S, used);
  return 0;
}

/* Rank 0 is late, once for each way to wait. */
static int waiting(const rank_env* env, meshcclComm_t comm, meshcclStream_t stream) {
  int32_t x;
  for (int way = 0; way < 3; way++) {
    need(sum_one(comm, &x, NULL));
    if (env->rank == 0) usleep((useconds_t)(LATE_S * 1e6));
    double before = used_seconds();
    need(sum_one(comm, &x, way > 0 ? stream : NULL));
    if (way == 2) usleep((useconds_t)(LATE_S * 1e6));
    need(meshcclStreamSynchronize(stream));
    double used = used_seconds() - before;
    expect(x == env->nranks, "way %d: the sum is %d", way, x);
    expect(used < LATE_S / 2, "way %d: to wait for %.1f s used the processor for %.3f s", way, LATE_S, used);
  }
  return 0;
}

typedef int (*measured)(const rank_env* env, meshcclComm_t comm, meshcclStream_t stream);

static int with_a_stream(rank_env* env) {
  const measured* what = env->arg;
  meshcclComm_t comm;
  meshcclStream_t stream;
  need(open_comm(env, NULL, &comm));
  need(meshcclStreamCreate(&stream));
  if ((*what)(env, comm, stream)) return 1;
  need(meshcclStreamDestroy(stream));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void run_with_and_without_a_thread(measured what) {
  static const char* const transports[] = {"self,shm", "self,tcp"};
  for (size_t t = 0; t < MCI_COUNT(transports); t++) {
    set("MESHCCL_TRANSPORTS", transports[t]);
    for (int thread = 0; thread < 2; thread++) {
      set_number("MESHCCL_PROGRESS_THREAD", thread);
      if (run_ranks(AS_PROCESSES, 3, with_a_stream, &what)) fail_msg("%s, progress thread %d", transports[t], thread);
    }
  }
  set("MESHCCL_TRANSPORTS", NULL);
  set("MESHCCL_PROGRESS_THREAD", NULL);
}

static void an_idle_communicator_uses_no_processor(void** state) {
  (void)state;
  run_with_and_without_a_thread(idle);
}

static void who_waits_for_a_late_rank_sleeps(void** state) {
  (void)state;
  run_with_and_without_a_thread(waiting);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(an_idle_communicator_uses_no_processor),
                                     cmocka_unit_test(who_waits_for_a_late_rank_sleeps)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
