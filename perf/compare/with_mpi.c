/* MPI's collectives; compiled once for each MPI that is installed. */
#include <mpi.h>
#include <stddef.h>

#include "bench.h"

static int np;

static int start(int* rank, int* np_out) {
  MPI_Init(NULL, NULL);
  MPI_Comm_rank(MPI_COMM_WORLD, rank);
  MPI_Comm_size(MPI_COMM_WORLD, &np);
  *np_out = np;
  return 0;
}

static const char* variant(bench_op op, int number) {
  (void)op;
  return number == 0 ? "" : NULL;
}

static void call(bench_op op, int number, float* in, float* out, size_t count) {
  (void)number;
  int n = (int)count, block = n / np;
  MPI_Comm world = MPI_COMM_WORLD;
  switch (op) {
    case BENCH_ALL_REDUCE:
      MPI_Allreduce(in, out, n, MPI_FLOAT, MPI_SUM, world);
      break;
    case BENCH_ALL_REDUCE_IN_PLACE:
      MPI_Allreduce(MPI_IN_PLACE, out, n, MPI_FLOAT, MPI_SUM, world);
      break;
    case BENCH_ALL_GATHER:
      MPI_Allgather(in, block, MPI_FLOAT, out, block, MPI_FLOAT, world);
      break;
    case BENCH_REDUCE_SCATTER:
      MPI_Reduce_scatter_block(in, out, block, MPI_FLOAT, MPI_SUM, world);
      break;
    case BENCH_BROADCAST:
      MPI_Bcast(out, n, MPI_FLOAT, 0, world);
      break;
    case BENCH_ALL_TO_ALL:
      MPI_Alltoall(in, block, MPI_FLOAT, out, block, MPI_FLOAT, world);
      break;
    default:
      break;
  }
}

static void stop(void) { MPI_Finalize(); }

int main(int argc, char** argv) {
  static const bench_library mpi = {start, variant, bench_pages, NULL, call, stop};
  return bench_main(&mpi, argc, argv);
}
