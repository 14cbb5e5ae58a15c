/* The in-memory test transport is a transport. */
#include "suite/suite.h"
#include "support/transport_memory.h"

CONFORMANCE(.transport = &mci_test_transport_memory, .traits = SUITE_THREADS)
