/* Replays the backward passes of training steps: compute (simulated by waiting) layer by layer, and the all-reduce of
 * every bucket as soon as its last gradient is there. Called by workload_perf. */
#ifndef PERF_REPLAY_H
#define PERF_REPLAY_H

#include "meshccl/meshccl.h"
#include "perf/engine/types.h"
#include "perf/workload/buckets.h"
#include "perf/workload/progress.h"

typedef struct {
  const char* model;
  size_t bucket; /* bytes */
  double scale;
  int steps, warmup, check;
  double compute; /* microseconds per MB (1e6 bytes) of gradients */
  bool poll, progress;
  const char* type_name;
  int np;
  const char* topology;
  const char* json_file;
} perf_workload_options;

typedef struct {
  const perf_workload_options* options;
  const perf_plan* plan;
  meshcclDataType_t type;
  int rank, nranks;
  meshcclComm_t comm;
  meshcclStream_t stream;
  meshcclEvent_t* events; /* one per bucket: its reduction is over */
  uint8_t* gradients;
  perf_progress progress;
  size_t done; /* tensors so far in all steps */
} perf_replay;

/* Seconds on this rank. */
typedef struct {
  double total;   /* first layer to last reduced bucket */
  double caller;  /* inside meshccl calls during the pass: reductions issued, and the stream queried */
  double waiting; /* in the call that waits for the last reduction */
  double late;    /* buckets whose reduction ended after the last layer's compute, as a count */
} perf_step;
enum { PERF_COMPUTES = 1, PERF_REDUCES = 2 }; /* what a step does */

/* Joins the job, allocates. Prints what went wrong. */
meshcclResult_t perf_replay_open(perf_replay* replay, const perf_workload_options* options, const perf_plan* plan,
                                 meshcclDataType_t type);
void perf_replay_close(perf_replay* replay);
/* One backward pass; `does` of both kinds is a training step, of one the other's absence. */
meshcclResult_t perf_replay_step(perf_replay* replay, int does, const char* what, perf_step* out);
/* One pass with known data; *wrong_out is the number of wrong elements on this rank. */
meshcclResult_t perf_replay_check(perf_replay* replay, double* wrong_out);
#endif
