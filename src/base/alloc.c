/* The one way to memory, with the test hook that makes the n-th allocation fail. */
#include <stdlib.h>
#include <string.h>

#include "base/globals.h"

static bool must_fail(void) {
  if (MCI_LIKELY(atomic_load_explicit(&mci_globals.fail_after, memory_order_relaxed) < 0)) return false;
  return atomic_fetch_sub(&mci_globals.fail_after, 1) == 1;
}

void mci_alloc_fail_after(int64_t calls) { atomic_store(&mci_globals.fail_after, calls); }

void* mci_alloc(size_t bytes) { return must_fail() ? NULL : calloc(1, bytes ? bytes : 1); }

void* mci_realloc(void* old, size_t bytes) { return must_fail() ? NULL : realloc(old, bytes ? bytes : 1); }

void* mci_alloc_aligned(size_t align, size_t bytes) {
  if (must_fail()) return NULL;
  size_t rounded = (bytes + align - 1) / align * align;
  return aligned_alloc(align, rounded ? rounded : align);
}

void mci_free(void* ptr) { free(ptr); }

char* mci_strdup(const char* text) {
  size_t bytes = strlen(text) + 1;
  char* copy = mci_alloc(bytes);
  if (copy) memcpy(copy, text, bytes);
  return copy;
}

meshcclResult_t mci_oom(size_t bytes) {
  MCI_FAIL(meshcclSystemError, "out of memory: %zu bytes could not be had", bytes);
}

meshcclResult_t mci_grow(void* array_ptr, size_t size, uint32_t* cap, size_t need) {
  if (need <= *cap) return meshcclSuccess;
  size_t wanted = MCI_MAX(need, (size_t)*cap * 2);
  wanted = MCI_MAX(wanted, (size_t)8);
  if (wanted > UINT32_MAX) return mci_oom(wanted * size);
  void* old;
  memcpy(&old, array_ptr, sizeof old);
  void* grown = mci_realloc(old, wanted * size);
  if (!grown) return mci_oom(wanted * size);
  memset((char*)grown + *cap * size, 0, (wanted - *cap) * size);
  memcpy(array_ptr, &grown, sizeof grown);
  *cap = (uint32_t)wanted;
  return meshcclSuccess;
}
