/* Inside the MPI transport. A message is one MPI message, wire header and payload together, sent from and received into
 * memory of the transport: MPI never gives memory back before its peer has acted, so none of the host's may be lent. */
#ifndef MCI_MPI_H
#define MCI_MPI_H

#include <mpi.h>
#include <stdbool.h>

#include "meshccl/transport.h"

#define MCI_MPI_MAX_PAYLOAD 262144
#define MCI_MPI_MAX_SENDS 32    /* per endpoint */
#define MCI_MPI_MAX_RECEIVES 64 /* per context */

struct mci_mpi_wire {
  uint64_t from, to; /* ids of contexts */
  unsigned char header[MESHCCL_HEADER_BYTES];
};

/* A message that MPI works on, or that waits for its endpoint. */
struct mci_mpi_parcel {
  struct mci_mpi_parcel* next;
  MPI_Request request; /* MPI_REQUEST_NULL: complete */
  size_t bytes;        /* of payload, which follows the wire header */
  struct mci_mpi_wire wire;
  unsigned char payload[];
};

struct mci_mpi_queue {
  struct mci_mpi_parcel* first;
  struct mci_mpi_parcel** end;
  int length;
};

/* What all contexts of the process share, because MPI does: the communicator that keeps our messages apart from the
 * application's, and one lock, so that MPI_THREAD_SERIALIZED is enough. */
struct mci_mpi_process {
  MPI_Comm comm;
  int rank, nranks, lastTag;
  uint64_t job; /* differs between jobs, as far as the launcher's variables do */
};

/* Joins MPI. NotSupported with *why when MPI is not running or has no threads. `tag` is the context's own. */
meshcclResult_t mci_mpi_join(struct mci_mpi_process* out, int* tag, const char** why);
/* Every MPI call stands between these two. */
void mci_mpi_lock(void);
void mci_mpi_unlock(void);
/* With the lock: whether the communicator is there; it is made in the background by all processes of the job. */
bool mci_mpi_ready(struct mci_mpi_process* process);
/* With the lock: takes over parcels that MPI still works on when their context goes, and frees those that are through.
 */
void mci_mpi_adopt(struct mci_mpi_queue* queue);
void mci_mpi_sweep(void);

void mci_mpi_queue_init(struct mci_mpi_queue* queue);
void mci_mpi_queue_add(struct mci_mpi_queue* queue, struct mci_mpi_parcel* parcel);
struct mci_mpi_parcel* mci_mpi_queue_take(struct mci_mpi_queue* queue);
/* With the lock. */
bool mci_mpi_complete(struct mci_mpi_parcel* parcel);
#endif
