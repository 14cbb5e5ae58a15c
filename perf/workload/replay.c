/* Compute is modelled as time during which an accelerator works and the host thread sleeps; with --poll it queries the
 * stream once per millisecond instead, because then nobody else drives the communication. */
#include "perf/workload/replay.h"

#include <stdlib.h>
#include <time.h>

#include "perf/engine/pattern.h"
#include "perf/engine/perf.h"

static const double poll_interval = 1e-3;

static meshcclResult_t report(const perf_replay* r, const char* what, meshcclResult_t result) {
  if (result != meshcclSuccess)
    fprintf(stderr, "workload_perf: rank %d: %s: %s: %s\n", r->rank, what, meshcclGetErrorString(result),
            meshcclGetLastError(NULL));
  return result;
}
#define CALL(expression) PERF_TRY(report(r, #expression, expression))

meshcclResult_t perf_replay_open(perf_replay* r, const perf_workload_options* options, const perf_plan* plan,
                                 meshcclDataType_t type) {
  *r = (perf_replay){.options = options, .plan = plan, .type = type};
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.topology = options->topology;
  config.name = "workload_perf";
  if (options->poll) config.progressThread = 0;
  CALL(meshcclCommInitEnv(&r->comm, &config));
  CALL(meshcclCommUserRank(r->comm, &r->rank));
  CALL(meshcclCommCount(r->comm, &r->nranks));
  CALL(meshcclStreamCreate(&r->stream));
  if (!(r->events = calloc(plan->nbuckets, sizeof(*r->events)))) return meshcclSystemError;
  for (size_t k = 0; k < plan->nbuckets; k++) CALL(meshcclEventCreate(&r->events[k]));
  void* memory = NULL;
  meshcclResult_t result = meshcclMemAlloc(&memory, plan->total * perf_type_size(type));
  if (result != meshcclSuccess) fprintf(stderr, "workload_perf: the gradients do not fit; try a smaller --scale\n");
  r->gradients = memory;
  return report(r, "meshcclMemAlloc", result);
}

void perf_replay_close(perf_replay* r) {
  for (size_t k = 0; r->events && k < r->plan->nbuckets; k++) meshcclEventDestroy(r->events[k]);
  free(r->events);
  meshcclStreamDestroy(r->stream);
  meshcclCommDestroy(r->comm);
  if (r->gradients) meshcclMemFree(r->gradients);
}

static void sleep_until(double when) {
  double left = when - perf_seconds();
  if (left > 0) nanosleep(&(struct timespec){(time_t)left, (long)((left - (double)(time_t)left) * 1e9)}, NULL);
}

/* The compute of one layer. */
static meshcclResult_t compute(perf_replay* r, size_t elements, double* caller) {
  double until = perf_seconds() + (double)(elements * perf_type_size(r->type)) * r->options->compute * 1e-12;
  while (perf_seconds() < until) {
    double next = perf_seconds() + poll_interval;
    sleep_until(r->options->poll && next < until ? next : until);
    if (!r->options->poll) continue;
    double before = perf_seconds();
    meshcclResult_t state = meshcclStreamQuery(r->stream);
    *caller += perf_seconds() - before;
    if (state != meshcclSuccess && state != meshcclInProgress) return report(r, "meshcclStreamQuery", state);
  }
  return meshcclSuccess;
}

static meshcclResult_t reduce_bucket(perf_replay* r, size_t k, double* caller) {
  const perf_bucket* b = &r->plan->buckets[k];
  void* at = r->gradients + b->first * perf_type_size(r->type);
  double before = perf_seconds();
  CALL(meshcclAllReduce(at, at, b->count, r->type, meshcclAvg, r->comm, r->stream));
  CALL(meshcclEventRecord(r->events[k], r->stream));
  *caller += perf_seconds() - before;
  return meshcclSuccess;
}

static meshcclResult_t count_late(perf_replay* r, double* late) {
  for (size_t k = 0; k < r->plan->nbuckets; k++) {
    meshcclResult_t state = meshcclEventQuery(r->events[k]);
    if (state == meshcclInProgress)
      *late += 1;
    else
      PERF_TRY(report(r, "meshcclEventQuery", state));
  }
  return meshcclSuccess;
}

meshcclResult_t perf_replay_step(perf_replay* r, int does, const char* what, perf_step* out) {
  const perf_plan* p = r->plan;
  perf_step step = {0};
  CALL(meshcclBarrier(r->comm, NULL));
  double start = perf_seconds();
  for (size_t k = 0; k < p->nbuckets; k++) {
    for (size_t t = 0; t < p->buckets[k].ntensors; t++) {
      if (does & PERF_COMPUTES) PERF_TRY(compute(r, p->elements[p->buckets[k].first_tensor + t], &step.caller));
      perf_progress_show(&r->progress, ++r->done, what);
    }
    if (does & PERF_REDUCES) PERF_TRY(reduce_bucket(r, k, &step.caller));
  }
  if (does & PERF_REDUCES) PERF_TRY(count_late(r, &step.late));
  double passed = perf_seconds();
  CALL(meshcclStreamSynchronize(r->stream));
  double end = perf_seconds();
  step.waiting = end - passed;
  step.total = end - start;
  *out = step;
  return meshcclSuccess;
}

meshcclResult_t perf_replay_check(perf_replay* r, double* wrong_out) {
  perf_pattern pattern;
  const perf_piece input = {PERF_INPUT, 0, 0}, result = {PERF_RESULT, 0, 0};
  if (!perf_pattern_create(&pattern, r->type, meshcclAvg, r->rank, r->nranks)) return meshcclSystemError;
  perf_pattern_fill(&pattern, input, 0, false, r->gradients, r->plan->total);
  perf_step ignored;
  meshcclResult_t status = perf_replay_step(r, PERF_REDUCES, "check", &ignored);
  if (status == meshcclSuccess)
    *wrong_out = (double)perf_pattern_wrong(&pattern, result, 0, r->gradients, r->plan->total);
  perf_pattern_destroy(&pattern);
  return status;
}
