/* MESHCCL_ACCUMULATE on whole collectives: where sums of 16- and 8-bit floats are rounded, against sums in double.
 * Prints errors in units of the last place of the exact sum (largest / mean); with MESHCCL_TESTS_LONG for 64 ranks,
 * too. */
#include <math.h>

#include "harness.h"
#include "kernels/kernels.h"
#include "setting.h"

enum { COUNT = 3001 };

static const struct format {
  meshcclDataType_t type;
  int mantissa;
} formats[] = {{meshcclFloat16, 10}, {meshcclBfloat16, 7}, {meshcclFloat8e4m3, 3}, {meshcclFloat8e5m2, 2}};

static double read(meshcclDataType_t type, const void* at) {
  uint16_t word;
  uint8_t byte;
  memcpy(&byte, at, 1);
  if (type == meshcclFloat8e4m3) return (double)mci_f8e4m3_to_float(byte);
  if (type == meshcclFloat8e5m2) return (double)mci_f8e5m2_to_float(byte);
  memcpy(&word, at, 2);
  return (double)(type == meshcclFloat16 ? mci_half_to_float(word) : mci_bfloat16_to_float(word));
}

static void write(meshcclDataType_t type, void* to, float value) {
  uint16_t word = type == meshcclFloat16 ? mci_float_to_half(value) : mci_float_to_bfloat16(value);
  uint8_t byte = type == meshcclFloat8e4m3 ? mci_float_to_f8e4m3(value) : mci_float_to_f8e5m2(value);
  if (mci_type_size(type) == 2) {
    memcpy(to, &word, 2);
  } else {
    memcpy(to, &byte, 1);
  }
}

/* What every rank can work out of another one's input: numbers between 1 and 2. */
static void input(meshcclDataType_t type, int rank, uint8_t* to) {
  uint64_t random = (uint64_t)rank + 1;
  for (int i = 0; i < COUNT; i++)
    write(type, to + (size_t)i * mci_type_size(type), 1 + (float)(test_random(&random) >> 40) * 0x1p-24f);
}

typedef enum { STEP, ONCE, TYPE } mode;
static const char* const modes[] = {"step", "once", "type"};

typedef struct {
  mode mode;
  struct {
    double worst, mean;
  } * errors; /* [format], shared with the test */
} scene;

static double exact_sum(const uint8_t* inputs, const struct format* f, int n, int i) {
  size_t size = mci_type_size(f->type);
  double exact = 0;
  for (int r = 0; r < n; r++) exact += read(f->type, inputs + ((size_t)r * COUNT + (size_t)i) * size);
  return exact;
}

/* All inputs in rank order, added in float32, rounded at the end or after each addition. */
static double expected(const uint8_t* inputs, const struct format* f, int n, int i, bool each) {
  size_t size = mci_type_size(f->type);
  char element[2];
  float sum = 0;
  for (int r = 0; r < n; r++) {
    sum += (float)read(f->type, inputs + ((size_t)r * COUNT + (size_t)i) * size);
    if (!each && r < n - 1) continue;
    write(f->type, element, sum);
    sum = (float)read(f->type, element);
  }
  return (double)sum;
}

static int judge(rank_env* env, const struct format* f, const uint8_t* inputs, const uint8_t* got) {
  const scene* s = env->arg;
  double worst = 0, total = 0;
  for (int i = 0; i < COUNT; i++) {
    double exact = exact_sum(inputs, f, env->nranks, i),
           result = read(f->type, got + (size_t)i * mci_type_size(f->type));
    double error = fabs(result - exact) / ldexp(1, ilogb(exact) - f->mantissa);
    worst = fmax(worst, error);
    total += error;
    if (s->mode == STEP) continue;
    double want = expected(inputs, f, env->nranks, i, s->mode == TYPE);
    expect(result == want, "%s, %s: sum %d is %g, expected %g", mci_type_name(f->type), modes[s->mode], i, result,
           want);
  }
  /* Half a unit for every rounding, which doubles where a sum passes a power of two. */
  expect(worst <= (s->mode == ONCE ? 0.51 : env->nranks), "%s, %s: wrong by %g units", mci_type_name(f->type),
         modes[s->mode], worst);
  if (env->rank == 0) {
    s->errors[f - formats].worst = worst;
    s->errors[f - formats].mean = total / COUNT;
  }
  return 0;
}

static int sums(rank_env* env) {
  meshcclComm_t comm;
  need(open_comm(env, NULL, &comm));
  int bad = 0;
  for (size_t k = 0; k < MCI_COUNT(formats) && !bad; k++) {
    const struct format* f = &formats[k];
    size_t bytes = COUNT * mci_type_size(f->type);
    uint8_t *inputs = malloc((size_t)env->nranks * bytes), *got = malloc(bytes);
    for (int r = 0; r < env->nranks; r++) input(f->type, r, inputs + (size_t)r * bytes);
    need(meshcclAllReduce(inputs + (size_t)env->rank * bytes, got, COUNT, f->type, meshcclSum, comm, NULL));
    bad = judge(env, f, inputs, got);
    free(inputs);
    free(got);
  }
  need(meshcclCommDestroy(comm));
  return bad;
}

static void run(run_mode how, int n, const char* algorithm, mode rounds, void* page) {
  scene s = {.mode = rounds, .errors = page};
  set("MESHCCL_ACCUMULATE", modes[rounds]);
  set("MESHCCL_ALGO", algorithm);
  if (run_ranks(how, n, sums, &s)) fail_msg("%d ranks, %s, %s", n, algorithm ? algorithm : "any", modes[rounds]);
  print_message("%2d ranks, %-29s %s:", n, algorithm ? algorithm : "chosen", modes[rounds]);
  for (size_t k = 0; k < MCI_COUNT(formats); k++)
    print_message("  %s %.2f / %.2f", mci_type_name(formats[k].type), s.errors[k].worst, s.errors[k].mean);
  print_message("\n");
  set("MESHCCL_ACCUMULATE", NULL);
  set("MESHCCL_ALGO", NULL);
}

static void a_result_is_rounded_where_the_setting_says(void** state) {
  (void)state;
  static const struct {
    const char* algorithm;
    mode rounds;
  } many[] = {
      {NULL, ONCE}, {"all_reduce:recursive_doubling", STEP}, {"all_reduce:ring", STEP}, {"all_reduce:direct", TYPE}};
  struct mci_shared_region page;
  check_ok(mci_shared_alloc(4096, &page));
  for (int n = 2; n <= 8; n++) {
    run((run_mode)(n % 3), n, NULL, ONCE, page.base);
    run(AS_THREADS, n, "all_reduce:direct", TYPE, page.base);
    run(AS_THREADS, n, "all_reduce:ring", STEP, page.base);
  }
  run(AS_THREADS, 8, "all_reduce:direct", STEP, page.base);
  run(AS_THREADS, 8, "all_reduce:recursive_doubling", STEP, page.base);
  for (int i = 0; i < 4 && getenv("MESHCCL_TESTS_LONG"); i++)
    run(AS_THREADS, 64, many[i].algorithm, many[i].rounds, page.base);
  check_ok(mci_shared_free(page.base));
}

/* ---- what does not fit is said ---- */

static int refused(rank_env* env) {
  const char* const* parts = env->arg;
  meshcclComm_t comm;
  uint16_t narrow[64] = {0};
  float wide[64] = {0};
  need(open_comm(env, NULL, &comm));
  need(meshcclAllReduce(wide, wide, 64, meshcclFloat32, meshcclSum, comm, NULL));
  need(meshcclAllReduce(narrow, narrow, 64, meshcclFloat16, meshcclMax, comm, NULL));
  meshcclResult_t result = meshcclAllReduce(narrow, narrow, 64, meshcclFloat16, meshcclSum, comm, NULL);
  expect(result == meshcclInvalidArgument, "%s", meshcclGetErrorString(result));
  for (; *parts; parts++)
    expect(strstr(meshcclGetLastError(NULL), *parts), "\"%s\" lacks \"%s\"", meshcclGetLastError(NULL), *parts);
  need(meshcclCommDestroy(comm));
  return 0;
}

static int disagrees(rank_env* env) {
  meshcclComm_t comm;
  set("MESHCCL_ACCUMULATE", modes[env->rank]);
  meshcclResult_t result = open_comm(env, NULL, &comm);
  expect(result != meshcclSuccess && strstr(meshcclGetLastError(NULL), "MESHCCL_ACCUMULATE"), "%s: %s",
         meshcclGetErrorString(result), meshcclGetLastError(NULL));
  return 0;
}

static void what_cannot_be_is_refused_by_name(void** state) {
  (void)state;
  const char* parts[] = {"ring", "MESHCCL_ACCUMULATE", NULL};
  set("MESHCCL_ACCUMULATE", "once");
  set("MESHCCL_ALGO", "all_reduce:ring");
  if (run_ranks(AS_THREADS, 3, refused, parts)) fail_msg("a ring of three");
  set("MESHCCL_ALGO", NULL);
  set("MESHCCL_ACCUMULATE", NULL);
  if (run_ranks(AS_PROCESSES, 2, disagrees, NULL)) fail_msg("two settings");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_result_is_rounded_where_the_setting_says),
                                     cmocka_unit_test(what_cannot_be_is_refused_by_name)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
