/* TCP over loopback, within a process and between processes. */
#include "suite/suite.h"
#include "transport/builtin.h"

CONFORMANCE(.transport = &mci_transport_tcp, .traits = SUITE_THREADS | SUITE_FORK)
