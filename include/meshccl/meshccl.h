/* meshccl: collective communication for accelerators wired as a mesh or a torus.
 *
 * The shape is NCCL's: a communicator joins ranks, a call enqueues an operation on a stream and returns, a stream runs
 * in order. A NULL stream means: the call returns when the operation is complete (inside a group: when
 * meshcclGroupEnd returns).
 *
 * Rules that hold for every collective below:
 *  - every rank of the communicator makes the same calls in the same order with the same count, type, operator and root;
 *    a difference is detected and named on every rank (meshcclInvalidUsage);
 *  - `count` is in elements of `datatype`; buffers stay the caller's, must live and stay untouched until completion;
 *  - a communicator is for one thread at a time; only meshcclCommAbort and meshcclCommGetAsyncError may come from another;
 *  - results are bitwise the same on every run of the same schedule, and on every rank where ranks share a result;
 *  - a result other than meshcclSuccess leaves a message with meshcclGetLastError. */
#ifndef MESHCCL_H
#define MESHCCL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "meshccl/result.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MESHCCL_MAJOR 0
#define MESHCCL_MINOR 1
#define MESHCCL_PATCH 0
#define MESHCCL_VERSION_CODE (MESHCCL_MAJOR * 10000 + MESHCCL_MINOR * 100 + MESHCCL_PATCH)
#define MESHCCL_UNIQUE_ID_BYTES 128
#define MESHCCL_MAX_DIMS 4

typedef struct meshcclComm* meshcclComm_t;
typedef struct meshcclStream* meshcclStream_t;
typedef struct meshcclEvent* meshcclEvent_t;
typedef struct {
  char internal[MESHCCL_UNIQUE_ID_BYTES];
} meshcclUniqueId;

/* Options of a communicator. Always start from MESHCCL_CONFIG_INITIALIZER; a field left at its initial value takes the
 * matching MESHCCL_* variable or its default. New fields are added at the end, shorter structs stay valid. */
typedef struct {
  size_t size;
  uint32_t magic;
  uint32_t version;
  int blocking; /* 1: init returns when done (default). 0: returns meshcclInProgress, poll meshcclCommGetAsyncError */
  const char* topology; /* spec such as "torus:4x4@50GB/s,500ns", machine file or its name;
                           NULL: MESHCCL_TOPO, else all ranks directly joined */
  const int* rankMap;   /* rankMap[rank] = index of the rank's node in row-major order of live nodes; NULL: identity */
  const char* name;     /* shown in messages; copied */
  int progressThread;   /* 1: a thread serves streams nobody waits for (default). 0: the caller drives everything */
  double initTimeout;   /* seconds for init, 0: MESHCCL_INIT_TIMEOUT */
  double opTimeout;     /* seconds an operation may go without a byte of progress, 0: MESHCCL_OP_TIMEOUT */
  const char* device;   /* kind of memory of all buffers: "host" (NULL) or the name of a registered device */
} meshcclConfig_t;

#define MESHCCL_CONFIG_MAGIC 0xcafebeefu
#define MESHCCL_CONFIG_INITIALIZER \
  { sizeof(meshcclConfig_t), MESHCCL_CONFIG_MAGIC, MESHCCL_VERSION_CODE, -1, NULL, NULL, NULL, -1, 0, 0, NULL }

/* What a rank did so far. Bytes count payload, not headers. `callerNs` is the time spent inside meshccl calls by the
 * caller's threads, `waitNs` the part of it without progress. */
typedef struct {
  size_t size; /* set by the caller to sizeof(meshcclCommStats_t) */
  uint64_t operations;
  uint64_t bytesSent;
  uint64_t bytesReceived;
  uint64_t callerNs;
  uint64_t waitNs;
  uint64_t plansBuilt;
  uint64_t planHits;
  int peers;            /* peers with an open data connection */
  uint64_t memoryBytes; /* staging and bookkeeping held by the communicator */
} meshcclCommStats_t;

/* Prints the failed expression, its result and the last message to stderr and returns 1 from the calling function.
 * For programs whose function returns int, such as main. */
#define MESHCCL_CHECK(call)                                                                                           \
  do {                                                                                                                \
    meshcclResult_t meshccl_check_result_ = (call);                                                                   \
    if (meshccl_check_result_ != meshcclSuccess) {                                                                    \
      fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call, meshcclGetErrorString(meshccl_check_result_), \
              meshcclGetLastError(NULL));                                                                             \
      return 1;                                                                                                       \
    }                                                                                                                 \
  } while (0)

#pragma GCC visibility push(default)

/* ---- version and errors ------------------------------------------------------------------------------------------ */

/* Writes MESHCCL_VERSION_CODE of the library in use. InvalidArgument when version is NULL. Any thread. */
meshcclResult_t meshcclGetVersion(int* version);

/* Returns a static text for a result code, never NULL. Any thread. */
const char* meshcclGetErrorString(meshcclResult_t result);

/* Returns the last error message of comm (its asynchronous error included), or with NULL of the calling thread; "" when
 * there was none. Valid until the next meshccl call of the thread. */
const char* meshcclGetLastError(meshcclComm_t comm);

/* ---- communicators ------------------------------------------------------------------------------------------------ */

/* Makes an id that joins the ranks of one communicator; give it to every rank by any means. It carries a random secret:
 * treat it as one. Rank 0 must run on the host where it was made. The id names a port there, which this process holds
 * until rank 0 joins in it: when rank 0 is another process and this one still runs, only ranks of that host can join.
 * Returns Success, InvalidArgument, SystemError. */
meshcclResult_t meshcclGetUniqueId(meshcclUniqueId* id);

/* Joins nranks ranks. Blocks until all have called it, at most initTimeout. `comm` is set on success only.
 * Success, InvalidArgument (rank or nranks), SystemError, Timeout (names the missing ranks as far as known),
 * InvalidUsage (ranks disagree on nranks, on a rank number or on a shared variable). */
meshcclResult_t meshcclCommInitRank(meshcclComm_t* comm, int nranks, meshcclUniqueId id, int rank);

/* The same with options; config may be NULL. With blocking = 0 it returns InProgress and comm at once. */
meshcclResult_t meshcclCommInitRankConfig(meshcclComm_t* comm, int nranks, meshcclUniqueId id, int rank,
                                          meshcclConfig_t* config);

/* Joins the ranks that a launcher started: rank, size and meeting point from `meshccl run`, torchrun-like variables
 * (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), PMIx, Open MPI, PMI or Slurm. Without any of them: one rank.
 * Results as meshcclCommInitRank; InvalidUsage when the variables contradict each other. */
meshcclResult_t meshcclCommInitEnv(meshcclComm_t* comm, meshcclConfig_t* config);

/* Makes all ranks of one communicator in this process; comms[i] is rank i. devlist is accepted for NCCL's sake and must
 * be NULL or 0..ndev-1. Collectives on them go in one group, or one thread each. */
meshcclResult_t meshcclCommInitAll(meshcclComm_t* comms, int ndev, const int* devlist);

/* Flushes: returns when every operation issued on comm is complete on this rank. The communicator takes no more work. */
meshcclResult_t meshcclCommFinalize(meshcclComm_t comm);

/* Finalizes if needed and frees comm; NULL is allowed. An operation in flight is completed first. */
meshcclResult_t meshcclCommDestroy(meshcclComm_t comm);

/* Stops everything in flight on every rank (they see RemoteError naming this rank) and frees comm. Never blocks on a
 * peer. May be called from another thread than the one inside a call on comm; that call returns InvalidUsage. */
meshcclResult_t meshcclCommAbort(meshcclComm_t comm);

/* Writes the sticky asynchronous error, InProgress during non-blocking init, or Success. Makes progress. Any thread. */
meshcclResult_t meshcclCommGetAsyncError(meshcclComm_t comm, meshcclResult_t* asyncError);

meshcclResult_t meshcclCommCount(meshcclComm_t comm, int* count);
meshcclResult_t meshcclCommUserRank(meshcclComm_t comm, int* rank);

/* Coordinates of a rank, slowest dimension first (row.column); *ndims is the capacity of coords on entry (at least
 * MESHCCL_MAX_DIMS is always enough) and the number of dimensions on return. */
meshcclResult_t meshcclCommCoordinates(meshcclComm_t comm, int rank, int* coords, int* ndims);

/* Ranks joined to `rank` by one link; *n is the capacity of peers on entry and the number of neighbours on return. */
meshcclResult_t meshcclCommNeighbors(meshcclComm_t comm, int rank, int* peers, int* n);

/* Splits by colour; ranks of one colour are ordered by key, then by rank. A negative color gets newcomm = NULL. The
 * child inherits the part of the topology that its ranks span. All ranks of comm must call it. */
meshcclResult_t meshcclCommSplit(meshcclComm_t comm, int color, int key, meshcclComm_t* newcomm,
                                 meshcclConfig_t* config);

/* Splits along axes of the topology: "x" is the fastest dimension (a row), "y" the next (a column), "z" the third;
 * "xy" joins the ranks of a plane. InvalidArgument when the topology lacks the axis. */
meshcclResult_t meshcclCommSplitAxes(meshcclComm_t comm, const char* axes, meshcclComm_t* newcomm);

/* Fills what the caller's stats->size covers. */
meshcclResult_t meshcclCommGetStats(meshcclComm_t comm, meshcclCommStats_t* stats);

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

/* Page-aligned memory that ranks of the same host read without a copy. Not required for any call, only faster. Free
 * with meshcclMemFree before or after the communicators that used it. From 4 MiB on it has huge pages where Linux gives
 * them: when /sys/kernel/mm/transparent_hugepage/shmem_enabled says advise, within_size or always. */
meshcclResult_t meshcclMemAlloc(void** ptr, size_t size);
meshcclResult_t meshcclMemFree(void* ptr);

/* Makes memory known to comm. Memory of meshcclMemAlloc needs no registration. For other memory Success means that the
 * transports may keep a mapping of it until meshcclCommDeregister; it must not be freed before. */
meshcclResult_t meshcclCommRegister(meshcclComm_t comm, void* buffer, size_t size, void** handle);
meshcclResult_t meshcclCommDeregister(meshcclComm_t comm, void* handle);

/* ---- operators --------------------------------------------------------------------------------------------------------- */

typedef enum { meshcclScalarDevice = 0, meshcclScalarHostImmediate = 1 } meshcclScalarResidence_t;

/* Makes an operator that multiplies this rank's input by *scalar (of `datatype`) and sums. It belongs to comm and to
 * that type; ranks may use different scalars. Destroy it when no operation uses it any more. */
meshcclResult_t meshcclRedOpCreatePreMulSum(meshcclRedOp_t* op, void* scalar, meshcclDataType_t datatype,
                                            meshcclScalarResidence_t residence, meshcclComm_t comm);
meshcclResult_t meshcclRedOpDestroy(meshcclRedOp_t op, meshcclComm_t comm);

/* ---- collectives ------------------------------------------------------------------------------------------------------- *
 * Results of all: Success (complete, or enqueued when stream is not NULL), InvalidArgument, InvalidUsage (calls do not
 * match, communicator finalized or used after fork), RemoteError, Timeout, SystemError. No enqueue blocks on a peer.
 * Sums of 16- and 8-bit floats are added in float32 and rounded by each rank that passes them on, or once in all with
 * MESHCCL_ACCUMULATE=once. Every rank and run gets the same bits. */

/* recvbuff[i] = reduction over ranks of sendbuff[i], i < count, on every rank. In place: sendbuff == recvbuff. */
meshcclResult_t meshcclAllReduce(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype,
                                 meshcclRedOp_t op, meshcclComm_t comm, meshcclStream_t stream);

/* The same result on root only; recvbuff is ignored elsewhere. In place: sendbuff == recvbuff on root. */
meshcclResult_t meshcclReduce(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype,
                              meshcclRedOp_t op, int root, meshcclComm_t comm, meshcclStream_t stream);

/* recvbuff = root's sendbuff, count elements, on every rank; sendbuff is ignored elsewhere. In place: equal on root. */
meshcclResult_t meshcclBroadcast(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype,
                                 int root, meshcclComm_t comm, meshcclStream_t stream);

/* The old form: buff is source on root and destination elsewhere. */
meshcclResult_t meshcclBcast(void* buff, size_t count, meshcclDataType_t datatype, int root, meshcclComm_t comm,
                             meshcclStream_t stream);

/* recvbuff (recvcount) = block `rank` of the reduction of sendbuff (nranks*recvcount).
 * In place: recvbuff == sendbuff + rank*recvcount. */
meshcclResult_t meshcclReduceScatter(const void* sendbuff, void* recvbuff, size_t recvcount, meshcclDataType_t datatype,
                                     meshcclRedOp_t op, meshcclComm_t comm, meshcclStream_t stream);

/* recvbuff (nranks*sendcount) = every rank's sendbuff (sendcount) in rank order.
 * In place: sendbuff == recvbuff + rank*sendcount. */
meshcclResult_t meshcclAllGather(const void* sendbuff, void* recvbuff, size_t sendcount, meshcclDataType_t datatype,
                                 meshcclComm_t comm, meshcclStream_t stream);

/* Block d of sendbuff goes to block `rank` of rank d's recvbuff; count elements per block. Not in place. */
meshcclResult_t meshcclAlltoAll(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype,
                                meshcclComm_t comm, meshcclStream_t stream);

/* recvbuff (nranks*count, root only) = every rank's sendbuff (count). In place: sendbuff == recvbuff + root*count. */
meshcclResult_t meshcclGather(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype, int root,
                              meshcclComm_t comm, meshcclStream_t stream);

/* recvbuff (count) = block `rank` of root's sendbuff (nranks*count). In place: recvbuff == sendbuff + root*count. */
meshcclResult_t meshcclScatter(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype, int root,
                               meshcclComm_t comm, meshcclStream_t stream);

/* No rank passes before all have arrived. */
meshcclResult_t meshcclBarrier(meshcclComm_t comm, meshcclStream_t stream);

/* Point to point. Calls that must progress together (an exchange) go in one group. The k-th send to a peer meets its
 * k-th receive; counts must agree (InvalidUsage otherwise). */
meshcclResult_t meshcclSend(const void* sendbuff, size_t count, meshcclDataType_t datatype, int peer,
                            meshcclComm_t comm, meshcclStream_t stream);
meshcclResult_t meshcclRecv(void* recvbuff, size_t count, meshcclDataType_t datatype, int peer, meshcclComm_t comm,
                            meshcclStream_t stream);

/* Calls between Start and End are checked at once and issued together at the outermost End. Per thread; may nest. The
 * result of End is the first error of the group; nothing of the group is issued when a call was refused.
 *
 * Small all-reduces of a group are run as one. Of the collectives of one communicator in the group, those that follow each
 * other with the same type and operator are joined while each holds at most a sixteenth of MESHCCL_FUSE and all together
 * at most MESHCCL_FUSE bytes (256 calls at most); sends and receives between them do not count, nor do streams: joined
 * calls start when all their streams have come to them and end together. So only the calls themselves decide, and every
 * rank of the communicator has to group them alike: what differs is found and named as for any other call.
 *  - A call that is joined may not read what an earlier one of the same group writes (InvalidUsage), nor share what is
 *    written with a send or receive between them (not noticed).
 *  - The result is that of one all-reduce of the vectors in a row, the same on every rank and run. It is that of the calls
 *    alone bit for bit with two ranks, and where the order of operands does not change a result (integers); with more
 *    ranks sums and products of floats may be rounded in another order, as they may at another count.
 * Cost: one operation, and a copy of every vector to and from memory of the library. */
meshcclResult_t meshcclGroupStart(void);
meshcclResult_t meshcclGroupEnd(void);

/* ---- host streams and events ------------------------------------------------------------------------------------------ *
 * A stream runs its operations in order. Without a progress thread work advances in any call that waits or queries. */

meshcclResult_t meshcclStreamCreate(meshcclStream_t* stream);
/* Completes what is enqueued, then frees. NULL is allowed. */
meshcclResult_t meshcclStreamDestroy(meshcclStream_t stream);
/* Success: all work done. InProgress: not yet. Otherwise the first error of the stream's work. Makes progress. */
meshcclResult_t meshcclStreamQuery(meshcclStream_t stream);
meshcclResult_t meshcclStreamSynchronize(meshcclStream_t stream);
/* Later work of stream starts only after event's last record is reached. */
meshcclResult_t meshcclStreamWaitEvent(meshcclStream_t stream, meshcclEvent_t event);
/* fn(arg) runs after the work before it, on the thread that drives progress; it must not call meshccl. */
meshcclResult_t meshcclLaunchHostFunc(meshcclStream_t stream, void (*fn)(void*), void* arg);

meshcclResult_t meshcclEventCreate(meshcclEvent_t* event);
meshcclResult_t meshcclEventDestroy(meshcclEvent_t event);
meshcclResult_t meshcclEventRecord(meshcclEvent_t event, meshcclStream_t stream);
/* Success: the last record was reached (or none was made). InProgress: not yet. Makes progress. */
meshcclResult_t meshcclEventQuery(meshcclEvent_t event);
meshcclResult_t meshcclEventSynchronize(meshcclEvent_t event);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
