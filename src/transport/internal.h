/* Shared by the files of the registry. The table in mci_globals is guarded by plugins_lock, not by the general lock: an
 * error is logged while it is held, and the log takes the general lock. */
#ifndef MCI_TRANSPORT_INTERNAL_H
#define MCI_TRANSPORT_INTERNAL_H

#include "base/base.h"
#include "meshccl/transport.h"

/* Both want plugins_lock to be held. */
meshcclResult_t mci_transport_add(const meshcclTransport_t* transport);
/* The same code under the same name: a second registration of one transport, not two that collide. */
bool mci_transport_has(const meshcclTransport_t* transport);

/* Fills the optional slots that are NULL. */
void mci_transport_fill_stubs(meshcclTransport_t* table);
#endif
