/* Receiving: small messages many at a time through the context's scratch memory, shown to the host where they lie there;
 * long payloads straight into the host's places, with only a little read ahead behind them. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tcp.h"

#define BULK 8192  /* payloads above this are long */
#define AHEAD 2048 /* read ahead behind a long payload */
#define READS 16   /* per call, so that no endpoint starves the others */
#define READ_MOST ((size_t)4 << 20)

static void garbage(struct mci_tcp_ep* ep) {
  mci_tcp_break(ep, "rank %d wrote what is no message; is something else using its port?", ep->rank);
}

static bool fits(const meshcclPlace_t* places, int nplaces, size_t bytes) {
  size_t room = 0;
  if (nplaces < 1 || nplaces > MESHCCL_MAX_PIECES) return false;
  for (int i = 0; i < nplaces; i++) room += places[i].bytes;
  return room == bytes;
}

/* `n` bytes more stand in the places; from: they are still to be copied there. */
static void fill(struct mci_tcp_ep* ep, const unsigned char* from, size_t n) {
  ep->left -= (uint32_t)n;
  if (ep->drop) return;
  while (n > 0) {
    meshcclPlace_t* place = &ep->places[ep->place];
    size_t part = place->bytes < n ? place->bytes : n;
    if (from && part) {
      memcpy(place->base, from, part);
      from += part;
    }
    place->base = (char*)place->base + part;
    place->bytes -= part;
    n -= part;
    if (place->bytes == 0) ep->place++;
  }
}

static void payload_ends(struct mci_tcp_ep* ep) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  if (ep->left == 0 && !ep->drop) host->received(host->self, ep->token, meshcclSuccess);
}

/* Announces the message of ep->frame, of whose payload `have` bytes stand at `at`. Returns how many it took. */
static size_t announce(struct mci_tcp_ep* ep, uint32_t bytes, const unsigned char* at, size_t have) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  const void* header = ep->frame + MCI_TCP_PREFIX;
  ep->nplaces = ep->place = 0;
  ep->token = NULL;
  ep->bulk = bytes > BULK;
  bool whole = have >= bytes;
  meshcclResult_t taken = host->arrive(host->self, ep->peer, header, bytes, whole && bytes ? at : NULL, ep->places,
                                       &ep->nplaces, &ep->token);
  if (whole || !ep->connected) return bytes < have ? bytes : have;
  ep->left = bytes;
  ep->drop = taken != meshcclSuccess;
  if (!ep->drop && !fits(ep->places, ep->nplaces, bytes)) {
    meshcclResult_t result = mci_tcp_fail(ep->ctx, meshcclInternalError,
                                          "tcp: the places for a message do not hold its %u bytes exactly", bytes);
    ep->drop = true;
    host->received(host->self, ep->token, result);
    if (!ep->connected) return have;
  }
  fill(ep, at, have);
  return have;
}

/* Handles `n` bytes of the stream. */
static int digest(struct mci_tcp_ep* ep, const unsigned char* at, size_t n) {
  int events = 0;
  while (n > 0 && ep->connected && !ep->broken && !ep->peer_gone) {
    size_t take;
    if (ep->left > 0) {
      take = ep->left < n ? ep->left : n;
      fill(ep, at, take);
      payload_ends(ep);
      events += ep->left == 0;
    } else {
      take = MCI_TCP_FRAME - ep->got < n ? MCI_TCP_FRAME - ep->got : n;
      memcpy(ep->frame + ep->got, at, take);
      ep->got += take;
      int kind;
      uint32_t bytes;
      if (ep->got == MCI_TCP_FRAME) {
        ep->got = 0;
        events++;
        if (!mci_tcp_prefix_read(ep->frame, &kind, &bytes)) {
          garbage(ep);
          break;
        }
        if (kind == MCI_TCP_GOODBYE) {
          ep->peer_gone = true;
          mci_tcp_drop_queue(ep, meshcclSuccess);
          break;
        }
        take += announce(ep, bytes, at + take, n - take);
      }
    }
    at += take;
    n -= take;
  }
  return events;
}

/* The peer has closed, or the socket failed. */
static void ended(struct mci_tcp_ep* ep, int error) {
  if (!ep->connected || ep->peer_gone) {
    bool gone = ep->peer_gone && ep->connected;
    mci_tcp_hang_up(ep);
    if (gone) {
      ep->broken = false; /* it left in order: what is sent to it is dropped in silence */
    } else {
      mci_tcp_ep_release(ep);
    }
    return;
  }
  if (!error) error = ep->tx_error;
  mci_tcp_break(ep, "rank %d closed its connection without a goodbye%s%s; its process may have ended", ep->rank,
                error ? ": " : "", error ? strerror(error) : "");
}

/* One system call. Returns whether there may be more. */
static bool read_once(struct mci_tcp_ep* ep, size_t* total, int* events) {
  struct mci_tcp_ctx* ctx = ep->ctx;
  struct iovec vectors[MESHCCL_MAX_PIECES + 1];
  size_t direct = 0, ahead = ep->connected && ep->bulk ? AHEAD : MCI_TCP_SCRATCH;
  int n = 0;
  if (ep->connected && ep->left > 0 && !ep->drop) {
    for (int i = ep->place; i < ep->nplaces; i++) {
      vectors[n++] = (struct iovec){ep->places[i].base, ep->places[i].bytes};
      direct += ep->places[i].bytes;
    }
  }
  vectors[n++] = (struct iovec){ctx->scratch, ahead};
  ssize_t got = n == 1 ? recv(ep->source.fd, ctx->scratch, ahead, MSG_DONTWAIT) : readv(ep->source.fd, vectors, n);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
  if (got < 0 && errno == EINTR) return true;
  if (got <= 0) {
    (*events)++;
    ended(ep, got < 0 ? errno : 0);
    return false;
  }
  size_t into = (size_t)got < direct ? (size_t)got : direct;
  *total += (size_t)got;
  if (into > 0) {
    fill(ep, NULL, into);
    payload_ends(ep);
    *events += ep->left == 0;
  }
  if ((size_t)got > into && ep->connected) *events += digest(ep, ctx->scratch, (size_t)got - into);
  return (size_t)got == direct + ahead;
}

int mci_tcp_read(struct mci_tcp_ep* ep) {
  int events = 0;
  size_t total = 0;
  for (int i = 0; i < READS && total < READ_MOST && ep->source.fd >= 0; i++)
    if (!read_once(ep, &total, &events)) break;
  return events;
}
