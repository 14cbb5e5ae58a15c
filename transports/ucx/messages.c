/* Messages of the UCX transport: active messages, eager ones shown where UCX has them, large ones fetched by rendezvous
 * straight into the host's places. Inside UCX's callbacks things are only noted; the host hears of them in deliver().
 */
#include <stdlib.h>
#include <string.h>

#include "ucx.h"

static struct mci_ucx_order* order_get(struct mci_ucx_endpoint* ep, void* token) {
  struct mci_ucx_context* ctx = ep->ctx;
  struct mci_ucx_order* order = ctx->spare;
  if (order)
    ctx->spare = order->next;
  else
    order = malloc(sizeof *order);
  if (!order) return NULL;
  order->next = NULL;
  order->ep = ep;
  order->token = token;
  order->receive = false;
  order->niov = 0;
  return order;
}

static void order_put(struct mci_ucx_order* order) {
  struct mci_ucx_context* ctx = order->ep->ctx;
  order->next = ctx->spare;
  ctx->spare = order;
}

static void order_done(struct mci_ucx_order* order, ucs_status_t status) {
  struct mci_ucx_context* ctx = order->ep->ctx;
  order->status = status;
  order->next = NULL;
  *ctx->doneEnd = order;
  ctx->doneEnd = &order->next;
}

static void order_add(struct mci_ucx_order* order, const void* base, size_t bytes) {
  if (bytes) order->iov[order->niov++] = (ucp_dt_iov_t){(void*)(uintptr_t)base, bytes};
}

/* Buffer, count and datatype for UCX: a list only where there is more than one piece. */
static void* order_buffer(struct mci_ucx_order* order, size_t* count, ucp_request_param_t* param) {
  param->op_attr_mask |= UCP_OP_ATTR_FIELD_DATATYPE;
  if (order->niov > 1) {
    param->datatype = ucp_dt_make_iov();
    *count = order->niov;
    return order->iov;
  }
  param->datatype = ucp_dt_make_contig(1);
  *count = order->niov ? order->iov[0].length : 0;
  return order->niov ? order->iov[0].buffer : NULL;
}

/* ---- sending ---- */

static void on_sent(void* request, ucs_status_t status, void* argument) {
  order_done(argument, status);
  ucp_request_free(request);
}

/* NULL: taken. UCX keeps order and pieces until on_sent when the result is a pointer. */
static ucs_status_ptr_t submit(struct mci_ucx_endpoint* ep, struct mci_ucx_order* order, uint32_t kind) {
  order->wire.from = ep->ctx->id;
  order->wire.to = ep->id;
  order->wire.sequence = ep->sent;
  order->wire.kind = kind;
  ucp_request_param_t param = {
      .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA, .cb.send = on_sent, .user_data = order};
  size_t count;
  void* buffer = order_buffer(order, &count, &param);
  ucs_status_ptr_t request =
      ucp_am_send_nbx(ep->ep, MCI_UCX_AM_ID, &order->wire, sizeof order->wire, buffer, count, &param);
  if (UCS_PTR_IS_ERR(request)) {
    order_put(order);
    return request;
  }
  ep->sent++;
  if (request)
    ep->sends++;
  else
    order_put(order);
  return request;
}

meshcclResult_t mci_ucx_send(void* opaque, const void* header, const meshcclPiece_t* pieces, int npieces, void* token) {
  struct mci_ucx_endpoint* ep = opaque;
  if (ep->bye) return meshcclSuccess; /* nobody listens any more */
  if (ep->failed)
    return mci_ucx_fail(ep->ctx, meshcclRemoteError, "ucx: the connection to rank %d is broken: %s", ep->peerRank,
                        ucs_status_string(ep->failure));
  if (ep->sends >= MCI_UCX_MAX_ORDERS) return meshcclBusy;
  struct mci_ucx_order* order = order_get(ep, token);
  if (!order) return mci_ucx_fail(ep->ctx, meshcclSystemError, "ucx: out of memory for a send");
  memcpy(order->wire.header, header, MESHCCL_HEADER_BYTES);
  for (int i = 0; i < npieces; i++) order_add(order, pieces[i].base, pieces[i].bytes);
  ucs_status_ptr_t request = submit(ep, order, MCI_UCX_MESSAGE);
  if (UCS_PTR_IS_ERR(request))
    return mci_ucx_fail(ep->ctx, meshcclRemoteError, "ucx: a send to rank %d was refused: %s", ep->peerRank,
                        ucs_status_string(UCS_PTR_STATUS(request)));
  return request ? meshcclInProgress : meshcclSuccess;
}

void mci_ucx_send_note(struct mci_ucx_endpoint* ep, uint32_t kind) {
  struct mci_ucx_order* order = order_get(ep, NULL);
  if (!order) return; /* the peer will take our end for a failure, which is the truth by then */
  memset(order->wire.header, 0, MESHCCL_HEADER_BYTES);
  submit(ep, order, kind);
}

/* ---- arriving ---- */

void mci_ucx_parcel_free(struct mci_ucx_context* ctx, struct mci_ucx_parcel* parcel) {
  if (parcel->data) ucp_am_data_release(ctx->worker, parcel->data);
  free(parcel);
}

void mci_ucx_parcel_file(struct mci_ucx_endpoint* ep, struct mci_ucx_parcel* parcel) {
  struct mci_ucx_parcel** at = &ep->parcels;
  while (*at && (int32_t)((*at)->wire.sequence - parcel->wire.sequence) < 0) at = &(*at)->next;
  parcel->next = *at;
  *at = parcel;
}

ucs_status_t mci_ucx_arrived(void* opaque, const void* header, size_t headerBytes, void* data, size_t bytes,
                             const ucp_am_recv_param_t* param) {
  struct mci_ucx_context* ctx = opaque;
  struct mci_ucx_wire wire;
  if (headerBytes != sizeof wire) return UCS_OK;
  memcpy(&wire, header, sizeof wire);
  if (wire.to != ctx->id) return UCS_OK;
  struct mci_ucx_endpoint* ep = ctx->endpoints;
  while (ep && ep->id != wire.from) ep = ep->next;
  if (ep && ep->gone) {
    ep->bye |= wire.kind == MCI_UCX_BYE;
    ep->seen |= wire.kind == MCI_UCX_SEEN;
    return UCS_OK;
  }
  struct mci_ucx_parcel* parcel = malloc(sizeof *parcel);
  if (!parcel) {
    ctx->starved = true;
    return UCS_OK;
  }
  /* A descriptor must be given back even when it stands for no bytes. */
  bool rendezvous = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  bool held = rendezvous || (bytes > 0 && (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA) != 0);
  *parcel = (struct mci_ucx_parcel){
      .wire = wire, .data = held ? data : NULL, .bytes = bytes, .rendezvous = rendezvous && bytes > 0};
  if (ep) {
    mci_ucx_parcel_file(ep, parcel);
  } else {
    struct mci_ucx_parcel** at = &ctx->strangers;
    while (*at) at = &(*at)->next;
    *at = parcel;
  }
  return held ? UCS_INPROGRESS : UCS_OK;
}

static void on_received(void* request, ucs_status_t status, size_t bytes, void* argument) {
  (void)bytes;
  order_done(argument, status);
  ucp_request_free(request);
}

/* Payload that lies with the sender goes into the places. The descriptor is UCX's from here on. */
static void fetch(struct mci_ucx_endpoint* ep, struct mci_ucx_parcel* parcel, const meshcclPlace_t* places, int nplaces,
                  void* token) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  struct mci_ucx_order* order = order_get(ep, token);
  if (!order) {
    host->received(host->self, token, mci_ucx_fail(ep->ctx, meshcclSystemError, "ucx: out of memory for a receive"));
    return;
  }
  order->receive = true;
  for (int i = 0; i < nplaces; i++) order_add(order, places[i].base, places[i].bytes);
  ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
                               .cb.recv_am = on_received,
                               .user_data = order};
  size_t count;
  void* buffer = order_buffer(order, &count, &param);
  ucs_status_ptr_t request = ucp_am_recv_data_nbx(ep->ctx->worker, parcel->data, buffer, count, &param);
  parcel->data = NULL;
  ep->receives++;
  if (!UCS_PTR_IS_PTR(request)) order_done(order, UCS_PTR_STATUS(request));
}

static void hand_over(struct mci_ucx_endpoint* ep, struct mci_ucx_parcel* parcel) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  meshcclPlace_t places[MESHCCL_MAX_PIECES];
  int nplaces = 0;
  void* token = NULL;
  meshcclResult_t result = host->arrive(host->self, ep->peer, parcel->wire.header, parcel->bytes,
                                        parcel->rendezvous ? NULL : parcel->data, places, &nplaces, &token);
  if (result == meshcclSuccess && parcel->rendezvous) fetch(ep, parcel, places, nplaces, token);
}

/* Parcels in sequence. */
static int deliver_parcels(struct mci_ucx_endpoint* ep) {
  int events = 0;
  while (ep->parcels && ep->parcels->wire.sequence == ep->received && !ep->gone) {
    struct mci_ucx_parcel* parcel = ep->parcels;
    ep->parcels = parcel->next;
    ep->received++;
    if (parcel->wire.kind == MCI_UCX_BYE) {
      ep->bye = true;
      if (!ep->failed) mci_ucx_send_note(ep, MCI_UCX_SEEN);
    } else if (parcel->wire.kind == MCI_UCX_MESSAGE) {
      hand_over(ep, parcel);
    }
    mci_ucx_parcel_free(ep->ctx, parcel);
    events++;
  }
  return events;
}

static int deliver_done(struct mci_ucx_context* ctx) {
  const meshcclTransportHost_t* host = ctx->host;
  int events = 0;
  for (; ctx->done; events++) {
    struct mci_ucx_order* order = ctx->done;
    struct mci_ucx_endpoint* ep = order->ep;
    ctx->done = order->next;
    if (!ctx->done) ctx->doneEnd = &ctx->done;
    --*(order->receive ? &ep->receives : &ep->sends);
    /* To a peer that has left in order, messages are dropped without a failure. */
    bool ok = order->status == UCS_OK || (ep->bye && !order->receive);
    bool of_host = order->receive || order->wire.kind == MCI_UCX_MESSAGE;
    if (of_host && !ep->gone)
      (order->receive ? host->received : host->sent)(host->self, order->token,
                                                     ok ? meshcclSuccess : meshcclRemoteError);
    order_put(order);
  }
  return events;
}

static int tell_broken(struct mci_ucx_endpoint* ep) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  if (!ep->failed || ep->told || ep->gone || ep->bye) return 0;
  ep->told = true;
  host->broken(host->self, ep->peer, meshcclRemoteError, ucs_status_string(ep->failure));
  return 1;
}

static int tell_starved(struct mci_ucx_context* ctx) {
  if (!ctx->starved) return 0;
  ctx->starved = false;
  mci_ucx_fail(ctx, meshcclSystemError, "ucx: out of memory for an arrival");
  for (struct mci_ucx_endpoint* ep = ctx->endpoints; ep; ep = ep->next) {
    ep->failed = true;
    ep->failure = UCS_ERR_NO_MEMORY;
  }
  return 1;
}

int mci_ucx_deliver(struct mci_ucx_context* ctx) {
  int events = deliver_done(ctx) + tell_starved(ctx);
  for (struct mci_ucx_endpoint* ep = ctx->endpoints; ep; ep = ep->next) events += deliver_parcels(ep) + tell_broken(ep);
  return events;
}

bool mci_ucx_deliverable(const struct mci_ucx_context* ctx) {
  if (ctx->done || ctx->starved) return true;
  for (struct mci_ucx_endpoint* ep = ctx->endpoints; ep; ep = ep->next) {
    if (ep->gone) continue;
    if (ep->parcels && ep->parcels->wire.sequence == ep->received) return true;
    if (ep->failed && !ep->told && !ep->bye) return true;
  }
  return false;
}
