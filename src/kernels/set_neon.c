/* The set for AArch64, where NEON is always there. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#define VECTOR_BYTES 16
#define MAX_i8(a, b) vmaxq_s8((int8x16_t)(a), (int8x16_t)(b))
#define MIN_i8(a, b) vminq_s8((int8x16_t)(a), (int8x16_t)(b))
#define MAX_i16(a, b) vmaxq_s16((int16x8_t)(a), (int16x8_t)(b))
#define MIN_i16(a, b) vminq_s16((int16x8_t)(a), (int16x8_t)(b))
#define MAX_i32(a, b) vmaxq_s32((int32x4_t)(a), (int32x4_t)(b))
#define MIN_i32(a, b) vminq_s32((int32x4_t)(a), (int32x4_t)(b))
#define HALF_WIDEN(from) vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t*)(from))))
#define HALF_NARROW(low, high)                                         \
  vcombine_u16(vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)(low))), \
               vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)(high))))
#define NUMBERS(x) vceqq_f32((float32x4_t)(x), (float32x4_t)(x))
#define ANY_NAN(a, b, c, d) \
  (vminvq_u32(vandq_u32(vandq_u32(NUMBERS(a), NUMBERS(b)), vandq_u32(NUMBERS(c), NUMBERS(d)))) == 0)
#include "kernels/vector_kernels.h"

static bool runs_here(void) { return true; }

const mci_kernel_set mci_kernels_neon = {.name = "neon", .runs_here = runs_here, .kernels = KERNELS};
#endif
