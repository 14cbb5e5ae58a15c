/* meshccl run: starts the ranks of a program on this machine, labels their output, passes signals on, ends all of them
 * when one fails, and leaves nothing behind. One thread that sleeps in poll: signals arrive through a signalfd.
 * Processes that a rank starts become the launcher's when the rank ends, and are killed when all ranks have ended. */
#define _GNU_SOURCE
#include "tools/run.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "boot/boot.h"
#include "tools/tools.h"
#include "topo/graph.h"

#define GRACE_NS 2000000000ull /* from SIGTERM to SIGKILL */

/* ---- arguments ---- */

static const char usage[] =
    "usage: meshccl run -n N [--topo SPEC] [--no-label] -- PROGRAM [ARGUMENTS]\n"
    "\n"
    "Starts N ranks of PROGRAM on this machine and returns the status of the first that fails\n"
    "(128 + signal when it was killed); then all others are ended.\n"
    "\n"
    "  -n, --ranks N     number of ranks\n"
    "  -t, --topo SPEC   topology of the ranks, such as torus:2x2 (sets MESHCCL_TOPO); N may be left out\n"
    "      --no-label    do not put [rank] before each line of output\n"
    "  -h, --help        this text\n"
    "\n"
    "Rank 0 reads the launcher's input, the others none. Signals INT, TERM and HUP are passed on.\n"
    "The ranks find MESHCCL_RANK, MESHCCL_SIZE, MESHCCL_LOCAL_RANK, MESHCCL_LOCAL_SIZE and MESHCCL_ID.\n";

static int complain(const char* format, ...) MCI_PRINTF(1, 2);
static int complain(const char* format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "meshccl run: ");
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  return 2;
}

static int parse_ranks(const char* text, int* out) {
  char* end;
  errno = 0;
  long n = strtol(text, &end, 10);
  if (end == text || *end || errno || n < 1 || n > MCI_RUN_MAX_RANKS)
    return complain("-n %s: a whole number from 1 to %d is wanted", text, MCI_RUN_MAX_RANKS);
  *out = (int)n;
  return 0;
}

static int check_topo(mci_run* run) {
  mci_topo* topo;
  if (!run->topo) return 0;
  if (mci_topo_parse(run->topo, &topo) != meshcclSuccess) return complain("--topo: %s", mci_error_last());
  uint32_t nranks = mci_topo_nranks(topo);
  mci_topo_destroy(topo);
  if (run->nranks == 0 && nranks <= MCI_RUN_MAX_RANKS) run->nranks = (int)nranks;
  if ((uint32_t)run->nranks != nranks)
    return complain("--topo %s has %u ranks, but -n is %d; at most %d run on one machine", run->topo, nranks,
                    run->nranks, MCI_RUN_MAX_RANKS);
  return 0;
}

static int parse_arguments(int argc, char** argv, mci_run* run, bool* help) {
  static const struct option names[] = {{"ranks", required_argument, NULL, 'n'},
                                        {"topo", required_argument, NULL, 't'},
                                        {"no-label", no_argument, NULL, 'L'},
                                        {"help", no_argument, NULL, 'h'},
                                        {0}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "+:n:t:h", names, NULL)) != -1;) {
    int status = 0;
    switch (c) {
      case 'n':
        status = parse_ranks(optarg, &run->nranks);
        break;
      case 't':
        run->topo = optarg;
        break;
      case 'L':
        run->label = false;
        break;
      case 'h':
        *help = true;
        return 0;
      case ':':
        return complain("%s needs a value; meshccl run --help lists the options", argv[optind - 1]);
      default:
        return complain(
            "unknown option %s; meshccl run --help lists the options. Options of the program stand behind it",
            argv[optind - 1]);
    }
    if (status) return status;
  }
  run->program = argv + optind;
  int status = check_topo(run);
  if (status) return status;
  if (run->nranks == 0) return complain("how many ranks? Say -n N or --topo SPEC");
  if (!run->program[0]) return complain("no program is given: meshccl run -n %d -- PROGRAM", run->nranks);
  return 0;
}

/* ---- the end of ranks ---- */

static void signal_all(const mci_run* run, int number) {
  for (int r = 0; r < run->nranks; r++)
    if (run->ranks[r].pid > 0) kill(-run->ranks[r].pid, number);
}

/* Ranks that were just told to stop by a signal may still be cleaning up: then TERM waits as long as KILL after TERM.
 */
static void end_all(mci_run* run) {
  if (run->next_signal) return;
  run->next_signal = SIGTERM;
  run->due_ns = mci_now_ns() + (run->passed_on ? GRACE_NS : 0);
}

static void press(mci_run* run) {
  if (!run->next_signal || mci_now_ns() < run->due_ns) return;
  signal_all(run, run->next_signal);
  signal_all(run, SIGCONT);
  run->next_signal = SIGKILL;
  run->due_ns = mci_now_ns() + GRACE_NS;
}

static int rank_of(const mci_run* run, pid_t pid) {
  for (int r = 0; r < run->nranks; r++)
    if (run->ranks[r].pid == pid) return r;
  return -1;
}

static void report_failure(mci_run* run, int rank, pid_t pid, int status) {
  const char* rest = run->nrunning > 0 ? "; ending the others" : "";
  if (WIFSIGNALED(status)) {
    int number = WTERMSIG(status);
    run->status = 128 + number;
    fprintf(stderr, "meshccl run: rank %d (process %d) was killed by signal %d (%s)%s\n", rank, (int)pid, number,
            strsignal(number), rest);
  } else {
    run->status = WEXITSTATUS(status);
    fprintf(stderr, "meshccl run: rank %d (process %d) ended with status %d%s\n", rank, (int)pid, run->status, rest);
  }
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
    int rank = rank_of(run, pid);
    if (rank < 0) continue;
    run->ranks[rank].pid = 0;
    run->nrunning--;
    if (status == 0 || (worst >= 0 && (WIFSIGNALED(worst_status) || !WIFSIGNALED(status)))) continue;
    worst = rank;
    worst_status = status;
    worst_pid = pid;
  }
  if (worst < 0 || run->status != 0) return;
  read_last_words(&run->ranks[worst]);
  report_failure(run, worst, worst_pid, worst_status);
  end_all(run);
}

/* ---- the loop ---- */

static void take_signals(mci_run* run) {
  struct signalfd_siginfo info;
  while (read(run->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
    if (info.ssi_signo == SIGCHLD) {
      reap(run);
    } else {
      run->passed_on = true;
      signal_all(run, (int)info.ssi_signo);
    }
  }
}

/* A terminal belongs to the launcher's process group, so rank 0 gets its lines through a pipe. */
static void pump_input(mci_run* run) {
  char data[4096];
  ssize_t n = read(STDIN_FILENO, data, sizeof data);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n > 0 && write(run->input_fd, data, (size_t)n) >= 0) return;
  close(run->input_fd);
  run->input_fd = -1;
}

/* Our input when rank 0 can take it, else the moment when it can. */
static struct pollfd input_wish(const mci_run* run) {
  struct pollfd writable = {.fd = run->input_fd, .events = POLLOUT};
  if (run->input_fd >= 0 && poll(&writable, 1, 0) == 0) return writable;
  return (struct pollfd){.fd = run->input_fd >= 0 ? STDIN_FILENO : -1, .events = POLLIN};
}

static int time_left_ms(const mci_run* run) {
  if (!run->next_signal) return -1;
  uint64_t now = mci_now_ns();
  return now >= run->due_ns ? 0 : (int)((run->due_ns - now) / 1000000 + 1);
}

static void serve(mci_run* run, struct pollfd* polled) {
  nfds_t n = 0;
  polled[n++] = (struct pollfd){.fd = run->signal_fd, .events = POLLIN};
  polled[n++] = input_wish(run);
  for (int r = 0; r < run->nranks; r++)
    for (int i = 0; i < 2; i++) polled[n++] = (struct pollfd){.fd = run->ranks[r].streams[i].fd, .events = POLLIN};
  if (poll(polled, n, time_left_ms(run)) < 0) return;
  for (nfds_t k = 2; k < n; k++)
    if (polled[k].revents) mci_run_stream_read(&run->ranks[(k - 2) / 2].streams[k % 2]);
  if (polled[1].revents && polled[1].fd == STDIN_FILENO) pump_input(run);
  if (polled[0].revents) take_signals(run);
  press(run);
}

static void finish_output(mci_run* run) {
  for (int r = 0; r < run->nranks; r++) {
    for (int i = 0; i < 2; i++) {
      mci_run_stream* stream = &run->ranks[r].streams[i];
      while (stream->fd >= 0 && poll(&(struct pollfd){.fd = stream->fd, .events = POLLIN}, 1, 0) == 1)
        mci_run_stream_read(stream);
      mci_run_stream_close(stream);
    }
  }
}

static int start_and_watch(mci_run* run, struct pollfd* polled) {
  for (int rank = 0; rank < run->nranks && run->status == 0; rank++) {
    run->status = mci_run_spawn(run, rank);
    if (run->status != 0) end_all(run);
  }
  while (run->nrunning > 0) serve(run, polled);
  mci_run_sweep();
  finish_output(run);
  if (run->input_fd >= 0) close(run->input_fd);
  return run->status;
}

/* ---- preparation ---- */

static void raise_file_limit(mci_run* run) {
  getrlimit(RLIMIT_NOFILE, &run->files_before);
  struct rlimit raised = run->files_before;
  rlim_t need = (rlim_t)run->nranks * 2 + 64;
  if (raised.rlim_cur >= need) return;
  raised.rlim_cur = MCI_MIN(need, raised.rlim_max);
  setrlimit(RLIMIT_NOFILE, &raised);
}

static int prepare(mci_run* run) {
  mci_id id;
  mci_str text = {0};
  if (mci_id_create(&id) != meshcclSuccess) return complain("%s", mci_error_last());
  mci_id_print(&id, &text);
  run->id = text.text;
  run->ranks = mci_alloc((size_t)run->nranks * sizeof *run->ranks);
  if (!run->id || !run->ranks) return complain("out of memory");
  for (int r = 0; r < run->nranks; r++) run->ranks[r].streams[0].fd = run->ranks[r].streams[1].fd = -1;
  raise_file_limit(run);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTTIN, SIG_IGN); /* in the background: the read fails, and rank 0 finds the end of its input */
  sigemptyset(&run->signals);
  static const int numbers[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
  for (size_t i = 0; i < MCI_COUNT(numbers); i++) sigaddset(&run->signals, numbers[i]);
  sigprocmask(SIG_BLOCK, &run->signals, &run->signals_before);
  run->signal_fd = signalfd(-1, &run->signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (run->signal_fd < 0) return complain("signalfd: %s", strerror(errno));
  return 0;
}

int mci_tool_run(int argc, char** argv) {
  mci_run run = {.label = true, .signal_fd = -1, .input_fd = -1};
  bool help = false;
  int status = parse_arguments(argc, argv, &run, &help);
  if (status) return status;
  if (help) {
    fputs(usage, stdout);
    return 0;
  }
  struct pollfd* polled = NULL;
  if (prepare(&run) == 0 && (polled = mci_alloc(sizeof *polled * ((size_t)run.nranks * 2 + 2))))
    status = start_and_watch(&run, polled);
  else
    status = 1;
  if (run.signal_fd >= 0) close(run.signal_fd);
  mci_free(polled);
  mci_free(run.ranks);
  mci_free(run.id);
  return status;
}
