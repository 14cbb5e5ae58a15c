/* JSON: version, times, arguments, environment, configuration, results, summary, errors. The environment is cut down to
 * the variables that can matter, without the secrets that launchers pass in it. CSV: one line per row, both halves. */
#include "perf/engine/report_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_VERSION = 3, PATH_LENGTH = 4096 };

extern char** environ;

static void key_string(perf_json* j, const char* key, const char* text) {
  perf_json_key(j, key);
  perf_json_string(j, text);
}

static void key_integer(perf_json* j, const char* key, size_t value) {
  perf_json_key(j, key);
  perf_json_integer(j, (int64_t)value);
}

static void key_real(perf_json* j, const char* key, double value) {
  perf_json_key(j, key);
  perf_json_real(j, value);
}

static void key_boolean(perf_json* j, const char* key, bool value) {
  perf_json_key(j, key);
  perf_json_boolean(j, value);
}

static bool worth_telling(const char* variable) {
  static const char* const prefixes[] = {"MESHCCL_", "NCCL_", "OMPI_COMM_WORLD_", "PMI_",
                                         "SLURM_",   "RANK=", "WORLD_SIZE="};
  static const char* const secrets[] = {"MESHCCL_ID=", "MESHCCL_SECRET="};
  for (size_t k = 0; k < sizeof(secrets) / sizeof(secrets[0]); k++)
    if (!strncmp(variable, secrets[k], strlen(secrets[k]))) return false;
  for (size_t k = 0; k < sizeof(prefixes) / sizeof(prefixes[0]); k++)
    if (!strncmp(variable, prefixes[k], strlen(prefixes[k]))) return true;
  return false;
}

static void json_start(perf_json* j, int argc, char** argv) {
  char now[PERF_NUMBER];
  int library = 0;
  meshcclGetVersion(&library);
  perf_json_open(j, '{');
  key_integer(j, "version", JSON_VERSION);
  key_string(j, "start_time", perf_now(now));
  perf_json_key(j, "args");
  perf_json_open(j, '[');
  for (int k = 0; k < argc; k++) perf_json_string(j, argv[k]);
  perf_json_close(j);
  perf_json_key(j, "env");
  perf_json_open(j, '[');
  for (char** variable = environ; *variable; variable++)
    if (worth_telling(*variable)) perf_json_string(j, *variable);
  perf_json_close(j);
  key_integer(j, "nccl_version", (size_t)library);
}

/* An existing file is never overwritten: FILE, then FILE.0, FILE.1 and so on. */
static FILE* open_new(const char* path) {
  char name[PATH_LENGTH];
  snprintf(name, sizeof(name), "%s", path);
  FILE* file = fopen(name, "wx");
  for (int k = 0; !file && errno == EEXIST; k++) {
    snprintf(name, sizeof(name), "%s.%d", path, k);
    file = fopen(name, "wx");
  }
  if (file) printf("# Writing JSON output to %s\n", name);
  return file;
}

bool perf_report_files_open(perf_report* r, int argc, char** argv) {
  const perf_options* o = &r->world->options;
  if (o->json_file && !(r->json.to = open_new(o->json_file))) {
    fprintf(stderr, "--output_file: %s: %s\n", o->json_file, strerror(errno));
    return false;
  }
  if (o->csv_file && !(r->csv = fopen(o->csv_file, "w"))) {
    fprintf(stderr, "--csv: %s: %s\n", o->csv_file, strerror(errno));
    if (r->json.to) fclose(r->json.to);
    return false;
  }
  if (r->json.to) json_start(&r->json, argc, argv);
  return true;
}

static void json_devices(perf_json* j, const perf_device* devices, int n) {
  perf_json_key(j, "devices");
  perf_json_open(j, '[');
  for (int k = 0; k < n; k++) {
    perf_json_open(j, '{');
    key_integer(j, "rank", (size_t)devices[k].rank);
    key_integer(j, "group", (size_t)devices[k].group);
    key_integer(j, "pid", (size_t)devices[k].pid);
    key_string(j, "hostname", devices[k].host);
    key_integer(j, "device", (size_t)devices[k].device);
    key_string(j, "device_hex", "0000:00:00");
    key_string(j, "device_info", "host memory");
    perf_json_close(j);
  }
  perf_json_close(j);
}

static void json_head(perf_json* j, const perf_options* o, const perf_device* devices, int n) {
  perf_json_key(j, "config");
  perf_json_open(j, '{');
  key_integer(j, "nthreads", (size_t)o->nthreads);
  key_integer(j, "ngpus", (size_t)o->ngpus);
  key_integer(j, "minimum_bytes", o->min_bytes);
  key_integer(j, "maximum_bytes", o->max_bytes);
  if (o->step_factor > 1)
    key_real(j, "step_factor", o->step_factor);
  else
    key_integer(j, "step_bytes", o->step_bytes);
  key_integer(j, "warmup_iters", (size_t)o->warmup_iters);
  key_integer(j, "iterations", (size_t)o->iters);
  key_integer(j, "aggregated_iterations", (size_t)o->agg_iters);
  key_integer(j, "validation", (size_t)o->check);
  key_integer(j, "graph", 0);
  key_boolean(j, "blocking_collectives", o->blocking != 0);
  key_boolean(j, "per_iter_timing", o->per_iter_timing != 0);
  key_boolean(j, "parallel_init", o->parallel_init != 0);
  json_devices(j, devices, n);
  perf_json_close(j);
  perf_json_key(j, "results");
  perf_json_open(j, '[');
}

static void csv_head(FILE* csv) {
  static const char* const sides[] = {"out_of_place", "in_place"};
  fputs("size_B,count,type,redop,root", csv);
  for (int k = 0; k < 2; k++)
    fprintf(csv, ",%s_time_us,%s_algbw_GBps,%s_busbw_GBps,%s_wrong,%s_bound_percent", sides[k], sides[k], sides[k],
            sides[k], sides[k]);
  fputc('\n', csv);
}

void perf_report_files_head(perf_report* r, const perf_device* devices, int n) {
  if (r->json.to) json_head(&r->json, &r->world->options, devices, n);
  if (r->csv) csv_head(r->csv);
}

static void json_iterations(perf_json* j, const char* key, const perf_iterations* i) {
  perf_json_key(j, key);
  perf_json_open(j, '{');
  key_real(j, "min_us", i->min);
  key_real(j, "max_us", i->max);
  key_real(j, "avg_us", i->avg);
  key_real(j, "p50_us", i->p50);
  key_real(j, "p95_us", i->p95);
  key_real(j, "p99_us", i->p99);
  key_real(j, "stdev_us", i->stdev);
  key_real(j, "cv_pct", i->cv);
  perf_json_key(j, "times_us");
  perf_json_open(j, '[');
  for (int k = 0; k < i->n; k++) perf_json_real(j, i->times[k]);
  perf_json_close(j);
  perf_json_close(j);
}

static void json_half(perf_json* j, const char* key, const perf_half* h, const perf_columns* c) {
  perf_json_key(j, key);
  perf_json_open(j, '{');
  key_real(j, c->cputime ? "cpu_time" : "time", h->time_us);
  key_real(j, "alg_bw", h->algbw);
  key_real(j, "bus_bw", h->busbw);
  perf_json_key(j, "nwrong");
  h->wrong < 0 ? perf_json_null(j) : perf_json_real(j, h->wrong);
  if (c->bound) {
    perf_json_key(j, "bound_percent");
    h->bound_percent < 0 ? perf_json_null(j) : perf_json_real(j, h->bound_percent);
  }
  perf_json_close(j);
}

static void json_row(perf_report* r, const perf_row* row) {
  perf_json* j = &r->json;
  char root[PERF_NUMBER];
  snprintf(root, sizeof(root), "%d", row->root);
  perf_json_open(j, '{');
  key_integer(j, "size", row->size);
  key_integer(j, "count", row->count);
  key_string(j, "type", row->type);
  key_string(j, "redop", row->redop);
  key_string(j, "root", root);
  json_half(j, "out_of_place", &row->half[0], &r->columns);
  if (r->columns.per_iter) json_iterations(j, "out_of_place_per_iter", &row->half[0].iterations);
  json_half(j, "in_place", &row->half[1], &r->columns);
  if (r->columns.per_iter) json_iterations(j, "in_place_per_iter", &row->half[1].iterations);
  key_integer(j, "actual_iterations", (size_t)r->world->options.iters);
  key_string(j, "experiment_name", r->world->program->name);
  perf_json_close(j);
}

static void csv_figure(FILE* csv, double value, bool applies) {
  fputc(',', csv);
  if (applies) fprintf(csv, "%.9g", value);
}

void perf_report_files_row(perf_report* r, const perf_row* row) {
  if (r->json.to) json_row(r, row);
  if (!r->csv) return;
  fprintf(r->csv, "%zu,%zu,%s,%s,%d", row->size, row->count, row->type, row->redop, row->root);
  for (int k = 0; k < 2; k++) {
    const perf_half* h = &row->half[k];
    csv_figure(r->csv, h->time_us, true);
    csv_figure(r->csv, h->algbw, true);
    csv_figure(r->csv, h->busbw, true);
    csv_figure(r->csv, h->wrong, h->wrong >= 0);
    csv_figure(r->csv, h->bound_percent, h->bound_percent >= 0);
  }
  fputc('\n', r->csv);
  fflush(r->csv);
}

static void json_end(perf_json* j, double wrong, double average, const char* fast, const char* error) {
  char now[PERF_NUMBER];
  while (j->depth > 1) perf_json_close(j);
  perf_json_key(j, "out_of_bounds");
  perf_json_open(j, '{');
  key_real(j, "count", wrong);
  key_boolean(j, "okay", wrong == 0);
  perf_json_close(j);
  perf_json_key(j, "average_bus_bandwidth");
  perf_json_open(j, '{');
  key_real(j, "bandwidth", average);
  key_string(j, "okay", fast);
  perf_json_close(j);
  perf_json_key(j, "errors");
  perf_json_open(j, '[');
  if (error) perf_json_string(j, error);
  perf_json_close(j);
  key_string(j, "end_time", perf_now(now));
  perf_json_finish(j);
}

void perf_report_files_close(perf_report* r, double average, const char* fast, const char* error) {
  if (r->json.to) {
    json_end(&r->json, r->wrong, average, fast, error);
    fclose(r->json.to);
  }
  if (r->csv) fclose(r->csv);
}
