/* The ranks of one host: starts them, passes their output, their signals and rank 0's input on, ends all of them when
 * one fails, and leaves nothing behind. One thread that sleeps in poll: signals arrive through a signalfd. Processes
 * that a rank starts become ours when the rank ends, and are killed when all ranks have ended. Where output and
 * messages go is the front end's affair. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/discover.h"
#include "tools/run.h"

/* ---- the end of ranks ---- */

void mci_run_signal(const mci_run* run, int number) {
  for (int i = 0; i < run->nlocal; i++)
    if (run->ranks[i].pid > 0) kill(-run->ranks[i].pid, number);
}

/* Ranks that were just told to stop by a signal may still be cleaning up: then TERM waits as long as KILL after TERM.
 */
void mci_run_end(mci_run* run) {
  if (run->next_signal) return;
  run->next_signal = SIGTERM;
  run->due_ns = mci_now_ns() + (run->passed_on ? MCI_RUN_GRACE_NS : 0);
}

static void press(mci_run* run) {
  if (!run->next_signal || mci_now_ns() < run->due_ns) return;
  mci_run_signal(run, run->next_signal);
  mci_run_signal(run, SIGCONT);
  run->next_signal = SIGKILL;
  run->due_ns = mci_now_ns() + MCI_RUN_GRACE_NS;
}

static int index_of(const mci_run* run, pid_t pid) {
  for (int i = 0; i < run->nlocal; i++)
    if (run->ranks[i].pid == pid) return i;
  return -1;
}

int mci_run_describe(int rank, pid_t pid, int status, char* text, size_t size) {
  if (WIFSIGNALED(status)) {
    int number = WTERMSIG(status);
    snprintf(text, size, "rank %d (process %d) was killed by signal %d (%s)", rank, (int)pid, number,
             strsignal(number));
    return 128 + number;
  }
  snprintf(text, size, "rank %d (process %d) ended with status %d", rank, (int)pid, WEXITSTATUS(status));
  return WEXITSTATUS(status);
}

/* What a failed rank said last; bounded, because something that it started may talk on for ever. */
static void read_last_words(mci_run_rank* rank) {
  for (int i = 0; i < 2; i++) {
    mci_run_stream* stream = &rank->streams[i];
    for (int k = 0; k < 64 && stream->fd >= 0 && poll(&(struct pollfd){.fd = stream->fd, .events = POLLIN}, 1, 0) == 1;
         k++)
      mci_run_stream_read(stream);
  }
}

/* Of ranks that ended since the last look, one that was killed is more likely the cause than one that gave up. */
static void reap(mci_run* run) {
  int status, worst = -1, worst_status = 0;
  pid_t pid, worst_pid = 0;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    int i = index_of(run, pid);
    if (i < 0) continue;
    run->ranks[i].pid = 0;
    run->nrunning--;
    if (status == 0 || (worst >= 0 && (WIFSIGNALED(worst_status) || !WIFSIGNALED(status)))) continue;
    worst = i;
    worst_status = status;
    worst_pid = pid;
  }
  if (worst < 0 || run->status != 0) return;
  read_last_words(&run->ranks[worst]);
  run->status = WIFSIGNALED(worst_status) ? 128 + WTERMSIG(worst_status) : WEXITSTATUS(worst_status);
  run->front->failed(run, run->first + worst, worst_pid, worst_status);
  mci_run_end(run);
}

/* ---- the loop ---- */

static void take_signals(mci_run* run) {
  struct signalfd_siginfo info;
  while (read(run->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
    if (info.ssi_signo == SIGCHLD) {
      reap(run);
    } else {
      run->passed_on = true;
      mci_run_signal(run, (int)info.ssi_signo);
    }
  }
}

static int time_left_ms(const mci_run* run) {
  if (!run->next_signal) return -1;
  uint64_t now = mci_now_ns();
  return now >= run->due_ns ? 0 : (int)((run->due_ns - now) / 1000000 + 1);
}

static void serve(mci_run* run, struct pollfd* polled) {
  struct pollfd* of_ranks = polled + 1 + MCI_RUN_WISHES;
  nfds_t n = 0;
  polled[0] = (struct pollfd){.fd = run->signal_fd, .events = POLLIN};
  run->front->wish(run, polled + 1);
  for (int i = 0; i < run->nlocal; i++)
    for (int k = 0; k < 2; k++) of_ranks[n++] = (struct pollfd){.fd = run->ranks[i].streams[k].fd, .events = POLLIN};
  if (poll(polled, n + 1 + MCI_RUN_WISHES, time_left_ms(run)) < 0) return;
  for (nfds_t k = 0; k < n; k++)
    if (of_ranks[k].revents) mci_run_stream_read(&run->ranks[k / 2].streams[k % 2]);
  run->front->ready(run, polled + 1);
  if (polled[0].revents) take_signals(run);
  press(run);
}

static void finish_output(mci_run* run) {
  for (int i = 0; i < run->nlocal; i++) {
    for (int k = 0; k < 2; k++) {
      mci_run_stream* stream = &run->ranks[i].streams[k];
      while (stream->fd >= 0 && poll(&(struct pollfd){.fd = stream->fd, .events = POLLIN}, 1, 0) == 1)
        mci_run_stream_read(stream);
      mci_run_stream_close(stream);
    }
  }
}

static void start_and_watch(mci_run* run, struct pollfd* polled) {
  for (int i = 0; i < run->nlocal && run->status == 0; i++) {
    run->status = mci_run_spawn(run, i);
    if (run->status != 0) mci_run_end(run);
  }
  if (run->listen_fd >= 0) close(run->listen_fd); /* rank 0 has it now, or nobody will */
  run->listen_fd = -1;
  while (run->nrunning > 0) serve(run, polled);
  mci_run_sweep();
  finish_output(run);
  if (run->input_fd >= 0) close(run->input_fd);
  run->input_fd = -1;
}

/* ---- preparation ---- */

static void raise_file_limit(mci_run* run) {
  getrlimit(RLIMIT_NOFILE, &run->files_before);
  struct rlimit raised = run->files_before;
  rlim_t need = (rlim_t)run->nlocal * 2 + 64;
  if (raised.rlim_cur >= need) return;
  raised.rlim_cur = MCI_MIN(need, raised.rlim_max);
  setrlimit(RLIMIT_NOFILE, &raised);
}

int mci_run_take_signals(mci_run* run) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTTIN, SIG_IGN); /* in the background: the read fails, and rank 0 finds the end of its input */
  sigemptyset(&run->signals);
  static const int numbers[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
  for (size_t i = 0; i < MCI_COUNT(numbers); i++) sigaddset(&run->signals, numbers[i]);
  sigprocmask(SIG_BLOCK, &run->signals, &run->signals_before);
  run->signal_fd = signalfd(-1, &run->signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (run->signal_fd >= 0) return 0;
  char text[128];
  snprintf(text, sizeof text, "signalfd: %s", strerror(errno));
  run->front->say(run, text);
  return 1;
}

/* 0, or the exit status: that ranks cannot be bound is an error only where that was asked for. */
static int find_cores(mci_run* run) {
  char text[512];
  if (run->bind == MCI_RUN_BIND_NONE) return 0;
  if (mci_cores_find(&run->cores) == meshcclSuccess) {
    if (run->bind == MCI_RUN_BIND_CORE || mci_cores_count(run->cores) <= (uint32_t)run->nlocal) return 0;
    mci_cores_free(run->cores);
    run->cores = NULL;
  }
  if (run->bind != MCI_RUN_BIND_CORE) return 0;
  snprintf(text, sizeof text, "--bind core: %s", mci_error_last());
  run->front->say(run, text);
  return 1;
}

int mci_run_ranks(mci_run* run) {
  if (find_cores(run)) return 1;
  struct pollfd* polled = mci_alloc(sizeof *polled * ((size_t)run->nlocal * 2 + 1 + MCI_RUN_WISHES));
  run->ranks = mci_alloc((size_t)run->nlocal * sizeof *run->ranks);
  if (polled && run->ranks) {
    for (int i = 0; i < run->nlocal; i++) run->ranks[i].streams[0].fd = run->ranks[i].streams[1].fd = -1;
    raise_file_limit(run);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    start_and_watch(run, polled);
  } else {
    run->front->say(run, "out of memory");
    run->status = 1;
  }
  mci_free(polled);
  mci_free(run->ranks);
  run->ranks = NULL;
  mci_cores_free(run->cores);
  run->cores = NULL;
  return run->status;
}
