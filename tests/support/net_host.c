/* See net_host.h. The hash is one of the library, keyed by what stands in front of the data. */
#include "support/net_host.h"

#include <string.h>

#include "base/net.h"
#include "boot/boot.h"

void test_net_mac(const char* secret, const char* purpose, const void* data, size_t bytes,
                  unsigned char out[MESHCCL_MAC_BYTES]) {
  mci_id id = {{0}};
  size_t n = strlen(secret);
  memcpy(id.bytes + 40, secret, MCI_MIN(n, (size_t)32));
  mci_id_mac(&id, purpose, data, bytes, out);
}

static void keyed_hash(void* self, const char* purpose, const void* data, size_t bytes,
                       unsigned char out[MESHCCL_MAC_BYTES]) {
  (void)self;
  test_net_mac("test", purpose, data, bytes, out);
}

static void random_bytes(void* self, void* out, size_t bytes) {
  (void)self;
  mci_random(out, bytes);
}

static meshcclResult_t listen_here(void* self, int* fd, meshcclNetAddress_t* addresses, int* n) {
  (void)self;
  mci_net_addresses list;
  MCI_TRY(mci_net_listen(false, 0, fd, &list));
  *n = MCI_MIN(*n, list.n);
  memcpy(addresses, list.at, (size_t)*n * sizeof *addresses);
  return meshcclSuccess;
}

static int accept_next(void* self, int fd, const meshcclNetAddress_t* addresses, int n) {
  (void)self;
  mci_net_addresses list = {.n = n};
  memcpy(list.at, addresses, (size_t)n * sizeof *addresses);
  return mci_net_accept(fd, &list);
}

static int dial(void* self, const meshcclNetAddress_t* to) {
  (void)self;
  return mci_net_connect(to);
}

void test_net_host(meshcclTransportHost_t* host) {
  host->hostId = mci_host_id();
  if (!host->mac) host->mac = keyed_hash;
  host->random = random_bytes;
  host->listen = listen_here;
  host->accept = accept_next;
  host->dial = dial;
}
