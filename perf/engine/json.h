/* A writer for JSON: commas, nesting and escapes are its business, what to say is the caller's.
 * Wrong use (a value without key inside an object) is an assertion. Called by the reports of the perf tools. */
#ifndef PERF_JSON_H
#define PERF_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { PERF_JSON_DEPTH = 16 };

typedef struct {
  FILE* to;
  int depth;
  char open[PERF_JSON_DEPTH]; /* '{' or '[' */
  bool filled[PERF_JSON_DEPTH];
  bool keyed; /* a key waits for its value */
} perf_json;

void perf_json_open(perf_json* j, char bracket);
void perf_json_close(perf_json* j);
void perf_json_key(perf_json* j, const char* key);
void perf_json_string(perf_json* j, const char* text); /* NULL: null */
void perf_json_integer(perf_json* j, int64_t value);
void perf_json_real(perf_json* j, double value); /* null when it is not finite */
void perf_json_null(perf_json* j);
/* nccl-tests writes booleans as the strings "true" and "false". */
void perf_json_boolean(perf_json* j, bool value);
/* Closes everything that is open. */
void perf_json_finish(perf_json* j);
#endif
