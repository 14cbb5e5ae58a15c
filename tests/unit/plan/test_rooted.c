/* Broadcast, reduce, gather and scatter near their bounds: from every root of small shapes and from corner, edge and
 * middle of larger ones, the programs are proved, large vectors reach the bound in the simulator, and the predicted
 * time is the simulated one. All roots and rows when MESHCCL_TESTS_LONG is set. */
#include "plan_test.h"
#include "topo/bounds.h"
#include "topo/sim/sim.h"

static void prove(const plan_case* c, const mci_schedule* schedule) {
  for (int in_place = 0; in_place < 2; in_place++) {
    mci_verify_options options = {.in_place = in_place};
    mci_verify_report report;
    if (mci_schedule_verify(schedule, &options, &report) != meshcclSuccess)
      fail_msg("%s%s: %s", plan_case_text(c), in_place ? ", in place" : "", mci_error_last());
  }
}

/* With few chunks, because more only repeat themselves. */
static void prove_root(const char* spec, const mci_topo* topo, uint32_t root, mci_coll coll, const char* family) {
  plan_case c = {.spec = spec, .topo = topo, .request = {.coll = coll, .bytes = 1 << 20, .root = root}};
  c.request.wide = root % 2;
  check_ok(mci_plan_choose(topo, &c.request, family, &c.candidate));
  c.candidate.cost.chunks = 1 + root % 3;
  mci_schedule* schedule = plan_schedule(&c);
  prove(&c, schedule);
  mci_schedule_destroy(schedule);
}

static void prove_roots(const char* spec) {
  mci_topo* topo = plan_topo(spec);
  uint32_t n = mci_topo_nranks(topo);
  for (uint32_t root = 0; root < n; root += n <= 9 || test_long() ? 1 : 1 + n / 3) {
    prove_root(spec, topo, root, MCI_BROADCAST, "arcs");
    prove_root(spec, topo, root, MCI_REDUCE, "arcs");
    prove_root(spec, topo, root, MCI_GATHER, "ports");
    prove_root(spec, topo, root, MCI_SCATTER, "ports");
  }
  mci_topo_destroy(topo);
}

static void all_shapes_and_roots_are_proved(void** state) {
  (void)state;
  char spec[32];
  for (uint32_t a = 1; a <= 8; a++)
    for (uint32_t b = MCI_MAX(a, 2); b <= 8; b++) {
      snprintf(spec, sizeof spec, "mesh:%ux%u@neighbours", a, b);
      prove_roots(spec);
      snprintf(spec, sizeof spec, "torus:%ux%u@neighbours", a, b);
      prove_roots(spec);
    }
  for (uint32_t a = 2; a <= 4; a++)
    for (uint32_t b = a; b <= 4; b++) {
      snprintf(spec, sizeof spec, "mesh:%ux%ux4@neighbours", a, b);
      prove_roots(spec);
      snprintf(spec, sizeof spec, "torus:4x%ux%u@neighbours", a, b);
      prove_roots(spec);
    }
}

static void holes_and_unlike_links_are_proved(void** state) {
  (void)state;
  static const char* const specs[] = {"mesh:5x5@dead=2.2,neighbours",      "mesh:4x5@dead=0.0+3.1,cut=1.1-1.2",
                                      "torus:4x4@cut=0.0-0.1+2.2-3.2",     "mesh:2x6@cut=0.2-0.3",
                                      "mesh:4x4@level=die:2x2:25GB/s:1us", "mesh:4x5@wrap=x",
                                      "torus:3x3@map=8.0.7.1.6.2.5.3.4"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) prove_roots(specs[i]);
}

/* ---- figures ---- */

static double share_of_bound(const char* spec, mci_coll coll, uint32_t root, double* ratio) {
  mci_topo* topo = plan_topo(spec);
  plan_case c = {.spec = spec, .topo = topo};
  c.request = (mci_request){.coll = coll, .bytes = 64 << 20, .root = root};
  check_ok(mci_plan_choose(topo, &c.request, NULL, &c.candidate));
  mci_schedule* schedule = plan_schedule(&c);
  mci_sim_options options = {.bytes = c.request.bytes};
  mci_sim_report report;
  mci_bound bound;
  check_ok(mci_bound_of(topo, coll, c.request.bytes, root, &bound));
  check_ok(mci_sim_run(topo, schedule, &options, &report));
  *ratio = (double)report.total_ps / (double)c.candidate.cost.cost_ps;
  mci_schedule_destroy(schedule);
  mci_topo_destroy(topo);
  return 100 * (double)bound.bandwidth_ps / (double)report.total_ps;
}

typedef struct {
  const char* shape;
  uint32_t roots[3]; /* corner, edge, middle */
} row;

static const row rows[] = {{"mesh:4x4", {0, 1, 5}},    {"mesh:5x5", {0, 2, 12}},         {"mesh:8x8", {0, 11, 27}},
                           {"mesh:10x15", {0, 1, 67}}, {"mesh:3x7", {20, 3, 10}},        {"torus:4x4", {0, 7, 15}},
                           {"torus:5x5", {0, 3, 24}},  {"torus:8x8", {0, 9, 63}},        {"torus:4x8", {0, 13, 31}},
                           {"mesh:4x4x4", {0, 1, 21}}, {"torus:4x4x4", {0, 33, 63}},     {"line:7", {0, 6, 3}},
                           {"ring:8", {0, 3, 7}},      {"mesh:5x5@dead=2.2", {0, 2, 11}}};

static void check_rows(const mci_coll colls[2], const char* delay, double limit, double off) {
  unsigned missed = 0;
  for (size_t i = 0; i < MCI_COUNT(rows); i++)
    for (size_t k = 0; k < 6; k++) {
      char spec[64];
      double ratio;
      uint32_t root = rows[i].roots[k / 2];
      if (!test_long() && (k + i) % 6 != 0) continue;
      snprintf(spec, sizeof spec, "%s%c%s", rows[i].shape, strchr(rows[i].shape, '@') ? ',' : '@', delay);
      double share = share_of_bound(spec, colls[k % 2], root, &ratio);
      bool good = share >= limit && ratio > 1 - off && ratio < 1 + off;
      missed += !good;
      print_message("%-26s %-10s root %-3u %6.2f %% of the bound, %.4f of what was predicted%s\n", spec,
                    mci_coll_name(colls[k % 2]), root, share, ratio, good ? "" : "   MISSED");
    }
  if (missed) fail_msg("%u rows miss %.0f %%, or what was predicted by %.2f", missed, limit, off);
}

static const mci_coll whole[] = {MCI_BROADCAST, MCI_REDUCE}, blocks[] = {MCI_GATHER, MCI_SCATTER};

static void broadcast_and_reduce_reach_the_bound(void** state) {
  (void)state;
  check_rows(whole, "0ns", 97, 0.01);
  if (test_long()) check_rows(whole, "500ns", 95, 0.01);
}

static void gather_and_scatter_reach_the_bound(void** state) {
  (void)state;
  check_rows(blocks, "0ns", 90, 0.13);
  if (test_long()) check_rows(blocks, "500ns", 90, 0.13);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_shapes_and_roots_are_proved),
      cmocka_unit_test(holes_and_unlike_links_are_proved),
      cmocka_unit_test(broadcast_and_reduce_reach_the_bound),
      cmocka_unit_test(gather_and_scatter_reach_the_bound),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
