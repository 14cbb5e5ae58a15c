/* For test_top.sh: after two all-reduces one rank stays outside of calls until it is ended, the others call again.
 * Usage: stay_away RANK. Prints its error and returns 3 when a call fails. */
#include <meshccl/meshccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char** argv) {
  static float x[1024];
  meshcclComm_t comm;
  int rank, away = argc > 1 ? atoi(argv[1]) : 0;
  MESHCCL_CHECK(meshcclCommInitEnv(&comm, NULL));
  MESHCCL_CHECK(meshcclCommUserRank(comm, &rank));
  for (int i = 0; i < 2; i++) MESHCCL_CHECK(meshcclAllReduce(x, x, 1024, meshcclFloat32, meshcclSum, comm, NULL));
  printf("ready\n");
  fflush(stdout);
  while (rank == away) pause();
  meshcclResult_t result = meshcclAllReduce(x, x, 1024, meshcclFloat32, meshcclSum, comm, NULL);
  if (result != meshcclSuccess) printf("error: %s\n", meshcclGetLastError(comm));
  return result != meshcclSuccess ? 3 : 0;
}
