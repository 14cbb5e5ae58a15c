/* IP addresses of this host, and listening there under one policy for the control tree and the transports: which
 * interfaces (MESHCCL_SOCKET_IFNAME), families (MESHCCL_SOCKET_FAMILY) and ports (MESHCCL_PORT_RANGE) may be used, and
 * that nothing but loopback listens where no secret guards it (MESHCCL_AUTH). Nothing here blocks or keeps state. */
#ifndef MCI_NET_H
#define MCI_NET_H

#include <netinet/in.h>

#include "base/base.h"
#include "meshccl/transport.h"

#define MCI_NET_MAX MESHCCL_MAX_NET_ADDRESSES

typedef struct {
  int n;
  meshcclNetAddress_t at[MCI_NET_MAX];
} mci_net_addresses;

/* The addresses by which peers may reach this host, best first: interfaces that are up and allowed, global before
 * site-local, IPv4 and IPv6 by MESHCCL_SOCKET_FAMILY; loopback only when named or when nothing else is there. Ports are 0.
 * The prefix is that of the interface's subnet.
 * InvalidUsage when MESHCCL_SOCKET_IFNAME leaves nothing: names it and lists the interfaces that there are. */
meshcclResult_t mci_net_local(mci_net_addresses* out);
bool mci_net_is_loopback(const meshcclNetAddress_t* address);
bool mci_net_is_link_local(const meshcclNetAddress_t* address);

/* A listening socket (non-blocking, close-on-exec) on a free port of MESHCCL_PORT_RANGE (unset: any), or on `port` when
 * that is not 0; *out is where peers reach it. trusted: peers must prove that they know a secret before anything else.
 * Without that only loopback is bound; if MESHCCL_SOCKET_IFNAME asks for more it is an InvalidUsage that names
 * MESHCCL_SECRET_FILE and MESHCCL_AUTH=none (which lifts the rule).
 * InvalidUsage: port or whole range in use (named). */
meshcclResult_t mci_net_listen(bool trusted, uint16_t port, int* fd_out, mci_net_addresses* out);
/* The next connection: non-blocking, close-on-exec, TCP_NODELAY, under the system's congestion control or, within this
 * system, Reno; -1: none, and errno says why (EAGAIN, EMFILE ...). Connections that came in by an address that
 * mci_net_listen did not hand out (a wildcard socket hears more) are closed and skipped. */
int mci_net_accept(int listen_fd, const mci_net_addresses* allowed);
/* Begins to connect (the same options). -1 with errno when the address cannot be reached. */
int mci_net_connect(const meshcclNetAddress_t* to);

/* "10.0.0.1:4711", "[fe80::1%eth0]:4711". */
void mci_net_print(const meshcclNetAddress_t* address, char* text, size_t size);
/* Resolves "host:port", "[ipv6]:port" or a host with a port given apart; may block in the resolver. InvalidUsage names
 * the text and the cause. */
meshcclResult_t mci_net_resolve(const char* host, uint16_t port, mci_net_addresses* out);
/* Fixed-size wire form (24 bytes each, network byte order) for ids and frames. Unpack refuses what pack never makes. */
#define MCI_NET_PACKED_BYTES 24
void mci_net_pack(const meshcclNetAddress_t* address, unsigned char out[MCI_NET_PACKED_BYTES]);
bool mci_net_unpack(const unsigned char in[MCI_NET_PACKED_BYTES], meshcclNetAddress_t* out);

/* Tells hosts apart: a hash of MESHCCL_HOST_ID, or of boot id and network namespace, so that namespaces count as hosts.
 * Never 0. */
uint64_t mci_host_id(void);
/* What people call this host: MESHCCL_HOST_ID or the host name. */
void mci_host_name(char* text, size_t size);
#endif
