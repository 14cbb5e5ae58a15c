/* Opening and closing a context, and the table of the transport. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm.h"

meshcclResult_t mci_shm_fail(const struct mci_shm_ctx* ctx, meshcclResult_t result, const char* format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return ctx->host->fail(ctx->host->self, result, text);
}

static meshcclResult_t shm_open_context(const meshcclTransportHost_t* host, void** out) {
  struct mci_shm_ctx* ctx = calloc(1, sizeof *ctx);
  if (!ctx) return host->fail(host->self, meshcclSystemError, "shm: out of memory for a context");
  ctx->host = host;
  meshcclResult_t result;
  if (!mci_shm_segment_create(ctx, host->nranks)) {
    result =
        mci_shm_fail(ctx, meshcclNotSupported, "shm: no shared memory for %d ranks: %s (memfd_create, pipe2, mmap)",
                     host->nranks, strerror(errno));
    goto err_free;
  }
  if (!mci_shm_address_init(ctx)) {
    result = mci_shm_fail(ctx, meshcclNotSupported,
                          "shm: cannot tell how peers find this process: %s; is /proc mounted?", strerror(errno));
    goto err_destroy;
  }
  *out = ctx;
  return meshcclSuccess;

err_destroy:
  mci_shm_segment_destroy(ctx);
err_free:
  free(ctx);
  return result;
}

static void shm_close_context(void* opaque) {
  struct mci_shm_ctx* ctx = opaque;
  while (ctx->all) mci_shm_ep_free(ctx->all);
  mci_shm_segment_destroy(ctx);
  free(ctx->eps);
  free(ctx);
}

const meshcclTransport_t mci_transport_shm = {
    .abi = MESHCCL_TRANSPORT_ABI,
    .size = sizeof(meshcclTransport_t),
    .name = "shm",
    .open = shm_open_context,
    .close = shm_close_context,
    .address = mci_shm_address,
    .reach = mci_shm_reach,
    .connect = mci_shm_connect,
    .disconnect = mci_shm_disconnect,
    .send = mci_shm_send,
    .progress = mci_shm_progress,
    .waitHandle = mci_shm_wait_handle,
    .arm = mci_shm_arm,
    .memoryKey = mci_shm_memory_key,
    .map = mci_shm_map,
    .unmap = mci_shm_unmap,
    .get = mci_shm_get,
    .put = mci_shm_put,
    .refusePuts = mci_shm_refuse_puts,
    .writesNext = mci_shm_writes_next,
};
