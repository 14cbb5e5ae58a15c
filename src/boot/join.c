/* mci_boot_join: a rank starts to listen for the ranks below it, descends from the root to its parent, and waits until
 * everybody is there. The root's address follows from the id; every other address is learned on the way down, so that
 * no rank needs a table. Runs in the caller; the listening side is served by progress meanwhile. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/globals.h"
#include "boot/control.h"

#define TICK_NS 100000000ull
#define BACKOFF_FIRST_NS 1000000ull
#define BACKOFF_LAST_NS 50000000ull
#define HANDSHAKE_NS 5000000000ull
#define LINGER_NS 1000000000ull /* a failed rank stays that long to tell late ones why */
#define ROOT_VERDICT_NS 500000000ull

typedef enum { ASK_WELCOME, ASK_REDIRECT, ASK_LATER, ASK_FAILED } ask_result;

typedef struct {
  int rank; /* whom to ask */
  struct sockaddr_un address;
  socklen_t length;
} target;

static bool is_cancelled(const mci_boot* boot) { return boot->cancelled && atomic_load(boot->cancelled); }

static meshcclResult_t cancelled(const mci_boot* boot) {
  MCI_FAIL(meshcclRemoteError, "%s%srank %d aborted while it joined", boot->name, boot->name[0] ? ": " : "", boot->rank);
}

/* ---- one question ---- */

/* Waits for one packet on a socket that is not served yet. Without a thread, the ranks below us must not starve. */
static bool read_packet(mci_boot* boot, int fd, uint64_t until_ns, mci_packet* packet) {
  for (;;) {
    int got = mci_socket_read(fd, packet, false);
    if (got != 0) return got > 0;
    uint64_t now = mci_now_ns();
    if (now >= until_ns || is_cancelled(boot)) return false;
    struct pollfd ready[2] = {{.fd = fd, .events = POLLIN}, {.fd = boot->epoll_fd, .events = POLLIN}};
    poll(ready, boot->threadless ? 2 : 1, (int)MCI_MIN((until_ns - now) / 1000000 + 1, (uint64_t)100));
    if (!boot->threadless) continue;
    pthread_mutex_lock(&boot->lock);
    mci_control_progress(boot);
    mci_accept_expire(boot);
    pthread_mutex_unlock(&boot->lock);
  }
}

static bool write_packet(mci_boot* boot, int fd, mci_frame_type type, const void* data, size_t bytes) {
  mci_header header = {.type = (uint16_t)type, .from = boot->rank, .to = -1, .bytes = (uint32_t)bytes};
  struct {
    mci_header header;
    unsigned char data[sizeof(mci_verdict)];
  } frame = {.header = header};
  memcpy(frame.data, data, bytes);
  return send(fd, &frame, sizeof header + bytes, MSG_NOSIGNAL) == (ssize_t)(sizeof header + bytes);
}

static meshcclResult_t prove(mci_boot* boot, int fd, const target* to, mci_packet* packet, bool* answered) {
  uint64_t until_ns = mci_now_ns() + HANDSHAKE_NS;
  mci_hello hello = {.version = MCI_HELLO_VERSION, .rank = boot->rank, .nranks = boot->nranks, .target = to->rank};
  mci_challenge challenge;
  unsigned char proof[32];
  *answered = false;
  mci_auth_nonce(hello.nonce);
  if (!write_packet(boot, fd, FRAME_HELLO, &hello, sizeof hello) || !read_packet(boot, fd, until_ns, packet))
    return meshcclSuccess;
  if (packet->header.type != FRAME_CHALLENGE || packet->header.bytes != sizeof challenge) return meshcclSuccess;
  memcpy(&challenge, packet->data, sizeof challenge);
  mci_auth_prove(&boot->id, PROOF_OF_LISTENER, to->rank, boot->rank, challenge.nonce, hello.nonce, proof);
  if (!mci_auth_equal(proof, challenge.proof))
    MCI_FAIL(meshcclInvalidUsage,
             "rank %d does not trust what answers as rank %d: it does not know this id's secret; give all ranks the "
             "same id and "
             "the same MESHCCL_SECRET or MESHCCL_SECRET_FILE",
             boot->rank, to->rank);
  mci_auth_prove(&boot->id, PROOF_OF_JOINER, to->rank, boot->rank, challenge.nonce, hello.nonce, proof);
  *answered = write_packet(boot, fd, FRAME_PROOF, proof, sizeof proof) && read_packet(boot, fd, until_ns, packet) &&
              packet->header.type == FRAME_ANSWER && packet->header.bytes == sizeof(mci_verdict);
  return meshcclSuccess;
}

static meshcclResult_t connect_to(mci_boot* boot, const target* to, int* fd_out, int32_t* pid) {
  uid_t user;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) MCI_FAIL(meshcclSystemError, "rank %d: socket: %s; see ulimit -n", boot->rank, strerror(errno));
  if (connect(fd, (const struct sockaddr*)&to->address, to->length) < 0) {
    close(fd);
    *fd_out = -1;
    return meshcclSuccess;
  }
  *pid = mci_socket_peer(fd, &user);
  if (user != geteuid()) {
    close(fd);
    MCI_FAIL(meshcclSystemError, "rank %d: user %u listens in the place of rank %d; only ranks of one user can join",
             boot->rank, (unsigned)user, to->rank);
  }
  *fd_out = fd;
  return meshcclSuccess;
}

/* The parent has let us in, but we cannot stay: it shall know why. */
static void excuse(mci_boot* boot, int fd, meshcclResult_t result) {
  mci_verdict verdict = {.rank = boot->rank, .result = result};
  snprintf(verdict.text, sizeof verdict.text, "rank %d: %s", boot->rank, mci_error_last());
  write_packet(boot, fd, FRAME_FAIL, &verdict, sizeof verdict);
  close(fd);
}

/* The connection is ours: it becomes the link to the parent. Ranks below us may have failed while we were on the way.
 */
static meshcclResult_t adopt_parent(mci_boot* boot, int fd, int rank, int32_t pid) {
  pthread_mutex_lock(&boot->lock);
  mci_control_link* link;
  meshcclResult_t result = mci_control_link_create(boot, fd, LINK_ACTIVE, rank, &link);
  if (result == meshcclSuccess) {
    boot->parent = link;
    mci_control_link_watch(link, pid);
    if (boot->failure.result != meshcclSuccess)
      mci_control_tell(link, FRAME_FAIL, 0, &boot->failure, sizeof boot->failure);
    mci_agree_try_up(boot);
  }
  pthread_mutex_unlock(&boot->lock);
  if (result != meshcclSuccess) excuse(boot, fd, result);
  return result;
}

static meshcclResult_t follow(mci_boot* boot, const mci_packet* packet, target* to, int fd, int32_t pid,
                              ask_result* out) {
  mci_verdict verdict;
  memcpy(&verdict, packet->data, sizeof verdict);
  verdict.text[MCI_CONTROL_TEXT - 1] = 0;
  *out = ASK_FAILED;
  switch ((mci_answer)packet->header.kind) {
    case ANSWER_WELCOME:
      MCI_TRY(adopt_parent(boot, fd, to->rank, pid));
      *out = ASK_WELCOME;
      return meshcclSuccess;
    case ANSWER_REDIRECT:
      close(fd);
      if (verdict.rank <= to->rank || verdict.rank >= boot->rank)
        MCI_FAIL(meshcclInternalError, "rank %d was sent from rank %d to rank %d, which is not above it", boot->rank,
                 to->rank, verdict.rank);
      to->rank = verdict.rank;
      to->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(verdict.text));
      snprintf(to->address.sun_path + 1, sizeof to->address.sun_path - 1, "%.100s", verdict.text);
      *out = ASK_REDIRECT;
      return meshcclSuccess;
    case ANSWER_WAIT:
      close(fd);
      boot->waits_for = verdict.rank;
      *out = ASK_LATER;
      return meshcclSuccess;
    default:
      close(fd);
      MCI_FAIL((meshcclResult_t)verdict.result, "%s", verdict.text);
  }
}

static meshcclResult_t ask(mci_boot* boot, target* to, ask_result* out) {
  int fd = -1;
  int32_t pid = 0;
  mci_packet packet;
  bool answered;
  *out = ASK_FAILED;
  MCI_TRY(connect_to(boot, to, &fd, &pid));
  if (fd < 0) {
    boot->waits_for = to->rank;
    *out = ASK_LATER;
    return meshcclSuccess;
  }
  meshcclResult_t result = prove(boot, fd, to, &packet, &answered);
  if (result == meshcclSuccess && answered) return follow(boot, &packet, to, fd, pid, out);
  close(fd);
  boot->waits_for = to->rank;
  if (result == meshcclSuccess) *out = ASK_LATER;
  return result;
}

/* ---- the descent ---- */

static void sleep_while_serving(mci_boot* boot, uint64_t until_ns) {
  pthread_mutex_lock(&boot->lock);
  while (mci_now_ns() < until_ns) mci_control_wait(boot, until_ns);
  mci_accept_expire(boot);
  pthread_mutex_unlock(&boot->lock);
}

static void start_at_root(mci_boot* boot, target* to) {
  to->rank = 0;
  mci_auth_address(&boot->id, 0, &to->address, &to->length);
}

/* A rank that finds its own name taken asks all the same: whoever has the duplicate will say so to everybody. The root
 * has only itself to ask. */
static meshcclResult_t descend(mci_boot* boot, uint64_t deadline_ns) {
  target to;
  start_at_root(boot, &to);
  uint64_t backoff_ns = BACKOFF_FIRST_NS;
  bool taken = mci_control_children(boot) > 0;
  while (mci_now_ns() < deadline_ns) {
    if (is_cancelled(boot)) return cancelled(boot);
    if (taken) {
      pthread_mutex_lock(&boot->lock);
      meshcclResult_t result = mci_accept_start(boot, &taken);
      pthread_mutex_unlock(&boot->lock);
      MCI_TRY(result);
    }
    if (boot->rank == 0 && !taken) return meshcclSuccess;
    ask_result got;
    MCI_TRY(ask(boot, &to, &got));
    if (got == ASK_WELCOME && taken)
      MCI_FAIL(meshcclInvalidUsage, "another process listens in the place of rank %d; give each rank its own number",
               boot->rank);
    if (got == ASK_WELCOME) return meshcclSuccess;
    if (got == ASK_REDIRECT) continue;
    start_at_root(boot, &to);
    sleep_while_serving(boot, MCI_MIN(mci_now_ns() + backoff_ns, deadline_ns));
    backoff_ns = MCI_MIN(2 * backoff_ns, BACKOFF_LAST_NS);
  }
  pthread_mutex_lock(&boot->lock);
  mci_agree_expired(boot);
  meshcclResult_t result = mci_control_failure(boot);
  pthread_mutex_unlock(&boot->lock);
  return result;
}

/* ---- waiting for everybody ---- */

static void tell_missing(mci_boot* boot) {
  mci_missing missing;
  mci_agree_missing(boot, &missing);
  if (!boot->parent || memcmp(&missing, &boot->told, sizeof missing) == 0) return;
  boot->told = missing;
  mci_control_tell(boot->parent, FRAME_MISSING, 0, &missing, sizeof missing);
}

/* Only where no rank stands below the children is it known that nobody is left to tell. */
static bool all_were_told(mci_boot* boot) {
  int n = mci_control_children(boot), first = boot->rank * MCI_CONTROL_ARITY + 1;
  for (int i = 0; i < n; i++)
    if (mci_control_find(boot, first + i)) boot->informed |= 1u << i;
  return boot->informed == (1u << n) - 1 && (int64_t)first * MCI_CONTROL_ARITY + 1 >= boot->nranks;
}

/* A failure ends the wait, but late ranks should hear of it too. Nobody is late for a timeout. */
static void linger(mci_boot* boot) {
  if (boot->failure.result == meshcclTimeout || is_cancelled(boot)) return;
  uint64_t until_ns = mci_now_ns() + LINGER_NS;
  while (!all_were_told(boot) && mci_now_ns() < until_ns) mci_control_wait(boot, until_ns);
}

static meshcclResult_t await_everybody(mci_boot* boot, uint64_t timeout_ns, uint64_t deadline_ns) {
  uint64_t report_ns = mci_now_ns() + timeout_ns / 8;
  bool expired = false;
  mci_agree_try_up(boot);
  while (!boot->open && boot->failure.result == meshcclSuccess) {
    uint64_t now = mci_now_ns();
    if (now >= report_ns && !boot->up_sent) {
      tell_missing(boot);
      report_ns = now + timeout_ns / 8;
    }
    mci_accept_expire(boot);
    if (is_cancelled(boot))
      mci_control_failf(boot, boot->rank, meshcclRemoteError, "rank %d aborted while it joined", boot->rank);
    if (now >= deadline_ns) {
      mci_agree_expired(boot);
      if (expired) mci_control_failf(boot, 0, meshcclTimeout, "joining took too long, and rank 0 does not say why");
      expired = true;
      deadline_ns = now + ROOT_VERDICT_NS;
    }
    mci_control_wait(boot, MCI_MIN(now + MCI_MIN(TICK_NS, timeout_ns / 8 + 1), deadline_ns));
  }
  return boot->open ? meshcclSuccess : mci_control_failure(boot);
}

static meshcclResult_t join(mci_boot* boot, uint64_t timeout_ns) {
  uint64_t deadline_ns = mci_now_ns() + timeout_ns;
  meshcclResult_t result = boot->nranks > 1 ? descend(boot, deadline_ns) : meshcclSuccess;
  pthread_mutex_lock(&boot->lock);
  if (result == meshcclSuccess) {
    result = await_everybody(boot, timeout_ns, deadline_ns);
  } else {
    mci_verdict verdict = {.rank = boot->rank, .result = result};
    snprintf(verdict.text, sizeof verdict.text, "%s", mci_error_last());
    mci_control_fail(boot, &verdict);
  }
  if (result != meshcclSuccess) linger(boot);
  pthread_mutex_unlock(&boot->lock);
  return result;
}

/* Neighbours learn which ranks share this process, so that its death names them all. */
static void announce_kin(mci_boot* boot) {
  mci_here here = {.rank = boot->rank, .pid = getpid()};
  mci_service_kin(boot, here.kin, sizeof here.kin);
  if (!here.kin[0]) return;
  pthread_mutex_lock(&boot->lock);
  memcpy(boot->kin, here.kin, sizeof boot->kin);
  for (mci_control_link* link = boot->links; link; link = link->next)
    if (link->state == LINK_ACTIVE && link->pid != here.pid) mci_control_tell(link, FRAME_HERE, 0, &here, sizeof here);
  pthread_mutex_unlock(&boot->lock);
}

meshcclResult_t mci_boot_join(const mci_id* id, const mci_boot_options* options, mci_boot** out) {
  if (options->nranks < 1) MCI_FAIL(meshcclInvalidArgument, "nranks = %d; at least 1 is needed", options->nranks);
  if (options->rank < 0 || options->rank >= options->nranks)
    MCI_FAIL(meshcclInvalidArgument, "rank = %d; it must be from 0 to nranks - 1 = %d", options->rank,
             options->nranks - 1);
  MCI_TRY(mci_id_check(id));
  if (sodium_init() < 0) MCI_FAIL(meshcclSystemError, "libsodium found no source of random numbers");
  mci_fork_watch();
  mci_boot* boot;
  MCI_TRY(mci_control_create(id, options, &boot));
  meshcclResult_t result = mci_service_add(boot);
  if (result != meshcclSuccess) {
    mci_control_destroy(boot);
    return result;
  }
  result = join(boot, options->timeout_ns);
  if (result != meshcclSuccess) {
    char text[MCI_CONTROL_TEXT];
    snprintf(text, sizeof text, "%s", mci_error_last());
    mci_boot_leave(boot);
    mci_error_set(text);
    return result;
  }
  announce_kin(boot);
  *out = boot;
  return meshcclSuccess;
}
