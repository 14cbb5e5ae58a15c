/* UCX is a transport. */
#include "suite/suite.h"

#ifdef MESHCCL_HAVE_UCX
extern const meshcclTransport_t mci_transport_ucx;

CONFORMANCE(.transport = &mci_transport_ucx, .traits = SUITE_THREADS | SUITE_FORK)
#else
int main(void) { return suite_skip("ucx", "this build has no UCX; configure with -DMESHCCL_UCX=ON and install it"); }
#endif
