/* What the contexts of a process share in MPI. The state is the process's because MPI's is: a communicator can only be
 * duplicated by all processes together, so it happens once, when the first context is opened, and without waiting. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "mpi_transport.h"

static struct {
  pthread_mutex_t lock;
  bool joined, ready;
  MPI_Request duplication;
  struct mci_mpi_process shared;
  int tags; /* given out */
  struct mci_mpi_queue orphans;
} process = {.lock = PTHREAD_MUTEX_INITIALIZER};

void mci_mpi_lock(void) { pthread_mutex_lock(&process.lock); }
void mci_mpi_unlock(void) { pthread_mutex_unlock(&process.lock); }

void mci_mpi_queue_init(struct mci_mpi_queue* queue) { *queue = (struct mci_mpi_queue){.end = &queue->first}; }

void mci_mpi_queue_add(struct mci_mpi_queue* queue, struct mci_mpi_parcel* parcel) {
  parcel->next = NULL;
  *queue->end = parcel;
  queue->end = &parcel->next;
  queue->length++;
}

struct mci_mpi_parcel* mci_mpi_queue_take(struct mci_mpi_queue* queue) {
  struct mci_mpi_parcel* parcel = queue->first;
  if (!parcel) return NULL;
  queue->first = parcel->next;
  if (!queue->first) queue->end = &queue->first;
  queue->length--;
  return parcel;
}

bool mci_mpi_complete(struct mci_mpi_parcel* parcel) {
  int done = 1;
  if (parcel->request != MPI_REQUEST_NULL) MPI_Test(&parcel->request, &done, MPI_STATUS_IGNORE);
  return done != 0;
}

/* Processes of one job see the same values; MPI itself has no name for a job. */
static uint64_t job_number(int nranks) {
  static const char* const names[] = {"PMIX_NAMESPACE", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"};
  uint64_t hash = 0xcbf29ce484222325u ^ (uint64_t)nranks;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    for (const char* c = getenv(names[i]); c && *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
  return hash;
}

static void join_once(void) {
  int *bound, found;
  MPI_Comm_rank(MPI_COMM_WORLD, &process.shared.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &process.shared.nranks);
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &bound, &found);
  process.shared.lastTag = found ? *bound : 32767;
  process.shared.job = job_number(process.shared.nranks);
  process.shared.comm = MPI_COMM_NULL;
  MPI_Comm_idup(MPI_COMM_WORLD, &process.shared.comm, &process.duplication);
  mci_mpi_queue_init(&process.orphans);
  process.joined = true;
}

meshcclResult_t mci_mpi_join(struct mci_mpi_process* out, int* tag, const char** why) {
  int initialized = 0, finalized = 0, level = MPI_THREAD_SINGLE;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (!initialized || finalized) {
    *why = "mpi: MPI is not running; call MPI_Init_thread before the first communicator is made";
    return meshcclNotSupported;
  }
  MPI_Query_thread(&level);
  if (level < MPI_THREAD_SERIALIZED) {
    *why = "mpi: MPI was started without threads; ask MPI_Init_thread for MPI_THREAD_SERIALIZED or more";
    return meshcclNotSupported;
  }
  mci_mpi_lock();
  if (!process.joined) join_once();
  bool tags_left = process.tags <= process.shared.lastTag;
  *tag = process.tags;
  if (tags_left) process.tags++;
  *out = process.shared;
  mci_mpi_unlock();
  if (tags_left) return meshcclSuccess;
  *why = "mpi: this process has opened as many contexts as MPI has tags";
  return meshcclNotSupported;
}

bool mci_mpi_ready(struct mci_mpi_process* out) {
  if (!process.ready) {
    int done = 0;
    MPI_Test(&process.duplication, &done, MPI_STATUS_IGNORE);
    if (!done) return false;
    MPI_Comm_set_errhandler(process.shared.comm, MPI_ERRORS_RETURN);
    process.ready = true;
  }
  out->comm = process.shared.comm;
  return true;
}

void mci_mpi_adopt(struct mci_mpi_queue* queue) {
  struct mci_mpi_parcel* parcel;
  while ((parcel = mci_mpi_queue_take(queue)) != NULL) mci_mpi_queue_add(&process.orphans, parcel);
}

void mci_mpi_sweep(void) {
  for (int n = process.orphans.length; n > 0; n--) {
    struct mci_mpi_parcel* parcel = mci_mpi_queue_take(&process.orphans);
    if (mci_mpi_complete(parcel))
      free(parcel);
    else
      mci_mpi_queue_add(&process.orphans, parcel);
  }
}
