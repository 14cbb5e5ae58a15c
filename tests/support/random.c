/* Seeds that are printed and settable, the generator behind random tests, and how long tests may take. */
#include "support/test.h"

uint64_t test_seed(void) {
  static uint64_t seed;
  if (seed == 0) {
    const char* text = mci_env("MESHCCL_TESTS_SEED");
    seed = text ? strtoull(text, NULL, 0) : mci_now_ns() | 1;
    print_message("seed: MESHCCL_TESTS_SEED=%llu\n", (unsigned long long)seed);
  }
  return seed;
}

bool test_long(void) { return mci_env("MESHCCL_TESTS_LONG") != NULL; }

uint64_t test_random(uint64_t* state) {
  *state += 0x9e3779b97f4a7c15u;
  uint64_t x = *state;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
