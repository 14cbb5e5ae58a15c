/* Runs a fold with the set in use, and puts it into the form that has the cheapest kernel first. The executor's host
 * device calls it. */
#include <string.h>

#include "kernels/sets.h"

enum {
  FEW_ELEMENTS = 8,      /* the portable kernel has done them before a vector kernel is set up */
  FEW_OF_A_PAIR = 32,    /* of two sources of at least 32 bits, which it does without a loop over sources */
  LEAST_STREAMED = 16384 /* bytes: less is not worth the wait for streaming stores to drain */
};

void mci_copy(void* dst, const void* src, size_t bytes) {
  if (bytes && dst != src) memcpy(dst, src, bytes);
}

static void copy_to_all(const meshcclFold_t* fold) {
  size_t bytes = fold->count * mci_type_size(fold->type);
  for (int k = 0; k < fold->ndestinations; k++) mci_copy(fold->destinations[k], fold->sources[0], bytes);
}

/* The same fold in the form that has the cheapest kernel: a copy is a sum of bytes, an average that is not finished, or
 * of integers by 1, is a sum, and one rounding in all needs no rounding of intermediate results. */
static meshcclFold_t simplest(const meshcclFold_t* fold) {
  meshcclFold_t simple = *fold;
  bool divides = mci_fold_divides(fold) && (fold->divisor > 1 || mci_type_is_float(fold->type));
  if (fold->op == meshcclAvg && !divides) simple.op = meshcclSum;
  if (simple.op != meshcclAvg && !fold->scaled && fold->nsources == 2) simple.flags |= MESHCCL_FOLD_WIDE;
  if (mci_fold_is_copy(fold)) {
    simple.count *= mci_type_size(fold->type);
    simple.type = meshcclUint8;
    simple.op = meshcclSum;
  }
  return simple;
}

/* Only sums scale their sources in vectors: no other operator is used so. */
static mci_kernel kernel_for(const meshcclFold_t* fold) {
  bool plain = !fold->scaled || fold->op == meshcclSum || fold->op == meshcclAvg;
  bool pair = fold->op == meshcclSum && fold->nsources == 2 && fold->ndestinations == 1 && !fold->scaled;
  bool few = fold->count <= FEW_ELEMENTS || (fold->count <= FEW_OF_A_PAIR && pair && mci_type_size(fold->type) >= 4);
  if (plain && !few)
    for (const mci_kernel_set* set = mci_kernels_chosen(); set; set = set->otherwise)
      if (set->kernels[fold->type][fold->op]) return set->kernels[fold->type][fold->op];
  return mci_kernels_scalar.kernels[fold->type][fold->op];
}

static void run_part(mci_kernel kernel, const meshcclFold_t* fold, size_t from, size_t count, uint64_t streamed) {
  size_t at = from * mci_type_size(fold->type);
  const void* sources[MESHCCL_MAX_FOLD_SOURCES];
  void* destinations[MESHCCL_MAX_FOLD_SOURCES];
  for (int k = 0; k < fold->nsources; k++) sources[k] = (const char*)fold->sources[k] + at;
  for (int k = 0; k < fold->ndestinations; k++) destinations[k] = (char*)fold->destinations[k] + at;
  meshcclFold_t part = *fold;
  part.sources = sources;
  part.destinations = destinations;
  part.count = count;
  part.streamed = streamed;
  kernel(&part);
}

/* Streaming stores want aligned vectors, so the elements before the first one are folded by themselves. A destination
 * that is not aligned where the first streamed one is, is not streamed. */
static void run_streamed(mci_kernel kernel, const meshcclFold_t* fold) {
  size_t size = mci_type_size(fold->type);
  size_t head = -(uintptr_t)fold->destinations[__builtin_ctzll(fold->streamed)] % MCI_STREAM_ALIGN;
  uint64_t streamed = head % size == 0 ? fold->streamed : 0;
  for (int k = 0; k < fold->ndestinations; k++)
    if (((uintptr_t)fold->destinations[k] + head) % MCI_STREAM_ALIGN) streamed &= ~(UINT64_C(1) << k);
  if (!streamed) head = 0;
  if (head) run_part(kernel, fold, 0, head / size, 0);
  run_part(kernel, fold, head / size, fold->count - head / size, streamed);
}

void mci_fold(const meshcclFold_t* fold) {
  mci_assert(fold->nsources >= 1 && fold->nsources <= MESHCCL_MAX_FOLD_SOURCES);
  mci_assert(fold->ndestinations <= MESHCCL_MAX_FOLD_SOURCES);
  mci_assert(!mci_fold_divides(fold) || fold->divisor > 0);
  if (fold->count == 0) return;
  bool streamed = fold->streamed && fold->count * mci_type_size(fold->type) >= LEAST_STREAMED;
  if (mci_fold_is_copy(fold) && !streamed) {
    copy_to_all(fold);
    return;
  }
  meshcclFold_t simple = simplest(fold);
  mci_kernel kernel = kernel_for(&simple);
  if (streamed) {
    run_streamed(kernel, &simple);
  } else {
    simple.streamed = 0;
    kernel(&simple);
  }
}

void mci_fold_reference(const meshcclFold_t* fold) {
  if (mci_fold_is_copy(fold)) {
    copy_to_all(fold);
  } else {
    mci_kernels_scalar.kernels[fold->type][fold->op](fold);
  }
}
