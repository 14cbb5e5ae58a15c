/* What the tcp transport puts on wires and into addresses, as bytes of fixed size in network byte order. Pure functions:
 * whatever a reader accepts, the writer makes again (tests/fuzz/fuzz_tcp.c). */
#ifndef MCI_TCP_WIRE_H
#define MCI_TCP_WIRE_H

#include <stdbool.h>

#include "meshccl/transport.h"

#define MCI_TCP_TOKEN 16
#define MCI_TCP_NONCE 32
#define MCI_TCP_PREFIX 8 /* before the message's own header: kind, three zeros, length of the payload */
#define MCI_TCP_FRAME (MCI_TCP_PREFIX + MESHCCL_HEADER_BYTES)
#define MCI_TCP_MAX_PAYLOAD ((uint32_t)16 << 20)

/* Both kinds take MCI_TCP_FRAME bytes; after GOODBYE the sender sends nothing more. */
enum { MCI_TCP_MESSAGE = 1, MCI_TCP_GOODBYE = 2 };
void mci_tcp_prefix_write(unsigned char out[MCI_TCP_PREFIX], int kind, uint32_t bytes);
bool mci_tcp_prefix_read(const unsigned char in[MCI_TCP_PREFIX], int* kind, uint32_t* bytes);

struct mci_tcp_address {
  uint64_t host;
  uint32_t rank, nranks;
  unsigned char token[MCI_TCP_TOKEN]; /* names the context */
  int n;
  meshcclNetAddress_t at[MESHCCL_MAX_NET_ADDRESSES];
};
#define MCI_TCP_ADDRESS_MAX (48 + 24 * MESHCCL_MAX_NET_ADDRESSES)
size_t mci_tcp_address_write(const struct mci_tcp_address* address, unsigned char out[MCI_TCP_ADDRESS_MAX]);
bool mci_tcp_address_read(const void* in, size_t bytes, struct mci_tcp_address* out);

/* The handshake: hello, challenge, proof, accepted. The dialler may send messages after "accepted" only. */
struct mci_tcp_hello {
  uint32_t from, to;
  unsigned char from_token[MCI_TCP_TOKEN], to_token[MCI_TCP_TOKEN], nonce[MCI_TCP_NONCE];
};
#define MCI_TCP_HELLO (16 + 2 * MCI_TCP_TOKEN + MCI_TCP_NONCE)
#define MCI_TCP_CHALLENGE (MCI_TCP_NONCE + MESHCCL_MAC_BYTES) /* the listener's nonce and proof */
#define MCI_TCP_PROOF MESHCCL_MAC_BYTES
#define MCI_TCP_ACCEPTED 8
extern const unsigned char mci_tcp_accepted[MCI_TCP_ACCEPTED];
void mci_tcp_hello_write(const struct mci_tcp_hello* hello, unsigned char out[MCI_TCP_HELLO]);
bool mci_tcp_hello_read(const unsigned char in[MCI_TCP_HELLO], struct mci_tcp_hello* out);

/* What a proof is the keyed hash of: who proves, the whole hello and the listener's nonce. */
enum { MCI_TCP_LISTENER = 1, MCI_TCP_DIALLER = 2 };
#define MCI_TCP_CLAIM (1 + MCI_TCP_HELLO + MCI_TCP_NONCE)
void mci_tcp_claim_write(int role, const unsigned char hello[MCI_TCP_HELLO], const unsigned char nonce[MCI_TCP_NONCE],
                         unsigned char out[MCI_TCP_CLAIM]);
/* In a time that does not tell where they differ. */
bool mci_tcp_equal(const unsigned char* a, const unsigned char* b, size_t bytes);

#define MCI_TCP_TEXT 80
void mci_tcp_print(const meshcclNetAddress_t* address, char text[MCI_TCP_TEXT]);
#endif
