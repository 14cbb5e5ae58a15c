/* One half of a line: fill the buffers, time the iterations between two barriers, check repetitions with fresh data,
 * and combine what all ranks saw. */
#include <stdlib.h>
#include <string.h>

#include "perf/engine/bound.h"
#include "perf/engine/perf.h"

static meshcclResult_t issue_group(perf_rank* ranks, const perf_line* line, bool in_place, int times) {
  perf_world* world = ranks->world;
  int n = world->options.ngpus;
  bool group = n * times > 1;
  meshcclResult_t result = group ? meshcclGroupStart() : meshcclSuccess;
  for (int t = 0; t < times; t++)
    for (int k = 0; result == meshcclSuccess && k < n; k++) {
      perf_call call = perf_buffers_call(&ranks[k], line, in_place);
      result = world->program->call(&call);
    }
  meshcclResult_t end = group ? meshcclGroupEnd() : meshcclSuccess;
  return perf_check(world, world->program->name, result != meshcclSuccess ? result : end);
}

/* In place every call works on the result of the one before, which calls of one group may not. */
meshcclResult_t perf_issue(perf_rank* ranks, const perf_line* line, bool in_place, int times) {
  if (!in_place) return issue_group(ranks, line, false, times);
  for (int t = 0; t < times; t++) PERF_TRY(issue_group(ranks, line, true, 1));
  return meshcclSuccess;
}

meshcclResult_t perf_wait(perf_rank* ranks) {
  for (int k = 0; k < ranks->world->options.ngpus; k++)
    if (ranks[k].stream) PERF_CALL(ranks->world, meshcclStreamSynchronize(ranks[k].stream));
  return meshcclSuccess;
}

void perf_half_clear(perf_half* half) {
  free(half->iterations.times);
  half->iterations.times = NULL;
}

/* Seconds per operation on this worker; times[iters] of single iterations when not NULL. */
static meshcclResult_t run_timed(perf_rank* ranks, const perf_line* line, bool in_place, double* times, double* out) {
  const perf_options* o = &ranks->world->options;
  PERF_TRY(perf_barrier(ranks));
  double start = perf_seconds(), inside = 0;
  for (int k = 0; k < o->iters; k++) {
    double before = perf_seconds();
    PERF_TRY(perf_issue(ranks, line, in_place, o->agg_iters));
    inside += perf_seconds() - before;
    if (o->blocking || times) PERF_TRY(perf_wait(ranks));
    if (o->blocking == 1) PERF_TRY(perf_barrier(ranks));
    if (times) times[k] = (perf_seconds() - before) / o->agg_iters;
  }
  PERF_TRY(perf_wait(ranks));
  double elapsed = o->report_cputime ? inside : perf_seconds() - start;
  *out = o->iters ? elapsed / o->iters / o->agg_iters : 0;
  return meshcclSuccess;
}

static meshcclResult_t run_checked(perf_rank* ranks, const perf_line* line, bool in_place, double* wrong) {
  const perf_world* world = ranks->world;
  int n = world->options.ngpus;
  for (int repeat = 0; repeat < world->options.check; repeat++) {
    for (int k = 0; k < n; k++) {
      ranks[k].phase += 104729; /* a prime that the periods do not divide */
      if (!world->program->check) perf_buffers_prepare(&ranks[k], line, in_place);
    }
    if (world->program->check) {
      PERF_TRY(world->program->check(ranks, line, wrong));
      continue;
    }
    PERF_TRY(perf_issue(ranks, line, in_place, 1));
    PERF_TRY(perf_wait(ranks));
    for (int k = 0; k < n; k++) wrong[k] += (double)perf_buffers_wrong(&ranks[k], line, in_place);
  }
  return meshcclSuccess;
}

static double combine(int how, double sofar, double next, int rank) {
  if (rank == 0) return next;
  switch (how) {
    case 0:
      return sofar;
    case 2:
      return next < sofar ? next : sofar;
    case 3:
      return next > sofar ? next : sofar;
    default:
      return sofar + next;
  }
}

typedef struct {
  double seconds, wrong;
} verdict;

static meshcclResult_t combine_verdicts(perf_rank* ranks, double seconds, const double* wrong, perf_half* out) {
  int n = ranks->world->options.ngpus, nranks = ranks->nranks, how = ranks->world->options.average;
  verdict* mine = calloc((size_t)(n + nranks), sizeof(*mine));
  if (!mine) return meshcclSystemError;
  verdict* all = mine + n;
  for (int k = 0; k < n; k++) {
    mine[k] = (verdict){seconds, wrong[k]};
    ranks[k].wrong = ranks[k].wrong || wrong[k] > 0;
  }
  meshcclResult_t result = perf_gather(ranks, mine, sizeof(*mine), all);
  double time = 0;
  for (int r = 0; r < nranks; r++) {
    time = combine(how, time, all[r].seconds, r);
    out->wrong += all[r].wrong;
  }
  out->time_us = time * 1e6 / (how == 1 ? nranks : 1);
  free(mine);
  return result;
}

/* An iteration is over when the slowest rank is: maximum over ranks, then statistics over iterations. */
static meshcclResult_t combine_times(perf_rank* ranks, const double* times, perf_half* out) {
  const perf_options* o = &ranks->world->options;
  size_t iters = (size_t)o->iters, nranks = (size_t)ranks->nranks, n = (size_t)o->ngpus;
  double* mine = calloc((n + nranks) * iters, sizeof(*mine));
  out->iterations.times = calloc(iters, sizeof(double));
  if (!mine || !out->iterations.times) {
    free(mine);
    return meshcclSystemError;
  }
  double* all = mine + n * iters;
  for (size_t k = 0; k < n; k++) memcpy(mine + k * iters, times, iters * sizeof(*times));
  meshcclResult_t result = perf_gather(ranks, mine, iters * sizeof(*mine), all);
  for (size_t r = 0; r < nranks; r++)
    for (size_t k = 0; k < iters; k++)
      if (all[r * iters + k] * 1e6 > out->iterations.times[k]) out->iterations.times[k] = all[r * iters + k] * 1e6;
  int skip = o->per_iter_skip;
  memmove(out->iterations.times, out->iterations.times + skip, (iters - (size_t)skip) * sizeof(double));
  perf_statistics(out->iterations.times, o->iters - skip, &out->iterations);
  free(mine);
  return result;
}

static void rate(const perf_rank* rank, const perf_line* line, perf_half* out) {
  const perf_program* p = rank->world->program;
  out->algbw = out->time_us > 0 ? (double)line->bytes / out->time_us / 1e3 : 0;
  out->busbw = out->algbw * p->bus_factor(rank->group_size);
  out->bound_percent = -1;
  if (rank->world->topology) out->bound_percent = perf_bound_percent(rank, line, out->time_us);
}

meshcclResult_t perf_measure(perf_rank* ranks, const perf_line* line, bool in_place, perf_half* out) {
  perf_world* world = ranks->world;
  const perf_options* o = &world->options;
  bool buffers_apart = !in_place || !world->program->in_place;
  double seconds = 0, *times = o->per_iter_timing ? calloc((size_t)o->iters, sizeof(double)) : NULL;
  double* wrong = calloc((size_t)o->ngpus, sizeof(double));
  meshcclResult_t result = wrong && (times || !o->per_iter_timing) ? meshcclSuccess : meshcclSystemError;
  *out = (perf_half){0};
  for (int k = 0; !world->program->check && k < o->ngpus; k++) perf_buffers_prepare(&ranks[k], line, !buffers_apart);
  if (result == meshcclSuccess) result = run_timed(ranks, line, !buffers_apart, times, &seconds);
  bool checked = o->check && buffers_apart == !in_place;
  if (result == meshcclSuccess && checked) result = run_checked(ranks, line, in_place, wrong);
  if (result == meshcclSuccess) result = combine_verdicts(ranks, seconds, wrong, out);
  if (result == meshcclSuccess && times) result = combine_times(ranks, times, out);
  if (!checked) out->wrong = -1;
  rate(&ranks[0], line, out);
  world->pulse++;
  free(times);
  free(wrong);
  return result;
}
