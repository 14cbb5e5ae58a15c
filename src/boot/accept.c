/* The listening side of joining: takes connections, lets strangers prove themselves within narrow limits (user, bytes,
 * time, places), and answers: welcome, go on to the rank below me that leads to yours, come again, or no. Serves only
 * until everybody has joined. Called by the tree's progress. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "boot/control.h"

meshcclResult_t mci_accept_start(mci_boot* boot, bool* taken) {
  struct sockaddr_un address;
  socklen_t length;
  *taken = false;
  mci_auth_address(&boot->id, boot->rank, &address, &length);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) MCI_FAIL(meshcclSystemError, "rank %d: socket: %s", boot->rank, strerror(errno));
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &boot->listener_source};
  if (bind(fd, (struct sockaddr*)&address, length) < 0 || listen(fd, MCI_CONTROL_STRANGERS) < 0 ||
      epoll_ctl(boot->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
    int cause = errno;
    close(fd);
    *taken = cause == EADDRINUSE;
    if (*taken) return meshcclSuccess;
    MCI_FAIL(meshcclSystemError, "rank %d cannot listen for other ranks: %s", boot->rank, strerror(cause));
  }
  boot->listen_fd = fd;
  return meshcclSuccess;
}

void mci_accept_stop(mci_boot* boot) {
  if (boot->listen_fd >= 0) {
    epoll_ctl(boot->epoll_fd, EPOLL_CTL_DEL, boot->listen_fd, NULL);
    close(boot->listen_fd);
    boot->listen_fd = -1;
  }
  for (mci_control_link *link = boot->links, *next; link; link = next) {
    next = link->next;
    if (link->state != LINK_ACTIVE) mci_control_link_drop(link);
  }
  boot->nstrangers = 0;
}

static void pause_listener(mci_boot* boot, bool pause) {
  if (boot->listen_fd < 0 || boot->listener_paused == pause) return;
  struct epoll_event event = {.events = pause ? 0 : EPOLLIN, .data.ptr = &boot->listener_source};
  epoll_ctl(boot->epoll_fd, EPOLL_CTL_MOD, boot->listen_fd, &event);
  boot->listener_paused = pause;
}

void mci_accept_drop(mci_control_link* link) {
  mci_boot* boot = link->boot;
  mci_control_link_drop(link);
  boot->nstrangers--;
  pause_listener(boot, false);
}

void mci_accept_progress(mci_boot* boot) {
  while (boot->nstrangers < MCI_CONTROL_STRANGERS) {
    int fd = accept4(boot->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    uid_t user;
    int32_t pid = mci_socket_peer(fd, &user);
    if (user != geteuid()) {
      MCI_WARN("rank %d: refused a connection of process %d of user %u", boot->rank, pid, (unsigned)user);
      close(fd);
      continue;
    }
    mci_control_link* link;
    if (mci_control_link_create(boot, fd, LINK_HELLO, -1, &link) != meshcclSuccess) {
      close(fd);
      return;
    }
    link->pid = pid;
    link->deadline_ns = mci_now_ns() + MCI_CONTROL_STRANGER_NS;
    boot->nstrangers++;
  }
  pause_listener(boot, true);
}

void mci_accept_expire(mci_boot* boot) {
  if (boot->nstrangers == 0) return;
  uint64_t now = mci_now_ns();
  for (mci_control_link *link = boot->links, *next; link; link = next) {
    next = link->next;
    if (link->state != LINK_ACTIVE && now > link->deadline_ns) mci_accept_drop(link);
  }
}

/* The answer is sent before the link is given up; a refused joiner reads it and closes its end. */
static void answer(mci_control_link* link, mci_answer kind, const mci_verdict* verdict) {
  mci_control_tell(link, FRAME_ANSWER, kind, verdict, sizeof *verdict);
  if (kind != ANSWER_WELCOME) mci_accept_drop(link);
}

static void refuse(mci_control_link* link) {
  mci_boot* boot = link->boot;
  if (mci_control_parent(link->rank) == boot->rank) mci_control_informed(boot, link->rank);
  mci_verdict verdict = boot->failure;
  answer(link, ANSWER_REFUSE, &verdict);
  mci_control_changed(boot);
}

/* The child of ours that leads to a rank below us; -1 when the rank is not below us. */
static int branch_towards(const mci_boot* boot, int rank) {
  while (rank > boot->rank && mci_control_parent(rank) != boot->rank) rank = mci_control_parent(rank);
  return rank > boot->rank ? rank : -1;
}

static void admit(mci_control_link* link) {
  mci_boot* boot = link->boot;
  mci_verdict verdict = {.rank = boot->rank};
  int joiner = link->rank, branch = branch_towards(boot, joiner);
  mci_control_link* there = branch < 0 ? NULL : mci_control_find(boot, branch);
  if (link->joiner_nranks != boot->nranks) {
    mci_control_failf(boot, joiner, meshcclInvalidUsage, "rank %d joins with nranks = %d, but rank %d has nranks = %d",
                      joiner, link->joiner_nranks, boot->rank, boot->nranks);
  } else if (joiner == boot->rank) {
    mci_control_failf(boot, joiner, meshcclInvalidUsage,
                      "two ranks call themselves rank %d (processes %ld and %d); give each rank its own number", joiner,
                      (long)getpid(), link->pid);
  } else if (branch == joiner && there) {
    mci_control_failf(boot, joiner, meshcclInvalidUsage,
                      "two ranks call themselves rank %d (processes %d and %d); give each rank its own number", joiner,
                      there->pid, link->pid);
  } else if (branch < 0) {
    mci_control_failf(boot, joiner, meshcclInvalidUsage, "rank %d asked rank %d to join, which is not above it", joiner,
                      boot->rank);
  }
  if (boot->failure.result != meshcclSuccess) {
    refuse(link);
  } else if (branch != joiner) {
    verdict.rank = branch;
    struct sockaddr_un address;
    socklen_t length;
    mci_auth_address(&boot->id, branch, &address, &length);
    memcpy(verdict.text, address.sun_path + 1, sizeof address.sun_path - 1);
    answer(link, there ? ANSWER_REDIRECT : ANSWER_WAIT, &verdict);
  } else {
    link->state = LINK_ACTIVE;
    boot->nstrangers--;
    pause_listener(boot, false);
    mci_control_link_watch(link, link->pid);
    answer(link, ANSWER_WELCOME, &verdict);
    mci_control_changed(boot);
  }
}

static bool take_hello(mci_control_link* link, const mci_packet* packet) {
  mci_boot* boot = link->boot;
  mci_hello hello;
  if (packet->header.type != FRAME_HELLO || packet->header.bytes != sizeof hello) return false;
  memcpy(&hello, packet->data, sizeof hello);
  if (hello.version != MCI_HELLO_VERSION || hello.target != boot->rank || hello.rank < 0) return false;
  mci_challenge challenge;
  link->rank = hello.rank;
  link->joiner_nranks = hello.nranks;
  memcpy(link->joiner_nonce, hello.nonce, sizeof hello.nonce);
  mci_auth_nonce(link->own_nonce);
  memcpy(challenge.nonce, link->own_nonce, sizeof challenge.nonce);
  mci_auth_prove(&boot->id, PROOF_OF_LISTENER, boot->rank, link->rank, link->own_nonce, link->joiner_nonce,
                 challenge.proof);
  mci_control_tell(link, FRAME_CHALLENGE, 0, &challenge, sizeof challenge);
  link->state = LINK_PROOF;
  return true;
}

static bool take_proof(mci_control_link* link, const mci_packet* packet) {
  mci_boot* boot = link->boot;
  unsigned char proof[32];
  if (packet->header.type != FRAME_PROOF || packet->header.bytes != sizeof proof) return false;
  mci_auth_prove(&boot->id, PROOF_OF_JOINER, boot->rank, link->rank, link->own_nonce, link->joiner_nonce, proof);
  if (!mci_auth_equal(proof, packet->data)) return false;
  admit(link);
  return true;
}

void mci_accept_packet(mci_control_link* link, const mci_packet* packet) {
  link->stranger_bytes += sizeof packet->header + packet->header.bytes;
  bool fine = link->stranger_bytes <= MCI_CONTROL_STRANGER_BYTES;
  if (fine) fine = link->state == LINK_HELLO ? take_hello(link, packet) : take_proof(link, packet);
  if (fine) return;
  MCI_INFO("rank %d: dropped a connection of process %d that does not know the id's secret", link->boot->rank,
           link->pid);
  mci_accept_drop(link);
}
