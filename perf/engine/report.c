/* The table on stdout and the summary; the files are in report_files.c. */
#include "perf/engine/report.h"

#include <stdlib.h>

#include "perf/engine/report_files.h"

static void print_settings(const perf_world* world) {
  const perf_options* o = &world->options;
  int library = 0;
  meshcclGetVersion(&library);
  printf("# nccl-tests version meshccl-%d.%d.%d nccl-headers=%d nccl-library=%d\n", MESHCCL_MAJOR, MESHCCL_MINOR,
         MESHCCL_PATCH, MESHCCL_VERSION_CODE, library);
  printf("# Collective test starting: %s\n", world->program->program);
  char step[PERF_NUMBER];
  if (o->step_factor > 1)
    snprintf(step, sizeof(step), "%g(factor)", o->step_factor);
  else
    snprintf(step, sizeof(step), "%zu(bytes)", o->step_bytes);
  printf(
      "# nThread %d nGpus %d minBytes %zu maxBytes %zu step: %s warmup iters: %d iters: %d agg iters: %d "
      "validation: %d graph: 0 unalign: %zu\n",
      o->nthreads, o->ngpus, o->min_bytes, o->max_bytes, step, o->warmup_iters, o->iters, o->agg_iters, o->check,
      o->unalign);
  if (o->blocking)
    printf("# Blocking Enabled: wait for completion%s after each collective%s\n",
           o->blocking == 1 ? " and barrier" : "", o->blocking == 1 ? "" : " (no barrier)");
  if (o->per_iter_timing) printf("# Per-Iteration Report: i_* of the slowest rank in each iteration\n");
}

bool perf_report_open(perf_report* out, const perf_world* world, int argc, char** argv) {
  const perf_options* o = &world->options;
  *out = (perf_report){
      .world = world,
      .columns = {o->report_cputime == 1, o->per_iter_timing == 1, o->bound, o->report_timestamps == 1},
  };
  return perf_report_files_open(out, argc, argv);
}

void perf_report_head(perf_report* r, const perf_device* devices, int n) {
  print_settings(r->world);
  printf("#\n# Using devices\n");
  for (int k = 0; k < n; k++)
    printf("#  Rank %2d Group %2d Pid %6d on %10s device %2d [0000:00:00] host memory\n", devices[k].rank,
           devices[k].group, devices[k].pid, devices[k].host, devices[k].device);
  perf_columns_head(stdout, &r->columns);
  fflush(stdout);
  perf_report_files_head(r, devices, n);
}

static void add_share(perf_report* r, double percent) {
  r->share_sum += percent;
  r->shares++;
  if (percent > r->best_share) r->best_share = percent;
}

void perf_report_row(perf_report* r, const perf_row* row) {
  char now[PERF_NUMBER];
  perf_columns_row(stdout, &r->columns, row, perf_now(now));
  fflush(stdout);
  perf_report_files_row(r, row);
  for (int side = 0; side < 2; side++) {
    r->bandwidth_sum += row->half[side].busbw;
    r->bandwidths++;
    if (row->half[side].wrong > 0) r->wrong += row->half[side].wrong;
    if (row->half[side].bound_percent >= 0) add_share(r, row->half[side].bound_percent);
  }
}

bool perf_report_close(perf_report* r, const char* error) {
  const char* wanted = getenv("NCCL_TESTS_MIN_BW");
  double average = r->bandwidths ? r->bandwidth_sum / r->bandwidths : 0;
  bool fast = !wanted || average >= 0.9 * atof(wanted), right = r->wrong == 0;
  if (!error) {
    printf("# %-20s : %.0f %s\n", "Out of bounds values", r->wrong, right ? "OK" : "FAILED");
    printf("# %-20s : %g %s\n", "Avg bus bandwidth", average, !wanted ? "" : fast ? "OK" : "FAILED");
    if (r->shares > 0)
      printf("# %-20s : %.4g %%, best %.4g %%\n", "Avg % of bound", r->share_sum / r->shares, r->best_share);
    printf("#\n# Collective test concluded: %s\n", r->world->program->program);
  }
  fflush(stdout);
  perf_report_files_close(r, average, wanted ? (fast ? "true" : "false") : "unchecked", error);
  return fast && right && !error;
}
