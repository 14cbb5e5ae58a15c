/* Contexts of the UCX transport: one UCP context and worker each, so that contexts of one process share nothing. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "ucx.h"

#define CLOSE_NS 1000000000ll

meshcclResult_t mci_ucx_fail(const struct mci_ucx_context* ctx, meshcclResult_t result, const char* format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return ctx->host->fail(ctx->host->self, result, text);
}

static ucs_status_t worker_open(struct mci_ucx_context* ctx) {
  ucp_worker_params_t params = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                .thread_mode = UCS_THREAD_MODE_SERIALIZED};
  ucs_status_t status = ucp_worker_create(ctx->context, &params, &ctx->worker);
  if (status != UCS_OK) return status;
  ucp_am_handler_param_t handler = {.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                                                  UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG,
                                    .id = MCI_UCX_AM_ID,
                                    .flags = UCP_AM_FLAG_WHOLE_MSG | UCP_AM_FLAG_PERSISTENT_DATA,
                                    .cb = mci_ucx_arrived,
                                    .arg = ctx};
  status = ucp_worker_set_am_recv_handler(ctx->worker, &handler);
  if (status == UCS_OK) status = ucp_worker_get_efd(ctx->worker, &ctx->fd);
  if (status != UCS_OK) ucp_worker_destroy(ctx->worker);
  return status;
}

static ucs_status_t ucx_start(struct mci_ucx_context* ctx) {
  ucp_config_t* config;
  ucs_status_t status = ucp_config_read(NULL, NULL, &config);
  if (status != UCS_OK) return status;
  ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES, .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP};
  status = ucp_init(&params, config, &ctx->context);
  ucp_config_release(config);
  if (status != UCS_OK) return status;
  status = worker_open(ctx);
  if (status != UCS_OK) ucp_cleanup(ctx->context);
  return status;
}

static meshcclResult_t ucx_open(const meshcclTransportHost_t* host, void** out) {
  struct mci_ucx_context* ctx = calloc(1, sizeof *ctx);
  if (!ctx) return host->fail(host->self, meshcclSystemError, "ucx: out of memory for a context");
  ctx->host = host;
  ctx->doneEnd = &ctx->done;
  meshcclResult_t result = meshcclSuccess;
  if (getrandom(&ctx->id, sizeof ctx->id, 0) != sizeof ctx->id) {
    result = mci_ucx_fail(ctx, meshcclSystemError, "ucx: getrandom gave no number for the context");
  } else {
    ucs_status_t status = ucx_start(ctx);
    if (status != UCS_OK)
      result = mci_ucx_fail(ctx, meshcclNotSupported, "ucx: cannot start: %s; see ucx_info -d and the UCX_* variables",
                            ucs_status_string(status));
  }
  if (result != meshcclSuccess) {
    free(ctx);
    return result;
  }
  *out = ctx;
  return meshcclSuccess;
}

static long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* What disconnected endpoints still have to send gets a moment; then UCX is made to give their memory back. */
static void drain(struct mci_ucx_context* ctx) {
  long long limit = now_ns() + CLOSE_NS;
  while (ctx->endpoints) {
    mci_ucx_reap(ctx, now_ns() > limit);
    if (!ucp_worker_progress(ctx->worker)) sched_yield();
    mci_ucx_deliver(ctx);
  }
}

static void ucx_close(void* opaque) {
  struct mci_ucx_context* ctx = opaque;
  drain(ctx);
  while (ctx->strangers) {
    struct mci_ucx_parcel* parcel = ctx->strangers;
    ctx->strangers = parcel->next;
    mci_ucx_parcel_free(ctx, parcel);
  }
  ucp_worker_destroy(ctx->worker);
  ucp_cleanup(ctx->context);
  while (ctx->spare) {
    struct mci_ucx_order* order = ctx->spare;
    ctx->spare = order->next;
    free(order);
  }
  free(ctx);
}

/* A machine with many devices has addresses longer than the table takes: then only the networks are told. */
static meshcclResult_t ucx_address(void* opaque, void* address, size_t* bytes) {
  struct mci_ucx_context* ctx = opaque;
  size_t room = *bytes < sizeof(struct mci_ucx_address) ? *bytes : sizeof(struct mci_ucx_address);
  if (room < MCI_UCX_ADDRESS_HEAD) return mci_ucx_fail(ctx, meshcclInvalidArgument, "ucx: no room for the address");
  room -= MCI_UCX_ADDRESS_HEAD;
  ucp_worker_attr_t attr = {.field_mask = UCP_WORKER_ATTR_FIELD_ADDRESS};
  ucs_status_t status = ucp_worker_query(ctx->worker, &attr);
  if (status == UCS_OK && attr.address_length > room) {
    ucp_worker_release_address(ctx->worker, attr.address);
    attr.field_mask |= UCP_WORKER_ATTR_FIELD_ADDRESS_FLAGS;
    attr.address_flags = UCP_WORKER_ADDRESS_FLAG_NET_ONLY;
    status = ucp_worker_query(ctx->worker, &attr);
  }
  if (status != UCS_OK)
    return mci_ucx_fail(ctx, meshcclSystemError, "ucx: the worker has no address: %s", ucs_status_string(status));
  size_t length = attr.address_length;
  if (length <= room) {
    struct mci_ucx_address own = {.magic = MCI_UCX_MAGIC, .api = MCI_UCX_API, .id = ctx->id};
    memcpy(own.worker, attr.address, length);
    memcpy(address, &own, MCI_UCX_ADDRESS_HEAD + length);
    *bytes = MCI_UCX_ADDRESS_HEAD + length;
  }
  ucp_worker_release_address(ctx->worker, attr.address);
  if (length <= room) return meshcclSuccess;
  return mci_ucx_fail(ctx, meshcclNotSupported,
                      "ucx: an address of %zu bytes, %zu fit; name fewer devices in UCX_NET_DEVICES or UCX_TLS", length,
                      room);
}

static int ucx_progress(void* opaque) {
  struct mci_ucx_context* ctx = opaque;
  int events = 0;
  for (int i = 0; i < 32 && ucp_worker_progress(ctx->worker); i++) events++;
  events += mci_ucx_deliver(ctx);
  mci_ucx_reap(ctx, false);
  return events;
}

static meshcclResult_t ucx_wait_handle(void* opaque, int* fd, uint32_t* poll_us) {
  *fd = ((struct mci_ucx_context*)opaque)->fd;
  *poll_us = 0;
  return meshcclSuccess;
}

static meshcclResult_t ucx_arm(void* opaque) {
  struct mci_ucx_context* ctx = opaque;
  if (mci_ucx_deliverable(ctx)) return meshcclBusy;
  ucs_status_t status = ucp_worker_arm(ctx->worker);
  if (status == UCS_OK) return meshcclSuccess;
  if (status == UCS_ERR_BUSY) return meshcclBusy;
  return mci_ucx_fail(ctx, meshcclSystemError, "ucx: the worker cannot be armed: %s", ucs_status_string(status));
}

extern const meshcclTransport_t mci_transport_ucx;
const meshcclTransport_t mci_transport_ucx = {
    .abi = MESHCCL_TRANSPORT_ABI,
    .size = sizeof(meshcclTransport_t),
    .name = "ucx",
    .open = ucx_open,
    .close = ucx_close,
    .address = ucx_address,
    .reach = mci_ucx_reach,
    .connect = mci_ucx_connect,
    .disconnect = mci_ucx_disconnect,
    .send = mci_ucx_send,
    .progress = ucx_progress,
    .waitHandle = ucx_wait_handle,
    .arm = ucx_arm,
};
