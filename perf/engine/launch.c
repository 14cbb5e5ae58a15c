/* Fork, set the rank's variables, exec this program again. A child dies with its parent (also by SIGKILL); when one
 * child fails, the others get a grace period to say what they saw, then they are killed. */
#include "perf/engine/launch.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "meshccl/meshccl.h"

enum { GRACE_MS = 5000, POLL_MS = 10, BAD_USE = 2 };

static void set_number(const char* name, int value) {
  char text[16];
  snprintf(text, sizeof(text), "%d", value);
  setenv(name, text, 1);
}

static void become_rank(int rank, int np, const char* id, pid_t parent, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(BAD_USE);
  set_number("MESHCCL_RANK", rank);
  set_number("MESHCCL_SIZE", np);
  set_number("MESHCCL_LOCAL_RANK", rank);
  set_number("MESHCCL_LOCAL_SIZE", np);
  setenv("MESHCCL_ID", id, 1);
  execv("/proc/self/exe", argv);
  perror("--np: starting this program again");
  _exit(BAD_USE);
}

static int exit_status(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

/* Waits for all children; returns the status of the first one that failed, or 0. */
static int wait_all(const pid_t* children, int n) {
  int alive = n, first = 0, waited_ms = 0;
  while (alive > 0) {
    int status;
    pid_t pid = waitpid(-1, &status, first ? WNOHANG : 0);
    if (pid > 0) {
      alive--;
      if (!first) first = exit_status(status);
    } else if (pid == 0 && waited_ms < GRACE_MS) {
      nanosleep(&(struct timespec){0, POLL_MS * 1000000L}, NULL);
      waited_ms += POLL_MS;
    } else {
      for (int k = 0; k < n; k++) kill(children[k], SIGKILL);
      while (wait(NULL) > 0) continue;
      break;
    }
  }
  return first;
}

static int start_all(int np, char** argv, const char* id) {
  pid_t *children = calloc((size_t)np, sizeof(*children)), parent = getpid();
  int started = 0;
  for (; children && started < np; started++) {
    children[started] = fork();
    if (children[started] == 0) become_rank(started, np, id, parent, argv);
    if (children[started] < 0) break;
  }
  if (started < np) {
    perror("--np: starting a process");
    for (int k = 0; k < started; k++) kill(children[k], SIGKILL);
  }
  int status = wait_all(children, started);
  free(children);
  return started < np ? BAD_USE : status;
}

int perf_launch(int np, char** argv, int* status) {
  const char* size = getenv("MESHCCL_SIZE");
  if (np == 0 || (size && atoi(size) == np && getenv("MESHCCL_RANK"))) return 0;
  *status = BAD_USE;
  if (size || getenv("OMPI_COMM_WORLD_RANK") || getenv("PMI_RANK")) {
    fprintf(stderr, "--np %d: a launcher has already started this process as a rank; leave --np out\n", np);
    return 1;
  }
  meshcclUniqueId id;
  if (meshcclGetUniqueId(&id) != meshcclSuccess) {
    fprintf(stderr, "--np: %s\n", meshcclGetLastError(NULL));
    return 1;
  }
  char text[2 * MESHCCL_UNIQUE_ID_BYTES + 1];
  for (int k = 0; k < MESHCCL_UNIQUE_ID_BYTES; k++)
    snprintf(text + 2 * k, 3, "%02x", (unsigned)(unsigned char)id.internal[k]);
  *status = start_all(np, argv, text);
  return 1;
}
