/* Small slices, one credit and many, sizes that divide nothing, every element size: the same results. */
#include "oracle.h"
#include "setting.h"

typedef struct {
  const char* topology;
  bool use_mem, stream;
} scene;

static int everything(rank_env* env) {
  const scene* s = env->arg;
  static const meshcclDataType_t types[] = {meshcclInt32,    meshcclInt8,       meshcclFloat64, meshcclUint64,
                                            meshcclBfloat16, meshcclFloat8e4m3, meshcclFloat16};
  static const size_t counts[] = {0, 1, 511, 4097, 20011};
  meshcclComm_t comm;
  oracle_call c = {.memory = s->use_mem ? &oracle_mem_alloc : &oracle_host};
  need(open_comm(env, s->topology, &comm));
  if (s->stream) need(meshcclStreamCreate(&c.stream));
  for (size_t t = 0; t < MCI_COUNT(types); t++)
    for (size_t k = t ? 2 : 0; k < MCI_COUNT(counts); k++) {
      c.type = types[t];
      c.count = counts[k] + (t > 0 && k == 4 ? 2 * t : 0);
      c.op = (t + k) % 3 == 0 ? meshcclSum : (t + k) % 3 == 1 ? meshcclMax : meshcclMin;
      c.offset = t == 1 ? 3 : 0;
      if (oracle_run_all(env, comm, &c) || oracle_exchange(env, comm, &c)) return 1;
    }
  need(meshcclStreamDestroy(c.stream));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void sizes_of_slices_and_credits_do_not_matter(void** state) {
  (void)state;
  static const struct {
    const char *slice, *credits;
    int n;
    run_mode mode;
    scene s;
  } rows[] = {
      {"4096", "1", 4, AS_PROCESSES, {.topology = "ring:4"}},
      {"4096", "1", 4, AS_THREADS, {.topology = "torus:2x2", .stream = true}},
      {"4096", "1", 6, AS_MIXED, {.topology = "mesh:2x3"}},
      {"4096", "1", 5, AS_PROCESSES, {.use_mem = true}},
      {"4160", "64", 3, AS_PROCESSES, {.use_mem = true, .stream = true}},
      {"5000", "3", 4, AS_THREADS, {.topology = "mesh:2x2", .use_mem = true}},
      {"12345", "2", 3, AS_MIXED, {.topology = "line:3"}},
      {"1M", "64", 2, AS_PROCESSES, {0}},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    scene s = rows[i].s;
    set("MESHCCL_SLICE", rows[i].slice);
    set("MESHCCL_CREDITS", rows[i].credits);
    if (run_ranks(rows[i].mode, rows[i].n, everything, &s))
      fail_msg("row %zu: slices of %s, %s credits, %d ranks as %s", i, rows[i].slice, rows[i].credits, rows[i].n,
               run_mode_name(rows[i].mode));
  }
  set("MESHCCL_SLICE", NULL);
  set("MESHCCL_CREDITS", NULL);
}

/* Plans come and go while calls with them wait: many sizes, roots and peers, on a stream and in groups. */
static int crowded(rank_env* env) {
  enum { KINDS = 24 };
  meshcclComm_t comm;
  meshcclStream_t stream;
  need(open_comm(env, NULL, &comm));
  need(meshcclStreamCreate(&stream));
  int n = env->nranks;
  int32_t* x[KINDS];
  for (int round = 0; round < 6; round++) {
    bool grouped = round % 2, streamed = round % 3;
    if (grouped) need(meshcclGroupStart());
    for (int k = 0; k < KINDS; k++) {
      size_t count = (size_t)1 << k % 12;
      x[k] = malloc(count * 4);
      for (size_t i = 0; i < count; i++) x[k][i] = k + env->rank;
      need(meshcclAllReduce(x[k], x[k], count, meshcclInt32, meshcclSum, comm, streamed ? stream : NULL));
      need(meshcclBroadcast(x[k], x[k], count, meshcclInt32, k % n, comm, streamed ? stream : NULL));
    }
    int32_t to[8], from[8];
    if (grouped)
      for (int r = 0; r < n; r++) {
        to[r] = env->rank * 10 + r;
        need(meshcclSend(&to[r], 1, meshcclInt32, r, comm, streamed ? stream : NULL));
        need(meshcclRecv(&from[r], 1, meshcclInt32, r, comm, streamed ? stream : NULL));
      }
    if (grouped) need(meshcclGroupEnd());
    need(meshcclStreamSynchronize(stream));
    for (int r = 0; grouped && r < n; r++) expect(from[r] == r * 10 + env->rank, "from %d came %d", r, from[r]);
    for (int k = 0; k < KINDS; k++) {
      size_t count = (size_t)1 << k % 12;
      for (size_t i = 0; i < count; i++)
        expect(x[k][i] == k * n + n * (n - 1) / 2, "round %d kind %d element %zu is %d", round, k, i, x[k][i]);
      free(x[k]);
    }
  }
  need(meshcclStreamDestroy(stream));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void a_small_cache_of_plans_loses_none_in_use(void** state) {
  (void)state;
  for (int size = 1; size <= 2; size++) {
    set_number("MESHCCL_PLAN_CACHE", size);
    for (run_mode mode = AS_PROCESSES; mode <= AS_MIXED; mode++)
      if (run_ranks(mode, 3, crowded, NULL)) fail_msg("cache of %d, %s", size, run_mode_name(mode));
  }
  set("MESHCCL_PLAN_CACHE", NULL);
}

/* PreMulSum reads a scaled copy: nothing of the original's registration may stick to it. */
static int scaled(rank_env* env) {
  meshcclComm_t comm;
  meshcclRedOp_t op;
  size_t count = 300007;
  double scale = env->rank + 1;
  need(open_comm(env, NULL, &comm));
  need(meshcclRedOpCreatePreMulSum(&op, &scale, meshcclFloat64, meshcclScalarHostImmediate, comm));
  for (int shared = 0; shared < 2; shared++) {
    const oracle_memory* m = shared ? &oracle_mem_alloc : &oracle_host;
    double *in = m->alloc(count * sizeof *in), *out = m->alloc(count * sizeof *out);
    for (size_t i = 0; i < count; i++) in[i] = (double)(i % 1000);
    need(meshcclAllReduce(in, out, count, meshcclFloat64, op, comm, NULL));
    double factor = env->nranks * (env->nranks + 1) / 2.0;
    for (size_t i = 0; i < count; i++) expect(out[i] == factor * (double)(i % 1000), "element %zu is %g", i, out[i]);
    need(meshcclAllReduce(in, in, count, meshcclFloat64, op, comm, NULL));
    for (size_t i = 0; i < count; i++) expect(in[i] == out[i], "in place: element %zu is %g", i, in[i]);
    m->give(in);
    m->give(out);
  }
  need(meshcclRedOpDestroy(op, comm));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void a_scaled_input_is_read_where_it_stands(void** state) {
  (void)state;
  for (run_mode mode = AS_PROCESSES; mode <= AS_MIXED; mode++)
    if (run_ranks(mode, 3, scaled, NULL)) fail_msg("%s", run_mode_name(mode));
}

static int all_are(const rank_env* env, const int* out, size_t count, int each) {
  for (size_t i = 0; i < count; i++) expect(out[i] == each, "element %zu is %d, not %d", i, out[i], each);
  return 0;
}

/* A call like the one before it but for its buffers skips the checks of all else: those of the buffers stay, and nothing
 * of the one before is left in it. */
static int repeating(rank_env* env) {
  enum { COUNT = 600 };
  meshcclComm_t comm;
  int in[3][COUNT], out[3][COUNT], nranks = env->nranks;
  need(open_comm(env, NULL, &comm));
  for (int round = 0; round < 12; round++) {
    size_t count = round < 6 ? 2 : COUNT, at = (size_t)round % 3;
    for (size_t i = 0; i < count; i++) in[at][i] = round, out[at][i] = -1;
    need(meshcclAllReduce(in[at], out[at], count, meshcclInt32, meshcclSum, comm, NULL));
    if (all_are(env, out[at], count, round * nranks)) return 1;
    need(meshcclAllReduce(out[at], out[at], count, meshcclInt32, round % 2 ? meshcclMax : meshcclSum, comm, NULL));
    if (all_are(env, out[at], count, round * nranks * (round % 2 ? 1 : nranks))) return 1;
    expect(meshcclAllReduce(NULL, out[at], count, meshcclInt32, meshcclSum, comm, NULL) == meshcclInvalidArgument,
           "in");
    expect(meshcclAllReduce(in[at], NULL, count, meshcclInt32, meshcclSum, comm, NULL) == meshcclInvalidArgument,
           "out");
    expect(meshcclAllReduce(in[at], in[at] + 1, count, meshcclInt32, meshcclSum, comm, NULL) == meshcclInvalidArgument,
           "overlap");
    if (env->rank == round % nranks) out[at][0] = round;
    need(meshcclBroadcast(out[at], out[at], 1, meshcclInt32, round % nranks, comm, NULL));
    expect(out[at][0] == round, "broadcast in round %d: %d", round, out[at][0]);
    need(meshcclAllGather(in[at], out[at], 1, meshcclInt32, comm, NULL));
    if (all_are(env, out[at], (size_t)nranks, round)) return 1;
    out[at][env->rank] = env->rank;
    need(meshcclAllGather(out[at] + env->rank, out[at], 1, meshcclInt32, comm, NULL));
    for (int r = 0; r < nranks; r++) expect(out[at][r] == r, "gathered in place: %d of rank %d", out[at][r], r);
  }
  meshcclCommStats_t stats = {.size = sizeof stats};
  need(meshcclCommGetStats(comm, &stats));
  expect(stats.operations == 5 * 12, "%llu operations", (unsigned long long)stats.operations);
  need(meshcclCommDestroy(comm));
  return 0;
}

static void calls_that_repeat_are_checked_like_the_first(void** state) {
  (void)state;
  for (int size = 1; size <= 64; size += 63) {
    set_number("MESHCCL_PLAN_CACHE", size);
    for (run_mode mode = AS_PROCESSES; mode <= AS_MIXED; mode++)
      if (run_ranks(mode, 3, repeating, NULL)) fail_msg("cache of %d, %s", size, run_mode_name(mode));
  }
  set("MESHCCL_PLAN_CACHE", NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(sizes_of_slices_and_credits_do_not_matter),
                                     cmocka_unit_test(a_small_cache_of_plans_loses_none_in_use),
                                     cmocka_unit_test(calls_that_repeat_are_checked_like_the_first),
                                     cmocka_unit_test(a_scaled_input_is_read_where_it_stands)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
