/* Stable 64-bit hashes for fingerprints and digests (SipHash of libsodium under a fixed key). Not for secrets. */
#include <sodium.h>
#include <string.h>

#include "base/base.h"

uint64_t mci_hash64(const void* data, size_t bytes) {
  static const unsigned char key[crypto_shorthash_KEYBYTES] = "meshccl-fixed-k";
  unsigned char digest[crypto_shorthash_BYTES];
  crypto_shorthash(digest, data, bytes, key);
  uint64_t value = 0;
  for (unsigned i = 0; i < crypto_shorthash_BYTES; i++) value |= (uint64_t)digest[i] << (8 * i);
  return value;
}

uint64_t mci_hash64_mix(uint64_t a, uint64_t b) {
  unsigned char bytes[16];
  for (unsigned i = 0; i < 8; i++) {
    bytes[i] = (unsigned char)(a >> (8 * i));
    bytes[8 + i] = (unsigned char)(b >> (8 * i));
  }
  return mci_hash64(bytes, sizeof bytes);
}

void mci_random(void* out, size_t bytes) { randombytes_buf(out, bytes); }
