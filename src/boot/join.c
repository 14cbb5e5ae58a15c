/* mci_boot_join: a rank starts to listen for the ranks below it, descends from the root to its parent, and waits until
 * everybody is there. On its host the root's address follows from the id, for others the id tells it; every other
 * address is learned on the way down, so that no rank needs a table. Runs in the caller; the listening side is served
 * by progress meanwhile. */
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
#define PATIENCE_FIRST_NS 500000000ull /* with a TCP address that gives no sign; more each time up to HANDSHAKE_NS */
#define LOOK_MS 2u                     /* meanwhile its unix socket is looked for so often */
#define LINGER_NS 1000000000ull        /* a failed rank stays that long to tell late ones why */
#define ROOT_VERDICT_NS 500000000ull

typedef enum { ASK_WELCOME, ASK_REDIRECT, ASK_LATER } ask_result;

/* Whom to ask, and how: on this host by its unix socket, on another one by its addresses in turn. The root's host is
 * not known at first, so all of that is tried. */
typedef struct {
  int rank;
  bool by_unix;
  mci_net_addresses addresses;
  int turn; /* which of them is next; the unix socket is the first */
  uint64_t patience_ns;
} target;

static bool is_cancelled(const mci_boot* boot) { return boot->cancelled && atomic_load(boot->cancelled); }

static meshcclResult_t cancelled(const mci_boot* boot) {
  MCI_FAIL(meshcclRemoteError, "%s%srank %d aborted while it joined", boot->name, boot->name[0] ? ": " : "",
           boot->rank);
}

/* ---- one question ---- */

/* Without a thread, the ranks below us must not starve meanwhile. */
static void wait_for(mci_boot* boot, const mci_dial* dial, uint64_t most_ms) {
  uint64_t now = mci_now_ns();
  struct pollfd ready[2] = {{.fd = dial->fd, .events = mci_dial_events(dial)},
                            {.fd = boot->epoll_fd, .events = POLLIN}};
  uint64_t ns = dial->until_ns > now ? dial->until_ns - now : 0;
  poll(ready, boot->threadless ? 2 : 1, (int)MCI_MIN(ns / 1000000 + 1, most_ms));
  if (!boot->threadless) return;
  pthread_mutex_lock(&boot->lock);
  mci_control_progress(boot);
  pthread_mutex_unlock(&boot->lock);
}

/* The parent has let us in, but we cannot stay: it shall know why. */
static void excuse(mci_boot* boot, int fd, meshcclResult_t result) {
  mci_header header = {.type = FRAME_FAIL, .from = boot->rank, .to = -1, .bytes = sizeof(mci_verdict)};
  mci_verdict verdict = {.rank = boot->rank, .result = result};
  snprintf(verdict.text, sizeof verdict.text, "rank %d: %s", boot->rank, mci_error_last());
  struct iovec parts[2] = {{&header, sizeof header}, {&verdict, sizeof verdict}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  close(fd);
}

static meshcclResult_t become_child(mci_boot* boot, int fd, int32_t pid, const mci_chain* chain) {
  mci_control_link* link;
  boot->spans = chain->spans;
  boot->above = *chain;
  if (boot->spans && boot->listeners[LISTEN_TCP].fd < 0) MCI_TRY(mci_accept_start_tcp(boot));
  MCI_TRY(mci_control_link_create(boot, fd, LINK_ACTIVE, chain->at[0].rank, &link));
  boot->parent = link;
  boot->ready = true;
  link->place = chain->at[0];
  mci_control_link_watch(link, link->tcp ? chain->at[0].pid : pid);
  mci_leave_say_here(link, false);
  if (boot->failure.result != meshcclSuccess)
    mci_control_tell(link, FRAME_FAIL, 0, &boot->failure, sizeof boot->failure);
  mci_agree_try_up(boot);
  return meshcclSuccess;
}

/* The connection is ours: it becomes the link to the parent. Ranks below us may have failed while we were on the way.
 */
static meshcclResult_t adopt_parent(mci_boot* boot, mci_dial* dial, const mci_packet* packet, int rank) {
  mci_chain chain;
  if (!mci_dial_chain(packet, &chain) || chain.at[0].rank != rank)
    MCI_FAIL(meshcclInternalError, "rank %d was welcomed by rank %d in words that it does not understand", boot->rank,
             rank);
  int fd = mci_dial_take(dial);
  pthread_mutex_lock(&boot->lock);
  meshcclResult_t result = become_child(boot, fd, dial->pid, &chain);
  pthread_mutex_unlock(&boot->lock);
  if (result != meshcclSuccess) excuse(boot, fd, result);
  return result;
}

static meshcclResult_t redirect(mci_boot* boot, const mci_packet* packet, target* to) {
  mci_place next;
  bool fine = mci_dial_place(packet, &next) && next.rank < boot->rank;
  bool here = fine && next.host == boot->self.host;
  if (!fine || next.rank < to->rank || (next.rank == to->rank && !here))
    MCI_FAIL(meshcclInternalError, "rank %d was sent on from rank %d to rank %d, which is not between them", boot->rank,
             to->rank, fine ? next.rank : -1);
  *to = (target){.rank = next.rank, .by_unix = here, .patience_ns = PATIENCE_FIRST_NS};
  if (!here) mci_place_addresses(&next, &to->addresses);
  return meshcclSuccess;
}

static meshcclResult_t refused(const mci_packet* packet) {
  mci_verdict verdict;
  if (packet->header.bytes != sizeof verdict) MCI_FAIL(meshcclInternalError, "a refusal without a reason");
  memcpy(&verdict, packet->data, sizeof verdict);
  verdict.text[MCI_CONTROL_TEXT - 1] = 0;
  meshcclResult_t result = (meshcclResult_t)verdict.result;
  MCI_FAIL(result == meshcclSuccess ? meshcclInternalError : result, "%s", verdict.text);
}

static meshcclResult_t follow(mci_boot* boot, mci_dial* dial, const mci_packet* packet, target* to, ask_result* out) {
  mci_place busy;
  switch ((mci_answer)packet->header.kind) {
    case ANSWER_WELCOME:
      MCI_TRY(adopt_parent(boot, dial, packet, to->rank));
      *out = ASK_WELCOME;
      return meshcclSuccess;
    case ANSWER_REDIRECT:
      MCI_TRY(redirect(boot, packet, to));
      *out = ASK_REDIRECT;
      return meshcclSuccess;
    case ANSWER_WAIT:
      boot->waits_for = mci_dial_place(packet, &busy) ? busy.rank : to->rank;
      *out = ASK_LATER;
      return meshcclSuccess;
    default:
      return refused(packet);
  }
}

/* Kept for the message of a timeout; that a unix socket is not there yet says little. */
static void note_trouble(mci_boot* boot, const target* to, const mci_dial* dial, const char* remedy) {
  if (!dial->tcp && dial->refused) return;
  pthread_mutex_lock(&boot->lock);
  int n = snprintf(boot->trouble, sizeof boot->trouble, "rank %d at %.110s", to->rank, dial->trouble);
  snprintf(boot->trouble + n, sizeof boot->trouble - (size_t)n, "%s", remedy);
  pthread_mutex_unlock(&boot->lock);
}

/* A secret that is none proves nothing about who answers. */
static bool may_dial(const mci_boot* boot, const meshcclNetAddress_t* address) {
  static const int auth_none = 1;
  return mci_id_trusted(&boot->id) || mci_net_is_loopback(address) || mci_param_int(MCI_P_AUTH) == auth_none;
}

/* The next way to the target: NULL, and by_unix is meant, or an address. False: there is none that may be used. */
static bool next_way(mci_boot* boot, target* to, const meshcclNetAddress_t** out) {
  int ways = to->by_unix + to->addresses.n;
  for (int i = 0; i < ways; i++) {
    int turn = to->turn++ % ways;
    if (turn == ways - 1) to->patience_ns = MCI_MIN(to->patience_ns * 2, HANDSHAKE_NS);
    *out = to->by_unix && turn == 0 ? NULL : &to->addresses.at[turn - to->by_unix];
    if (!*out || may_dial(boot, *out)) return true;
    mci_dial denied = {.tcp = true};
    mci_net_print(*out, denied.trouble, sizeof denied.trouble);
    note_trouble(
        boot, to, &denied,
        " is not asked, because no secret guards this job: name a file with a secret in MESHCCL_SECRET_FILE on "
        "every rank, or set MESHCCL_AUTH=none if the network is guarded otherwise");
  }
  return false;
}

/* Rank 0 may come up on this host while we wait for an answer at an address: the process that made the id and listens
 * there need not be rank 0's, and then nobody answers. */
static void prefer_unix(mci_boot* boot, const target* to, mci_dial* dial) {
  mci_dial near;
  if (dial->trusted) return; /* we may have been let in already */
  mci_dial_start(boot, to->rank, NULL, false, mci_now_ns() + HANDSHAKE_NS, &near);
  if (near.fd < 0) return;
  mci_dial_close(dial);
  *dial = near;
}

static meshcclResult_t ask(mci_boot* boot, target* to, uint64_t deadline_ns, ask_result* out) {
  const meshcclNetAddress_t* address;
  mci_dial dial;
  mci_packet packet;
  *out = ASK_LATER;
  boot->waits_for = to->rank;
  if (!next_way(boot, to, &address)) return meshcclSuccess;
  uint64_t patience_ns = address ? to->patience_ns : HANDSHAKE_NS;
  mci_dial_start(boot, to->rank, address, false, MCI_MIN(mci_now_ns() + patience_ns, deadline_ns), &dial);
  mci_dial_state state;
  while ((state = mci_dial_progress(boot, &dial, &packet)) == DIAL_BUSY && !is_cancelled(boot)) {
    bool looks = dial.tcp && to->by_unix;
    wait_for(boot, &dial, looks ? LOOK_MS : 100);
    if (looks) prefer_unix(boot, to, &dial);
  }
  meshcclResult_t result = meshcclSuccess;
  if (state == DIAL_ANSWERED) result = follow(boot, &dial, &packet, to, out);
  if (state == DIAL_FAILED) result = meshcclInvalidUsage;
  if (state == DIAL_DOWN) note_trouble(boot, to, &dial, "");
  mci_dial_close(&dial);
  return result;
}

/* ---- the descent ---- */

static void sleep_while_serving(mci_boot* boot, uint64_t until_ns) {
  pthread_mutex_lock(&boot->lock);
  while (mci_now_ns() < until_ns) mci_control_wait(boot, until_ns);
  pthread_mutex_unlock(&boot->lock);
}

static void start_at_root(mci_boot* boot, target* to) {
  *to = (target){.rank = 0, .by_unix = true, .patience_ns = PATIENCE_FIRST_NS};
  mci_id_get_meeting(&boot->id, &to->addresses);
}

static meshcclResult_t start_listening(mci_boot* boot, bool* taken) {
  pthread_mutex_lock(&boot->lock);
  meshcclResult_t result = mci_accept_start(boot, taken);
  if (result == meshcclSuccess && !*taken && boot->rank == 0) {
    result = mci_accept_start_root(boot);
    boot->ready = true;
  }
  pthread_mutex_unlock(&boot->lock);
  return result;
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
    if (taken) MCI_TRY(start_listening(boot, &taken));
    if (boot->rank == 0 && !taken) return meshcclSuccess;
    ask_result got;
    MCI_TRY(ask(boot, &to, deadline_ns, &got));
    if (got == ASK_WELCOME && taken)
      MCI_FAIL(meshcclInvalidUsage, "another process listens in the place of rank %d; give each rank its own number",
               boot->rank);
    if (got == ASK_WELCOME) return meshcclSuccess;
    if (got == ASK_REDIRECT) continue;
    if (to.rank != 0) start_at_root(boot, &to);
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
  char kin[MCI_CONTROL_KIN];
  mci_service_kin(boot, kin, sizeof kin);
  if (!kin[0]) return;
  pthread_mutex_lock(&boot->lock);
  memcpy(boot->kin, kin, sizeof boot->kin);
  for (mci_control_link* link = boot->links; link; link = link->next)
    if (link->state == LINK_ACTIVE && link->place.pid != boot->self.pid) mci_leave_say_here(link, false);
  pthread_mutex_unlock(&boot->lock);
}

/* A listener that waits for rank 0 and is not needed. */
static void close_published(const mci_id* id) {
  int fd = mci_id_take_listener(id, NULL, NULL, 0);
  if (fd >= 0) close(fd);
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
  if (options->rank == 0 && options->nranks == 1) close_published(id);
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
