/* meshccl run over several hosts: starts an agent on each, hands out the id, and passes output, input, signals and the
 * end of the run between the user and the agents. One thread that sleeps in poll. No rank starts before every host has
 * answered; when one fails, all are ended; a host that does not end in time is given up and named. */
#include "tools/run_remote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define PER_HOST 3 /* descriptors to poll */

extern char** environ;

/* ---- what comes from the user ---- */

static void pump_input(mci_run_launcher* l) {
  char data[MCI_RUN_INPUT_MAX];
  ssize_t n = read(STDIN_FILENO, data, sizeof data);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  l->wants_input = false;
  mci_run_channel_send(&l->remotes[0].channel, MCI_RUN_INPUT, data, (size_t)MCI_MAX(n, 0));
}

static void pass_signal(mci_run_launcher* l, int number) {
  mci_run_bytes bytes = {0};
  if (!l->going) {
    mci_run_complain("signal %d (%s) before all hosts were ready", number, strsignal(number));
    mci_run_remote_end(l, 128 + number);
  }
  mci_run_bytes_number(&bytes, number);
  for (uint32_t i = 0; i < l->n && l->going; i++)
    if (l->remotes[i].state == HOST_RUNNING)
      mci_run_channel_send(&l->remotes[i].channel, MCI_RUN_SIGNAL, bytes.data, bytes.n);
  mci_run_bytes_free(&bytes);
}

/* When a command has ended, its agent shall see the end of its input even if something still holds the pipe's other
 * ends: we let go of ours. */
static void reap(mci_run_launcher* l) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    for (uint32_t i = 0; i < l->n; i++) {
      mci_run_remote* r = &l->remotes[i];
      if (r->process.pid != pid) continue;
      r->process.pid = 0;
      r->exited = true;
      r->exit_status = status;
      if (r->channel.out >= 0) close(r->channel.out);
      r->channel.out = -1;
    }
  }
}

static void take_signals(mci_run_launcher* l) {
  struct signalfd_siginfo info;
  while (read(l->run.signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
    if (info.ssi_signo == SIGCHLD)
      reap(l);
    else
      pass_signal(l, (int)info.ssi_signo);
  }
}

/* ---- the loop ---- */

static int time_left_ms(const mci_run_launcher* l) {
  for (uint32_t i = 0; i < l->n; i++)
    if (l->remotes[i].linger_ns) return 100;
  if (l->going && !l->ending) return -1;
  uint64_t now = mci_now_ns();
  return now >= l->due_ns ? 0 : (int)((l->due_ns - now) / 1000000 + 1);
}

static struct pollfd* wish(const mci_run_launcher* l, struct pollfd* polled) {
  polled[0] = (struct pollfd){.fd = l->run.signal_fd, .events = POLLIN};
  polled[1] = (struct pollfd){.fd = l->wants_input && !l->ending ? STDIN_FILENO : -1, .events = POLLIN};
  struct pollfd* of_remotes = polled + 2;
  for (uint32_t i = 0; i < l->n; i++) {
    const mci_run_remote* r = &l->remotes[i];
    of_remotes[i * PER_HOST] = (struct pollfd){.fd = r->channel.in, .events = POLLIN};
    of_remotes[i * PER_HOST + 1] = (struct pollfd){.fd = r->channel.due.n > 0 ? r->channel.out : -1, .events = POLLOUT};
    of_remotes[i * PER_HOST + 2] = (struct pollfd){.fd = r->err, .events = POLLIN};
  }
  return of_remotes;
}

static void serve(mci_run_launcher* l, struct pollfd* polled) {
  struct pollfd* of_remotes = wish(l, polled);
  if (poll(polled, 2 + (nfds_t)l->n * PER_HOST, time_left_ms(l)) < 0) return;
  for (uint32_t i = 0; i < l->n; i++) {
    mci_run_remote* r = &l->remotes[i];
    const struct pollfd* p = of_remotes + (size_t)i * PER_HOST;
    if (p[2].revents) mci_run_remote_read_err(r);
    if (p[0].revents) mci_run_remote_read(l, r);
    if (p[1].revents) mci_run_channel_flush(&r->channel);
  }
  if (polled[1].revents) pump_input(l);
  if (polled[0].revents) take_signals(l);
  for (uint32_t i = 0; i < l->n; i++) mci_run_remote_settle(l, &l->remotes[i]);
  mci_run_remote_watch(l);
}

static int start_remote(mci_run_launcher* l, mci_run_remote* r) {
  int status = mci_run_start_agent(l->options, r->host->name, &l->run.signals_before, &r->process, &r->command);
  if (status) return status;
  r->channel.in = r->process.out;
  r->channel.out = r->process.in;
  r->err = r->process.err;
  const int fds[] = {r->channel.in, r->channel.out, r->err};
  for (size_t i = 0; i < MCI_COUNT(fds); i++) fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
  r->state = HOST_REACHING;
  l->nopen++;
  return 0;
}

static void launch(mci_run_launcher* l, struct pollfd* polled) {
  l->due_ns = mci_now_ns() + (uint64_t)(mci_param_seconds(MCI_P_INIT_TIMEOUT) * 1e9);
  for (uint32_t i = 0; i < l->n && !l->status; i++) {
    int status = start_remote(l, &l->remotes[i]);
    if (status) mci_run_remote_end(l, status);
  }
  while (l->nopen > 0) serve(l, polled);
}

/* ---- preparation ---- */

static void raise_file_limit(const mci_run_launcher* l) {
  struct rlimit limit;
  rlim_t need = (rlim_t)l->n * PER_HOST + 64;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) return;
  limit.rlim_cur = MCI_MIN(need, limit.rlim_max);
  setrlimit(RLIMIT_NOFILE, &limit);
}

/* Variables of this library go to all ranks, but for those that say who and where a process is. */
static bool travels(const char* entry) {
  static const char* const stay[] = {
      "RANK=", "SIZE=", "LOCAL_RANK=", "LOCAL_SIZE=", "ID=", "LISTEN_FD=", "HOST_ID=", "RUN_SSH="};
  if (strncmp(entry, "MESHCCL_", 8) != 0) return false;
  for (size_t i = 0; i < MCI_COUNT(stay); i++)
    if (strncmp(entry + 8, stay[i], strlen(stay[i])) == 0) return false;
  return true;
}

/* Those of -x come last and win. */
static int export_variables(mci_run_options* o) {
  size_t n = 0, given = o->nexports;
  for (char** entry = environ; *entry; entry++) n += travels(*entry);
  char** all = mci_alloc((n + given + 1) * sizeof *all);
  if (!all) return mci_run_complain("out of memory") - 1;
  n = 0;
  bool good = true;
  for (char** entry = environ; *entry; entry++)
    if (travels(*entry)) good = (all[n++] = mci_strdup(*entry)) && good;
  for (size_t i = 0; i < given; i++) all[n++] = o->exports[i];
  mci_free(o->exports);
  o->exports = all;
  o->nexports = n;
  return good ? 0 : mci_run_complain("out of memory") - 1;
}

static void say_own(mci_run* run, const char* text) {
  (void)run;
  mci_run_complain("%s", text);
}
static const mci_run_front signals_only = {.say = say_own};

static int over_hosts(mci_run_options* options, mci_run_hosts* hosts) {
  mci_run_launcher l = {.options = options, .n = hosts->n, .run = {.front = &signals_only, .signal_fd = -1}};
  struct pollfd* polled = mci_alloc((2 + (size_t)hosts->n * PER_HOST) * sizeof *polled);
  l.remotes = mci_alloc(hosts->n * sizeof *l.remotes);
  int status = polled && l.remotes ? export_variables(options) : mci_run_complain("out of memory") - 1;
  for (uint32_t i = 0; !status && i < l.n; i++)
    l.remotes[i] =
        (mci_run_remote){.host = &hosts->list[i], .err = -1, .channel = {.in = -1, .out = -1}, .state = HOST_CLOSED};
  raise_file_limit(&l);
  if (!status) status = mci_run_take_signals(&l.run);
  if (!status) {
    launch(&l, polled);
    status = l.status;
  }
  for (uint32_t i = 0; l.remotes && i < l.n; i++) mci_str_fini(&l.remotes[i].command);
  if (l.run.signal_fd >= 0) close(l.run.signal_fd);
  mci_free(l.remotes);
  mci_free(polled);
  return status;
}

int mci_run_over_hosts(mci_run_options* options, int (*here)(const mci_run_options*)) {
  mci_run_hosts hosts;
  int status = mci_run_hosts_read(options->hosts, options->hostfile, &hosts);
  if (status) return status;
  status = mci_run_hosts_place(&hosts, &options->nranks);
  bool remote = false;
  for (uint32_t i = 0; i < hosts.n; i++) remote |= !mci_run_host_is_here(hosts.list[i].name);
  if (!status) status = remote ? over_hosts(options, &hosts) : here(options);
  mci_run_hosts_free(&hosts);
  return status;
}
