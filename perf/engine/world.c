/* From options to communicators: how many processes there are, the ranks of this one, groups, streams, and the two
 * collective services of the engine itself (gather and barrier).
 * With one rank per process the environment says everything. With more, a bridge of one rank per process carries the
 * unique id to all, and every rank joins from a thread of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/engine/bound.h"
#include "perf/engine/perf.h"

meshcclResult_t perf_check(const perf_world* world, const char* what, meshcclResult_t result) {
  if (result != meshcclSuccess)
    fprintf(stderr, "%s: process %d: %s: %s: %s\n", world->program->program, world->process, what,
            meshcclGetErrorString(result), meshcclGetLastError(NULL));
  return result;
}

static meshcclConfig_t config_of(const perf_world* world) {
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.topology = world->options.topology;
  config.opTimeout = world->options.timeout;
  config.name = world->program->program;
  return config;
}

/* The topology describes all ranks; the bridge has fewer. So the variable becomes an option of the real communicator.
 */
static meshcclResult_t open_bridge(perf_world* world) {
  const char* topology = getenv("MESHCCL_TOPO");
  if (topology && !world->options.topology) world->options.topology = strdup(topology);
  unsetenv("MESHCCL_TOPO");
  PERF_CALL(world, meshcclCommInitEnv(&world->bridge, NULL));
  PERF_CALL(world, meshcclCommUserRank(world->bridge, &world->process));
  PERF_CALL(world, meshcclCommCount(world->bridge, &world->nprocesses));
  if (world->process == 0) PERF_CALL(world, meshcclGetUniqueId(&world->id));
  PERF_CALL(world, meshcclBroadcast(&world->id, &world->id, sizeof(world->id), meshcclInt8, 0, world->bridge, NULL));
  return meshcclSuccess;
}

/* NCCL_TESTS_SPLIT="MOD 2" or "%2": which group a rank belongs to. */
static meshcclResult_t color_of(int rank, int* out) {
  static const struct {
    const char* word;
    char kind;
  } words[] = {{"AND", '&'}, {"OR", '|'}, {"MOD", '%'}, {"DIV", '/'}, {"&", '&'}, {"|", '|'}, {"%", '%'}, {"/", '/'}};
  const char *mask = getenv("NCCL_TESTS_SPLIT_MASK"), *split = getenv("NCCL_TESTS_SPLIT");
  const char *text = mask, *digits = mask;
  char kind = mask ? '&' : 0;
  for (size_t k = 0; !mask && k < sizeof(words) / sizeof(words[0]); k++)
    if (!strncmp(split, words[k].word, strlen(words[k].word))) {
      text = split;
      kind = words[k].kind;
      digits = split + strlen(words[k].word);
      break;
    }
  char* end = NULL;
  long value = kind ? strtol(digits, &end, 0) : 0;
  if (!kind || end == digits || *end || value < 0 || (value == 0 && (kind == '%' || kind == '/'))) {
    fprintf(stderr, "NCCL_TESTS_SPLIT: \"%s\" is not AND, OR, MOD or DIV (& | %% /) and a number\n",
            text ? text : split);
    return meshcclInvalidArgument;
  }
  long color = kind == '&' ? rank & value : kind == '|' ? rank | value : kind == '%' ? rank % value : rank / value;
  *out = (int)color;
  return meshcclSuccess;
}

static meshcclResult_t split(perf_rank* r) {
  r->comm = r->everybody;
  if (getenv("NCCL_TESTS_SPLIT") || getenv("NCCL_TESTS_SPLIT_MASK")) {
    PERF_TRY(color_of(r->rank, &r->color));
    PERF_CALL(r->world, meshcclCommSplit(r->everybody, r->color, r->rank, &r->comm, NULL));
  }
  PERF_CALL(r->world, meshcclCommUserRank(r->comm, &r->group_rank));
  PERF_CALL(r->world, meshcclCommCount(r->comm, &r->group_size));
  return meshcclSuccess;
}

static meshcclResult_t join(perf_rank* r) {
  perf_world* world = r->world;
  meshcclConfig_t config = config_of(world);
  int local = (int)(r - world->ranks);
  if (!world->bridge)
    PERF_CALL(world, meshcclCommInitEnv(&r->everybody, &config));
  else
    PERF_CALL(world, meshcclCommInitRankConfig(&r->everybody, world->nprocesses * world->nlocal, world->id,
                                               world->process * world->nlocal + local, &config));
  PERF_CALL(world, meshcclCommUserRank(r->everybody, &r->rank));
  PERF_CALL(world, meshcclCommCount(r->everybody, &r->nranks));
  PERF_TRY(split(r));
  if (!world->options.stream_null) PERF_CALL(world, meshcclStreamCreate(&r->stream));
  return meshcclSuccess;
}

static void* join_thread(void* rank) { return (void*)(intptr_t)join(rank); }

static meshcclResult_t join_all(perf_world* world) {
  pthread_t* threads = calloc((size_t)world->nlocal, sizeof(*threads));
  meshcclResult_t first = threads ? meshcclSuccess : meshcclSystemError;
  int started = 0;
  for (; threads && started < world->nlocal; started++)
    if (pthread_create(&threads[started], NULL, join_thread, &world->ranks[started])) break;
  for (int k = 0; k < started; k++) {
    void* result;
    pthread_join(threads[k], &result);
    if (first == meshcclSuccess) first = (meshcclResult_t)(intptr_t)result;
  }
  if (first == meshcclSuccess && started < world->nlocal) first = meshcclSystemError;
  free(threads);
  return first;
}

meshcclResult_t perf_world_open(perf_world* world) {
  world->nlocal = world->options.nthreads * world->options.ngpus;
  world->nprocesses = 1;
  world->ranks = calloc((size_t)world->nlocal, sizeof(*world->ranks));
  if (!world->ranks) return meshcclSystemError;
  for (int k = 0; k < world->nlocal; k++) world->ranks[k].world = world;
  if (world->nlocal > 1) {
    PERF_TRY(open_bridge(world));
    PERF_TRY(join_all(world));
  } else {
    PERF_TRY(join(&world->ranks[0]));
    world->process = world->ranks[0].rank;
    world->nprocesses = world->ranks[0].nranks;
  }
  bool wanted = world->options.bound || perf_bound_described(world);
  return wanted ? perf_bound_open(world, world->ranks[0].nranks) : meshcclSuccess;
}

static void* leave(void* rank) {
  perf_rank* r = rank;
  meshcclStreamDestroy(r->stream);
  if (r->comm != r->everybody) meshcclCommDestroy(r->comm);
  meshcclCommDestroy(r->everybody);
  return NULL;
}

void perf_world_close(perf_world* world) {
  for (int k = 0; k < world->nlocal; k++) leave(&world->ranks[k]);
  meshcclCommDestroy(world->bridge);
  perf_bound_close(world);
  free(world->ranks);
  world->ranks = NULL;
}

meshcclResult_t perf_gather(perf_rank* ranks, const void* mine, size_t bytes, void* all_out) {
  perf_world* world = ranks->world;
  int n = world->options.ngpus;
  size_t total = bytes * (size_t)ranks->nranks;
  uint8_t* others = n > 1 ? malloc(total * (size_t)(n - 1)) : NULL;
  if (n > 1 && !others) return meshcclSystemError;
  meshcclResult_t result = meshcclGroupStart();
  for (int k = 0; result == meshcclSuccess && k < n; k++)
    result = meshcclAllGather((const uint8_t*)mine + bytes * (size_t)k, k ? others + total * (size_t)(k - 1) : all_out,
                              bytes, meshcclInt8, ranks[k].everybody, NULL);
  meshcclResult_t end = meshcclGroupEnd();
  free(others);
  return perf_check(world, "gathering results", result != meshcclSuccess ? result : end);
}

meshcclResult_t perf_barrier(perf_rank* ranks) {
  meshcclResult_t result = meshcclGroupStart();
  for (int k = 0; result == meshcclSuccess && k < ranks->world->options.ngpus; k++)
    result = meshcclBarrier(ranks[k].everybody, NULL);
  meshcclResult_t end = meshcclGroupEnd();
  return perf_check(ranks->world, "meshcclBarrier", result != meshcclSuccess ? result : end);
}
