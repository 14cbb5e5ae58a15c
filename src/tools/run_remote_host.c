/* One host of a run: what its agent says, what its command prints, and how it ends. See run_remote.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "meshccl/meshccl.h"
#include "tools/run_remote.h"

#define END_NS (3 * MCI_RUN_GRACE_NS + 4000000000ull) /* from END to giving a host up */
#define LINGER_NS 3000000000ull                       /* a command whose output has ended */

static void close_end(int* fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

/* ---- the end ---- */

void mci_run_remote_end(mci_run_launcher* l, int status) {
  if (l->status == 0) l->status = status;
  if (l->ending) return;
  l->ending = true;
  l->due_ns = mci_now_ns() + END_NS;
  for (uint32_t i = 0; i < l->n; i++) {
    mci_run_remote* r = &l->remotes[i];
    if (r->state == HOST_REACHING && r->process.pid > 0)
      kill(-r->process.pid, SIGTERM); /* no agent, or it sees the end */
    if (r->state == HOST_REACHING) close_end(&r->channel.out);
    if (r->state > HOST_REACHING && r->state < HOST_DONE) mci_run_channel_send(&r->channel, MCI_RUN_END, NULL, 0);
  }
}

/* What the command printed, indented, for the end of a message. */
static const char* what_it_said(mci_run_remote* r, char* text, size_t size) {
  while (r->nsaid > 0 && (r->said[r->nsaid - 1] == '\n' || r->said[r->nsaid - 1] == '\r')) r->nsaid--;
  r->said[r->nsaid] = 0;
  size_t n = (size_t)snprintf(text, size, "%s", r->nsaid > 0 ? "; it printed:\n  " : "; it printed nothing");
  for (size_t i = 0; i < r->nsaid && n + 4 < size; i++) {
    text[n++] = r->said[i];
    if (r->said[i] == '\n') n += (size_t)snprintf(text + n, size - n, "  ");
  }
  text[n] = 0;
  r->nsaid = 0;
  return text;
}

static void describe_exit(const mci_run_remote* r, char* text, size_t size) {
  if (!r->exited)
    snprintf(text, size, "closed its output");
  else if (WIFSIGNALED(r->exit_status))
    snprintf(text, size, "was killed by signal %d (%s)", WTERMSIG(r->exit_status), strsignal(WTERMSIG(r->exit_status)));
  else
    snprintf(text, size, "ended with status %d", WEXITSTATUS(r->exit_status));
}

/* The command ended before the agent said that it was done. */
static void report_loss(mci_run_launcher* l, mci_run_remote* r) {
  char said[2 * MCI_RUN_SAID_MAX], how[128];
  if (l->ending) return;
  what_it_said(r, said, sizeof said);
  describe_exit(r, how, sizeof how);
  if (r->state == HOST_RUNNING)
    mci_run_complain("host %s: the agent of ranks %d to %d is gone: \"%s\" %s%s", r->host->name, r->host->first,
                     r->host->first + r->host->nranks - 1, r->command.text, how, said);
  else if (r->state != HOST_REACHING)
    mci_run_complain("host %s: the agent gave up before the ranks started: \"%s\" %s%s", r->host->name, r->command.text,
                     how, said);
  else if (r->exited && WIFEXITED(r->exit_status) && WEXITSTATUS(r->exit_status) == 127)
    mci_run_complain(
        "host %s: meshccl was not found there: \"%s\" %s%s\n"
        "install it there, or say where it is with --prefix DIR (for DIR/bin/meshccl) or --remote-command",
        r->host->name, r->command.text, how, said);
  else
    mci_run_complain("host %s cannot be reached: \"%s\" %s before an agent answered%s", r->host->name, r->command.text,
                     how, said);
  mci_run_remote_end(l, 1);
}

static void close_remote(mci_run_launcher* l, mci_run_remote* r) {
  if (r->state == HOST_CLOSED) return;
  if (r->state != HOST_DONE) report_loss(l, r);
  mci_run_channel_close(&r->channel);
  close_end(&r->err);
  r->state = HOST_CLOSED;
  l->nopen--;
}

/* ---- what comes from agents ---- */

static void print_said(mci_run_remote* r, bool all) {
  char* start = r->said;
  char* end = r->said + r->nsaid;
  for (char* line; (line = memchr(start, '\n', (size_t)(end - start))); start = line + 1)
    fprintf(stderr, "[%s] %.*s\n", r->host->name, (int)(line - start), start);
  if (all && start < end) {
    fprintf(stderr, "[%s] %.*s\n", r->host->name, (int)(end - start), start);
    start = end;
  }
  r->nsaid = (size_t)(end - start);
  memmove(r->said, start, r->nsaid);
}

/* Before the hello it is kept, the last MCI_RUN_SAID_MAX bytes of it, and becomes part of the message if there is one.
 */
static void keep_said(mci_run_remote* r, const char* data, size_t n) {
  if (n > MCI_RUN_SAID_MAX) {
    data += n - MCI_RUN_SAID_MAX;
    n = MCI_RUN_SAID_MAX;
  }
  if (r->nsaid + n > MCI_RUN_SAID_MAX) {
    size_t drop = r->nsaid + n - MCI_RUN_SAID_MAX;
    memmove(r->said, r->said + drop, r->nsaid - drop);
    r->nsaid -= drop;
  }
  if (n > 0) memcpy(r->said + r->nsaid, data, n);
  r->nsaid += n;
}

void mci_run_remote_read_err(mci_run_remote* r) {
  char data[1024];
  ssize_t n = read(r->err, data, sizeof data);
  if (n > 0) keep_said(r, data, (size_t)n);
  if (n > 0 && r->state >= HOST_READY) print_said(r, r->nsaid > MCI_RUN_SAID_MAX / 2);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) close_end(&r->err);
}

static void send_job(mci_run_launcher* l, mci_run_remote* r) {
  const mci_run_options* o = l->options;
  char folder[4096];
  mci_run_bytes bytes = {0};
  mci_run_job job = {.folder = o->folder ? o->folder : getcwd(folder, sizeof folder),
                     .folder_wanted = o->folder != NULL,
                     .first = r->host->first,
                     .nlocal = r->host->nranks,
                     .nranks = o->nranks,
                     .label = o->label,
                     .listens = r->host->first == 0,
                     .bind = (int)o->bind,
                     .topo = o->topo ? o->topo : "",
                     .exports = o->exports,
                     .nexports = (int)o->nexports,
                     .words = o->program};
  if (!job.folder) job.folder = "/";
  while (o->program[job.nwords]) job.nwords++;
  mci_run_job_pack(&job, &bytes);
  if (bytes.failed || bytes.n > MCI_RUN_FRAME_MAX) {
    mci_run_complain("the arguments and variables of the ranks are too long: %zu bytes", bytes.n);
    mci_run_remote_end(l, 1);
  } else {
    mci_run_channel_send(&r->channel, MCI_RUN_START, bytes.data, bytes.n);
  }
  mci_run_bytes_free(&bytes);
}

static bool check_version(mci_run_launcher* l, mci_run_remote* r, const char* hello) {
  char own[64], other[64] = "?";
  int protocol = 0;
  snprintf(own, sizeof own, "%d.%d.%d", MESHCCL_MAJOR, MESHCCL_MINOR, MESHCCL_PATCH);
  sscanf(hello, "%d %63s", &protocol, other);
  if (protocol == MCI_RUN_PROTOCOL && strcmp(own, other) == 0) return true;
  if (!l->ending)
    mci_run_complain(
        "host %s has meshccl %s (protocol %d), here is %s (protocol %d); install the same version there, or "
        "name it with --prefix or --remote-command",
        r->host->name, other, protocol, own, MCI_RUN_PROTOCOL);
  mci_run_remote_end(l, 1);
  return false;
}

/* Looks for the agent's line among what shells print before it. */
static void look_for_hello(mci_run_launcher* l, mci_run_remote* r) {
  static const char mark[] = "\n" MCI_RUN_HELLO " ";
  mci_run_bytes* got = &r->channel.got;
  char* at = got->n > 0 ? memmem(got->data, got->n, mark, sizeof mark - 1) : NULL;
  char* end = at ? memchr(at + 1, '\n', got->n - (size_t)(at + 1 - got->data)) : NULL;
  if (!end) {
    if (at || got->n < MCI_RUN_SAID_MAX) return;
    keep_said(r, got->data, got->n - sizeof mark);
    mci_run_bytes_drop(got, got->n - sizeof mark);
    return;
  }
  *end = 0;
  if (!check_version(l, r, at + sizeof mark - 1)) return;
  mci_run_bytes_drop(got, (size_t)(end + 1 - got->data));
  r->state = HOST_GREETED;
  if (!l->ending) send_job(l, r);
}

static void start_all(mci_run_launcher* l) {
  for (uint32_t i = 0; i < l->n; i++)
    if (l->remotes[i].state != HOST_READY) return;
  l->going = true;
  for (uint32_t i = 0; i < l->n; i++) {
    l->remotes[i].state = HOST_RUNNING;
    mci_run_channel_send(&l->remotes[i].channel, MCI_RUN_GO, l->id, strlen(l->id));
  }
}

static void take_ready(mci_run_launcher* l, mci_run_remote* r, const mci_run_frame* frame) {
  if (r->state != HOST_GREETED || frame->n >= sizeof l->id) return;
  r->state = HOST_READY;
  print_said(r, true);
  if (r->host->first == 0) memcpy(l->id, frame->data, frame->n);
  if (!l->ending) start_all(l);
}

static void take_failure(mci_run_launcher* l, mci_run_remote* r, mci_run_frame* frame) {
  char text[256];
  int rank = mci_run_take_number(frame), pid = mci_run_take_number(frame), how = mci_run_take_number(frame);
  int status = mci_run_describe(rank, pid, how, text, sizeof text);
  if (!l->ending) mci_run_complain("%s on host %s%s", text, r->host->name, l->nopen > 1 ? "; ending the others" : "");
  mci_run_remote_end(l, status);
}

static void take_frame(mci_run_launcher* l, mci_run_remote* r, mci_run_frame* frame) {
  switch (frame->type) {
    case MCI_RUN_READY:
      take_ready(l, r, frame);
      break;
    case MCI_RUN_OUT:
      mci_run_write_all(STDOUT_FILENO, frame->data, frame->n);
      break;
    case MCI_RUN_ERR:
      mci_run_write_all(STDERR_FILENO, frame->data, frame->n);
      break;
    case MCI_RUN_WANT:
      l->wants_input = r->host->first == 0;
      break;
    case MCI_RUN_FAILED:
      take_failure(l, r, frame);
      break;
    case MCI_RUN_SAY:
      if (!l->ending) mci_run_complain("host %s: %s", r->host->name, frame->data);
      break;
    case MCI_RUN_DONE: {
      int status = mci_run_take_number(frame);
      r->state = HOST_DONE;
      if (r->host->first == 0) l->wants_input = false;
      if (status) mci_run_remote_end(l, status);
      break;
    }
    default:
      break;
  }
}

void mci_run_remote_read(mci_run_launcher* l, mci_run_remote* r) {
  mci_run_channel_read(&r->channel);
  if (r->state == HOST_REACHING) look_for_hello(l, r);
  mci_run_frame frame;
  while (r->state != HOST_REACHING && mci_run_channel_next(&r->channel, &frame)) {
    take_frame(l, r, &frame);
    frame.data = frame.base;
    mci_run_frame_free(&frame);
  }
  if (r->channel.broken && !l->ending)
    mci_run_complain("host %s: what the agent says is not understood, or memory is short", r->host->name);
  if (r->channel.broken) mci_run_remote_end(l, 1);
  if (!r->channel.ended && !r->channel.broken) return;
  if (r->state == HOST_REACHING) keep_said(r, r->channel.got.data, r->channel.got.n);
  close_end(&r->channel.in);
}

/* ---- through, lost, late ---- */

/* A host is through when its agent's words have ended and its command has. Who keeps the output open after the command
 * has ended (something that it left behind) is not waited for, nor a command that goes on without output. */
void mci_run_remote_settle(mci_run_launcher* l, mci_run_remote* r) {
  if (r->state == HOST_CLOSED) return;
  if (r->exited && r->channel.in >= 0 && poll(&(struct pollfd){.fd = r->channel.in, .events = POLLIN}, 1, 0) == 0)
    close_end(&r->channel.in);
  if (r->channel.in >= 0) return;
  close_end(&r->channel.out);
  if (!r->exited) {
    if (!r->linger_ns) r->linger_ns = mci_now_ns() + LINGER_NS;
    if (mci_now_ns() > r->linger_ns && r->process.pid > 0) kill(-r->process.pid, SIGKILL);
    return;
  }
  r->linger_ns = 0;
  while (r->err >= 0 && poll(&(struct pollfd){.fd = r->err, .events = POLLIN}, 1, 0) == 1) mci_run_remote_read_err(r);
  if (r->state >= HOST_READY) print_said(r, true);
  close_remote(l, r);
}

static void give_up(mci_run_launcher* l, mci_run_remote* r) {
  mci_run_complain("host %s did not end in time and is given up; look there for what is left of ranks %d to %d",
                   r->host->name, r->host->first, r->host->first + r->host->nranks - 1);
  if (r->process.pid > 0) kill(-r->process.pid, SIGKILL);
  close_remote(l, r);
}

void mci_run_remote_watch(mci_run_launcher* l) {
  if ((l->going && !l->ending) || mci_now_ns() < l->due_ns) return;
  if (l->ending) {
    for (uint32_t i = 0; i < l->n; i++)
      if (l->remotes[i].state != HOST_CLOSED) give_up(l, &l->remotes[i]);
    return;
  }
  for (uint32_t i = 0; i < l->n; i++) {
    mci_run_remote* r = &l->remotes[i];
    char said[2 * MCI_RUN_SAID_MAX];
    if (r->state == HOST_READY) continue;
    mci_run_complain("host %s: \"%s\" gave no answer for %g s (MESHCCL_INIT_TIMEOUT)%s", r->host->name, r->command.text,
                     mci_param_seconds(MCI_P_INIT_TIMEOUT), what_it_said(r, said, sizeof said));
  }
  mci_run_remote_end(l, 1);
}
