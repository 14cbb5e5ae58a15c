/* The command line of the perf tools: nccl-tests' flags, and a few long ones of our own.
 * Parsing neither prints nor exits: it fills the struct or a message. Called by the engine and by the option tests. */
#ifndef PERF_OPTIONS_H
#define PERF_OPTIONS_H

#include "perf/engine/flags.h"

typedef struct {
  int nthreads, ngpus;
  size_t min_bytes, max_bytes, step_bytes;
  double step_factor; /* 0: steps of step_bytes */
  int iters, warmup_iters, agg_iters, run_cycles;
  int parallel_init, check;
  const char* op;   /* a name or "all" */
  const char* type; /* a name or "all" */
  int root;         /* -1: all */
  int blocking, stream_null;
  double timeout; /* seconds, 0: none */
  int report_cputime, report_timestamps, per_iter_timing, per_iter_skip;
  int average, local_register;
  size_t unalign; /* elements */
  const char* json_file;
  const char* csv_file;
  int np; /* processes to start, 0: none */
  const char* topology;
  bool bound;
} perf_options;

/* Sets every field; the strings point into argv. PERF_BAD: message says which flag, what was given and what is allowed.
 */
perf_parse_result perf_options_parse(int argc, char** argv, perf_options* out, char message[PERF_MESSAGE]);

/* Prints the help text: every flag with its default. */
void perf_options_help(const char* program);
#endif
