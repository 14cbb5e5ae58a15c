/* One connection of the tree: a SEQPACKET socket with a queue of frames that the kernel would not take yet, and a pidfd
 * of the process at the other end. Knows nothing of ranks and routes; what arrives goes to mci_control_dispatch. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "boot/control.h"

#define SEND_BUFFER (64 << 10)
#define LAST_WORDS_BUFFER (1 << 20) /* the kernel takes what net.core.wmem_max allows */
#define PACKETS_PER_TURN 64

/* ---- queues ---- */

meshcclResult_t mci_frames_push(mci_frames* frames, const mci_header* header, const void* data) {
  mci_frame* frame = mci_alloc(sizeof *frame + header->bytes);
  if (!frame) return mci_oom(sizeof *frame + header->bytes);
  frame->header = *header;
  if (header->bytes) memcpy(frame->data, data, header->bytes);
  if (frames->tail)
    frames->tail->next = frame;
  else
    frames->head = frame;
  frames->tail = frame;
  return meshcclSuccess;
}

mci_frame* mci_frames_pop(mci_frames* frames) {
  mci_frame* frame = frames->head;
  if (!frame) return NULL;
  frames->head = frame->next;
  if (!frames->head) frames->tail = NULL;
  return frame;
}

void mci_frames_clear(mci_frames* frames) {
  mci_frame* frame;
  while ((frame = mci_frames_pop(frames))) mci_free(frame);
}

/* ---- sockets ---- */

int32_t mci_socket_peer(int fd, uid_t* uid) {
  struct ucred peer = {.pid = 0, .uid = (uid_t)-1};
  socklen_t length = sizeof peer;
  getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
  *uid = peer.uid;
  return peer.pid;
}

static void take_descriptors(struct msghdr* message, mci_packet* packet) {
  for (struct cmsghdr* c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      if (packet->nfds <= MCI_CONTROL_FDS)
        packet->fds[packet->nfds++] = fd;
      else
        close(fd);
    }
  }
}

int mci_socket_read(int fd, mci_packet* packet, bool take_fds) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * (MCI_CONTROL_FDS + 1))];
  } control;
  struct iovec parts[2] = {{&packet->header, sizeof packet->header}, {packet->data, sizeof packet->data}};
  packet->nfds = 0;
  for (;;) {
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (take_fds) {
      message.msg_control = control.bytes;
      message.msg_controllen = sizeof control.bytes;
    }
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    /* A reset comes before what the peer had sent last, and only once: read on. */
    if (n < 0 && (errno == EINTR || errno == ECONNRESET)) continue;
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    if (take_fds) take_descriptors(&message, packet);
    bool whole = (size_t)n >= sizeof packet->header && !(message.msg_flags & MSG_TRUNC) &&
                 packet->header.bytes == (size_t)n - sizeof packet->header;
    return whole ? 1 : -1;
  }
}

/* ---- links ---- */

static meshcclResult_t watch(mci_boot* boot, int fd, uint32_t events, mci_source* source, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = source};
  if (epoll_ctl(boot->epoll_fd, operation, fd, &event) < 0)
    MCI_FAIL(meshcclSystemError, "control tree of rank %d: epoll_ctl: %s", boot->rank, strerror(errno));
  return meshcclSuccess;
}

meshcclResult_t mci_control_link_listen(mci_control_link* link) {
  return watch(link->boot, link->fd, EPOLLIN, &link->socket_source, EPOLL_CTL_ADD);
}

void mci_control_link_reserve(mci_control_link* link, bool more) {
  int size = more ? LAST_WORDS_BUFFER : SEND_BUFFER;
  setsockopt(link->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

meshcclResult_t mci_control_link_create(mci_boot* boot, int fd, mci_control_link_state state, int rank,
                                        mci_control_link** out) {
  mci_control_link* link = mci_alloc(sizeof *link);
  if (!link) return mci_oom(sizeof *link);
  *link = (mci_control_link){.boot = boot, .fd = fd, .pidfd = -1, .rank = rank, .state = state};
  link->socket_source = (mci_source){SOURCE_LINK, link};
  link->process_source = (mci_source){SOURCE_PROCESS, link};
  fcntl(fd, F_SETFL, O_NONBLOCK);
  mci_control_link_reserve(link, false);
  if (state != LINK_ADOPTED) {
    meshcclResult_t result = mci_control_link_listen(link);
    if (result != meshcclSuccess) {
      mci_free(link);
      return result;
    }
    link->next = boot->links;
    boot->links = link;
  }
  *out = link;
  return meshcclSuccess;
}

void mci_control_link_watch(mci_control_link* link, int32_t pid) {
  if (link->pidfd >= 0) close(link->pidfd);
  link->pidfd = -1;
  link->pid = pid;
  if (pid <= 0 || pid == getpid()) return;
  link->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (link->pidfd < 0) return;
  fcntl(link->pidfd, F_SETFD, FD_CLOEXEC);
  if (watch(link->boot, link->pidfd, EPOLLIN, &link->process_source, EPOLL_CTL_ADD) != meshcclSuccess) {
    close(link->pidfd);
    link->pidfd = -1;
  }
}

bool mci_control_link_process_over(const mci_control_link* link) {
  struct pollfd ready = {.fd = link->pidfd, .events = POLLIN};
  return link->pidfd >= 0 && poll(&ready, 1, 0) == 1;
}

static void unlink_from(mci_control_link** list, mci_control_link* link) {
  while (*list && *list != link) list = &(*list)->next;
  if (*list) *list = link->next;
}

/* A descriptor that a forked child shares would stay in the epoll set after close: it is taken out by name. */
static void forget(mci_boot* boot, int fd) {
  if (fd < 0) return;
  epoll_ctl(boot->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
  close(fd);
}

void mci_control_link_drop(mci_control_link* link) {
  mci_boot* boot = link->boot;
  if (link->state == LINK_GONE) return;
  while (link->adopted) {
    mci_control_link* child = link->adopted;
    link->adopted = child->next;
    mci_control_link_drop(child);
  }
  unlink_from(&boot->links, link);
  forget(boot, link->fd);
  forget(boot, link->pidfd);
  mci_frames_clear(&link->out);
  mci_str_fini(&link->text);
  if (boot->parent == link) boot->parent = NULL;
  link->fd = link->pidfd = -1;
  link->state = LINK_GONE;
  link->next = boot->trash;
  boot->trash = link;
}

void mci_control_link_free_trash(mci_boot* boot) {
  while (boot->trash) {
    mci_control_link* link = boot->trash;
    boot->trash = link->next;
    mci_free(link);
  }
}

/* True: taken. A peer that takes no more packets is leaving or dead; which one, what it sent last tells, so frames for
 * it are kept. */
static bool send_now(mci_control_link* link, const mci_header* header, const void* data) {
  struct iovec parts[2] = {{(void*)(uintptr_t)header, sizeof *header}, {(void*)(uintptr_t)data, header->bytes}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = header->bytes ? 2 : 1};
  ssize_t n;
  do {
    n = sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  if (n >= 0) return true;
  bool later = errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM;
  if (later && !link->waiting_out && link->state != LINK_ADOPTED)
    link->waiting_out =
        watch(link->boot, link->fd, EPOLLIN | EPOLLOUT, &link->socket_source, EPOLL_CTL_MOD) == meshcclSuccess;
  return false;
}

meshcclResult_t mci_control_link_send(mci_control_link* link, const mci_header* header, const void* data) {
  if (!link->out.head && send_now(link, header, data)) return meshcclSuccess;
  return mci_frames_push(&link->out, header, data);
}

void mci_control_link_flush(mci_control_link* link) {
  if (link->waiting_out) {
    link->waiting_out = false;
    watch(link->boot, link->fd, EPOLLIN, &link->socket_source, EPOLL_CTL_MOD);
  }
  while (link->out.head && send_now(link, &link->out.head->header, link->out.head->data))
    mci_free(mci_frames_pop(&link->out));
}

int mci_control_link_read(mci_control_link* link, mci_packet* packet) {
  return mci_socket_read(link->fd, packet, link->state == LINK_ACTIVE);
}

bool mci_control_link_serve(mci_control_link* link) {
  mci_packet packet;
  for (int i = 0; i < PACKETS_PER_TURN; i++) {
    int got = mci_control_link_read(link, &packet);
    if (got > 0) mci_control_dispatch(link, &packet);
    if (got < 0 && !link->closed_inward) mci_control_lost(link);
    if (got <= 0 || link->state == LINK_GONE) return false;
  }
  return true;
}
