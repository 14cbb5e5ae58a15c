/* Registry of transports: built-ins and plugins enter through the same function; missing optional slots become stubs that
 * return NotSupported, so that no caller tests for NULL. */
#ifndef MCI_TRANSPORT_REGISTRY_H
#define MCI_TRANSPORT_REGISTRY_H

#include "base/base.h"
#include "meshccl/transport.h"

/* Copies the table. InvalidArgument: ABI number (both are named), missing required slot, name taken, table full. */
meshcclResult_t mci_transport_register(const meshcclTransport_t* transport);
/* Registers the built-ins (once) and loads MESHCCL_PLUGIN (absolute paths only). */
meshcclResult_t mci_transport_load(void);
/* The transports in use, in order of preference: all, or as MESHCCL_TRANSPORTS says ("shm,self", "^ucx"). Unknown names
 * are an InvalidArgument that lists the known ones. Under MESHCCL_FAULT the tables are those that make the faults.
 * Pointers live for ever. */
meshcclResult_t mci_transport_list(const meshcclTransport_t** out, uint32_t* n, uint32_t cap);
/* All that are registered, allowed by MESHCCL_TRANSPORTS or not; returns how many there are. */
uint32_t mci_transport_all(const meshcclTransport_t** out, uint32_t cap);
/* Whether it is linked into this library, rather than a plugin. */
bool mci_transport_is_builtin(const meshcclTransport_t* transport);
#endif
