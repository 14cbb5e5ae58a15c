/* A small generator (Weyl sequence with the finalizer of MurmurHash3): the same numbers on every rank and machine. */
#ifndef PERF_RANDOM_H
#define PERF_RANDOM_H

#include <stdint.h>

static inline uint64_t perf_random(uint64_t* state) {
  uint64_t x = *state += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
  return x ^ x >> 33;
}
#endif
