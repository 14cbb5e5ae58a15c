/* The first program: every rank gives its number, every rank gets the sum.
 *
 *   meshccl run -n 4 --topo torus:2x2 -- hello */
#include <meshccl/meshccl.h>

int main(void) {
  meshcclComm_t comm;
  int rank, size;
  float x[2];
  MESHCCL_CHECK(meshcclCommInitEnv(&comm, NULL)); /* rank, size and topology from the launcher, mpirun or srun */
  MESHCCL_CHECK(meshcclCommUserRank(comm, &rank));
  MESHCCL_CHECK(meshcclCommCount(comm, &size));
  x[0] = (float)rank;
  x[1] = 1;
  MESHCCL_CHECK(meshcclAllReduce(x, x, 2, meshcclFloat32, meshcclSum, comm, NULL)); /* NULL stream: done on return */
  printf("rank %d of %d: %g %g\n", rank, size, (double)x[0], (double)x[1]);
  return meshcclCommDestroy(comm) != meshcclSuccess;
}
