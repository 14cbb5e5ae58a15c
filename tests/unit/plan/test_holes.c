/* All-reduce around holes, simulated: one to three dead dies at random places of 5x5, 8x8 and 10x15 meshes, twenty
 * draws each, 64 MiB on links without delay. Every run must reach 93 % of the exact bound, the mean of a shape 96 %,
 * and the predicted time must be within 5 %. That the bound is exact is shown for the same draws by test_oracle. */
#include "plan_test.h"
#include "support/draw.h"
#include "topo/bounds.h"
#include "topo/sim/sim.h"

#define DRAWS 20
#define BYTES (UINT64_C(64) << 20)

static double simulate(const char* spec, const mci_topo* topo) {
  mci_request request = {.coll = MCI_ALL_REDUCE, .bytes = BYTES};
  mci_sim_options options = {.bytes = BYTES, .message_bytes = 1 << 20, .credits = 8};
  mci_sim_report report;
  mci_bound bound;
  plan_case c = {.spec = spec, .topo = topo, .request = request};
  check_ok(mci_plan_choose(topo, &request, NULL, &c.candidate));
  check_ok(mci_bound_of(topo, MCI_ALL_REDUCE, BYTES, 0, &bound));
  assert_true(bound.exact);
  mci_schedule* schedule = plan_schedule(&c);
  check_ok(mci_sim_run(topo, schedule, &options, &report));
  mci_schedule_destroy(schedule);
  double share = 100.0 * (double)bound.bandwidth_ps / (double)report.total_ps;
  double predicted = 100.0 * (double)c.candidate.cost.cost_ps / (double)report.total_ps;
  print_message("%-40s %-8s %5.2f %%, load %5.2f %%, predicted %5.1f %% of simulated\n", spec, c.candidate.family->name,
                share, 100 * bound.factor / c.candidate.cost.load, predicted);
  if (share < 93) fail_msg("%s: %.2f %% of the bound", spec, share);
  if (predicted < 95 || predicted > 105) fail_msg("%s: %.1f %% of the simulated time are predicted", spec, predicted);
  return share;
}

static void check_shape(uint32_t rows, uint32_t columns) {
  uint64_t random = rows * 1000 + columns;
  double sum = 0, worst = 100;
  for (uint32_t i = 0; i < DRAWS; i++) {
    char spec[96];
    mci_topo* topo = test_draw_mesh(rows, columns, "0ns", 1 + i % 3, &random, spec, sizeof spec);
    double share = simulate(spec, topo);
    mci_topo_destroy(topo);
    sum += share;
    worst = share < worst ? share : worst;
  }
  print_message("%ux%u: worst %.2f %%, mean %.2f %%\n", rows, columns, worst, sum / DRAWS);
  if (sum / DRAWS < 96) fail_msg("%ux%u: %.2f %% of the bound on average", rows, columns, sum / DRAWS);
}

static void a_tile_with_holes_reaches_the_bound(void** state) {
  (void)state;
  check_shape(5, 5);
}

static void a_mesh_of_64_with_holes_reaches_the_bound(void** state) {
  (void)state;
  check_shape(8, 8);
}

static void a_tray_with_holes_reaches_the_bound(void** state) {
  (void)state;
  check_shape(10, 15);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_tile_with_holes_reaches_the_bound),
      cmocka_unit_test(a_mesh_of_64_with_holes_reaches_the_bound),
      cmocka_unit_test(a_tray_with_holes_reaches_the_bound),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
