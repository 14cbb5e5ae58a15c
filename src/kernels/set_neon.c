/* The set for AArch64, where NEON is always there. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#define VECTOR_BYTES 16
#define HALF_WIDEN(from) vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t*)(from))))
#define HALF_NARROW(low, high)                                         \
  vcombine_u16(vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)(low))), \
               vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)(high))))
#include "kernels/vector_kernels.h"

static bool runs_here(void) { return true; }

const mci_kernel_set mci_kernels_neon = {.name = "neon", .runs_here = runs_here, .kernels = KERNELS};
#endif
