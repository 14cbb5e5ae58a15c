/* The clock of all measurements and the statistics over single iterations. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "perf/engine/perf.h"

double perf_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

/* Nearest rank: the smallest time that `percent` of the times do not exceed. */
static double percentile(const double* sorted, int n, int percent) { return sorted[(n * percent + 99) / 100 - 1]; }

void perf_statistics(const double* times, int n, perf_iterations* out) {
  double* sorted = malloc((size_t)n * sizeof(*sorted));
  if (!sorted) return;
  memcpy(sorted, times, (size_t)n * sizeof(*sorted));
  qsort(sorted, (size_t)n, sizeof(*sorted), ascending);
  double sum = 0, squares = 0;
  for (int k = 0; k < n; k++) sum += sorted[k];
  out->avg = sum / n;
  for (int k = 0; k < n; k++) squares += (sorted[k] - out->avg) * (sorted[k] - out->avg);
  out->n = n;
  out->min = sorted[0];
  out->max = sorted[n - 1];
  out->p50 = sorted[n / 2];
  out->p95 = percentile(sorted, n, 95);
  out->p99 = percentile(sorted, n, 99);
  out->stdev = sqrt(squares / n);
  out->cv = out->avg > 0 ? out->stdev / out->avg * 100 : 0;
  free(sorted);
}
