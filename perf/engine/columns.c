/* Widths, names and units of the columns stand in one table per half of a line. */
#include "perf/engine/columns.h"

#include <string.h>
#include <time.h>

enum { TIMESTAMP_WIDTH = 19 };

typedef struct {
  int width;
  const char *name, *unit;
  bool shown;
} column;

enum { HALF_COLUMNS = 9 };

static void half_columns(const perf_columns* c, column out[HALF_COLUMNS]) {
  const column all[HALF_COLUMNS] = {
      {7, c->cputime ? "cputime" : "time", "(us)", true},
      {6, "algbw", "(GB/s)", true},
      {6, "busbw", "(GB/s)", true},
      {6, "#wrong", "", true},
      {6, "%bound", "(%)", c->bound},
      {7, "i_min", "(us)", c->per_iter},
      {7, "i_max", "(us)", c->per_iter},
      {7, "i_p99", "(us)", c->per_iter},
      {7, "i_cv%", "(%)", c->per_iter},
  };
  memcpy(out, all, sizeof(all));
}

const char* perf_number(double value, int width, char text[PERF_NUMBER]) {
  for (int decimals = 2; decimals >= 0; decimals--)
    if (snprintf(text, PERF_NUMBER, "%*.*f", width, decimals, value) <= width) return text;
  snprintf(text, PERF_NUMBER, "%*.*e", width, width >= 7 ? 1 : 0, value);
  return text;
}

const char* perf_now(char text[PERF_NUMBER]) {
  time_t now = time(NULL);
  struct tm parts;
  strftime(text, PERF_NUMBER, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &parts));
  return text;
}

static void centred(FILE* to, const char* text, int width) {
  int length = (int)strlen(text), left = (width - length + 1) / 2;
  fprintf(to, "%*s%s%*s", left, "", text, width - length - left, "");
}

void perf_columns_head(FILE* to, const perf_columns* c) {
  column half[HALF_COLUMNS];
  half_columns(c, half);
  int width = 0;
  for (int k = 0; k < HALF_COLUMNS; k++) width += half[k].shown ? half[k].width + 2 : 0;
  fprintf(to, "#\n# %10s  %12s  %8s  %6s  %6s", "", "", "", "", "");
  centred(to, c->per_iter ? "out-of-place (+ per-iteration)" : "out-of-place", width);
  centred(to, c->per_iter ? "in-place (+ per-iteration)" : "in-place", width);
  for (int line = 0; line < 2; line++) {
    const char* left[2][5] = {{"size", "count", "type", "redop", "root"}, {"(B)", "(elements)", "", "", ""}};
    fprintf(to, "\n# %10s  %12s  %8s  %6s  %6s", left[line][0], left[line][1], left[line][2], left[line][3],
            left[line][4]);
    for (int side = 0; side < 2; side++)
      for (int k = 0; k < HALF_COLUMNS; k++)
        if (half[k].shown) fprintf(to, "  %*s", half[k].width, line ? half[k].unit : half[k].name);
    fprintf(to, " %*s", c->timestamps ? TIMESTAMP_WIDTH : 0,
            !c->timestamps ? ""
            : line         ? "%Y-%m-%d %H:%M:%S"
                           : "timestamp");
  }
  fputc('\n', to);
}

static void put(FILE* to, double value, int width, bool applies) {
  char text[PERF_NUMBER];
  fprintf(to, "  %*s", width, applies ? perf_number(value, width, text) : "N/A");
}

static void half_row(FILE* to, const perf_columns* c, const perf_half* h) {
  put(to, h->time_us, 7, true);
  put(to, h->algbw, 6, true);
  put(to, h->busbw, 6, true);
  if (h->wrong < 0)
    put(to, 0, 6, false);
  else
    fprintf(to, "  %6g", h->wrong);
  if (c->bound) put(to, h->bound_percent, 6, h->bound_percent >= 0);
  if (!c->per_iter) return;
  const double figures[] = {h->iterations.min, h->iterations.max, h->iterations.p99, h->iterations.cv};
  for (int k = 0; k < 4; k++) put(to, figures[k], 7, true);
}

void perf_columns_row(FILE* to, const perf_columns* c, const perf_row* row, const char* timestamp) {
  fprintf(to, "%12zu  %12zu  %8s  %6s  %6d", row->size, row->count, row->type, row->redop, row->root);
  half_row(to, c, &row->half[0]);
  half_row(to, c, &row->half[1]);
  if (c->timestamps) fprintf(to, "%21s", timestamp);
  fputc('\n', to);
}
