/* The tables of the transports that are linked into the library. Only the registry includes this. */
#ifndef MCI_TRANSPORT_BUILTIN_H
#define MCI_TRANSPORT_BUILTIN_H

#include "meshccl/transport.h"

extern const meshcclTransport_t mci_transport_self, mci_transport_shm;
#endif
