/* A progress bar on stderr, redrawn at most ten times per second. */
#ifndef PERF_PROGRESS_H
#define PERF_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
  bool shown;
  size_t total;
  double drawn_at;
} perf_progress;

void perf_progress_start(perf_progress* progress, bool shown, size_t total);
void perf_progress_show(perf_progress* progress, size_t done, const char* what);
/* Clears the line, so that other output can follow. */
void perf_progress_clear(perf_progress* progress);
#endif
