/* The set for x86 processors with AVX-512 and its arithmetic of halves. Two halves, added or multiplied as such, give the
 * bits that float gives when its result is rounded: float has more than twice the digits of half and two more, so to
 * round twice does no harm, and subnormals are not flushed. All else comes from the other sets. */
#if defined(__x86_64__)
#include "kernels/set_avx512.h"

#define HALF_SUM(a, b) _mm512_add_ph(_mm512_loadu_ph(a), _mm512_loadu_ph(b))
#define HALF_NAN(a, b) (!_kortestz_mask32_u8(_mm512_cmp_ph_mask((__m512h)(a), (__m512h)(b), _CMP_UNORD_Q), 0))
#define VECTORS_OF_HALF_ONLY
#include "kernels/vector_kernels.h"

static bool runs_here(void) { return mci_kernels_avx512bf16.runs_here() && __builtin_cpu_supports("avx512fp16"); }

const mci_kernel_set mci_kernels_avx512fp16 = {
    .name = "avx512fp16", .runs_here = runs_here, .otherwise = &mci_kernels_avx512bf16, .kernels = KERNELS};
#endif
