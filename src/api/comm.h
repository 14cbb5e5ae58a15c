/* The communicator and what the api's files share. Locks: comm->lock guards the engine and everything of the
 * communicator that is not atomic; a stream's lock is taken inside it, never the other way round. */
#ifndef MCI_COMM_H
#define MCI_COMM_H

#include <pthread.h>
#include <stdatomic.h>

#include "boot/boot.h"
#include "device/device.h"
#include "exec/exec.h"
#include "meshccl/meshccl.h"
#include "sched/sched.h"
#include "topo/graph.h"

#define MCI_COMM_MAGIC 0x6d65736863636cull
#define MCI_BOOT_MEET 1 /* kind of control message: an engine's introduction */
/* So long the control tree may take to tell why a peer cannot be reached any more, before that is the cause. */
#define MCI_GRACE_NS 1000000000ull

typedef enum { MCI_COMM_STARTING, MCI_COMM_READY, MCI_COMM_FINALIZED, MCI_COMM_BROKEN } mci_comm_state;

typedef struct mci_plan {
  mci_coll coll;
  uint64_t bytes_class;
  bool once; /* rounds sums once, see MESHCCL_ACCUMULATE */
  uint32_t root;
  uint64_t used;      /* clock of the cache */
  uint64_t algorithm; /* hash of its name */
  mci_run* run;
  uint64_t described[3]; /* the last call's fields, and their fingerprint */
  uint32_t fingerprint;
} mci_plan;

typedef struct {
  bool live;
  meshcclDataType_t type;
  uint64_t scalar;
} mci_user_op;

typedef struct mci_fused mci_fused;

/* One operation as the api sees it. */
typedef struct mci_call {
  mci_op op; /* first: the engine hands it back */
  struct meshcclComm* comm;
  struct meshcclStream* stream; /* NULL: somebody waits for it */
  struct mci_item* item;        /* of the stream */
  struct mci_call* next;        /* of the item, the group or the free list */
  mci_fused* fused;             /* what it was joined to; NULL: it is submitted itself */
  mci_coll coll;
  uint32_t root; /* or peer */
  bool is_send;
  uint64_t in_bytes, out_bytes; /* of a kept call: what this rank gives */
} mci_call;

struct meshcclComm {
  uint64_t magic;
  uint32_t fork_generation;
  uint32_t rank, nranks;
  char name[64];
  mci_id id;
  atomic_int state; /* mci_comm_state */
  atomic_int aborted;
  atomic_int callers; /* threads inside calls */
  pthread_mutex_t lock;
  mci_boot* boot;
  uint32_t attention_seen;
  mci_topo* topo;
  mci_engine* engine;
  uint64_t unmet_since_ns; /* a peer's introduction could not be answered: since when, 0 never */
  meshcclResult_t unmet_result;
  char unmet_text[512];
  bool threadless;
  uint64_t init_timeout_ns, op_timeout_ns;
  const meshcclDevice_t* device;
  mci_plan* plans;
  uint32_t nplans, cap_plans;
  uint32_t last_plan; /* used again by a call that repeats itself */
  uint64_t plan_clock, plans_built, plan_hits;
  mci_user_op* user_ops;
  uint32_t nuser_ops, cap_user_ops;
  uint64_t splits;
  mci_call* free_calls;
  mci_call* kept[MCI_NUM_COLLS];        /* the last blocking call of each kind, as it was filled; NULL: none */
  uint32_t spin_ns;                     /* how long waiting for a peer spins at present; 0: others want the processor */
  bool flushing;                        /* somebody waits until nothing is under way */
  atomic_int async_pending;             /* operations on streams that are not finished */
  _Atomic(meshcclResult_t) async_error; /* any thread reads it; async_text is whole and final when it is set */
  char async_text[1024];
  _Atomic uint64_t caller_ticks, wait_ns;
  _Atomic uint64_t left_ticks;         /* when the last operation's call returned, or the communicator was ready */
  uint64_t ready_ns, ready_ticks;      /* when it was ready */
  atomic_bool flushing_shown;          /* flushing, for the control thread */
  uint64_t watched_events, watched_ns; /* the control thread's, under the tree's lock: last seen, since when */
  uint64_t accused_ns;                 /* the verdict on a stall is under way to the root since then; 0: none */
  uint64_t stall_looked_ns;
  int accused_rank;
  meshcclResult_t accused_result;
  char accused_text[512];
  pthread_t starter; /* non-blocking init */
  bool has_starter;
  struct mci_start* start;
  struct meshcclComm *next, *prev; /* list of the process */
};

/* comm.c */
/* Every public call begins here: checks the handle and counts the caller. Ends with mci_comm_leave. */
meshcclResult_t mci_comm_enter(meshcclComm_t comm, const char* function);
void mci_comm_leave(meshcclComm_t comm);
/* One round of progress for comm, under its lock; control messages included. Returns the number of things done. */
int mci_comm_progress(meshcclComm_t comm);
/* How long so many ticks are. */
uint64_t mci_comm_ticks_ns(meshcclComm_t comm, uint64_t ticks);
/* Fails what has not moved for too long; comm is locked. */
void mci_comm_watch(meshcclComm_t comm, uint64_t now_ns);
void mci_comm_set_error(meshcclComm_t comm, meshcclResult_t result, const char* text);
/* What a call tells of its operation's result, with the last message. One on an aborted communicator says that, although
 * what the others did then may have been noticed first. */
meshcclResult_t mci_comm_told(meshcclComm_t comm, meshcclResult_t result);

/* stall.c */
bool mci_comm_stalled(void* self, uint64_t now_ns, uint64_t still_ns); /* the engine's host callback */
void mci_comm_status(void* self, mci_rank_status* out);                /* the tree's; any thread, no lock */

/* init.c */
typedef struct mci_start {
  mci_id id;
  uint32_t rank, nranks;
  mci_topo* topo; /* given by split; else NULL */
  meshcclConfig_t config;
  char *topology, *device; /* own copies of the config's texts */
  int* rank_map;
} mci_start;
meshcclResult_t mci_comm_start(mci_start* start, bool blocking, meshcclComm_t* out); /* takes over start->topo */
void mci_comm_free(meshcclComm_t comm);
meshcclResult_t mci_config_check(const meshcclConfig_t* given, meshcclConfig_t* out);

/* plans.c */
/* Of op, what the caller asked for counts: count, type and operator. */
meshcclResult_t mci_plan_get(meshcclComm_t comm, mci_coll coll, const mci_op* op, uint32_t root, mci_plan** out);
void mci_plan_used_again(meshcclComm_t comm, const mci_run* run); /* that is in the cache */
meshcclResult_t mci_plan_point_to_point(meshcclComm_t comm, bool send, uint32_t peer, mci_plan** out);
void mci_plans_free(meshcclComm_t comm);

/* issue.c */
typedef struct {
  const char* function;
  mci_coll coll;
  const void* in;
  void* out;
  uint64_t count;
  meshcclDataType_t type;
  meshcclRedOp_t op;
  uint32_t root; /* or the peer of a send or receive */
  bool is_send;
} mci_request_call;
#define MCI_PRE_MUL_SUM 100 /* stands for every user operator in fingerprints: scalars may differ between ranks */
/* collectives.c */
meshcclResult_t mci_call_check(meshcclComm_t comm, const mci_request_call* request);
/* Elements of the buffers that this rank gives. */
void mci_call_extents(const mci_request_call* request, uint32_t rank, uint32_t nranks, uint64_t* in, uint64_t* out);
meshcclResult_t mci_issue(meshcclComm_t comm, const mci_request_call* request, meshcclStream_t stream);
/* Hands a call to its engine; comm is locked. */
void mci_call_submit(mci_call* call);
void mci_call_give(mci_call* call);                           /* comm is locked */
void mci_call_forget(meshcclComm_t comm, const mci_run* run); /* calls kept that run it; comm is locked */
void mci_call_start(mci_call* call);                          /* its stream has come to it, or it has none */

/* group.c */
bool mci_group_open(void);
meshcclResult_t mci_group_add(mci_call* call, meshcclStream_t stream);
meshcclResult_t mci_group_add_start(mci_start* start, meshcclComm_t* out);
void mci_group_error(meshcclResult_t result);

/* fuse.c */
/* Joins small all-reduces among n calls of a group, whose communicators were entered; see meshcclGroupStart. A joined call
 * is not submitted: the one that leads submits what it was joined to. */
meshcclResult_t mci_fuse(mci_call* const* calls, uint32_t n);
bool mci_fused_leads(const mci_call* call);
mci_call* mci_fused_call(mci_fused* fused);
void mci_fused_start(mci_fused* fused); /* one of its calls may start */
void mci_fused_drop(mci_fused* fused);  /* instead of being submitted; its communicator is locked */

/* stream.c */
typedef enum { MCI_ITEM_CALLS, MCI_ITEM_RECORD, MCI_ITEM_WAIT, MCI_ITEM_HOST } mci_item_kind;
typedef struct mci_item {
  mci_item_kind kind;
  bool started;
  atomic_uint remaining;  /* MCI_ITEM_CALLS: not finished */
  mci_call *calls, *last; /* owned: freed when the item has gone by */
  struct meshcclEvent* event;
  uint64_t ticket;
  void (*function)(void*);
  void* argument;
  struct mci_item* next;
} mci_item;
mci_item* mci_item_create(mci_item_kind kind);
void mci_item_add(mci_item* item, meshcclStream_t stream, mci_call* call); /* before the item is enqueued */
void mci_stream_enqueue(meshcclStream_t stream, mci_item* item);
bool mci_stream_idle(meshcclStream_t stream);
/* A call of one of its items is over (under the lock of the call's communicator). */
void mci_stream_call_finished(mci_call* call);
/* Starts what can be started; returns the number of items that went by. Stops at a host function. */
int mci_stream_advance(meshcclStream_t stream);
/* Whether a host function is next; then it is the caller's to run, once no lock of the runtime is held. */
bool mci_stream_claim(meshcclStream_t stream);
void mci_stream_run_claimed(meshcclStream_t stream);
/* Whether the next item is no operation of a communicator: somebody has to drive the stream itself. */
bool mci_stream_needs_driver(meshcclStream_t stream);
meshcclResult_t mci_stream_check(meshcclStream_t stream, const char* function);

/* runtime.c: what the communicators and streams of the process share */
void mci_runtime_add_comm(meshcclComm_t comm);
void mci_runtime_remove_comm(meshcclComm_t comm);
void mci_runtime_add_stream(meshcclStream_t stream);
void mci_runtime_remove_stream(meshcclStream_t stream);
/* Drives every communicator and stream of the process once, without waiting for locks. */
int mci_runtime_progress(void);
void mci_runtime_wake(void); /* there is work that nobody waits for */

/* wait.c */
typedef struct {
  uint64_t since_ns; /* 0: not asked the clock yet */
  uint32_t idle;
  bool yielded, shared;
} mci_waiter;
void mci_wait_begin(mci_waiter* waiter);
/* Called after a round without progress: spins, then yields, then sleeps. comm is locked by the caller; without one
 * (NULL: all of the process are driven) yields at once, because threads share what they wait for, and then naps. */
void mci_wait_idle(mci_waiter* waiter, meshcclComm_t comm);
/* Called after a round with progress: begins anew, and learns how long spinning pays. */
void mci_wait_moved(mci_waiter* waiter, meshcclComm_t comm);
/* Waits until the call is done; comm is locked. */
void mci_wait_call(meshcclComm_t comm, mci_call* call);

struct meshcclStream {
  uint64_t magic;
  uint32_t fork_generation;
  pthread_mutex_t lock;
  mci_item *head, *tail;
  bool advancing;   /* a thread runs the host function at the head */
  atomic_int users; /* threads that still touch it after its last item */
  meshcclResult_t error;
  char error_text[512];
  struct meshcclStream *next, *prev;
};

struct meshcclEvent {
  uint64_t magic;
  _Atomic uint64_t recorded, reached;
  atomic_int references;
};
#endif
