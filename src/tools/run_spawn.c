/* Starts one rank: a process in a group of its own, with the variables that meshcclCommInitEnv reads, that dies with
 * the launcher; and clears away what ranks leave behind. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/discover.h"
#include "tools/run.h"

static void set_number(const char* name, int value) {
  char text[16];
  snprintf(text, sizeof text, "%d", value);
  setenv(name, text, 1);
}

static void set_variables(const mci_run* run, int index) {
  for (char** pair = run->exports; pair && *pair; pair++) putenv(*pair);
  set_number("MESHCCL_RANK", run->first + index);
  set_number("MESHCCL_SIZE", run->nranks);
  set_number("MESHCCL_LOCAL_RANK", index);
  set_number("MESHCCL_LOCAL_SIZE", run->nlocal);
  setenv("MESHCCL_ID", run->id, 1);
  if (run->topo) setenv("MESHCCL_TOPO", run->topo, 1);
  unsetenv("MESHCCL_LISTEN_FD");
  if (run->listen_fd < 0 || run->first + index != 0) return;
  fcntl(run->listen_fd, F_SETFD, 0);
  set_number("MESHCCL_LISTEN_FD", run->listen_fd);
}

/* Rank 0 reads what the launcher would read, the others nothing. */
static void set_input(const mci_run* run, int rank, int input) {
  if (rank == 0 && !run->feeds_input) return;
  int fd = rank == 0 ? input : open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) dup2(fd, STDIN_FILENO);
}

static void bind_rank(const mci_run* run, int index) {
  if (!run->cores || mci_cores_bind(run->cores, (uint32_t)index % mci_cores_count(run->cores)) == meshcclSuccess)
    return;
  if (run->bind != MCI_RUN_BIND_CORE) return;
  fprintf(stderr, "meshccl run: rank %d %s; --bind none leaves it free\n", run->first + index, mci_error_last());
  _exit(126);
}

static void become_rank(const mci_run* run, int index, pid_t launcher, int input, int out, int err, int report)
    __attribute__((noreturn));
static void become_rank(const mci_run* run, int index, pid_t launcher, int input, int out, int err, int report) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != launcher) _exit(1); /* it died before the line above */
  set_input(run, run->first + index, input);
  if (run->captures) {
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
  }
  set_variables(run, index);
  bind_rank(run, index);
  setrlimit(RLIMIT_NOFILE, &run->files_before);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGTTIN, SIG_DFL);
  sigprocmask(SIG_SETMASK, &run->signals_before, NULL);
  execvp(run->program[0], run->program);
  int cause = errno;
  ssize_t ignored = write(report, &cause, sizeof cause);
  (void)ignored;
  _exit(127);
}

static void say(mci_run* run, const char* format, ...) MCI_PRINTF(2, 3);
static void say(mci_run* run, const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  run->front->say(run, text);
}

static int pipe_or_complain(mci_run* run, int ends[2]) {
  if (pipe2(ends, O_CLOEXEC) == 0) return 0;
  say(run, "pipe: %s; fewer ranks, or raise ulimit -n", strerror(errno));
  ends[0] = ends[1] = -1;
  return 1;
}

static void close_all(const int* fds, int n) {
  for (int i = 0; i < n; i++)
    if (fds[i] >= 0) close(fds[i]);
}

/* Waits until the child has become the program or has failed to. */
static int check_start(mci_run* run, int report) {
  int cause = 0;
  ssize_t n;
  do {
    n = read(report, &cause, sizeof cause);
  } while (n < 0 && errno == EINTR);
  if (n != (ssize_t)sizeof cause) return 0;
  say(run, "cannot start %s: %s", run->program[0], strerror(cause));
  return cause == ENOENT ? 127 : 126;
}

enum { OUT, ERR = 2, REPORT = 4, INPUT = 6, ENDS = 8 }; /* pairs of pipe ends */

static int make_pipes(mci_run* run, bool feed, int ends[ENDS]) {
  int status = pipe_or_complain(run, ends + REPORT);
  if (!status && run->captures) status = pipe_or_complain(run, ends + OUT) || pipe_or_complain(run, ends + ERR);
  if (!status && feed) status = pipe_or_complain(run, ends + INPUT);
  if (status) close_all(ends, ENDS);
  return status;
}

int mci_run_spawn(mci_run* run, int index) {
  int ends[ENDS] = {-1, -1, -1, -1, -1, -1, -1, -1}, rank = run->first + index;
  bool feed = rank == 0 && run->feeds_input;
  int status = make_pipes(run, feed, ends);
  if (status) return status;
  fflush(NULL);
  pid_t launcher = getpid(), pid = fork();
  if (pid < 0) {
    say(run, "fork of rank %d: %s", rank, strerror(errno));
    close_all(ends, ENDS);
    return 1;
  }
  if (pid == 0) become_rank(run, index, launcher, ends[INPUT], ends[OUT + 1], ends[ERR + 1], ends[REPORT + 1]);
  setpgid(pid, pid);
  if (feed) run->input_fd = ends[INPUT + 1];
  run->ranks[index].pid = pid;
  run->nrunning++;
  close_all((int[]){ends[OUT + 1], ends[ERR + 1], ends[REPORT + 1], ends[INPUT]}, 4);
  for (int i = 0; i < 2; i++)
    run->ranks[index].streams[i] =
        (mci_run_stream){.fd = ends[i ? ERR : OUT], .out = i ? STDERR_FILENO : STDOUT_FILENO, .rank = rank, .run = run};
  status = check_start(run, ends[REPORT]);
  close(ends[REPORT]);
  return status;
}

/* ---- what is left ---- */

static bool is_own_child(const char* name) {
  char path[300], text[512];
  snprintf(path, sizeof path, "/proc/%s/stat", name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[MCI_MAX(n, 0)] = 0;
  const char* at = strrchr(text, ')');
  int parent = 0;
  return at && sscanf(at + 1, " %*c %d", &parent) == 1 && parent == getpid();
}

static int kill_children(void) {
  DIR* processes = opendir("/proc");
  int n = 0;
  if (!processes) return 0;
  for (struct dirent* entry; (entry = readdir(processes));) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || !is_own_child(entry->d_name)) continue;
    n += kill((pid_t)atoi(entry->d_name), SIGKILL) == 0;
  }
  closedir(processes);
  return n;
}

/* Children of those that are killed become ours in turn, so it takes a round per generation. */
void mci_run_sweep(void) {
  while (waitpid(-1, NULL, WNOHANG) >= 0)
    if (kill_children() == 0 || waitpid(-1, NULL, 0) < 0) break;
}
