/* Leaving to an heir on the same host, without harm to those who stay, without waiting for them, and safe against the
 * process ending right after. depart.c chooses the heir.
 *
 * The leaving rank P passes the descriptors of its connections to its heir: its parent, or, at the root, a child. What
 * its peers have sent stays in the sockets and is read by the heir; what P could not send yet goes along in a file. All
 * of it is one packet with the goodbye, so the heir has everything or nothing:
 *
 *      G                    G            P -> c1, c2   MOVED(G)           do not take P's end for a death
 *      |                  / | \          P -> G        LEAVE {c1, c2}     with the sockets of c1 and c2
 *      P        ==>     c1 c2 ...        G -> c1, c2   HERE(G)            watch this process now
 *    / |
 *  c1  c2
 *
 * Ranks that leave at the same time: P first refuses packets from G and then reads what is there, so G keeps what it
 * has for P until P's goodbye, and hands P's connection on if it leaves itself; the goodbye waits in the socket. Only
 * the root gives downwards. A child that is leaving refuses its packet (EPIPE), and the root then waits for that
 * child's goodbye, which comes at once. A child that took it becomes the root before it leaves. So nothing crosses on
 * the way.
 *
 * Cost: a rank may inherit as many connections as there are ranks that stay. Messages to a rank that has left vanish.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "boot/control.h"

#define PATIENCE_NS 1000000000ull
#define HEIR_MS 5000

/* ---- the rank that leaves ---- */

/* On TCP: behind a frame that is half sent, which the heir goes on with (mci_member). A few bytes, for which there is
 * room. */
static bool send_behind(mci_control_link* link, const mci_header* header, const void* data) {
  memcpy(link->rest + link->rest_bytes, header, sizeof *header);
  memcpy(link->rest + link->rest_bytes + sizeof *header, data, header->bytes);
  link->rest_bytes += sizeof *header + header->bytes;
  ssize_t n = send(link->fd, link->rest, link->rest_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n <= 0) return false;
  link->rest_bytes -= (size_t)n;
  memmove(link->rest, link->rest + n, link->rest_bytes);
  return true;
}

/* Out of the queue's order, with descriptors. A full socket gets a second; false: the other end takes no more. */
static bool send_last(mci_control_link* link, mci_frame_type type, uint16_t kind, const void* data, size_t bytes,
                      const int* fds, int nfds) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * (MCI_CONTROL_FDS + 1))];
  } control;
  mci_header header = {
      .type = (uint16_t)type, .kind = kind, .from = link->boot->rank, .to = -1, .bytes = (uint32_t)bytes};
  struct iovec parts[2] = {{&header, sizeof header}, {(void*)(uintptr_t)data, bytes}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = bytes ? 2 : 1};
  if (nfds > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
    struct cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)nfds);
  }
  if (link->tcp) return send_behind(link, &header, data);
  for (uint64_t until_ns = mci_now_ns() + PATIENCE_NS;;) {
    if (sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
    bool later = errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS;
    if (!later || mci_now_ns() > until_ns) return false;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
}

/* Strangers and what is as good as closed do not go along; an heir above has its own end of its link. */
static bool goes(const mci_control_link* link, const mci_control_link* heir) {
  return link->state == LINK_ACTIVE && !(link == heir && heir == link->boot->parent);
}

/* What was said about this end of a link is void now. */
static bool is_void(const mci_header* header) {
  return header->type == FRAME_HERE || header->type == FRAME_MOVED || header->type == FRAME_BEAT;
}

static void write_frames(int file, const mci_control_link* link, bool is_heir) {
  for (const mci_frame* frame = link->out.head; frame; frame = frame->next) {
    mci_header header = frame->header;
    if (is_void(&header)) continue;
    if (!is_heir && header.to < 0) header.to = link->rank;
    struct iovec parts[2] = {{&header, sizeof header}, {(void*)(uintptr_t)frame->data, header.bytes}};
    if (writev(file, parts, 2) < 0)
      MCI_WARN("rank %d lost a message while it left: %s", link->boot->rank, strerror(errno));
  }
}

static void write_halves(int file, const mci_boot* boot, const mci_control_link* heir) {
  for (const mci_control_link* link = boot->links; link; link = link->next)
    if (goes(link, heir) && link->tcp &&
        (write(file, link->rest, link->rest_bytes) != (ssize_t)link->rest_bytes ||
         write(file, link->in->bytes, link->in->have) != (ssize_t)link->in->have))
      MCI_WARN("rank %d cut a message while it left: %s", boot->rank, strerror(errno));
}

/* First what there is of half sent and half read frames, then the heir's own frames: they are older than its
 * inheritance. -1: nothing is unsent. */
static int unsent_file(mci_boot* boot, mci_control_link* heir) {
  bool any = false;
  for (const mci_control_link* link = boot->links; link; link = link->next)
    any = any || link->out.head || link->rest_bytes > 0 || (link->in && link->in->have > 0);
  if (!any) return -1;
  int file = memfd_create("meshccl-unsent", MFD_CLOEXEC);
  if (file < 0) {
    MCI_WARN("rank %d lost its unsent messages: memfd_create: %s", boot->rank, strerror(errno));
    return -1;
  }
  write_halves(file, boot, heir);
  write_frames(file, heir, true);
  for (const mci_control_link* link = boot->links; link; link = link->next)
    if (link != heir && link->state == LINK_ACTIVE) write_frames(file, link, false);
  return file;
}

static void announce_move(mci_boot* boot, const mci_control_link* heir) {
  int32_t rank = heir->rank;
  for (mci_control_link* link = boot->links; link; link = link->next) {
    if (link == heir || link->state != LINK_ACTIVE || link->fd < 0) continue;
    mci_control_link_reserve(link, true);
    send_last(link, FRAME_MOVED, 0, &rank, sizeof rank, NULL, 0);
  }
}

static mci_member member_of(const mci_control_link* link) {
  return (mci_member){.rank = link->rank,
                      .pid = link->pid,
                      .flags = (link->place.threadless ? MEMBER_THREADLESS : 0) |
                               (link->fd >= 0 ? MEMBER_CONNECTED : 0) | (link->muted ? MEMBER_UNUSUAL : 0),
                      .have = link->in ? (uint16_t)link->in->have : 0,
                      .rest = (uint16_t)link->rest_bytes};
}

/* True: the heir has everything. An heir below gets this end of its own link, too: it finds there what it had sent. */
static bool offer(mci_boot* boot, mci_control_link* heir) {
  mci_member members[MCI_CONTROL_FDS];
  int fds[MCI_CONTROL_FDS + 1], n = 0;
  mci_control_link_reserve(heir, true);
  announce_move(boot, heir);
  size_t nmembers = 0;
  for (const mci_control_link* link = boot->links; link; link = link->next) {
    if (!goes(link, heir)) continue;
    if (nmembers == MCI_CONTROL_FDS) {
      if (!send_last(heir, FRAME_ADOPT, 0, members, sizeof members, fds, n)) return false;
      nmembers = 0;
      n = 0;
    }
    members[nmembers++] = member_of(link);
    if (link->fd >= 0) fds[n++] = link->fd;
  }
  int file = unsent_file(boot, heir);
  if (file >= 0) fds[n++] = file;
  bool taken = send_last(heir, FRAME_LEAVE, file >= 0, members, nmembers * sizeof *members, fds, n);
  if (file >= 0) close(file);
  return taken;
}

/* They are the heir's now; what arrives is not for us. */
static void forget_all(mci_boot* boot) {
  for (mci_control_link *link = boot->links, *next; link; link = next) {
    next = link->next;
    if (link->state == LINK_ACTIVE) mci_control_link_drop(link);
  }
}

bool mci_leave_upwards(mci_boot* boot) {
  mci_control_link* parent = boot->parent;
  /* Before the refusal: after it, an ended process may as well have moved without being able to say so. */
  mci_control_check_process(parent);
  if (boot->parent != parent) return false;
  shutdown(parent->fd, SHUT_RD);
  parent->closed_inward = true;
  while (mci_control_link_serve(parent)) continue;
  if (boot->parent != parent) return false;
  if (!offer(boot, parent)) {
    mci_control_lost(parent);
    return false;
  }
  forget_all(boot);
  return true;
}

/* The child refused the inheritance: it is leaving, and its goodbye is under way, or it is dead. */
static void await_goodbye(mci_control_link* child) {
  while (child->state == LINK_ACTIVE) {
    struct pollfd ready = {.fd = child->fd, .events = POLLIN};
    if (poll(&ready, 1, HEIR_MS) == 0) mci_control_lost(child);
    mci_control_link_serve(child);
  }
}

bool mci_leave_downwards(mci_boot* boot, mci_control_link* heir) {
  mci_control_check_process(heir);
  if (heir->state != LINK_ACTIVE) return false;
  if (!offer(boot, heir)) {
    await_goodbye(heir);
    return false;
  }
  forget_all(boot);
  return true;
}

/* ---- the heir ---- */

void mci_leave_say_here(mci_control_link* link, bool reply) {
  mci_here here = {.reply = reply, .place = link->boot->self};
  memcpy(here.kin, link->boot->kin, sizeof here.kin);
  mci_control_tell(link, FRAME_HERE, 0, &here, sizeof here);
}

static void take_halves(mci_control_link* link, int file) {
  if (!link->tcp || (link->rest_bytes == 0 && link->in->have == 0)) return;
  if (file < 0 || read(file, link->rest, link->rest_bytes) != (ssize_t)link->rest_bytes ||
      read(file, link->in->bytes, link->in->have) != (ssize_t)link->in->have)
    mci_control_failf(link->boot, link->boot->rank, meshcclSystemError,
                      "rank %d inherited half a message to or from rank %d", link->boot->rank, link->rank);
}

static void take_unsent(mci_boot* boot, int file) {
  mci_packet packet = {.nfds = 0};
  while (read(file, &packet.header, sizeof packet.header) == (ssize_t)sizeof packet.header) {
    size_t bytes = packet.header.bytes;
    if (bytes > sizeof packet.data || read(file, packet.data, bytes) != (ssize_t)bytes) break;
    mci_control_take(boot, &packet);
  }
  close(file);
}

/* Frames of ours that the old parent had not read. Those for itself went with it. */
static void take_echo(mci_boot* boot, int fd) {
  mci_packet packet;
  while (mci_socket_read(fd, &packet, true) > 0) {
    for (int i = 0; i < packet.nfds; i++) close(packet.fds[i]);
    if (packet.header.to >= 0) mci_control_take(boot, &packet);
  }
}

static void activate(mci_control_link* link) {
  mci_boot* boot = link->boot;
  link->state = LINK_ACTIVE;
  link->next = boot->links;
  boot->links = link;
  mci_control_link_reserve(link, false);
  if (mci_control_link_listen(link) != meshcclSuccess) {
    mci_control_lost(link);
    return;
  }
  mci_control_link_watch(link, link->pid);
  mci_control_link_flush(link);
  mci_leave_say_here(link, true);
  if (boot->failure.result != meshcclSuccess)
    mci_control_tell(link, FRAME_FAIL, 0, &boot->failure, sizeof boot->failure);
  mci_depart_also(link);
}

/* In the order in which they were named. */
static mci_control_link* reversed(mci_control_link* list) {
  mci_control_link* out = NULL;
  while (list) {
    mci_control_link* link = list;
    list = link->next;
    link->next = out;
    out = link;
  }
  return out;
}

/* Order per pair of ranks: unsent frames are older than those the old parent never read, and these are older than what
 * it refused. */
static void commit(mci_control_link* from, int file) {
  mci_boot* boot = from->boot;
  int rank = from->rank;
  mci_control_link *adopted = from->adopted, *echo = NULL;
  mci_frames kept = from->out;
  from->adopted = NULL;
  from->out = (mci_frames){0};
  if (!boot->open && from != boot->parent) mci_control_informed(boot, from->rank);
  mci_control_link_drop(from);
  mci_depart_without(boot, rank);
  if (file >= 0) lseek(file, 0, SEEK_SET);
  adopted = reversed(adopted);
  for (mci_control_link* link = adopted; link; link = link->next) take_halves(link, file);
  while (adopted) {
    mci_control_link* link = adopted;
    adopted = link->next;
    if (link->rank == boot->rank)
      echo = link;
    else
      activate(link);
  }
  if (file >= 0) take_unsent(boot, file);
  if (echo) {
    take_echo(boot, echo->fd);
    mci_control_link_drop(echo);
  }
  mci_attach_reroute(boot, &kept);
  mci_control_changed(boot);
}

static void adopt(mci_control_link* from, const mci_member* member, int fd) {
  mci_boot* boot = from->boot;
  mci_control_link* child;
  if (mci_control_link_create(boot, fd, LINK_ADOPTED, member->rank, &child) != meshcclSuccess) {
    close(fd);
    mci_control_failf(boot, boot->rank, meshcclSystemError,
                      "rank %d has no memory to serve rank %d in place of rank %d", boot->rank, member->rank,
                      from->rank);
    return;
  }
  child->pid = member->pid;
  child->muted = (member->flags & MEMBER_UNUSUAL) != 0;
  child->place.threadless = (member->flags & MEMBER_THREADLESS) != 0;
  if (child->tcp) {
    child->rest_bytes = MCI_MIN((size_t)member->rest, (size_t)MCI_CONTROL_REST);
    child->in->have = MCI_MIN((size_t)member->have, sizeof child->in->bytes);
  }
  child->next = from->adopted;
  from->adopted = child;
}

/* One that the leaving rank waited for itself. */
static void adopt_seat(mci_control_link* from, const mci_member* member) {
  mci_control_link* seat;
  if (mci_attach_seat(from->boot, member->rank, -1, member->flags | MEMBER_UNUSUAL, &seat) == meshcclSuccess)
    mci_depart_also(seat);
}

void mci_leave_packet(mci_control_link* link, mci_packet* packet) {
  mci_boot* boot = link->boot;
  mci_member members[MCI_CONTROL_FDS];
  int n = (int)MCI_MIN(packet->header.bytes / sizeof *members, MCI_COUNT(members)), expected = 0, used = 0;
  memcpy(members, packet->data, (size_t)n * sizeof *members);
  for (int i = 0; i < n; i++) expected += (members[i].flags & MEMBER_CONNECTED) != 0;
  bool last = packet->header.type == FRAME_LEAVE, file = last && packet->header.kind == 1;
  if (packet->nfds != expected + file) {
    for (int i = 0; i < packet->nfds; i++) close(packet->fds[i]);
    mci_control_failf(boot, link->rank, meshcclInternalError,
                      "rank %d left and %d of its %d connections arrived at rank %d; see ulimit -n", link->rank,
                      packet->nfds, expected, boot->rank);
    if (last) commit(link, -1);
    return;
  }
  for (int i = 0; i < n; i++) {
    if (members[i].flags & MEMBER_CONNECTED)
      adopt(link, &members[i], packet->fds[used++]);
    else
      adopt_seat(link, &members[i]);
  }
  if (last) commit(link, file ? packet->fds[expected] : -1);
}

/* ---- the ranks in between ---- */

void mci_leave_moved(mci_control_link* link, const mci_packet* packet) {
  int32_t rank;
  memcpy(&rank, packet->data, sizeof rank);
  link->rank = rank;
  link->kin[0] = 0;
  mci_control_link_watch(link, 0);
}

/* The ranks above, seen from here: those below the new parent have left. */
static void shorten(mci_chain* above, const mci_place* parent) {
  int known = 0;
  while (known < above->n && above->at[known].rank != parent->rank) known++;
  if (known == above->n) {
    known = 0;
    above->n = 1;
  }
  above->n -= known;
  memmove(above->at, above->at + known, (size_t)above->n * sizeof *above->at);
  above->at[0] = *parent;
}

void mci_leave_here(mci_control_link* link, const mci_packet* packet) {
  mci_here here;
  memcpy(&here, packet->data, sizeof here);
  here.place.name[MCI_CONTROL_HOST - 1] = 0;
  link->rank = here.place.rank;
  link->place = here.place;
  memcpy(link->kin, here.kin, sizeof link->kin);
  link->kin[sizeof link->kin - 1] = 0;
  if (link->pid != here.place.pid) mci_control_link_watch(link, here.place.pid);
  if (link == link->boot->parent) shorten(&link->boot->above, &link->place);
  if (here.reply) mci_leave_say_here(link, false);
}
