/* Brings up the agent of one host: a command such as ssh with the word "sh", and one line of shell on its input that
 * looks for meshccl there and becomes the agent. Nothing has to be quoted, and whatever can start a shell somewhere
 * will do (ssh, docker exec -i, ip netns exec). For this machine the program executes itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "tools/run_hosts.h"

#define MAX_WORDS 64

/* ---- the command ---- */

/* A word of the command with {host} replaced; *named when it was there. */
static char* fill_in(const char* word, size_t length, const char* host, bool* named) {
  mci_str text = {0};
  mci_str_add(&text, "%s", "");
  for (size_t i = 0; i < length;) {
    if (length - i >= 6 && memcmp(word + i, "{host}", 6) == 0) {
      mci_str_add(&text, "%s", host);
      *named = true;
      i += 6;
    } else {
      mci_str_add(&text, "%c", word[i++]);
    }
  }
  if (text.failed) mci_str_fini(&text);
  return text.text;
}

/* Words are separated by blanks. Ends with NULL. */
static int split_command(const char* command, const char* host, char* words[MAX_WORDS]) {
  int n = 0;
  bool named = false;
  for (const char* at = command + strspn(command, " \t"); *at; at += strspn(at, " \t")) {
    size_t length = strcspn(at, " \t");
    if (n == MAX_WORDS - 3) return mci_run_complain("--ssh: more than %d words", MAX_WORDS - 3) - 1;
    words[n++] = fill_in(at, length, host, &named);
    at += length;
  }
  if (n == 0) return mci_run_complain("--ssh: the command is empty; the default is %s", MCI_RUN_SSH) - 1;
  if (!named) words[n++] = mci_strdup(host);
  words[n++] = mci_strdup("sh");
  for (int i = 0; i < n; i++)
    if (!words[i]) return mci_run_complain("out of memory") - 1;
  return 0;
}

/* In single quotes, for a shell. */
static void quote(const char* text, mci_str* out) {
  mci_str_add(out, "'");
  for (; *text; text++) mci_str_add(out, *text == '\'' ? "'\\''" : "%c", *text);
  mci_str_add(out, "'");
}

/* One compound command, so that the shell has read all of it before the agent reads the same input, and runs nothing of
 * what comes behind it. */
static void write_script(const mci_run_options* o, mci_str* out) {
  char self[4096];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  self[MCI_MAX(n, 0)] = 0;
  if (o->command) {
    mci_str_add(out, "{ %s run-agent; exit $?; }\n", o->command);
    return;
  }
  mci_str_add(out, "{ m=");
  if (o->prefix) {
    mci_str prefix = {0};
    mci_str_add(&prefix, "%s/bin/meshccl", o->prefix);
    quote(prefix.text ? prefix.text : "", out);
    mci_str_fini(&prefix);
    mci_str_add(out, "; [ -x \"$m\" ] || { echo \"there is no program $m\" >&2; exit 127; }");
  } else {
    quote(self, out);
    mci_str_add(out,
                "; [ -x \"$m\" ] || m=$(command -v meshccl) || { echo \"no meshccl in PATH=$PATH\" >&2; exit 127; }");
  }
  mci_str_add(out, "; exec \"$m\" run-agent; }\n");
}

/* ---- the process ---- */

static void become_command(char** words, const sigset_t* signals, const int ends[6]) __attribute__((noreturn));
static void become_command(char** words, const sigset_t* signals, const int ends[6]) {
  setsid(); /* a terminal's Ctrl-C is for the launcher, which passes it on; nobody asks for a password */
  dup2(ends[0], STDIN_FILENO);
  dup2(ends[3], STDOUT_FILENO);
  dup2(ends[5], STDERR_FILENO);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGTTIN, SIG_DFL);
  sigprocmask(SIG_SETMASK, signals, NULL);
  if (strcmp(words[0], "meshccl") == 0 && words[1] && strcmp(words[1], "run-agent") == 0)
    execv("/proc/self/exe", words);
  else
    execvp(words[0], words);
  dprintf(STDERR_FILENO, "cannot start %s: %s\n", words[0], strerror(errno));
  _exit(127);
}

static int start_process(char** words, const sigset_t* signals, mci_run_process* out) {
  int ends[6] = {-1, -1, -1, -1, -1, -1};
  bool made = true;
  for (int i = 0; i < 6 && made; i += 2) made = pipe2(ends + i, O_CLOEXEC) == 0;
  fflush(NULL);
  pid_t pid = made ? fork() : -1;
  if (pid == 0) become_command(words, signals, ends);
  if (pid < 0) {
    mci_run_complain("%s: %s; fewer hosts, or raise ulimit -n and -u", words[0], strerror(errno));
    for (int i = 0; i < 6; i++)
      if (ends[i] >= 0) close(ends[i]);
    return 1;
  }
  close(ends[0]);
  close(ends[3]);
  close(ends[5]);
  *out = (mci_run_process){.pid = pid, .in = ends[1], .out = ends[2], .err = ends[4]};
  return 0;
}

int mci_run_start_agent(const mci_run_options* options, const char* host, const sigset_t* signals, mci_run_process* out,
                        mci_str* command_out) {
  char *words[MAX_WORDS] = {NULL}, name[] = "meshccl", tool[] = "run-agent", *own[] = {name, tool, NULL};
  mci_str script = {0};
  bool here = mci_run_host_is_here(host);
  const char* command = options->ssh ? options->ssh : mci_param_text(MCI_P_RUN_SSH);
  int status = here ? 0 : split_command(command ? command : MCI_RUN_SSH, host, words);
  if (!here) write_script(options, &script);
  if (!status && script.failed) status = mci_run_complain("out of memory") - 1;
  if (!status) status = start_process(here ? own : words, signals, out);
  if (!status && script.length > 0 && write(out->in, script.text, script.length) != (ssize_t)script.length) {
    /* a command that has ended already; its end is reported by who waits for it */
  }
  for (char** word = here ? own : words; command_out && *word; word++)
    mci_str_add(command_out, "%s%s", word == own || word == words ? "" : " ", *word);
  for (int i = 0; i < MAX_WORDS; i++) mci_free(words[i]);
  mci_str_fini(&script);
  return status;
}
