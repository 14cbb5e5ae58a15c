/* The listening side: takes connections, lets strangers prove themselves within narrow limits (user on this host, bytes,
 * time, places), and answers: welcome, go on to the rank below me that leads to yours, come again, or no. Until
 * everybody has joined it serves joiners; in a job that spans hosts it stays, for ranks whose neighbour has left
 * (attach.c). Called by the tree's progress. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "boot/control.h"

#define BREATH_NS 100000000ull /* without descriptors: until the next try */

/* ---- listeners ---- */

static bool hear(mci_boot* boot, int which, int fd) {
  mci_listener* listener = &boot->listeners[which];
  listener->source = (mci_source){.kind = SOURCE_LISTENER, .listener = which};
  struct epoll_event event = {.events = boot->listeners_paused ? 0 : EPOLLIN, .data.ptr = &listener->source};
  if (epoll_ctl(boot->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) return false;
  listener->fd = fd;
  return true;
}

meshcclResult_t mci_accept_start(mci_boot* boot, bool* taken) {
  struct sockaddr_un address;
  socklen_t length;
  *taken = false;
  mci_auth_address(&boot->id, boot->self.host, boot->rank, &address, &length);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) MCI_FAIL(meshcclSystemError, "rank %d: socket: %s", boot->rank, strerror(errno));
  if (bind(fd, (struct sockaddr*)&address, length) < 0 || listen(fd, MCI_CONTROL_STRANGERS) < 0 ||
      !hear(boot, LISTEN_UNIX, fd)) {
    int cause = errno;
    close(fd);
    *taken = cause == EADDRINUSE;
    if (*taken) return meshcclSuccess;
    MCI_FAIL(meshcclSystemError, "rank %d cannot listen for other ranks: %s", boot->rank, strerror(cause));
  }
  return meshcclSuccess;
}

static meshcclResult_t hear_tcp(mci_boot* boot, int which, int fd, const mci_net_addresses* addresses) {
  if (!hear(boot, which, fd)) {
    int cause = errno;
    close(fd);
    MCI_FAIL(meshcclSystemError, "rank %d cannot listen for other hosts: %s", boot->rank, strerror(cause));
  }
  boot->listeners[which].allowed = *addresses;
  return meshcclSuccess;
}

meshcclResult_t mci_accept_start_tcp(mci_boot* boot) {
  int fd;
  mci_net_addresses addresses;
  MCI_TRY(mci_net_listen(mci_id_trusted(&boot->id), 0, &fd, &addresses));
  MCI_TRY(hear_tcp(boot, LISTEN_TCP, fd, &addresses));
  boot->self.naddresses = (uint8_t)addresses.n;
  for (int i = 0; i < addresses.n; i++) mci_net_pack(&addresses.at[i], boot->self.addresses[i]);
  return meshcclSuccess;
}

/* The meeting point is found by a name that a user gave, which may well be a loopback one. */
static void allow_loopback(mci_net_addresses* list, uint16_t port) {
  const meshcclNetAddress_t loopback[2] = {{.family = 4, .port = port, .bytes = {127, 0, 0, 1}},
                                           {.family = 6, .port = port, .bytes = {[15] = 1}}};
  for (int i = 0; i < 2 && list->n < MCI_NET_MAX; i++) list->at[list->n++] = loopback[i];
}

static meshcclResult_t listen_where_named(mci_boot* boot, uint16_t port, int* fd, mci_net_addresses* addresses) {
  mci_net_addresses any;
  MCI_TRY(mci_net_local(&any)); /* without an address another port would not help */
  if (mci_net_listen(mci_id_trusted(&boot->id), port, fd, addresses) == meshcclSuccess) return meshcclSuccess;
  char why[300];
  snprintf(why, sizeof why, "%.299s", mci_error_last());
  MCI_FAIL(
      meshcclInvalidUsage,
      "rank 0 cannot listen at port %u, where MASTER_PORT, MESHCCL_PORT or MESHCCL_ROOT says that the ranks meet: %s. "
      "torchrun itself may hold MASTER_PORT; give another port to all ranks in MESHCCL_PORT",
      port, why);
}

/* The socket that this process opened when it made the id, or one at the port that the ranks know. When the maker of the
 * id is another process that still holds the port, the ranks of this host can meet all the same. */
meshcclResult_t mci_accept_start_root(mci_boot* boot) {
  mci_net_addresses named, addresses = {0};
  char why[200] = "";
  mci_meeting meeting = mci_id_get_meeting(&boot->id, &named);
  uint16_t port = mci_id_meeting_port(&boot->id);
  int fd = mci_id_take_listener(&boot->id, &addresses, why, sizeof why);
  if (fd < 0 && meeting == MEETING_NAMED) {
    MCI_TRY(listen_where_named(boot, port, &fd, &addresses));
  } else if (fd < 0 && meeting == MEETING_MADE && mci_net_listen(mci_id_trusted(&boot->id), port, &fd, &addresses)) {
    snprintf(why, sizeof why, "%.199s", mci_error_last());
  }
  if (fd < 0) {
    if (why[0]) snprintf(boot->trouble, sizeof boot->trouble, "rank 0 does not listen for other hosts: %s", why);
    return meshcclSuccess;
  }
  if (addresses.n > 0) allow_loopback(&addresses, addresses.at[0].port);
  MCI_TRY(hear_tcp(boot, LISTEN_ROOT, fd, &addresses));
  MCI_TRY(mci_accept_start_tcp(boot));
  boot->spans = true;
  return meshcclSuccess;
}

void mci_accept_stop(mci_boot* boot, int which) {
  mci_listener* listener = &boot->listeners[which];
  if (listener->fd < 0) return;
  epoll_ctl(boot->epoll_fd, EPOLL_CTL_DEL, listener->fd, NULL);
  close(listener->fd);
  listener->fd = -1;
}

void mci_accept_drop_all(mci_boot* boot) {
  for (mci_control_link *link = boot->links, *next; link; link = next) {
    next = link->next;
    if (mci_accept_is_stranger(link)) mci_accept_drop(link);
  }
}

static void pause_listeners(mci_boot* boot, bool pause) {
  if (boot->listeners_paused == pause) return;
  boot->listeners_paused = pause;
  for (int i = 0; i < MCI_LISTENERS; i++) {
    mci_listener* listener = &boot->listeners[i];
    struct epoll_event event = {.events = pause ? 0 : EPOLLIN, .data.ptr = &listener->source};
    if (listener->fd >= 0) epoll_ctl(boot->epoll_fd, EPOLL_CTL_MOD, listener->fd, &event);
  }
}

/* ---- strangers ---- */

/* A place has become free. */
static void no_stranger(mci_boot* boot) {
  boot->nstrangers--;
  if (boot->paused_until_ns == 0) pause_listeners(boot, false);
}

void mci_accept_drop(mci_control_link* link) {
  mci_boot* boot = link->boot;
  mci_control_link_drop(link);
  no_stranger(boot);
}

/* -1: nobody is there, or errno says what is wrong. */
static int next_connection(mci_boot* boot, int which, int32_t* pid) {
  mci_listener* listener = &boot->listeners[which];
  *pid = 0;
  if (which != LISTEN_UNIX) return mci_net_accept(listener->fd, &listener->allowed);
  for (;;) {
    uid_t user;
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return -1;
    *pid = mci_socket_peer(fd, &user);
    if (user == geteuid()) return fd;
    MCI_WARN("rank %d: refused a connection of process %d of user %u", boot->rank, *pid, (unsigned)user);
    close(fd);
  }
}

/* What waits cannot be taken now: without a pause the listener would stay readable and keep the thread busy. */
static void catch_breath(mci_boot* boot) {
  boot->paused_until_ns = mci_now_ns() + BREATH_NS;
  pause_listeners(boot, true);
  mci_beat_at(boot, boot->paused_until_ns);
}

void mci_accept_progress(mci_boot* boot, int which) {
  while (boot->nstrangers < MCI_CONTROL_STRANGERS) {
    int32_t pid;
    mci_control_link* link;
    int fd = next_connection(boot, which, &pid);
    if (fd < 0) {
      if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) catch_breath(boot);
      return;
    }
    if (mci_control_link_create(boot, fd, LINK_HELLO, -1, &link) != meshcclSuccess) {
      close(fd);
      catch_breath(boot);
      return;
    }
    link->pid = pid;
    link->deadline_ns = mci_now_ns() + MCI_CONTROL_STRANGER_NS;
    mci_beat_at(boot, link->deadline_ns);
    boot->nstrangers++;
  }
  pause_listeners(boot, true);
}

void mci_accept_expire(mci_boot* boot, uint64_t now, uint64_t* due_ns) {
  if (boot->paused_until_ns && now >= boot->paused_until_ns) {
    boot->paused_until_ns = 0;
    if (boot->nstrangers < MCI_CONTROL_STRANGERS) pause_listeners(boot, false);
  }
  if (boot->paused_until_ns) *due_ns = MCI_MIN(*due_ns, boot->paused_until_ns);
  if (boot->nstrangers == 0) return;
  for (mci_control_link *link = boot->links, *next; link; link = next) {
    next = link->next;
    if (!mci_accept_is_stranger(link)) continue;
    if (now >= link->deadline_ns)
      mci_accept_drop(link);
    else
      *due_ns = MCI_MIN(*due_ns, link->deadline_ns);
  }
}

/* ---- answers ---- */

void mci_accept_chain(const mci_boot* boot, mci_chain* out) {
  *out = (mci_chain){.spans = boot->spans, .n = 1};
  out->at[0] = boot->self;
  for (int i = 0; i < boot->above.n && out->n < MCI_CONTROL_DEPTH; i++) out->at[out->n++] = boot->above.at[i];
}

/* The answer is sent before the link is given up; a refused joiner reads it and closes its end. */
static void answer(mci_control_link* link, mci_answer kind, const void* data, size_t bytes) {
  mci_control_tell(link, FRAME_ANSWER, kind, data, bytes);
  if (kind != ANSWER_WELCOME) mci_accept_drop(link);
}

static void answer_place(mci_control_link* link, mci_answer kind, const mci_place* place) {
  answer(link, kind, place, sizeof *place);
}

static void answer_welcome(mci_control_link* link) {
  mci_chain chain;
  mci_accept_chain(link->boot, &chain);
  answer(link, ANSWER_WELCOME, &chain, offsetof(mci_chain, at) + (size_t)chain.n * sizeof *chain.at);
}

static void refuse(mci_control_link* link) {
  mci_boot* boot = link->boot;
  if (mci_control_parent(link->rank) == boot->rank) mci_control_informed(boot, link->rank);
  mci_verdict verdict = boot->failure;
  answer(link, ANSWER_REFUSE, &verdict, sizeof verdict);
  mci_control_changed(boot);
}

/* Whom a member may wait for that comes back too early. */
static void come_again(mci_control_link* link) { answer_place(link, ANSWER_WAIT, &link->boot->self); }

static void welcome(mci_control_link* link) {
  mci_boot* boot = link->boot;
  link->state = LINK_ACTIVE;
  no_stranger(boot);
  mci_control_link_watch(link, link->tcp ? link->place.pid : link->pid);
  answer_welcome(link);
  mci_control_changed(boot);
}

/* ---- joiners ---- */

/* The child of ours that leads to a rank below us; -1 when the rank is not below us. */
static int branch_towards(const mci_boot* boot, int rank) {
  while (rank > boot->rank && mci_control_parent(rank) != boot->rank) rank = mci_control_parent(rank);
  return rank > boot->rank ? rank : -1;
}

/* What is wrong with the joiner is everybody's failure. */
static void judge(mci_control_link* link, int branch, const mci_control_link* there) {
  mci_boot* boot = link->boot;
  int joiner = link->rank;
  if (link->joiner_nranks != boot->nranks) {
    mci_control_failf(boot, joiner, meshcclInvalidUsage, "rank %d joins with nranks = %d, but rank %d has nranks = %d",
                      joiner, link->joiner_nranks, boot->rank, boot->nranks);
  } else if (joiner == boot->rank) {
    mci_control_failf(boot, joiner, meshcclInvalidUsage,
                      "two ranks call themselves rank %d (processes %ld and %d); give each rank its own number", joiner,
                      (long)getpid(), link->place.pid);
  } else if (branch == joiner && there) {
    mci_control_failf(boot, joiner, meshcclInvalidUsage,
                      "two ranks call themselves rank %d (processes %d and %d); give each rank its own number", joiner,
                      there->pid, link->place.pid);
  } else if (branch < 0) {
    mci_control_failf(boot, joiner, meshcclInvalidUsage, "rank %d asked rank %d to join, which is not above it", joiner,
                      boot->rank);
  }
}

static void send_on(mci_control_link* link, int branch, const mci_control_link* there) {
  mci_place next = {.rank = branch};
  if (there) next = there->place;
  bool reachable = there && (next.host == link->place.host || next.naddresses > 0);
  answer_place(link, reachable ? ANSWER_REDIRECT : ANSWER_WAIT, &next);
}

static void admit_joiner(mci_control_link* link) {
  mci_boot* boot = link->boot;
  int branch = branch_towards(boot, link->rank);
  const mci_control_link* there = branch < 0 ? NULL : mci_control_find(boot, branch);
  judge(link, branch, there);
  if (boot->failure.result != meshcclSuccess)
    refuse(link);
  else if (!boot->ready)
    come_again(link);
  else if (link->tcp && link->place.host == boot->self.host)
    answer_place(link, ANSWER_REDIRECT, &boot->self); /* there is a better way */
  else if (branch != link->rank)
    send_on(link, branch, there);
  else
    welcome(link);
}

/* ---- members whose neighbour has left ---- */

/* The connection goes over to the link that has waited for it. */
static void take_seat(mci_control_link* link, mci_control_link* seat) {
  mci_boot* boot = link->boot;
  answer_welcome(link);
  int fd = link->fd;
  bool whole = !link->out.head && link->rest_bytes == 0;
  seat->place = link->place;
  seat->pid = link->place.pid;
  epoll_ctl(boot->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
  link->fd = -1;
  mci_accept_drop(link);
  meshcclResult_t result = mci_control_link_connect(seat, fd);
  if (result != meshcclSuccess || !whole)
    mci_control_failf(boot, boot->rank, meshcclSystemError, "rank %d cannot take over rank %d: %s", boot->rank,
                      seat->rank, mci_error_last());
  mci_control_changed(boot);
}

static void admit_member(mci_control_link* link) {
  mci_boot* boot = link->boot;
  mci_control_link* seat = mci_control_find(boot, link->rank);
  mci_verdict closed = {.rank = link->rank, .result = meshcclInvalidUsage};
  snprintf(closed.text, sizeof closed.text, "rank %d of this communicator is connected already", link->rank);
  if (boot->failure.result != meshcclSuccess) {
    if (seat && seat->fd < 0 && seat != boot->parent) mci_control_link_drop(seat);
    refuse(link);
  } else if (boot->phase != DEPART_NOT && boot->heir) {
    answer_place(link, ANSWER_REDIRECT, &boot->heir->place);
  } else if (seat && seat->fd >= 0) {
    answer(link, ANSWER_REFUSE, &closed, sizeof closed);
  } else if (!boot->open || boot->phase != DEPART_NOT || (seat && seat->via >= 0) ||
             (!seat && mci_control_towards(boot, link->rank))) {
    come_again(link);
  } else if (seat) {
    take_seat(link, seat);
  } else {
    welcome(link);
  }
}

static void admit(mci_control_link* link) {
  mci_boot* boot = link->boot;
  mci_verdict late = {.rank = link->rank, .result = meshcclInvalidUsage};
  snprintf(
      late.text, sizeof late.text,
      "rank %d comes too late: this communicator is complete; an id serves once at a time, and each rank number once",
      link->rank);
  if (link->attaches)
    admit_member(link);
  else if (boot->open && boot->failure.result == meshcclSuccess)
    answer(link, ANSWER_REFUSE, &late, sizeof late);
  else
    admit_joiner(link);
}

/* ---- proofs ---- */

static bool take_hello(mci_control_link* link, const mci_packet* packet) {
  mci_boot* boot = link->boot;
  mci_hello hello;
  if (packet->header.type != FRAME_HELLO || packet->header.bytes != sizeof hello) return false;
  memcpy(&hello, packet->data, sizeof hello);
  if (hello.version != MCI_HELLO_VERSION || hello.target != boot->rank || hello.rank < 0) return false;
  mci_challenge challenge;
  link->rank = hello.rank;
  link->joiner_nranks = hello.nranks;
  link->attaches = hello.attaches != 0;
  link->place = hello.place;
  link->place.rank = hello.rank;
  link->place.name[MCI_CONTROL_HOST - 1] = 0;
  mci_auth_hash(&hello, link->joiner_hash);
  mci_auth_nonce(link->own_nonce);
  memcpy(challenge.nonce, link->own_nonce, sizeof challenge.nonce);
  mci_auth_prove(&boot->id, PROOF_OF_LISTENER, boot->rank, link->rank, link->own_nonce, link->joiner_hash,
                 challenge.proof);
  mci_control_tell(link, FRAME_CHALLENGE, 0, &challenge, sizeof challenge);
  link->state = LINK_PROOF;
  return true;
}

static bool take_proof(mci_control_link* link, const mci_packet* packet) {
  mci_boot* boot = link->boot;
  unsigned char proof[32];
  if (packet->header.type != FRAME_PROOF || packet->header.bytes != sizeof proof) return false;
  mci_auth_prove(&boot->id, PROOF_OF_JOINER, boot->rank, link->rank, link->own_nonce, link->joiner_hash, proof);
  if (!mci_auth_equal(proof, packet->data)) return false;
  admit(link);
  return true;
}

void mci_accept_packet(mci_control_link* link, const mci_packet* packet) {
  link->stranger_bytes += sizeof packet->header + packet->header.bytes;
  bool fine = link->stranger_bytes <= MCI_CONTROL_STRANGER_BYTES;
  if (fine) fine = link->state == LINK_HELLO ? take_hello(link, packet) : take_proof(link, packet);
  if (fine) return;
  MCI_INFO("rank %d: dropped a connection%s that does not know the id's secret", link->boot->rank,
           link->tcp ? " from another host" : "");
  mci_accept_drop(link);
}
