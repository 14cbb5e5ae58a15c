/* The table of flags of a collective's perf program, and what must hold between flags. Flags of nccl-tests that only
 * make sense on CUDA stay in the table, so that they are refused by name. */
#include "perf/engine/options.h"

#include <stdio.h>
#include <string.h>

#include "perf/engine/types.h"

#define AT(field) offsetof(perf_options, field)
enum { LONG_NP = PERF_ONLY_LONG + 1, LONG_TOPO, LONG_CSV, LONG_BOUND, LONG_STREAM };

static const perf_flag flags[] = {
    {'t', "nthreads", PERF_FLAG_INT, AT(nthreads), 1, 1024, "1", "threads per process"},
    {'g', "ngpus", PERF_FLAG_INT, AT(ngpus), 1, 1024, "1", "ranks per thread, driven in one group"},
    {'b', "minbytes", PERF_FLAG_SIZE, AT(min_bytes), 0, 0, "32M", "first size (K, M, G: powers of 1024)"},
    {'e', "maxbytes", PERF_FLAG_SIZE, AT(max_bytes), 0, 0, "32M", "last size"},
    {'i', "stepbytes", PERF_FLAG_SIZE, AT(step_bytes), 1, 0, "1M", "distance of sizes"},
    {'f', "stepfactor", PERF_FLAG_REAL, AT(step_factor), 1, 1e6, "0", "ratio of sizes instead (above 1)"},
    {'n', "iters", PERF_FLAG_INT, AT(iters), 0, 1e9, "20", "timed iterations"},
    {'w', "warmup_iters", PERF_FLAG_INT, AT(warmup_iters), 0, 1e9, "1",
     "iterations before timing, once over all sizes"},
    {'m', "agg_iters", PERF_FLAG_INT, AT(agg_iters), 1, 1e6, "1",
     "operations per iteration, in one group unless in place"},
    {'N', "run_cycles", PERF_FLAG_INT, AT(run_cycles), 0, 1e9, "1", "repeats of the whole run, 0: for ever"},
    {'p', "parallel_init", PERF_FLAG_INT, AT(parallel_init), 0, 1, "0", "accepted; ranks always join in parallel"},
    {'c', "check", PERF_FLAG_INT, AT(check), 0, 1e6, "1", "checked repetitions per line, 0: no check"},
    {'o', "op", PERF_FLAG_TEXT, AT(op), 0, 0, "sum", "sum prod max min avg mulsum, or all"},
    {'d', "datatype", PERF_FLAG_TEXT, AT(type), 0, 0, "float",
     "int8 uint8 int32 uint32 int64 uint64 half float double bfloat16 f8e4m3 f8e5m2, or all"},
    {'r', "root", PERF_FLAG_RANK, AT(root), 0, 1e9, "0", "a rank, or all"},
    {'z', "blocking", PERF_FLAG_INT, AT(blocking), 0, 3, "0",
     "1: wait and barrier after each operation; 2, 3: wait only"},
    {'y', "stream_null", PERF_FLAG_INT, AT(stream_null), 0, 1, "1",
     "1: NULL stream, calls return when done; 0: a stream"},
    {'T', "timeout", PERF_FLAG_REAL, AT(timeout), 0, 1e6, "0", "seconds until a stuck line ends the run, 0: none"},
    {'G', "cudagraph", PERF_FLAG_REFUSED, 0, 0, 0, NULL, "CUDA graphs"},
    {'C', "report_cputime", PERF_FLAG_INT, AT(report_cputime), 0, 1, "0",
     "1: time until the calls returned (with -y 0: until enqueued)"},
    {'S', "report_timestamps", PERF_FLAG_INT, AT(report_timestamps), 0, 1, "0",
     "1: a last column with the time of day"},
    {'J', "output_file", PERF_FLAG_TEXT, AT(json_file), 0, 0, NULL,
     "JSON report; an existing file is kept, a number added"},
    {'a', "average", PERF_FLAG_INT, AT(average), 0, 3, "1",
     "time over ranks: 0 rank 0, 1 average, 2 minimum, 3 maximum"},
    {'R', "local_register", PERF_FLAG_INT, AT(local_register), 0, 2, "0",
     "buffers: 0 ordinary pages, 1 registered pages, 2 meshcclMemAlloc"},
    {'x', "cta_policy", PERF_FLAG_REFUSED, 0, 0, 0, NULL, "CTA policies"},
    {'D', "device_implementation", PERF_FLAG_REFUSED, 0, 0, 0, NULL, "kernels that call the device API"},
    {'V', "device_cta_count", PERF_FLAG_REFUSED, 0, 0, 0, NULL, "CTAs of device kernels"},
    {'M', "memory", PERF_FLAG_REFUSED, 0, 0, 0, NULL, "the report of GPU memory"},
    {'u', "unalign", PERF_FLAG_SIZE, AT(unalign), 0, 0, "0", "index of the first element in its buffer"},
    {'I', "per_iter_timing", PERF_FLAG_INT, AT(per_iter_timing), 0, 1, "0", "1: statistics over single iterations"},
    {'K', "per_iter_skip", PERF_FLAG_INT, AT(per_iter_skip), 0, 1e9, "0", "iterations left out of these statistics"},
    {'h', "help", PERF_FLAG_HELP, 0, 0, 0, NULL, "this text"},
    {LONG_NP, "np", PERF_FLAG_INT, AT(np), 1, 4096, "0", "start this many processes of the program on this host"},
    {LONG_TOPO, "topo", PERF_FLAG_TEXT, AT(topology), 0, 0, NULL,
     "topology of the ranks, such as torus:2x2@50GB/s,500ns"},
    {LONG_CSV, "csv", PERF_FLAG_TEXT, AT(csv_file), 0, 0, NULL, "results as comma-separated values (overwrites)"},
    {LONG_BOUND, "bound", PERF_FLAG_ON, AT(bound), 0, 0, NULL, "column %bound: lower bound of the topology / time"},
    {LONG_STREAM, "stream", PERF_FLAG_ZERO, AT(stream_null), 0, 0, NULL, "the same as -y 0"},
};
enum { NFLAGS = sizeof(flags) / sizeof(flags[0]) };

static perf_parse_result bad_name(const char* flag, const char* given, char message[PERF_MESSAGE], const char* help) {
  snprintf(message, PERF_MESSAGE, "--%s: \"%s\" is none of %s", flag, given, help);
  return PERF_BAD;
}

static perf_parse_result check_together(const perf_options* o, char message[PERF_MESSAGE]) {
  if (strcmp(o->op, "all") != 0 && perf_op_find(o->op) < 0)
    return bad_name("op", o->op, message, "sum prod max min avg mulsum all");
  if (strcmp(o->type, "all") != 0 && perf_type_find(o->type) < 0)
    return bad_name("datatype", o->type, message,
                    "int8 uint8 int32 uint32 int64 uint64 half float double bfloat16 f8e4m3 f8e5m2 all");
  const char* wrong = NULL;
  if (o->max_bytes < o->min_bytes) wrong = "--maxbytes is below --minbytes";
  if (o->step_factor == 1) wrong = "--stepfactor 1 never reaches --maxbytes; it must be above 1";
  if (o->per_iter_timing && o->per_iter_skip >= o->iters) wrong = "--per_iter_skip leaves no iteration; raise --iters";
  if (wrong) snprintf(message, PERF_MESSAGE, "%s", wrong);
  return wrong ? PERF_BAD : PERF_PARSED;
}

perf_parse_result perf_options_parse(int argc, char** argv, perf_options* out, char message[PERF_MESSAGE]) {
  perf_parse_result result = perf_flags_parse(flags, NFLAGS, argc, argv, out, sizeof(*out), message);
  return result == PERF_PARSED ? check_together(out, message) : result;
}

void perf_options_help(const char* program) {
  printf("usage: %s [flags]\nRanks: processes (started with --np, by `meshccl run` or mpirun) x -t x -g.\n\n", program);
  perf_flags_help(flags, NFLAGS);
  printf("\nOperations that cannot work in place are repeated out of place for the second half of a line.\n");
}
