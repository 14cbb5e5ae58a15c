/* One question to one listener: connect, prove to each other that both know the secret, hear the answer. Never blocks:
 * join.c drives it with poll, attach.c from the tree's progress. Keeps nothing of the tree. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "boot/control.h"

#define ANSWER_NS 30000000000ull

static void down(mci_dial* dial, const char* why) {
  snprintf(dial->trouble, sizeof dial->trouble, "%s: %s", dial->where, why);
  mci_dial_close(dial);
}

static int connect_unix(mci_boot* boot, int target, int32_t* pid, uid_t* user) {
  struct sockaddr_un address;
  socklen_t length;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  mci_auth_address(&boot->id, boot->self.host, target, &address, &length);
  if (connect(fd, (const struct sockaddr*)&address, length) < 0) {
    int cause = errno;
    close(fd);
    errno = cause;
    return -1;
  }
  *pid = mci_socket_peer(fd, user);
  return fd;
}

void mci_dial_start(mci_boot* boot, int target, const meshcclNetAddress_t* address, bool attaches, uint64_t until_ns,
                    mci_dial* out) {
  *out = (mci_dial){.fd = -1, .tcp = address != NULL, .until_ns = until_ns};
  mci_hello* hello = &out->hello;
  hello->version = MCI_HELLO_VERSION;
  hello->rank = boot->rank;
  hello->nranks = boot->nranks;
  hello->target = target;
  hello->attaches = attaches;
  hello->place = boot->self;
  mci_auth_nonce(hello->nonce);
  uid_t user = geteuid();
  if (address) {
    mci_net_print(address, out->where, sizeof out->where);
    out->fd = mci_net_connect(address);
  } else {
    snprintf(out->where, sizeof out->where, "its socket on this host");
    out->fd = connect_unix(boot, target, &out->pid, &user);
  }
  if (out->fd < 0) {
    out->refused = errno == ECONNREFUSED;
    down(out, strerror(errno));
  } else if (user != geteuid()) {
    char why[100];
    snprintf(why, sizeof why, "user %u listens there; only ranks of one user can join", (unsigned)user);
    down(out, why);
  }
}

short mci_dial_events(const mci_dial* dial) { return dial->tcp && !dial->asked ? POLLOUT : POLLIN; }

/* Taken out of the set by name: a forked child may share the socket. */
static void forget(mci_dial* dial) {
  if (dial->fd >= 0 && dial->epoll_fd > 0) epoll_ctl(dial->epoll_fd, EPOLL_CTL_DEL, dial->fd, NULL);
  dial->epoll_fd = 0;
}

int mci_dial_take(mci_dial* dial) {
  int fd = dial->fd;
  forget(dial);
  dial->fd = -1;
  return fd;
}

void mci_dial_close(mci_dial* dial) {
  forget(dial);
  if (dial->fd >= 0) close(dial->fd);
  dial->fd = -1;
}

/* A few hundred bytes into an empty socket: they fit, or something is wrong. */
static bool say(mci_dial* dial, mci_frame_type type, const void* data, size_t bytes) {
  mci_header header = {.type = (uint16_t)type, .from = dial->hello.rank, .to = -1, .bytes = (uint32_t)bytes};
  struct iovec parts[2] = {{&header, sizeof header}, {(void*)(uintptr_t)data, bytes}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  return sendmsg(dial->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)(sizeof header + bytes);
}

/* False: not connected yet, or down. */
static bool ask(mci_dial* dial) {
  if (dial->asked) return true;
  if (dial->tcp) {
    struct pollfd ready = {.fd = dial->fd, .events = POLLOUT};
    int cause = 0;
    socklen_t length = sizeof cause;
    if (poll(&ready, 1, 0) != 1) return false;
    if (getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &cause, &length) < 0) cause = errno;
    dial->refused = cause == ECONNREFUSED;
    if (cause != 0) down(dial, strerror(cause));
    if (cause != 0) return false;
  }
  dial->asked = say(dial, FRAME_HELLO, &dial->hello, sizeof dial->hello);
  if (!dial->asked) down(dial, strerror(errno));
  return dial->asked;
}

static mci_dial_state prove(mci_boot* boot, mci_dial* dial, const mci_packet* packet) {
  mci_challenge challenge;
  unsigned char hash[32], proof[32];
  if (packet->header.bytes != sizeof challenge) {
    down(dial, "what answers there is no rank of meshccl");
    return DIAL_DOWN;
  }
  memcpy(&challenge, packet->data, sizeof challenge);
  mci_auth_hash(&dial->hello, hash);
  mci_auth_prove(&boot->id, PROOF_OF_LISTENER, dial->hello.target, boot->rank, challenge.nonce, hash, proof);
  if (!mci_auth_equal(proof, challenge.proof)) {
    mci_fail(
        meshcclInvalidUsage,
        "rank %d does not trust what answers as rank %d at %s: it does not know this id's secret; give all ranks the "
        "same id and the same MESHCCL_SECRET or MESHCCL_SECRET_FILE",
        boot->rank, dial->hello.target, dial->where);
    mci_dial_close(dial);
    return DIAL_FAILED;
  }
  mci_auth_prove(&boot->id, PROOF_OF_JOINER, dial->hello.target, boot->rank, challenge.nonce, hash, proof);
  /* From here on we may have been let in: to go away then would look like a death. */
  dial->until_ns = mci_now_ns() + ANSWER_NS;
  if (say(dial, FRAME_PROOF, proof, sizeof proof)) return DIAL_BUSY;
  down(dial, strerror(errno));
  return DIAL_DOWN;
}

static mci_dial_state hear(mci_boot* boot, mci_dial* dial, mci_packet* packet) {
  for (;;) {
    int got = dial->tcp ? mci_stream_read(dial->fd, &dial->in, packet) : mci_socket_read(dial->fd, packet, false);
    if (got == 0) return DIAL_BUSY;
    if (got < 0) {
      down(dial, "it closed the connection without an answer");
      return DIAL_DOWN;
    }
    if (dial->trusted && packet->header.type == FRAME_ANSWER) return DIAL_ANSWERED;
    mci_dial_state state = DIAL_DOWN;
    if (!dial->trusted && packet->header.type == FRAME_CHALLENGE)
      state = prove(boot, dial, packet);
    else
      down(dial, "what answers there is no rank of meshccl");
    if (state != DIAL_BUSY) return state;
    dial->trusted = true;
  }
}

mci_dial_state mci_dial_progress(mci_boot* boot, mci_dial* dial, mci_packet* packet) {
  if (dial->fd < 0) return DIAL_DOWN;
  mci_dial_state state = ask(dial) ? hear(boot, dial, packet) : dial->fd < 0 ? DIAL_DOWN : DIAL_BUSY;
  if (state == DIAL_BUSY && mci_now_ns() >= dial->until_ns) {
    down(dial, dial->asked ? "nobody answers there" : "it cannot be reached");
    state = DIAL_DOWN;
  }
  return state;
}

/* ---- answers ---- */

bool mci_dial_chain(const mci_packet* packet, mci_chain* out) {
  size_t head = offsetof(mci_chain, at);
  mci_chain chain = {0};
  if (packet->header.bytes < head || packet->header.bytes > sizeof chain) return false;
  memcpy(&chain, packet->data, packet->header.bytes);
  if (chain.n < 1 || chain.n > MCI_CONTROL_DEPTH || packet->header.bytes != head + (size_t)chain.n * sizeof *chain.at)
    return false;
  for (int i = 0; i < chain.n; i++) chain.at[i].name[MCI_CONTROL_HOST - 1] = 0;
  *out = chain;
  return true;
}

bool mci_dial_place(const mci_packet* packet, mci_place* out) {
  if (packet->header.bytes != sizeof *out) return false;
  memcpy(out, packet->data, sizeof *out);
  out->name[MCI_CONTROL_HOST - 1] = 0;
  return true;
}

void mci_place_addresses(const mci_place* place, mci_net_addresses* out) {
  *out = (mci_net_addresses){0};
  for (int i = 0; i < place->naddresses && i < MCI_NET_MAX; i++)
    if (mci_net_unpack(place->addresses[i], &out->at[out->n])) out->n++;
}
