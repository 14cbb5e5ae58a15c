/* The tables of the transports that are linked into the library. Only the registry includes this. */
#ifndef MCI_TRANSPORT_BUILTIN_H
#define MCI_TRANSPORT_BUILTIN_H

#include "meshccl/transport.h"

extern const meshcclTransport_t mci_transport_self, mci_transport_shm, mci_transport_tcp;
#ifdef MESHCCL_HAVE_UCX
extern const meshcclTransport_t mci_transport_ucx;
#endif
#ifdef MESHCCL_HAVE_MPI
extern const meshcclTransport_t mci_transport_mpi;
#endif
#endif
