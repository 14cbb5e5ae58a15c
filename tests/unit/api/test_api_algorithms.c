/* Every algorithm of the planner runs: forced by name, in place and not, on topologies that suit it; schedules from
 * files give the same bits as the planner's; files that do not fit are refused by name; proofs of every plan are on. */
#include <unistd.h>

#include "oracle.h"
#include "sched/sched.h"
#include "setting.h"
#include "topo/plan/plan.h"

static const mci_coll coll_of[NUM_COLLS] = {MCI_ALL_REDUCE, MCI_ALL_GATHER, MCI_REDUCE_SCATTER, MCI_BROADCAST,
                                            MCI_REDUCE,     MCI_ALL_TO_ALL, MCI_GATHER,         MCI_SCATTER};

typedef struct {
  const char* topology;
  int coll;
} scene;

static int one_collective(rank_env* env) {
  const scene* s = env->arg;
  static const size_t counts[] = {1, 13, 5003, 70001};
  meshcclComm_t comm;
  need(open_comm(env, s->topology, &comm));
  for (size_t k = 0; k < MCI_COUNT(counts); k++) {
    oracle_call c = {.type = meshcclInt32, .count = counts[k], .coll = s->coll};
    for (c.root = 0; c.root < (oracle_rooted(s->coll) ? env->nranks : 1); c.root += env->nranks - 1) {
      if (oracle_run(env, comm, &c)) return 1;
      c.in_place = oracle_can_be_in_place(c.coll);
      if (c.in_place && oracle_run(env, comm, &c)) return 1;
      c.in_place = false;
    }
  }
  need(meshcclCommDestroy(comm));
  return 0;
}

static bool applies(const mci_family* family, const char* spec, int coll) {
  mci_topo* topo;
  check_ok(mci_topo_parse(spec, &topo));
  char buffer[160];
  mci_request request = {.coll = coll_of[coll], .bytes = 4096};
  bool yes = (family->colls >> coll_of[coll] & 1) && !family->refuse(topo, &request, buffer, sizeof buffer);
  mci_topo_destroy(topo);
  return yes;
}

static void every_algorithm_gives_the_right_result(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    int n;
  } rows[] = {{"full:5", 5}, {"full:8", 8},    {"full:2", 2},    {"ring:6", 6},
              {"ring:4", 4}, {"torus:3x3", 9}, {"torus:2x4", 8}, {"mesh:3x4", 12}};
  int runs = 0;
  set("MESHCCL_VERIFY", "on");
  for (size_t t = 0; t < MCI_COUNT(rows); t++)
    for (int coll = 0; coll < NUM_COLLS; coll++)
      for (const mci_family* const* family = mci_families; *family; family++) {
        if (!applies(*family, rows[t].spec, coll)) continue;
        char forced[96];
        snprintf(forced, sizeof forced, "%s:%s", mci_coll_name(coll_of[coll]), (*family)->name);
        set("MESHCCL_ALGO", forced);
        scene s = {rows[t].spec, coll};
        if (run_ranks(runs++ % 3 ? AS_THREADS : AS_MIXED, rows[t].n, one_collective, &s))
          fail_msg("%s on %s", forced, rows[t].spec);
      }
  set("MESHCCL_ALGO", NULL);
  set("MESHCCL_VERIFY", NULL);
  print_message("%d algorithms forced\n", runs);
  assert_true(runs > 40);
}

/* ---- schedules from files ---- */

enum { COUNT = 40009 };

static float sample(int rank, int i) {
  return 1.0f / (float)(1 + ((uint32_t)rank * 7919u + (uint32_t)i * 104729u) % 10007u);
}

/* Writes the digest of rank 0's result to the place that arg points to (shared with the test). */
static int digest_of_all_reduce(rank_env* env) {
  uint64_t* digest = *(uint64_t**)env->arg;
  meshcclComm_t comm;
  float* x = malloc(COUNT * sizeof *x);
  need(open_comm(env, "ring:4", &comm));
  for (int i = 0; i < COUNT; i++) x[i] = sample(env->rank, i);
  need(meshcclAllReduce(x, x, COUNT, meshcclFloat32, meshcclSum, comm, NULL));
  digest[env->rank] = mci_hash64(x, COUNT * sizeof *x);
  free(x);
  need(meshcclCommDestroy(comm));
  return 0;
}

static int refused(rank_env* env) {
  const char* const* parts = env->arg;
  meshcclComm_t comm;
  float x = 1;
  need(open_comm(env, NULL, &comm));
  meshcclResult_t result = meshcclAllReduce(&x, &x, 1, meshcclFloat32, meshcclSum, comm, NULL);
  expect(result == meshcclInvalidArgument || result == meshcclInvalidUsage, "%s", meshcclGetErrorString(result));
  for (; *parts; parts++)
    expect(strstr(meshcclGetLastError(NULL), *parts), "\"%s\" lacks \"%s\"", meshcclGetLastError(NULL), *parts);
  meshcclCommAbort(comm);
  return 0;
}

static void write_text(const char* path, const char* text) {
  FILE* file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static void schedules_from_files_run_and_are_checked(void** state) {
  (void)state;
  char path[] = "/tmp/meshccl-schedule-XXXXXX", variable[64], line[64];
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  close(fd);
  mci_topo* topo;
  mci_candidate choice;
  mci_schedule* schedule;
  mci_request request = {.coll = MCI_ALL_REDUCE, .bytes = mci_plan_class(COUNT * 4), .wide = true};
  check_ok(mci_topo_parse("ring:4", &topo));
  check_ok(mci_plan_choose(topo, &request, NULL, &choice));
  check_ok(mci_plan_build_all(topo, &request, &choice, &schedule));
  mci_str text = {0};
  mci_schedule_print(schedule, &text);
  check_ok(mci_str_result(&text));
  write_text(path, text.text);
  struct mci_shared_region page;
  check_ok(mci_shared_alloc(4096, &page));
  uint64_t* digests = page.base;
  if (run_ranks(AS_PROCESSES, 4, digest_of_all_reduce, &digests)) fail_msg("planned");
  uint64_t planned = digests[0];
  snprintf(variable, sizeof variable, "all_reduce:%s", path);
  set("MESHCCL_SCHEDULE", variable);
  if (run_ranks(AS_PROCESSES, 4, digest_of_all_reduce, &digests)) fail_msg("from a file");
  for (int r = 0; r < 4; r++) assert_int_equal(digests[r], planned);

  const char* other_ranks[] = {path, "4 ranks", "3 ranks", NULL};
  if (run_ranks(AS_PROCESSES, 3, refused, other_ranks)) fail_msg("another number of ranks");
  char* cut = strchr(text.text + text.length / 2, '\n');
  assert_non_null(cut);
  int at = 2;
  for (const char* p = text.text; p < cut; p++) at += *p == '\n';
  snprintf(cut + 1, text.length - (size_t)(cut + 1 - text.text), "nonsense\n");
  write_text(path, text.text);
  snprintf(line, sizeof line, "%s:%d", path, at);
  const char* broken[] = {line, NULL};
  if (run_ranks(AS_PROCESSES, 4, refused, broken)) fail_msg("a broken file");
  unlink(path);
  const char* missing[] = {path, "cannot be opened", NULL};
  if (run_ranks(AS_PROCESSES, 2, refused, missing)) fail_msg("a missing file");
  set("MESHCCL_SCHEDULE", NULL);
  check_ok(mci_shared_free(page.base));
  mci_str_fini(&text);
  mci_schedule_destroy(schedule);
  mci_topo_destroy(topo);
}

/* ---- bits ---- */

typedef struct {
  uint64_t* digests; /* [rank] */
  uint32_t disturbance;
  bool bfloat, threadless, stream;
  const char* topology;
} trial;

static int disturbed(rank_env* env) {
  const trial* t = env->arg;
  uint64_t random = t->disturbance * 31u + (uint32_t)env->rank;
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  meshcclComm_t comm;
  meshcclStream_t stream = NULL;
  config.topology = t->topology;
  config.progressThread = !t->threadless;
  need(meshcclCommInitRankConfig(&comm, env->nranks, env->id, env->rank, &config));
  if (t->stream) need(meshcclStreamCreate(&stream));
  float* x = malloc(COUNT * sizeof *x);
  for (int i = 0; i < COUNT; i++) x[i] = sample(env->rank, i);
  for (int i = 0; t->bfloat && i < COUNT; i++) { /* the upper halves are good values of bf16 */
    uint32_t bits;
    memcpy(&bits, &x[i], 4);
    ((uint16_t*)x)[i] = (uint16_t)(bits >> 16);
  }
  usleep((unsigned)(test_random(&random) % 4000));
  need(meshcclAllReduce(x, x, COUNT, t->bfloat ? meshcclBfloat16 : meshcclFloat32, meshcclSum, comm, stream));
  need(meshcclStreamDestroy(stream));
  t->digests[env->rank] = mci_hash64(x, COUNT * (t->bfloat ? 2 : 4));
  free(x);
  need(meshcclCommDestroy(comm));
  return 0;
}

static void bits_are_the_same_on_every_run_and_rank(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    int n;
  } rows[] = {{NULL, 3}, {"torus:2x2", 4}, {"mesh:2x3", 6}};
  struct mci_shared_region page;
  check_ok(mci_shared_alloc(4096, &page));
  for (size_t i = 0; i < MCI_COUNT(rows) * 2; i++) {
    uint64_t first = 0;
    for (uint32_t k = 0; k < 20; k++) {
      trial t = {.digests = page.base,
                 .disturbance = k,
                 .bfloat = i % 2,
                 .threadless = k % 3 == 0,
                 .stream = k % 2,
                 .topology = rows[i / 2].spec};
      if (run_ranks((run_mode)(k % 3), rows[i / 2].n, disturbed, &t)) fail_msg("row %zu run %u", i, k);
      if (k == 0) first = t.digests[0];
      for (int r = 0; r < rows[i / 2].n; r++)
        if (t.digests[r] != first) fail_msg("row %zu run %u: rank %d has other bits", i, k, r);
    }
  }
  check_ok(mci_shared_free(page.base));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(schedules_from_files_run_and_are_checked),
                                     cmocka_unit_test(bits_are_the_same_on_every_run_and_rank),
                                     cmocka_unit_test(every_algorithm_gives_the_right_result)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
