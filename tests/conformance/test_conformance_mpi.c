/* MPI is a transport. The pairs of one process run on every rank, the cases between processes on all ranks together. */
#include "suite/suite.h"

#ifdef MESHCCL_HAVE_MPI
#include <mpi.h>
#include <stdio.h>

extern const meshcclTransport_t mci_transport_mpi;

static void gather(const void* mine, void* all, size_t bytes) {
  MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD);
}

static bool everybody(void) {
  static MPI_Request round = MPI_REQUEST_NULL;
  if (round == MPI_REQUEST_NULL) MPI_Ibarrier(MPI_COMM_WORLD, &round);
  int done = 0;
  MPI_Test(&round, &done, MPI_STATUS_IGNORE);
  return done != 0;
}

int main(int argc, char** argv) {
  int level = MPI_THREAD_SINGLE;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &level);
  suite_launcher launcher = {.gather = gather, .everybody = everybody};
  MPI_Comm_rank(MPI_COMM_WORLD, &launcher.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &launcher.nranks);
  int failed = level < MPI_THREAD_SERIALIZED;
  if (failed) {
    printf("this MPI has no MPI_THREAD_SERIALIZED\n");
  } else {
    suite_subject subject = {.transport = &mci_transport_mpi, .traits = SUITE_THREADS, .launcher = &launcher};
    failed = suite_run(&subject);
  }
  MPI_Finalize();
  return failed != 0;
}
#else
int main(void) { return suite_skip("mpi", "this build has no MPI; configure with -DMESHCCL_MPI=ON and install one"); }
#endif
