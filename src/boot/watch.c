/* See watch.h. Blocks in poll with a limit; the job's end never waits for this one. */
#define _GNU_SOURCE
#include "boot/watch.h"

#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "boot/control.h"

#define HANDSHAKE_NS 5000000000ull

struct mci_watch {
  int fd;
  int32_t pid;
  mci_observer_answer welcome;
};

static bool write_packet(int fd, mci_frame_type type, const void* data, size_t bytes) {
  struct {
    mci_header header;
    unsigned char data[sizeof(mci_observer_hello)];
  } frame = {.header = {.type = (uint16_t)type, .from = -1, .to = -1, .bytes = (uint32_t)bytes}};
  if (bytes) memcpy(frame.data, data, bytes);
  size_t length = sizeof frame.header + bytes;
  return send(fd, &frame, length, MSG_NOSIGNAL) == (ssize_t)length;
}

/* 1: a packet; 0: none in time; -1: the other end is gone. */
static int read_packet(int fd, uint64_t until_ns, mci_packet* packet) {
  for (;;) {
    int got = mci_socket_read(fd, packet, false);
    if (got != 0) return got;
    uint64_t now = mci_now_ns();
    if (now >= until_ns) return 0;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    poll(&ready, 1, (int)((until_ns - now) / 1000000 + 1));
  }
}

static meshcclResult_t connect_to(int32_t pid, int* out) {
  struct sockaddr_un address;
  socklen_t length;
  mci_observe_address(pid, &address, &length);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) MCI_FAIL(meshcclSystemError, "socket: %s", strerror(errno));
  if (connect(fd, (struct sockaddr*)&address, length) < 0) {
    int cause = errno;
    close(fd);
    if (cause != ECONNREFUSED) MCI_FAIL(meshcclSystemError, "process %d: %s", pid, strerror(cause));
    MCI_FAIL(meshcclInvalidUsage,
             "process %d cannot be observed: no process of this user on this host that has a communicator has that "
             "number; give the number of a rank's process (ranks that are driven by their caller alone, "
             "MESHCCL_PROGRESS_THREAD=0, do not listen: take another rank)",
             pid);
  }
  uid_t user;
  mci_socket_peer(fd, &user);
  if (user != geteuid()) {
    close(fd);
    MCI_FAIL(meshcclInvalidUsage, "process %d belongs to user %u; only jobs of one's own can be observed", pid,
             (unsigned)user);
  }
  *out = fd;
  return meshcclSuccess;
}

static meshcclResult_t no_answer(int32_t pid) {
  MCI_FAIL(meshcclTimeout, "process %d does not answer: it is stopped, or just ending", pid);
}

static meshcclResult_t refused(int32_t pid, const mci_packet* packet) {
  mci_observer_answer answer = {.rank = -1};
  if (packet->header.bytes == sizeof answer) memcpy(&answer, packet->data, sizeof answer);
  answer.text[sizeof answer.text - 1] = 0;
  MCI_FAIL(meshcclInvalidUsage,
           "process %d refuses: %s. Set MESHCCL_ID, or MESHCCL_SECRET or MESHCCL_SECRET_FILE, to what the job was "
           "started with, or unset them: then they are read from the process itself",
           pid, answer.text);
}

static meshcclResult_t prove(mci_watch* watch, const mci_id* id) {
  uint64_t until_ns = mci_now_ns() + HANDSHAKE_NS;
  mci_observer_hello hello = {.version = MCI_HELLO_VERSION};
  mci_challenge challenge;
  mci_packet packet;
  unsigned char proof[32];
  memcpy(hello.name, mci_id_name(id), sizeof hello.name);
  mci_auth_nonce(hello.nonce);
  if (!write_packet(watch->fd, FRAME_HELLO, &hello, sizeof hello) || read_packet(watch->fd, until_ns, &packet) <= 0)
    return no_answer(watch->pid);
  if (packet.header.type == FRAME_ANSWER) return refused(watch->pid, &packet);
  if (packet.header.type != FRAME_CHALLENGE || packet.header.bytes != sizeof challenge) return no_answer(watch->pid);
  memcpy(&challenge, packet.data, sizeof challenge);
  mci_auth_prove(id, PROOF_OF_OBSERVED, watch->pid, -1, challenge.nonce, hello.nonce, proof);
  if (!mci_auth_equal(proof, challenge.proof))
    MCI_FAIL(meshcclInvalidUsage,
             "what answers as process %d does not know the secret of this environment. Set MESHCCL_ID, or "
             "MESHCCL_SECRET or MESHCCL_SECRET_FILE, to what the job was started with, or unset them: then they are "
             "read from the process itself",
             watch->pid);
  mci_auth_prove(id, PROOF_OF_OBSERVER, watch->pid, -1, challenge.nonce, hello.nonce, proof);
  if (!write_packet(watch->fd, FRAME_PROOF, proof, sizeof proof) || read_packet(watch->fd, until_ns, &packet) <= 0 ||
      packet.header.type != FRAME_ANSWER || packet.header.bytes != sizeof watch->welcome)
    return no_answer(watch->pid);
  if (packet.header.kind != ANSWER_WELCOME) return refused(watch->pid, &packet);
  memcpy(&watch->welcome, packet.data, sizeof watch->welcome);
  watch->welcome.name[sizeof watch->welcome.name - 1] = 0;
  return meshcclSuccess;
}

meshcclResult_t mci_watch_open(int32_t pid, const mci_id* id, mci_watch** out) {
  if (sodium_init() < 0) MCI_FAIL(meshcclSystemError, "libsodium found no source of random numbers");
  MCI_TRY(mci_id_check(id));
  mci_watch* watch = mci_alloc(sizeof *watch);
  if (!watch) return mci_oom(sizeof *watch);
  watch->pid = pid;
  watch->fd = -1;
  meshcclResult_t result;
  MCI_TRY_OR(connect_to(pid, &watch->fd), err_watch);
  MCI_TRY_OR(prove(watch, id), err_watch);
  *out = watch;
  return meshcclSuccess;

err_watch:
  mci_watch_close(watch);
  return result;
}

void mci_watch_close(mci_watch* watch) {
  if (!watch) return;
  if (watch->fd >= 0) close(watch->fd);
  mci_free(watch);
}

int mci_watch_nranks(const mci_watch* watch) { return watch->welcome.nranks; }
int mci_watch_rank(const mci_watch* watch) { return watch->welcome.rank; }
const char* mci_watch_name(const mci_watch* watch) { return watch->welcome.name; }

/* Late answers to the question before are as good. */
meshcclResult_t mci_watch_ask(mci_watch* watch, uint64_t timeout_ns, mci_rank_status* status, bool* answered) {
  uint64_t until_ns = mci_now_ns() + timeout_ns;
  memset(answered, 0, (size_t)watch->welcome.nranks * sizeof *answered);
  int missing = watch->welcome.nranks, got = 1;
  mci_packet packet;
  if (!write_packet(watch->fd, FRAME_QUERY, NULL, 0)) got = -1;
  while (got > 0 && missing > 0 && (got = read_packet(watch->fd, until_ns, &packet)) > 0) {
    mci_rank_status one;
    if (packet.header.type != FRAME_STATUS || packet.header.bytes != sizeof one) continue;
    memcpy(&one, packet.data, sizeof one);
    if (one.rank < 0 || one.rank >= watch->welcome.nranks) continue;
    one.host[sizeof one.host - 1] = one.over[sizeof one.over - 1] = 0;
    one.npeers = MCI_MIN(one.npeers, (uint32_t)MCI_STATUS_PEERS);
    missing -= !answered[one.rank];
    status[one.rank] = one;
    answered[one.rank] = true;
  }
  if (got < 0) MCI_FAIL(meshcclRemoteError, "process %d has ended, or left its communicator", watch->pid);
  return meshcclSuccess;
}
