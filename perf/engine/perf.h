/* What the files of the perf engine share: the row that describes a program, a rank, a worker thread, the world.
 *
 * A process holds nthreads workers, each worker holds ngpus ranks and drives them in one group. All workers of all
 * processes walk through the same lines; the worker with rank 0 reports. */
#ifndef PERF_PERF_H
#define PERF_PERF_H

#include <pthread.h>
#include <stdatomic.h>

#include "meshccl/meshccl.h"
#include "meshccl/topo.h"
#include "perf/engine/options.h"
#include "perf/engine/pattern.h"

typedef struct perf_rank perf_rank;
typedef struct perf_world perf_world;

typedef struct {
  const void* send;
  void* recv;
  size_t count;
  meshcclDataType_t type;
  meshcclRedOp_t op;
  int root, rank, nranks;
  meshcclComm_t comm;
  meshcclStream_t stream;
} perf_call;

typedef struct {
  int rank, nranks, root;
  size_t count;
} perf_view;

/* The line that is being measured. */
typedef struct {
  meshcclDataType_t type;
  int op;       /* -1: the program has none */
  int root;     /* -1: the program has none */
  size_t count; /* the count argument of the call */
  size_t bytes; /* S of algbw = S/t */
} perf_line;

enum { PERF_ONE = 1, PERF_PER_RANK = -1 }; /* blocks of `count` elements in a buffer, or 0 */

/* One perf program. */
typedef struct {
  const char* program;    /* all_reduce_perf */
  const char* name;       /* AllReduce */
  const char* collective; /* all_reduce: as topologies know it, NULL when no bound applies */
  int send_blocks, recv_blocks;
  bool reduces, rooted, in_place;
  /* What block b of the send buffer holds, and of the receive buffer when all went well. */
  perf_piece (*send)(const perf_view* view, int block);
  perf_piece (*recv)(const perf_view* view, int block);
  double (*bus_factor)(int nranks); /* busbw / algbw */
  meshcclResult_t (*call)(const perf_call* call);
  /* Replaces the comparison of buffers: adds what is wrong on each of the worker's ranks. May be NULL. */
  meshcclResult_t (*check)(perf_rank* ranks, const perf_line* line, double* wrong);
} perf_program;

/* A receive or send area with guards on both sides. */
typedef struct {
  void* base;
  size_t bytes;
  void* handle; /* of a registration, else NULL */
} perf_buffer;

struct perf_rank {
  perf_world* world;
  int rank, nranks;                  /* of everybody */
  int color, group_rank, group_size; /* of the communicator under test */
  meshcclComm_t everybody, comm;
  meshcclStream_t stream; /* NULL for the NULL stream */
  meshcclRedOp_t op;
  perf_pattern pattern;
  perf_buffer send, recv;
  uint64_t phase; /* of the test data; moves alike on all ranks */
  bool wrong;     /* something was wrong here: the exit status must not depend on what was gathered */
};

struct perf_world {
  const perf_program* program;
  perf_options options;
  int process, nprocesses;
  meshcclComm_t bridge; /* one rank per process: carries the id of the real communicator; NULL when not needed */
  meshcclUniqueId id;
  perf_rank* ranks; /* of this process: nthreads * ngpus */
  int nlocal;
  meshcclTopo_t topology;      /* for --bound, else NULL */
  atomic_uint_least64_t pulse; /* counts finished pieces of work, for the watchdog */
};

/* Forwards a result that is not Success; the second form also prints expression and the library's message. */
#define PERF_TRY(expression)                                 \
  do {                                                       \
    meshcclResult_t perf_result_ = (expression);             \
    if (perf_result_ != meshcclSuccess) return perf_result_; \
  } while (0)
#define PERF_CALL(world, expression) PERF_TRY(perf_check(world, #expression, expression))
meshcclResult_t perf_check(const perf_world* world, const char* what, meshcclResult_t result);

/* ---- world.c: from options to communicators ---- */
meshcclResult_t perf_world_open(perf_world* world);
void perf_world_close(perf_world* world);
/* Every rank contributes `bytes`: mine holds those of the worker's ranks one after the other, all_out gets everybody's
 * in rank order. `ranks` is here and below the worker's: ngpus of them. */
meshcclResult_t perf_gather(perf_rank* ranks, const void* mine, size_t bytes, void* all_out);
meshcclResult_t perf_barrier(perf_rank* ranks);

/* ---- lines.c ---- */
/* The line for a size in bytes: all bytes of the larger buffer, in blocks of whole multiples of 16 bytes where a buffer
 * has a block per rank. A program without buffers has a line of size 0. */
perf_line perf_line_of(const perf_program* program, meshcclDataType_t type, int op, int root, size_t bytes, int nranks);

/* ---- buffers.c ---- */
meshcclResult_t perf_buffers_open(perf_rank* rank, size_t bytes);
void perf_buffers_close(perf_rank* rank);
/* Where the call reads and writes in a half of the line. */
perf_call perf_buffers_call(perf_rank* rank, const perf_line* line, bool in_place);
/* Fills both buffers with the data of rank->phase. */
void perf_buffers_prepare(perf_rank* rank, const perf_line* line, bool in_place);
/* Wrong elements after one call: unexpected results, changed inputs, broken guards. */
size_t perf_buffers_wrong(perf_rank* rank, const perf_line* line, bool in_place);

/* ---- measure.c ---- */
typedef struct {
  double min, max, avg, p50, p95, p99, stdev, cv; /* microseconds; cv in percent */
  int n;
  double* times; /* microseconds; free with perf_half_clear */
} perf_iterations;

typedef struct {
  double time_us, algbw, busbw;
  double wrong;         /* below 0: not applicable */
  double bound_percent; /* below 0: not applicable */
  perf_iterations iterations;
} perf_half;

/* One half of a line on the worker's ranks: fill, time, check, gather. */
meshcclResult_t perf_measure(perf_rank* ranks, const perf_line* line, bool in_place, perf_half* out);
/* One issue of the operation, agg_iters times, on all ranks of the worker. */
meshcclResult_t perf_issue(perf_rank* ranks, const perf_line* line, bool in_place, int times);
meshcclResult_t perf_wait(perf_rank* ranks);
void perf_half_clear(perf_half* half);

/* ---- times.c ---- */
/* Monotonic. */
double perf_seconds(void);
/* Fills all of out but `times`; n at least 1. */
void perf_statistics(const double* times, int n, perf_iterations* out);

/* ---- engine.c ---- */
/* The whole program; returns its exit status. */
int perf_main(const perf_program* program, int argc, char** argv);
#endif
