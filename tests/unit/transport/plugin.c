/* Transport plugins that do nothing, for the tests of the registry: which one is chosen by a macro. The good one is as
 * short as the contract allows, as one built against an older header would be. */
#include <stddef.h>

#include "meshccl/transport.h"

static meshcclResult_t refuse_open(const meshcclTransportHost_t* host, void** ctx) {
  (void)ctx;
  return host->fail(host->self, meshcclNotSupported, "this plugin is for tests");
}
static void do_close(void* ctx) { (void)ctx; }
static meshcclResult_t address(void* ctx, void* out, size_t* bytes) {
  (void)ctx, (void)out, (void)bytes;
  return meshcclNotSupported;
}
static meshcclResult_t reach(void* ctx, const void* at, size_t bytes, meshcclTransportFigures_t* figures) {
  (void)ctx, (void)at, (void)bytes, (void)figures;
  return meshcclNotSupported;
}
static meshcclResult_t do_connect(void* ctx, void* peer, int rank, const void* at, size_t bytes, void** ep) {
  (void)ctx, (void)peer, (void)rank, (void)at, (void)bytes, (void)ep;
  return meshcclNotSupported;
}
static void disconnect(void* ep) { (void)ep; }
static meshcclResult_t do_send(void* ep, const void* header, const meshcclPiece_t* pieces, int n, void* token) {
  (void)ep, (void)header, (void)pieces, (void)n, (void)token;
  return meshcclBusy;
}
static int progress(void* ctx) {
  (void)ctx;
  return 0;
}
static meshcclResult_t wait_handle(void* ctx, int* fd, uint32_t* poll_us) {
  (void)ctx, (void)fd, (void)poll_us;
  return meshcclNotSupported;
}
static meshcclResult_t arm(void* ctx) {
  (void)ctx;
  return meshcclSuccess;
}

static const meshcclTransport_t table = {
#ifdef OTHER_ABI
    .abi = MESHCCL_TRANSPORT_ABI + 41,
#else
    .abi = MESHCCL_TRANSPORT_ABI,
#endif
    .size = offsetof(meshcclTransport_t, memoryKey),
    .name = "plugged",
    .open = refuse_open,
    .close = do_close,
    .address = address,
    .reach = reach,
    .connect = do_connect,
    .disconnect = disconnect,
    .send = do_send,
    .progress = progress,
    .waitHandle = wait_handle,
    .arm = arm,
};

#ifdef NO_SYMBOL
const meshcclTransport_t* someOtherName(void);
const meshcclTransport_t* someOtherName(void) { return &table; }
#else
const meshcclTransport_t* meshcclTransportPlugin(void);
const meshcclTransport_t* meshcclTransportPlugin(void) { return &table; }
#endif
