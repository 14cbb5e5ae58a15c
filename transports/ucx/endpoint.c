/* Endpoints of the UCX transport. Disconnecting sends a last message, so that the peer can tell it from a failure, and
 * flushes; the UCX endpoint is closed when the peer has seen it or leaves too, or by force when the context goes.
 * Closing earlier is not safe: UCX 1.13 aborts when a worker goes that still answers a peer's wish to connect. */
#include <stdlib.h>
#include <string.h>

#include "ucx.h"

static bool understood(const void* address, size_t bytes, struct mci_ucx_address* out) {
  if (bytes <= MCI_UCX_ADDRESS_HEAD || bytes > sizeof *out) return false;
  memcpy(out, address, bytes);
  return out->magic == MCI_UCX_MAGIC && out->api == MCI_UCX_API;
}

/* Whether two workers share a transport is known only when an endpoint is made; UCX reaches everybody it can name. */
meshcclResult_t mci_ucx_reach(void* ctx, const void* address, size_t bytes, meshcclTransportFigures_t* figures) {
  (void)ctx;
  struct mci_ucx_address other;
  if (!understood(address, bytes, &other)) return meshcclNotSupported;
  *figures = (meshcclTransportFigures_t){
      .lat_ns = 2000, .bw_Bps = 5000000000u, .maxPayload = MCI_UCX_MAX_PAYLOAD, .maxPieces = MESHCCL_MAX_PIECES};
  return meshcclSuccess;
}

static void on_error(void* argument, ucp_ep_h handle, ucs_status_t status) {
  struct mci_ucx_endpoint* ep = argument;
  (void)handle;
  ep->failed = true;
  ep->failure = status;
}

/* What came before we connected. */
static void adopt_strangers(struct mci_ucx_endpoint* ep) {
  for (struct mci_ucx_parcel** at = &ep->ctx->strangers; *at;) {
    struct mci_ucx_parcel* parcel = *at;
    if (parcel->wire.from != ep->id) {
      at = &parcel->next;
      continue;
    }
    *at = parcel->next;
    mci_ucx_parcel_file(ep, parcel);
  }
}

meshcclResult_t mci_ucx_connect(void* opaque, void* peer, int peerRank, const void* address, size_t bytes, void** out) {
  struct mci_ucx_context* ctx = opaque;
  struct mci_ucx_address other;
  if (!understood(address, bytes, &other))
    return mci_ucx_fail(ctx, meshcclInvalidArgument,
                        "ucx: the address of rank %d is not of UCX API %d.%d; all ranks need the same UCX", peerRank,
                        UCP_API_MAJOR, UCP_API_MINOR);
  struct mci_ucx_endpoint* ep = calloc(1, sizeof *ep);
  if (!ep) return mci_ucx_fail(ctx, meshcclSystemError, "ucx: out of memory for an endpoint");
  *ep = (struct mci_ucx_endpoint){.ctx = ctx, .peer = peer, .peerRank = peerRank, .id = other.id};
  ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                                          UCP_EP_PARAM_FIELD_ERR_HANDLER,
                            .address = (const ucp_address_t*)other.worker,
                            .err_mode = UCP_ERR_HANDLING_MODE_PEER,
                            .err_handler = {.cb = on_error, .arg = ep}};
  ucs_status_t status = ucp_ep_create(ctx->worker, &params, &ep->ep);
  if (status != UCS_OK) {
    free(ep);
    return mci_ucx_fail(ctx, meshcclRemoteError, "ucx: no way to rank %d: %s; see UCX_TLS and UCX_NET_DEVICES",
                        peerRank, ucs_status_string(status));
  }
  ep->next = ctx->endpoints;
  ctx->endpoints = ep;
  adopt_strangers(ep);
  *out = ep;
  return meshcclSuccess;
}

void mci_ucx_disconnect(void* opaque) {
  struct mci_ucx_endpoint* ep = opaque;
  ep->gone = true;
  while (ep->parcels) {
    struct mci_ucx_parcel* parcel = ep->parcels;
    ep->parcels = parcel->next;
    mci_ucx_parcel_free(ep->ctx, parcel);
  }
  if (ep->failed) return;
  if (!ep->bye) mci_ucx_send_note(ep, MCI_UCX_BYE);
  ucp_request_param_t none = {0};
  void* request = ucp_ep_flush_nbx(ep->ep, &none);
  if (UCS_PTR_IS_PTR(request)) ep->flush = request;
}

static void close_by_force(struct mci_ucx_endpoint* ep) {
  ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
  void* request = ucp_ep_close_nbx(ep->ep, &param);
  if (UCS_PTR_IS_PTR(request)) ep->close = request;
  ep->ep = NULL;
}

static bool idle(const struct mci_ucx_endpoint* ep) { return ep->sends == 0 && ep->receives == 0; }

static bool over(void* request) { return !request || ucp_request_check_status(request) != UCS_INPROGRESS; }

void mci_ucx_reap(struct mci_ucx_context* ctx, bool force) {
  for (struct mci_ucx_endpoint** at = &ctx->endpoints; *at;) {
    struct mci_ucx_endpoint* ep = *at;
    bool out = ep->gone && (force || ep->failed || ((ep->bye || ep->seen) && over(ep->flush) && idle(ep)));
    if (out && ep->ep) close_by_force(ep);
    if (ep->ep || !ep->gone || !over(ep->flush) || !over(ep->close) || !idle(ep)) {
      at = &ep->next;
      continue;
    }
    if (ep->flush) ucp_request_free(ep->flush);
    if (ep->close) ucp_request_free(ep->close);
    *at = ep->next;
    free(ep);
  }
}
