/* A rank whose wires get stuck, are reset or lose everything in silence, on every transport: each rank has an error
 * within the limit set that names that rank and the operation; after the abort the processes go on, with nothing left
 * of the old communicator, and a new one works. Every case runs in a process of its own, because the variables of a
 * process are read once. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
/* after the others */
#include <cmocka.h>

#include "harness.h"

#define LIMIT_SECONDS 2.0
#define SLACK_SECONDS 8.0 /* of a machine under load */
#define ELEMENTS 50000

typedef struct {
  const char* fault;
  const char* transports;
  int n, victim, message;
} scene;

typedef struct {
  scene s;
  meshcclUniqueId later; /* of the communicator without the victim */
} script;

static int count_entries(const char* folder) {
  DIR* dir = opendir(folder);
  int n = 0;
  while (dir && readdir(dir)) n++;
  if (dir) closedir(dir);
  return n;
}

/* What the descriptors of this process stand for; a socket's text carries its inode, so it is known again. */
typedef struct {
  char of[128][64];
  int n;
} descriptors;

static void look_at_descriptors(descriptors* out) {
  out->n = 0;
  for (int fd = 0; fd < 1024 && out->n < 128; fd++) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, out->of[out->n], sizeof out->of[0] - 1);
    if (length >= 0) out->of[out->n++][length] = 0;
  }
}

/* The first that is in `now` more often than in `before`, or NULL. Fewer are fine: the process that made an id keeps its
 * socket until rank 0 joins. */
static const char* left_open(const descriptors* before, const descriptors* now) {
  for (int i = 0; i < now->n; i++) {
    int had = 0, has = 0;
    for (int k = 0; k < before->n; k++) had += strcmp(before->of[k], now->of[i]) == 0;
    for (int k = 0; k < now->n; k++) has += strcmp(now->of[k], now->of[i]) == 0;
    if (has > had) return now->of[i];
  }
  return NULL;
}

static meshcclResult_t open_with(int rank, int n, meshcclUniqueId id, meshcclComm_t* comm) {
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.initTimeout = 60;
  config.opTimeout = LIMIT_SECONDS;
  return meshcclCommInitRankConfig(comm, n, id, rank, &config);
}

/* Sums the ranks until an error comes. */
static meshcclResult_t sum_until_error(meshcclComm_t comm, double* began) {
  float* x = calloc(ELEMENTS, sizeof *x);
  meshcclResult_t result = meshcclSuccess;
  while (result == meshcclSuccess) {
    *began = now_seconds();
    result = meshcclAllReduce(x, x, ELEMENTS, meshcclFloat32, meshcclSum, comm, NULL);
  }
  free(x);
  return result;
}

static int sums_are_right(rank_env* env, meshcclComm_t comm, int n) {
  float* x = calloc(ELEMENTS, sizeof *x);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < ELEMENTS; i++) x[i] = (float)(i % 100);
    need(meshcclAllReduce(x, x, ELEMENTS, meshcclFloat32, meshcclSum, comm, NULL));
    for (int i = 0; i < ELEMENTS; i++) expect(x[i] == (float)(i % 100 * n), "element %d is %g", i, (double)x[i]);
  }
  free(x);
  return 0;
}

/* A communicator to itself: whatever a process makes once is made now. */
static int warm_up(rank_env* env) {
  meshcclUniqueId id;
  meshcclComm_t comm;
  need(meshcclGetUniqueId(&id));
  need(open_with(0, 1, id, &comm));
  if (sums_are_right(env, comm, 1)) return 1;
  need(meshcclCommDestroy(comm));
  return 0;
}

static int meet_fault(rank_env* env, const scene* s) {
  meshcclComm_t comm;
  double began = now_seconds();
  need(open_with(env->rank, env->nranks, env->id, &comm));
  meshcclResult_t result = sum_until_error(comm, &began);
  double took = now_seconds() - began;
  char name[32];
  snprintf(name, sizeof name, "rank %d", s->victim);
  const char* text = meshcclGetLastError(comm);
  expect(result == meshcclTimeout || result == meshcclRemoteError, "%s", meshcclGetErrorString(result));
  bool operation = strstr(text, "all_reduce of 50000") || strstr(text, "broke after operation ");
  expect(strstr(text, name) && operation, "\"%s\" lacks %s or the operation", text, name);
  expect(took < LIMIT_SECONDS + SLACK_SECONDS, "the error came %.1f s after the call began", took);
  began = now_seconds();
  need(meshcclCommAbort(comm));
  expect(now_seconds() - began < SLACK_SECONDS, "the abort took %.1f s", now_seconds() - began);
  return 0;
}

static int live_on(rank_env* env, const script* plan) {
  meshcclComm_t comm;
  if (env->rank == plan->s.victim) return warm_up(env);
  int n = env->nranks - 1, rank = env->rank - (env->rank > plan->s.victim);
  need(open_with(rank, n, plan->later, &comm));
  if (sums_are_right(env, comm, n)) return 1;
  need(meshcclCommDestroy(comm));
  return 0;
}

static int play(rank_env* env) {
  const script* plan = env->arg;
  if (warm_up(env)) return 1;
  descriptors before, after;
  look_at_descriptors(&before);
  if (meet_fault(env, &plan->s)) return 1;
  look_at_descriptors(&after);
  const char* left = left_open(&before, &after);
  expect(!left, "%s is still open after the abort", left);
  return live_on(env, plan);
}

/* In a fresh process: the number of ranks that were not content. */
static int direct(const scene* s) {
  char text[80];
  pid_t pids[8];
  int bad = 0;
  script plan = {.s = *s};
  snprintf(text, sizeof text, "*:%s=%d,rank=%d,size=%d", s->fault, s->message, s->victim, s->n);
  setenv("MESHCCL_FAULT", text, 1);
  setenv("MESHCCL_TRANSPORTS", s->transports, 1);
  if (meshcclGetUniqueId(&plan.later) != meshcclSuccess) return 99;
  start_processes(s->n, play, &plan, pids);
  for (int r = 0; r < s->n; r++) {
    int status = wait_process(pids[r], 60);
    if (status != 0) fprintf(stderr, "%s over %s: rank %d ended with %d\n", text, s->transports, r, status);
    bad += status != 0;
  }
  return bad;
}

static void stage(scene s) {
  int before = count_entries("/dev/shm");
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(direct(&s));
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  if (status != 0)
    fail_msg("%s at message %d on rank %d of %d over %s", s.fault, s.message, s.victim, s.n, s.transports);
  /* Other programs come and go there too; what a dead rank left would stay. */
  for (int i = 0; i < 2000 && count_entries("/dev/shm") > before; i++) usleep(10000);
  assert_true(count_entries("/dev/shm") <= before);
}

static const char* const wires[] = {
    "self,shm",
#ifdef HAVE_TCP
    "self,tcp",
#endif
#ifdef HAVE_UCX
    "self,ucx",
#endif
};

/* In the first messages, where connections are made, and later: all of these with MESHCCL_TESTS_LONG, else one for each
 * wire, another one for the next fault. */
static void on_all_wires(const char* fault, size_t first) {
  static const scene scenes[] = {{NULL, NULL, 4, 1, 60}, {NULL, NULL, 3, 0, 1}, {NULL, NULL, 3, 2, 301}};
  size_t count = sizeof scenes / sizeof *scenes;
  for (size_t i = 0; i < sizeof wires / sizeof *wires; i++)
    for (size_t k = 0; k < (getenv("MESHCCL_TESTS_LONG") ? count : 1); k++) {
      scene s = scenes[(first + i + k) % count];
      s.fault = fault;
      s.transports = wires[i];
      stage(s);
    }
}

static void a_stalled_rank_is_named(void** state) {
  (void)state;
  on_all_wires("stall", 0);
}

static void a_silent_rank_is_named(void** state) {
  (void)state;
  on_all_wires("drop", 1);
}

static void a_reset_is_named(void** state) {
  (void)state;
  on_all_wires("reset", 2);
}

static int sums_once(rank_env* env) {
  meshcclComm_t comm;
  need(open_with(env->rank, env->nranks, env->id, &comm));
  if (sums_are_right(env, comm, env->nranks)) return 1;
  need(meshcclCommDestroy(comm));
  return 0;
}

static void late_messages_change_nothing(void** state) {
  (void)state;
  for (size_t i = 0; i < sizeof wires / sizeof *wires; i++) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      setenv("MESHCCL_FAULT", "*:delay=0us..2ms,seed=11;*:delay=20ms,rank=1", 1);
      setenv("MESHCCL_TRANSPORTS", wires[i], 1);
      _exit(run_ranks(AS_PROCESSES, 4, sums_once, NULL));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0) fail_msg("over %s", wires[i]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_stalled_rank_is_named),
                                     cmocka_unit_test(a_silent_rank_is_named), cmocka_unit_test(a_reset_is_named),
                                     cmocka_unit_test(late_messages_change_nothing)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
