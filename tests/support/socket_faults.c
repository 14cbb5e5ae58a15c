/* Loaded in front of the C library (LD_PRELOAD) by tests: stream sockets over IP and unix stream sockets read and write
 * less than asked, are interrupted, late or reset. Everything else passes untouched, also messages with descriptors in
 * them, MSG_PEEK and MSG_WAITALL, whose callers may not expect less.
 *
 * MESHCCL_TESTS_SOCKETS is a comma list, each a whole number:
 *   short=P   P of 100 calls move a random part of what was asked, at least one byte
 *   eintr=P   P of 100 calls fail with EINTR and do nothing
 *   eagain=P  P of 100 calls on non-blocking sockets fail with EAGAIN; for callers that poll by level, not by edge
 *   delay=US  each call takes up to so many microseconds longer
 *   reset=N   when the process has moved N bytes, the socket at hand is reset, as by a peer that is gone
 *   seed=N
 * Unknown keys end the process: a test that believes in faults that are not there proves nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PIECES 64

enum { SHORT, EINTR_, EAGAIN_, DELAY, RESET, SEED, KEYS };

static long settings[KEYS];
static bool on;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_long moved;
static atomic_ulong numbers;

static ssize_t (*next_read)(int, void*, size_t);
static ssize_t (*next_write)(int, const void*, size_t);
static ssize_t (*next_readv)(int, const struct iovec*, int);
static ssize_t (*next_writev)(int, const struct iovec*, int);
static ssize_t (*next_recv)(int, void*, size_t, int);
static ssize_t (*next_send)(int, const void*, size_t, int);
static ssize_t (*next_recvmsg)(int, struct msghdr*, int);
static ssize_t (*next_sendmsg)(int, const struct msghdr*, int);

static void find_next(const char* name, void* pointer) {
  void* symbol = dlsym(RTLD_NEXT, name);
  if (!symbol) abort();
  memcpy(pointer, &symbol, sizeof symbol);
}

static void refuse(const char* text) {
  dprintf(2, "MESHCCL_TESTS_SOCKETS: \"%s\" is not short, eintr, eagain, delay, reset or seed with a number\n", text);
  _exit(127);
}

static void read_settings(const char* text) {
  static const char* const keys[KEYS] = {"short=", "eintr=", "eagain=", "delay=", "reset=", "seed="};
  while (*text) {
    int key = 0;
    while (key < KEYS && strncmp(text, keys[key], strlen(keys[key])) != 0) key++;
    if (key == KEYS) refuse(text);
    char* end;
    settings[key] = strtol(text + strlen(keys[key]), &end, 10);
    if (end == text + strlen(keys[key]) || settings[key] < 0 || (*end && *end != ',')) refuse(text);
    text = end + (*end == ',');
    on = true;
  }
}

static void prepare(void) {
  find_next("read", &next_read);
  find_next("write", &next_write);
  find_next("readv", &next_readv);
  find_next("writev", &next_writev);
  find_next("recv", &next_recv);
  find_next("send", &next_send);
  find_next("recvmsg", &next_recvmsg);
  find_next("sendmsg", &next_sendmsg);
  const char* text = getenv("MESHCCL_TESTS_SOCKETS");
  if (text) read_settings(text);
}

/* The n-th number depends on n and the seed only, so calls of several threads need no lock. */
static unsigned long draw(unsigned long below) {
  uint64_t x = ((uint64_t)settings[SEED] << 32) + atomic_fetch_add(&numbers, 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return (unsigned long)((x ^ (x >> 31)) % below);
}

static bool chance(int key) { return settings[key] > 0 && draw(100) < (unsigned long)settings[key]; }

/* Whether the descriptor is a stream socket that faults befall; leaves errno alone. */
static bool concerned(int fd) {
  pthread_once(&once, prepare);
  if (!on) return false;
  int domain = 0, type = 0, before = errno;
  socklen_t length = sizeof domain;
  bool is = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 &&
            getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM &&
            (domain == AF_INET || domain == AF_INET6 || domain == AF_UNIX);
  errno = before;
  return is;
}

/* Sends a reset to the peer (TCP) or ends both directions (unix). */
static void reset(int fd) {
  struct sockaddr nobody = {.sa_family = AF_UNSPEC};
  if (connect(fd, &nobody, sizeof nobody) != 0) shutdown(fd, SHUT_RDWR);
}

static bool would_block(int fd, int flags) {
  int mode = fcntl(fd, F_GETFL);
  return (flags & MSG_DONTWAIT) || (mode >= 0 && (mode & O_NONBLOCK));
}

/* What stands before the call. 0: go on, else the errno that the call fails with. */
static int before(int fd, int flags) {
  if (settings[DELAY]) {
    long us = (long)draw((unsigned long)settings[DELAY] + 1);
    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
  }
  if (settings[RESET] && atomic_load(&moved) >= settings[RESET]) {
    atomic_store(&moved, LONG_MIN); /* once */
    reset(fd);
    return ECONNRESET;
  }
  if (chance(EINTR_)) return EINTR;
  if (chance(EAGAIN_) && would_block(fd, flags)) return EAGAIN;
  return 0;
}

static size_t shorter(size_t bytes) { return bytes > 1 && chance(SHORT) ? 1 + draw(bytes - 1) : bytes; }

static ssize_t count(ssize_t n) {
  if (n > 0 && settings[RESET]) atomic_fetch_add(&moved, n);
  return n;
}

#define FAULTS(fd, flags)           \
  do {                              \
    int error_ = before(fd, flags); \
    if (error_) {                   \
      errno = error_;               \
      return -1;                    \
    }                               \
  } while (0)

/* The first `bytes` bytes of a list of pieces; returns the number of pieces. */
static int cut(const struct iovec* from, int n, struct iovec* to, size_t bytes) {
  int i = 0;
  for (; i < n && bytes > 0; i++) {
    to[i] = from[i];
    if (to[i].iov_len > bytes) to[i].iov_len = bytes;
    bytes -= to[i].iov_len;
  }
  return i;
}

static size_t total(const struct iovec* pieces, int n) {
  size_t bytes = 0;
  for (int i = 0; i < n; i++) bytes += pieces[i].iov_len;
  return bytes;
}

#define EXPORT __attribute__((visibility("default")))

EXPORT ssize_t read(int fd, void* data, size_t bytes) {
  if (!concerned(fd)) return next_read(fd, data, bytes);
  FAULTS(fd, 0);
  return count(next_read(fd, data, shorter(bytes)));
}

EXPORT ssize_t write(int fd, const void* data, size_t bytes) {
  if (!concerned(fd)) return next_write(fd, data, bytes);
  FAULTS(fd, 0);
  return count(next_write(fd, data, shorter(bytes)));
}

EXPORT ssize_t recv(int fd, void* data, size_t bytes, int flags) {
  if (!concerned(fd) || (flags & (MSG_PEEK | MSG_WAITALL))) return next_recv(fd, data, bytes, flags);
  FAULTS(fd, flags);
  return count(next_recv(fd, data, shorter(bytes), flags));
}

EXPORT ssize_t send(int fd, const void* data, size_t bytes, int flags) {
  if (!concerned(fd)) return next_send(fd, data, bytes, flags);
  FAULTS(fd, flags);
  return count(next_send(fd, data, shorter(bytes), flags));
}

EXPORT ssize_t readv(int fd, const struct iovec* pieces, int n) {
  struct iovec some[PIECES];
  if (!concerned(fd) || n > PIECES) return next_readv(fd, pieces, n);
  FAULTS(fd, 0);
  return count(next_readv(fd, some, cut(pieces, n, some, shorter(total(pieces, n)))));
}

EXPORT ssize_t writev(int fd, const struct iovec* pieces, int n) {
  struct iovec some[PIECES];
  if (!concerned(fd) || n > PIECES) return next_writev(fd, pieces, n);
  FAULTS(fd, 0);
  return count(next_writev(fd, some, cut(pieces, n, some, shorter(total(pieces, n)))));
}

/* Messages with descriptors stay whole. */
static bool divisible(const struct msghdr* message, int flags) {
  return message->msg_controllen == 0 && message->msg_iovlen <= PIECES && !(flags & (MSG_PEEK | MSG_WAITALL));
}

EXPORT ssize_t recvmsg(int fd, struct msghdr* message, int flags) {
  struct iovec some[PIECES], *whole = message->msg_iov;
  if (!concerned(fd) || !divisible(message, flags)) return next_recvmsg(fd, message, flags);
  FAULTS(fd, flags);
  int n = (int)message->msg_iovlen;
  message->msg_iov = some;
  message->msg_iovlen = (size_t)cut(whole, n, some, shorter(total(whole, n)));
  ssize_t got = next_recvmsg(fd, message, flags);
  message->msg_iov = whole;
  message->msg_iovlen = (size_t)n;
  return count(got);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr* message, int flags) {
  struct iovec some[PIECES];
  if (!concerned(fd) || !divisible(message, flags)) return next_sendmsg(fd, message, flags);
  FAULTS(fd, flags);
  struct msghdr part = *message;
  int n = (int)message->msg_iovlen;
  part.msg_iov = some;
  part.msg_iovlen = (size_t)cut(message->msg_iov, n, some, shorter(total(message->msg_iov, n)));
  return count(next_sendmsg(fd, &part, flags));
}
