/* Inside of `meshccl run`: its options; the ranks of one host and their output (run_ranks.c, run_spawn.c,
 * run_output.c), which the launcher on one host and the agent on each of several hosts share; the list of hosts, and the
 * frames between a launcher and its agents. */
#ifndef MCI_TOOLS_RUN_H
#define MCI_TOOLS_RUN_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/base.h"

#define MCI_RUN_MAX_RANKS 4096
#define MCI_RUN_GRACE_NS 2000000000ull /* from SIGTERM to SIGKILL */

#define MCI_RUN_WISHES 2

/* EVEN: where each core gets a rank, bind them in turn, because the kernel often leaves three on one core and one on
 * another, and a collective is as slow as its slowest rank. With fewer ranks than cores two jobs would get the same ones.
 */
typedef enum { MCI_RUN_BIND_EVEN, MCI_RUN_BIND_NONE, MCI_RUN_BIND_CORE } mci_run_binding;

struct mci_run;

/* One pipe from a rank; whole lines leave through the front end, each behind the rank's label. */
typedef struct {
  int fd;  /* -1: closed */
  int out; /* STDOUT_FILENO or STDERR_FILENO */
  int rank;
  struct mci_run* run;
  char* line; /* the line so far */
  size_t length, capacity;
} mci_run_stream;

typedef struct {
  pid_t pid; /* also of its process group; 0: not running */
  mci_run_stream streams[2];
} mci_run_rank;

/* What the ranks of a host are served by: the terminal of the launcher, or the channel of an agent. */
typedef struct {
  /* Whole lines, labelled, for standard output or error. */
  void (*write)(struct mci_run* run, int out, const char* data, size_t bytes);
  /* The first rank here that failed; status as of waitpid. The others are ended next. */
  void (*failed)(struct mci_run* run, int rank, pid_t pid, int status);
  /* For the user to read: what ends the run otherwise, such as a program that cannot be started. */
  void (*say)(struct mci_run* run, const char* text);
  /* The front end's own descriptors (fd -1: none), and what became of them. */
  void (*wish)(struct mci_run* run, struct pollfd out[MCI_RUN_WISHES]);
  void (*ready)(struct mci_run* run, const struct pollfd polled[MCI_RUN_WISHES]);
} mci_run_front;

typedef struct mci_run {
  int nranks;        /* of the job */
  int first, nlocal; /* the ranks of this host: first, first + 1, ... */
  bool label;
  bool captures; /* output comes through pipes; else the ranks have our own */
  const char* topo;
  char** program;
  char** exports; /* -x: "NAME=VALUE", a list that ends with NULL; may be NULL */
  char* id;
  mci_run_binding bind;
  struct mci_cores* cores; /* those to bind to; NULL: nobody is bound */
  int listen_fd;           /* the listener of the control tree's root, for rank 0; -1: none */
  mci_run_rank* ranks;     /* nlocal of them */
  int nrunning;
  int status;      /* of the first rank that failed */
  bool passed_on;  /* a signal from outside went to the ranks */
  int next_signal; /* once the run is failing: what the ranks get at due_ns; 0 before */
  uint64_t due_ns;
  sigset_t signals, signals_before;
  struct rlimit files_before;
  int signal_fd;
  bool feeds_input; /* rank 0's input comes through input_fd, else it is our own */
  int input_fd;     /* -1: closed */
  const mci_run_front* front;
  void* self; /* of the front end */
} mci_run;

/* ---- run.c ---- */
typedef struct {
  int nranks; /* 0: one per slot */
  bool label, help;
  mci_run_binding bind;
  mci_str machine; /* spec of the machine file that --topo names: other hosts need not have it */
  const char *topo, *hosts, *hostfile, *ssh, *prefix, *command, *folder;
  char** program;
  char** exports; /* "NAME=VALUE", ends with NULL */
  size_t nexports;
} mci_run_options;
int mci_run_complain(const char* format, ...) MCI_PRINTF(1, 2); /* always 2 */

/* ---- run_ranks.c ---- */
/* Signals become readable, children of ranks become ours. 0, or the exit status (said already). */
int mci_run_take_signals(mci_run* run);
/* Starts the ranks, serves them until the last has ended, clears away what they left. Returns the exit status. */
int mci_run_ranks(mci_run* run);
void mci_run_signal(const mci_run* run, int number);
/* SIGTERM to all that run, SIGKILL after a while. */
void mci_run_end(mci_run* run);
/* "rank 2 (process 47) was killed by signal 9 (Killed)"; returns the exit status that it stands for. */
int mci_run_describe(int rank, pid_t pid, int status, char* text, size_t size);

/* ---- run_spawn.c ---- */
/* 0, or the exit status of the launcher: the program cannot be started (said already). */
int mci_run_spawn(mci_run* run, int index);
/* Kills and reaps whatever the ranks left behind. The launcher is their reaper. */
void mci_run_sweep(void);

/* ---- run_output.c ---- */
/* Output that nobody reads any more is dropped; the ranks go on. */
void mci_run_write_all(int fd, const char* data, size_t bytes);
/* Reads once and prints the whole lines. At the end of the stream prints the rest and closes it. */
void mci_run_stream_read(mci_run_stream* stream);
void mci_run_stream_close(mci_run_stream* stream);
#endif
