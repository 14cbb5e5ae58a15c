/* Ids: 128 bytes that let the ranks of one communicator find each other (the name) and prove that they belong together
 * (the secret). The layout is magic, name, secret, whether the secret is one, where rank 0 listens (meeting.c), check
 * sum. Pure functions apart from the random source and the file of MESHCCL_SECRET_FILE. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/control.h"

#define NAME 8
#define SECRET 40
#define TRUSTED 72
#define CHECK 120
#define KEY_BYTES 32

static const unsigned char magic[8] = {'m', 'e', 's', 'h', 'i', 'd', 0, 1};

const unsigned char* mci_id_name(const mci_id* id) { return (const unsigned char*)id->bytes + NAME; }

const unsigned char* mci_id_secret(const mci_id* id) { return (const unsigned char*)id->bytes + SECRET; }

void mci_id_seal(mci_id* id) {
  memcpy(id->bytes, magic, sizeof magic);
  uint64_t check = mci_hash64(id->bytes, CHECK);
  for (int i = 0; i < 8; i++) id->bytes[CHECK + i] = (char)(check >> (8 * i));
}

meshcclResult_t mci_id_create(mci_id* out) {
  if (sodium_init() < 0) MCI_FAIL(meshcclSystemError, "libsodium found no source of random numbers");
  mci_id id = {{0}};
  randombytes_buf(id.bytes + NAME, 2 * KEY_BYTES);
  id.bytes[TRUSTED] = 1;
  mci_id_seal(&id);
  *out = id;
  return meshcclSuccess;
}

void mci_id_derive(const mci_id* parent, uint64_t a, uint64_t b, mci_id* out) {
  mci_id id = {{0}};
  unsigned char input[1 + 32 + 16];
  memcpy(input + 1, mci_id_name(parent), 32);
  for (int i = 0; i < 8; i++) {
    input[33 + i] = (unsigned char)(a >> (8 * i));
    input[41 + i] = (unsigned char)(b >> (8 * i));
  }
  for (int half = 0; half < 2; half++) {
    input[0] = (unsigned char)half;
    crypto_generichash((unsigned char*)id.bytes + (half ? SECRET : NAME), KEY_BYTES, input, sizeof input,
                       mci_id_secret(parent), KEY_BYTES);
  }
  id.bytes[TRUSTED] = parent->bytes[TRUSTED];
  mci_id_seal(&id);
  *out = id;
}

static meshcclResult_t read_secret_file(const char* path, char* out, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) MCI_FAIL(meshcclInvalidUsage, "MESHCCL_SECRET_FILE=%s cannot be read: %s", path, strerror(errno));
  struct stat info;
  bool lax = fstat(fd, &info) == 0 && (info.st_mode & 077) != 0;
  ssize_t n = read(fd, out, size - 1);
  close(fd);
  if (n < 0) MCI_FAIL(meshcclInvalidUsage, "MESHCCL_SECRET_FILE=%s cannot be read: %s", path, strerror(errno));
  while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == '\r')) n--;
  out[n] = 0;
  if (n == 0) MCI_FAIL(meshcclInvalidUsage, "MESHCCL_SECRET_FILE=%s is empty; put a line of random text there", path);
  if (lax) MCI_WARN("MESHCCL_SECRET_FILE=%s is open to other users; chmod 600 closes it", path);
  return meshcclSuccess;
}

meshcclResult_t mci_id_from_text(const char* text, mci_id* out) {
  if (sodium_init() < 0) MCI_FAIL(meshcclSystemError, "libsodium found no source of random numbers");
  char secret[4096] = "";
  const char* file = mci_env("MESHCCL_SECRET_FILE");
  const char* plain = mci_env("MESHCCL_SECRET");
  if (file) {
    MCI_TRY(read_secret_file(file, secret, sizeof secret));
  } else if (plain) {
    if (strlen(plain) >= sizeof secret)
      MCI_FAIL(meshcclInvalidUsage, "MESHCCL_SECRET is longer than %zu bytes", sizeof secret - 1);
    memcpy(secret, plain, strlen(plain) + 1);
  }
  mci_id id = {{0}};
  unsigned char key[KEY_BYTES];
  crypto_generichash(key, sizeof key, (const unsigned char*)secret, strlen(secret), NULL, 0);
  id.bytes[TRUSTED] = secret[0] != 0;
  sodium_memzero(secret, sizeof secret);
  crypto_generichash((unsigned char*)id.bytes + NAME, KEY_BYTES, (const unsigned char*)text, strlen(text), NULL, 0);
  crypto_generichash((unsigned char*)id.bytes + SECRET, KEY_BYTES, (const unsigned char*)text, strlen(text), key,
                     sizeof key);
  sodium_memzero(key, sizeof key);
  mci_id_seal(&id);
  *out = id;
  return meshcclSuccess;
}

meshcclResult_t mci_id_check(const mci_id* id) {
  mci_id again = *id;
  mci_id_seal(&again);
  if (memcmp(&again, id, sizeof again) != 0)
    MCI_FAIL(meshcclInvalidArgument, "the id was not made by meshccl, or not all of its %d bytes arrived",
             MCI_ID_BYTES);
  return meshcclSuccess;
}

void mci_id_mac(const mci_id* id, const char* purpose, const void* data, size_t bytes, unsigned char out[32]) {
  crypto_generichash_state state;
  crypto_generichash_init(&state, mci_id_secret(id), KEY_BYTES, 32);
  crypto_generichash_update(&state, mci_id_name(id), KEY_BYTES);
  crypto_generichash_update(&state, (const unsigned char*)purpose, strlen(purpose) + 1);
  crypto_generichash_update(&state, data, bytes);
  crypto_generichash_final(&state, out, 32);
}

bool mci_id_trusted(const mci_id* id) { return id->bytes[TRUSTED] != 0; }

void mci_id_print(const mci_id* id, mci_str* out) {
  char text[2 * MCI_ID_BYTES + 1];
  sodium_bin2hex(text, sizeof text, (const unsigned char*)id->bytes, MCI_ID_BYTES);
  mci_str_add(out, "%s", text);
}

meshcclResult_t mci_id_parse(const char* text, mci_id* out) {
  mci_id id;
  size_t bytes = 0;
  const char* end = NULL;
  if (sodium_hex2bin((unsigned char*)id.bytes, MCI_ID_BYTES, text, strlen(text), NULL, &bytes, &end) != 0 ||
      bytes != MCI_ID_BYTES || *end)
    MCI_FAIL(meshcclInvalidArgument, "an id is %d hexadecimal digits; this text of %zu characters is none",
             2 * MCI_ID_BYTES, strlen(text));
  MCI_TRY(mci_id_check(&id));
  *out = id;
  return meshcclSuccess;
}
