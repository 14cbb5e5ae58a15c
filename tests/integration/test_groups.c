/* Small all-reduces of a group run as one: with the results of the calls alone, only where every rank decides alike, and
 * what differs, needs another call or fails is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* after the others */
#include <cmocka.h>

#include "harness.h"
#include "oracle.h"

enum { CALLS = 100, MOST_BYTES = 4096 };

static void run_everywhere(int n, rank_main fn, void* arg) {
  for (run_mode mode = AS_PROCESSES; mode <= AS_MIXED; mode++)
    if (run_ranks(mode, n, fn, arg)) fail_msg("%d ranks as %s", n, run_mode_name(mode));
}

static int operations(rank_env* env, meshcclComm_t comm, long* out) {
  meshcclCommStats_t stats = {.size = sizeof stats};
  need(meshcclCommGetStats(comm, &stats));
  *out = (long)stats.operations;
  return 0;
}

/* ---- results ---- */

typedef struct {
  meshcclDataType_t type;
  int op;         /* meshcclNumOps: PreMulSum, every call with a scalar of its own */
  int streams;    /* 0: none */
  bool any_value; /* floats of any value, else small whole numbers */
} kind;

/* Call k: how many elements, where its input and output start, in elements. */
typedef struct {
  size_t count, in, out;
} place;

static size_t lay_out(place* places, size_t type_size) {
  size_t at = 0;
  for (int k = 0; k < CALLS; k++) {
    size_t bytes = 8 + (size_t)k * 2654435761u % (MOST_BYTES - 7);
    places[k].count = k == 7 ? 1 : k % 31 == 5 ? 0 : bytes / type_size;
    places[k].in = at;
    places[k].out = k % 2 ? at : at + places[k].count + 3; /* in place and not */
    at = places[k].out + places[k].count + (size_t)(k % 3);
  }
  return at;
}

static void fill(void* at, size_t n, const kind* what, int rank) {
  for (size_t i = 0; i < n; i++) {
    unsigned random = (unsigned)(i * 7919 + (size_t)rank * 104729 + 1) * 2654435761u >> 8;
    double whole = (double)(random % 3 + 1);
    if (what->type == meshcclFloat32) ((float*)at)[i] = what->any_value ? (float)random / 1.7e5f - 40 : (float)whole;
    if (what->type == meshcclFloat64) ((double*)at)[i] = what->any_value ? random / 3.1e5 - 20 : whole;
    if (what->type == meshcclInt32) ((int32_t*)at)[i] = (int32_t)random;
    if (what->type == meshcclInt8) ((int8_t*)at)[i] = (int8_t)random;
    if (what->type == meshcclBfloat16) ((uint16_t*)at)[i] = (uint16_t)(0x3f80 + random % 256); /* 1 to 3.98 */
  }
}

static int all_calls(rank_env* env, meshcclComm_t comm, const kind* what, const place* places, char* data,
                     const meshcclRedOp_t* ops, meshcclStream_t* streams, bool grouped) {
  size_t size = oracle_type_size(what->type);
  if (grouped) need(meshcclGroupStart());
  for (int k = 0; k < CALLS; k++)
    need(meshcclAllReduce(data + places[k].in * size, data + places[k].out * size, places[k].count, what->type, ops[k],
                          comm, grouped && what->streams ? streams[k % what->streams] : NULL));
  if (grouped) need(meshcclGroupEnd());
  for (int s = 0; grouped && s < what->streams; s++) need(meshcclStreamSynchronize(streams[s]));
  return 0;
}

static int make_operators(rank_env* env, meshcclComm_t comm, const kind* what, meshcclRedOp_t* ops) {
  for (int k = 0; k < CALLS; k++) {
    float scalar = (float)(1 + (env->rank + k) % 4) / 2;
    ops[k] = (meshcclRedOp_t)what->op;
    if (what->op == meshcclNumOps)
      need(meshcclRedOpCreatePreMulSum(&ops[k], &scalar, meshcclFloat32, meshcclScalarHostImmediate, comm));
  }
  return 0;
}

static int compare(rank_env* env, const kind* what, const place* places, const char* alone, const char* joined) {
  size_t size = oracle_type_size(what->type);
  for (int k = 0; k < CALLS; k++)
    expect(!memcmp(alone + places[k].out * size, joined + places[k].out * size, places[k].count * size),
           "type %d, operator %d: call %d of %zu elements differs", what->type, what->op, k, places[k].count);
  return 0;
}

static int both_ways(rank_env* env, meshcclComm_t comm, meshcclStream_t* streams, const kind* what) {
  place places[CALLS];
  meshcclRedOp_t ops[CALLS];
  size_t size = oracle_type_size(what->type), n = lay_out(places, size);
  char *alone = malloc(n * size), *joined = malloc(n * size);
  long before, after;
  fill(alone, n, what, env->rank);
  memcpy(joined, alone, n * size);
  if (make_operators(env, comm, what, ops)) return 1;
  if (all_calls(env, comm, what, places, alone, ops, streams, false)) return 1;
  if (operations(env, comm, &before) || all_calls(env, comm, what, places, joined, ops, streams, true)) return 1;
  if (operations(env, comm, &after) || compare(env, what, places, alone, joined)) return 1;
  expect(!memcmp(alone, joined, n * size), "type %d, operator %d: bytes between the results differ", what->type,
         what->op);
  expect(after - before == 1, "%ld operations for %d calls", after - before, (int)CALLS);
  for (int k = 0; k < CALLS && what->op == meshcclNumOps; k++) need(meshcclRedOpDestroy(ops[k], comm));
  free(alone);
  free(joined);
  return 0;
}

static int results(rank_env* env) {
  bool pair = env->nranks == 2; /* whose sums do not depend on the order */
  const kind kinds[] = {{meshcclFloat32, meshcclSum, 0, pair},    {meshcclFloat32, meshcclSum, 1, pair},
                        {meshcclFloat32, meshcclProd, 2, pair},   {meshcclFloat32, meshcclAvg, 0, pair},
                        {meshcclFloat32, meshcclMax, 3, true},    {meshcclFloat64, meshcclMin, 0, true},
                        {meshcclFloat64, meshcclAvg, 2, pair},    {meshcclInt32, meshcclSum, 1, true},
                        {meshcclInt32, meshcclAvg, 0, true},      {meshcclInt8, meshcclProd, 0, true},
                        {meshcclBfloat16, meshcclMax, 1, true},   {meshcclFloat32, meshcclNumOps, 0, false},
                        {meshcclFloat32, meshcclNumOps, 2, false}};
  meshcclComm_t comm;
  meshcclStream_t streams[3];
  need(open_comm(env, env->arg, &comm));
  for (int s = 0; s < 3; s++) need(meshcclStreamCreate(&streams[s]));
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
    if (both_ways(env, comm, streams, &kinds[k])) return 1;
  for (int s = 0; s < 3; s++) need(meshcclStreamDestroy(streams[s]));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void joined_calls_give_what_they_give_alone(void** state) {
  (void)state;
  run_everywhere(2, results, NULL);
  run_everywhere(3, results, NULL);
  char torus[] = "torus:2x2";
  if (run_ranks(AS_THREADS, 4, results, torus)) fail_msg("torus");
}

/* ---- what is joined ---- */

/* One letter per call: s, S sum of 3 and 9,000 floats, m maximum, i integers, b broadcast, p exchange with oneself,
 * k sum of 16 KiB, o the same call on a second communicator; and how many operations that makes on the first. */
static const struct {
  const char* calls;
  long operations;
} groups[] = {{"s", 1},       {"ss", 1},    {"smsm", 4}, {"ssmm", 2},     {"siis", 3},
              {"sbs", 3},     {"ssbss", 3}, {"sps", 3},  {"sSs", 3},      {"SS", 2},
              {"soosos", 1},  {"bb", 2},    {"pp", 4},   {"kkkkkkkk", 1}, {"kkkkkkkkkkkkkkkkk", 2},
              {"spmpmpss", 9}};

enum { ROOM = 9000, LONGEST = 17 };

static const struct {
  char letter;
  size_t count;
  meshcclDataType_t type;
  meshcclRedOp_t op;
} sums[] = {{'s', 3, meshcclFloat32, meshcclSum},    {'S', ROOM, meshcclFloat32, meshcclSum},
            {'k', 4096, meshcclFloat32, meshcclSum}, {'m', 3, meshcclFloat32, meshcclMax},
            {'i', 3, meshcclInt32, meshcclSum},      {'o', 3, meshcclFloat32, meshcclSum}};

static int call_of(rank_env* env, char letter, float* x, meshcclComm_t comm, meshcclComm_t other) {
  for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
    if (sums[i].letter != letter) continue;
    need(meshcclAllReduce(x, x, sums[i].count, sums[i].type, sums[i].op, letter == 'o' ? other : comm, NULL));
    return 0;
  }
  if (letter == 'b') {
    need(meshcclBroadcast(x, x, 3, meshcclFloat32, 0, comm, NULL));
    return 0;
  }
  need(meshcclSend(x, 3, meshcclFloat32, env->rank, comm, NULL));
  need(meshcclRecv(x + 100, 3, meshcclFloat32, env->rank, comm, NULL));
  return 0;
}

static int joined(rank_env* env) {
  meshcclComm_t comm, other;
  float* room = calloc(LONGEST * ROOM, sizeof *room);
  need(open_comm(env, NULL, &comm));
  need(meshcclCommSplit(comm, 0, -env->rank, &other, NULL));
  for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
    long before, after;
    if (operations(env, comm, &before)) return 1;
    need(meshcclGroupStart());
    for (int k = 0; groups[g].calls[k]; k++)
      if (call_of(env, groups[g].calls[k], room + k * ROOM, comm, other)) return 1;
    need(meshcclGroupEnd());
    if (operations(env, comm, &after)) return 1;
    expect(after - before == groups[g].operations, "%s: %ld operations", groups[g].calls, after - before);
  }
  need(meshcclCommDestroy(other));
  need(meshcclCommDestroy(comm));
  free(room);
  return 0;
}

static void only_small_calls_of_one_kind_in_a_row_are_joined(void** state) {
  (void)state;
  run_everywhere(2, joined, NULL);
}

/* Streams, which no other rank knows, change nothing; more calls than are joined at once end, too. */
static int streams_differ(rank_env* env) {
  enum { MANY = 600 };
  meshcclComm_t comm;
  meshcclStream_t streams[3];
  int32_t x[MANY];
  need(open_comm(env, NULL, &comm));
  for (int s = 0; s < 3; s++) need(meshcclStreamCreate(&streams[s]));
  for (int round = 0; round < 20; round++) {
    for (int k = 0; k < MANY; k++) x[k] = env->rank + k;
    need(meshcclGroupStart());
    for (int k = 0; k < MANY; k++) {
      int s = env->rank == 0 ? 3 : (k / (round + 1) + env->rank) % 4;
      need(meshcclAllReduce(&x[k], &x[k], 1, meshcclInt32, meshcclSum, comm, s == 3 ? NULL : streams[s]));
    }
    need(meshcclGroupEnd());
    for (int s = 0; s < 3; s++) need(meshcclStreamSynchronize(streams[s]));
    for (int k = 0; k < MANY; k++)
      expect(x[k] == env->nranks * (env->nranks - 1) / 2 + env->nranks * k, "call %d is %d", k, x[k]);
  }
  for (int s = 0; s < 3; s++) need(meshcclStreamDestroy(streams[s]));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void streams_do_not_decide(void** state) {
  (void)state;
  run_everywhere(3, streams_differ, NULL);
}

static void one_thread_drives_many_ranks(void** state) {
  (void)state;
  enum { RANKS = 3, EACH = 40 };
  meshcclComm_t comms[RANKS];
  int32_t x[RANKS][EACH];
  assert_int_equal(meshcclCommInitAll(comms, RANKS, NULL), meshcclSuccess);
  for (int k = 0; k < RANKS * EACH; k++) x[k % RANKS][k / RANKS] = k;
  assert_int_equal(meshcclGroupStart(), meshcclSuccess);
  for (int k = 0; k < RANKS * EACH; k++) {
    int32_t* at = &x[k % RANKS][k / RANKS];
    assert_int_equal(meshcclAllReduce(at, at, 1, meshcclInt32, meshcclSum, comms[k % RANKS], NULL), meshcclSuccess);
  }
  assert_int_equal(meshcclGroupEnd(), meshcclSuccess);
  for (int k = 0; k < RANKS * EACH; k++) assert_int_equal(x[k % RANKS][k / RANKS], 3 + 9 * (k / RANKS));
  for (int r = 0; r < RANKS; r++) assert_int_equal(meshcclCommDestroy(comms[r]), meshcclSuccess);
}

/* ---- errors ---- */

static meshcclResult_t differing(meshcclComm_t comm, float* x, int what, bool odd) {
  bool grouped = what != 2 || !odd;
  meshcclResult_t result = grouped ? meshcclGroupStart() : meshcclSuccess, end;
  for (int k = 0; k < 4 && result == meshcclSuccess; k++) {
    size_t count = k == 1 && what == 0 && odd ? 5 : k == 2 && what == 0 && odd ? 7 : k == 1 ? 7 : 5;
    if (what == 1 && odd && k == 3) break;
    meshcclRedOp_t op = what == 3 && odd ? meshcclMax : meshcclSum;
    result = meshcclAllReduce(x + 10 * k, x + 10 * k, count, meshcclFloat32, op, comm, NULL);
  }
  end = grouped ? meshcclGroupEnd() : meshcclSuccess;
  return result != meshcclSuccess ? result : end;
}

/* 0: the same counts in another order; 1: a call less; 2: the same calls without a group; 3: another operator. */
static int mismatch(rank_env* env) {
  int what = *(int*)env->arg;
  meshcclComm_t comm;
  float x[64] = {0};
  need(open_comm(env, NULL, &comm));
  meshcclResult_t result = meshcclBarrier(comm, NULL);
  for (int k = 0; k < 3 && result == meshcclSuccess; k++) /* a difference may show one group later */
    result = differing(comm, x, what, env->rank == env->nranks - 1);
  for (double until = now_seconds() + 5; result == meshcclSuccess && now_seconds() < until;)
    need(meshcclCommGetAsyncError(comm, &result));
  const char* text = meshcclGetLastError(comm);
  expect(result == meshcclInvalidUsage, "difference %d: %s (%s)", what, meshcclGetErrorString(result), text);
  expect(strstr(text, "do not match") && strstr(text, "rank"), "difference %d: %s", what, text);
  need(meshcclCommAbort(comm));
  return 0;
}

static void groups_that_differ_are_named(void** state) {
  (void)state;
  for (int what = 0; what < 4; what++) {
    if (run_ranks(AS_PROCESSES, 3, mismatch, &what)) fail_msg("difference %d", what);
    if (run_ranks(AS_THREADS, 2, mismatch, &what)) fail_msg("difference %d", what);
  }
}

static int dependent(rank_env* env) {
  meshcclComm_t comm;
  float x[8] = {0}, y[8] = {0}, z[8] = {0};
  need(open_comm(env, NULL, &comm));
  for (int chain = 0; chain < 2; chain++) { /* in place twice; what one call writes, the next one reads */
    need(meshcclGroupStart());
    need(meshcclAllReduce(z, z, 2, meshcclFloat32, meshcclSum, comm, NULL));
    need(meshcclAllReduce(x, chain ? y : x, 4, meshcclFloat32, meshcclSum, comm, NULL));
    need(meshcclAllReduce(chain ? y + 3 : x, chain ? z + 2 : x, 4, meshcclFloat32, meshcclSum, comm, NULL));
    expect(meshcclGroupEnd() == meshcclInvalidUsage, "calls that need each other were issued");
    expect(strstr(meshcclGetLastError(NULL), "number 3 reads what number 2 writes"), "%s", meshcclGetLastError(NULL));
  }
  x[0] = 1;
  need(meshcclGroupStart()); /* one input for two, then one output for two: the later call's result */
  need(meshcclAllReduce(x, y, 1, meshcclFloat32, meshcclSum, comm, NULL));
  need(meshcclAllReduce(x, z, 1, meshcclFloat32, meshcclSum, comm, NULL));
  need(meshcclAllReduce(x + 1, z, 1, meshcclFloat32, meshcclSum, comm, NULL));
  need(meshcclGroupEnd());
  expect(y[0] == (float)env->nranks && z[0] == 0, "y %g, z %g", (double)y[0], (double)z[0]);
  need(meshcclCommDestroy(comm));
  return 0;
}

static void calls_that_need_each_other_are_refused(void** state) {
  (void)state;
  run_everywhere(2, dependent, NULL);
}

/* The last rank leaves while the others' joined calls wait for it: each of them ends with the error. */
static int left_alone(rank_env* env) {
  meshcclComm_t comm;
  meshcclStream_t stream;
  float x[20] = {0};
  need(open_comm(env, NULL, &comm));
  need(meshcclStreamCreate(&stream));
  meshcclResult_t result = meshcclBarrier(comm, NULL);
  if (env->rank == env->nranks - 1) {
    need(meshcclCommAbort(comm));
    need(meshcclStreamDestroy(stream));
    return 0;
  }
  if (result == meshcclSuccess) { /* the end may be heard before the last call is made */
    need(meshcclGroupStart());
    for (int k = 0; k < 20 && result == meshcclSuccess; k++)
      result = meshcclAllReduce(&x[k], &x[k], 1, meshcclFloat32, meshcclSum, comm, k % 2 ? stream : NULL);
    meshcclResult_t end = meshcclGroupEnd();
    if (result == meshcclSuccess) result = end;
    expect(meshcclStreamSynchronize(stream) != meshcclInProgress, "the stream still runs");
  }
  expect(result == meshcclRemoteError, "%s: %s", meshcclGetErrorString(result), meshcclGetLastError(comm));
  meshcclCommDestroy(comm);
  need(meshcclStreamDestroy(stream));
  return 0;
}

static void an_abort_ends_every_joined_call(void** state) {
  (void)state;
  for (int round = 0; round < 5; round++) run_everywhere(3, left_alone, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(joined_calls_give_what_they_give_alone),
      cmocka_unit_test(only_small_calls_of_one_kind_in_a_row_are_joined),
      cmocka_unit_test(streams_do_not_decide),
      cmocka_unit_test(one_thread_drives_many_ranks),
      cmocka_unit_test(groups_that_differ_are_named),
      cmocka_unit_test(calls_that_need_each_other_are_refused),
      cmocka_unit_test(an_abort_ends_every_joined_call),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
