/* Sending: straight from the pieces into the socket; what the socket does not take waits in a short queue, small payloads
 * copied, long ones where they are. The host is told when a message that it has a token for has left the queue: its
 * operation is not over before, because nobody may call again to send the rest. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tcp.h"

#define BATCH 64   /* stretches per system call */
#define LONG 98304 /* bytes of a message whose end may wait */
#define SHORT_TAIL 4096
#define SEVERAL 3

static struct mci_tcp_item* item_at(const struct mci_tcp_ep* ep, uint64_t number) {
  return &ep->queue[number % MCI_TCP_QUEUE];
}

static bool has_output(const struct mci_tcp_ep* ep) {
  return ep->established && !ep->tx_error && !ep->peer_gone && (ep->head != ep->tail || (ep->goodbye && !ep->shut));
}

void mci_tcp_update_writing(struct mci_tcp_ep* ep) {
  bool writing = has_output(ep);
  if (writing == ep->writing) return;
  ep->writing = writing;
  ep->ctx->nwriting += writing ? 1 : (uint32_t)-1;
}

/* An error of the socket while sending. What the peer said before may still be read: the reading side ends it. */
static void note_error(struct mci_tcp_ep* ep, int error) {
  if (ep->tx_error || !ep->established) return;
  ep->tx_error = error;
  ep->ctx->nfailing++;
  mci_tcp_update_writing(ep);
}

/* Bytes that the socket took, 0 also when it failed. */
static size_t put(struct mci_tcp_ep* ep, struct iovec* vectors, int n) {
  struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)n};
  for (;;) {
    ssize_t sent = sendmsg(ep->source.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return (size_t)sent;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) return 0;
    if (errno == EINTR) continue;
    note_error(ep, errno);
    return 0;
  }
}

/* ---- the queue ---- */

/* Appends the stretches of an item from byte `from` on. */
static int list_item(struct mci_tcp_item* item, size_t from, struct iovec* out, int room) {
  int n = 0;
  for (int i = -1; i < item->npieces && n < room; i++) {
    unsigned char* base = i < 0 ? item->frame : (unsigned char*)(uintptr_t)item->pieces[i].base;
    size_t bytes = i < 0 ? MCI_TCP_FRAME : item->pieces[i].bytes;
    if (from >= bytes) {
      from -= bytes;
      continue;
    }
    out[n++] = (struct iovec){base + from, bytes - from};
    from = 0;
  }
  return n;
}

static int finish_items(struct mci_tcp_ep* ep, size_t sent) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  int events = 0;
  ep->done += sent;
  while (ep->head != ep->tail && ep->done >= item_at(ep, ep->head)->bytes) {
    struct mci_tcp_item* item = item_at(ep, ep->head);
    bool waited_for = item->waited_for;
    void* token = item->token;
    ep->done -= item->bytes;
    ep->head++;
    events += ep->starved || waited_for;
    ep->starved = false;
    if (waited_for && ep->connected) host->sent(host->self, token, meshcclSuccess);
  }
  return events;
}

static void say_goodbye(struct mci_tcp_ep* ep) {
  unsigned char frame[MCI_TCP_FRAME] = {0};
  mci_tcp_prefix_write(frame, MCI_TCP_GOODBYE, 0);
  struct iovec rest = {frame + ep->goodbye_done, MCI_TCP_FRAME - ep->goodbye_done};
  ep->goodbye_done += put(ep, &rest, 1);
  if (ep->goodbye_done < MCI_TCP_FRAME) return;
  shutdown(ep->source.fd, SHUT_WR);
  ep->shut = true;
}

void mci_tcp_watch_room(struct mci_tcp_ep* ep, bool wanted) {
  if (ep->wants_out == wanted || ep->source.fd < 0) return;
  if (mci_tcp_watch(ep->ctx, ep->source.fd, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN, &ep->source)) ep->wants_out = wanted;
}

int mci_tcp_flush(struct mci_tcp_ep* ep) {
  int events = 0;
  while (has_output(ep) && ep->head != ep->tail) {
    struct iovec vectors[BATCH];
    int n = 0;
    size_t from = ep->done, listed = 0;
    for (uint64_t i = ep->head; i != ep->tail && n < BATCH; i++, from = 0)
      n += list_item(item_at(ep, i), from, vectors + n, BATCH - n);
    for (int i = 0; i < n; i++) listed += vectors[i].iov_len;
    size_t sent = put(ep, vectors, n);
    events += finish_items(ep, sent);
    if (sent < listed) break;
  }
  if (has_output(ep) && ep->head == ep->tail) say_goodbye(ep);
  mci_tcp_update_writing(ep);
  if (!ep->writing) mci_tcp_watch_room(ep, false);
  return events;
}

void mci_tcp_drop_queue(struct mci_tcp_ep* ep, meshcclResult_t result) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  while (ep->head != ep->tail) {
    const struct mci_tcp_item* item = item_at(ep, ep->head++);
    bool waited_for = item->waited_for;
    void* token = item->token;
    if (waited_for && ep->connected) host->sent(host->self, token, result);
  }
  ep->done = 0;
  mci_tcp_update_writing(ep);
}

/* ---- send ---- */

static meshcclResult_t enqueue(struct mci_tcp_ep* ep, const unsigned char* frame, const meshcclPiece_t* pieces,
                               int npieces, size_t payload, void* token) {
  struct mci_tcp_item* item = item_at(ep, ep->tail);
  memcpy(item->frame, frame, MCI_TCP_FRAME);
  item->bytes = MCI_TCP_FRAME + payload;
  item->token = token;
  item->waited_for = token || payload > MCI_TCP_COPY;
  item->npieces = npieces;
  if (payload > MCI_TCP_COPY) {
    memcpy(item->pieces, pieces, (size_t)npieces * sizeof *pieces);
  } else {
    size_t at = 0;
    for (int i = 0; i < npieces; i++) {
      if (pieces[i].bytes) memcpy(item->copy + at, pieces[i].base, pieces[i].bytes);
      at += pieces[i].bytes;
    }
    item->npieces = payload > 0;
    item->pieces[0] = (meshcclPiece_t){item->copy, payload};
  }
  ep->tail++;
  mci_tcp_update_writing(ep);
  return item->waited_for ? meshcclInProgress : meshcclSuccess;
}

static __attribute__((cold)) meshcclResult_t refuse(struct mci_tcp_ep* ep, size_t payload, int npieces) {
  if (ep->broken)
    return mci_tcp_fail(ep->ctx, meshcclRemoteError, "tcp: the connection to rank %d is broken", ep->rank);
  return mci_tcp_fail(ep->ctx, meshcclInvalidArgument, "tcp: %zu bytes in %d pieces; at most %u bytes in %d pieces",
                      payload, npieces, MCI_TCP_MAX_PAYLOAD, MESHCCL_MAX_PIECES);
}

/* Counts long messages. Whether another one is likely to follow at once: several did in this round, or in the last that
 * had any. */
static bool in_a_row(struct mci_tcp_ep* ep, size_t bytes) {
  if (bytes < LONG) return false;
  if (ep->long_round != ep->ctx->round) {
    ep->long_round = ep->ctx->round;
    ep->rows = ep->longs >= SEVERAL;
    ep->longs = 0;
  }
  return ++ep->longs >= SEVERAL || ep->rows;
}

/* Bytes at the end of a message that would leave in a segment of their own, which costs almost as much as a long one. */
static size_t tail_of(const struct mci_tcp_ep* ep, size_t bytes, size_t last) {
  size_t tail = ep->segment ? bytes % ep->segment : 0;
  return tail <= SHORT_TAIL && tail < last ? tail : 0;
}

meshcclResult_t mci_tcp_send(void* opaque, const void* header, const meshcclPiece_t* pieces, int npieces, void* token) {
  struct mci_tcp_ep* ep = opaque;
  struct iovec vectors[MESHCCL_MAX_PIECES + 1];
  unsigned char frame[MCI_TCP_FRAME];
  size_t payload = 0;
  if (npieces < 0 || npieces > MESHCCL_MAX_PIECES) return refuse(ep, 0, npieces);
  for (int i = 0; i < npieces; i++) {
    payload += pieces[i].bytes;
    vectors[i + 1] = (struct iovec){(void*)(uintptr_t)pieces[i].base, pieces[i].bytes};
  }
  if (__builtin_expect(ep->broken || payload > MCI_TCP_MAX_PAYLOAD, 0)) return refuse(ep, payload, npieces);
  if (__builtin_expect(ep->peer_gone || ep->tx_error, 0)) return meshcclSuccess; /* nobody is there to take it */
  if (ep->tail - ep->head == MCI_TCP_QUEUE) {
    ep->starved = true;
    return meshcclBusy;
  }
  if (__builtin_expect(!ep->queue, 0) && !(ep->queue = malloc(MCI_TCP_QUEUE * sizeof *ep->queue)))
    return mci_tcp_fail(ep->ctx, meshcclSystemError, "tcp: out of memory for the queue to rank %d", ep->rank);
  mci_tcp_prefix_write(frame, MCI_TCP_MESSAGE, (uint32_t)payload);
  memcpy(frame + MCI_TCP_PREFIX, header, MESHCCL_HEADER_BYTES);
  size_t sent = 0;
  bool waits = in_a_row(ep, payload); /* its end, until the next round, and leaves with what is sent meanwhile */
  if (ep->established && ep->head == ep->tail) {
    vectors[0] = (struct iovec){frame, sizeof frame};
    if (waits) vectors[npieces].iov_len -= tail_of(ep, sizeof frame + payload, vectors[npieces].iov_len);
    sent = put(ep, vectors, npieces + 1);
    if (sent == sizeof frame + payload || ep->tx_error) return meshcclSuccess;
    ep->done = sent;
  }
  return enqueue(ep, frame, pieces, npieces, payload, token);
}
