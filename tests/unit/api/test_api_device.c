/* The public API on a device whose memory the host cannot touch: whatever dereferences one of its addresses crashes,
 * and whatever reads a result before its token is done gets garbage. */
#include "device/device.h"
#include "oracle.h"
#include "setting.h"
#include "support/test_device.h"

static void* device_alloc(size_t bytes) {
  void* handle = NULL;
  return test_device.alloc(NULL, bytes, &handle) == meshcclSuccess ? handle : NULL;
}
static void device_give(void* handle) { test_device.free(NULL, handle); }
static void device_write(void* to, const void* from, size_t bytes) {
  if (bytes) test_device_write(to, from, bytes);
}
static void device_read(void* to, const void* from, size_t bytes) {
  if (bytes) test_device_read(to, from, bytes);
}
static const oracle_memory on_device = {device_alloc, device_give, device_write, device_read};

typedef struct {
  const char* topology;
  bool stream;
} scene;

/* Small all-reduces of a group, which run as one; half of them with an operator of their own. */
static int joined(rank_env* env, meshcclComm_t comm, meshcclStream_t stream) {
  enum { CALLS = 12, COUNT = 50 };
  int32_t host[CALLS * COUNT], result[CALLS * COUNT], scalar = 3;
  meshcclRedOp_t triple;
  char* in = device_alloc(sizeof host);
  char* out = device_alloc(sizeof host);
  need(meshcclRedOpCreatePreMulSum(&triple, &scalar, meshcclInt32, meshcclScalarHostImmediate, comm));
  for (int i = 0; i < CALLS * COUNT; i++) host[i] = env->rank + i;
  device_write(in, host, sizeof host);
  need(meshcclGroupStart());
  for (size_t k = 0; k < CALLS; k++)
    need(meshcclAllReduce(in + k * COUNT * 4, out + k * COUNT * 4, COUNT, meshcclInt32,
                          k < CALLS / 2 ? meshcclSum : triple, comm, stream));
  need(meshcclGroupEnd());
  need(stream ? meshcclStreamSynchronize(stream) : meshcclSuccess);
  device_read(result, out, sizeof host);
  for (int i = 0; i < CALLS * COUNT; i++) {
    int sum = env->nranks * (env->nranks - 1) / 2 + env->nranks * i;
    int want = i < CALLS * COUNT / 2 ? sum : 3 * sum;
    expect(result[i] == want, "element %d is %d, not %d", i, result[i], want);
  }
  need(meshcclRedOpDestroy(triple, comm));
  device_give(in);
  device_give(out);
  return 0;
}

static int everything(rank_env* env) {
  const scene* s = env->arg;
  static const meshcclDataType_t types[] = {meshcclInt32, meshcclFloat32, meshcclBfloat16};
  const size_t counts[] = {0, 1, 7, (size_t)env->nranks - 1, 1009, 100003};
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  meshcclComm_t comm;
  oracle_call c = {.memory = &on_device};
  config.device = "test";
  config.topology = s->topology;
  config.opTimeout = 60;
  need(meshcclCommInitRankConfig(&comm, env->nranks, env->id, env->rank, &config));
  if (s->stream) need(meshcclStreamCreate(&c.stream));
  for (size_t t = 0; t < MCI_COUNT(types); t++)
    for (size_t k = 0; k < MCI_COUNT(counts); k++) {
      if (counts[k] > 10000 && env->nranks > 3 && t > 0) continue;
      c.type = types[t];
      c.count = counts[k];
      if (oracle_run_all(env, comm, &c) || oracle_exchange(env, comm, &c)) return 1;
    }
  if (joined(env, comm, c.stream)) return 1;
  need(meshcclStreamDestroy(c.stream));
  need(meshcclCommDestroy(comm));
  return 0;
}

static void every_collective_runs_on_an_opaque_device(void** state) {
  (void)state;
  static const struct {
    run_mode mode;
    int n;
    scene s;
  } rows[] = {{AS_THREADS, 2, {0}},
              {AS_THREADS, 3, {.stream = true}},
              {AS_THREADS, 4, {.topology = "torus:2x2"}},
              {AS_THREADS, 5, {"ring:5", 1}},
              {AS_MIXED, 4, {.topology = "mesh:2x2"}}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    scene s = rows[i].s;
    if (run_ranks(rows[i].mode, rows[i].n, everything, &s)) fail_msg("row %zu: %d ranks", i, rows[i].n);
  }
}

/* A rank's device fails in the middle: that rank has a device error, the others hear of it, nobody hangs. */
static int failing_device(rank_env* env) {
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  meshcclComm_t comm;
  meshcclResult_t result = meshcclSuccess;
  config.device = "test";
  config.opTimeout = 20;
  need(meshcclCommInitRankConfig(&comm, env->nranks, env->id, env->rank, &config));
  void* buffer = device_alloc(400000);
  char* host = calloc(1, 400000);
  device_write(buffer, host, 400000);
  result = meshcclBarrier(comm, NULL); /* may hear of the failure while it leaves */
  if (env->rank == 0) test_device_fail_after(*(int*)env->arg);
  for (int k = 0; k < 200 && result == meshcclSuccess; k++)
    result = meshcclAllReduce(buffer, buffer, 100000, meshcclInt32, meshcclSum, comm, NULL);
  expect(result != meshcclSuccess && result != meshcclTimeout, "%s: %s", meshcclGetErrorString(result),
         meshcclGetLastError(comm));
  expect(meshcclCommDestroy(comm) == result, "destroy forgot the error");
  device_give(buffer);
  free(host);
  return 0;
}

static void a_failing_device_is_an_error_everywhere(void** state) {
  (void)state;
  for (int after = 1; after < 40; after += 7)
    if (run_ranks(AS_PROCESSES, 3, failing_device, &after)) fail_msg("after %d", after);
}

int main(void) {
  test_device_register();
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_collective_runs_on_an_opaque_device),
                                     cmocka_unit_test(a_failing_device_is_an_error_everywhere)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
