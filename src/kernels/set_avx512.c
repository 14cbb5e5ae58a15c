/* The set for x86 processors with AVX-512 (F, BW, DQ, VL). Compiled with these options; called only where runs_here
 * said yes. The bfloat16 instructions are not used: they flush subnormals, so their bits differ. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define VECTOR_BYTES 64
/* One instruction each: quiet and signalling NaNs (classes 0 and 1 of the table) take the first operand, the rest the
 * second. */
#define CANONICAL_F32(x) \
  ((vec_f32)_mm512_fixupimm_ps((__m512)all_u32(0x7fc00000u), (__m512)(x), _mm512_set1_epi32(0x11111100), 0))
#define CANONICAL_F64(x)                                                                     \
  ((vec_f64)_mm512_fixupimm_pd((__m512d)all_u64(UINT64_C(0x7ff8000000000000)), (__m512d)(x), \
                               _mm512_set1_epi64(0x11111100), 0))
#define MAX_i8(a, b) _mm512_max_epi8((__m512i)(a), (__m512i)(b))
#define MIN_i8(a, b) _mm512_min_epi8((__m512i)(a), (__m512i)(b))
#define MAX_i16(a, b) _mm512_max_epi16((__m512i)(a), (__m512i)(b))
#define MIN_i16(a, b) _mm512_min_epi16((__m512i)(a), (__m512i)(b))
#define MAX_i32(a, b) _mm512_max_epi32((__m512i)(a), (__m512i)(b))
#define MIN_i32(a, b) _mm512_min_epi32((__m512i)(a), (__m512i)(b))
#define MAX_i64(a, b) _mm512_max_epi64((__m512i)(a), (__m512i)(b))
#define MIN_i64(a, b) _mm512_min_epi64((__m512i)(a), (__m512i)(b))
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
