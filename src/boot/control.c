/* The control tree as one rank sees it: routes, what to do with each kind of frame, the flood of a failure, and
 * waiting. Routes are arithmetic: a frame goes to the child on the way from its target up to this rank, else to the
 * parent. A rank that has left gave its children to the rank above it, so the rule stays true (leave.c). */
#define _GNU_SOURCE
#include "boot/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/globals.h"

#define EVENTS_PER_TURN 32

/* ---- one rank's state ---- */

static meshcclResult_t open_descriptors(mci_boot* boot) {
  boot->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  boot->attention_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  boot->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &boot->attention_source};
  struct epoll_event timer = {.events = EPOLLIN, .data.ptr = &boot->timer_source};
  if (boot->epoll_fd < 0 || boot->attention_fd < 0 || boot->timer_fd < 0 ||
      epoll_ctl(boot->epoll_fd, EPOLL_CTL_ADD, boot->timer_fd, &timer) < 0 ||
      (boot->threadless && epoll_ctl(boot->epoll_fd, EPOLL_CTL_ADD, boot->attention_fd, &event) < 0))
    MCI_FAIL(meshcclSystemError, "rank %d: descriptors for the control tree: %s; see ulimit -n", boot->rank,
             strerror(errno));
  return meshcclSuccess;
}

meshcclResult_t mci_control_create(const mci_id* id, const mci_boot_options* options, mci_boot** out) {
  mci_boot* boot = mci_alloc(sizeof *boot);
  if (!boot) return mci_oom(sizeof *boot);
  *boot = (mci_boot){.id = *id, .rank = options->rank, .nranks = options->nranks, .threadless = options->threadless};
  boot->generation = mci_fork_generation();
  boot->epoll_fd = boot->attention_fd = boot->timer_fd = boot->attach.dial.fd = -1;
  for (int i = 0; i < MCI_LISTENERS; i++) boot->listeners[i].fd = -1;
  boot->attention_source.kind = SOURCE_ATTENTION;
  boot->cancelled = options->cancelled;
  boot->timer_source.kind = SOURCE_TIMER;
  boot->attach.source.kind = SOURCE_DIAL;
  boot->silence_ns =
      options->silence_ns ? options->silence_ns : (uint64_t)(mci_param_seconds(MCI_P_SILENCE_TIMEOUT) * 1e9);
  boot->self = (mci_place){.rank = options->rank,
                           .pid = getpid(),
                           .host = options->host ? options->host : mci_host_id(),
                           .threadless = options->threadless};
  mci_host_name(boot->self.name, sizeof boot->self.name);
  if (options->name) snprintf(boot->name, sizeof boot->name, "%s", options->name);
  pthread_mutex_init(&boot->lock, NULL);
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&boot->changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  boot->agree = mci_strdup(options->agree ? options->agree : "");
  meshcclResult_t result = boot->agree ? open_descriptors(boot) : mci_oom(strlen(options->agree ? options->agree : ""));
  if (result != meshcclSuccess) {
    mci_control_destroy(boot);
    return result;
  }
  mci_beat_start(boot);
  *out = boot;
  return meshcclSuccess;
}

void mci_control_destroy(mci_boot* boot) {
  for (int i = 0; i < MCI_LISTENERS; i++) mci_accept_stop(boot, i);
  mci_attach_stop(boot);
  while (boot->links) mci_control_link_drop(boot->links);
  mci_control_link_free_trash(boot);
  mci_frames_clear(&boot->inbox);
  mci_frames_clear(&boot->gathers);
  mci_frames_clear(&boot->spreads);
  if (boot->epoll_fd >= 0) close(boot->epoll_fd);
  if (boot->attention_fd >= 0) close(boot->attention_fd);
  if (boot->timer_fd >= 0) close(boot->timer_fd);
  pthread_cond_destroy(&boot->changed);
  pthread_mutex_destroy(&boot->lock);
  mci_free(boot->agree);
  mci_free(boot);
}

meshcclResult_t mci_control_usable(const mci_boot* boot) {
  if (boot->generation == mci_fork_generation()) return meshcclSuccess;
  MCI_FAIL(meshcclInvalidUsage, "this communicator was made before fork(); a child process must make its own");
}

/* ---- routes ---- */

int mci_control_children(const mci_boot* boot) {
  int64_t first = (int64_t)boot->rank * MCI_CONTROL_ARITY + 1;
  int64_t n = boot->nranks - first;
  return n <= 0 ? 0 : (int)MCI_MIN(n, (int64_t)MCI_CONTROL_ARITY);
}

void mci_control_informed(mci_boot* boot, int child) {
  int index = child - (boot->rank * MCI_CONTROL_ARITY + 1);
  if (index >= 0 && index < MCI_CONTROL_ARITY) boot->informed |= 1u << index;
}

mci_control_link* mci_control_find(mci_boot* boot, int rank) {
  for (mci_control_link* link = boot->links; link; link = link->next)
    if (link->rank == rank && link->state == LINK_ACTIVE) return link;
  return NULL;
}

/* While this rank leaves, the heir serves those to whom the last word is said. */
mci_control_link* mci_control_towards(mci_boot* boot, int to) {
  mci_control_link* instead = boot->phase == DEPART_RELEASED ? boot->heir : NULL;
  for (int at = to;; at = mci_control_parent(at)) {
    if (at == boot->rank) return instead;
    mci_control_link* link = mci_control_find(boot, at);
    if (link && link != boot->parent) return link->muted && instead ? instead : link;
    if (at == 0) return boot->parent ? boot->parent : instead;
  }
}

void mci_control_route(mci_boot* boot, const mci_header* header, const void* data) {
  mci_control_link* link = mci_control_towards(boot, header->to);
  if (!link && header->type == FRAME_ASK) mci_status_unreachable(boot, header, data);
  if (link && mci_control_link_send(link, header, data) != meshcclSuccess)
    mci_control_failf(boot, boot->rank, meshcclSystemError, "rank %d ran out of memory and lost a message to rank %d",
                      boot->rank, header->to);
}

void mci_control_tell(mci_control_link* link, mci_frame_type type, uint16_t kind, const void* data, size_t bytes) {
  mci_boot* boot = link->boot;
  mci_header header = {.type = (uint16_t)type, .kind = kind, .from = boot->rank, .to = -1, .bytes = (uint32_t)bytes};
  if (mci_control_link_send(link, &header, data) != meshcclSuccess)
    mci_control_failf(boot, boot->rank, meshcclSystemError, "rank %d ran out of memory and lost a message to rank %d",
                      boot->rank, link->rank);
}

/* ---- failures ---- */

void mci_control_changed(mci_boot* boot) {
  if (!boot->threadless) pthread_cond_broadcast(&boot->changed);
}

void mci_control_arrived(mci_boot* boot) {
  atomic_fetch_add_explicit(&boot->attention, 1, memory_order_release);
  if (!boot->attention_shown) {
    uint64_t one = 1;
    boot->attention_shown = write(boot->attention_fd, &one, sizeof one) == (ssize_t)sizeof one;
  }
  mci_control_changed(boot);
}

void mci_control_fail(mci_boot* boot, const mci_verdict* verdict) {
  if (boot->failure.result != meshcclSuccess) return;
  boot->failure = *verdict;
  boot->failure.text[MCI_CONTROL_TEXT - 1] = 0;
  if (boot->failure.result == meshcclSuccess) boot->failure.result = meshcclInternalError;
  for (mci_control_link* link = boot->links; link; link = link->next)
    if (link->state == LINK_ACTIVE) mci_control_tell(link, FRAME_FAIL, 0, &boot->failure, sizeof boot->failure);
  mci_control_arrived(boot);
}

void mci_control_failf(mci_boot* boot, int rank, meshcclResult_t result, const char* format, ...) {
  mci_verdict verdict = {.rank = rank, .result = result};
  int n = boot->name[0] ? snprintf(verdict.text, sizeof verdict.text, "%s: ", boot->name) : 0;
  va_list args;
  va_start(args, format);
  vsnprintf(verdict.text + n, sizeof verdict.text - (size_t)n, format, args);
  va_end(args);
  mci_control_fail(boot, &verdict);
}

void mci_control_lost(mci_control_link* link) {
  mci_boot* boot = link->boot;
  if (mci_accept_is_stranger(link)) {
    mci_accept_drop(link);
    return;
  }
  bool heir_is_done = link->muted && link == boot->heir; /* it closes when it has heard our last word */
  if (link->state == LINK_ENDING || heir_is_done) {
    mci_control_link_drop(link);
    return;
  }
  int rank = link->rank;
  int32_t pid = link->pid;
  char process[40] = "", kin[MCI_CONTROL_KIN + 32] = "", host[MCI_CONTROL_HOST + 16] = "";
  if (pid > 0) snprintf(process, sizeof process, " (process %d)", pid);
  if (link->tcp) snprintf(host, sizeof host, " on host %s", link->place.name);
  if (link->kin[0]) snprintf(kin, sizeof kin, "; the process also ran %s", link->kin);
  mci_control_link_drop(link);
  mci_control_failf(boot, rank, meshcclRemoteError, "rank %d%s%s died: it ended without leaving the communicator%s",
                    rank, process, host, kin);
}

meshcclResult_t mci_control_failure(mci_boot* boot) {
  if (boot->failure.result == meshcclSuccess) return meshcclSuccess;
  MCI_FAIL((meshcclResult_t)boot->failure.result, "%s", boot->failure.text);
}

/* ---- frames ---- */

static void take_fail(mci_boot* boot, const mci_packet* packet) {
  mci_verdict verdict;
  memcpy(&verdict, packet->data, sizeof verdict);
  mci_control_fail(boot, &verdict);
}

static void keep(mci_boot* boot, mci_frames* frames, const mci_packet* packet) {
  if (mci_frames_push(frames, &packet->header, packet->data) != meshcclSuccess)
    mci_control_failf(boot, boot->rank, meshcclSystemError, "rank %d ran out of memory and lost a message", boot->rank);
}

static void take_spread(mci_boot* boot, const mci_packet* packet) {
  for (mci_control_link* link = boot->links; link; link = link->next)
    if (link->state == LINK_ACTIVE && link != boot->parent)
      mci_control_tell(link, FRAME_SPREAD, packet->header.kind, packet->data, packet->header.bytes);
  keep(boot, &boot->spreads, packet);
  mci_control_changed(boot);
}

/* Frames of fixed size whose size is wrong come from a broken peer. */
static bool size_is_right(const mci_header* header) {
  switch ((mci_frame_type)header->type) {
    case FRAME_FAIL:
      return header->bytes == sizeof(mci_verdict);
    case FRAME_UP:
      return header->bytes == sizeof(mci_up);
    case FRAME_MISSING:
      return header->bytes == sizeof(mci_missing);
    case FRAME_ASK:
      return header->bytes == sizeof(mci_ask);
    case FRAME_TELL:
      return header->bytes == sizeof(mci_tell);
    case FRAME_ACCUSE:
      return header->bytes == sizeof(mci_verdict);
    case FRAME_QUERY:
      return header->bytes == sizeof(int32_t);
    case FRAME_STATUS:
      return header->bytes == sizeof(mci_rank_status);
    case FRAME_HERE:
      return header->bytes == sizeof(mci_here);
    case FRAME_MOVED:
    case FRAME_LEFT:
      return header->bytes == sizeof(int32_t);
    default:
      return true;
  }
}

/* What concerns the link that it came by. */
static void take_from_link(mci_control_link* link, mci_packet* packet) {
  switch ((mci_frame_type)packet->header.type) {
    case FRAME_UP:
      mci_agree_up(link, packet);
      break;
    case FRAME_NEED_TEXT:
      mci_agree_send_text(link->boot);
      break;
    case FRAME_TEXT:
      mci_agree_text(link, packet);
      break;
    case FRAME_MISSING:
      memcpy(&link->missing, packet->data, sizeof link->missing);
      break;
    case FRAME_EXPIRED:
      mci_agree_expired(link->boot);
      break;
    case FRAME_HERE:
      mci_leave_here(link, packet);
      break;
    case FRAME_MOVED:
      mci_leave_moved(link, packet);
      break;
    case FRAME_ADOPT:
    case FRAME_LEAVE:
      mci_leave_packet(link, packet);
      break;
    case FRAME_QUERY: {
      int32_t asker;
      memcpy(&asker, packet->data, sizeof asker);
      mci_status_query(link->boot, link, asker, packet->header.kind);
      break;
    }
    case FRAME_LEAVING:
      mci_attach_leaving(link, packet);
      break;
    case FRAME_RELEASE:
      mci_attach_released(link);
      break;
    case FRAME_REATTACH:
      mci_attach_reattach(link, packet);
      break;
    case FRAME_DETACHED:
      mci_attach_detached(link);
      break;
    case FRAME_LEFT:
      mci_attach_left(link, packet);
      break;
    case FRAME_BYE:
      mci_attach_bye(link);
      break;
    default:
      break;
  }
}

bool mci_control_take(mci_boot* boot, const mci_packet* packet) {
  const mci_header* header = &packet->header;
  if (header->to >= 0 && header->to != boot->rank) {
    mci_control_route(boot, header, packet->data);
    return true;
  }
  switch ((mci_frame_type)header->type) {
    case FRAME_MESSAGE:
      keep(boot, &boot->inbox, packet);
      mci_control_arrived(boot);
      return true;
    case FRAME_FAIL:
      take_fail(boot, packet);
      return true;
    case FRAME_GATHER:
      keep(boot, &boot->gathers, packet);
      mci_control_changed(boot);
      return true;
    case FRAME_SPREAD:
      take_spread(boot, packet);
      return true;
    case FRAME_DOWN:
      mci_agree_open(boot, header->kind != 0);
      return true;
    case FRAME_ASK:
    case FRAME_TELL:
    case FRAME_STATUS:
    case FRAME_ACCUSE:
      mci_status_take(boot, packet);
      return true;
    default:
      return false;
  }
}

void mci_control_dispatch(mci_control_link* link, mci_packet* packet) {
  const mci_header* header = &packet->header;
  if (link->state != LINK_ACTIVE) {
    if (mci_accept_is_stranger(link)) mci_accept_packet(link, packet);
    return;
  }
  bool carries = header->type == FRAME_ADOPT || header->type == FRAME_LEAVE;
  for (int i = 0; !carries && i < packet->nfds; i++) close(packet->fds[i]);
  if (!size_is_right(header))
    mci_control_failf(link->boot, link->rank, meshcclInternalError, "rank %d sent a malformed frame of type %u",
                      link->rank, header->type);
  else if (!mci_control_take(link->boot, packet))
    take_from_link(link, packet);
}

/* ---- progress and waiting ---- */

/* What the process had sent is still to be read: a goodbye may be among it. */
void mci_control_check_process(mci_control_link* link) {
  if (!mci_control_link_process_over(link)) return;
  while (mci_control_link_serve(link)) continue;
  if (link->state == LINK_ACTIVE && mci_control_link_process_over(link)) mci_control_lost(link);
}

void mci_control_progress(mci_boot* boot) {
  struct epoll_event events[EVENTS_PER_TURN];
  bool tick = false; /* after the events: what has arrived may be a sign of life */
  int n = epoll_wait(boot->epoll_fd, events, EVENTS_PER_TURN, 0);
  for (int i = 0; i < n; i++) {
    mci_source* source = events[i].data.ptr;
    mci_control_link* link = source->link;
    if (source->kind == SOURCE_LISTENER && boot->listeners[source->listener].fd >= 0)
      mci_accept_progress(boot, source->listener);
    if (source->kind == SOURCE_DIAL) mci_attach_progress(boot);
    tick = tick || source->kind == SOURCE_TIMER;
    if (!link || link->state == LINK_GONE) continue;
    if (source->kind == SOURCE_PROCESS) {
      mci_control_check_process(link);
      continue;
    }
    if (events[i].events & EPOLLOUT) mci_control_link_flush(link);
    if ((events[i].events & ~(uint32_t)EPOLLOUT) && link->state != LINK_GONE) mci_control_link_serve(link);
  }
  if (tick) mci_beat_tick(boot);
  mci_control_link_free_trash(boot);
}

/* A message that nobody has taken yet must not turn the sleep into a spin: the attention is masked meanwhile. */
static void wait_threadless(mci_boot* boot, uint64_t until_ns) {
  struct epoll_event masked = {.events = 0, .data.ptr = &boot->attention_source};
  struct epoll_event shown = {.events = EPOLLIN, .data.ptr = &boot->attention_source};
  uint64_t now = mci_now_ns();
  int ms = now >= until_ns ? 0 : (int)MCI_MIN((until_ns - now) / 1000000 + 1, (uint64_t)1000);
  struct pollfd ready = {.fd = boot->epoll_fd, .events = POLLIN};
  epoll_ctl(boot->epoll_fd, EPOLL_CTL_MOD, boot->attention_fd, &masked);
  pthread_mutex_unlock(&boot->lock);
  poll(&ready, 1, ms);
  pthread_mutex_lock(&boot->lock);
  epoll_ctl(boot->epoll_fd, EPOLL_CTL_MOD, boot->attention_fd, &shown);
  mci_control_progress(boot);
}

void mci_control_wait(mci_boot* boot, uint64_t until_ns) {
  if (boot->threadless) {
    wait_threadless(boot, until_ns);
    return;
  }
  struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
  pthread_cond_timedwait(&boot->changed, &boot->lock, &until);
}
