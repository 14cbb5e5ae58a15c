/* Receiving: polls the rings of connected endpoints and hands messages to the host where they lie. Sends nothing. */
#include "shm.h"

/* Polled at every call; of the others a few in turn, so that an idle call costs the same with 10 peers and with 1000.
 * One that had a message moves to the front. */
#define HOT 16u
#define COLD_SHARE 8u

static void consumed(struct mci_shm_ep* ep) {
  mci_shm_rx_pop(&ep->rx);
  _Atomic uint32_t* wants_room = &ep->rx.ring->wants_room;
  if (__builtin_expect(mci_shm_flag_after_publish(wants_room, ep->asymmetric), 0)) {
    atomic_exchange(wants_room, 0);
    mci_shm_wake(ep);
  }
}

static __attribute__((cold)) void declare_broken(struct mci_shm_ep* ep) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  ep->broken = true;
  host->broken(host->self, ep->peer, meshcclRemoteError, "shm: the peer wrote garbage into its ring");
}

/* One message at a time: a look at the next cell would take its line away from the sender, which has fetched it to
 * write there, for a message that is seldom there yet. */
static int poll_endpoint(struct mci_shm_ep* ep) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  struct mci_shm_message message;
  meshcclPlace_t places[MESHCCL_MAX_PIECES];
  int found = ep->broken ? 0 : mci_shm_rx_peek(&ep->rx, &message), nplaces = 0;
  void* token = NULL;
  if (found == 0) return 0;
  if (found < 0) {
    declare_broken(ep);
    return 1;
  }
  /* A host that cannot take the message is in a failed state, and the message is dropped. */
  host->arrive(host->self, ep->peer, message.header, message.bytes, message.data, places, &nplaces, &token);
  consumed(ep);
  return 1;
}

static int poll_cold(struct mci_shm_ctx* ctx) {
  int events = 0;
  for (uint32_t k = 0; k < COLD_SHARE && ctx->neps > HOT; k++) {
    uint32_t i = HOT + ctx->cursor++ % (ctx->neps - HOT);
    struct mci_shm_ep* ep = ctx->eps[i];
    if (!mci_shm_rx_pending(&ep->rx)) continue;
    uint32_t to = ctx->victim++ % HOT;
    ctx->eps[i] = ctx->eps[to];
    ctx->eps[to] = ep;
    events += poll_endpoint(ep);
  }
  return events;
}

/* Room where send() said Busy is an event, so that the caller tries again. */
static __attribute__((cold)) int feed_starved(struct mci_shm_ctx* ctx) {
  int events = 0;
  for (uint32_t i = 0; i < ctx->neps; i++) {
    struct mci_shm_ep* ep = ctx->eps[i];
    if (!ep->starved || !mci_shm_tx_refresh(&ep->tx)) continue;
    ep->starved = false;
    ctx->nstarved--;
    events++;
  }
  return events;
}

int mci_shm_progress(void* opaque) {
  struct mci_shm_ctx* ctx = opaque;
  if (__builtin_expect(ctx->armed, 0)) mci_shm_disarm(ctx);
  int events = 0;
  for (uint32_t i = 0; i < ctx->neps && i < HOT; i++) events += poll_endpoint(ctx->eps[i]);
  if (ctx->neps > HOT) events += poll_cold(ctx);
  if (__builtin_expect(ctx->nstarved > 0, 0)) events += feed_starved(ctx);
  return events;
}
