/* Any bytes, read as what the tcp transport takes from strangers and peers: an address, a hello, a frame. What a reader
 * accepts the writer makes again, byte for byte, and lengths are within what was agreed. */
#include <stdlib.h>
#include <string.h>

#include "transports/tcp/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

static void require(bool holds) {
  if (!holds) abort();
}

static void address(const uint8_t* data, size_t size) {
  struct mci_tcp_address read;
  unsigned char again[MCI_TCP_ADDRESS_MAX];
  char text[MCI_TCP_TEXT];
  if (!mci_tcp_address_read(data, size, &read)) return;
  require(read.n >= 1 && read.n <= MESHCCL_MAX_NET_ADDRESSES && read.rank < read.nranks);
  for (int i = 0; i < read.n; i++) mci_tcp_print(&read.at[i], text);
  require(mci_tcp_address_write(&read, again) == size && memcmp(again, data, size) == 0);
}

static void hello(const uint8_t* data, size_t size) {
  struct mci_tcp_hello read;
  unsigned char again[MCI_TCP_HELLO];
  if (size < MCI_TCP_HELLO || !mci_tcp_hello_read(data, &read)) return;
  mci_tcp_hello_write(&read, again);
  require(memcmp(again, data, sizeof again) == 0);
}

static void prefix(const uint8_t* data, size_t size) {
  unsigned char again[MCI_TCP_PREFIX];
  uint32_t bytes;
  int kind;
  if (size < MCI_TCP_PREFIX || !mci_tcp_prefix_read(data, &kind, &bytes)) return;
  require(bytes <= MCI_TCP_MAX_PAYLOAD && (kind != MCI_TCP_GOODBYE || bytes == 0));
  mci_tcp_prefix_write(again, kind, bytes);
  require(memcmp(again, data, sizeof again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  address(data, size);
  hello(data, size);
  prefix(data, size);
  return 0;
}
