/* meshccl's collectives; the environment says who the ranks are and which memory is measured: COMPARE_MEMORY=registered
 * takes meshcclMemAlloc's, else ordinary pages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "meshccl/meshccl.h"

static meshcclComm_t comm;
static int np;

static void need(meshcclResult_t result) {
  if (result == meshcclSuccess) return;
  fprintf(stderr, "meshccl: %s: %s\n", meshcclGetErrorString(result), meshcclGetLastError(comm));
  _Exit(2);
}

static int start(int* rank, int* np_out) {
  need(meshcclCommInitEnv(&comm, NULL));
  need(meshcclCommUserRank(comm, rank));
  need(meshcclCommCount(comm, &np));
  *np_out = np;
  return 0;
}

static const char* variant(bench_op op, int number) {
  (void)op;
  return number == 0 ? "" : NULL;
}

static void* memory(size_t bytes) {
  const char* kind = getenv("COMPARE_MEMORY");
  void* out = NULL;
  if (!kind || strcmp(kind, "registered") != 0) return bench_pages(bytes);
  need(meshcclMemAlloc(&out, bytes));
  return out;
}

static void call(bench_op op, int number, float* in, float* out, size_t count) {
  (void)number;
  size_t block = count / (size_t)np;
  switch (op) {
    case BENCH_ALL_REDUCE:
    case BENCH_ALL_REDUCE_IN_PLACE:
      need(meshcclAllReduce(in, out, count, meshcclFloat32, meshcclSum, comm, NULL));
      break;
    case BENCH_ALL_GATHER:
      need(meshcclAllGather(in, out, block, meshcclFloat32, comm, NULL));
      break;
    case BENCH_REDUCE_SCATTER:
      need(meshcclReduceScatter(in, out, block, meshcclFloat32, meshcclSum, comm, NULL));
      break;
    case BENCH_BROADCAST:
      need(meshcclBroadcast(out, out, count, meshcclFloat32, 0, comm, NULL));
      break;
    case BENCH_ALL_TO_ALL:
      need(meshcclAlltoAll(in, out, block, meshcclFloat32, comm, NULL));
      break;
    default:
      break;
  }
}

static void stop(void) { need(meshcclCommDestroy(comm)); }

int main(int argc, char** argv) {
  static const bench_library meshccl = {start, variant, memory, NULL, call, stop};
  return bench_main(&meshccl, argc, argv);
}
