/* The calls of bench.h, made with any MPI; perf/lab/run.sh compiles it with the wrappers that are installed. */
#include <mpi.h>

#include "bench.h"

static int size;

void lab_open(int* argc, char*** argv, int* rank, int* nranks) {
  MPI_Init(argc, argv);
  MPI_Comm_rank(MPI_COMM_WORLD, rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  *nranks = size;
}

void lab_close(void) { MPI_Finalize(); }

void lab_call(enum lab_collective what, const float* in, float* out, size_t count) {
  int block = (int)(count / (size_t)size);
  if (what == LAB_ALL_REDUCE)
    MPI_Allreduce(in, out, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  else if (what == LAB_ALL_GATHER)
    MPI_Allgather(in, block, MPI_FLOAT, out, block, MPI_FLOAT, MPI_COMM_WORLD);
  else
    MPI_Reduce_scatter_block(in, out, block, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

double lab_max(double mine) {
  double all;
  MPI_Allreduce(&mine, &all, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return all;
}
