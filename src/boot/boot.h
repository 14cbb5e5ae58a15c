/* How ranks find each other, and the control tree that lives as long as the communicator.
 *
 * The tree: rank r's parent is (r-1)/16, so routes are arithmetic and no rank holds more than 17 connections or a table
 * of all ranks. A joining rank knows the meeting point (the root) and descends. Between ranks of one host the connections
 * are abstract unix sockets whose peers must belong to the same user (SO_PEERCRED), between hosts TCP; both prove that
 * they know the id's secret. Death of a rank (connection closed without a goodbye, pidfd) floods along the tree within
 * milliseconds, silence (a stopped process, a host or network that is gone) after MESHCCL_SILENCE_TIMEOUT.
 *
 * Threads: one sleeping thread per process serves all trees of the process (unless `threadless`, where the owner calls
 * mci_boot_progress). All functions here may be called from any thread. */
#ifndef MCI_BOOT_H
#define MCI_BOOT_H

#include <stdatomic.h>

#include "base/base.h"
#include "base/net.h"

#define MCI_ID_BYTES 128
#define MCI_BOOT_MESSAGE_MAX 4096

typedef struct mci_boot mci_boot;
typedef struct {
  char bytes[MCI_ID_BYTES];
} mci_id;

/* ---- ids (id.c) ---- */
meshcclResult_t mci_id_create(mci_id* out);                                    /* random name and secret (libsodium) */
void mci_id_derive(const mci_id* parent, uint64_t a, uint64_t b, mci_id* out); /* the same on every rank: for split */
/* From a text known to all ranks of a job, such as "master:port" or a job id, and the secret of MESHCCL_SECRET(_FILE) */
meshcclResult_t mci_id_from_text(const char* text, mci_id* out);
meshcclResult_t mci_id_check(const mci_id* id); /* InvalidArgument when it was not made by this library */
/* A keyed hash under the id's secret; purposes are kept apart. */
void mci_id_mac(const mci_id* id, const char* purpose, const void* data, size_t bytes, unsigned char out[32]);
/* Whether that secret is one: not for an id made from a text without MESHCCL_SECRET(_FILE). */
bool mci_id_trusted(const mci_id* id);
void mci_id_print(const mci_id* id, mci_str* out); /* hexadecimal, for the launcher's environment */
meshcclResult_t mci_id_parse(const char* text, mci_id* out);

/* ---- where rank 0 is reached over TCP (meeting.c) ---- part of an id, but of neither its name nor its secret */
/* Opens the listener that rank 0 takes over when it joins in this process, and writes its port and addresses into the
 * id. When that fails the id serves one host only; the reason is kept for the message of a join that waits in vain. */
meshcclResult_t mci_id_publish(mci_id* id);
/* The descriptor of that listener, for a launcher that hands it to rank 0 (MESHCCL_LISTEN_FD); the caller closes it. -1:
 * none. addresses and why (why there is none) may be NULL. */
int mci_id_take_listener(const mci_id* id, mci_net_addresses* addresses, char* why, size_t size);
/* Rank 0's side of that: takes fd over. */
meshcclResult_t mci_id_adopt_listener(const mci_id* id, int fd);
/* Carries the addresses from the rank that published a derived id to the others. */
#define MCI_ID_MEETING_BYTES 47
void mci_id_copy_meeting(const mci_id* id, unsigned char out[MCI_ID_MEETING_BYTES]);
void mci_id_paste_meeting(mci_id* id, const unsigned char meeting[MCI_ID_MEETING_BYTES]);

/* ---- environment (env.c) ---- */
typedef struct {
  int rank, nranks, local_rank, local_size;
  const char* source; /* "meshccl run", "torchrun", "Open MPI", "PMI", "Slurm", "PMIx" or "none" */
  mci_id id;
} mci_boot_env;
/* InvalidUsage when variables contradict each other or are incomplete; names them. */
meshcclResult_t mci_boot_env_read(mci_boot_env* out);

/* ---- the tree (join.c, control.c) ---- */
typedef struct {
  int rank, nranks;
  const char* agree; /* lines "NAME=value\n" that must be equal on all ranks; a difference is an InvalidUsage that
                            names the line and the two ranks, on every rank */
  uint64_t timeout_ns;
  bool threadless;
  const char* name;            /* for messages */
  const atomic_int* cancelled; /* joining ends soon after it became non-zero, as a failure that all hear; may be NULL */
  uint64_t host;               /* 0: mci_host_id(); others are for tests */
  uint64_t silence_ns;         /* 0: MESHCCL_SILENCE_TIMEOUT */
} mci_boot_options;

/* Blocks until all ranks have joined (every rank then knows that everybody is there). Errors as meshcclCommInitRank. */
meshcclResult_t mci_boot_join(const mci_id* id, const mci_boot_options* options, mci_boot** out);
/* Says goodbye (peers do not take it for a death) and frees. NULL allowed. What this rank has sent arrives even when its
 * process ends at once. On one host it waits for nobody; where neighbours are on other hosts it waits until they have gone
 * to another rank, which takes milliseconds, or a second where one without a control thread computes. In a forked child:
 * does nothing. */
void mci_boot_leave(mci_boot* boot);
/* Whether ranks are on several hosts; the same on all of them. */
bool mci_boot_spans(const mci_boot* boot);

typedef struct {
  int from;
  uint16_t kind;
  uint32_t bytes;
  unsigned char data[MCI_BOOT_MESSAGE_MAX];
} mci_boot_message;
/* Sends a small message to any rank along the tree. Never blocks. In order per pair. */
meshcclResult_t mci_boot_send(mci_boot* boot, int to, uint16_t kind, const void* data, size_t bytes);
/* The next message for this rank, or false. */
bool mci_boot_receive(mci_boot* boot, mci_boot_message* out);

/* Floods an error to all ranks (this one included): it is the sticky failure unless there is one. `rank` is the cause. */
void mci_boot_report(mci_boot* boot, int rank, meshcclResult_t result, const char* text);
/* Success, or the sticky failure; its text is copied to `text`. */
meshcclResult_t mci_boot_status(mci_boot* boot, char* text, size_t size);
/* ---- who does what (status.c) ---- */
#define MCI_STATUS_PEERS 8
typedef struct {
  int32_t rank;
  uint32_t unused;
  uint64_t sent_bytes, received_bytes;
} mci_peer_bytes;
typedef struct {
  int32_t rank;
  int32_t waits_for;          /* a rank whose message it lacks, -1: none */
  uint32_t busy;              /* an operation is running */
  uint32_t coll;              /* of it: mci_coll, or what the owner puts there */
  uint64_t started, finished; /* operations so far */
  uint64_t bytes;             /* of the running one */
  uint32_t step, nsteps;      /* of the channel that is farthest behind */
  uint64_t still_ns;          /* since anything last moved */
  uint64_t sent_bytes, received_bytes;
  uint32_t operation;       /* number of the last collective started */
  uint32_t waits_operation; /* of the one that waits; 0: point to point, or everything to be taken */
  uint32_t queued;          /* operations issued and not started */
  uint32_t calling;         /* a thread is inside a call of the communicator */
  int32_t pid;
  uint32_t npeers;
  char over[16]; /* the transport to waits_for */
  char host[32];
  mci_peer_bytes peers[MCI_STATUS_PEERS]; /* the busiest */
} mci_rank_status;
/* The owner's answer, called by the control thread under the tree's lock: it must neither block nor call the tree. NULL:
 * this rank answers no more; when this returns, no call of the old one is under way. */
void mci_boot_set_status(mci_boot* boot, void (*status)(void* self, mci_rank_status* out), void* self);

typedef enum {
  MCI_BLAME_UNKNOWN,  /* no answer yet */
  MCI_BLAME_SILENT,   /* `rank` gives no answer, for seconds */
  MCI_BLAME_WAITS,    /* `rank` waits itself; what for is not known beyond its status */
  MCI_BLAME_STARTING, /* `rank` has not come to its first call */
  MCI_BLAME_GONE,     /* `rank` has left the communicator */
  MCI_BLAME_END       /* `rank` waits for nobody */
} mci_blame_kind;
typedef struct {
  mci_blame_kind kind;
  int32_t rank;           /* the end of the chain of waits, as far as known */
  int32_t waiter;         /* who waits for it directly, */
  uint32_t operation;     /* in which collective (0: point to point) */
  uint32_t depth;         /* ranks between this one and `rank` */
  uint32_t confirmed;     /* answers in a row that said so */
  uint64_t age_ns;        /* since `rank` was found to be so */
  uint64_t still_ns;      /* no rank of the chain has moved for so long */
  mci_rank_status status; /* of `rank`: WAITS and END */
} mci_blame;
/* What is known about whom all wait for, seen from this rank that waits for `rank` in collective `operation`. Asks
 * along the chain, at most once per second, and never blocks: call again while the operation stalls. */
void mci_boot_ask(mci_boot* boot, int rank, uint32_t operation, mci_blame* out);
/* As mci_boot_report, but by way of the root, so that of several ranks that find the same thing one text goes to all.
 * Takes effect when the flood comes back. */
void mci_boot_accuse(mci_boot* boot, int rank, meshcclResult_t result, const char* text);

/* Counts arrivals (messages and failures): the engine looks at one atomic before it calls anything here. */
const _Atomic uint32_t* mci_boot_attention(mci_boot* boot);

/* Readable when mci_boot_progress has work (threadless), or when attention has changed since the last clear. */
int mci_boot_fd(mci_boot* boot);
void mci_boot_clear(mci_boot* boot);
void mci_boot_progress(mci_boot* boot); /* threadless only; no-op otherwise */

/* Blocking helpers over the tree, for init and split; all ranks call them in the same order. bytes per rank <= 64. */
meshcclResult_t mci_boot_allgather(mci_boot* boot, const void* mine, size_t bytes, void* all, uint64_t timeout_ns);
meshcclResult_t mci_boot_barrier(mci_boot* boot, uint64_t timeout_ns);
#endif
