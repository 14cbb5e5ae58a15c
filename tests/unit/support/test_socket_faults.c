/* The library that makes sockets read and write less than asked: its faults happen, and lose or change no byte. The test
 * runs itself as a child with the library in front. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/test.h"

#define BYTES 300000

enum { CALL_READ, CALL_RECV, CALL_READV, CALL_RECVMSG, CALLS };

typedef struct {
  int fd, call;
  int shorter, interrupted, again, errors;
} side;

static ssize_t move(side* s, bool out, unsigned char* data, size_t bytes) {
  struct iovec pieces[2] = {{data, bytes / 2}, {data + bytes / 2, bytes - bytes / 2}};
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
  switch (s->call) {
    case CALL_READ:
      return out ? write(s->fd, data, bytes) : read(s->fd, data, bytes);
    case CALL_RECV:
      return out ? send(s->fd, data, bytes, MSG_NOSIGNAL) : recv(s->fd, data, bytes, 0);
    case CALL_READV:
      return out ? writev(s->fd, pieces, 2) : readv(s->fd, pieces, 2);
    default:
      return out ? sendmsg(s->fd, &message, MSG_NOSIGNAL) : recvmsg(s->fd, &message, 0);
  }
}

/* All bytes through blocking calls of 1000, with a note of what happened on the way. */
static bool move_all(side* s, bool out, unsigned char* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    size_t ask = MCI_MIN(bytes - done, (size_t)1000);
    ssize_t n = move(s, out, data + done, ask);
    if (n < 0 && errno == EINTR) {
      s->interrupted++;
    } else if (n < 0 && errno == EAGAIN) {
      s->again++;
    } else if (n <= 0) {
      s->errors++;
      return false;
    } else {
      s->shorter += (size_t)n < ask;
      done += (size_t)n;
    }
  }
  return true;
}

static unsigned char sent[BYTES], got[BYTES];

static void* sender(void* argument) {
  side* s = argument;
  move_all(s, true, sent, BYTES);
  return NULL;
}

static bool tcp_pair(int pair[2]) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof at;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  pair[0] = socket(AF_INET, SOCK_STREAM, 0);
  bool made = bind(listener, (struct sockaddr*)&at, sizeof at) == 0 && listen(listener, 1) == 0 &&
              getsockname(listener, (struct sockaddr*)&at, &length) == 0 &&
              connect(pair[0], (struct sockaddr*)&at, sizeof at) == 0;
  pair[1] = made ? accept(listener, NULL, NULL) : -1;
  close(listener);
  return pair[1] >= 0;
}

/* One transfer; the exit status says what was seen: bits 1 short, 2 EINTR, 4 EAGAIN, 8 reset; 64: wrong bytes. */
static int transfer(bool tcp, int call) {
  int pair[2];
  if (tcp ? !tcp_pair(pair) : socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 99;
  for (size_t i = 0; i < BYTES; i++) sent[i] = (unsigned char)(i * 7 + (i >> 8));
  side out = {.fd = pair[0], .call = call}, in = {.fd = pair[1], .call = call};
  fcntl(pair[0], F_SETFL, O_NONBLOCK);
  pthread_t thread;
  if (pthread_create(&thread, NULL, sender, &out) != 0) return 99;
  bool whole = move_all(&in, false, got, BYTES);
  shutdown(pair[1], SHUT_RDWR);
  pthread_join(thread, NULL);
  if (whole && memcmp(sent, got, BYTES) != 0) return 64;
  return (in.shorter && out.shorter ? 1 : 0) | (in.interrupted && out.interrupted ? 2 : 0) | (out.again ? 4 : 0) |
         (in.errors || out.errors ? 8 : 0);
}

static int run_child(const char* settings, bool tcp, int call) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    char which[2] = {(char)('0' + call), 0};
    setenv("MESHCCL_TESTS_SOCKETS", settings, 1);
    setenv("LD_PRELOAD", SOCKET_FAULTS, 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
    execl("/proc/self/exe", "child", tcp ? "tcp" : "unix", which, (char*)NULL);
    _exit(98);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void faults_happen_and_bytes_stay_right(void** state) {
  (void)state;
  for (int call = 0; call < CALLS; call++)
    for (int tcp = 0; tcp < 2; tcp++) {
      assert_int_equal(run_child("short=50,eintr=20,seed=3", tcp, call) & ~4, 3);
      assert_int_equal(run_child("short=10,eintr=5,eagain=10,delay=3", tcp, call), 7);
    }
}

static void a_reset_ends_the_connection(void** state) {
  (void)state;
  for (int tcp = 0; tcp < 2; tcp++) assert_int_equal(run_child("reset=100000", tcp, CALL_RECV) & ~5, 8);
}

static void unknown_faults_end_the_process(void** state) {
  (void)state;
  assert_int_equal(run_child("shrot=50", true, CALL_READ), 127);
  assert_int_equal(run_child("short=", true, CALL_READ), 127);
}

int main(int argc, char** argv) {
  if (argc == 3) return transfer(strcmp(argv[1], "tcp") == 0, argv[2][0] - '0');
  const struct CMUnitTest tests[] = {cmocka_unit_test(faults_happen_and_bytes_stay_right),
                                     cmocka_unit_test(a_reset_ends_the_connection),
                                     cmocka_unit_test(unknown_faults_end_the_process)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
