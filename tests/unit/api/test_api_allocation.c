/* The n-th allocation of the process fails, for every n until all goes well: an error on some rank, never a crash, a
 * leak, a hang or a wrong result. Ranks are threads of one process, so that one hook reaches all of them. */
#include <stdatomic.h>

#include "oracle.h"
#include "setting.h"

typedef struct {
  int64_t after;
  bool split;
  double seconds;
  atomic_int errors; /* of all ranks: in memory that the test shares with their process */
} scene;

static meshcclResult_t use(rank_env* env, meshcclComm_t comm, meshcclStream_t stream, float* x, const scene* s) {
  MCI_TRY(meshcclAllReduce(x, x, 1000, meshcclFloat32, meshcclSum, comm, NULL));
  MCI_TRY(meshcclAllReduce(x, x, 100000, meshcclFloat32, meshcclMax, comm, stream));
  MCI_TRY(meshcclStreamSynchronize(stream));
  MCI_TRY(meshcclGroupStart());
  meshcclSend(x, 5000, meshcclFloat32, (env->rank + 1) % env->nranks, comm, stream);
  meshcclRecv(x + 50000, 5000, meshcclFloat32, (env->rank + env->nranks - 1) % env->nranks, comm, NULL);
  MCI_TRY(meshcclGroupEnd());
  MCI_TRY(meshcclStreamSynchronize(stream));
  MCI_TRY(meshcclGroupStart()); /* calls that run as one */
  for (int k = 0; k < 5; k++)
    meshcclAllReduce(x + 8 * k, x + 8 * k, 8, meshcclFloat32, meshcclMax, comm, k % 2 ? stream : NULL);
  MCI_TRY(meshcclGroupEnd());
  MCI_TRY(meshcclStreamSynchronize(stream));
  if (!s->split) return meshcclSuccess;
  meshcclComm_t child = NULL;
  MCI_TRY(meshcclCommSplit(comm, 0, env->rank, &child, NULL)); /* with the parent's limits */
  meshcclResult_t result = meshcclBarrier(child, NULL);
  meshcclCommDestroy(child);
  return result;
}

static bool right(const float* x, int n) {
  for (int i = 0; i < 1000; i++)
    if (x[i] != (float)(n * (n + 1)) / 2) return false;
  for (int i = 1000; i < 50000; i++)
    if (x[i] != (float)n) return false;
  return true;
}

static int all_of_it(rank_env* env) {
  scene* s = *(scene**)env->arg;
  meshcclComm_t comm = NULL;
  meshcclStream_t stream = NULL;
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.initTimeout = config.opTimeout = s->seconds;
  float* x = malloc(100000 * sizeof *x);
  for (int i = 0; i < 100000; i++) x[i] = (float)(env->rank + 1);
  meshcclResult_t result = meshcclCommInitRankConfig(&comm, env->nranks, env->id, env->rank, &config);
  bool begun = result == meshcclSuccess;
  expect(begun == (comm != NULL), "init %s, but the handle is %p", begun ? "succeeded" : "failed", (void*)comm);
  if (begun) result = meshcclStreamCreate(&stream);
  if (result == meshcclSuccess) result = use(env, comm, stream, x, s);
  if (result != meshcclSuccess) {
    atomic_fetch_add(&s->errors, 1);
    const char* text = meshcclGetLastError(NULL);
    expect(*text, "%s without a message", meshcclGetErrorString(result));
    expect(result == meshcclSystemError || result == meshcclRemoteError || result == meshcclTimeout, "%s: %s",
           meshcclGetErrorString(result), text);
  }
  int wrong = result == meshcclSuccess && !right(x, env->nranks);
  if (begun && result != meshcclSuccess) meshcclCommAbort(comm);
  if (begun && result == meshcclSuccess) meshcclCommDestroy(comm);
  meshcclStreamDestroy(stream);
  free(x);
  expect(!wrong, "a wrong result");
  return 0;
}

static int rank_with_hook(rank_env* env) {
  scene* s = *(scene**)env->arg;
  if (env->rank == 0) mci_alloc_fail_after(s->after);
  return all_of_it(env);
}

static void fail_each(int n, bool split, int64_t step) {
  struct mci_shared_region page;
  check_ok(mci_shared_alloc(4096, &page));
  scene* s = page.base;
  *s = (scene){.after = 1, .split = split, .seconds = 1};
  for (int quiet = 0; quiet < 10; s->after += step) { /* some failures only cost speed */
    atomic_store(&s->errors, 0);
    if (run_ranks(AS_THREADS, n, rank_with_hook, &s)) fail_msg("allocation %lld of %d ranks", (long long)s->after, n);
    quiet = atomic_load(&s->errors) ? 0 : quiet + 1;
    if (s->after > 5000) fail_msg("5000 allocations and still one fails");
  }
  print_message("%lld allocations\n", (long long)s->after);
  check_ok(mci_shared_free(page.base));
}

static void any_allocation_of_two_ranks_may_fail(void** state) {
  (void)state;
  fail_each(2, false, 3);
  fail_each(2, true, 7);
}

static void any_allocation_of_three_ranks_may_fail(void** state) {
  (void)state;
  fail_each(3, true, 11);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(any_allocation_of_two_ranks_may_fail),
                                     cmocka_unit_test(any_allocation_of_three_ranks_may_fail)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
