/* Leaving without harm to those who stay, without waiting for them, and safe against the process ending right after.
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
  for (uint64_t until_ns = mci_now_ns() + PATIENCE_NS;;) {
    if (sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
    bool later = errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS;
    if (!later || mci_now_ns() > until_ns) return false;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
}

/* What was said about this end of a link is void now. */
static bool is_void(const mci_header* header) { return header->type == FRAME_HERE || header->type == FRAME_MOVED; }

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

/* The heir's own frames first: they are older than its inheritance. -1: nothing is unsent. */
static int unsent_file(mci_boot* boot, mci_control_link* heir) {
  bool any = false;
  for (const mci_control_link* link = boot->links; link; link = link->next) any = any || link->out.head;
  if (!any) return -1;
  int file = memfd_create("meshccl-unsent", MFD_CLOEXEC);
  if (file < 0) {
    MCI_WARN("rank %d lost its unsent messages: memfd_create: %s", boot->rank, strerror(errno));
    return -1;
  }
  write_frames(file, heir, true);
  for (const mci_control_link* link = boot->links; link; link = link->next)
    if (link != heir) write_frames(file, link, false);
  return file;
}

static void announce_move(mci_boot* boot, const mci_control_link* heir) {
  mci_here here = {.rank = heir->rank};
  for (mci_control_link* link = boot->links; link; link = link->next) {
    if (link == heir) continue;
    mci_control_link_reserve(link, true);
    send_last(link, FRAME_MOVED, 0, &here, sizeof here, NULL, 0);
  }
}

/* True: the heir has everything. An heir below gets this end of its own link, too: it finds there what it had sent. */
static bool offer(mci_boot* boot, mci_control_link* heir) {
  mci_member members[MCI_CONTROL_FDS];
  int fds[MCI_CONTROL_FDS + 1], n = 0;
  mci_control_link_reserve(heir, true);
  announce_move(boot, heir);
  for (const mci_control_link* link = boot->links; link; link = link->next) {
    if (link == heir && heir == boot->parent) continue;
    if (n == MCI_CONTROL_FDS) {
      if (!send_last(heir, FRAME_ADOPT, 0, members, sizeof members, fds, n)) return false;
      n = 0;
    }
    members[n] = (mci_member){.rank = link->rank, .pid = link->pid};
    fds[n++] = link->fd;
  }
  int file = unsent_file(boot, heir);
  if (file >= 0) fds[n] = file;
  bool taken = send_last(heir, FRAME_LEAVE, file >= 0, members, (size_t)n * sizeof *members, fds, n + (file >= 0));
  if (file >= 0) close(file);
  return taken;
}

static void give_upwards(mci_boot* boot) {
  mci_control_link* parent = boot->parent;
  /* Before the refusal: after it, an ended process may as well have moved without being able to say so. */
  mci_control_check_process(parent);
  if (boot->parent != parent) return;
  shutdown(parent->fd, SHUT_RD);
  parent->closed_inward = true;
  while (mci_control_link_serve(parent)) continue;
  if (boot->parent != parent) return;
  if (!offer(boot, parent)) mci_control_lost(parent);
}

static mci_control_link* lowest_child(const mci_boot* boot) {
  mci_control_link* lowest = NULL;
  for (mci_control_link* link = boot->links; link; link = link->next)
    if (!lowest || link->rank < lowest->rank) lowest = link;
  return lowest;
}

/* The child refused the inheritance: it is leaving, and its goodbye is under way, or it is dead. */
static void await_goodbye(mci_control_link* child) {
  while (child->state == LINK_ACTIVE) {
    struct pollfd ready = {.fd = child->fd, .events = POLLIN};
    if (poll(&ready, 1, HEIR_MS) == 0) mci_control_lost(child);
    mci_control_link_serve(child);
  }
}

static void give_downwards(mci_boot* boot) {
  mci_control_link* heir;
  while ((heir = lowest_child(boot))) {
    mci_control_check_process(heir);
    if (heir->state != LINK_ACTIVE) continue;
    if (offer(boot, heir)) return;
    await_goodbye(heir);
  }
}

void mci_leave_hand_over(mci_boot* boot) {
  mci_accept_stop(boot);
  if (boot->parent) {
    give_upwards(boot);
    if (boot->parent) return;
  }
  give_downwards(boot);
}

/* ---- the heir ---- */

static void say_here(mci_control_link* link, bool reply) {
  mci_here here = {.rank = link->boot->rank, .pid = getpid(), .reply = reply};
  memcpy(here.kin, link->boot->kin, sizeof here.kin);
  mci_control_tell(link, FRAME_HERE, 0, &here, sizeof here);
}

static void take_unsent(mci_boot* boot, int file) {
  mci_packet packet = {.nfds = 0};
  lseek(file, 0, SEEK_SET);
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
  say_here(link, true);
  if (boot->failure.result != meshcclSuccess)
    mci_control_tell(link, FRAME_FAIL, 0, &boot->failure, sizeof boot->failure);
}

/* Order per pair of ranks: unsent frames are older than those the old parent never read, and these are older than what
 * it refused. */
static void commit(mci_control_link* from, int file) {
  mci_boot* boot = from->boot;
  mci_control_link *adopted = from->adopted, *echo = NULL;
  mci_frames kept = from->out;
  from->adopted = NULL;
  from->out = (mci_frames){0};
  if (!boot->open && from != boot->parent) mci_control_informed(boot, from->rank);
  mci_control_link_drop(from);
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
  mci_frame* frame;
  while ((frame = mci_frames_pop(&kept))) {
    if (frame->header.to >= 0) mci_control_route(boot, &frame->header, frame->data);
    mci_free(frame);
  }
  mci_control_changed(boot);
}

void mci_leave_packet(mci_control_link* link, mci_packet* packet) {
  mci_boot* boot = link->boot;
  int n = (int)(packet->header.bytes / sizeof(mci_member));
  int expected = n + (packet->header.type == FRAME_LEAVE && packet->header.kind == 1);
  if (packet->nfds != expected) {
    for (int i = 0; i < packet->nfds; i++) close(packet->fds[i]);
    mci_control_failf(boot, link->rank, meshcclInternalError,
                      "rank %d left and %d of its %d connections arrived at rank %d; see ulimit -n", link->rank,
                      packet->nfds, expected, boot->rank);
    if (packet->header.type == FRAME_LEAVE) commit(link, -1);
    return;
  }
  for (int i = 0; i < n; i++) {
    mci_member member;
    memcpy(&member, packet->data + (size_t)i * sizeof member, sizeof member);
    mci_control_link* child;
    if (mci_control_link_create(boot, packet->fds[i], LINK_ADOPTED, member.rank, &child) != meshcclSuccess) {
      close(packet->fds[i]);
      mci_control_failf(boot, boot->rank, meshcclSystemError,
                        "rank %d has no memory to serve rank %d in place of rank %d", boot->rank, member.rank,
                        link->rank);
      continue;
    }
    child->pid = member.pid;
    child->next = link->adopted;
    link->adopted = child;
  }
  if (packet->header.type == FRAME_LEAVE) commit(link, packet->header.kind == 1 ? packet->fds[n] : -1);
}

/* ---- the ranks in between ---- */

void mci_leave_moved(mci_control_link* link, const mci_packet* packet) {
  mci_here here;
  memcpy(&here, packet->data, sizeof here);
  link->rank = here.rank;
  link->kin[0] = 0;
  mci_control_link_watch(link, 0);
}

void mci_leave_here(mci_control_link* link, const mci_packet* packet) {
  mci_here here;
  memcpy(&here, packet->data, sizeof here);
  link->rank = here.rank;
  memcpy(link->kin, here.kin, sizeof link->kin);
  link->kin[sizeof link->kin - 1] = 0;
  if (link->pid != here.pid) mci_control_link_watch(link, here.pid);
  if (here.reply) say_here(link, false);
}
