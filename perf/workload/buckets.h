/* Which tensors are reduced together: gradients become ready in backward order and are packed into buckets one after
 * the other. Knows no communicator. Called by the replay and its tests. */
#ifndef PERF_BUCKETS_H
#define PERF_BUCKETS_H

#include "perf/workload/model.h"

typedef struct {
  size_t first_tensor, ntensors; /* in backward order */
  size_t first, count;           /* elements in the gradient vector */
} perf_bucket;

typedef struct {
  size_t* elements; /* of each tensor in backward order, scaled */
  size_t ntensors, total;
  perf_bucket* buckets;
  size_t nbuckets;
} perf_plan;

/* Every tensor keeps at least one element under `scale`. A bucket is closed before a tensor would make it larger than
 * `limit` elements; a larger tensor is a bucket of its own; limit 0: one bucket per tensor. 0, or -1 without memory. */
int perf_plan_create(const perf_model* model, double scale, size_t limit, perf_plan* out);
void perf_plan_free(perf_plan* plan);
#endif
