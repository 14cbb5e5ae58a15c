/* Shared memory, within a process and between processes. */
#include "suite/suite.h"
#include "transport/builtin.h"

CONFORMANCE(.transport = &mci_transport_shm, .traits = SUITE_THREADS | SUITE_FORK)
