/* The host device: ordinary memory, folded by the processor. Every operation is done when its start function returns,
 * so there are no tokens and no context. Memory comes from memfds, so that peers of this host can map it. */
#include "device/device.h"
#include "kernels/kernels.h"

static meshcclResult_t host_open(void** ctx) {
  *ctx = NULL;
  return meshcclSuccess;
}

static void host_close(void* ctx) { (void)ctx; }

static meshcclResult_t host_alloc(void* ctx, size_t size, void** ptr) {
  (void)ctx;
  struct mci_shared_region region;
  MCI_TRY(mci_shared_alloc(size, &region));
  *ptr = region.base;
  return meshcclSuccess;
}

/* A pointer that is no allocation is reported by mci_shared_free; there is nobody to return it to. */
static void host_free(void* ctx, void* ptr) {
  (void)ctx;
  if (ptr) mci_shared_free(ptr);
}

static meshcclResult_t host_fold(void* ctx, const meshcclFold_t* fold, uint64_t* token) {
  (void)ctx, (void)token;
  mci_fold(fold);
  return meshcclSuccess;
}

static meshcclResult_t host_copy(void* ctx, void* dst, const void* src, size_t bytes, uint64_t* token) {
  (void)ctx, (void)token;
  mci_copy(dst, src, bytes);
  return meshcclSuccess;
}

static meshcclResult_t host_poll(void* ctx, uint64_t token) {
  (void)ctx;
  MCI_FAIL(meshcclInternalError, "the host device gave no token %llu", (unsigned long long)token);
}

static int host_accessible(void* ctx, const void* ptr) {
  (void)ctx, (void)ptr;
  return 1;
}

const meshcclDevice_t mci_device_host = {
    .abi = MESHCCL_DEVICE_ABI,
    .size = sizeof(meshcclDevice_t),
    .name = "host",
    .open = host_open,
    .close = host_close,
    .alloc = host_alloc,
    .free = host_free,
    .fold = host_fold,
    .copy = host_copy,
    .poll = host_poll,
    .hostAccessible = host_accessible,
};
