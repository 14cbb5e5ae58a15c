/* Contexts of shm for the tests, in this process, its threads and its children. */
#ifndef TEST_TRANSPORT_RIG_H
#define TEST_TRANSPORT_RIG_H

#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"
#include "transport/builtin.h"
#include "transports/shm/shm.h"

#define SHM (&mci_transport_shm)

struct rig {
  struct test_host host;
  void* ctx;
  unsigned char address[MESHCCL_ADDRESS_BYTES];
  size_t bytes;
};

static inline void rig_open(struct rig* rig, int rank, int nranks) {
  memset(rig, 0, sizeof *rig);
  host_init(&rig->host, rank, nranks);
  check_ok(SHM->open(&rig->host.table, &rig->ctx));
  rig->bytes = sizeof rig->address;
  check_ok(SHM->address(rig->ctx, rig->address, &rig->bytes));
}

static inline void* rig_connect(struct rig* from, struct rig* to) {
  void* ep = NULL;
  check_ok(SHM->connect(from->ctx, to, to->host.table.rank, to->address, to->bytes, &ep));
  return ep;
}

static inline meshcclResult_t rig_send(void* ep, uint32_t number, const void* payload, size_t bytes) {
  unsigned char header[MESHCCL_HEADER_BYTES] = {0};
  meshcclPiece_t piece = {payload, bytes};
  memcpy(header, &number, sizeof number);
  return SHM->send(ep, header, &piece, 1, NULL);
}

/* Runs body in a child process with one end of a socket pair; *fd is the other. The child's status is the result. */
static inline pid_t spawn(int (*body)(int fd, void* arg), void* arg, int* fd) {
  int pair[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    close(pair[0]);
    _exit(body(pair[1], arg));
  }
  close(pair[1]);
  *fd = pair[0];
  return pid;
}

static inline int join_child(pid_t pid, int fd) {
  int status = 0;
  close(fd);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static inline void tell(int fd, const void* data, size_t bytes) {
  if (write(fd, data, bytes) != (ssize_t)bytes) _exit(99);
}

static inline void hear(int fd, void* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = read(fd, (char*)data + done, bytes - done);
    if (n <= 0) _exit(98);
    done += (size_t)n;
  }
}

/* Sends the own address through fd and makes *peer the rig that stands for the other end. */
static inline void rig_exchange(int fd, struct rig* own, struct rig* peer, int peer_rank) {
  memset(peer, 0, sizeof *peer);
  tell(fd, own->address, sizeof own->address);
  hear(fd, peer->address, sizeof peer->address);
  peer->bytes = own->bytes;
  peer->host.table.rank = peer_rank;
}

/* Progress until `*counter` reaches `target`, asleep whenever there is nothing to do. False: no wake-up for 20 s. */
static inline bool sleep_until(struct rig* rig, const int* counter, int target) {
  int fd;
  uint32_t poll_us;
  check_ok(SHM->waitHandle(rig->ctx, &fd, &poll_us));
  while (*counter < target) {
    if (SHM->progress(rig->ctx) > 0) continue;
    if (SHM->arm(rig->ctx) == meshcclBusy) continue;
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    if (poll(&waiting, 1, 20000) == 0) return false;
  }
  return true;
}

static inline int count_descriptors(void) {
  int n = 0;
  DIR* dir = opendir("/proc/self/fd");
  while (readdir(dir)) n++;
  closedir(dir);
  return n;
}

static inline int count_mappings(void) {
  char line[4096];
  int n = 0;
  FILE* file = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, file)) n += strstr(line, "meshccl") != NULL;
  fclose(file);
  return n;
}
#endif
