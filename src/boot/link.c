/* One connection of the tree: a socket with a queue of frames that the kernel would not take yet and, on this host, a
 * pidfd of the process at the other end. Knows nothing of ranks and routes; what arrives goes to mci_control_dispatch.
 *
 * A TCP socket may take the beginning of a frame only: the end is kept in `rest`, before the queue. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "boot/control.h"

#define SEND_BUFFER (64 << 10)
#define LAST_WORDS_BUFFER (1 << 20) /* the kernel takes what net.core.wmem_max allows */
#define PACKETS_PER_TURN 64

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
  if (link->tcp) return; /* the system adapts these itself */
  int size = more ? LAST_WORDS_BUFFER : SEND_BUFFER;
  setsockopt(link->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static meshcclResult_t take_socket(mci_control_link* link, int fd) {
  link->tcp = mci_socket_is_tcp(fd);
  link->fd = fd;
  fcntl(fd, F_SETFL, O_NONBLOCK);
  mci_control_link_reserve(link, false);
  if (!link->tcp) return meshcclSuccess;
  if (!link->rest) link->rest = mci_alloc(MCI_CONTROL_REST);
  if (!link->in) link->in = mci_alloc(sizeof *link->in);
  if (!link->rest || !link->in) return mci_oom(MCI_CONTROL_REST + sizeof *link->in);
  link->in->have = 0;
  return meshcclSuccess;
}

static void free_link(mci_control_link* link) {
  mci_free(link->rest);
  mci_free(link->in);
  mci_free(link);
}

meshcclResult_t mci_control_link_create(mci_boot* boot, int fd, mci_control_link_state state, int rank,
                                        mci_control_link** out) {
  mci_control_link* link = mci_alloc(sizeof *link);
  if (!link) return mci_oom(sizeof *link);
  *link = (mci_control_link){.boot = boot, .fd = -1, .pidfd = -1, .rank = rank, .state = state, .via = -1};
  link->socket_source = (mci_source){.kind = SOURCE_LINK, .link = link};
  link->process_source = (mci_source){.kind = SOURCE_PROCESS, .link = link};
  link->place.rank = rank;
  link->heard_ns = mci_now_ns();
  meshcclResult_t result = fd >= 0 ? take_socket(link, fd) : meshcclSuccess;
  if (result == meshcclSuccess && fd >= 0 && state != LINK_ADOPTED) result = mci_control_link_listen(link);
  if (result != meshcclSuccess) {
    free_link(link);
    return result;
  }
  if (state != LINK_ADOPTED) {
    link->next = boot->links;
    boot->links = link;
  }
  *out = link;
  return meshcclSuccess;
}

meshcclResult_t mci_control_link_connect(mci_control_link* link, int fd) {
  meshcclResult_t result = take_socket(link, fd);
  link->heard_ns = mci_now_ns();
  if (result == meshcclSuccess) result = mci_control_link_listen(link);
  if (result == meshcclSuccess) mci_control_link_flush(link);
  return result;
}

void mci_control_link_watch(mci_control_link* link, int32_t pid) {
  if (link->pidfd >= 0) close(link->pidfd);
  link->pidfd = -1;
  link->pid = pid;
  if (pid <= 0 || pid == getpid() || link->tcp) return; /* another host's numbers mean other processes here */
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
  link->rest_bytes = 0;
  mci_frames_clear(&link->out);
  mci_str_fini(&link->text);
  if (boot->parent == link) boot->parent = NULL;
  if (boot->heir == link) mci_depart_abandon(boot);
  link->fd = link->pidfd = -1;
  link->state = LINK_GONE;
  link->next = boot->trash;
  boot->trash = link;
}

void mci_control_link_free_trash(mci_boot* boot) {
  while (boot->trash) {
    mci_control_link* link = boot->trash;
    boot->trash = link->next;
    free_link(link);
  }
}

static void await_room(mci_control_link* link) {
  if (link->waiting_out || link->state == LINK_ADOPTED) return;
  link->waiting_out =
      watch(link->boot, link->fd, EPOLLIN | EPOLLOUT, &link->socket_source, EPOLL_CTL_MOD) == meshcclSuccess;
}

/* Copies what is left of header and data after `sent` bytes. */
static void keep_rest(mci_control_link* link, const mci_header* header, const void* data, size_t sent) {
  size_t from_header = sent < sizeof *header ? sizeof *header - sent : 0;
  size_t skipped = sent - (sizeof *header - from_header);
  memcpy(link->rest, (const char*)header + sizeof *header - from_header, from_header);
  if (header->bytes > skipped) memcpy(link->rest + from_header, (const char*)data + skipped, header->bytes - skipped);
  link->rest_bytes = sizeof *header + header->bytes - sent;
}

static bool is_full(void) { return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM; }

static bool send_rest(mci_control_link* link) {
  while (link->rest_bytes > 0) {
    ssize_t n = send(link->fd, link->rest, link->rest_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      if (is_full()) await_room(link);
      return false;
    }
    link->rest_bytes -= (size_t)n;
    memmove(link->rest, link->rest + n, link->rest_bytes);
  }
  return true;
}

/* True: taken. A peer that takes no more packets is leaving or dead; which one, what it sent last tells, so frames for
 * it are kept. */
static bool send_now(mci_control_link* link, const mci_header* header, const void* data) {
  struct iovec parts[2] = {{(void*)(uintptr_t)header, sizeof *header}, {(void*)(uintptr_t)data, header->bytes}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = header->bytes ? 2 : 1};
  ssize_t n;
  if (!send_rest(link)) return false;
  do {
    n = sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    if (is_full()) await_room(link);
    return false;
  }
  if (link->tcp && (size_t)n < sizeof *header + header->bytes) {
    keep_rest(link, header, data, (size_t)n);
    await_room(link);
  }
  return true;
}

meshcclResult_t mci_control_link_send(mci_control_link* link, const mci_header* header, const void* data) {
  if (link->muted) return meshcclSuccess;
  link->spoken = true;
  if (link->fd >= 0 && !link->out.head && send_now(link, header, data)) return meshcclSuccess;
  return mci_frames_push(&link->out, header, data);
}

void mci_control_link_flush(mci_control_link* link) {
  if (link->fd < 0) return;
  if (link->waiting_out) {
    link->waiting_out = false;
    watch(link->boot, link->fd, EPOLLIN, &link->socket_source, EPOLL_CTL_MOD);
  }
  if (!send_rest(link)) return;
  while (link->out.head && send_now(link, &link->out.head->header, link->out.head->data))
    mci_free(mci_frames_pop(&link->out));
  if (link->state == LINK_ENDING && !link->out.head && link->rest_bytes == 0) mci_control_link_drop(link);
}

bool mci_control_link_unsent(const mci_control_link* link) {
  int waiting = 0;
  if (link->fd < 0) return false;
  if (link->out.head || link->rest_bytes > 0) return true;
  return link->tcp && ioctl(link->fd, SIOCOUTQ, &waiting) == 0 && waiting > 0;
}

void mci_control_link_end(mci_control_link* link) {
  link->muted = true;
  link->state = LINK_ENDING;
  mci_control_link_flush(link);
}

int mci_control_link_read(mci_control_link* link, mci_packet* packet) {
  if (link->fd < 0) return 0;
  if (link->tcp) return mci_stream_read(link->fd, link->in, packet);
  return mci_socket_read(link->fd, packet, link->state == LINK_ACTIVE);
}

bool mci_control_link_serve(mci_control_link* link) {
  mci_packet packet;
  for (int i = 0; i < PACKETS_PER_TURN; i++) {
    int got = mci_control_link_read(link, &packet);
    if (got > 0) link->heard_ns = mci_now_ns();
    if (got > 0) mci_control_dispatch(link, &packet);
    if (got < 0 && !link->closed_inward) mci_control_lost(link);
    if (got <= 0 || link->state == LINK_GONE) return false;
  }
  return true;
}
