/* meshccl top: shows what the ranks of a running job do: operation, step, whom each waits for, bytes per link, and how
 * long nothing has moved. Asks one process of the job, which asks the rest along the control tree; read-only. */
#include "tools/top.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "tools/tools.h"

#define ANSWERS_NS 2000000000ull
#define HEAD_LINES 12

static const char usage[] =
    "usage: meshccl top PID [--once | --json] [--interval SECONDS]\n"
    "\n"
    "Shows the ranks of a running job: operation, step, whom each waits for, bytes per link, time without progress.\n"
    "PID is any process of the job on this host, or its launcher; without it, the processes that can be asked are\n"
    "listed. A rank that gives no answer within 2 seconds is shown so: its process is stopped, or its caller drives\n"
    "everything (MESHCCL_PROGRESS_THREAD=0) and is outside of calls.\n"
    "\n"
    "  --once              print one table and end\n"
    "  --json              the same as one JSON object\n"
    "  -i, --interval S    seconds between two looks (default 1)\n"
    "  -h, --help          this text\n"
    "\n"
    "Only the job's own user may look, and must know its secret: MESHCCL_ID, or MESHCCL_SECRET or "
    "MESHCCL_SECRET_FILE,\n"
    "where set; else they are read from the process. What is shown is the communicator of that id.\n";

typedef struct {
  int32_t pid;
  bool once, json, help;
  double interval;
} options;

static int complain(const char* format, ...) MCI_PRINTF(1, 2);
static int complain(const char* format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "meshccl top: ");
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  return 2;
}

static int parse_pid(int argc, char** argv, options* out) {
  if (optind == argc) {
    mci_str list = {0};
    mci_top_candidates(&list);
    complain("which process? %s%s", list.text ? "These can be asked:\n" : "No process of this user can be asked",
             list.text ? list.text : "");
    mci_str_fini(&list);
    return 2;
  }
  char* end;
  errno = 0;
  long pid = strtol(argv[optind], &end, 10);
  if (end == argv[optind] || *end || errno || pid < 1 || pid > INT32_MAX)
    return complain("%s is not the number of a process", argv[optind]);
  if (optind + 1 < argc) return complain("one process is enough, %s is left over", argv[optind + 1]);
  out->pid = (int32_t)pid;
  return 0;
}

static int parse(int argc, char** argv, options* out) {
  static const struct option names[] = {{"once", no_argument, NULL, 'o'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"interval", required_argument, NULL, 'i'},
                                        {"help", no_argument, NULL, 'h'},
                                        {0}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, ":i:h", names, NULL)) != -1;) {
    char* end = NULL;
    switch (c) {
      case 'o':
        out->once = true;
        break;
      case 'j':
        out->json = true;
        break;
      case 'i':
        out->interval = strtod(optarg, &end);
        if (end == optarg || *end || !(out->interval >= 0.2 && out->interval <= 3600))
          return complain("--interval %s: seconds from 0.2 to 3600 are wanted", optarg);
        break;
      case 'h':
        out->help = true;
        return 0;
      case ':':
        return complain("%s needs a value; meshccl top --help lists the options", argv[optind - 1]);
      default:
        return complain("unknown option %s; meshccl top --help lists the options", argv[optind - 1]);
    }
  }
  return parse_pid(argc, argv, out);
}

static int most_ranks(const options* o) {
  struct winsize window;
  if (o->once || ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_row == 0) return INT32_MAX;
  return MCI_MAX((int)window.ws_row - HEAD_LINES, 1);
}

static meshcclResult_t look(mci_watch* watch, const options* o, mci_rank_status* status, bool* answered) {
  MCI_TRY(mci_watch_ask(watch, ANSWERS_NS, status, answered));
  mci_top_view view = {.name = mci_watch_name(watch),
                       .nranks = mci_watch_nranks(watch),
                       .through = mci_watch_rank(watch),
                       .pid = o->pid,
                       .status = status,
                       .answered = answered};
  for (int r = 0; r < view.nranks; r++) view.answered_count += answered[r];
  mci_str text = {0};
  if (o->json) {
    mci_top_json(&view, &text);
  } else {
    if (!o->once && isatty(STDOUT_FILENO)) mci_str_add(&text, "\033[H\033[2J");
    mci_top_text(&view, most_ranks(o), &text);
  }
  meshcclResult_t result = mci_str_result(&text);
  if (result == meshcclSuccess) fputs(text.text, stdout);
  fflush(stdout);
  mci_str_fini(&text);
  return result;
}

static meshcclResult_t show(mci_watch* watch, const options* o) {
  size_t n = (size_t)mci_watch_nranks(watch);
  mci_rank_status* status = mci_alloc(n * sizeof *status);
  bool* answered = mci_alloc(n * sizeof *answered);
  meshcclResult_t result = status && answered ? meshcclSuccess : mci_oom(n * sizeof *status);
  while (result == meshcclSuccess) {
    result = look(watch, o, status, answered);
    if (o->once || o->json || result != meshcclSuccess) break;
    struct timespec pause = {.tv_sec = (time_t)o->interval,
                             .tv_nsec = (long)((o->interval - (double)(time_t)o->interval) * 1e9)};
    nanosleep(&pause, NULL);
  }
  mci_free(status);
  mci_free(answered);
  return result;
}

int mci_tool_top(int argc, char** argv) {
  options o = {.interval = 1};
  int status = parse(argc, argv, &o);
  if (status) return status;
  if (o.help) {
    fputs(usage, stdout);
    return 0;
  }
  mci_id id;
  mci_watch* watch = NULL;
  o.pid = mci_top_process(o.pid);
  meshcclResult_t result = mci_top_id(o.pid, &id);
  if (result == meshcclSuccess) result = mci_watch_open(o.pid, &id, &watch);
  if (result == meshcclSuccess) result = show(watch, &o);
  mci_watch_close(watch);
  if (result == meshcclSuccess) return 0;
  complain("%s", mci_error_last());
  return 1;
}
