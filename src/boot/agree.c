/* The second half of joining: each rank tells its parent when its subtree is complete, with a hash of the text that all
 * must agree on; only where a hash differs the text itself travels one level up, and the first differing line becomes
 * the verdict that the root floods. Also keeps account of who is missing, for the message of a timeout. */
#include <stdio.h>
#include <string.h>

#include "boot/control.h"

#define PIECE 4000
#define LINE 96
#define TEXT_MAX (16u << 20)

/* ---- complete subtrees ---- */

static int complete_children(const mci_boot* boot) {
  int n = 0;
  for (const mci_control_link* link = boot->links; link; link = link->next)
    n += link->state == LINK_ACTIVE && link != boot->parent && link->complete;
  return n;
}

/* Nobody joins any more. Where all ranks are on one host nothing listens from here on. */
void mci_agree_open(mci_boot* boot, bool spans) {
  if (boot->open) return;
  boot->open = true;
  boot->spans = spans;
  mci_accept_drop_all(boot);
  mci_accept_stop(boot, LISTEN_UNIX);
  mci_accept_stop(boot, LISTEN_ROOT);
  if (!spans) mci_accept_stop(boot, LISTEN_TCP);
  for (mci_control_link* link = boot->links; link; link = link->next)
    if (link->state == LINK_ACTIVE && link != boot->parent) mci_control_tell(link, FRAME_DOWN, spans, NULL, 0);
  mci_control_changed(boot);
}

/* Whether this rank and those below it are on more than one host. */
static bool several_hosts(const mci_boot* boot) {
  for (const mci_control_link* link = boot->links; link; link = link->next)
    if (link->state == LINK_ACTIVE && link != boot->parent && (link->several || link->place.host != boot->self.host))
      return true;
  return false;
}

void mci_agree_try_up(mci_boot* boot) {
  if (boot->up_sent || complete_children(boot) < mci_control_children(boot)) return;
  if (boot->rank != 0 && !boot->parent) return;
  boot->up_sent = true;
  if (boot->parent) {
    mci_up up = {
        .hash = mci_hash64(boot->agree, strlen(boot->agree)), .several = several_hosts(boot), .verdict = boot->verdict};
    mci_control_tell(boot->parent, FRAME_UP, 0, &up, sizeof up);
  } else if (boot->verdict.result != meshcclSuccess) {
    mci_control_fail(boot, &boot->verdict);
  } else {
    mci_agree_open(boot, boot->spans && several_hosts(boot));
  }
}

void mci_agree_up(mci_control_link* link, const mci_packet* packet) {
  mci_boot* boot = link->boot;
  mci_up up;
  memcpy(&up, packet->data, sizeof up);
  link->several = up.several != 0;
  if (up.verdict.result != meshcclSuccess && boot->verdict.result == meshcclSuccess) boot->verdict = up.verdict;
  if (up.hash == mci_hash64(boot->agree, strlen(boot->agree))) {
    link->complete = true;
    mci_agree_try_up(boot);
  } else {
    mci_control_tell(link, FRAME_NEED_TEXT, 0, NULL, 0);
  }
}

/* ---- texts that differ ---- */

void mci_agree_send_text(mci_boot* boot) {
  size_t length = strlen(boot->agree), sent = 0;
  if (!boot->parent) return;
  do {
    size_t n = MCI_MIN(length - sent, (size_t)PIECE);
    mci_control_tell(boot->parent, FRAME_TEXT, sent + n == length, boot->agree + sent, n);
    sent += n;
  } while (sent < length);
}

/* The line at *at without its end, cut for display; *at moves on. False at the end of the text. */
static bool next_line(const char** at, const char** line, size_t* length) {
  if (!**at) return false;
  *line = *at;
  *length = strcspn(*at, "\n");
  *at += *length + ((*at)[*length] == '\n');
  return true;
}

static void name_difference(mci_boot* boot, int other, const char* theirs_text) {
  const char *ours = boot->agree, *theirs = theirs_text, *a = "", *b = "";
  size_t na = 0, nb = 0;
  bool more_a, more_b;
  do {
    more_a = next_line(&ours, &a, &na);
    more_b = next_line(&theirs, &b, &nb);
  } while (more_a && more_b && na == nb && memcmp(a, b, na) == 0);
  if (!more_a) a = "(no such line)", na = strlen(a);
  if (!more_b) b = "(no such line)", nb = strlen(b);
  const char* named = more_a ? a : b;
  int name = (int)MCI_MIN(strcspn(named, "=\n"), (size_t)40);
  mci_verdict* verdict = &boot->verdict;
  *verdict = (mci_verdict){.rank = other, .result = meshcclInvalidUsage};
  snprintf(verdict->text, sizeof verdict->text,
           "%s%sranks %d and %d differ in %.*s: rank %d has %.*s, rank %d has %.*s; it must be equal on all ranks",
           boot->name, boot->name[0] ? ": " : "", boot->rank, other, name, named, boot->rank,
           (int)MCI_MIN(na, (size_t)LINE), a, other, (int)MCI_MIN(nb, (size_t)LINE), b);
}

void mci_agree_text(mci_control_link* link, const mci_packet* packet) {
  mci_boot* boot = link->boot;
  mci_str_add(&link->text, "%.*s", (int)packet->header.bytes, (const char*)packet->data);
  if (link->text.length > TEXT_MAX) link->text.failed = true;
  if (packet->header.kind == 0) return;
  if (link->text.failed)
    mci_control_failf(boot, boot->rank, meshcclSystemError,
                      "rank %d has no memory to compare its variables with rank %d's", boot->rank, link->rank);
  else if (boot->verdict.result == meshcclSuccess)
    name_difference(boot, link->rank, link->text.text ? link->text.text : "");
  link->complete = true;
  mci_str_fini(&link->text);
  mci_agree_try_up(boot);
}

/* ---- who is missing ---- */

static void add_missing(mci_missing* out, int rank) {
  if (out->count < MCI_CONTROL_MISSING) out->ranks[out->count] = rank;
  out->count++;
}

void mci_agree_missing(mci_boot* boot, mci_missing* out) {
  *out = (mci_missing){0};
  int first = boot->rank * MCI_CONTROL_ARITY + 1;
  for (int i = 0; i < mci_control_children(boot); i++) {
    const mci_control_link* link = mci_control_find(boot, first + i);
    if (!link) {
      add_missing(out, first + i);
      continue;
    }
    int32_t below = link->complete ? 0 : link->missing.count;
    for (int32_t k = 0; k < below; k++) add_missing(out, k < MCI_CONTROL_MISSING ? link->missing.ranks[k] : -1);
  }
}

static void print_missing(const mci_missing* missing, mci_str* out) {
  mci_str_add(out, missing->count == 1 ? "rank " : "ranks ");
  int32_t listed = MCI_MIN(missing->count, (int32_t)MCI_CONTROL_MISSING);
  for (int32_t i = 0; i < listed; i++) mci_str_add(out, i ? ", %d" : "%d", missing->ranks[i]);
  if (missing->count > listed) mci_str_add(out, " and %d more", missing->count - listed);
  mci_str_add(out, missing->count == 1 ? " has not joined" : " have not joined");
}

/* Why other hosts may be out of reach. */
static void explain(const mci_boot* boot, mci_str* text) {
  mci_net_addresses addresses;
  mci_meeting meeting = mci_id_get_meeting(&boot->id, &addresses);
  if (boot->trouble[0]) mci_str_add(text, "; %s", boot->trouble);
  if (boot->rank == 0 && boot->spans && !mci_id_trusted(&boot->id) && mci_param_int(MCI_P_AUTH) == 0)
    mci_str_add(
        text,
        "; no secret guards this job, so rank 0 listens on loopback only: MESHCCL_SECRET_FILE on every rank lets "
        "other hosts in");
  else if (meeting == MEETING_NONE && !boot->trouble[0])
    mci_str_add(text, "; this id names no address, so only ranks of host %s can join: MESHCCL_ROOT=host:port names one",
                boot->self.name);
}

void mci_agree_expired(mci_boot* boot) {
  if (boot->open || boot->failure.result != meshcclSuccess) return;
  if (boot->parent) {
    mci_control_tell(boot->parent, FRAME_EXPIRED, 0, NULL, 0);
    return;
  }
  mci_missing missing;
  mci_str text = {0};
  mci_agree_missing(boot, &missing);
  if (boot->rank != 0)
    mci_str_add(&text,
                "rank %d does not answer, so rank %d could not join; either rank %d has ended or was not started with "
                "this id, or its communicator is complete already (an id serves once, and each rank number once)",
                boot->waits_for, boot->rank, boot->waits_for);
  else if (missing.count > 0)
    print_missing(&missing, &text);
  else
    mci_str_add(&text, "a rank below rank 0 has not joined");
  explain(boot, &text);
  mci_control_failf(boot, boot->rank, meshcclTimeout, "joining %d ranks took too long: %s", boot->nranks,
                    text.failed || !text.text ? "some rank is missing" : text.text);
  mci_str_fini(&text);
}
