/* The in-memory test transport with every asynchronous path: lent sends, places filled later, no descriptor. */
#include "suite/suite.h"
#include "support/transport_memory.h"

CONFORMANCE(.transport = &mci_test_transport_memory, .variant = "places", .parameter = "TEST_MEMORY",
            .value = "places,lend,depth=3,poll", .traits = SUITE_THREADS)
