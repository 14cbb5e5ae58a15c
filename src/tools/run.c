/* meshccl run: options, and the front end for the ranks of this machine alone: they write to our own output and rank 0
 * reads our own input. Several hosts are the affair of run_hosts.c and run_remote.c. */
#define _GNU_SOURCE
#include "tools/run.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/boot.h"
#include "boot/topology.h"
#include "tools/run_hosts.h"
#include "tools/tools.h"
#include "topo/graph.h"

static const char usage[] =
    "usage: meshccl run -n N [--topo SPEC] [--no-label] -- PROGRAM [ARGUMENTS]\n"
    "       meshccl run -H HOST:SLOTS,... [-n N] [options] -- PROGRAM [ARGUMENTS]\n"
    "\n"
    "Starts N ranks of PROGRAM on this machine or on the hosts named, and returns the status of the first that fails\n"
    "(128 + signal when it was killed); then all others are ended.\n"
    "\n"
    "  -n, --ranks N     number of ranks; with hosts: unset is one per slot\n"
    "  -t, --topo SPEC   topology of the ranks, such as torus:2x2 (sets MESHCCL_TOPO); N may be left out\n"
    "      --no-label    do not put [rank] before each line of output\n"
    "      --bind WHAT   core: each rank stays on one core of those that this program may use, in turn; none: the "
    "kernel\n"
    "                    places them. Default: core where no core of a host is left without a rank, else none\n"
    "  -x NAME[=VALUE]   pass this variable to the ranks; MESHCCL_* are passed anyway; may be repeated\n"
    "  -h, --help        this text\n"
    "\n"
    "Several hosts:\n"
    "  -H, --hosts LIST  hosts and how many ranks each takes, such as a:4,b:2\n"
    "      --hostfile FILE   the same from a file: lines \"a slots=4\" or \"a:4\", # begins a comment\n"
    "      --ssh COMMAND what reaches a host (default: MESHCCL_RUN_SSH, or \"" MCI_RUN_SSH
    "\"); {host} stands for\n"
    "                    the host's name, which is appended where it is missing; then comes the word \"sh\"\n"
    "      --prefix DIR  meshccl on the hosts is DIR/bin/meshccl (default: this program's path, then PATH)\n"
    "      --remote-command COMMAND  shell text that starts meshccl on the hosts, without the subcommand\n"
    "      --wdir DIR    working folder of the ranks (default: this one, or the home folder where it is missing)\n"
    "\n"
    "Rank 0 reads the launcher's input, the others none. Signals INT, TERM and HUP are passed on.\n"
    "The ranks find MESHCCL_RANK, MESHCCL_SIZE, MESHCCL_LOCAL_RANK, MESHCCL_LOCAL_SIZE and MESHCCL_ID.\n";

int mci_run_complain(const char* format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "meshccl run: ");
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  return 2;
}

/* ---- arguments ---- */

static int parse_ranks(const char* text, int* out) {
  char* end;
  errno = 0;
  long n = strtol(text, &end, 10);
  if (end == text || *end || errno || n < 1 || n > MCI_RUN_MAX_RANKS)
    return mci_run_complain("-n %s: a whole number from 1 to %d is wanted", text, MCI_RUN_MAX_RANKS);
  *out = (int)n;
  return 0;
}

static int add_export(mci_run_options* o, const char* text) {
  size_t length = strcspn(text, "=");
  const char* value = text[length] ? NULL : getenv(text);
  if (length == 0) return mci_run_complain("-x %s: a name is missing; write -x NAME or -x NAME=VALUE", text);
  if (!text[length] && !value)
    return mci_run_complain("-x %s: that variable is not set; write -x %s=VALUE", text, text);
  mci_str pair = {0};
  mci_str_add(&pair, value ? "%s=%s" : "%s", text, value);
  char** grown = mci_realloc(o->exports, (o->nexports + 2) * sizeof *grown);
  if (grown) o->exports = grown;
  if (!grown || !pair.text) {
    mci_str_fini(&pair);
    return mci_run_complain("out of memory");
  }
  grown[o->nexports++] = pair.text;
  grown[o->nexports] = NULL;
  return 0;
}

enum { HOSTFILE = 256, SSH, PREFIX, COMMAND, FOLDER, NO_LABEL, BIND };

static const struct option names[] = {{"ranks", required_argument, NULL, 'n'},
                                      {"topo", required_argument, NULL, 't'},
                                      {"no-label", no_argument, NULL, NO_LABEL},
                                      {"bind", required_argument, NULL, BIND},
                                      {"hosts", required_argument, NULL, 'H'},
                                      {"host", required_argument, NULL, 'H'},
                                      {"hostfile", required_argument, NULL, HOSTFILE},
                                      {"ssh", required_argument, NULL, SSH},
                                      {"prefix", required_argument, NULL, PREFIX},
                                      {"remote-command", required_argument, NULL, COMMAND},
                                      {"wdir", required_argument, NULL, FOLDER},
                                      {"help", no_argument, NULL, 'h'},
                                      {0}};

static int parse_binding(const char* text, mci_run_binding* out) {
  bool core = strcmp(text, "core") == 0;
  if (!core && strcmp(text, "none") != 0)
    return mci_run_complain("--bind %s: ranks are bound to a core or to none; write --bind core or --bind none", text);
  *out = core ? MCI_RUN_BIND_CORE : MCI_RUN_BIND_NONE;
  return 0;
}

static const char** text_option(mci_run_options* o, int c) {
  switch (c) {
    case 't':
      return &o->topo;
    case 'H':
      return &o->hosts;
    case HOSTFILE:
      return &o->hostfile;
    case SSH:
      return &o->ssh;
    case PREFIX:
      return &o->prefix;
    case COMMAND:
      return &o->command;
    case FOLDER:
      return &o->folder;
    default:
      return NULL;
  }
}

static int take_option(mci_run_options* o, int c, char** argv) {
  const char** text = text_option(o, c);
  if (text) {
    *text = optarg;
    return 0;
  }
  switch (c) {
    case 'n':
      return parse_ranks(optarg, &o->nranks);
    case 'x':
      return add_export(o, optarg);
    case BIND:
      return parse_binding(optarg, &o->bind);
    case NO_LABEL:
      o->label = false;
      return 0;
    case 'h':
      o->help = true;
      return 0;
    case ':':
      return mci_run_complain("%s needs a value; meshccl run --help lists the options", argv[optind - 1]);
    default:
      return mci_run_complain(
          "unknown option %s; meshccl run --help lists the options. Options of the program stand behind it",
          argv[optind - 1]);
  }
}

static int check_topo(mci_run_options* o) {
  mci_topo* topo;
  if (!o->topo) return 0;
  if (mci_topology_load(o->topo, &topo) != meshcclSuccess) return mci_run_complain("--topo: %s", mci_error_last());
  uint32_t nranks = mci_topo_nranks(topo);
  bool spec = mci_topology_is_spec(o->topo);
  meshcclResult_t printed = spec ? meshcclSuccess : mci_topo_print(topo, &o->machine);
  mci_topo_destroy(topo);
  if (printed != meshcclSuccess) return mci_run_complain("--topo: %s", mci_error_last());
  if (!spec) o->topo = o->machine.text;
  if (o->nranks == 0 && nranks <= MCI_RUN_MAX_RANKS) o->nranks = (int)nranks;
  if ((uint32_t)o->nranks != nranks)
    return mci_run_complain("--topo %s has %u ranks, but -n is %d; at most %d are started", o->topo, nranks, o->nranks,
                            MCI_RUN_MAX_RANKS);
  return 0;
}

static int parse_arguments(int argc, char** argv, mci_run_options* o) {
  opterr = 0;
  for (int c; !o->help && (c = getopt_long(argc, argv, "+:n:t:H:x:h", names, NULL)) != -1;) {
    int status = take_option(o, c, argv);
    if (status) return status;
  }
  if (o->help) return 0;
  o->program = argv + optind;
  bool remote = o->hosts || o->hostfile;
  const char* machine = mci_env("MESHCCL_TOPO"); /* a file may be missing on other hosts: what it says travels */
  if (remote && !o->topo && machine && !mci_topology_is_spec(machine)) o->topo = machine;
  int status = check_topo(o);
  if (status) return status;
  if (o->nranks == 0 && !remote) return mci_run_complain("how many ranks? Say -n N, --topo SPEC or -H HOST:SLOTS");
  if (!remote && (o->prefix || o->command || o->ssh))
    return mci_run_complain(
        "--ssh, --prefix and --remote-command are about hosts, but there is neither -H nor --hostfile");
  if (!o->program[0]) return mci_run_complain("no program is given: meshccl run -n N -- PROGRAM");
  return 0;
}

/* ---- this machine alone ---- */

static void write_own(mci_run* run, int out, const char* data, size_t bytes) {
  (void)run;
  mci_run_write_all(out, data, bytes);
}

static void say_own(mci_run* run, const char* text) {
  (void)run;
  mci_run_complain("%s", text);
}

static void report_failure(mci_run* run, int rank, pid_t pid, int status) {
  char text[256];
  mci_run_describe(rank, pid, status, text, sizeof text);
  mci_run_complain("%s%s", text, run->nrunning > 0 ? "; ending the others" : "");
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
static void input_wish(mci_run* run, struct pollfd out[MCI_RUN_WISHES]) {
  struct pollfd writable = {.fd = run->input_fd, .events = POLLOUT};
  bool full = run->input_fd >= 0 && poll(&writable, 1, 0) == 0;
  out[0] = (struct pollfd){.fd = run->input_fd >= 0 && !full ? STDIN_FILENO : -1, .events = POLLIN};
  out[1] = (struct pollfd){.fd = full ? run->input_fd : -1, .events = POLLOUT};
}

static void input_ready(mci_run* run, const struct pollfd polled[MCI_RUN_WISHES]) {
  if (polled[0].revents && run->input_fd >= 0) pump_input(run);
}

static const mci_run_front own_front = {write_own, report_failure, say_own, input_wish, input_ready};

static int run_here(const mci_run_options* o) {
  mci_run run = {.nranks = o->nranks,
                 .nlocal = o->nranks,
                 .label = o->label,
                 .captures = o->label,
                 .bind = o->bind,
                 .topo = o->topo,
                 .program = o->program,
                 .exports = o->exports,
                 .listen_fd = -1,
                 .signal_fd = -1,
                 .feeds_input = isatty(STDIN_FILENO) == 1,
                 .input_fd = -1,
                 .front = &own_front};
  mci_id id;
  mci_str text = {0};
  if (o->folder && chdir(o->folder) != 0) return mci_run_complain("--wdir %s: %s", o->folder, strerror(errno));
  if (mci_id_create(&id) == meshcclSuccess) mci_id_print(&id, &text);
  run.id = text.text;
  int status = 0;
  if (!run.id) status = mci_run_complain("no id: %s", mci_error_last()) - 1;
  if (!status) status = mci_run_take_signals(&run);
  if (!status) status = mci_run_ranks(&run);
  if (run.signal_fd >= 0) close(run.signal_fd);
  mci_str_fini(&text);
  return status;
}

int mci_tool_run(int argc, char** argv) {
  mci_run_options o = {.label = true};
  int status = parse_arguments(argc, argv, &o);
  if (!status && o.help) {
    fputs(usage, stdout);
  } else if (!status) {
    status = o.hosts || o.hostfile ? mci_run_over_hosts(&o, run_here) : run_here(&o);
  }
  for (size_t i = 0; i < o.nexports; i++) mci_free(o.exports[i]);
  mci_free(o.exports);
  mci_str_fini(&o.machine);
  return status;
}
