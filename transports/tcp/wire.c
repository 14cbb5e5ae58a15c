/* See wire.h. */
#include "wire.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const unsigned char address_magic[8] = {'m', 's', 'h', 't', 'c', 'p', 'a', 1};
static const unsigned char hello_magic[8] = {'m', 's', 'h', 't', 'c', 'p', 'h', 1};
const unsigned char mci_tcp_accepted[MCI_TCP_ACCEPTED] = {'m', 's', 'h', 't', 'c', 'p', 'k', 1};

static void put(unsigned char* out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) out[i] = (unsigned char)(value >> (8 * (bytes - 1 - i)));
}

static uint64_t get(const unsigned char* in, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; i++) value = value << 8 | in[i];
  return value;
}

void mci_tcp_prefix_write(unsigned char out[MCI_TCP_PREFIX], int kind, uint32_t bytes) {
  put(out, (uint64_t)kind << 24, 4);
  put(out + 4, bytes, 4);
}

bool mci_tcp_prefix_read(const unsigned char in[MCI_TCP_PREFIX], int* kind, uint32_t* bytes) {
  uint32_t first = (uint32_t)get(in, 4), length = (uint32_t)get(in + 4, 4);
  if ((first & 0xffffff) || length > MCI_TCP_MAX_PAYLOAD) return false;
  int k = (int)(first >> 24);
  if (k != MCI_TCP_MESSAGE && (k != MCI_TCP_GOODBYE || length != 0)) return false;
  *kind = k;
  *bytes = length;
  return true;
}

/* ---- addresses: magic, host, rank, nranks, token, n, seven zeros, n times 24 bytes ---- */

static void place_write(const meshcclNetAddress_t* at, unsigned char out[24]) {
  put(out, at->family, 1);
  put(out + 1, 0, 1);
  put(out + 2, at->port, 2);
  put(out + 4, at->scope, 4);
  memcpy(out + 8, at->bytes, 16);
}

static bool place_read(const unsigned char in[24], meshcclNetAddress_t* out) {
  static const uint8_t zeros[12];
  meshcclNetAddress_t at = {.family = in[0], .port = (uint16_t)get(in + 2, 2), .scope = (uint32_t)get(in + 4, 4)};
  memcpy(at.bytes, in + 8, 16);
  if ((at.family != 4 && at.family != 6) || in[1] || at.port == 0) return false;
  if (at.family == 4 && (at.scope || memcmp(at.bytes + 4, zeros, sizeof zeros) != 0)) return false;
  *out = at;
  return true;
}

size_t mci_tcp_address_write(const struct mci_tcp_address* address, unsigned char out[MCI_TCP_ADDRESS_MAX]) {
  memcpy(out, address_magic, 8);
  put(out + 8, address->host, 8);
  put(out + 16, address->rank, 4);
  put(out + 20, address->nranks, 4);
  memcpy(out + 24, address->token, MCI_TCP_TOKEN);
  put(out + 40, (uint64_t)address->n << 56, 8);
  for (int i = 0; i < address->n; i++) place_write(&address->at[i], out + 48 + 24 * i);
  return 48 + 24 * (size_t)address->n;
}

bool mci_tcp_address_read(const void* opaque, size_t bytes, struct mci_tcp_address* out) {
  const unsigned char* in = opaque;
  if (bytes < 48 || memcmp(in, address_magic, 8) != 0) return false;
  struct mci_tcp_address a = {
      .host = get(in + 8, 8), .rank = (uint32_t)get(in + 16, 4), .nranks = (uint32_t)get(in + 20, 4), .n = in[40]};
  memcpy(a.token, in + 24, MCI_TCP_TOKEN);
  if (get(in + 41, 7) || a.n < 1 || a.n > MESHCCL_MAX_NET_ADDRESSES || bytes != 48 + 24 * (size_t)a.n) return false;
  if (a.rank >= a.nranks) return false;
  for (int i = 0; i < a.n; i++)
    if (!place_read(in + 48 + 24 * i, &a.at[i])) return false;
  *out = a;
  return true;
}

/* ---- the handshake ---- */

void mci_tcp_hello_write(const struct mci_tcp_hello* hello, unsigned char out[MCI_TCP_HELLO]) {
  memcpy(out, hello_magic, 8);
  put(out + 8, hello->from, 4);
  put(out + 12, hello->to, 4);
  memcpy(out + 16, hello->from_token, MCI_TCP_TOKEN);
  memcpy(out + 16 + MCI_TCP_TOKEN, hello->to_token, MCI_TCP_TOKEN);
  memcpy(out + 16 + 2 * MCI_TCP_TOKEN, hello->nonce, MCI_TCP_NONCE);
}

bool mci_tcp_hello_read(const unsigned char in[MCI_TCP_HELLO], struct mci_tcp_hello* out) {
  if (memcmp(in, hello_magic, 8) != 0) return false;
  out->from = (uint32_t)get(in + 8, 4);
  out->to = (uint32_t)get(in + 12, 4);
  memcpy(out->from_token, in + 16, MCI_TCP_TOKEN);
  memcpy(out->to_token, in + 16 + MCI_TCP_TOKEN, MCI_TCP_TOKEN);
  memcpy(out->nonce, in + 16 + 2 * MCI_TCP_TOKEN, MCI_TCP_NONCE);
  return true;
}

void mci_tcp_claim_write(int role, const unsigned char hello[MCI_TCP_HELLO], const unsigned char nonce[MCI_TCP_NONCE],
                         unsigned char out[MCI_TCP_CLAIM]) {
  out[0] = (unsigned char)role;
  memcpy(out + 1, hello, MCI_TCP_HELLO);
  memcpy(out + 1 + MCI_TCP_HELLO, nonce, MCI_TCP_NONCE);
}

bool mci_tcp_equal(const unsigned char* a, const unsigned char* b, size_t bytes) {
  volatile unsigned char difference = 0;
  for (size_t i = 0; i < bytes; i++) difference |= (unsigned char)(a[i] ^ b[i]);
  return difference == 0;
}

void mci_tcp_print(const meshcclNetAddress_t* address, char text[MCI_TCP_TEXT]) {
  char number[INET6_ADDRSTRLEN] = "?";
  inet_ntop(address->family == 4 ? AF_INET : AF_INET6, address->bytes, number, sizeof number);
  snprintf(text, MCI_TCP_TEXT, address->family == 4 ? "%s:%u" : "[%s]:%u", number, address->port);
}
