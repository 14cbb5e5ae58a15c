/* Between net.c and net_text.c: addresses as the system has them. */
#ifndef MCI_NET_SOCKADDR_H
#define MCI_NET_SOCKADDR_H

#include <sys/socket.h>

#include "base/net.h"

/* False when it is neither IPv4 nor IPv6. An IPv4 address mapped into IPv6 becomes IPv4. */
bool mci_net_from_sockaddr(const struct sockaddr* from, meshcclNetAddress_t* out);
socklen_t mci_net_to_sockaddr(const meshcclNetAddress_t* from, struct sockaddr_storage* out);
#endif
