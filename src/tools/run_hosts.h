/* Inside of `meshccl run` over several hosts: which hosts, and the channel to the agent on each.
 *
 * The launcher starts one agent per host through a command such as ssh and talks with it over the command's standard
 * input and output: no port of the launcher is open, and nothing secret stands on a command line. The agent's first
 * words are one line of text (MCI_RUN_HELLO, protocol and version), because shells may print before it; after it come
 * frames: length (4 bytes, network order), type (1 byte), content. Texts and numbers in a frame are strings that end
 * with a zero byte. When the channel closes, the agent ends its ranks. */
#ifndef MCI_TOOLS_RUN_HOSTS_H
#define MCI_TOOLS_RUN_HOSTS_H

#include "tools/run.h"

#define MCI_RUN_SSH "ssh -o BatchMode=yes"
#define MCI_RUN_HELLO "meshccl-run-agent"
#define MCI_RUN_PROTOCOL 2

/* ---- run_hosts.c: who takes how many ranks ---- */
typedef struct {
  char* name;
  int slots;
  int first, nranks; /* set by mci_run_hosts_place */
} mci_run_host;
typedef struct {
  mci_run_host* list;
  uint32_t n, cap;
} mci_run_hosts;
/* Either text may be NULL. 0, or 2 (said already). A host named twice has the sum of its slots. */
int mci_run_hosts_read(const char* list, const char* file, mci_run_hosts* out);
/* Fills the hosts in order and drops those without ranks. *nranks 0: one rank per slot. */
int mci_run_hosts_place(mci_run_hosts* hosts, int* nranks);
bool mci_run_host_is_here(const char* name);
void mci_run_hosts_free(mci_run_hosts* hosts);

/* ---- run_remote.c: the launcher; here: what starts the ranks when all hosts are this one ---- */
int mci_run_over_hosts(mci_run_options* options, int (*here)(const mci_run_options*));

/* ---- run_start.c: the command that brings up an agent ---- */
typedef struct {
  pid_t pid;        /* also of its process group and session; 0: not running */
  int in, out, err; /* our ends of its standard files */
} mci_run_process;
/* 0, or 1 (said already). command_out (may be NULL): what was executed, for messages. */
int mci_run_start_agent(const mci_run_options* options, const char* host, const sigset_t* signals, mci_run_process* out,
                        mci_str* command_out);

/* ---- run_channel.c ---- */
typedef enum {
  /* to the agent */
  MCI_RUN_START = 1, /* what to run, see mci_run_job */
  MCI_RUN_GO,        /* id */
  MCI_RUN_SIGNAL,    /* number */
  MCI_RUN_INPUT,     /* raw bytes for rank 0, at most MCI_RUN_INPUT_MAX, only after a WANT; none: end of input */
  MCI_RUN_END,       /* the ranks have to end */
  /* from the agent */
  MCI_RUN_READY = 64, /* id with the root's addresses, from the agent of rank 0; else empty */
  MCI_RUN_OUT,        /* raw bytes for standard output */
  MCI_RUN_ERR,
  MCI_RUN_WANT,   /* rank 0 can take input */
  MCI_RUN_FAILED, /* rank, process, status as of waitpid */
  MCI_RUN_SAY,    /* text for the user */
  MCI_RUN_DONE    /* exit status: all ranks of the host have ended */
} mci_run_frame_type;
#define MCI_RUN_INPUT_MAX 4096 /* what a pipe takes at once */
#define MCI_RUN_FRAME_MAX (16u << 20)

typedef struct {
  char* data;
  size_t n, cap;
  bool failed; /* out of memory; stays */
} mci_run_bytes;
void mci_run_bytes_add(mci_run_bytes* bytes, const void* data, size_t n);
void mci_run_bytes_text(mci_run_bytes* bytes, const char* text);
void mci_run_bytes_number(mci_run_bytes* bytes, int number);
void mci_run_bytes_drop(mci_run_bytes* bytes, size_t n); /* from the front */
void mci_run_bytes_free(mci_run_bytes* bytes);

typedef struct {
  int in, out; /* -1: closed. out may be non-blocking: then what does not fit waits in `due` */
  mci_run_bytes got, due;
  bool ended, broken; /* end of input; the peer talks nonsense, or memory is short */
} mci_run_channel;
typedef struct {
  mci_run_frame_type type;
  char* data; /* a zero byte stands behind it */
  size_t n;
  char* base;
} mci_run_frame;
void mci_run_channel_send(mci_run_channel* channel, mci_run_frame_type type, const void* data, size_t n);
void mci_run_channel_flush(mci_run_channel* channel);
void mci_run_channel_read(mci_run_channel* channel);                     /* once */
bool mci_run_channel_next(mci_run_channel* channel, mci_run_frame* out); /* out is to be freed */
void mci_run_frame_free(mci_run_frame* frame);
void mci_run_channel_close(mci_run_channel* channel);
/* The next text or number of a frame. NULL and 0 when there is none: then *frame is at its end. */
char* mci_run_take_text(mci_run_frame* frame);
int mci_run_take_number(mci_run_frame* frame);

/* What START carries. */
typedef struct {
  const char* folder;
  int folder_wanted; /* it was asked for, so that it has to be there */
  int first, nlocal, nranks, label, listens, bind;
  const char* topo; /* "": none */
  int nexports, nwords;
  char **exports, **words; /* each list ends with NULL; the texts are the frame's */
} mci_run_job;
void mci_run_job_pack(const mci_run_job* job, mci_run_bytes* out);
bool mci_run_job_unpack(mci_run_frame* frame, mci_run_job* out); /* false: not a job, or memory is short */
void mci_run_job_free(mci_run_job* job);
#endif
