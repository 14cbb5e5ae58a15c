/* The test device's table and its delayed work. Memory and handles are in test_device_memory.c. */
#include "support/test_device.h"

#include <stdatomic.h>

#include "kernels/kernels.h"
#include "support/test_device_memory.h"

enum { MOST_POLLS = 6 };

/* A copy is a fold of one source of bytes, so there is one kind of work. */
struct work {
  struct work* next;
  uint64_t token;
  int polls;
  meshcclFold_t fold;
  void* destinations[MESHCCL_MAX_FOLD_DESTINATIONS];
  const void* sources[MESHCCL_MAX_FOLD_SOURCES];
  uint64_t scale;
};

/* Pending work, oldest first. */
struct context {
  struct work* first;
  uint64_t next_token, random;
};

static struct {
  _Atomic uint64_t contexts, folds, copies, immediate, out_of_order, dropped;
  _Atomic int64_t fail_after;
} totals = {.fail_after = -1};

static meshcclResult_t device_open(void** ctx) {
  struct context* context = calloc(1, sizeof *context);
  if (!context) return mci_oom(sizeof *context);
  context->random = test_seed() + atomic_fetch_add(&totals.contexts, 1);
  context->next_token = 1;
  *ctx = context;
  return meshcclSuccess;
}

static void device_close(void* ctx) {
  struct context* context = ctx;
  while (context->first) {
    struct work* work = context->first;
    context->first = work->next;
    atomic_fetch_add(&totals.dropped, 1);
    free(work);
  }
  free(context);
}

static meshcclResult_t device_alloc(void* ctx, size_t size, void** ptr) {
  (void)ctx;
  return test_memory_alloc(size, ptr);
}

static void device_free(void* ctx, void* ptr) {
  (void)ctx;
  if (ptr) test_memory_free(ptr);
}

static size_t bytes_of(const struct work* work) { return work->fold.count * mci_type_size(work->fold.type); }

/* The pointers of the work as the host can use them; fails for a handle that is not allocated that far. */
static meshcclResult_t translate(const struct work* work, void** destinations, const void** sources) {
  void* source;
  for (int k = 0; k < work->fold.ndestinations; k++)
    MCI_TRY(test_memory_translate(work->destinations[k], bytes_of(work), &destinations[k]));
  for (int k = 0; k < work->fold.nsources; k++) {
    MCI_TRY(test_memory_translate(work->sources[k], bytes_of(work), &source));
    sources[k] = source;
  }
  return meshcclSuccess;
}

/* Until the work is done its destinations may hold anything. */
static void spoil(const struct work* work, void** destinations) {
  for (int d = 0; d < work->fold.ndestinations; d++) {
    bool is_source = !test_device_is_handle(work->destinations[d]);
    for (int s = 0; s < work->fold.nsources; s++) is_source |= work->sources[s] == work->destinations[d];
    if (!is_source) memset(destinations[d], 0xdb, bytes_of(work));
  }
}

static meshcclResult_t finish(struct work* work) {
  void* destinations[MESHCCL_MAX_FOLD_DESTINATIONS];
  const void* sources[MESHCCL_MAX_FOLD_SOURCES];
  meshcclResult_t result = translate(work, destinations, sources);
  if (atomic_load(&totals.fail_after) >= 0 && atomic_fetch_sub(&totals.fail_after, 1) == 1)
    result = mci_fail(meshcclUnhandledDeviceError, "the test device was told to fail");
  if (result == meshcclSuccess) {
    meshcclFold_t fold = work->fold;
    fold.destinations = destinations;
    fold.sources = sources;
    fold.scale = fold.scale ? &work->scale : NULL;
    mci_fold(&fold);
  }
  free(work);
  return result;
}

static meshcclResult_t start(struct context* context, const meshcclFold_t* fold, uint64_t* token) {
  struct work* work = calloc(1, sizeof *work);
  if (!work) return mci_oom(sizeof *work);
  void* destinations[MESHCCL_MAX_FOLD_DESTINATIONS];
  const void* sources[MESHCCL_MAX_FOLD_SOURCES];
  work->fold = *fold;
  memcpy(work->destinations, fold->destinations, (size_t)fold->ndestinations * sizeof work->destinations[0]);
  memcpy(work->sources, fold->sources, (size_t)fold->nsources * sizeof work->sources[0]);
  if (fold->scale) memcpy(&work->scale, fold->scale, mci_type_size(fold->type));
  meshcclResult_t result = translate(work, destinations, sources);
  if (result != meshcclSuccess) {
    free(work);
    return result;
  }
  work->polls = (int)(test_random(&context->random) % (MOST_POLLS + 1));
  if (work->polls == 0) {
    atomic_fetch_add(&totals.immediate, 1);
    return finish(work);
  }
  spoil(work, destinations);
  work->token = context->next_token++;
  struct work** last = &context->first;
  while (*last) last = &(*last)->next;
  *last = work;
  *token = work->token;
  return meshcclInProgress;
}

static meshcclResult_t device_fold(void* ctx, const meshcclFold_t* fold, uint64_t* token) {
  if (fold->nsources < 1 || fold->nsources > MESHCCL_MAX_FOLD_SOURCES || fold->ndestinations < 1 ||
      fold->ndestinations > MESHCCL_MAX_FOLD_DESTINATIONS || (fold->scaled && !fold->scale))
    MCI_FAIL(meshcclInvalidArgument, "test device: a fold of %d sources into %d destinations", fold->nsources,
             fold->ndestinations);
  atomic_fetch_add(&totals.folds, 1);
  return start(ctx, fold, token);
}

static meshcclResult_t device_copy(void* ctx, void* dst, const void* src, size_t bytes, uint64_t* token) {
  meshcclFold_t fold = {.destinations = &dst,
                        .sources = &src,
                        .ndestinations = 1,
                        .nsources = 1,
                        .count = bytes,
                        .type = meshcclUint8,
                        .op = meshcclSum};
  atomic_fetch_add(&totals.copies, 1);
  return start(ctx, &fold, token);
}

static meshcclResult_t device_poll(void* ctx, uint64_t token) {
  struct context* context = ctx;
  struct work** link = &context->first;
  while (*link && (*link)->token != token) link = &(*link)->next;
  struct work* work = *link;
  if (!work) MCI_FAIL(meshcclInvalidArgument, "test device: token %llu is not pending", (unsigned long long)token);
  if (--work->polls > 0) return meshcclInProgress;
  if (work != context->first) atomic_fetch_add(&totals.out_of_order, 1);
  *link = work->next;
  return finish(work);
}

static int device_accessible(void* ctx, const void* ptr) {
  (void)ctx;
  return !test_device_is_handle(ptr);
}

const meshcclDevice_t test_device = {
    .abi = MESHCCL_DEVICE_ABI,
    .size = sizeof(meshcclDevice_t),
    .name = "test",
    .open = device_open,
    .close = device_close,
    .alloc = device_alloc,
    .free = device_free,
    .fold = device_fold,
    .copy = device_copy,
    .poll = device_poll,
    .hostAccessible = device_accessible,
};

void test_device_register(void) {
  test_seed();
  const meshcclDevice_t* known;
  if (mci_device_find(test_device.name, &known) == meshcclSuccess && known == &test_device) return;
  check_ok(mci_device_register(&test_device));
}

void test_device_fail_after(int64_t calls) { atomic_store(&totals.fail_after, calls); }

test_device_counts test_device_count(void) {
  return (test_device_counts){.folds = atomic_load(&totals.folds),
                              .copies = atomic_load(&totals.copies),
                              .immediate = atomic_load(&totals.immediate),
                              .out_of_order = atomic_load(&totals.out_of_order),
                              .dropped = atomic_load(&totals.dropped),
                              .allocations = test_memory_allocations()};
}
