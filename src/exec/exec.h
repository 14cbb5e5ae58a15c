/* The executor: runs programs over lanes and devices. It knows no algorithm and no topology.
 *
 * One engine per communicator and rank. Operations start in the order submitted; collectives run one at a time, point
 * to point operations run side by side. All functions are called under the lock of the engine's owner (src/api), except
 * those marked atomic. */
#ifndef MCI_EXEC_H
#define MCI_EXEC_H

#include <stdatomic.h>

#include "base/base.h"
#include "meshccl/device.h"
#include "meshccl/transport.h"
#include "sched/sched.h"

typedef struct mci_engine mci_engine;
typedef struct mci_run mci_run;

#define MCI_BLOB_MAX 4096

typedef struct {
  void* self;
  /* Bring the blob to `peer`, whose owner gives it to mci_engine_meet there. Does not block. */
  meshcclResult_t (*introduce)(void* self, uint32_t peer, const void* blob, size_t bytes);
  /* Something failed here that all ranks must learn. */
  void (*report)(void* self, meshcclResult_t result, const char* text);
  /* The communicator's keyed hash, see meshcclTransportHost_t. */
  void (*mac)(void* self, const char* purpose, const void* data, size_t bytes, unsigned char out[MESHCCL_MAC_BYTES]);
  bool trusted; /* that key is secret: transports may listen beyond loopback */
  /* Nothing has moved for still_ns, which is a quarter of the limit or a second at least. True: the owner finds out who is
   * to blame and ends it when it must; else the engine ends it at the limit with what it knows. May be NULL. */
  bool (*stalled)(void* self, uint64_t now_ns, uint64_t still_ns);
} mci_engine_host;

typedef struct {
  uint32_t rank, nranks;
  const char* name; /* of the communicator, for messages; outlives the engine */
  const meshcclDevice_t* device;
  const meshcclTransport_t* transports[8];
  uint32_t ntransports;
  uint64_t slice_bytes;
  uint32_t credits;  /* messages under way per lane; 0: by transport */
  uint64_t stall_ns; /* an operation without any progress for so long is a Timeout */
  /* So long a broken connection is only evidence, for the owner may be about to learn the cause and fail the engine: of
   * a rank that aborts or dies, what was sent last breaks first. 0: reported at once. */
  uint64_t grace_ns;
  mci_engine_host host;
} mci_engine_options;

meshcclResult_t mci_engine_create(const mci_engine_options* options, mci_engine** out);
void mci_engine_destroy(mci_engine* engine);

/* A program made ready to be run again and again; owns it from success on. */
meshcclResult_t mci_run_create(mci_program* program, mci_run** out);
void mci_run_destroy(mci_run* run);
bool mci_run_busy(const mci_run* run); /* held, or an operation with it is queued or running */
/* Between the choice of a run and the submission of its operation: a held run is not destroyed. */
void mci_run_hold(mci_run* run);
void mci_run_release(mci_run* run);
const mci_program* mci_run_program(const mci_run* run);

/* A stretch of the vector of an operation; where it stands is the owner's. */
typedef struct {
  const void* in;
  void* out;
  uint64_t count;
  uint64_t scale; /* as of mci_op */
  uint64_t token; /* the engine's: of the copy under way */
  bool copying;
} mci_part;

/* One operation. The owner fills the first part and keeps the struct alive until `finished`. */
typedef struct mci_op {
  mci_run* run;
  const void* in;
  void* out;
  uint64_t count;
  meshcclDataType_t type;
  uint32_t type_size;
  meshcclRedOp_t op; /* Sum .. Avg */
  bool scaled;       /* PreMulSum: the input is multiplied by `scale` first */
  uint64_t scale;    /* one element */
  /* When nparts > 0 the vector is these one after the other, all-reduce only: they are read when the operation starts and
   * written when it ends, in and out are the engine's meanwhile. */
  mci_part* parts;
  uint32_t nparts;
  uint32_t fingerprint; /* equal on all ranks; for point to point: of count and type */
  bool point_to_point;
  void (*describe)(const struct mci_op* op, char* out, size_t size); /* "all_reduce of 1024 float (ring)" */
  atomic_bool ready;                                                 /* atomic: its stream has come to it */
  void (*finished)(struct mci_op* op); /* called once, under the engine's lock, after result is set; may free the op */
  void* user;

  /* the engine's */
  atomic_int done; /* atomic: 1 when finished (before the callback) */
  meshcclResult_t result;
  uint32_t sequence;
  uint32_t outstanding;                /* sends whose memory is still in use */
  void* bounces;                       /* list of rooms for copied messages, freed at the end */
  bool small;                          /* no lookups of registered memory: everything goes by value */
  uint64_t fetched_bytes;              /* messages up to here are read by address where peers cannot map them */
  bool outgrows_caches;                /* the vectors of all ranks that share the caches are larger than these */
  struct mci_shared_region regions[2]; /* of in and out; id 0: none */
  bool host_memory[2];
  struct mci_op* next;
} mci_op;

void mci_engine_submit(mci_engine* engine, mci_op* op);
/* Atomic: a call begins that is likely to send to the peer that the last one sent to. Takes the lines that it will write back
 * from that peer, who polls there: on the way from the call to the transport there is time for that. */
void mci_engine_fetch_ahead(const mci_engine* engine);
/* Does what can be done; returns the number of things done (0: idle). */
int mci_engine_progress(mci_engine* engine);
/* Whether only a message helps that has not come: progress has just taken those that were there. */
bool mci_engine_only_waits(const mci_engine* engine);
/* Others want the processor of whoever drives progress: it looks for messages once and comes back. */
void mci_engine_hurry(mci_engine* engine, bool hurries);
/* Whoever drives progress was kept off its processor for long: other programs run here. For the next collectives nothing
 * is chosen that needs both ranks to run at the same time. */
void mci_engine_interrupted(mci_engine* engine);
/* No operation queued or running, no peer still reads from memory of this rank or is about to connect to it. */
bool mci_engine_idle(const mci_engine* engine);
/* The blob of a peer's introduction has come. */
meshcclResult_t mci_engine_meet(mci_engine* engine, uint32_t peer, const void* blob, size_t bytes);
/* Sticky: everything queued and running finishes with result, later submissions too. */
void mci_engine_fail(mci_engine* engine, meshcclResult_t result, const char* text);
meshcclResult_t mci_engine_error(const mci_engine* engine, const char** text);
/* Called by waiters while idle: fails the engine when nothing moved for stall_ns. flushing: somebody waits until the engine
 * is idle, so that peers who do not take what they were sent count too. */
void mci_engine_watch(mci_engine* engine, uint64_t now_ns, bool flushing);
/* Says what the running operations wait for. */
void mci_engine_explain(const mci_engine* engine, mci_str* out);
/* How to sleep until something may happen: fills at most cap descriptors, returns their number; *poll_us is the longest
 * sleep that transports without descriptors allow. *busy: do not sleep, there is work. */
uint32_t mci_engine_wait_handles(mci_engine* engine, int* fds, uint32_t cap, uint32_t* poll_us, bool* busy);

typedef struct {
  uint64_t operations, bytes_sent, bytes_received, memory_bytes;
  uint32_t peers;
} mci_engine_stats;
mci_engine_stats mci_engine_get_stats(const mci_engine* engine);

/* ---- for other threads (status.c) ---- */
#define MCI_ENGINE_STATUS_PEERS 8
typedef struct {
  int32_t rank;
  uint32_t unused;
  uint64_t bytes_sent, bytes_received;
} mci_engine_peer;
typedef struct {
  uint64_t submitted, started, finished; /* operations */
  uint32_t last_collective;              /* number of the last collective started */
  bool moves;                            /* something has moved since `moved_ns` was taken */
  uint64_t events, moved_ns;
  uint64_t bytes_sent, bytes_received;
  /* Of the operation that runs, as of the last time the engine was idle; waits_for -1: for nobody */
  int32_t waits_for;
  uint32_t waits_operation; /* number of the collective that waits; 0: point to point or flush */
  uint32_t coll;
  uint64_t bytes;        /* of its vector per rank */
  uint32_t step, nsteps; /* of the channel that is farthest behind */
  char over[16];         /* the transport to waits_for */
  uint32_t npeers;       /* the busiest peers */
  mci_engine_peer peers[MCI_ENGINE_STATUS_PEERS];
} mci_engine_status;
/* Atomic: any thread, no lock, does not wait for the engine. */
void mci_engine_read_status(const mci_engine* engine, mci_engine_status* out);
/* Renews what read_status tells unless that was done less than least_ns ago. */
void mci_engine_publish(mci_engine* engine, uint64_t now_ns, uint64_t least_ns);
/* The operation that runs, as its owner describes it; "" when none does. Under the lock. */
void mci_engine_describe(const mci_engine* engine, char* out, size_t size);
#endif
