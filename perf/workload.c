/* workload_perf: how long the gradients of a real model take, and how much of that hides behind the backward pass.
 * A check pass, warm-up, then steps that only communicate, steps that only compute, and steps that do both. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perf/engine/json.h"
#include "perf/engine/launch.h"
#include "perf/engine/perf.h"
#include "perf/workload/replay.h"

#define AT(field) offsetof(perf_workload_options, field)
enum { LONG_NP = PERF_ONLY_LONG + 1, LONG_TOPO, LONG_POLL, LONG_PROGRESS };

static const perf_flag flags[] = {
    {'m', "model", PERF_FLAG_TEXT, AT(model), 0, 0, "resnet50", "resnet50 bert-large gpt2-xl llama3-8b, or a file"},
    {'b', "bucket", PERF_FLAG_SIZE, AT(bucket), 0, 0, "25M", "bytes reduced together, 0: every tensor alone"},
    {'s', "scale", PERF_FLAG_REAL, AT(scale), 1e-9, 1000, "1", "factor on the size of every tensor"},
    {'n', "steps", PERF_FLAG_INT, AT(steps), 1, 1e6, "5", "measured steps"},
    {'w', "warmup", PERF_FLAG_INT, AT(warmup), 0, 1e6, "1", "steps before"},
    {'c', "check", PERF_FLAG_INT, AT(check), 0, 1, "1", "1: one pass with known data first"},
    {'k', "compute", PERF_FLAG_REAL, AT(compute), 0, 1e9, "200", "microseconds of backward pass per MB of gradients"},
    {'d', "datatype", PERF_FLAG_TEXT, AT(type_name), 0, 0, "float", "type of the gradients"},
    {LONG_POLL, "poll", PERF_FLAG_ON, AT(poll), 0, 0, NULL, "no progress thread: the caller queries the stream"},
    {LONG_PROGRESS, "progress", PERF_FLAG_ON, AT(progress), 0, 0, NULL,
     "progress bar, also when stderr is no terminal"},
    {'J', "output_file", PERF_FLAG_TEXT, AT(json_file), 0, 0, NULL, "results as JSON (overwrites)"},
    {LONG_NP, "np", PERF_FLAG_INT, AT(np), 1, 4096, "0", "start this many processes of the program on this host"},
    {LONG_TOPO, "topo", PERF_FLAG_TEXT, AT(topology), 0, 0, NULL, "topology of the ranks, such as torus:2x2"},
    {'h', "help", PERF_FLAG_HELP, 0, 0, 0, NULL, "this text"},
};
enum { NFLAGS = sizeof(flags) / sizeof(flags[0]) };

/* A step as the job sees it: the slowest rank's times, the mean of what callers spent. */
static meshcclResult_t combine(perf_replay* r, const perf_step* mine, perf_step* out) {
  enum { FIGURES = sizeof(perf_step) / sizeof(double) };
  double(*all)[FIGURES] = calloc((size_t)r->nranks, sizeof(*all));
  if (!all) return meshcclSystemError;
  meshcclResult_t result = meshcclAllGather(mine, all, FIGURES, meshcclFloat64, r->comm, NULL);
  perf_step sum = {0};
  for (int k = 0; k < r->nranks; k++) {
    perf_step s;
    memcpy(&s, all[k], sizeof(s));
    if (s.total > sum.total) sum.total = s.total;
    if (s.late > sum.late) sum.late = s.late;
    sum.caller += s.caller / r->nranks;
    sum.waiting += s.waiting / r->nranks;
  }
  *out = sum;
  free(all);
  return result;
}

typedef struct {
  double alone;      /* communication alone: seconds, mean of its steps */
  double compute;    /* compute alone, with the same sleeps and polls */
  perf_step overlap; /* means of the steps with both */
  double wrong;
} outcome;

/* What communication added to a step. */
static double exposed(const outcome* o, double total) { return total > o->compute ? total - o->compute : 0; }

/* Share of the communication that did not lengthen the step, in percent. */
static double hidden(const outcome* o, double total) {
  double share = o->alone > 0 ? 100 * (1 - exposed(o, total) / o->alone) : 100;
  return share < 0 ? 0 : share;
}

static void print_head(const perf_replay* r, const perf_model* model) {
  const perf_workload_options* o = r->options;
  double bytes = (double)(r->plan->total * perf_type_size(r->type));
  printf("# workload_perf: %s, %zu tensors, %llu parameters, scale %g\n", model->name, model->ntensors,
         (unsigned long long)model->total, o->scale);
  printf("# %d ranks, %s, %.2f MB of gradients in %zu buckets, backward pass %g us/MB, %s\n", r->nranks,
         perf_type_name(r->type), bytes / 1e6, r->plan->nbuckets, o->compute,
         o->poll ? "polling caller" : "progress thread");
  printf("#\n# %12s  %10s  %10s  %8s  %10s  %10s  %9s\n", "step", "total", "exposed", "hidden", "caller", "waiting",
         "late");
  printf("# %12s  %10s  %10s  %8s  %10s  %10s  %9s\n", "", "(ms)", "(ms)", "(%)", "(ms)", "(ms)", "(buckets)");
}

/* both: of the alone figures; NULL for a step that does one thing. */
static void print_step(perf_replay* r, const char* name, const perf_step* s, const outcome* both) {
  if (r->rank != 0) return;
  perf_progress_clear(&r->progress);
  printf("  %12s  %10.3f  ", name, s->total * 1e3);
  if (both)
    printf("%10.3f  %8.1f", exposed(both, s->total) * 1e3, hidden(both, s->total));
  else
    printf("%10s  %8s", "-", "-");
  printf("  %10.3f  %10.3f  %9.0f\n", s->caller * 1e3, s->waiting * 1e3, s->late);
  fflush(stdout);
}

static const char* kind_of(int does) {
  return does == PERF_REDUCES ? "alone" : does == PERF_COMPUTES ? "compute" : "step";
}

/* `steps` steps of one kind; *mean gets the means. */
static meshcclResult_t run_steps(perf_replay* r, int does, const outcome* both, perf_step* mean) {
  int n = r->options->steps;
  perf_step sum = {0};
  for (int k = 0; k < n; k++) {
    char name[PERF_MESSAGE];
    snprintf(name, sizeof(name), "%s %d", kind_of(does), k + 1);
    perf_step mine, all;
    PERF_TRY(perf_replay_step(r, does, name, &mine));
    PERF_TRY(combine(r, &mine, &all));
    print_step(r, name, &all, both);
    sum.total += all.total / n;
    sum.caller += all.caller / n;
    sum.waiting += all.waiting / n;
    sum.late += all.late / n;
  }
  *mean = sum;
  return meshcclSuccess;
}

static meshcclResult_t check(perf_replay* r, double* wrong) {
  double* all = calloc((size_t)r->nranks, sizeof(*all));
  double mine = 0;
  if (!all) return meshcclSystemError;
  meshcclResult_t result = perf_replay_check(r, &mine);
  if (result == meshcclSuccess) result = meshcclAllGather(&mine, all, 1, meshcclFloat64, r->comm, NULL);
  for (int k = 0; k < r->nranks; k++) *wrong += all[k];
  free(all);
  return result;
}

static meshcclResult_t run(perf_replay* r, const perf_model* model, outcome* out) {
  const perf_workload_options* o = r->options;
  size_t passes = (size_t)(o->check + o->warmup + 3 * o->steps);
  perf_step ignored, alone, compute;
  perf_progress_start(&r->progress, r->rank == 0 && (o->progress || isatty(STDERR_FILENO)), passes * r->plan->ntensors);
  if (r->rank == 0) print_head(r, model);
  if (o->check) PERF_TRY(check(r, &out->wrong));
  for (int k = 0; k < o->warmup; k++) PERF_TRY(perf_replay_step(r, PERF_REDUCES, "warm-up", &ignored));
  PERF_TRY(run_steps(r, PERF_REDUCES, NULL, &alone));
  PERF_TRY(run_steps(r, PERF_COMPUTES, NULL, &compute));
  out->alone = alone.total;
  out->compute = compute.total;
  PERF_TRY(run_steps(r, PERF_COMPUTES | PERF_REDUCES, out, &out->overlap));
  print_step(r, "mean", &out->overlap, out);
  return meshcclSuccess;
}

static bool write_json(const perf_replay* r, const perf_model* model, const outcome* o) {
  perf_json j = {.to = fopen(r->options->json_file, "w")};
  if (!j.to) {
    perror(r->options->json_file);
    return false;
  }
  const struct {
    const char* key;
    double value;
  } figures[] = {
      {"ranks", r->nranks},
      {"tensors", (double)model->ntensors},
      {"parameters", (double)model->total},
      {"scale", r->options->scale},
      {"gradient_bytes", (double)(r->plan->total * perf_type_size(r->type))},
      {"buckets", (double)r->plan->nbuckets},
      {"compute_us_per_MB", r->options->compute},
      {"poll", r->options->poll},
      {"steps", r->options->steps},
      {"alone_ms", o->alone * 1e3},
      {"total_ms", o->overlap.total * 1e3},
      {"compute_ms", o->compute * 1e3},
      {"exposed_ms", exposed(o, o->overlap.total) * 1e3},
      {"hidden_percent", hidden(o, o->overlap.total)},
      {"caller_ms", o->overlap.caller * 1e3},
      {"waiting_ms", o->overlap.waiting * 1e3},
      {"late_buckets", o->overlap.late},
      {"wrong", o->wrong},
  };
  perf_json_open(&j, '{');
  perf_json_key(&j, "model");
  perf_json_string(&j, model->name);
  perf_json_key(&j, "type");
  perf_json_string(&j, perf_type_name(r->type));
  for (size_t k = 0; k < sizeof(figures) / sizeof(figures[0]); k++) {
    perf_json_key(&j, figures[k].key);
    perf_json_real(&j, figures[k].value);
  }
  perf_json_finish(&j);
  return fclose(j.to) == 0;
}

static void print_foot(const perf_replay* r, const outcome* o) {
  double bytes = (double)(r->plan->total * perf_type_size(r->type));
  double algbw = o->alone > 0 ? bytes / o->alone / 1e9 : 0;
  printf("#\n# communication alone  : %.3f ms, algbw %.2f GB/s, busbw %.2f GB/s\n", o->alone * 1e3, algbw,
         algbw * 2 * (r->nranks - 1) / r->nranks);
  printf("# compute alone        : %.3f ms\n", o->compute * 1e3);
  printf("# step                 : %.3f ms, of it exposed communication %.3f ms (%.1f %% hidden)\n",
         o->overlap.total * 1e3, exposed(o, o->overlap.total) * 1e3, hidden(o, o->overlap.total));
  printf("# caller in meshccl    : %.3f ms per step, and %.3f ms waiting at its end\n", o->overlap.caller * 1e3,
         o->overlap.waiting * 1e3);
  if (r->options->check) printf("# Out of bounds values : %.0f %s\n", o->wrong, o->wrong > 0 ? "FAILED" : "OK");
}

static int replay(const perf_workload_options* options, const perf_model* model, const perf_plan* plan,
                  meshcclDataType_t type) {
  perf_replay r;
  outcome out = {0};
  meshcclResult_t result = perf_replay_open(&r, options, plan, type);
  if (result == meshcclSuccess) result = run(&r, model, &out);
  if (result != meshcclSuccess) {
    meshcclCommAbort(r.comm);
    return 1;
  }
  bool good = out.wrong == 0;
  if (r.rank == 0) {
    print_foot(&r, &out);
    if (options->json_file) good = write_json(&r, model, &out) && good;
  }
  perf_replay_close(&r);
  return good ? 0 : 1;
}

int main(int argc, char** argv) {
  perf_workload_options options;
  char message[PERF_MESSAGE];
  perf_parse_result parsed = perf_flags_parse(flags, NFLAGS, argc, argv, &options, sizeof(options), message);
  if (parsed == PERF_HELP) {
    printf("usage: workload_perf [flags]\nReplays the gradients of a model in backward order.\n\n");
    perf_flags_help(flags, NFLAGS);
    return 0;
  }
  int type = parsed == PERF_PARSED ? perf_type_find(options.type_name) : 0, status = 1;
  if (type < 0) snprintf(message, sizeof(message), "--datatype: no type is called \"%s\"", options.type_name);
  perf_model model = {0};
  perf_plan plan = {0};
  if (parsed == PERF_BAD || type < 0 || perf_model_load(options.model, &model, message, sizeof(message)) != 0) {
    fprintf(stderr, "workload_perf: %s\n", message);
    return 2;
  }
  if (!perf_launch(options.np, argv, &status) &&
      perf_plan_create(&model, options.scale, options.bucket / perf_type_size((meshcclDataType_t)type), &plan) == 0)
    status = replay(&options, &model, &plan, (meshcclDataType_t)type);
  perf_plan_free(&plan);
  perf_model_free(&model);
  return status;
}
