/* Carriage return, bar, share, what is going on. */
#include "perf/workload/progress.h"

#include <stdio.h>

#include "perf/engine/perf.h"

enum { BAR = 40 };
static const double interval = 0.1;

void perf_progress_start(perf_progress* progress, bool shown, size_t total) {
  *progress = (perf_progress){.shown = shown, .total = total ? total : 1};
}

void perf_progress_show(perf_progress* progress, size_t done, const char* what) {
  double now = progress->shown ? perf_seconds() : 0;
  if (!progress->shown || (now - progress->drawn_at < interval && done < progress->total)) return;
  progress->drawn_at = now;
  int filled = (int)(done * BAR / progress->total);
  char bar[BAR + 1];
  for (int k = 0; k < BAR; k++) bar[k] = k < filled ? '#' : '.';
  bar[BAR] = 0;
  fprintf(stderr, "\r[%s] %3zu%% %-32s", bar, done * 100 / progress->total, what);
}

void perf_progress_clear(perf_progress* progress) {
  if (progress->shown) fprintf(stderr, "\r%*s\r", BAR + 42, "");
  progress->drawn_at = 0;
}
