/* The slots of a transport's host that concern networks, for tests: loopback only, and a secret of the test's choice. */
#ifndef TEST_NET_HOST_H
#define TEST_NET_HOST_H

#include "meshccl/transport.h"

/* Fills hostId, random, listen, accept and dial; mac is under the secret "test" unless it is set. */
void test_net_host(meshcclTransportHost_t* host);
/* A keyed hash under any secret, for a mac slot of one's own. */
void test_net_mac(const char* secret, const char* purpose, const void* data, size_t bytes,
                  unsigned char out[MESHCCL_MAC_BYTES]);
#endif
