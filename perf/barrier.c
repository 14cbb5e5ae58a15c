/* barrier_perf: no rank passes before all have arrived. One line without size. The check lets one rank come late and
 * compares everybody's times of arrival and departure on the clock of the host (so it needs one host). */
#include <stdlib.h>
#include <time.h>

#include "perf/engine/perf.h"

static double bus_factor(int nranks) {
  (void)nranks;
  return 1;
}

static meshcclResult_t call(const perf_call* c) { return meshcclBarrier(c->comm, c->stream); }

typedef struct {
  double arrived, left;
  int color;
} passage;

static meshcclResult_t pass(perf_rank* ranks, const perf_line* line, passage* mine) {
  int n = ranks->world->options.ngpus, late = (int)(ranks->phase % (uint64_t)ranks->nranks);
  for (int k = 0; k < n; k++)
    if (ranks[k].rank == late) nanosleep(&(struct timespec){0, 2000000}, NULL);
  for (int k = 0; k < n; k++) mine[k] = (passage){.arrived = perf_seconds(), .color = ranks[k].color};
  PERF_TRY(perf_issue(ranks, line, false, 1));
  PERF_TRY(perf_wait(ranks));
  for (int k = 0; k < n; k++) mine[k].left = perf_seconds();
  return meshcclSuccess;
}

static meshcclResult_t check(perf_rank* ranks, const perf_line* line, double* wrong) {
  int n = ranks->world->options.ngpus, nranks = ranks->nranks;
  passage* mine = calloc((size_t)(n + nranks), sizeof(*mine));
  if (!mine) return meshcclSystemError;
  passage* all = mine + n;
  meshcclResult_t result = pass(ranks, line, mine);
  if (result == meshcclSuccess) result = perf_gather(ranks, mine, sizeof(*mine), all);
  for (int k = 0; result == meshcclSuccess && k < n; k++)
    for (int r = 0; r < nranks; r++) wrong[k] += all[r].color == mine[k].color && mine[k].left < all[r].arrived;
  free(mine);
  return result;
}

static const perf_program program = {
    .program = "barrier_perf",
    .name = "Barrier",
    .collective = "barrier",
    .bus_factor = bus_factor,
    .call = call,
    .check = check,
};

int main(int argc, char** argv) { return perf_main(&program, argc, argv); }
