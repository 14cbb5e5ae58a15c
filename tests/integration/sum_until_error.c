/* One rank of a job of test_hosts.sh: sums until an error comes and tells what it was.
 *
 *   sum_until_error FOLDER LIMIT   makes FOLDER/running.RANK when sums work, and FOLDER/end.RANK with a line "CODE SECONDS
 *                                  TEXT" when they do not; SECONDS are those of the call that failed */
#include <stdio.h>
#include <stdlib.h>

#include "harness.h"

typedef struct {
  const char* folder;
  double limit;
} request;

static FILE* make(rank_env* env, const char* what) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s.%d", ((const request*)env->arg)->folder, what, env->rank);
  return fopen(path, "w");
}

static int until_error(rank_env* env) {
  enum { N = 20000 };
  const request* r = env->arg;
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.initTimeout = 60;
  config.opTimeout = r->limit;
  meshcclComm_t comm;
  need(meshcclCommInitRankConfig(&comm, env->nranks, env->id, env->rank, &config));
  float* x = calloc(N, sizeof *x);
  double began = 0;
  meshcclResult_t result = meshcclSuccess;
  for (int round = 0; result == meshcclSuccess; round++) {
    if (round == 20) fclose(make(env, "running"));
    began = now_seconds();
    result = meshcclAllReduce(x, x, N, meshcclFloat32, meshcclSum, comm, NULL);
  }
  FILE* end = make(env, "end");
  expect(end, "FOLDER cannot be written to");
  fprintf(end, "%d %.2f %s\n", (int)result, now_seconds() - began, meshcclGetLastError(comm));
  fclose(end);
  need(meshcclCommAbort(comm));
  free(x);
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3 || !getenv("MESHCCL_TESTS_JOB")) return 2;
  request r = {argv[1], atof(argv[2])};
  int n = 0;
  if (sscanf(getenv("MESHCCL_TESTS_JOB"), "%*d/%d", &n) != 1) return 2;
  return run_ranks(AS_PROCESSES, n, until_error, &r);
}
