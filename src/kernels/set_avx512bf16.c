/* The set for x86 processors with AVX-512 and its instructions for bfloat16: another way to round, all else from the
 * other set. The instruction flushes subnormals and keeps the payload of NaNs, so it gets neither. */
#if defined(__x86_64__)
#include "kernels/set_avx512.h"

#define NAN_OR_SUBNORMAL 0xa1 /* quiet NaN, signalling NaN, subnormal */
#define UNFIT(x) _mm512_fpclass_ps_mask((__m512)(x), NAN_OR_SUBNORMAL)
#define BFLOAT16_UNFIT(a, b, c, d) \
  (!_kortestz_mask16_u8(_kor_mask16(UNFIT(a), UNFIT(b)), _kor_mask16(UNFIT(c), UNFIT(d))))
#define BFLOAT16_NARROW(even, odd) mix(_mm512_cvtne2ps_pbh((__m512)(odd), (__m512)(even)))

/* The lower half to the even places, the upper half to the odd ones. */
static inline __m512i mix(__m512bh halves) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  const __m512i places = _mm512_or_si512(low, _mm512_slli_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(16)), 16));
  return _mm512_permutexvar_epi16(places, (__m512i)halves);
}

#define VECTORS_OF_BFLOAT16_ONLY
#include "kernels/vector_kernels.h"

static bool runs_here(void) { return mci_kernels_avx512.runs_here() && __builtin_cpu_supports("avx512bf16"); }

const mci_kernel_set mci_kernels_avx512bf16 = {
    .name = "avx512bf16", .runs_here = runs_here, .otherwise = &mci_kernels_avx512, .kernels = KERNELS};
#endif
