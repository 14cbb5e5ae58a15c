/* The process's end of `meshccl top`: a socket named after process and user, served by the control thread. An observer
 * proves that it knows the id's secret of one of the process's trees; then it may ask for the status of all ranks of
 * that tree, and nothing else. Before that it is a stranger with the places, bytes and time of strangers. One that does
 * not read its answers is dropped. Nothing here blocks, and nothing of it is there for processes without the thread.
 *
 *   HELLO(name of the id, nonce) -->  <-- CHALLENGE(nonce, proof)  PROOF -->  <-- ANSWER   QUERY -->  <-- STATUS ... */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "boot/control.h"

#define QUERY_NS 100000000ull /* between two queries of an observer */
#define UNREAD_PER_RANK 2048  /* bytes that wait for an observer that does not read, */
#define UNREAD_MOST (64u << 20)
#define EVENTS_PER_TURN 16

typedef enum { OBSERVER_HELLO, OBSERVER_PROOF, OBSERVER_TRUSTED } observer_state;

typedef struct observer {
  struct observer* next;
  int fd;
  int32_t pid;
  observer_state state;
  mci_boot* boot; /* which it knows the secret of; NULL before HELLO */
  unsigned char nonce[32], own_nonce[32];
  uint64_t deadline_ns, asked_ns;
  size_t bytes, unread;
  uint16_t query;
  bool waiting_out, over;
  mci_frames out;
} observer;

struct mci_observers {
  int epoll_fd, listen_fd, timer_fd;
  observer* list;
  int nstrangers, ntrusted;
};

void mci_observe_address(int32_t pid, struct sockaddr_un* out, socklen_t* length) {
  memset(out, 0, sizeof *out);
  out->sun_family = AF_UNIX;
  int n = snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "meshccl-top-%u-%d", (unsigned)geteuid(), pid);
  *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

/* ---- start and end ---- */

static bool add(struct mci_observers* o, int fd, void* what) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
  return fd >= 0 && epoll_ctl(o->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

struct mci_observers* mci_observe_start(void) {
  struct mci_observers* o = mci_alloc(sizeof *o);
  if (!o) return NULL;
  struct sockaddr_un address;
  socklen_t length;
  mci_observe_address(getpid(), &address, &length);
  o->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  o->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  o->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (o->epoll_fd >= 0 && o->listen_fd >= 0 && bind(o->listen_fd, (struct sockaddr*)&address, length) == 0 &&
      listen(o->listen_fd, MCI_CONTROL_STRANGERS) == 0 && add(o, o->listen_fd, &o->listen_fd) &&
      add(o, o->timer_fd, &o->timer_fd))
    return o;
  MCI_INFO("meshccl top will not find this process: %s", strerror(errno));
  mci_observe_stop(o);
  return NULL;
}

static void drop(struct mci_observers* o, observer* one) {
  observer** at = &o->list;
  while (*at != one) at = &(*at)->next;
  *at = one->next;
  (*(one->state == OBSERVER_TRUSTED ? &o->ntrusted : &o->nstrangers))--;
  epoll_ctl(o->epoll_fd, EPOLL_CTL_DEL, one->fd, NULL);
  close(one->fd);
  mci_frames_clear(&one->out);
  mci_free(one);
}

void mci_observe_stop(struct mci_observers* o) {
  if (!o) return;
  while (o->list) drop(o, o->list);
  if (o->listen_fd >= 0) close(o->listen_fd);
  if (o->timer_fd >= 0) close(o->timer_fd);
  if (o->epoll_fd >= 0) close(o->epoll_fd);
  mci_free(o);
}

int mci_observe_fd(const struct mci_observers* o) { return o->epoll_fd; }

void mci_observe_forget(struct mci_observers* o, const mci_boot* boot) {
  for (observer *one = o ? o->list : NULL, *next; one; one = next) {
    next = one->next;
    if (one->boot == boot) drop(o, one);
  }
}

/* ---- sending ---- */

static void arm(struct mci_observers* o, observer* one, bool out) {
  struct epoll_event event = {.events = out ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = one};
  if (one->waiting_out != out) epoll_ctl(o->epoll_fd, EPOLL_CTL_MOD, one->fd, &event);
  one->waiting_out = out;
}

/* False: later, or never (then the observer is over). */
static bool send_now(observer* one, const mci_header* header, const void* data) {
  struct iovec parts[2] = {{(void*)(uintptr_t)header, sizeof *header}, {(void*)(uintptr_t)data, header->bytes}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = header->bytes ? 2 : 1};
  if (sendmsg(one->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
  if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS) one->over = true;
  return false;
}

/* Marks the observer as over instead of dropping it: callers may be walking the list. */
static void post(struct mci_observers* o, observer* one, mci_frame_type type, uint16_t kind, const void* data,
                 size_t bytes) {
  mci_header header = {.type = (uint16_t)type, .kind = kind, .from = -1, .to = -1, .bytes = (uint32_t)bytes};
  if (one->over || (!one->out.head && send_now(one, &header, data)) || one->over) return;
  size_t most = MCI_MIN((size_t)one->boot->nranks * UNREAD_PER_RANK + MCI_CONTROL_STRANGER_BYTES, (size_t)UNREAD_MOST);
  one->unread += sizeof header + bytes;
  if (one->unread > most || mci_frames_push(&one->out, &header, data) != meshcclSuccess) one->over = true;
  arm(o, one, true);
}

static void flush(struct mci_observers* o, observer* one) {
  while (one->out.head && send_now(one, &one->out.head->header, one->out.head->data)) {
    mci_frame* frame = mci_frames_pop(&one->out);
    one->unread -= sizeof frame->header + frame->header.bytes;
    mci_free(frame);
  }
  if (!one->out.head) arm(o, one, false);
}

void mci_observe_status(struct mci_observers* o, const mci_boot* boot, uint16_t sequence,
                        const mci_rank_status* status) {
  for (observer* one = o->list; one; one = one->next)
    if (one->state == OBSERVER_TRUSTED && one->boot == boot && one->query == sequence)
      post(o, one, FRAME_STATUS, sequence, status, sizeof *status);
}

/* ---- who may ask ---- */

static void refuse(struct mci_observers* o, observer* one, const char* why) {
  mci_observer_answer answer = {.rank = -1};
  mci_header header = {
      .type = FRAME_ANSWER, .kind = ANSWER_REFUSE, .from = -1, .to = -1, .bytes = (uint32_t)sizeof answer};
  snprintf(answer.text, sizeof answer.text, "%s", why);
  send_now(one, &header, &answer);
  one->over = true;
  (void)o;
}

static mci_boot* find_tree(mci_boot* boots, const unsigned char name[32]) {
  for (mci_boot* boot = boots; boot; boot = boot->next)
    if (!boot->threadless && memcmp(mci_id_name(&boot->id), name, 32) == 0) return boot;
  return NULL;
}

static bool take_hello(struct mci_observers* o, observer* one, mci_boot* boots, const mci_packet* packet) {
  mci_observer_hello hello;
  if (packet->header.type != FRAME_HELLO || packet->header.bytes != sizeof hello) return false;
  memcpy(&hello, packet->data, sizeof hello);
  if (hello.version != MCI_HELLO_VERSION) return false;
  one->boot = find_tree(boots, hello.name);
  if (!one->boot) {
    refuse(o, one, "the process has no communicator with the id of this environment");
    return true;
  }
  mci_challenge challenge;
  memcpy(one->nonce, hello.nonce, sizeof one->nonce);
  mci_auth_nonce(one->own_nonce);
  memcpy(challenge.nonce, one->own_nonce, sizeof challenge.nonce);
  mci_auth_prove(&one->boot->id, PROOF_OF_OBSERVED, getpid(), -1, one->own_nonce, one->nonce, challenge.proof);
  post(o, one, FRAME_CHALLENGE, 0, &challenge, sizeof challenge);
  one->state = OBSERVER_PROOF;
  return true;
}

static bool take_proof(struct mci_observers* o, observer* one, const mci_packet* packet) {
  unsigned char proof[32];
  if (packet->header.type != FRAME_PROOF || packet->header.bytes != sizeof proof) return false;
  mci_auth_prove(&one->boot->id, PROOF_OF_OBSERVER, getpid(), -1, one->own_nonce, one->nonce, proof);
  if (!mci_auth_equal(proof, packet->data)) {
    refuse(o, one, "the secret of this environment is not that of the job");
    return true;
  }
  if (o->ntrusted == MCI_OBSERVERS) {
    refuse(o, one, "the process is being observed by as many as it takes already; end one of them");
    return true;
  }
  mci_observer_answer welcome = {.rank = one->boot->rank, .nranks = one->boot->nranks};
  memcpy(welcome.name, one->boot->name, sizeof welcome.name);
  one->state = OBSERVER_TRUSTED;
  o->nstrangers--;
  o->ntrusted++;
  post(o, one, FRAME_ANSWER, ANSWER_WELCOME, &welcome, sizeof welcome);
  return true;
}

static bool take_query(observer* one, const mci_packet* packet) {
  if (packet->header.type != FRAME_QUERY || packet->header.bytes != 0) return false;
  uint64_t now = mci_now_ns();
  if (one->asked_ns && now - one->asked_ns < QUERY_NS) return true;
  one->asked_ns = now;
  mci_boot* boot = one->boot;
  pthread_mutex_lock(&boot->lock);
  one->query = ++boot->status.query;
  mci_status_query(boot, NULL, boot->rank, one->query);
  pthread_mutex_unlock(&boot->lock);
  return true;
}

static void take(struct mci_observers* o, observer* one, mci_boot* boots) {
  mci_packet packet;
  for (int i = 0; i < EVENTS_PER_TURN && !one->over; i++) {
    int got = mci_socket_read(one->fd, &packet, false);
    if (got == 0) return;
    bool fine = got > 0;
    if (fine && one->state != OBSERVER_TRUSTED) {
      one->bytes += sizeof packet.header + packet.header.bytes;
      fine = one->bytes <= MCI_CONTROL_STRANGER_BYTES;
    }
    if (fine && one->state == OBSERVER_HELLO)
      fine = take_hello(o, one, boots, &packet);
    else if (fine && one->state == OBSERVER_PROOF)
      fine = take_proof(o, one, &packet);
    else if (fine)
      fine = take_query(one, &packet);
    one->over = one->over || !fine;
  }
}

/* ---- the listener ---- */

/* Rings once a second while there are strangers. */
static void set_timer(const struct mci_observers* o) {
  struct itimerspec each = {{o->nstrangers > 0, 0}, {o->nstrangers > 0, 0}};
  timerfd_settime(o->timer_fd, 0, &each, NULL);
}

static void expire(struct mci_observers* o) {
  uint64_t now = mci_now_ns();
  for (observer *one = o->list, *next; one; one = next) {
    next = one->next;
    if (one->over || (one->state != OBSERVER_TRUSTED && now > one->deadline_ns)) drop(o, one);
  }
}

static void accept_one(struct mci_observers* o, int fd) {
  uid_t user;
  int32_t pid = mci_socket_peer(fd, &user);
  observer* one = user == geteuid() && o->nstrangers < MCI_CONTROL_STRANGERS ? mci_alloc(sizeof *one) : NULL;
  if (!one || !add(o, fd, one)) {
    if (user != geteuid()) MCI_WARN("refused process %d of user %u, who wants to observe", pid, (unsigned)user);
    mci_free(one);
    close(fd);
    return;
  }
  one->fd = fd;
  one->pid = pid;
  one->deadline_ns = mci_now_ns() + MCI_CONTROL_STRANGER_NS;
  one->next = o->list;
  o->list = one;
  o->nstrangers++;
}

static void listen_on(struct mci_observers* o) {
  for (int i = 0; i < EVENTS_PER_TURN; i++) {
    int fd = accept4(o->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) break;
    accept_one(o, fd);
  }
}

/* Dropped only after the round: its events may name an observer twice. */
void mci_observe_serve(struct mci_observers* o, mci_boot* boots) {
  struct epoll_event events[EVENTS_PER_TURN];
  int n = epoll_wait(o->epoll_fd, events, EVENTS_PER_TURN, 0), before = o->nstrangers;
  for (int i = 0; i < n; i++) {
    uint64_t rung;
    if (events[i].data.ptr == &o->listen_fd) {
      listen_on(o);
    } else if (events[i].data.ptr == &o->timer_fd) {
      ssize_t ignored = read(o->timer_fd, &rung, sizeof rung);
      (void)ignored;
    } else {
      observer* one = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) flush(o, one);
      if (events[i].events & ~(uint32_t)EPOLLOUT) take(o, one, boots);
    }
  }
  expire(o);
  if ((before > 0) != (o->nstrangers > 0)) set_timer(o);
}
