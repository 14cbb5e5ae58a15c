/* meshccl run-agent: the ranks of one host of a run over several. Started by `meshccl run`, which it talks with over
 * its standard input and output (run_hosts.h). The ranks are served as on one host (run_ranks.c); output and messages
 * go into frames. When the channel closes, whatever the reason, the ranks are ended and nothing is left.
 *
 * The agent of rank 0 opens the listener at which the control tree's root will be found, before any rank runs, and
 * tells the launcher the id that holds its addresses; rank 0 inherits the listener. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/boot.h"
#include "meshccl/meshccl.h"
#include "tools/run_hosts.h"
#include "tools/tools.h"

typedef struct {
  mci_run_channel channel;
  mci_run_job job;
  mci_run_frame start; /* the job's texts */
  char id[2 * MCI_ID_BYTES + 1];
  bool asked; /* for input, which has not come yet */
} agent;

/* ---- front end of the ranks ---- */

static void write_frame(mci_run* run, int out, const char* data, size_t bytes) {
  agent* self = run->self;
  mci_run_channel_send(&self->channel, out == STDERR_FILENO ? MCI_RUN_ERR : MCI_RUN_OUT, data, bytes);
}

static void send_failure(mci_run* run, int rank, pid_t pid, int status) {
  agent* self = run->self;
  mci_run_bytes bytes = {0};
  mci_run_bytes_number(&bytes, rank);
  mci_run_bytes_number(&bytes, (int)pid);
  mci_run_bytes_number(&bytes, status);
  mci_run_channel_send(&self->channel, MCI_RUN_FAILED, bytes.data, bytes.n);
  mci_run_bytes_free(&bytes);
}

static void tell(agent* self, const char* format, ...) MCI_PRINTF(2, 3);
static void tell(agent* self, const char* format, ...) {
  char text[2048];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  mci_run_channel_send(&self->channel, MCI_RUN_SAY, text, strlen(text) + 1);
}

static void say_frame(mci_run* run, const char* text) { tell(run->self, "%s", text); }

/* Input is asked for when a whole frame of it fits into rank 0's pipe, so that passing it on never blocks. */
static void wish(mci_run* run, struct pollfd out[MCI_RUN_WISHES]) {
  agent* self = run->self;
  out[0] = (struct pollfd){.fd = self->channel.in, .events = POLLIN};
  out[1] = (struct pollfd){.fd = self->asked ? -1 : run->input_fd, .events = POLLOUT};
}

static void take_input(mci_run* run, const mci_run_frame* frame) {
  ((agent*)run->self)->asked = false;
  if (run->input_fd < 0) return;
  if (frame->n > 0 && frame->n <= MCI_RUN_INPUT_MAX && write(run->input_fd, frame->data, frame->n) >= 0) return;
  close(run->input_fd);
  run->input_fd = -1;
}

static void take_frames(mci_run* run) {
  agent* self = run->self;
  for (mci_run_frame frame; mci_run_channel_next(&self->channel, &frame); mci_run_frame_free(&frame)) {
    if (frame.type == MCI_RUN_INPUT) take_input(run, &frame);
    if (frame.type == MCI_RUN_END) mci_run_end(run);
    if (frame.type != MCI_RUN_SIGNAL) continue;
    int number = mci_run_take_number(&(mci_run_frame){.data = frame.data, .n = frame.n});
    if (number != SIGINT && number != SIGTERM && number != SIGHUP) continue;
    run->passed_on = true;
    mci_run_signal(run, number);
  }
}

static void ready(mci_run* run, const struct pollfd polled[MCI_RUN_WISHES]) {
  agent* self = run->self;
  if (polled[1].revents & (POLLERR | POLLNVAL)) { /* rank 0 closed its input */
    close(run->input_fd);
    run->input_fd = -1;
  } else if (polled[1].revents) {
    self->asked = true;
    mci_run_channel_send(&self->channel, MCI_RUN_WANT, NULL, 0);
  }
  if (!polled[0].revents) return;
  mci_run_channel_read(&self->channel);
  take_frames(run);
  if (!self->channel.ended && !self->channel.broken) return;
  close(self->channel.in);
  self->channel.in = -1;
  run->status = 1; /* nobody listens: no more reports */
  mci_run_end(run);
}

static const mci_run_front front = {write_frame, send_failure, say_frame, wish, ready};

/* ---- before the ranks run ---- */

/* Nothing but frames may get into the channel, so standard output becomes standard error for everybody else. */
static void take_channel(agent* self) {
  self->channel.in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
  self->channel.out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (nothing >= 0) {
    dup2(nothing, STDIN_FILENO);
    close(nothing);
  }
  dup2(STDERR_FILENO, STDOUT_FILENO);
  signal(SIGPIPE, SIG_IGN);
  char hello[128];
  int n = snprintf(hello, sizeof hello, "\n%s %d %d.%d.%d\n", MCI_RUN_HELLO, MCI_RUN_PROTOCOL, MESHCCL_MAJOR,
                   MESHCCL_MINOR, MESHCCL_PATCH);
  mci_run_write_all(self->channel.out, hello, (size_t)n);
}

/* False: the launcher went away. */
static bool await_frame(agent* self, mci_run_frame* out) {
  while (!mci_run_channel_next(&self->channel, out)) {
    if (self->channel.ended || self->channel.broken) return false;
    struct pollfd readable = {.fd = self->channel.in, .events = POLLIN};
    if (poll(&readable, 1, -1) == 1) mci_run_channel_read(&self->channel);
  }
  return true;
}

static int go_to_folder(agent* self) {
  const char *folder = self->job.folder, *home = mci_env("HOME");
  if (chdir(folder) == 0) return 0;
  if (self->job.folder_wanted || !home || chdir(home) != 0) {
    tell(self, "working folder %s: %s; make it there, or name another one with --wdir", folder, strerror(errno));
    return 1;
  }
  fprintf(stderr, "meshccl run: there is no working folder %s here; the ranks start in %s\n", folder, home);
  return 0;
}

/* An id that other hosts can join: this library's variables hold here as they do for the ranks. */
static meshcclResult_t publish(agent* self, mci_id* id, int* listen_fd) {
  for (char** pair = self->job.exports; *pair; pair++)
    if (strncmp(*pair, "MESHCCL_", 8) == 0) putenv(*pair);
  mci_params_reload();
  MCI_TRY(mci_id_create(id));
  MCI_TRY(mci_id_publish(id));
  *listen_fd = mci_id_take_listener(id, NULL, NULL, 0);
  return meshcclSuccess;
}

/* The agent of rank 0 makes the id. */
static int prepare(agent* self, mci_run* run) {
  mci_id id;
  mci_str text = {0};
  int status = go_to_folder(self);
  if (status) return status;
  if (self->job.listens) {
    if (publish(self, &id, &run->listen_fd) != meshcclSuccess) {
      tell(self, "%s", mci_error_last());
      return 1;
    }
    mci_id_print(&id, &text);
  }
  mci_run_channel_send(&self->channel, MCI_RUN_READY, text.text, text.length);
  mci_str_fini(&text);
  return 0;
}

/* 0 when the ranks may start. */
static int await_start(agent* self, mci_run* run) {
  if (!await_frame(self, &self->start)) return 1;
  if (self->start.type != MCI_RUN_START || !mci_run_job_unpack(&self->start, &self->job)) {
    tell(self, "the launcher's first words are not understood");
    return 1;
  }
  int status = prepare(self, run);
  mci_run_frame go;
  if (status || !await_frame(self, &go)) return 1;
  bool good = go.type == MCI_RUN_GO && go.n < sizeof self->id;
  if (good) memcpy(self->id, go.data, go.n);
  mci_run_frame_free(&go);
  return good ? 0 : 1;
}

static int start_ranks(agent* self, mci_run* run) {
  const mci_run_job* job = &self->job;
  run->nranks = job->nranks;
  run->first = job->first;
  run->nlocal = job->nlocal;
  run->label = job->label != 0;
  run->bind = (mci_run_binding)job->bind;
  run->captures = run->feeds_input = true;
  run->topo = job->topo[0] ? job->topo : NULL;
  run->program = job->words;
  run->exports = job->exports;
  run->id = self->id;
  int status = mci_run_take_signals(run);
  return status ? status : mci_run_ranks(run);
}

int mci_tool_run_agent(int argc, char** argv) {
  if (argc > 1 || isatty(STDIN_FILENO)) {
    fprintf(stderr, "meshccl run-agent%s%s is what meshccl run starts on each host; it is of no use by itself\n",
            argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
    return 2;
  }
  agent self = {.channel = {.in = -1, .out = -1}};
  mci_run run = {.front = &front, .self = &self, .listen_fd = -1, .signal_fd = -1, .input_fd = -1};
  take_channel(&self);
  int status = await_start(&self, &run);
  if (!status) status = start_ranks(&self, &run);
  char text[16];
  snprintf(text, sizeof text, "%d", status);
  bool lost = self.channel.in < 0 || self.channel.ended || self.channel.broken; /* then DONE would hide the loss */
  if (!lost) mci_run_channel_send(&self.channel, MCI_RUN_DONE, text, strlen(text) + 1);
  if (run.signal_fd >= 0) close(run.signal_fd);
  if (run.listen_fd >= 0) close(run.listen_fd);
  mci_run_job_free(&self.job);
  mci_run_frame_free(&self.start);
  mci_run_channel_close(&self.channel);
  return status;
}
