/* The ranks that stay when a neighbour leaves across hosts (depart.c tells the whole story): the heir, which keeps seats
 * for the ranks that will come to it, and those ranks, which go to the heir or, when that has left too, to the next one
 * above. Frames wait in a link without a socket meanwhile, so order is kept and nothing is lost.
 *
 * When everybody above has left as well, a rank goes on as the root of what is below it. That is not to be told from a
 * heir that died before it could be reached; whoever was connected to that one tells the rest of the tree. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "boot/control.h"

#define PATIENCE_FIRST_NS 500000000ull
#define PATIENCE_LAST_NS 5000000000ull
#define BACKOFF_NS 1000000ull
#define BACKOFF_LAST_NS 50000000ull
#define ROUNDS_MIN 3 /* refusals by all that make an orphan */

/* ---- the heir: seats ---- */

void mci_attach_reroute(mci_boot* boot, mci_frames* frames) {
  mci_frame* frame;
  while ((frame = mci_frames_pop(frames))) {
    if (frame->header.to >= 0 && frame->header.to != boot->rank) mci_control_route(boot, &frame->header, frame->data);
    mci_free(frame);
  }
}

/* Drops a link to somebody who is no more; what was for others goes another way. */
static void drop_and_reroute(mci_control_link* link) {
  mci_boot* boot = link->boot;
  mci_frames kept = link->out;
  link->out = (mci_frames){0};
  mci_control_link_drop(link);
  mci_attach_reroute(boot, &kept);
  mci_control_changed(boot);
}

meshcclResult_t mci_attach_seat(mci_boot* boot, int rank, int via, uint32_t flags, mci_control_link** out) {
  mci_control_link* seat = mci_control_find(boot, rank);
  if (!seat) MCI_TRY(mci_control_link_create(boot, -1, LINK_ACTIVE, rank, &seat));
  if (seat->fd < 0) {
    seat->via = via;
    seat->since_ns = via < 0 ? mci_now_ns() : 0;
    seat->place.threadless = (flags & MEMBER_THREADLESS) != 0;
    seat->second_hand = (flags & MEMBER_UNUSUAL) != 0;
    if (boot->failure.result != meshcclSuccess && !seat->out.head)
      mci_control_tell(seat, FRAME_FAIL, 0, &boot->failure, sizeof boot->failure);
  }
  *out = seat;
  return meshcclSuccess;
}

static void take_members(mci_control_link* from, const mci_packet* packet) {
  mci_boot* boot = from->boot;
  for (size_t i = 0; i < packet->header.bytes / sizeof(mci_member); i++) {
    mci_member member;
    mci_control_link* seat;
    memcpy(&member, packet->data + i * sizeof member, sizeof member);
    if (member.rank == boot->rank || member.rank < 0 || member.rank >= boot->nranks) continue;
    if (mci_attach_seat(boot, member.rank, from->rank, member.flags, &seat) != meshcclSuccess)
      mci_control_failf(boot, boot->rank, meshcclSystemError,
                        "rank %d has no memory to serve rank %d in place of rank %d", boot->rank, member.rank,
                        from->rank);
    else
      mci_depart_also(seat);
  }
}

void mci_attach_leaving(mci_control_link* link, const mci_packet* packet) {
  mci_boot* boot = link->boot;
  bool from_above = link == boot->parent;
  /* Who leaves upwards is heard first: a root that made us its heir will see that and look for another one. */
  if (from_above && boot->phase != DEPART_NOT) return;
  if (link == boot->heir && boot->phase == DEPART_ASKED) mci_depart_abandon(boot);
  if (link->muted && packet->header.kind == 0 && !from_above) {
    take_members(link, packet); /* more of what a neighbour found while it was leaving */
    return;
  }
  if (link->muted && boot->phase != DEPART_NOT) return; /* it was sent to our heir, and will ask there */
  take_members(link, packet);
  if (packet->header.kind == 0 || link->muted) return;
  mci_control_tell(link, FRAME_RELEASE, 0, NULL, 0);
  link->muted = true;
}

void mci_attach_left(mci_control_link* link, const mci_packet* packet) {
  int32_t rank;
  memcpy(&rank, packet->data, sizeof rank);
  mci_boot* boot = link->boot;
  mci_control_link* seat = mci_control_find(boot, rank);
  if (!seat || seat->fd >= 0 || seat == boot->parent) return;
  drop_and_reroute(seat);
  mci_depart_without(boot, rank);
}

void mci_attach_bye(mci_control_link* link) {
  mci_boot* boot = link->boot;
  int rank = link->rank;
  if (link == boot->parent) boot->above.n = 0;
  drop_and_reroute(link);
  uint64_t now = mci_now_ns();
  for (mci_control_link* seat = boot->links; seat; seat = seat->next) {
    if (seat->state != LINK_ACTIVE || seat->fd >= 0 || seat->via != rank) continue;
    seat->via = -1;
    seat->since_ns = now;
  }
  mci_depart_without(boot, rank);
}

void mci_attach_released(mci_control_link* link) {
  mci_boot* boot = link->boot;
  if (link == boot->heir && boot->phase == DEPART_ASKED) boot->phase = DEPART_RELEASED;
}

void mci_attach_detached(mci_control_link* link) {
  if (link->muted) drop_and_reroute(link);
}

/* A seat that stays empty: its rank went on without us, which is no crime, or it died on the way. */
static void expire_seat(mci_control_link* seat, double waited_s) {
  mci_boot* boot = seat->boot;
  int rank = seat->rank;
  bool excused = seat->second_hand;
  mci_control_link_drop(seat);
  if (!excused)
    mci_control_failf(
        boot, rank, meshcclRemoteError,
        "rank %d has been silent for %.1f s: it has not come to rank %d after the rank in between left; its "
        "process is stopped or dead, its host is down or the network is cut",
        rank, waited_s, boot->rank);
}

/* ---- a rank whose parent has left: the way to the heir ---- */

void mci_attach_stop(mci_boot* boot) {
  mci_dial_close(&boot->attach.dial);
  boot->attach.active = false;
}

/* Nobody above is left. */
static void become_root(mci_boot* boot) {
  mci_control_link* parent = boot->parent;
  mci_attach_stop(boot);
  boot->above.n = 0;
  if (parent) mci_control_link_drop(parent);
  MCI_INFO("rank %d: the ranks above have left", boot->rank);
  mci_control_changed(boot);
}

static void give_up(mci_boot* boot, double tried_s) {
  mci_place* place = &boot->above.at[0];
  mci_attach_stop(boot);
  mci_control_failf(
      boot, place->rank, meshcclRemoteError,
      "rank %d on host %s has been silent for %.1f s: it serves in place of a rank that left, and rank %d "
      "cannot reach it (%s); its host is down or the network is cut",
      place->rank, place->name, tried_s, boot->rank, boot->attach.trouble);
}

/* The n-th of all addresses of all ranks above. */
static bool candidate(const mci_boot* boot, int n, int* rank, meshcclNetAddress_t* out) {
  for (int i = 0; i < boot->above.n; i++) {
    mci_net_addresses addresses;
    mci_place_addresses(&boot->above.at[i], &addresses);
    if (n < addresses.n) {
      *rank = boot->above.at[i].rank;
      *out = addresses.at[n];
      return true;
    }
    n -= addresses.n;
  }
  return false;
}

static void later(mci_boot* boot, uint64_t ns) {
  boot->attach.due_ns = mci_now_ns() + ns;
  mci_beat_at(boot, boot->attach.due_ns);
}

/* All candidates were asked. */
static void end_round(mci_boot* boot, uint64_t now) {
  mci_attach* a = &boot->attach;
  a->round++;
  a->candidate = 0;
  if (!a->hope && a->round >= ROUNDS_MIN) {
    become_root(boot);
  } else if (a->hope && now > a->began_ns + boot->silence_ns) {
    give_up(boot, (double)(now - a->began_ns) / 1e9);
  } else {
    a->hope = false;
    later(boot, MCI_MIN(BACKOFF_NS << MCI_MIN(a->round, 10), BACKOFF_LAST_NS));
  }
}

static void dial_next(mci_boot* boot) {
  mci_attach* a = &boot->attach;
  meshcclNetAddress_t address;
  int rank;
  uint64_t now = mci_now_ns();
  if (!candidate(boot, a->candidate, &rank, &address)) {
    end_round(boot, now);
    return;
  }
  uint64_t patience = MCI_MIN(PATIENCE_FIRST_NS << MCI_MIN(a->round, 4), PATIENCE_LAST_NS);
  a->candidate++;
  a->due_ns = 0;
  mci_dial_start(boot, rank, &address, true, now + patience, &a->dial);
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = &a->source};
  if (a->dial.fd >= 0 && epoll_ctl(boot->epoll_fd, EPOLL_CTL_ADD, a->dial.fd, &event) == 0) {
    a->dial.epoll_fd = boot->epoll_fd;
    mci_beat_at(boot, now + patience);
    return;
  }
  a->hope = a->hope || !a->dial.refused;
  snprintf(a->trouble, sizeof a->trouble, "%s", a->dial.trouble);
  mci_dial_close(&a->dial);
  later(boot, 0);
}

static void arrive(mci_boot* boot, const mci_packet* packet) {
  mci_attach* a = &boot->attach;
  mci_control_link* parent = boot->parent;
  mci_chain chain;
  if (!mci_dial_chain(packet, &chain)) {
    mci_dial_close(&a->dial);
    return later(boot, BACKOFF_LAST_NS);
  }
  int fd = mci_dial_take(&a->dial);
  mci_attach_stop(boot);
  boot->above = chain;
  parent->rank = chain.at[0].rank;
  parent->place = chain.at[0];
  parent->pid = chain.at[0].pid;
  if (mci_control_link_connect(parent, fd) != meshcclSuccess) {
    mci_control_failf(boot, boot->rank, meshcclSystemError, "rank %d cannot go on below rank %d: %s", boot->rank,
                      parent->rank, mci_error_last());
    return;
  }
  mci_leave_say_here(parent, false);
  if (boot->failure.result != meshcclSuccess)
    mci_control_tell(parent, FRAME_FAIL, 0, &boot->failure, sizeof boot->failure);
  mci_control_changed(boot);
}

/* A rank that is leaving names its heir. */
static void go_on_to(mci_boot* boot, const mci_packet* packet) {
  mci_place next;
  mci_chain* above = &boot->above;
  if (!mci_dial_place(packet, &next) || next.rank == boot->rank || next.naddresses == 0) return;
  int known = 0;
  while (known < above->n && above->at[known].rank != next.rank) known++;
  if (known == above->n) {
    if (above->n == MCI_CONTROL_DEPTH) known = --above->n;
    above->n++;
  }
  memmove(&above->at[1], &above->at[0], (size_t)known * sizeof *above->at);
  above->at[0] = next;
  boot->attach.candidate = 0;
}

static void hear_answer(mci_boot* boot, const mci_packet* packet) {
  mci_verdict verdict;
  mci_attach* a = &boot->attach;
  a->hope = true;
  switch ((mci_answer)packet->header.kind) {
    case ANSWER_WELCOME:
      arrive(boot, packet);
      return;
    case ANSWER_REDIRECT:
      go_on_to(boot, packet);
      break;
    case ANSWER_WAIT:
      a->candidate = 0; /* there it will be */
      a->round++;
      break;
    default:
      if (packet->header.bytes != sizeof verdict) break;
      memcpy(&verdict, packet->data, sizeof verdict);
      mci_attach_stop(boot);
      mci_control_fail(boot, &verdict);
      return;
  }
  mci_dial_close(&a->dial);
  uint64_t now = mci_now_ns();
  if (now > a->began_ns + boot->silence_ns)
    give_up(boot, (double)(now - a->began_ns) / 1e9);
  else
    later(boot, MCI_MIN(BACKOFF_NS << MCI_MIN(a->round, 10), BACKOFF_LAST_NS));
}

void mci_attach_progress(mci_boot* boot) {
  mci_attach* a = &boot->attach;
  mci_packet packet;
  if (!a->active || a->dial.fd < 0) return;
  mci_dial_state state = mci_dial_progress(boot, &a->dial, &packet);
  struct epoll_event event = {.events = mci_dial_events(&a->dial) == POLLOUT ? EPOLLOUT : EPOLLIN,
                              .data.ptr = &a->source};
  switch (state) {
    case DIAL_BUSY:
      epoll_ctl(boot->epoll_fd, EPOLL_CTL_MOD, a->dial.fd, &event);
      mci_beat_at(boot, a->dial.until_ns);
      break;
    case DIAL_ANSWERED:
      hear_answer(boot, &packet);
      break;
    case DIAL_DOWN:
      a->hope = a->hope || !a->dial.refused;
      snprintf(a->trouble, sizeof a->trouble, "%s", a->dial.trouble);
      later(boot, 0);
      break;
    case DIAL_FAILED:
      mci_attach_stop(boot);
      mci_control_failf(boot, boot->rank, meshcclRemoteError, "%s", mci_error_last());
      break;
  }
}

static void go_looking(mci_boot* boot) {
  mci_attach* a = &boot->attach;
  mci_attach_stop(boot);
  *a = (mci_attach){.active = true, .source = a->source, .began_ns = mci_now_ns(), .dial.fd = -1};
  dial_next(boot);
}

/* The last word on this link, from the parent: where to go. */
void mci_attach_reattach(mci_control_link* link, const mci_packet* packet) {
  mci_boot* boot = link->boot;
  mci_chain chain;
  mci_control_link* parent;
  if (link != boot->parent || !mci_dial_chain(packet, &chain)) return;
  if (boot->heir == link) mci_depart_abandon(boot);
  mci_frames kept = link->out;
  link->out = (mci_frames){0};
  boot->above = chain;
  if (mci_control_link_create(boot, -1, LINK_ACTIVE, chain.at[0].rank, &parent) != meshcclSuccess) {
    mci_frames_clear(&kept);
    mci_control_failf(boot, boot->rank, meshcclSystemError, "rank %d has no memory to go on below rank %d", boot->rank,
                      chain.at[0].rank);
    return;
  }
  parent->place = chain.at[0];
  boot->parent = parent;
  mci_control_tell(link, FRAME_DETACHED, 0, NULL, 0);
  mci_control_link_end(link);
  mci_attach_reroute(boot, &kept);
  go_looking(boot);
}

/* ---- time ---- */

void mci_attach_tick(mci_boot* boot, uint64_t now, uint64_t* due_ns) {
  mci_attach* a = &boot->attach;
  if (a->active && a->dial.fd >= 0 && now >= a->dial.until_ns) mci_attach_progress(boot);
  if (a->active && a->dial.fd < 0 && a->due_ns && now >= a->due_ns) dial_next(boot);
  if (a->active) *due_ns = MCI_MIN(*due_ns, a->dial.fd >= 0 ? a->dial.until_ns : a->due_ns);
  for (mci_control_link *seat = boot->links, *next; seat; seat = next) {
    next = seat->next;
    bool empty = seat->state == LINK_ACTIVE && seat->fd < 0 && seat != boot->parent && seat->since_ns;
    if (!empty || seat->place.threadless) continue;
    if (now >= seat->since_ns + boot->silence_ns) {
      expire_seat(seat, (double)(now - seat->since_ns) / 1e9);
      *due_ns = now + 1; /* the list has changed */
      return;
    }
    *due_ns = MCI_MIN(*due_ns, seat->since_ns + boot->silence_ns);
  }
}
