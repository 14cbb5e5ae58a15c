/* The set for x86 processors with AVX2 and F16C. Compiled with these options; called only where runs_here said yes. */
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#define VECTOR_BYTES 32
#define MAX_i8(a, b) _mm256_max_epi8((__m256i)(a), (__m256i)(b))
#define MIN_i8(a, b) _mm256_min_epi8((__m256i)(a), (__m256i)(b))
#define MAX_i16(a, b) _mm256_max_epi16((__m256i)(a), (__m256i)(b))
#define MIN_i16(a, b) _mm256_min_epi16((__m256i)(a), (__m256i)(b))
#define MAX_i32(a, b) _mm256_max_epi32((__m256i)(a), (__m256i)(b))
#define MIN_i32(a, b) _mm256_min_epi32((__m256i)(a), (__m256i)(b))
#define HALF_WIDEN(from) _mm256_cvtph_ps(_mm_loadu_si128((const void*)(from)))
#define HALF_NARROW(low, high) \
  _mm256_set_m128i(_mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT), _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT))
#define UNORDERED(a, b) _mm256_cmp_ps((__m256)(a), (__m256)(b), _CMP_UNORD_Q)
#define ANY_NAN(a, b, c, d) (_mm256_movemask_ps(_mm256_or_ps(UNORDERED(a, b), UNORDERED(c, d))) != 0)
#define STREAM(to, x) _mm256_stream_si256((void*)(to), (__m256i)(x))
#define FLUSH() _mm_sfence()
#include "kernels/vector_kernels.h"

static bool runs_here(void) {
  unsigned a, b, c, d;
  return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

const mci_kernel_set mci_kernels_avx2 = {.name = "avx2", .runs_here = runs_here, .kernels = KERNELS};
#endif
