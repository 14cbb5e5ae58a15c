/* PMIx, the service by which mpirun, prun and srun tell processes who they are and let them exchange data: used through
 * libpmix.so.2, opened at run time, so that neither building nor running needs it. Only env.c calls this. */
#ifndef MCI_PMIX_H
#define MCI_PMIX_H

#include "boot/boot.h"

/* Whether a PMIx launcher started this process; says nothing of the library. */
bool mci_pmix_started(void);

/* Rank, size, local rank and local size from the server, and an id that rank 0 makes with `make` and all others get.
 * Collective over the job. NotSupported when there is no library or its server does not answer: then nothing was
 * exchanged, on this rank at least. Afterwards the library is finalized, unless somebody else in the process (MPI) has it
 * open; Open MPI 4 cannot initialize after that, so MPI_Init comes first in programs that use both. */
meshcclResult_t mci_pmix_meet(meshcclResult_t (*make)(mci_id* out), mci_boot_env* out);
#endif
