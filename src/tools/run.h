/* Inside of `meshccl run`: its options, its ranks, and their output. */
#ifndef MCI_TOOLS_RUN_H
#define MCI_TOOLS_RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#define MCI_RUN_MAX_RANKS 4096

/* One pipe from a rank; whole lines leave through `out`, each behind the rank's label. */
typedef struct {
  int fd; /* -1: closed */
  int out;
  int rank;
  char* line; /* the line so far */
  size_t length, capacity;
} mci_run_stream;

typedef struct {
  pid_t pid; /* also of its process group; 0: not running */
  mci_run_stream streams[2];
} mci_run_rank;

typedef struct {
  int nranks;
  bool label;
  const char* topo;
  char** program;
  char* id;
  mci_run_rank* ranks;
  int nrunning;
  int status;      /* of the first rank that failed */
  bool passed_on;  /* a signal from outside went to the ranks */
  int next_signal; /* once the run is failing: what the ranks get at due_ns; 0 before */
  uint64_t due_ns;
  sigset_t signals, signals_before;
  struct rlimit files_before;
  int signal_fd;
  int input_fd; /* pipe to rank 0's input where ours is a terminal; -1: rank 0 has our input itself */
} mci_run;

/* ---- run_spawn.c ---- */
/* 0, or the exit status of the launcher: the program cannot be started (said already). */
int mci_run_spawn(mci_run* run, int rank);
/* Kills and reaps whatever the ranks left behind. The launcher is their reaper. */
void mci_run_sweep(void);

/* ---- run_output.c ---- */
/* Reads once and prints the whole lines. At the end of the stream prints the rest and closes it. */
void mci_run_stream_read(mci_run_stream* stream);
void mci_run_stream_close(mci_run_stream* stream);
#endif
