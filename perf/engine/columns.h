/* The table of nccl-tests as text: numbers that keep a column's width, head lines, rows. Writes to a stream that the
 * caller names, knows no communicator. Called by the report and by the golden-line tests. */
#ifndef PERF_COLUMNS_H
#define PERF_COLUMNS_H

#include <stdio.h>

#include "perf/engine/perf.h"

typedef struct {
  bool cputime, per_iter, bound, timestamps;
} perf_columns;

typedef struct {
  size_t size, count;
  const char *type, *redop;
  int root;
  perf_half half[2]; /* out of place, in place */
} perf_row;

enum { PERF_NUMBER = 32 };

/* Two decimals; fewer, then none, then e-notation where the width would not hold it. */
const char* perf_number(double value, int width, char text[PERF_NUMBER]);
/* "%Y-%m-%d %H:%M:%S" of the time of day. */
const char* perf_now(char text[PERF_NUMBER]);

void perf_columns_head(FILE* to, const perf_columns* columns);
void perf_columns_row(FILE* to, const perf_columns* columns, const perf_row* row, const char* timestamp);
#endif
