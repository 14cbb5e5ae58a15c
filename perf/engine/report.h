/* Where results go: the table on stdout, and JSON and CSV files where they were asked for. Only the worker with rank 0
 * has a report. Called by the engine in the order of the declarations. */
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include "perf/engine/columns.h"
#include "perf/engine/json.h"

typedef struct {
  int rank, group, pid, device;
  char host[64];
} perf_device;

typedef struct {
  const perf_world* world;
  perf_columns columns;
  perf_json json; /* to == NULL: none */
  FILE* csv;
  double bandwidth_sum, wrong;
  int bandwidths;
  double share_sum, best_share; /* of the bound, in percent */
  int shares;
} perf_report;

/* Opens the files. False, with a message on stderr, when one cannot be written. */
bool perf_report_open(perf_report* out, const perf_world* world, int argc, char** argv);
void perf_report_head(perf_report* report, const perf_device* devices, int n);
void perf_report_row(perf_report* report, const perf_row* row);
/* Prints the summary and closes. `error` is NULL when the run was complete. Returns whether results and bandwidth
 * (NCCL_TESTS_MIN_BW) are good. */
bool perf_report_close(perf_report* report, const char* error);
#endif
