/* Runs the ranks of a control tree as threads or as forked processes. Threads note what they expected in vain; the test
 * thread fails with the first note, because CMocka's assertions belong to its own thread. */
#ifndef TEST_RANKS_H
#define TEST_RANKS_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/boot.h"
#include "support/test.h"

#define SECOND 1000000000ull

typedef struct rank_run {
  int rank, nranks;
  const mci_id* id;
  void* argument;
  bool threadless;
  uint64_t host;       /* 0: this one */
  uint64_t silence_ns; /* 0: the usual limit */
  void (*body)(struct rank_run* run, mci_boot* boot);
  pthread_t thread;
  char note[640]; /* the first thing that was not as expected */
} rank_run;

#define expect(run, condition)                                                                                   \
  do {                                                                                                           \
    if (!(condition) && !(run)->note[0])                                                                         \
      snprintf((run)->note, sizeof(run)->note, "rank %d, line %d: %s (last message: %s)", (run)->rank, __LINE__, \
               #condition, mci_error_last());                                                                    \
  } while (0)

static inline mci_boot_options rank_options(int rank, int nranks) {
  return (mci_boot_options){.rank = rank, .nranks = nranks, .agree = "A=1\nB=2\n", .timeout_ns = 30 * SECOND};
}

static inline void* rank_main(void* argument) {
  rank_run* run = argument;
  mci_boot_options options = rank_options(run->rank, run->nranks);
  options.threadless = run->threadless;
  options.host = run->host;
  options.silence_ns = run->silence_ns;
  mci_boot* boot = NULL;
  meshcclResult_t result = mci_boot_join(run->id, &options, &boot);
  expect(run, result == meshcclSuccess);
  if (result != meshcclSuccess) return NULL;
  if (run->body) run->body(run, boot);
  mci_boot_leave(boot);
  return NULL;
}

/* Ranks that are threads of this process on so many made-up hosts (1: this one): dealt out, in blocks, or unevenly. */
typedef enum { DEALT, BLOCKS, UNEVEN } placing;
static inline uint64_t host_of(int rank, int nranks, int nhosts, placing how) {
  if (nhosts == 1) return 0;
  if (how == DEALT) return 100 + (uint64_t)(rank % nhosts);
  if (how == BLOCKS) return 100 + (uint64_t)(rank * nhosts / nranks);
  return 100 + (uint64_t)(rank % 7 == 3 ? rank % nhosts : 0);
}

/* An id whose rank 0 can be reached over TCP, on loopback only. */
static inline void make_published_id(mci_id* id) {
  setenv("MESHCCL_SOCKET_IFNAME", "lo", 1);
  mci_params_reload();
  check_ok(mci_id_create(id));
  check_ok(mci_id_publish(id));
}

typedef struct {
  int nranks, nhosts;
  placing how;
  bool threadless, backwards; /* backwards: the last rank comes first */
  void (*body)(rank_run*, mci_boot*);
  void* argument;
} crowd;

/* All ranks as threads; body leaves the boot to be left by the helper. */
static inline void run_crowd(const crowd* c) {
  mci_id id;
  if (c->nhosts > 1)
    make_published_id(&id);
  else
    check_ok(mci_id_create(&id));
  rank_run* runs = calloc((size_t)c->nranks, sizeof *runs);
  for (int i = 0; i < c->nranks; i++) {
    int r = c->backwards ? c->nranks - 1 - i : i;
    runs[r] = (rank_run){.rank = r,
                         .nranks = c->nranks,
                         .id = &id,
                         .argument = c->argument,
                         .threadless = c->threadless,
                         .host = host_of(r, c->nranks, c->nhosts, c->how),
                         .body = c->body};
    assert_int_equal(pthread_create(&runs[r].thread, NULL, rank_main, &runs[r]), 0);
  }
  char note[sizeof runs->note] = "";
  for (int r = 0; r < c->nranks; r++) {
    pthread_join(runs[r].thread, NULL);
    if (!note[0]) snprintf(note, sizeof note, "%s", runs[r].note);
  }
  free(runs);
  if (note[0]) fail_msg("%d ranks on %d hosts: %s", c->nranks, c->nhosts, note);
}

static inline void run_threads(int nranks, bool threadless, void (*body)(rank_run*, mci_boot*), void* argument) {
  run_crowd(&(crowd){.nranks = nranks, .nhosts = 1, .threadless = threadless, .body = body, .argument = argument});
}

/* Waits until the tree has failed; false after `limit`. */
static inline bool await_failure(mci_boot* boot, uint64_t limit_ns, char* text, size_t size, meshcclResult_t* out) {
  for (uint64_t until = mci_now_ns() + limit_ns; mci_now_ns() < until;) {
    mci_boot_progress(boot);
    *out = mci_boot_status(boot, text, size);
    if (*out != meshcclSuccess) return true;
    usleep(200);
  }
  return false;
}

static inline bool await_message(mci_boot* boot, mci_boot_message* message, uint64_t limit_ns) {
  for (uint64_t until = mci_now_ns() + limit_ns; mci_now_ns() < until;) {
    mci_boot_progress(boot);
    if (mci_boot_receive(boot, message)) return true;
    char text[8];
    if (mci_boot_status(boot, text, sizeof text) != meshcclSuccess) return false;
    usleep(100);
  }
  return false;
}

static inline int open_descriptors(void) {
  int n = 0;
  for (int fd = 0; fd < 1024; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

/* Exit status of a child, or 128 + its signal. */
static inline int await_child(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
#endif
