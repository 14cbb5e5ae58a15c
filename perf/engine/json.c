/* Text goes out as it comes; a stack remembers the open brackets and whether a comma is due. */
#include "perf/engine/json.h"

#include <assert.h>
#include <math.h>

static void before_value(perf_json* j) {
  if (j->depth == 0) return;
  int top = j->depth - 1;
  assert(j->open[top] == '[' || j->keyed);
  if (j->open[top] == '[' && j->filled[top]) fputc(',', j->to);
  j->filled[top] = true;
  j->keyed = false;
}

static void quoted(perf_json* j, const char* text) {
  fputc('"', j->to);
  for (const unsigned char* c = (const unsigned char*)text; *c; c++) {
    if (*c == '"' || *c == '\\')
      fprintf(j->to, "\\%c", *c);
    else if (*c < 0x20 || *c >= 0x7f) /* one code point per byte keeps any environment valid */
      fprintf(j->to, "\\u%04x", *c);
    else
      fputc(*c, j->to);
  }
  fputc('"', j->to);
}

void perf_json_open(perf_json* j, char bracket) {
  assert(j->depth < PERF_JSON_DEPTH);
  before_value(j);
  fputc(bracket, j->to);
  j->open[j->depth] = bracket;
  j->filled[j->depth++] = false;
}

void perf_json_close(perf_json* j) {
  assert(j->depth > 0 && !j->keyed);
  fputc(j->open[--j->depth] == '{' ? '}' : ']', j->to);
  if (j->depth == 0) fputc('\n', j->to);
}

void perf_json_key(perf_json* j, const char* key) {
  assert(j->depth > 0 && j->open[j->depth - 1] == '{' && !j->keyed);
  if (j->filled[j->depth - 1]) fputc(',', j->to);
  quoted(j, key);
  fputc(':', j->to);
  j->keyed = true;
}

void perf_json_string(perf_json* j, const char* text) {
  if (!text) {
    perf_json_null(j);
    return;
  }
  before_value(j);
  quoted(j, text);
}

void perf_json_integer(perf_json* j, int64_t value) {
  before_value(j);
  fprintf(j->to, "%lld", (long long)value);
}

void perf_json_real(perf_json* j, double value) {
  if (!isfinite(value)) {
    perf_json_null(j);
    return;
  }
  before_value(j);
  fprintf(j->to, "%.9g", value);
}

void perf_json_null(perf_json* j) {
  before_value(j);
  fputs("null", j->to);
}

void perf_json_boolean(perf_json* j, bool value) { perf_json_string(j, value ? "true" : "false"); }

void perf_json_finish(perf_json* j) {
  if (j->keyed) perf_json_null(j);
  while (j->depth > 0) perf_json_close(j);
}
