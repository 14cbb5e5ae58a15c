/* A rank to itself. */
#include "suite/suite.h"
#include "transport/builtin.h"

CONFORMANCE(.transport = &mci_transport_self, .traits = SUITE_SELF_ONLY)
