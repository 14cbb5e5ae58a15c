/* Runs a fold with the set in use: plain copies as copies, whole blocks with the set's kernel, the rest of the last
 * block through padded buffers. The executor's host device calls it. */
#include <string.h>

#include "kernels/sets.h"

#define FEW_ELEMENTS 8

void mci_copy(void* dst, const void* src, size_t bytes) {
  if (bytes && dst != src) memcpy(dst, src, bytes);
}

static void copy_to_all(const meshcclFold_t* fold) {
  size_t bytes = fold->count * mci_type_size(fold->type);
  for (int k = 0; k < fold->ndestinations; k++) mci_copy(fold->destinations[k], fold->sources[0], bytes);
}

/* The same fold in the form that has the cheapest kernel: an average that is not finished is a sum, and one rounding in
 * all needs no rounding of intermediate results. */
static meshcclFold_t simplest(const meshcclFold_t* fold) {
  meshcclFold_t simple = *fold;
  if (fold->op == meshcclAvg && !(fold->flags & MESHCCL_FOLD_FINISH)) simple.op = meshcclSum;
  if (simple.op != meshcclAvg && !fold->scaled && fold->nsources == 2) simple.flags |= MESHCCL_FOLD_WIDE;
  return simple;
}

/* The set's own kernel, or NULL. Only sums scale their sources in vectors: no other operator is used so. */
static mci_kernel override_for(const meshcclFold_t* fold) {
  if (fold->scaled && fold->op != meshcclSum && fold->op != meshcclAvg) return NULL;
  return mci_kernels_chosen()->kernels[fold->type][fold->op];
}

/* The last elements, fewer than a block, at byte offset `at` of every source and destination. */
static void fold_rest(mci_kernel kernel, const meshcclFold_t* fold, size_t at, size_t bytes) {
  _Alignas(64) char blocks[MESHCCL_MAX_FOLD_SOURCES][MCI_KERNEL_BLOCK];
  const void* sources[MESHCCL_MAX_FOLD_SOURCES];
  void* destination = blocks[0];
  for (int k = 0; k < fold->nsources; k++) {
    memcpy(blocks[k], (const char*)fold->sources[k] + at, bytes);
    memset(blocks[k] + bytes, 0, MCI_KERNEL_BLOCK - bytes);
    sources[k] = blocks[k];
  }
  meshcclFold_t rest = *fold;
  rest.sources = sources;
  rest.destinations = &destination;
  rest.ndestinations = 1;
  rest.count = MCI_KERNEL_BLOCK / mci_type_size(fold->type);
  kernel(&rest);
  for (int k = 0; k < fold->ndestinations; k++) memcpy((char*)fold->destinations[k] + at, blocks[0], bytes);
}

void mci_fold(const meshcclFold_t* fold) {
  mci_assert(fold->nsources >= 1 && fold->nsources <= MESHCCL_MAX_FOLD_SOURCES);
  mci_assert(!mci_fold_divides(fold) || fold->divisor > 0);
  if (fold->count == 0) return;
  if (mci_fold_is_copy(fold)) {
    copy_to_all(fold);
    return;
  }
  meshcclFold_t simple = simplest(fold);
  mci_kernel kernel = override_for(&simple);
  bool few = simple.count <= FEW_ELEMENTS; /* not worth a block */
  if (!kernel || few || kernel == mci_kernels_scalar.kernels[simple.type][simple.op]) {
    mci_kernels_scalar.kernels[simple.type][simple.op](&simple);
    return;
  }
  size_t size = mci_type_size(simple.type);
  size_t bytes = simple.count * size, whole = bytes / MCI_KERNEL_BLOCK * MCI_KERNEL_BLOCK;
  simple.count = whole / size;
  if (whole) kernel(&simple);
  if (bytes > whole) fold_rest(kernel, &simple, whole, bytes - whole);
}

void mci_fold_reference(const meshcclFold_t* fold) {
  if (mci_fold_is_copy(fold)) {
    copy_to_all(fold);
  } else {
    mci_kernels_scalar.kernels[fold->type][fold->op](fold);
  }
}
