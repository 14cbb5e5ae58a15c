/* Time in the tree: signs of life and their absence, strangers whose time is over, tries to come back. One timer per
 * tree, in its epoll set, so that the control thread and a caller that waits without one are woken alike.
 *
 * Every quarter of the silence limit a rank sends a beat on each link that has carried nothing since the last time, so
 * a living peer is heard at least every half limit; any frame counts. A peer without a control thread beats only while
 * its caller is in the library, so it is never held to be silent. A rank that was itself stopped for a while has heard
 * nobody through no fault of theirs: it forgives all, and starts anew. */
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "boot/control.h"

#define BEATS_PER_LIMIT 4

void mci_beat_at(mci_boot* boot, uint64_t due_ns) {
  if (due_ns >= boot->timer_due_ns) return;
  boot->timer_due_ns = due_ns;
  due_ns = MCI_MAX(due_ns, 1ull); /* 0 would disarm */
  struct itimerspec when = {
      .it_value = {.tv_sec = (time_t)(due_ns / 1000000000u), .tv_nsec = (long)(due_ns % 1000000000u)}};
  timerfd_settime(boot->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void mci_beat_start(mci_boot* boot) {
  boot->beat_ns = boot->silence_ns / BEATS_PER_LIMIT;
  boot->beaten_ns = mci_now_ns();
  boot->timer_due_ns = UINT64_MAX;
  if (boot->nranks > 1) mci_beat_at(boot, boot->beaten_ns + boot->beat_ns);
}

void mci_beat_forgive(mci_boot* boot, uint64_t now) {
  for (mci_control_link* link = boot->links; link; link = link->next) link->heard_ns = now;
  boot->beaten_ns = now;
}

static bool is_neighbour(const mci_control_link* link) {
  return link->state == LINK_ACTIVE && link->fd >= 0 && !link->muted;
}

/* The heir's last word is said when it has released us. */
static bool owes_beats(const mci_control_link* link) {
  const mci_boot* boot = link->boot;
  return is_neighbour(link) && !link->place.threadless && !(boot->phase == DEPART_RELEASED && boot->heir == link);
}

static void beat(mci_boot* boot) {
  for (mci_control_link* link = boot->links; link; link = link->next) {
    if (!is_neighbour(link)) continue;
    if (!link->spoken && !link->out.head && link->rest_bytes == 0) mci_control_tell(link, FRAME_BEAT, 0, NULL, 0);
    link->spoken = false;
  }
}

static void accuse(mci_control_link* link, uint64_t silent_ns) {
  mci_boot* boot = link->boot;
  char process[40] = "", kin[MCI_CONTROL_KIN + 32] = "";
  if (link->pid > 0) snprintf(process, sizeof process, " (process %d)", link->pid);
  if (link->kin[0]) snprintf(kin, sizeof kin, "; the process also runs %s", link->kin);
  int rank = link->rank;
  bool tcp = link->tcp;
  char host[MCI_CONTROL_HOST];
  memcpy(host, link->place.name, sizeof host);
  mci_control_link_drop(link);
  mci_control_failf(boot, rank, meshcclRemoteError, "rank %d%s on host %s has been silent for %.1f s: %s%s", rank,
                    process, host, (double)silent_ns / 1e9,
                    tcp ? "its process is stopped, its host is down or the network is cut" : "its process is stopped",
                    kin);
}

/* What has arrived and was not looked at yet speaks for the peer. */
static void judge(mci_boot* boot, uint64_t now) {
  for (mci_control_link *link = boot->links, *next; link; link = next) {
    next = link->next;
    if (!owes_beats(link) || now < link->heard_ns + boot->silence_ns) continue;
    while (mci_control_link_serve(link)) continue;
    if (owes_beats(link) && now >= link->heard_ns + boot->silence_ns) {
      accuse(link, now - link->heard_ns);
    }
    return mci_beat_at(boot, now + 1); /* the list may have changed: look at the others at once */
  }
}

void mci_beat_tick(mci_boot* boot) {
  uint64_t count, now = mci_now_ns(), due = UINT64_MAX;
  if (read(boot->timer_fd, &count, sizeof count) < 0) count = 0;
  boot->timer_due_ns = UINT64_MAX;
  if (boot->nranks > 1) {
    if (now > boot->beaten_ns + 2 * boot->beat_ns) mci_beat_forgive(boot, now);
    if (now >= boot->beaten_ns + boot->beat_ns) {
      boot->beaten_ns = now;
      beat(boot);
    }
    judge(boot, now);
    due = boot->beaten_ns + boot->beat_ns;
  }
  mci_accept_expire(boot, now, &due);
  mci_attach_tick(boot, now, &due);
  if (due != UINT64_MAX) mci_beat_at(boot, due);
}
