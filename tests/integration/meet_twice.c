/* Run by test_pmix.sh under mpirun: two communicators of the whole job from the environment, the second while the first
 * lives, each of which sums. */
#include <meshccl/meshccl.h>

int main(void) {
  meshcclComm_t comms[2];
  for (int i = 0; i < 2; i++) {
    int rank, size;
    float x = 1;
    MESHCCL_CHECK(meshcclCommInitEnv(&comms[i], NULL));
    MESHCCL_CHECK(meshcclCommUserRank(comms[i], &rank));
    MESHCCL_CHECK(meshcclCommCount(comms[i], &size));
    MESHCCL_CHECK(meshcclAllReduce(&x, &x, 1, meshcclFloat32, meshcclSum, comms[i], NULL));
    printf("communicator %d: rank %d of %d: %g\n", i, rank, size, (double)x);
  }
  for (int i = 0; i < 2; i++) MESHCCL_CHECK(meshcclCommDestroy(comms[i]));
  return 0;
}
