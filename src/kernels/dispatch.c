/* The one table of sets, best first, and the choice among them: MESHCCL_KERNELS, or the best that runs here. */
#include <string.h>

#include "base/globals.h"
#include "kernels/sets.h"

static const mci_kernel_set* const sets[] = {
#if defined(__x86_64__)
    &mci_kernels_avx512fp16, &mci_kernels_avx512bf16, &mci_kernels_avx512, &mci_kernels_avx2,
#elif defined(__aarch64__)
    &mci_kernels_neon,
#endif
    &mci_kernels_scalar,
};

static const mci_kernel_set* best(void) {
  size_t i = 0;
  while (!sets[i]->runs_here()) i++;
  return sets[i];
}

/* NULL when this processor, or this build, has no such set. */
static const mci_kernel_set* named(const char* name) {
  for (size_t i = 0; i < MCI_COUNT(sets); i++)
    if (strcmp(sets[i]->name, name) == 0) return sets[i]->runs_here() ? sets[i] : NULL;
  return NULL;
}

const mci_kernel_set* mci_kernels_chosen(void) {
  const mci_kernel_set* set = atomic_load_explicit(&mci_globals.kernels, memory_order_acquire);
  if (MCI_LIKELY(set != NULL)) return set;
  const char* wanted = mci_param_text(MCI_P_KERNELS);
  bool automatic = strcmp(wanted, "auto") == 0;
  if (!automatic) set = named(wanted);
  const void* none = NULL;
  const mci_kernel_set* choice = set ? set : best();
  if (!atomic_compare_exchange_strong(&mci_globals.kernels, &none, choice)) return none;
  if (!automatic && !set) MCI_WARN("MESHCCL_KERNELS=%s: not on this processor; using %s", wanted, choice->name);
  return choice;
}

const char* mci_kernels_in_use(void) { return mci_kernels_chosen()->name; }

uint32_t mci_kernels_available(const char** names, uint32_t cap) {
  uint32_t count = 0;
  for (size_t i = 0; i < MCI_COUNT(sets); i++) {
    if (!sets[i]->runs_here()) continue;
    if (count < cap) names[count] = sets[i]->name;
    count++;
  }
  return count;
}

meshcclResult_t mci_kernels_force(const char* name) {
  const mci_kernel_set* set = strcmp(name, "auto") == 0 ? best() : named(name);
  if (!set)
    MCI_FAIL(meshcclNotSupported, "kernels \"%s\": not on this processor; it has %s at best", name, best()->name);
  atomic_store_explicit(&mci_globals.kernels, set, memory_order_release);
  return meshcclSuccess;
}
