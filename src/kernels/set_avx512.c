/* The set for x86 processors with AVX-512 (F, BW, DQ, VL). Compiled with these options; called only where runs_here
 * said yes. */
#if defined(__x86_64__)
#include "kernels/set_avx512.h"

#include "kernels/vector_kernels.h"

static bool runs_here(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const mci_kernel_set mci_kernels_avx512 = {.name = "avx512", .runs_here = runs_here, .kernels = KERNELS};
#endif
