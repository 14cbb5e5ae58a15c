/* Sweeps: every way of making them is proved on lines, rings, meshes and tori, gives right results on data, and has the
 * hops that it says; broken ones are rejected; and small and middle vectors come near the bound. */
#include "plan_test.h"
#include "support/interpret.h"
#include "support/mutate.h"
#include "topo/bounds.h"
#include "topo/plan/families.h"
#include "topo/plan/sweep.h"
#include "topo/sim/sim.h"

typedef struct {
  const char* spec;
  const mci_topo* topo;
  mci_request request;
  mci_sweep_way way;
} sweep_case;

static const char* sweep_text(const sweep_case* c) {
  static char text[192];
  snprintf(text, sizeof text, "%s, %u chunks, %u axes scattered, segments of %u, %u, %u", c->spec, c->way.chunks,
           c->way.scattered, c->way.width[0], c->way.width[1], c->way.width[2]);
  return text;
}

static mci_schedule* sweep_schedule(const sweep_case* c) {
  uint32_t n = mci_topo_nranks(c->topo);
  mci_schedule* schedule = mci_alloc(sizeof *schedule);
  assert_non_null(schedule);
  schedule->nranks = n;
  schedule->programs = mci_alloc(n * sizeof *schedule->programs);
  assert_non_null(schedule->programs);
  for (uint32_t r = 0; r < n; r++) {
    mci_sweep sweep;
    mci_sweep_init(&sweep, c->topo, &c->request, &c->way, r);
    assert_true(mci_sweep_channels(&sweep) <= MCI_MAX_CHANNELS);
    if (mci_sweep_build(&sweep, n, r, &schedule->programs[r]) != meshcclSuccess)
      fail_msg("%s: %s", sweep_text(c), mci_error_last());
  }
  return schedule;
}

/* All widths of segments, numbers of scattered axes and a few numbers of chunks. */
static void each_way(const char* spec, uint32_t first_chunks, uint32_t last_chunks, void (*visit)(const sweep_case*)) {
  sweep_case c = {.spec = spec, .topo = plan_topo(spec), .request = {.coll = MCI_ALL_REDUCE, .bytes = 1 << 14}};
  mci_axis axes[MCI_MAX_DIMS];
  uint32_t naxes = mci_grid_axes(c.topo, 0, axes), codes = 1;
  for (uint32_t a = 0; a < naxes; a++) codes *= axes[a].n;
  for (uint32_t code = 0; code < codes; code++) {
    uint32_t rest = code;
    bool fits = true;
    for (uint32_t a = 0; a < naxes; rest /= axes[a++].n) {
      c.way.width[a] = rest % axes[a].n + 1;
      fits = fits && (axes[a].ring ? axes[a].n % c.way.width[a] == 0 : c.way.width[a] == axes[a].n);
    }
    for (c.way.scattered = 0; fits && c.way.scattered <= naxes; c.way.scattered++)
      for (c.way.chunks = first_chunks; c.way.chunks <= last_chunks; c.way.chunks++) visit(&c);
  }
  mci_topo_destroy((mci_topo*)c.topo);
}

static void prove(const sweep_case* c) {
  sweep_case wide = *c;
  wide.request.wide = c->way.chunks % 2;
  mci_schedule* schedule = sweep_schedule(&wide);
  mci_sweep sweep;
  mci_sweep_init(&sweep, c->topo, &c->request, &c->way, 0);
  for (int in_place = 0; in_place < 2; in_place++) {
    mci_verify_options options = {.in_place = in_place};
    mci_verify_report report;
    if (mci_schedule_verify(schedule, &options, &report) != meshcclSuccess)
      fail_msg("%s%s: %s", sweep_text(c), in_place ? ", in place" : "", mci_error_last());
    if (c->way.chunks == 1 && report.depth != mci_sweep_hops(&sweep))
      fail_msg("%s: a chain of %lu messages, %u predicted", sweep_text(c), (unsigned long)report.depth,
               mci_sweep_hops(&sweep));
  }
  mci_schedule_destroy(schedule);
}

static void all_ways_are_proved(void** state) {
  (void)state;
  static const char* const small[] = {"line:2",    "line:3",    "line:4",     "line:7",     "ring:3",
                                      "ring:4",    "ring:5",    "ring:6",     "ring:8",     "ring:9",
                                      "ring:12",   "mesh:2x2",  "mesh:3x2",   "mesh:3x3",   "mesh:4x5",
                                      "torus:3x3", "torus:4x4", "mesh:2x3x2", "mesh:1x4x3", "mesh:3x4@wrap=x"};
  static const char* const large[] = {"mesh:5x5",    "torus:3x4",   "torus:2x6",    "torus:5x3", "torus:6x4",
                                      "torus:3x2x4", "torus:3x3x3", "mesh:2x2x2x3", "torus:8x8"};
  for (size_t i = 0; i < MCI_COUNT(small); i++) each_way(small[i], 1, test_long() ? 5 : 2, prove);
  for (size_t i = 0; i < MCI_COUNT(large) - !test_long(); i++) each_way(large[i], 1, test_long() ? 5 : 1, prove);
  each_way("ring:6@map=5.1.3.0.2.4", 17, 18, prove); /* more chunks than channels for each */
  each_way("torus:3x3", 33, 33, prove);
  each_way("mesh:3x2", 33, 33, prove);
}

static void shapes_up_to_8x8_and_4x4x4_are_proved(void** state) {
  (void)state;
  for (uint32_t rows = 1; rows <= 8; rows++) {
    for (uint32_t columns = 1; columns <= 8; columns++) {
      char spec[32];
      if (rows * columns == 1 || (!test_long() && (rows * columns > 36 || (rows + columns) % 3))) continue;
      snprintf(spec, sizeof spec, "mesh:%ux%u", rows, columns);
      each_way(spec, 1, 2, prove);
      snprintf(spec, sizeof spec, "torus:%ux%u", rows, columns);
      each_way(spec, 2, 2, prove);
    }
  }
  if (!test_long()) return;
  each_way("mesh:4x4x4", 1, 2, prove);
  each_way("torus:4x4x4", 1, 2, prove);
}

static uint64_t random_state;

static void run(const sweep_case* c) {
  mci_schedule* schedule = sweep_schedule(c);
  uint64_t bits, first = 0;
  for (int order = 0; order < TEST_NUM_ORDERS; order++) {
    test_interpret_options how = {.type = meshcclFloat32,
                                  .op = meshcclSum,
                                  .count = 1 + test_random(&random_state) % 200,
                                  .in_place = test_random(&random_state) % 2,
                                  .slice = test_random(&random_state) % 20,
                                  .credits = 1 + (uint32_t)(test_random(&random_state) % 3),
                                  .seed = test_random(&random_state),
                                  .data = 7,
                                  .order = (test_order)order,
                                  .lend = (test_lend)(test_random(&random_state) % TEST_NUM_LENDS)};
    if (test_interpret(schedule, &how, &bits) != meshcclSuccess) fail_msg("%s: %s", sweep_text(c), mci_error_last());
    how.rough = true;
    how.count = 101;
    if (test_interpret(schedule, &how, &bits) != meshcclSuccess) fail_msg("%s: %s", sweep_text(c), mci_error_last());
    if (order > 0 && bits != first) fail_msg("%s: other bits in order %d", sweep_text(c), order);
    first = bits;
  }
  mci_schedule_destroy(schedule);
}

static void all_ways_give_the_right_result_and_the_same_bits(void** state) {
  (void)state;
  static const char* const specs[] = {"line:5",   "ring:6",    "ring:9",     "mesh:3x4",
                                      "mesh:2x5", "torus:4x3", "mesh:2x3x2", "torus:4x3@map=11.10.9.8.7.6.5.4.3.2.1.0"};
  random_state = test_seed();
  for (size_t i = 0; i < MCI_COUNT(specs); i++) each_way(specs[i], test_long() ? 1 : 3, 3, run);
}

static mutant_tally tally;

static void break_it(const sweep_case* c) {
  mci_schedule* schedule = sweep_schedule(c);
  test_all_mutants(sweep_text(c), schedule, (test_long() ? 20 : 3) * NUM_MUTANTS, &tally);
  mci_schedule_destroy(schedule);
}

static void mutants_are_rejected(void** state) {
  (void)state;
  static const char* const specs[] = {"line:4", "line:5", "ring:4", "ring:6", "mesh:2x3", "mesh:3x3", "torus:3x4"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) each_way(specs[i], 1, 2, break_it);
  uint64_t tried = 0, accepted = 0;
  for (int kind = 0; kind < NUM_MUTANTS; kind++) tried += tally.tried[kind], accepted += tally.accepted[kind];
  print_message("%llu mutants, %llu harmless\n", (unsigned long long)tried, (unsigned long long)accepted);
}

static void failing_allocations_are_errors_and_leak_nothing(void** state) {
  (void)state;
  mci_topo* topo = plan_topo("torus:4x4");
  mci_request request = {.coll = MCI_ALL_REDUCE, .bytes = 1 << 14};
  for (uint32_t scattered = 0; scattered <= 2; scattered++) {
    mci_sweep_way way = {.chunks = 2, .scattered = scattered, .width = {2, 2}};
    mci_sweep sweep;
    mci_sweep_init(&sweep, topo, &request, &way, 3);
    meshcclResult_t result = meshcclSystemError;
    for (int calls = 1; result != meshcclSuccess; calls++) {
      mci_program* program = NULL;
      mci_alloc_fail_after(calls);
      result = mci_sweep_build(&sweep, 16, 3, &program);
      mci_alloc_fail_after(-1);
      assert_true((result == meshcclSuccess) == (program != NULL));
      mci_program_destroy(program);
    }
  }
  mci_topo_destroy(topo);
}

/* ---- small and middle vectors ---- */

/* Share of the bound that the planner's choice reaches, in percent. */
static double simulate(const mci_topo* topo, uint64_t bytes, const char** name) {
  plan_case c = {.spec = "", .topo = topo, .request = {.coll = MCI_ALL_REDUCE, .bytes = bytes, .message_bytes = 8192}};
  mci_sim_options options = {.bytes = bytes, .message_bytes = 8192};
  mci_sim_report report;
  check_ok(mci_plan_choose(topo, &c.request, NULL, &c.candidate));
  mci_schedule* schedule = plan_schedule(&c);
  check_ok(mci_sim_run(topo, schedule, &options, &report));
  mci_schedule_destroy(schedule);
  *name = c.candidate.family->name;
  double predicted = 100.0 * (double)c.candidate.cost.cost_ps / (double)report.total_ps;
  print_message("%9llu bytes: %-8s %8.3f us, %5.1f %% of the bound, predicted %5.1f %%\n", (unsigned long long)bytes,
                *name, (double)report.total_ps * 1e-6, 100 * report.share, predicted);
  return 100 * report.share;
}

static void small_and_middle_vectors_reach_80_percent_of_the_bound(void** state) {
  (void)state;
  static const char* const specs[] = {"mesh:8x8@50GB/s,500ns", "torus:8x8@50GB/s,500ns"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = plan_topo(specs[i]);
    print_message("%s\n", specs[i]);
    for (uint32_t power = 10; power <= 22; power += test_long() ? 1 : 3) {
      const char* name;
      double share = simulate(topo, UINT64_C(1) << power, &name);
      if (share < 80) fail_msg("%s, %u bytes: %s reaches %.1f %%", specs[i], 1u << power, name, share);
    }
    mci_topo_destroy(topo);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_ways_are_proved),
      cmocka_unit_test(shapes_up_to_8x8_and_4x4x4_are_proved),
      cmocka_unit_test(all_ways_give_the_right_result_and_the_same_bits),
      cmocka_unit_test(mutants_are_rejected),
      cmocka_unit_test(failing_allocations_are_errors_and_leak_nothing),
      cmocka_unit_test(small_and_middle_vectors_reach_80_percent_of_the_bound),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
