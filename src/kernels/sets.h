/* Inside src/kernels: what a set of kernels is. The portable set has every entry; the others override what they do
 * faster, and an entry that they lack means another set's, in the end the portable one.
 *
 * Rules that make all sets agree bit by bit, whatever the processor and the compiler:
 *  - no fused multiply-add (the module is compiled with -ffp-contract=off);
 *  - every NaN that arithmetic, max or min gives is the positive quiet NaN with empty payload;
 *  - max and min give NaN when any source is NaN, and order -0 below +0;
 *  - integers wrap; an average of integers is divided once, truncating toward zero. */
#ifndef MCI_KERNELS_SETS_H
#define MCI_KERNELS_SETS_H

#include "kernels/kernels.h"

/* Runs a fold. Streamed destinations start at a multiple of MCI_STREAM_ALIGN. */
typedef void (*mci_kernel)(const meshcclFold_t* fold);
enum { MCI_STREAM_ALIGN = 64 };

typedef struct mci_kernel_set {
  const char* name;
  bool (*runs_here)(void);
  const struct mci_kernel_set* otherwise; /* has what this one lacks; NULL: the portable set has it */
  mci_kernel kernels[meshcclNumTypes][meshcclNumOps];
} mci_kernel_set;

extern const mci_kernel_set mci_kernels_scalar; /* the portable set */
#if defined(__x86_64__)
extern const mci_kernel_set mci_kernels_avx2, mci_kernels_avx512, mci_kernels_avx512bf16, mci_kernels_avx512fp16;
#elif defined(__aarch64__)
extern const mci_kernel_set mci_kernels_neon;
#endif

/* The set in use; chosen by MESHCCL_KERNELS at the first call. */
const mci_kernel_set* mci_kernels_chosen(void);

/* A half, float, bfloat16 or 8-bit float as float. */
float mci_element_to_float(meshcclDataType_t type, const void* element);

static inline bool mci_fold_divides(const meshcclFold_t* fold) {
  return fold->op == meshcclAvg && (fold->flags & MESHCCL_FOLD_FINISH);
}

/* One source that enters and leaves as it is: its bits are kept, NaNs included. */
static inline bool mci_fold_is_copy(const meshcclFold_t* fold) {
  return fold->nsources == 1 && !(fold->scaled & 1) && !mci_fold_divides(fold);
}
#endif
