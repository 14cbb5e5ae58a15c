/* Who may join: both ends of a new connection prove that they know the id's secret, by a keyed hash over both nonces,
 * both ranks, the role and the id's name; and where a rank listens on its host. Nothing secret travels. Pure functions. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "boot/control.h"

void mci_auth_nonce(unsigned char nonce[32]) { randombytes_buf(nonce, 32); }

void mci_auth_prove(const mci_id* id, mci_proof_role role, int listener, int joiner,
                    const unsigned char listener_nonce[32], const unsigned char joiner_nonce[32],
                    unsigned char proof[32]) {
  int32_t numbers[3] = {(int32_t)role, listener, joiner};
  crypto_generichash_state state;
  crypto_generichash_init(&state, mci_id_secret(id), 32, 32);
  crypto_generichash_update(&state, mci_id_name(id), 32);
  crypto_generichash_update(&state, (const unsigned char*)numbers, sizeof numbers);
  crypto_generichash_update(&state, listener_nonce, 32);
  crypto_generichash_update(&state, joiner_nonce, 32);
  crypto_generichash_final(&state, proof, 32);
}

bool mci_auth_equal(const unsigned char a[32], const unsigned char b[32]) { return sodium_memcmp(a, b, 32) == 0; }

void mci_auth_hash(const mci_hello* hello, unsigned char hash[32]) {
  crypto_generichash(hash, 32, (const unsigned char*)hello, sizeof *hello, NULL, 0);
}

/* The name does not depend on the secret: two ranks with different secrets meet and can say what is wrong. */
void mci_auth_address(const mci_id* id, uint64_t host, int rank, struct sockaddr_un* out, socklen_t* length) {
  unsigned char input[32 + sizeof(uint32_t) + sizeof host], digest[16];
  uint32_t user = (uint32_t)geteuid();
  memcpy(input, mci_id_name(id), 32);
  memcpy(input + 32, &user, sizeof user);
  memcpy(input + 32 + sizeof user, &host, sizeof host);
  crypto_generichash(digest, sizeof digest, input, sizeof input, NULL, 0);
  char hex[33];
  sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
  memset(out, 0, sizeof *out);
  out->sun_family = AF_UNIX;
  int n = snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "meshccl-%s-%d", hex, rank);
  *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}
