/* Every family of the table on every shape: all collectives, in and out of place, proved; and broken at random places,
 * which the proof must notice. The shapes are all meshes and tori up to 8x8 and 4x4x4, all lines and rings up to 16
 * (MESHCCL_TESTS_LONG), or a few of each kind. New rows of the table are covered without a change here. */
#include "plan_test.h"
#include "support/mutate.h"

static mutant_tally tally;
static uint64_t plans, proofs, steps;
static uint64_t state = 1;

static void prove(const plan_case* c, mci_schedule* schedule) {
  for (int in_place = 0; in_place < 2; in_place++) {
    mci_verify_options options = {.in_place = in_place};
    mci_verify_report report;
    if (mci_schedule_verify(schedule, &options, &report) != meshcclSuccess)
      fail_msg("%s%s: %s", plan_case_text(c), in_place ? ", in place" : "", mci_error_last());
    proofs++;
    steps += report.steps;
  }
}

/* Mutants cost a proof each: fewer of large programs. */
static void break_some(const plan_case* c, mci_schedule* schedule) {
  uint64_t size = 0;
  for (uint32_t r = 0; r < schedule->nranks; r++)
    for (uint32_t k = 0; k < schedule->programs[r]->nchannels; k++)
      size += mci_channel_steps(&schedule->programs[r]->channels[k]);
  if (size > 3000 && test_random(&state) % (size / 3000 + 1) != 0) return;
  test_all_mutants(plan_case_text(c), schedule, test_long() ? 6 : 3, &tally);
}

static void visit(const plan_case* c) {
  mci_schedule* schedule = plan_schedule(c);
  plans++;
  prove(c, schedule);
  break_some(c, schedule);
  mci_schedule_destroy(schedule);
}

/* With one chunk, and with as many as suit a few megabytes, at most three: more only repeat themselves. */
static void visit_shape(const char* spec) {
  mci_topo* topo = plan_topo(spec);
  for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
    mci_candidate list[MCI_MAX_CANDIDATES];
    mci_request request = {.coll = (mci_coll)coll, .bytes = 4 << 20, .wide = coll % 2};
    request.root = (uint32_t)(test_random(&state) % mci_topo_nranks(topo));
    uint32_t n;
    check_ok(mci_plan_candidates(topo, &request, list, &n));
    if (!list[0].applies) fail_msg("%s: nothing serves %s", spec, mci_coll_name(request.coll));
    for (uint32_t k = 0; k < n && list[k].applies; k++) {
      plan_case c = {spec, topo, request, list[k]};
      uint32_t most = MCI_MIN(c.candidate.cost.chunks, 3);
      c.candidate.cost.chunks = 1;
      visit(&c);
      c.candidate.cost.chunks = most;
      if (most > 1) visit(&c);
    }
  }
  mci_topo_destroy(topo);
}

static void report(const char* what) {
  uint64_t tried = 0, harmless = 0;
  for (int kind = 0; kind < NUM_MUTANTS; kind++) {
    tried += tally.tried[kind];
    harmless += tally.accepted[kind];
  }
  print_message("%s: %lu plans, %lu proofs of %lu steps, %lu mutants tried, %lu of them harmless\n", what,
                (unsigned long)plans, (unsigned long)proofs, (unsigned long)steps, (unsigned long)tried,
                (unsigned long)harmless);
  tally = (mutant_tally){0};
  plans = proofs = steps = 0;
}

static void lines_and_rings(void** unused) {
  (void)unused;
  for (uint32_t n = 2; n <= (test_long() ? 16 : 7); n++) {
    char spec[32];
    snprintf(spec, sizeof spec, "line:%u", n);
    visit_shape(spec);
    snprintf(spec, sizeof spec, "ring:%u", n);
    visit_shape(spec);
  }
  report("lines and rings");
}

static void grids(const char* kind) {
  uint32_t most = test_long() ? 8 : 3;
  for (uint32_t rows = 2; rows <= most; rows++) {
    for (uint32_t columns = 2; columns <= most; columns++) {
      char spec[32];
      snprintf(spec, sizeof spec, "%s:%ux%u", kind, rows, columns);
      visit_shape(spec);
    }
  }
  report(kind);
}

static void meshes(void** unused) {
  (void)unused;
  grids("mesh");
}

static void tori(void** unused) {
  (void)unused;
  grids("torus");
}

static void cubes(void** unused) {
  (void)unused;
  uint32_t most = test_long() ? 4 : 2;
  for (uint32_t a = 2; a <= most; a++)
    for (uint32_t b = a; b <= most; b++)
      for (uint32_t c = b; c <= most; c++) {
        char spec[32];
        snprintf(spec, sizeof spec, "mesh:%ux%ux%u", a, b, c);
        visit_shape(spec);
        snprintf(spec, sizeof spec, "torus:%ux%ux%u", a, b, c);
        visit_shape(spec);
      }
  report("three dimensions");
}

static void holes_levels_and_maps(void** unused) {
  (void)unused;
  static const char* specs[] = {"mesh:3x3@dead=0.1",
                                "torus:3x4@cut=0.0-0.1,dead=2.2",
                                "mesh:4x4@level=a:2x2:10GB/s:2us",
                                "mesh:3x2@map=3.1.0.2.5.4",
                                "full:5",
                                "full:6@level=host:3+2+1:10GB/s:5us",
                                /* long: */ "mesh:5x5@dead=2.2",
                                "mesh:5x5@dead=1.1+1.2+3.4",
                                "mesh:8x8@dead=0.3+4.4",
                                "torus:8x8@dead=3.3",
                                "mesh:6x6@cut=0.0-0.1+2.2-3.2",
                                "mesh:3x4x4@dead=1.1.1",
                                "mesh:6x8@level=tile:3x4:10GB/s:1us",
                                "full:12@level=host:4*3:10GB/s:5us"};
  for (size_t i = 0; i < (test_long() ? MCI_COUNT(specs) : 6); i++) visit_shape(specs[i]);
  report("holes, levels and maps");
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_and_rings),
      cmocka_unit_test(meshes),
      cmocka_unit_test(tori),
      cmocka_unit_test(cubes),
      cmocka_unit_test(holes_levels_and_maps),
  };
  if (argc > 1) cmocka_set_test_filter(argv[1]);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
