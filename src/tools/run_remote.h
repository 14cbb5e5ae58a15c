/* Inside of `meshccl run` over several hosts: the launcher's side. run_remote.c has the loop and the user's end,
 * run_remote_host.c what agents say and how hosts end. */
#ifndef MCI_TOOLS_RUN_REMOTE_H
#define MCI_TOOLS_RUN_REMOTE_H

#include "boot/boot.h"
#include "tools/run_hosts.h"

#define MCI_RUN_SAID_MAX 4096

typedef enum { HOST_REACHING, HOST_GREETED, HOST_READY, HOST_RUNNING, HOST_DONE, HOST_CLOSED } mci_run_host_state;

typedef struct {
  mci_run_host* host;
  mci_run_process process;
  mci_run_channel channel;
  int err;
  mci_str command;
  char said[MCI_RUN_SAID_MAX + 1]; /* of its standard error what was not printed yet, and what came before the hello */
  size_t nsaid;
  mci_run_host_state state;
  bool exited;
  int exit_status;    /* of the command, as of waitpid */
  uint64_t linger_ns; /* 0, or when a command whose output has ended is killed */
} mci_run_remote;

typedef struct {
  mci_run run; /* only what concerns signals */
  const mci_run_options* options;
  mci_run_remote* remotes;
  uint32_t n, nopen;
  char id[2 * MCI_ID_BYTES + 1];
  bool going, ending, wants_input;
  int status;
  uint64_t due_ns; /* for all to be ready; when ending for all to be gone */
} mci_run_launcher;

/* ---- run_remote_host.c ---- */
/* Ends the ranks on all hosts; the first status counts. */
void mci_run_remote_end(mci_run_launcher* l, int status);
/* Reads once what the agent says, or what its command prints to standard error. */
void mci_run_remote_read(mci_run_launcher* l, mci_run_remote* r);
void mci_run_remote_read_err(mci_run_remote* r);
/* Notices that a host is through, and that it was lost. */
void mci_run_remote_settle(mci_run_launcher* l, mci_run_remote* r);
/* Looks whether due_ns is over: hosts that gave no answer, or did not end, are named. */
void mci_run_remote_watch(mci_run_launcher* l);
#endif
