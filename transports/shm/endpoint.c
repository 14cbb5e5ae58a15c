/* Endpoints: connect, disconnect, send. A disconnected endpoint is parked until the context closes: messages that lie
 * in its rings stay where they are, and a later connect to the same context goes on where it stopped. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm.h"

/* A ring belongs to the first context that claims it, on either side. */
static bool claim(struct mci_shm_ring* ring, uint64_t token) {
  uint64_t holder = 0;
  return atomic_compare_exchange_strong(&ring->sender, &holder, token) || holder == token;
}

static bool add_to_poll_list(struct mci_shm_ctx* ctx, struct mci_shm_ep* ep) {
  if (ctx->neps == ctx->cap_eps) {
    uint32_t cap = ctx->cap_eps ? 2 * ctx->cap_eps : 8;
    struct mci_shm_ep** grown = realloc(ctx->eps, cap * sizeof(struct mci_shm_ep*));
    if (!grown) return false;
    ctx->eps = grown;
    ctx->cap_eps = cap;
  }
  ctx->eps[ctx->neps++] = ep;
  return true;
}

static struct mci_shm_ep* find(const struct mci_shm_ctx* ctx, uint64_t token) {
  struct mci_shm_ep* ep = ctx->all;
  while (ep && ep->address.token != token) ep = ep->next;
  return ep;
}

static void unclaim(struct mci_shm_ring* ring, uint64_t token) {
  atomic_compare_exchange_strong(&ring->sender, &token, 0);
}

/* Joins both directions. A peer that has gone may have left messages: then its ring to us is claimed, and we only read.
 */
static meshcclResult_t join(struct mci_shm_ep* ep) {
  const struct mci_shm_ctx* ctx = ep->ctx;
  uint64_t token = ep->address.token;
  struct mci_shm_ring* own = ep->rx.ring = mci_shm_segment_ring(ctx, ep->address.rank);
  bool wrote_to_us = atomic_load(&own->sender) == token;
  if (!claim(own, token))
    return mci_shm_fail(ctx, meshcclInvalidUsage, "shm: two contexts call themselves rank %u towards rank %u",
                        ep->address.rank, ctx->self.rank);
  bool attached = mci_shm_attach(ep);
  if (attached ? claim(ep->tx.ring, ctx->self.token) : wrote_to_us) return meshcclSuccess;
  int cause = errno;
  if (!wrote_to_us) unclaim(own, token);
  if (!attached)
    return mci_shm_fail(ctx, meshcclRemoteError, "shm: memory of rank %d (process %d) cannot be opened: %s",
                        ep->peer_rank, ep->address.pid, strerror(cause));
  mci_shm_detach(ep);
  return mci_shm_fail(ctx, meshcclInvalidUsage, "shm: another context calls itself rank %u towards rank %u",
                      ctx->self.rank, ep->address.rank);
}

static meshcclResult_t make(struct mci_shm_ctx* ctx, int peerRank, const struct mci_shm_address* address,
                            struct mci_shm_ep** out) {
  void* memory = NULL;
  if (posix_memalign(&memory, MCI_SHM_LINE, sizeof(struct mci_shm_ep)) != 0)
    return mci_shm_fail(ctx, meshcclSystemError, "shm: out of memory for an endpoint");
  struct mci_shm_ep* ep = memset(memory, 0, sizeof *ep);
  ep->ctx = ctx;
  ep->peer_rank = peerRank;
  ep->process = -1;
  ep->address = *address;
  ep->same_process = address->pid == ctx->self.pid;
  ep->asymmetric = (address->flags & ctx->self.flags & MCI_SHM_ADDRESS_BARRIER) != 0;
  meshcclResult_t result = join(ep);
  if (result != meshcclSuccess) {
    free(ep);
    return result;
  }
  mci_shm_hands_join(&ep->hands, &ep->tx, &ep->rx);
  ep->next = ctx->all;
  ctx->all = ep;
  *out = ep;
  return meshcclSuccess;
}

meshcclResult_t mci_shm_connect(void* opaque, void* peer, int peerRank, const void* address, size_t bytes, void** out) {
  struct mci_shm_ctx* ctx = opaque;
  struct mci_shm_address parsed;
  if (!mci_shm_address_parse(ctx, address, bytes, &parsed))
    return mci_shm_fail(ctx, meshcclInvalidArgument,
                        "shm: rank %d is not on this host under this user, or not of this communicator", peerRank);
  struct mci_shm_ep* ep = find(ctx, parsed.token);
  if (ep && ep->connected)
    return mci_shm_fail(ctx, meshcclInvalidUsage, "shm: rank %d is connected already; one endpoint per peer", peerRank);
  if (!ep) {
    meshcclResult_t result = make(ctx, peerRank, &parsed, &ep);
    if (result != meshcclSuccess) return result;
  }
  if (!add_to_poll_list(ctx, ep)) return mci_shm_fail(ctx, meshcclSystemError, "shm: out of memory for an endpoint");
  ep->peer = peer;
  ep->connected = true;
  *out = ep;
  return meshcclSuccess;
}

void mci_shm_disconnect(void* opaque) {
  struct mci_shm_ep* ep = opaque;
  struct mci_shm_ctx* ctx = ep->ctx;
  uint32_t i = 0;
  while (ctx->eps[i] != ep) i++;
  ctx->eps[i] = ctx->eps[--ctx->neps];
  ctx->nstarved -= ep->starved;
  ep->starved = false;
  ep->connected = false;
}

void mci_shm_ep_free(struct mci_shm_ep* ep) {
  struct mci_shm_ep** link = &ep->ctx->all;
  while (*link != ep) link = &(*link)->next;
  *link = ep->next;
  if (ep->process >= 0) close(ep->process);
  mci_shm_detach(ep);
  free(ep);
}

static __attribute__((cold)) meshcclResult_t refuse(struct mci_shm_ep* ep, size_t bytes) {
  if (ep->broken || !ep->tx.ring)
    return mci_shm_fail(ep->ctx, meshcclRemoteError, "shm: rank %d %s; nothing can be sent to it", ep->peer_rank,
                        ep->broken ? "wrote garbage into its ring" : "has closed its side");
  return mci_shm_fail(ep->ctx, meshcclInvalidArgument, "shm: a payload of %zu bytes; at most %u", bytes,
                      MCI_SHM_MAX_PAYLOAD);
}

static __attribute__((cold)) meshcclResult_t starve(struct mci_shm_ep* ep) {
  ep->ctx->nstarved += !ep->starved;
  ep->starved = true;
  return meshcclBusy;
}

void mci_shm_writes_next(void* opaque, meshcclPlace_t lines[2]) {
  struct mci_shm_ep* ep = opaque;
  if (ep->tx.ring) mci_shm_tx_next(&ep->tx, lines);
  if (!ep->tx.ring || ep->tx.last_bytes > MCI_SHM_FETCHED) lines[0] = lines[1] = (meshcclPlace_t){NULL, 0};
}

meshcclResult_t mci_shm_send(void* opaque, const void* header, const meshcclPiece_t* pieces, int npieces, void* token) {
  struct mci_shm_ep* ep = opaque;
  size_t bytes = 0;
  (void)token;
  for (int i = 0; i < npieces; i++) bytes += pieces[i].bytes;
  /* Of several peers, each has a line that must cross: they do it at once, and while the next message is written. */
  if (ep->ctx->neps > 1) __builtin_prefetch(&ep->rx.ring->cells[ep->rx.tail % MCI_SHM_CELLS]);
  if (__builtin_expect(bytes > MCI_SHM_MAX_PAYLOAD || ep->broken || !ep->tx.ring, 0)) return refuse(ep, bytes);
  if (__builtin_expect(!mci_shm_tx_put(&ep->tx, header, pieces, npieces, bytes), 0)) return starve(ep);
  if (__builtin_expect(mci_shm_flag_after_publish(&ep->bell->asleep, ep->asymmetric), 0)) mci_shm_wake(ep);
  return meshcclSuccess;
}
