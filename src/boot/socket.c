/* Frames in queues and on sockets: packets of a unix SEQPACKET socket, with descriptors, and a TCP stream, which is
 * read frame by frame. Knows no links. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "boot/control.h"

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

/* ---- unix ---- */

bool mci_socket_is_tcp(int fd) {
  int domain = AF_UNIX;
  socklen_t length = sizeof domain;
  getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
  return domain != AF_UNIX;
}

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
    if (whole) return 1;
    while (packet->nfds > 0) close(packet->fds[--packet->nfds]);
    return -1;
  }
}

/* ---- TCP ---- */

/* Never reads beyond the frame, so that between frames nothing is held here. A whole frame cannot be left to the kernel:
 * its window may be smaller. */
int mci_stream_read(int fd, mci_stream* in, mci_packet* packet) {
  mci_header* header = &packet->header;
  packet->nfds = 0;
  for (;;) {
    size_t need = sizeof *header;
    if (in->have >= sizeof *header) {
      memcpy(header, in->bytes, sizeof *header);
      if (header->bytes > sizeof packet->data) return -1;
      need += header->bytes;
      if (in->have == need) break;
    }
    ssize_t n = recv(fd, in->bytes + in->have, need - in->have, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) return -1;
    in->have += (size_t)n;
  }
  memcpy(packet->data, in->bytes + sizeof *header, header->bytes);
  in->have = 0;
  return 1;
}
