/* A transport between threads of one process, for the tests of what stands above transports. Simple rather than fast:
 * one lock for all contexts, queues of four messages per direction so that Busy is an everyday answer.
 *
 * MESHCCL_TEST_MEMORY, asked from the host at open, is a list of:
 *   places   payloads go into places of the host; received() comes in a later progress() than arrive(), in reverse
 * order lend     sends of a payload return InProgress, and the receiver copies from the sender's memory depth=N
 * messages per queue, 1..64 poll     no descriptor to sleep on, an interval instead */
#ifndef MCI_TEST_TRANSPORT_MEMORY_H
#define MCI_TEST_TRANSPORT_MEMORY_H

#include "meshccl/transport.h"

extern const meshcclTransport_t mci_test_transport_memory;
#endif
