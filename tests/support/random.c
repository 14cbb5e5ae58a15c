/* Seeds that are printed and settable, the generator behind random tests, and how long tests may take. */
#include <stdatomic.h>

#include "support/test.h"

uint64_t test_seed(void) {
  static _Atomic uint64_t seed; /* ranks that are threads ask too */
  uint64_t known = atomic_load(&seed);
  if (known != 0) return known;
  const char* text = mci_env("MESHCCL_TESTS_SEED");
  uint64_t fresh = text ? strtoull(text, NULL, 0) : mci_now_ns() | 1;
  if (!atomic_compare_exchange_strong(&seed, &known, fresh)) return known;
  print_message("seed: MESHCCL_TESTS_SEED=%llu\n", (unsigned long long)fresh);
  return fresh;
}

bool test_long(void) { return mci_env("MESHCCL_TESTS_LONG") != NULL; }

uint64_t test_random(uint64_t* state) {
  *state += 0x9e3779b97f4a7c15u;
  uint64_t x = *state;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
