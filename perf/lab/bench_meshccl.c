/* The calls of bench.h, made with meshccl. */
#include <meshccl/meshccl.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

static meshcclComm_t comm;
static int size;

static void check(meshcclResult_t result) {
  if (result == meshcclSuccess) return;
  fprintf(stderr, "lab_bench: %s\n", meshcclGetLastError(comm));
  exit(1);
}

void lab_open(int* argc, char*** argv, int* rank, int* nranks) {
  (void)argc, (void)argv;
  check(meshcclCommInitEnv(&comm, NULL));
  check(meshcclCommUserRank(comm, rank));
  check(meshcclCommCount(comm, &size));
  *nranks = size;
}

void lab_close(void) { check(meshcclCommDestroy(comm)); }

void lab_call(enum lab_collective what, const float* in, float* out, size_t count) {
  size_t block = count / (size_t)size;
  if (what == LAB_ALL_REDUCE)
    check(meshcclAllReduce(in, out, count, meshcclFloat32, meshcclSum, comm, NULL));
  else if (what == LAB_ALL_GATHER)
    check(meshcclAllGather(in, out, block, meshcclFloat32, comm, NULL));
  else
    check(meshcclReduceScatter(in, out, block, meshcclFloat32, meshcclSum, comm, NULL));
}

double lab_max(double mine) {
  double all;
  check(meshcclAllReduce(&mine, &all, 1, meshcclFloat64, meshcclMax, comm, NULL));
  return all;
}
