/* The set for x86 processors with AVX-512 (F, BW, DQ, VL). Compiled with these options; called only where runs_here
 * said yes. The bfloat16 instructions are not used: they flush subnormals, so their bits differ. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define VECTOR_BYTES 64
#define HALF_WIDEN(from) _mm512_cvtph_ps(_mm256_loadu_si256((const void*)(from)))
#define HALF_NARROW(low, high)                                                                \
  _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT)), \
                     _mm512_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT), 1)
#include "kernels/vector_kernels.h"

static bool runs_here(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const mci_kernel_set mci_kernels_avx512 = {.name = "avx512", .runs_here = runs_here, .kernels = KERNELS};
#endif
