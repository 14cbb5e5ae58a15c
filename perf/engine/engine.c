/* The loops of a perf program: cycles, types, operators, roots, sizes. Every worker of every process walks through them
 * in the same order; the one with rank 0 reports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "perf/engine/launch.h"
#include "perf/engine/perf.h"
#include "perf/engine/report.h"
#include "perf/engine/watchdog.h"

typedef struct {
  perf_world* world;
  perf_rank* ranks;    /* of this worker */
  perf_report* report; /* NULL on all workers but one */
  int argc;
  char** argv;
  bool good;
} worker;

static bool moves_data(const perf_program* p) { return p->send_blocks || p->recv_blocks; }

static perf_line line_of(const worker* w, meshcclDataType_t type, int op, int root, size_t bytes) {
  return perf_line_of(w->world->program, type, op, root, bytes, w->ranks->group_size);
}

/* Once over all sizes, doubling. */
static meshcclResult_t warm_up(const worker* w, meshcclDataType_t type, int op, int root) {
  const perf_options* o = &w->world->options;
  if (!o->warmup_iters) return meshcclSuccess;
  for (size_t bytes = o->min_bytes; bytes <= o->max_bytes; bytes = bytes ? 2 * bytes : perf_type_size(type)) {
    perf_line line = line_of(w, type, op, root, bytes);
    for (int k = 0; k < o->warmup_iters; k++) PERF_TRY(perf_issue(w->ranks, &line, false, 1));
    PERF_TRY(perf_wait(w->ranks));
    w->world->pulse++;
    if (!moves_data(w->world->program)) break;
  }
  return meshcclSuccess;
}

static meshcclResult_t one_line(const worker* w, const perf_line* line) {
  const perf_program* p = w->world->program;
  perf_row row = {
      .size = line->bytes,
      .count = line->count,
      .type = moves_data(p) ? perf_type_name(line->type) : "none",
      .redop = line->op < 0 ? "none" : perf_op_name(line->op),
      .root = line->root,
  };
  meshcclResult_t result = perf_measure(w->ranks, line, false, &row.half[0]);
  if (result == meshcclSuccess) result = perf_measure(w->ranks, line, true, &row.half[1]);
  if (result == meshcclSuccess && w->report) perf_report_row(w->report, &row);
  perf_half_clear(&row.half[0]);
  perf_half_clear(&row.half[1]);
  return result;
}

static meshcclResult_t all_sizes(const worker* w, meshcclDataType_t type, int op, int root) {
  const perf_options* o = &w->world->options;
  PERF_TRY(warm_up(w, type, op, root));
  for (size_t bytes = o->min_bytes; bytes <= o->max_bytes;) {
    perf_line line = line_of(w, type, op, root, bytes);
    PERF_TRY(one_line(w, &line));
    if (!moves_data(w->world->program)) break;
    size_t next = o->step_factor > 1 ? (size_t)((double)bytes * o->step_factor) : bytes + o->step_bytes;
    bytes = next > bytes ? next : bytes + perf_type_size(type);
  }
  return meshcclSuccess;
}

static meshcclResult_t all_roots(const worker* w, meshcclDataType_t type, int op) {
  int root = w->world->options.root, n = w->ranks->group_size;
  if (!w->world->program->rooted) return all_sizes(w, type, op, -1);
  if (root >= n) {
    fprintf(stderr, "--root %d: the communicator has ranks 0 to %d\n", root, n - 1);
    return meshcclInvalidArgument;
  }
  for (int r = root < 0 ? 0 : root; r < (root < 0 ? n : root + 1); r++) PERF_TRY(all_sizes(w, type, op, r));
  return meshcclSuccess;
}

/* Test data and operator of each rank for one type and operator. */
static meshcclResult_t open_data(perf_rank* r, meshcclDataType_t type, int op) {
  if (!perf_pattern_create(&r->pattern, type, op, r->group_rank, r->group_size)) return meshcclSystemError;
  r->op = op < 0 ? meshcclSum : (meshcclRedOp_t)op;
  if (op != PERF_MULSUM) return meshcclSuccess;
  uint64_t scalar;
  if (perf_type_is_float(type))
    perf_encode(type, perf_mulsum_scalar(r->group_rank), &scalar);
  else
    perf_encode_integer(type, (uint64_t)perf_mulsum_scalar(r->group_rank), &scalar);
  PERF_CALL(r->world, meshcclRedOpCreatePreMulSum(&r->op, &scalar, type, meshcclScalarHostImmediate, r->comm));
  return meshcclSuccess;
}

static meshcclResult_t close_data(perf_rank* r, int op) {
  if (op == PERF_MULSUM) PERF_CALL(r->world, meshcclRedOpDestroy(r->op, r->comm));
  perf_pattern_destroy(&r->pattern);
  return meshcclSuccess;
}

static meshcclResult_t type_and_op(const worker* w, meshcclDataType_t type, int op) {
  int n = w->world->options.ngpus;
  for (int k = 0; k < n; k++) PERF_TRY(open_data(&w->ranks[k], type, op));
  PERF_TRY(all_roots(w, type, op));
  for (int k = 0; k < n; k++) PERF_TRY(close_data(&w->ranks[k], op));
  return meshcclSuccess;
}

static meshcclResult_t one_cycle(const worker* w) {
  const perf_options* o = &w->world->options;
  const perf_program* p = w->world->program;
  int type = moves_data(p) ? perf_type_find(o->type) : meshcclInt8, op = p->reduces ? perf_op_find(o->op) : -1;
  bool all_types = type < 0, all_ops = p->reduces && op < 0;
  for (int t = all_types ? 0 : type; t < (all_types ? meshcclNumTypes : type + 1); t++)
    for (int k = all_ops ? 0 : op; k < (all_ops ? PERF_NUM_OPS : op + 1); k++)
      PERF_TRY(type_and_op(w, (meshcclDataType_t)t, k));
  return meshcclSuccess;
}

/* Who is who, for the head of the report. */
static meshcclResult_t introduce(worker* w) {
  int n = w->world->options.ngpus, nranks = w->ranks->nranks;
  perf_device* all = calloc((size_t)(nranks + n), sizeof(*all));
  if (!all) return meshcclSystemError;
  perf_device* mine = all + nranks;
  for (int k = 0; k < n; k++) {
    const perf_rank* r = &w->ranks[k];
    mine[k] = (perf_device){.rank = r->rank, .group = r->color, .pid = (int)getpid()};
    mine[k].device =
        (int)(r - w->world->ranks) + (w->world->nlocal == 1 ? r->rank : w->world->process * w->world->nlocal);
    gethostname(mine[k].host, sizeof(mine[k].host) - 1);
    mine[k].host[strcspn(mine[k].host, ".")] = 0;
  }
  meshcclResult_t result = perf_gather(w->ranks, mine, sizeof(*mine), all);
  if (result == meshcclSuccess && w->report) perf_report_head(w->report, all, nranks);
  free(all);
  return result;
}

static meshcclResult_t work(worker* w) {
  const perf_options* o = &w->world->options;
  for (int k = 0; k < o->ngpus; k++) PERF_TRY(perf_buffers_open(&w->ranks[k], o->max_bytes));
  PERF_TRY(introduce(w));
  for (int cycle = 0; o->run_cycles == 0 || cycle < o->run_cycles; cycle++) PERF_TRY(one_cycle(w));
  PERF_TRY(perf_barrier(w->ranks));
  for (int k = 0; k < o->ngpus; k++) perf_buffers_close(&w->ranks[k]);
  return meshcclSuccess;
}

/* A failed worker cannot unwind what others are inside of. It tells the peers and ends the process, a moment later when
 * another worker may still want to write down what happened. */
static void give_up(const worker* w) {
  char message[PERF_MESSAGE];
  snprintf(message, sizeof(message), "%s", meshcclGetLastError(NULL));
  for (int k = 0; k < w->world->options.ngpus; k++) meshcclCommAbort(w->ranks[k].everybody);
  if (w->report)
    perf_report_close(w->report, *message ? message : "the run failed, see stderr");
  else if (w->world->nlocal > w->world->options.ngpus)
    nanosleep(&(struct timespec){1, 0}, NULL);
  _exit(1);
}

static void* worker_main(void* argument) {
  worker* w = argument;
  perf_report report;
  if (w->ranks->rank == 0) {
    w->report = &report;
    if (!perf_report_open(&report, w->world, w->argc, w->argv)) _exit(2);
  }
  if (work(w) != meshcclSuccess) give_up(w);
  w->good = !w->report || perf_report_close(w->report, NULL);
  for (int k = 0; k < w->world->options.ngpus; k++) w->good = w->good && !w->ranks[k].wrong;
  return NULL;
}

static bool run_workers(perf_world* world, int argc, char** argv) {
  int n = world->options.nthreads, started = 1;
  worker* workers = calloc((size_t)n, sizeof(*workers));
  pthread_t* threads = calloc((size_t)n, sizeof(*threads));
  bool good = workers && threads;
  for (int k = 0; good && k < n; k++)
    workers[k] = (worker){world, world->ranks + k * world->options.ngpus, NULL, argc, argv, false};
  for (; good && started < n; started++)
    if (pthread_create(&threads[started], NULL, worker_main, &workers[started])) {
      perror("--nthreads: starting a thread");
      _exit(2);
    }
  if (good) worker_main(&workers[0]);
  for (int k = 1; good && k < n; k++) pthread_join(threads[k], NULL);
  for (int k = 0; workers && threads && k < n; k++) good = good && workers[k].good;
  free(workers);
  free(threads);
  return good;
}

int perf_main(const perf_program* program, int argc, char** argv) {
  perf_world world = {.program = program};
  char message[PERF_MESSAGE];
  switch (perf_options_parse(argc, argv, &world.options, message)) {
    case PERF_HELP:
      perf_options_help(program->program);
      return 0;
    case PERF_BAD:
      fprintf(stderr, "%s: %s\n", program->program, message);
      return 2;
    default:
      break;
  }
  int status;
  if (perf_launch(world.options.np, argv, &status)) return status;
  if (perf_world_open(&world) != meshcclSuccess) _exit(1); /* other threads may still be joining */
  perf_watchdog_start(&world);
  bool good = run_workers(&world, argc, argv);
  perf_world_close(&world);
  return good ? 0 : 1;
}
