/* Every collective over shared memory against an oracle: numbers of ranks, topologies, counts, in place and not, roots,
 * processes, threads and both; NULL streams, streams and groups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* after the others */
#include <cmocka.h>

#include "harness.h"

typedef struct {
  const char* topology; /* NULL: default */
  size_t max_count;
  bool use_stream, use_mem;
} plan;

enum { ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, BROADCAST, REDUCE, ALL_TO_ALL, GATHER, SCATTER, NUM_COLLS };
static const char* const names[NUM_COLLS] = {"all_reduce", "all_gather", "reduce_scatter", "broadcast",
                                             "reduce",     "all_to_all", "gather",         "scatter"};

static int32_t value(int rank, size_t i) { return (int32_t)((uint32_t)(rank + 1) * 1000003u + (uint32_t)i * 7919u); }

static int32_t sum_at(int n, size_t i) {
  uint32_t sum = 0;
  for (int r = 0; r < n; r++) sum += (uint32_t)value(r, i);
  return (int32_t)sum;
}

/* What element i of rank's output must be; `count` is the call's. */
static int32_t expected(int coll, int n, int rank, int root, size_t count, size_t i) {
  switch (coll) {
    case ALL_REDUCE:
    case REDUCE:
      return sum_at(n, i);
    case REDUCE_SCATTER:
      return sum_at(n, (size_t)rank * count + i);
    case ALL_GATHER:
    case GATHER:
      return value((int)(i / count), i % count);
    case BROADCAST:
      return value(root, i);
    case SCATTER:
      return value(root, (size_t)rank * count + i);
    default: /* ALL_TO_ALL */
      return value((int)(i / count), (size_t)rank * count + i % count);
  }
}

static bool in_is_large(int coll) { return coll == REDUCE_SCATTER || coll == ALL_TO_ALL || coll == SCATTER; }
static bool out_is_large(int coll) { return coll == ALL_GATHER || coll == ALL_TO_ALL || coll == GATHER; }

static meshcclResult_t call(int coll, const void* in, void* out, size_t count, int root, meshcclComm_t comm,
                            meshcclStream_t stream) {
  switch (coll) {
    case ALL_REDUCE:
      return meshcclAllReduce(in, out, count, meshcclInt32, meshcclSum, comm, stream);
    case ALL_GATHER:
      return meshcclAllGather(in, out, count, meshcclInt32, comm, stream);
    case REDUCE_SCATTER:
      return meshcclReduceScatter(in, out, count, meshcclInt32, meshcclSum, comm, stream);
    case BROADCAST:
      return meshcclBroadcast(in, out, count, meshcclInt32, root, comm, stream);
    case REDUCE:
      return meshcclReduce(in, out, count, meshcclInt32, meshcclSum, root, comm, stream);
    case ALL_TO_ALL:
      return meshcclAlltoAll(in, out, count, meshcclInt32, comm, stream);
    case GATHER:
      return meshcclGather(in, out, count, meshcclInt32, root, comm, stream);
    default:
      return meshcclScatter(in, out, count, meshcclInt32, root, comm, stream);
  }
}

static void* room(bool use_mem, size_t bytes) {
  void* ptr = NULL;
  if (use_mem) return meshcclMemAlloc(&ptr, bytes) == meshcclSuccess ? ptr : NULL;
  return malloc(bytes);
}

static void give(bool use_mem, void* ptr) {
  if (use_mem) {
    meshcclMemFree(ptr);
  } else {
    free(ptr);
  }
}

/* One call on fresh buffers; out of place the input must stay as it was; guards behind the output must stay too. */
static int run_one(rank_env* env, meshcclComm_t comm, const plan* p, int coll, size_t count, int root, bool in_place,
                   meshcclStream_t stream) {
  size_t n = (size_t)env->nranks, large = n * count;
  size_t ins = in_is_large(coll) ? large : count, outs = out_is_large(coll) ? large : count;
  int32_t *whole = room(p->use_mem, (large + 16) * 4), *other = room(p->use_mem, (large + 16) * 4);
  int32_t *in = whole, *out = in_place ? whole : other;
  if (in_place && out_is_large(coll)) in = whole + (size_t)env->rank * count;
  if (in_place && in_is_large(coll)) out = whole + (size_t)env->rank * count;
  for (size_t i = 0; i < large + 16; i++) whole[i] = other[i] = (int32_t)0xdeadbeef;
  for (size_t i = 0; i < ins; i++) in[i] = value(env->rank, i);
  need(call(coll, in, out, count, root, comm, stream));
  if (stream) need(meshcclStreamSynchronize(stream));
  bool has_output = (coll != REDUCE && coll != GATHER) || env->rank == root;
  for (size_t i = 0; has_output && i < outs; i++)
    expect(out[i] == expected(coll, env->nranks, env->rank, root, count, i),
           "%s of %zu root %d%s: element %zu is %d, not %d", names[coll], count, root, in_place ? " in place" : "", i,
           out[i], expected(coll, env->nranks, env->rank, root, count, i));
  for (size_t i = 0; !in_place && i < ins; i++)
    expect(in[i] == value(env->rank, i), "%s of %zu changed its input at %zu", names[coll], count, i);
  if (!in_place)
    for (size_t i = outs; i < large + 16; i++)
      expect(other[i] == (int32_t)0xdeadbeef, "%s of %zu wrote behind its output", names[coll], count);
  give(p->use_mem, whole);
  give(p->use_mem, other);
  return 0;
}

static int all_collectives(rank_env* env) {
  const plan* p = env->arg;
  meshcclComm_t comm;
  meshcclStream_t stream = NULL;
  need(open_comm(env, p->topology, &comm));
  if (p->use_stream) need(meshcclStreamCreate(&stream));
  const size_t counts[] = {0, 1, (size_t)env->nranks - 1, (size_t)env->nranks + 1, 127, 1009, 40009, 300007};
  for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
    if (counts[c] > p->max_count) continue;
    for (int coll = 0; coll < NUM_COLLS; coll++) {
      if (coll == ALL_TO_ALL && p->topology && strstr(p->topology, "neighbours")) continue;
      bool rooted = coll == BROADCAST || coll == REDUCE || coll == GATHER || coll == SCATTER;
      for (int root = 0; root<(rooted ? env->nranks : 1); root += env->nranks> 4 ? 3 : 1) {
        if (run_one(env, comm, p, coll, counts[c], root, false, stream)) return 1;
        if (coll != ALL_TO_ALL && run_one(env, comm, p, coll, counts[c], root, true, stream)) return 1;
      }
    }
    need(meshcclBarrier(comm, stream));
  }
  need(meshcclStreamDestroy(stream));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void every_number_of_ranks(void** state) {
  (void)state;
  for (int n = 1; n <= 9; n++) {
    plan p = {.max_count = n <= 4 ? 300007 : 1009};
    if (run_ranks(AS_PROCESSES, n, all_collectives, &p)) fail_msg("%d processes", n);
  }
}

static void threads_and_mixed(void** state) {
  (void)state;
  static const int sizes[] = {2, 3, 5, 8};
  for (size_t i = 0; i < 4; i++) {
    plan p = {.max_count = 1009};
    if (run_ranks(AS_THREADS, sizes[i], all_collectives, &p)) fail_msg("%d threads", sizes[i]);
    if (run_ranks(AS_MIXED, sizes[i], all_collectives, &p)) fail_msg("%d mixed", sizes[i]);
  }
}

static void topologies(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    int n;
  } rows[] = {{"ring:4", 4},
              {"ring:5", 5},
              {"line:3", 3},
              {"torus:2x2", 4},
              {"torus:3x3", 9},
              {"mesh:2x3", 6},
              {"mesh:3x3", 9},
              {"torus:2x2x2", 8},
              {"mesh:3x3@dead=1.1", 8},
              {"mesh:2x2@neighbours", 4},
              {"torus:3x2@neighbours", 6}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    plan p = {.topology = rows[i].spec, .max_count = 40009};
    if (strstr(rows[i].spec, "neighbours")) p.max_count = 1009;
    if (run_ranks(i % 2 ? AS_PROCESSES : AS_MIXED, rows[i].n, all_collectives, &p)) fail_msg("%s", rows[i].spec);
  }
}

static void registered_memory_and_streams(void** state) {
  (void)state;
  for (int n = 2; n <= 4; n++) {
    plan p = {.max_count = 300007, .use_mem = true, .use_stream = n != 3};
    if (run_ranks(AS_PROCESSES, n, all_collectives, &p)) fail_msg("%d processes", n);
    p.topology = n == 4 ? "torus:2x2" : n == 3 ? "ring:3" : "line:2";
    if (run_ranks(AS_PROCESSES, n, all_collectives, &p)) fail_msg("%s", p.topology);
  }
}

static int refused(rank_env* env) {
  meshcclComm_t comm;
  int32_t in[4] = {0}, out[4];
  need(open_comm(env, "ring:4@neighbours", &comm));
  meshcclResult_t result = meshcclAlltoAll(in, out, 1, meshcclInt32, comm, NULL);
  expect(result == meshcclSuccess || (result == meshcclInvalidUsage && strstr(meshcclGetLastError(NULL), "neighbours")),
         "%s", meshcclGetLastError(NULL));
  need(meshcclBarrier(comm, NULL)); /* the refusal costs nothing else */
  need(meshcclCommDestroy(comm));
  return 0;
}

static void what_needs_more_than_neighbours_is_refused_by_name(void** state) {
  (void)state;
  if (run_ranks(AS_PROCESSES, 4, refused, NULL)) fail_msg("4 processes");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_needs_more_than_neighbours_is_refused_by_name),
      cmocka_unit_test(every_number_of_ranks),
      cmocka_unit_test(threads_and_mixed),
      cmocka_unit_test(topologies),
      cmocka_unit_test(registered_memory_and_streams),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
