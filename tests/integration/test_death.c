/* A rank that is killed in the middle of an all-reduce: every other rank has an error that names it within seconds, and
 * nothing is left behind. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after the others */
#include <cmocka.h>

#include "harness.h"

typedef struct {
  int victim, size;
  bool stream;
} scene;

static int reduce_for_ever(rank_env* env) {
  const scene* s = env->arg;
  meshcclComm_t comm;
  meshcclStream_t stream = NULL;
  need(open_comm(env, NULL, &comm));
  if (s->stream) need(meshcclStreamCreate(&stream));
  float* x = calloc((size_t)s->size, sizeof *x);
  meshcclResult_t result = meshcclSuccess;
  double died = 0;
  while (result == meshcclSuccess) {
    died = now_seconds();
    result = meshcclAllReduce(x, x, (size_t)s->size, meshcclFloat32, meshcclSum, comm, stream);
    if (stream && result == meshcclSuccess) result = meshcclStreamSynchronize(stream);
  }
  char name[32];
  snprintf(name, sizeof name, "rank %d", s->victim);
  const char* text = meshcclGetLastError(comm);
  expect(result == meshcclRemoteError && strstr(text, name), "%s: \"%s\" does not name %s",
         meshcclGetErrorString(result), text, name);
  expect(now_seconds() - died < 5, "the error came %.1f s after the last call began", now_seconds() - died);
  meshcclStreamDestroy(stream);
  meshcclCommDestroy(comm);
  free(x);
  return 0;
}

static int count_entries(const char* folder) {
  DIR* dir = opendir(folder);
  int n = 0;
  while (dir && readdir(dir)) n++;
  if (dir) closedir(dir);
  return n;
}

static void kill_one(int n, scene s, unsigned delay_us) {
  pid_t pids[16];
  int before = count_entries("/dev/shm");
  start_processes(n, reduce_for_ever, &s, pids);
  usleep(300000 + delay_us);
  kill(pids[s.victim], SIGKILL);
  double killed = now_seconds();
  for (int r = 0; r < n; r++) {
    int status = wait_process(pids[r], 8);
    if (r == s.victim ? status != -SIGKILL : status != 0)
      fail_msg("n %d victim %d: rank %d ended with %d", n, s.victim, r, status);
  }
  assert_true(now_seconds() - killed < 6);
  /* Other programs come and go there too; what a dead rank left would stay. */
  while (count_entries("/dev/shm") > before && now_seconds() - killed < 20) usleep(10000);
  assert_true(count_entries("/dev/shm") <= before);
}

static void every_rank_can_die(void** state) {
  (void)state;
  for (int n = 2; n <= 5; n++)
    for (int victim = 0; victim < n; victim++)
      kill_one(n, (scene){.victim = victim, .size = victim % 2 ? 8 : 1 << 20}, (unsigned)victim * 1371);
}

static void also_with_streams(void** state) {
  (void)state;
  for (int victim = 0; victim < 3; victim++)
    kill_one(3, (scene){.victim = victim, .size = 100000, .stream = true}, 777);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_rank_can_die), cmocka_unit_test(also_with_streams)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
