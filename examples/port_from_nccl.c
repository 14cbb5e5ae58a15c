/* A port from NCCL is a change of prefix. The lines below are those of NCCL's "one device per thread" pattern; what was
 * `nccl` is `meshccl`, what was cudaMalloc is meshcclMemAlloc, what was cudaStream_t is meshcclStream_t.
 *
 *   port_from_nccl [RANKS]     (all ranks are made by this process) */
#include <meshccl/meshccl.h>
#include <stdlib.h>

enum { COUNT = 1 << 20, MAX_RANKS = 8 };

int main(int argc, char** argv) {
  int n = argc > 1 ? atoi(argv[1]) : 4, wrong = 0;
  meshcclComm_t comms[MAX_RANKS];
  meshcclStream_t streams[MAX_RANKS];
  float *send[MAX_RANKS], *receive[MAX_RANKS];
  if (n < 1 || n > MAX_RANKS) {
    fprintf(stderr, "port_from_nccl: RANKS must be 1 to %d\n", MAX_RANKS);
    return 2;
  }
  MESHCCL_CHECK(meshcclCommInitAll(comms, n, NULL));
  for (int i = 0; i < n; i++) {
    MESHCCL_CHECK(meshcclMemAlloc((void**)&send[i], COUNT * sizeof(float)));
    MESHCCL_CHECK(meshcclMemAlloc((void**)&receive[i], COUNT * sizeof(float)));
    MESHCCL_CHECK(meshcclStreamCreate(&streams[i]));
    for (int k = 0; k < COUNT; k++) send[i][k] = (float)(i + k % 100);
  }
  MESHCCL_CHECK(meshcclGroupStart());
  for (int i = 0; i < n; i++)
    MESHCCL_CHECK(meshcclAllReduce(send[i], receive[i], COUNT, meshcclFloat, meshcclSum, comms[i], streams[i]));
  MESHCCL_CHECK(meshcclGroupEnd());
  for (int i = 0; i < n; i++) MESHCCL_CHECK(meshcclStreamSynchronize(streams[i]));
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < COUNT; k++) wrong += receive[i][k] != (float)(n * (n - 1) / 2 + n * (k % 100));
    MESHCCL_CHECK(meshcclStreamDestroy(streams[i]));
    MESHCCL_CHECK(meshcclMemFree(send[i]));
    MESHCCL_CHECK(meshcclMemFree(receive[i]));
    MESHCCL_CHECK(meshcclCommDestroy(comms[i]));
  }
  printf("%d ranks, %d wrong\n", n, wrong);
  return wrong != 0;
}
