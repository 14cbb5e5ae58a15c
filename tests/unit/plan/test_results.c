/* Programs of all families run on data by the reference interpreter: counts smaller than the blocks, zero and odd ones,
 * in place and out of place, slices and orders of all kinds, one credit. */
#include "plan_test.h"
#include "support/interpret.h"

static uint64_t random_state;

static void run(const plan_case* c, const mci_schedule* schedule, uint64_t count, bool in_place) {
  test_interpret_options how = {.type = meshcclInt64,
                                .op = test_random(&random_state) % 2 ? meshcclSum : meshcclMax,
                                .count = count,
                                .in_place = in_place,
                                .slice = test_random(&random_state) % 3 ? 0 : 1 + count / 3,
                                .credits = 1,
                                .seed = test_random(&random_state),
                                .data = test_random(&random_state),
                                .order = (test_order)(test_random(&random_state) % TEST_NUM_ORDERS),
                                .lend = (test_lend)(test_random(&random_state) % TEST_NUM_LENDS)};
  uint64_t bits;
  if (test_interpret(schedule, &how, &bits) != meshcclSuccess)
    fail_msg("%s, count %lu%s, order %d: %s", plan_case_text(c), (unsigned long)count, in_place ? ", in place" : "",
             (int)how.order, mci_error_last());
}

static void run_all_counts(const plan_case* c) {
  uint64_t p = mci_topo_nranks(c->topo);
  const uint64_t counts[] = {0, 1, 2, p - 1, p, p + 1, c->candidate.cost.chunks == 1 ? 1009 : 131};
  mci_schedule* schedule = plan_schedule(c);
  for (size_t i = 0; i < MCI_COUNT(counts); i++)
    for (int in_place = 0; in_place < 2; in_place++) run(c, schedule, counts[i], in_place);
  mci_schedule_destroy(schedule);
}

static void every_family_gives_the_right_result(void** state) {
  (void)state;
  static const char* specs[] = {"full:1",
                                "full:5",
                                "full:5@memory",
                                "full:8",
                                "ring:2",
                                "ring:5",
                                "ring:6",
                                "line:4",
                                "mesh:2x2",
                                "mesh:3x4",
                                "mesh:1x5",
                                "torus:3x3",
                                "torus:4x4",
                                "torus:2x5",
                                "torus:3x2x3",
                                "mesh:2x2x3",
                                "mesh:4x4@dead=1.1,cut=2.2-2.3",
                                "mesh:3x3@neighbours",
                                "torus:3x3@map=8.0.7.1.6.2.5.3.4"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) plan_each_case(specs[i], test_long() ? 3 : 2, run_all_counts);
}

/* The fold order is the plan's: slices, credits and who goes first leave the bits alone. */
static void rough_sums_have_the_same_bits_in_every_order(void** state) {
  (void)state;
  static const char* specs[] = {
      "full:5", "ring:6", "torus:3x4", "mesh:3x3", "full:7@level=host:4+3", "mesh:4x4@level=tile:2x2"};
  static const mci_coll colls[] = {MCI_ALL_REDUCE, MCI_REDUCE_SCATTER, MCI_REDUCE};
  for (size_t i = 0; i < MCI_COUNT(specs) * MCI_COUNT(colls); i++) {
    const char* spec = specs[i / MCI_COUNT(colls)];
    plan_case c = {
        .spec = spec, .topo = plan_topo(spec), .request = {.coll = colls[i % MCI_COUNT(colls)], .bytes = 1 << 20}};
    mci_candidate list[MCI_MAX_CANDIDATES];
    uint32_t n;
    check_ok(mci_plan_candidates(c.topo, &c.request, list, &n));
    for (uint32_t k = 0; k < n && list[k].applies; k++) {
      c.candidate = list[k];
      mci_schedule* schedule = plan_schedule(&c);
      uint64_t first = 0;
      for (int order = 0; order < TEST_NUM_ORDERS; order++) {
        test_interpret_options how = {.type = meshcclFloat32,
                                      .op = meshcclSum,
                                      .count = 101,
                                      .rough = true,
                                      .data = 7,
                                      .slice = (uint64_t)order * 5,
                                      .credits = 1 + (uint32_t)order % 3,
                                      .seed = test_random(&random_state),
                                      .order = (test_order)order};
        uint64_t bits;
        if (test_interpret(schedule, &how, &bits) != meshcclSuccess)
          fail_msg("%s: %s", plan_case_text(&c), mci_error_last());
        if (order == 0) first = bits;
        if (bits != first) fail_msg("%s: order %d gives other bits", plan_case_text(&c), order);
      }
      mci_schedule_destroy(schedule);
    }
    mci_topo_destroy((mci_topo*)c.topo);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_family_gives_the_right_result),
      cmocka_unit_test(rough_sums_have_the_same_bits_in_every_order),
  };
  random_state = test_seed();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
