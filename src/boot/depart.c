/* Leaving. On one host the heir simply gets the descriptors (leave.c). Where the heir is on another host, the ranks around
 * the leaving rank P go to the heir G themselves, which is the parent, or, at the root, a child:
 *
 *      G               P -> G   LEAVING {a, b}    G keeps seats for a and b, whose frames wait there from now on
 *      |    (TCP)      G -> P   RELEASE           G's last word here: what it sent by way of P is all on the way
 *      P               P -> a,b REATTACH {G ...}  P's last word to them, behind all that came from G
 *     / \              a,b -> P DETACHED          their last word, P hands on what they sent before
 *    a   b             P -> G   BYE               so all that came by way of P is before this
 *                      a,b -> G hello ...         let in after BYE
 *
 * Every rank says a last word on every connection, so nothing is lost or overtaken, and an end without a last word is a
 * death, also during this. P waits for the last words for a second at most (all in all, for ranks without a control
 * thread, whose caller may be busy: what they send by way of P after that is lost), and until the peers' hosts have
 * acknowledged what it sent, because a closing socket with
 * unread bytes destroys what is under way.
 *
 * Ranks that leave at the same time: before it asks, a rank waits until neighbours that asked it before are gone. A rank
 * that has asked its heir still lets ranks below leave through itself: what it takes over from them it names to the heir
 * (LEAVING once more), and whoever of those named is gone, too (LEFT). When G asks its own heir first, P gets REATTACH in
 * place of RELEASE: it goes to the new heir and asks there. When the root has asked a child that is leaving itself, the
 * child does not answer but asks or says BYE, and the root looks for another heir. */
#include <stdio.h>
#include <string.h>

#include "boot/control.h"

#define PATIENCE_NS 1000000000ull
#define TICK_NS 5000000ull

/* ---- what others do while this rank leaves ---- */

void mci_depart_abandon(mci_boot* boot) {
  boot->heir = NULL;
  boot->phase = DEPART_NOT;
}

static void name_members(mci_boot* boot, const mci_control_link* only) {
  mci_member members[MCI_BOOT_MESSAGE_MAX / sizeof(mci_member)];
  size_t n = 0;
  for (const mci_control_link* link = boot->links; link; link = link->next) {
    if (link->state != LINK_ACTIVE || link == boot->heir || (only && link != only)) continue;
    if (n == MCI_COUNT(members)) {
      mci_control_tell(boot->heir, FRAME_LEAVING, 0, members, sizeof members);
      n = 0;
    }
    uint32_t flags =
        (link->place.threadless ? MEMBER_THREADLESS : 0) | (link->fd < 0 && link != boot->parent ? MEMBER_UNUSUAL : 0);
    members[n++] = (mci_member){.rank = link->rank, .flags = flags};
  }
  mci_control_tell(boot->heir, FRAME_LEAVING, !only, members, n * sizeof *members);
}

static void chain_of_heir(const mci_boot* boot, mci_chain* out) {
  if (boot->heir == boot->parent) {
    *out = boot->above;
  } else {
    *out = (mci_chain){.n = 1};
  }
  out->spans = true;
  out->at[0] = boot->heir->place;
}

/* The last word to a neighbour. One that is still to come is the heir's to wait for. */
static void dismiss(mci_control_link* link) {
  mci_boot* boot = link->boot;
  if (link->fd < 0) {
    mci_frames kept = link->out;
    link->out = (mci_frames){0};
    mci_control_link_drop(link);
    mci_attach_reroute(boot, &kept);
    return;
  }
  mci_chain chain;
  chain_of_heir(boot, &chain);
  mci_control_tell(link, FRAME_REATTACH, 0, &chain, offsetof(mci_chain, at) + (size_t)chain.n * sizeof *chain.at);
  link->muted = true;
}

void mci_depart_also(mci_control_link* link) {
  mci_boot* boot = link->boot;
  if (boot->phase == DEPART_NOT || !boot->heir || link == boot->heir) return;
  name_members(boot, link);
  if (boot->phase == DEPART_RELEASED) dismiss(link);
}

void mci_depart_without(mci_boot* boot, int rank) {
  int32_t gone = rank;
  if (boot->phase != DEPART_NOT && boot->heir) mci_control_tell(boot->heir, FRAME_LEFT, 0, &gone, sizeof gone);
}

/* ---- waiting ---- */

typedef bool (*condition)(const mci_boot* boot, bool patient);

/* Serves the tree until the condition holds, and other trees whose owner is perhaps in here, since two ranks may leave two
 * trees in different order; gives up on ranks without a thread a second after this rank began to leave,
 * and on all of them when this wait has taken a second. */
static void await(mci_boot* boot, condition holds) {
  uint64_t began = mci_now_ns(), now = began;
  while (now < began + PATIENCE_NS && !holds(boot, now >= boot->depart_ns + PATIENCE_NS)) {
    mci_control_wait(boot, MCI_MIN(now + TICK_NS, began + PATIENCE_NS));
    pthread_mutex_unlock(&boot->lock);
    mci_service_serve_threadless();
    pthread_mutex_lock(&boot->lock);
    now = mci_now_ns();
  }
}

static bool failed(const mci_boot* boot) { return boot->failure.result != meshcclSuccess; }

/* No neighbour is in the middle of leaving or coming, and this rank is not between two places. */
static bool is_settled(const mci_boot* boot, bool impatient) {
  if (failed(boot)) return true;
  if (boot->attach.active && !(impatient && boot->above.at[0].threadless)) return false;
  for (const mci_control_link* link = boot->links; link; link = link->next) {
    if (link->state != LINK_ACTIVE || link == boot->parent) continue;
    if (link->muted) return false;
    if (link->fd < 0 && !(impatient && link->place.threadless)) return false;
  }
  return !boot->parent || !boot->parent->muted;
}

/* After a failure: those who are on the way to this rank hear of it here, or nowhere (accept.c). */
static bool all_have_come(const mci_boot* boot, bool impatient) {
  for (const mci_control_link* link = boot->links; link; link = link->next)
    if (link->state == LINK_ACTIVE && link->fd < 0 && link != boot->parent && link->rank != boot->failure.rank &&
        !(impatient && link->place.threadless))
      return false;
  return true;
}

static bool is_released(const mci_boot* boot, bool impatient) {
  return failed(boot) || boot->phase != DEPART_ASKED || (impatient && boot->heir->place.threadless);
}

static bool is_alone(const mci_boot* boot, bool impatient) {
  if (failed(boot) || boot->phase != DEPART_RELEASED) return true;
  for (const mci_control_link* link = boot->links; link; link = link->next)
    if (link->state == LINK_ACTIVE && link != boot->heir && !(impatient && link->place.threadless)) return false;
  return true;
}

static bool is_flushed(const mci_boot* boot, bool impatient) {
  (void)impatient;
  for (const mci_control_link* link = boot->links; link; link = link->next)
    if (!mci_accept_is_stranger(link) && mci_control_link_unsent(link)) return false;
  return true;
}

/* ---- ways to leave ---- */

static bool is_there(const mci_control_link* link) {
  return link->state == LINK_ACTIVE && link->fd >= 0 && !link->muted;
}

/* A child on this host gets the descriptors; one with a thread answers soon. */
static int worth(const mci_control_link* link) { return 2 * !link->tcp + !link->place.threadless; }

static mci_control_link* choose_heir(mci_boot* boot) {
  mci_control_link* best = NULL;
  if (boot->parent) return is_there(boot->parent) ? boot->parent : NULL;
  for (mci_control_link* link = boot->links; link; link = link->next) {
    if (!is_there(link)) continue;
    if (!best || worth(link) > worth(best) || (worth(link) == worth(best) && link->rank < best->rank)) best = link;
  }
  return best;
}

static bool is_only_link(const mci_boot* boot, const mci_control_link* heir) {
  for (const mci_control_link* link = boot->links; link; link = link->next)
    if (link->state == LINK_ACTIVE && link != heir) return false;
  return true;
}

static void say_bye(mci_control_link* link) {
  mci_control_tell(link, FRAME_BYE, 0, NULL, 0);
  link->muted = true;
}

/* True: done. False: the tree has changed; look again. */
static bool depart_across(mci_boot* boot, mci_control_link* heir) {
  boot->heir = heir;
  boot->phase = DEPART_ASKED;
  if (!is_only_link(boot, heir)) {
    name_members(boot, NULL);
    await(boot, is_released);
    if (failed(boot) || boot->heir != heir) return false;
    boot->phase = DEPART_RELEASED;
    for (mci_control_link *link = boot->links, *next; link; link = next) {
      next = link->next;
      if (link->state == LINK_ACTIVE && link != heir && !link->muted) dismiss(link);
    }
    await(boot, is_alone);
    if (failed(boot) || boot->heir != heir) return false;
  }
  say_bye(heir);
  return true;
}

/* Everybody around knows that it is over; nobody needs an heir. */
static void say_bye_to_all(mci_boot* boot) {
  for (mci_control_link* link = boot->links; link; link = link->next)
    if (is_there(link)) say_bye(link);
}

/* It has taken too long: to come, or to go after it had made us its heir. */
static void forget_parent(mci_boot* boot) {
  mci_control_link* parent = boot->parent;
  mci_attach_stop(boot);
  boot->parent = NULL;
  boot->above.n = 0;
  if (parent->fd < 0) {
    mci_control_link_drop(parent);
  } else {
    parent->muted = false;
    say_bye(parent);
    mci_control_link_end(parent);
  }
}

static bool step(mci_boot* boot) {
  if (boot->spans && !failed(boot)) await(boot, is_settled);
  if (boot->spans && failed(boot)) {
    mci_depart_abandon(boot);
    await(boot, all_have_come);
    say_bye_to_all(boot);
    return true;
  }
  mci_control_link* heir = choose_heir(boot);
  if (!heir && boot->parent) {
    forget_parent(boot);
    return false;
  }
  if (!heir) return true;
  if (heir->tcp) return depart_across(boot, heir);
  return heir == boot->parent ? mci_leave_upwards(boot) : mci_leave_downwards(boot, heir);
}

void mci_depart(mci_boot* boot) {
  boot->depart_ns = mci_now_ns();
  boot->threadless = true; /* the control thread does not know this tree any more */
  mci_accept_drop_all(boot);
  mci_accept_stop(boot, LISTEN_UNIX);
  mci_accept_stop(boot, LISTEN_ROOT);
  while (!step(boot)) mci_depart_abandon(boot);
  if (boot->spans) {
    mci_accept_stop(boot, LISTEN_TCP);
    mci_accept_drop_all(boot); /* whoever would be let in now would take our end for a death */
    await(boot, is_flushed);
  }
}
