/* Operations that do not move: the rank that is to blame is named on all others by one and the same text; one that left
 * is an error long before the limit; one that moves elsewhere is none; and abort ends a start that waits for others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
/* after the others */
#include <cmocka.h>

#include "harness.h"

#define MOST 8

/* In memory that all ranks share. */
typedef struct {
  int away;     /* the rank that does not call */
  double limit; /* of operations */
  int threadless;
  atomic_int told;
  char texts[MOST][1024];
} scene;

static scene* scene_new(int away, double limit) {
  scene* s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(s != MAP_FAILED);
  s->away = away;
  s->limit = limit;
  return s;
}

static meshcclResult_t open_limited(rank_env* env, const scene* s, meshcclComm_t* comm) {
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.opTimeout = s->limit;
  config.initTimeout = 60;
  if (s->threadless) config.progressThread = 0;
  return meshcclCommInitRankConfig(comm, env->nranks, env->id, env->rank, &config);
}

static int need_part(rank_env* env, const char* text, const char* part) {
  expect(strstr(text, part), "\"%s\" lacks \"%s\"", text, part);
  return 0;
}

/* ---- outside of calls ---- */

static int one_stays_away(rank_env* env) {
  scene* s = env->arg;
  meshcclComm_t comm;
  float x[1000] = {0};
  need(open_limited(env, s, &comm));
  for (int i = 0; i < 2; i++) need(meshcclAllReduce(x, x, 1000, meshcclFloat32, meshcclSum, comm, NULL));
  if (env->rank == s->away) {
    for (double until = now_seconds() + 60; atomic_load(&s->told) < env->nranks - 1 && now_seconds() < until;)
      usleep(1000);
    meshcclCommDestroy(comm);
    return 0;
  }
  double began = now_seconds();
  meshcclResult_t result = meshcclAllReduce(x, x, 1000, meshcclFloat32, meshcclSum, comm, NULL);
  char* text = s->texts[env->rank];
  snprintf(text, sizeof s->texts[0], "%s", meshcclGetLastError(comm));
  double took = now_seconds() - began;
  atomic_fetch_add(&s->told, 1);
  meshcclCommDestroy(comm);
  char name[64];
  snprintf(name, sizeof name, "rank %d has not called operation 3 (all_reduce of 1000 float", s->away);
  if (need_part(env, text, name) || need_part(env, text, "finished operation 2") ||
      need_part(env, text, "outside of meshccl calls") || need_part(env, text, "MESHCCL_OP_TIMEOUT"))
    return 1;
  expect(result == meshcclTimeout, "%s", meshcclGetErrorString(result));
  expect(took > 0.9 * s->limit, "after %.1f s", took);
  return 0;
}

static void a_rank_outside_of_calls_is_named_by_one_text(void** state) {
  (void)state;
  static const struct {
    int n, away;
    run_mode mode;
  } rows[] = {{2, 0, AS_PROCESSES}, {5, 3, AS_PROCESSES}, {4, 2, AS_THREADS}, {5, 0, AS_MIXED}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    scene* s = scene_new(rows[i].away, 0.5);
    if (run_ranks(rows[i].mode, rows[i].n, one_stays_away, s)) fail_msg("row %zu", i);
    int first = rows[i].away == 0;
    for (int r = 0; r < rows[i].n; r++)
      if (r != rows[i].away) assert_string_equal(s->texts[r], s->texts[first]);
    munmap(s, sizeof *s);
  }
}

/* ---- gone ---- */

static int one_leaves(rank_env* env) {
  scene* s = env->arg;
  meshcclComm_t comm;
  float x[1000] = {0};
  need(open_limited(env, s, &comm));
  need(meshcclAllReduce(x, x, 1000, meshcclFloat32, meshcclSum, comm, NULL));
  if (env->rank == s->away) return meshcclCommDestroy(comm) != meshcclSuccess;
  double began = now_seconds();
  meshcclResult_t result = meshcclAllReduce(x, x, 1000, meshcclFloat32, meshcclSum, comm, NULL);
  char* text = s->texts[env->rank];
  snprintf(text, sizeof s->texts[0], "%s", meshcclGetLastError(comm));
  double took = now_seconds() - began;
  meshcclCommDestroy(comm);
  char name[64];
  snprintf(name, sizeof name, "rank %d has left", s->away);
  if (need_part(env, text, name) || need_part(env, text, "operation 2 (all_reduce of 1000 float")) return 1;
  expect(result == meshcclRemoteError, "%s", meshcclGetErrorString(result));
  expect(took < s->limit / 4, "after %.1f s", took);
  return 0;
}

static void a_rank_that_left_is_an_error_before_the_limit(void** state) {
  (void)state;
  for (int away = 0; away < 4; away++) {
    scene* s = scene_new(away, 100);
    s->threadless = away == 3;
    if (run_ranks(away % 2 ? AS_THREADS : AS_PROCESSES, 4, one_leaves, s)) fail_msg("rank %d leaves", away);
    munmap(s, sizeof *s);
  }
}

/* ---- slow is not stuck ---- */

/* Ranks 2 and 3 have other business for three limits; what they exchange is progress. */
static int two_are_busy(rank_env* env) {
  scene* s = env->arg;
  meshcclComm_t comm;
  float x[1000] = {0}, y[10] = {0};
  need(open_limited(env, s, &comm));
  need(meshcclAllReduce(x, x, 1000, meshcclFloat32, meshcclSum, comm, NULL));
  if (env->rank >= 2) {
    float more = 1;
    for (double until = now_seconds() + 3 * s->limit; more > 0;) {
      y[0] = more = now_seconds() < until;
      if (env->rank == 2) {
        need(meshcclSend(y, 10, meshcclFloat32, 3, comm, NULL));
      } else {
        need(meshcclRecv(y, 10, meshcclFloat32, 2, comm, NULL));
        more = y[0];
      }
    }
  }
  need(meshcclAllReduce(x, x, 1000, meshcclFloat32, meshcclSum, comm, NULL));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void a_rank_that_moves_elsewhere_is_not_stuck(void** state) {
  (void)state;
  scene* s = scene_new(-1, 0.5);
  if (run_ranks(AS_PROCESSES, 4, two_are_busy, s)) fail_msg("processes");
  if (run_ranks(AS_THREADS, 4, two_are_busy, s)) fail_msg("threads");
  munmap(s, sizeof *s);
}

/* ---- point to point ---- */

/* Each waits for a message of the other. */
static int both_receive(rank_env* env) {
  scene* s = env->arg;
  meshcclComm_t comm;
  float y[10] = {0};
  need(open_limited(env, s, &comm));
  need(meshcclBarrier(comm, NULL));
  meshcclResult_t result = meshcclRecv(y, 10, meshcclFloat32, 1 - env->rank, comm, NULL);
  char* text = s->texts[env->rank];
  snprintf(text, sizeof s->texts[0], "%s", meshcclGetLastError(comm));
  meshcclCommDestroy(comm);
  expect(result == meshcclTimeout, "%s", meshcclGetErrorString(result));
  return need_part(env, text, "wait for each other") || need_part(env, text, "shm");
}

static void two_that_wait_for_each_other_are_named_with_their_link(void** state) {
  (void)state;
  scene* s = scene_new(-1, 0.5);
  if (run_ranks(AS_PROCESSES, 2, both_receive, s)) fail_msg("processes");
  assert_string_equal(s->texts[0], s->texts[1]);
  munmap(s, sizeof *s);
}

/* ---- abort while joining ---- */

static int abort_a_start(rank_env* env) {
  scene* s = env->arg;
  if (env->rank == s->away) return 0; /* never joins */
  meshcclComm_t comm;
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.initTimeout = 100;
  meshcclResult_t result = meshcclCommInitRankConfig(&comm, env->nranks, env->id, env->rank, &config);
  expect(result == meshcclInProgress, "%s", meshcclGetErrorString(result));
  usleep((unsigned)env->rank * 3000);
  double began = now_seconds();
  need(meshcclCommAbort(comm));
  expect(now_seconds() - began < 10, "abort took %.1f s", now_seconds() - began);
  return 0;
}

static void abort_ends_a_start_that_waits_for_others(void** state) {
  (void)state;
  for (int away = 0; away < 3; away++) {
    scene* s = scene_new(away, 1);
    if (run_ranks(AS_PROCESSES, 3, abort_a_start, s)) fail_msg("rank %d is missing, processes", away);
    if (run_ranks(AS_THREADS, 3, abort_a_start, s)) fail_msg("rank %d is missing, threads", away);
    munmap(s, sizeof *s);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_rank_outside_of_calls_is_named_by_one_text),
      cmocka_unit_test(a_rank_that_left_is_an_error_before_the_limit),
      cmocka_unit_test(a_rank_that_moves_elsewhere_is_not_stuck),
      cmocka_unit_test(two_that_wait_for_each_other_are_named_with_their_link),
      cmocka_unit_test(abort_ends_a_start_that_waits_for_others),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
