/* Rows and columns of a machine: a communicator on a described topology, coordinates, neighbours, and a sum along each
 * axis.
 *
 *   meshccl run -n 6 -- own_topology mesh:2x3@50GB/s,500ns */
#include <meshccl/meshccl.h>

int main(int argc, char** argv) {
  meshcclComm_t comm, row, column;
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  int rank, coords[MESHCCL_MAX_DIMS], ndims = MESHCCL_MAX_DIMS, peers[2 * MESHCCL_MAX_DIMS],
                                      npeers = 2 * MESHCCL_MAX_DIMS;
  config.topology = argc > 1 ? argv[1] : "mesh:2x3";
  MESHCCL_CHECK(meshcclCommInitEnv(&comm, &config));
  MESHCCL_CHECK(meshcclCommUserRank(comm, &rank));
  MESHCCL_CHECK(meshcclCommCoordinates(comm, rank, coords, &ndims));
  MESHCCL_CHECK(meshcclCommNeighbors(comm, rank, peers, &npeers));
  MESHCCL_CHECK(meshcclCommSplitAxes(comm, "x", &row));
  MESHCCL_CHECK(meshcclCommSplitAxes(comm, "y", &column));
  double in_row = rank, in_column = rank;
  MESHCCL_CHECK(meshcclAllReduce(&in_row, &in_row, 1, meshcclFloat64, meshcclSum, row, NULL));
  MESHCCL_CHECK(meshcclAllReduce(&in_column, &in_column, 1, meshcclFloat64, meshcclSum, column, NULL));
  printf("rank %d at %d.%d has %d neighbours; its row sums to %g, its column to %g\n", rank, coords[0], coords[1],
         npeers, in_row, in_column);
  MESHCCL_CHECK(meshcclCommDestroy(row));
  MESHCCL_CHECK(meshcclCommDestroy(column));
  return meshcclCommDestroy(comm) != meshcclSuccess;
}
