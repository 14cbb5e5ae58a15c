/* The side of the lower rank: looks for its peer at all addresses that the peer has. The most hopeful comes first, each
 * has a head start over the next, and the first that proves to be the peer wins; so an address that nobody answers at
 * costs a moment and no more. A peer that took the connection but is busy is waited for without limit. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tcp.h"

#define HEAD_START_NS 100000000ull
#define CONNECT_NS 5000000000ull
#define ROUNDS 4
#define REST_NS 50000000ull /* after the first round; doubles */

/* ---- the order of hope ---- */

static bool is_loopback(const meshcclNetAddress_t* a) {
  static const uint8_t one[16] = {[15] = 1};
  return a->family == 4 ? a->bytes[0] == 127 : memcmp(a->bytes, one, sizeof one) == 0;
}

static int common_bits(const meshcclNetAddress_t* a, const meshcclNetAddress_t* b) {
  int bits = 0, limit = a->family == 4 ? 32 : 128;
  if (a->family != b->family) return 0;
  while (bits < limit && !((a->bytes[bits / 8] ^ b->bytes[bits / 8]) & (0x80 >> bits % 8))) bits++;
  return a->family == 4 ? 4 * bits : bits;
}

#define ON_OUR_SUBNET 512 /* above all counts of bits */

/* On one host loopback; else an address in the subnet of one of our interfaces, which is at the other end of that link;
 * else whoever shares the longest prefix with an address of ours, and loopback last: several "hosts" of MESHCCL_HOST_ID
 * may share one. */
static int hope(const struct mci_tcp_ctx* ctx, const struct mci_tcp_address* peer, int i) {
  const meshcclNetAddress_t* a = &peer->at[i];
  if (is_loopback(a)) return peer->host == ctx->self.host ? 1000 : -1;
  int best = 0;
  for (int k = 0; k < ctx->self.n; k++) {
    const meshcclNetAddress_t* own = &ctx->self.at[k];
    int bits = common_bits(a, own), needed = a->family == 4 ? 4 * own->prefix : own->prefix;
    if (own->prefix && a->family == own->family && bits >= needed) bits += ON_OUR_SUBNET;
    if (bits > best) best = bits;
  }
  return best;
}

static void sort(const struct mci_tcp_ctx* ctx, const struct mci_tcp_address* peer, int* order) {
  for (int i = 0; i < peer->n; i++) {
    int at = i;
    for (; at > 0 && hope(ctx, peer, order[at - 1]) < hope(ctx, peer, i); at--) order[at] = order[at - 1];
    order[at] = i;
  }
}

/* ---- attempts ---- */

static void note_cause(struct mci_tcp_ep* ep, int address, const char* why) {
  char text[MCI_TCP_TEXT], *causes = ep->dial->causes;
  size_t used = strlen(causes);
  mci_tcp_print(&ep->address.at[address], text);
  snprintf(causes + used, MCI_TCP_CAUSES - used, "%s%s: %s", used ? "; " : "", text, why);
}

static void give_up(struct mci_tcp_attempt* attempt, const char* why) {
  note_cause(attempt->ep, attempt->address, why);
  mci_tcp_unwatch(attempt->ep->ctx, &attempt->source);
}

static bool start(struct mci_tcp_ep* ep, int i, uint64_t now_ns) {
  struct mci_tcp_ctx* ctx = ep->ctx;
  struct mci_tcp_attempt* attempt = &ep->dial->attempts[i];
  attempt->ep = ep;
  attempt->address = ep->dial->order[i];
  attempt->since_ns = now_ns;
  attempt->state = MCI_TCP_CONNECTING;
  attempt->got = 0;
  int fd = ctx->host->dial(ctx->host->self, &ep->address.at[attempt->address]);
  if (fd < 0) {
    note_cause(ep, attempt->address, strerror(errno));
    return false;
  }
  attempt->source.fd = fd;
  if (mci_tcp_watch(ctx, fd, EPOLLOUT, &attempt->source)) return true;
  give_up(attempt, strerror(errno));
  return false;
}

static int count_active(const struct mci_tcp_dial* dial) {
  int n = 0;
  for (int i = 0; i < MESHCCL_MAX_NET_ADDRESSES; i++) n += dial->attempts[i].source.fd >= 0;
  return n;
}

static void expire(struct mci_tcp_ep* ep, uint64_t now_ns) {
  for (int i = 0; i < ep->dial->next; i++) {
    struct mci_tcp_attempt* attempt = &ep->dial->attempts[i];
    if (attempt->source.fd < 0 || attempt->state != MCI_TCP_CONNECTING) continue;
    if (now_ns - attempt->since_ns >= CONNECT_NS) {
      give_up(attempt, strerror(ETIMEDOUT));
    } else {
      mci_tcp_wake_at(ep->ctx, attempt->since_ns + CONNECT_NS);
    }
  }
}

static bool only_loopback(const struct mci_tcp_address* peer) {
  for (int i = 0; i < peer->n; i++)
    if (!is_loopback(&peer->at[i])) return false;
  return true;
}

static void unreachable(struct mci_tcp_ep* ep) {
  if (only_loopback(&ep->address) && ep->address.host != ep->ctx->self.host) {
    mci_tcp_break(ep,
                  "rank %d cannot be reached (%s): on its host it listens on loopback only; set MESHCCL_SECRET_FILE on "
                  "every rank (or MESHCCL_AUTH=none) and look at MESHCCL_SOCKET_IFNAME",
                  ep->rank, ep->dial->causes);
    return;
  }
  mci_tcp_break(ep,
                "rank %d cannot be reached (%s); look at firewalls, and name the interfaces that join the hosts in "
                "MESHCCL_SOCKET_IFNAME",
                ep->rank, ep->dial->causes);
}

static void rest_or_end(struct mci_tcp_ep* ep, uint64_t now_ns) {
  struct mci_tcp_dial* dial = ep->dial;
  if (++dial->round == ROUNDS) {
    unreachable(ep);
    return;
  }
  dial->resting = true;
  dial->next_ns = now_ns + (REST_NS << dial->round);
  mci_tcp_wake_at(ep->ctx, dial->next_ns);
}

void mci_tcp_dial_step(struct mci_tcp_ep* ep, uint64_t now_ns) {
  struct mci_tcp_dial* dial = ep->dial;
  if (dial->resting) {
    if (now_ns < dial->next_ns) {
      mci_tcp_wake_at(ep->ctx, dial->next_ns);
      return;
    }
    dial->resting = false;
    dial->next = 0;
    dial->causes[0] = 0;
  }
  expire(ep, now_ns);
  int active = count_active(dial);
  while (dial->next < ep->address.n && (active == 0 || now_ns >= dial->next_ns)) {
    active += start(ep, dial->next++, now_ns);
    dial->next_ns = now_ns + HEAD_START_NS;
  }
  if (active == 0) {
    rest_or_end(ep, now_ns);
  } else if (dial->next < ep->address.n) {
    mci_tcp_wake_at(ep->ctx, dial->next_ns);
  }
}

bool mci_tcp_dial_begin(struct mci_tcp_ep* ep) {
  ep->dial = calloc(1, sizeof *ep->dial);
  if (!ep->dial) return false;
  for (int i = 0; i < MESHCCL_MAX_NET_ADDRESSES; i++)
    ep->dial->attempts[i].source = (struct mci_tcp_source){MCI_TCP_S_ATTEMPT, -1};
  sort(ep->ctx, &ep->address, ep->dial->order);
  /* The first step is that of the next progress(): errors are reported there. */
  ep->dial->resting = true;
  ep->dial->next_ns = mci_tcp_now_ns();
  mci_tcp_wake_at(ep->ctx, ep->dial->next_ns);
  return true;
}

void mci_tcp_dial_end(struct mci_tcp_ep* ep) {
  struct mci_tcp_dial* dial = ep->dial;
  if (!dial) return;
  for (int i = 0; i < MESHCCL_MAX_NET_ADDRESSES; i++) mci_tcp_unwatch(ep->ctx, &dial->attempts[i].source);
  ep->dial = NULL;
  dial->next_gone = ep->ctx->gone_dials;
  ep->ctx->gone_dials = dial;
}

/* ---- the handshake ---- */

/* A fresh connection has room for the few bytes of a handshake, but nobody promises that one call takes them all. */
bool mci_tcp_say(int fd, const void* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = send(fd, (const char*)data + done, bytes - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EINTR) return false;
    if (n > 0) done += (size_t)n;
  }
  return true;
}

static void say_hello(struct mci_tcp_attempt* attempt) {
  struct mci_tcp_ep* ep = attempt->ep;
  struct mci_tcp_ctx* ctx = ep->ctx;
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(attempt->source.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  struct mci_tcp_hello hello = {.from = ctx->self.rank, .to = ep->address.rank};
  memcpy(hello.from_token, ctx->self.token, MCI_TCP_TOKEN);
  memcpy(hello.to_token, ep->address.token, MCI_TCP_TOKEN);
  ctx->host->random(ctx->host->self, hello.nonce, sizeof hello.nonce);
  mci_tcp_hello_write(&hello, attempt->hello);
  if (error == 0 && !mci_tcp_say(attempt->source.fd, attempt->hello, sizeof attempt->hello)) error = errno;
  if (error == 0 && !mci_tcp_watch(ctx, attempt->source.fd, EPOLLIN, &attempt->source)) error = errno;
  if (error != 0) {
    give_up(attempt, strerror(error));
    return;
  }
  attempt->state = MCI_TCP_SAID_HELLO;
}

/* The peer has proved itself: only now ours goes out, and only to one. */
static void answer(struct mci_tcp_attempt* attempt) {
  struct mci_tcp_ep* ep = attempt->ep;
  unsigned char proof[MCI_TCP_PROOF];
  mci_tcp_prove(ep->ctx, MCI_TCP_LISTENER, attempt->hello, attempt->in, proof);
  if (!mci_tcp_equal(proof, attempt->in + MCI_TCP_NONCE, sizeof proof)) {
    give_up(attempt,
            "whoever answers there does not know the secret of this communicator (is MESHCCL_SECRET or "
            "MESHCCL_SECRET_FILE the same everywhere?)");
    return;
  }
  for (int i = 0; i < MESHCCL_MAX_NET_ADDRESSES; i++)
    if (&ep->dial->attempts[i] != attempt) mci_tcp_unwatch(ep->ctx, &ep->dial->attempts[i].source);
  ep->dial->next = ep->address.n;
  mci_tcp_prove(ep->ctx, MCI_TCP_DIALLER, attempt->hello, attempt->in, proof);
  attempt->state = MCI_TCP_PROVED;
  attempt->got = 0;
  if (!mci_tcp_say(attempt->source.fd, proof, sizeof proof)) give_up(attempt, strerror(errno));
}

static void welcome(struct mci_tcp_attempt* attempt) {
  struct mci_tcp_ep* ep = attempt->ep;
  if (memcmp(attempt->in, mci_tcp_accepted, MCI_TCP_ACCEPTED) != 0) {
    give_up(attempt, "the peer does not follow the protocol");
    return;
  }
  int fd = attempt->source.fd, address = attempt->address;
  epoll_ctl(ep->ctx->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
  attempt->source.fd = -1;
  char text[MCI_TCP_TEXT];
  mci_tcp_print(&ep->address.at[address], text);
  mci_tcp_log(ep->ctx, 3, "tcp: rank %u is connected to rank %d at %s", ep->ctx->self.rank, ep->rank, text);
  mci_tcp_established(ep, fd);
}

/* Never reads beyond what the state wants: messages may follow at once. */
static bool hear(struct mci_tcp_attempt* attempt, size_t want) {
  ssize_t n = recv(attempt->source.fd, attempt->in + attempt->got, want - attempt->got, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n <= 0) {
    give_up(attempt, n < 0 ? strerror(errno) : "closed during the handshake");
    return false;
  }
  attempt->got += (size_t)n;
  return attempt->got == want;
}

int mci_tcp_attempt_event(struct mci_tcp_attempt* attempt) {
  struct mci_tcp_ep* ep = attempt->ep;
  if (attempt->state == MCI_TCP_CONNECTING) {
    say_hello(attempt);
  } else if (attempt->state == MCI_TCP_SAID_HELLO) {
    if (hear(attempt, MCI_TCP_CHALLENGE)) answer(attempt);
  } else if (hear(attempt, MCI_TCP_ACCEPTED)) {
    welcome(attempt);
  }
  if (ep->dial && count_active(ep->dial) == 0) mci_tcp_dial_step(ep, mci_tcp_now_ns());
  return 1;
}
