/* Proved schedules give right results on real data, whoever goes first, lent or not, sliced or not; and always the same
 * bits. */
#include "support/interpret.h"
#include "support/mutate.h"
#include "support/schedules.h"
#include "support/test.h"

static const meshcclDataType_t types[] = {meshcclInt32, meshcclFloat32, meshcclBfloat16, meshcclFloat64, meshcclInt64};

static test_interpret_options random_options(uint64_t* random) {
  static const uint64_t counts[] = {0, 1, 2, 7, 12, 31};
  return (test_interpret_options){.type = types[test_random(random) % MCI_COUNT(types)],
                                  .op = (meshcclRedOp_t)(test_random(random) % meshcclNumOps),
                                  .count = counts[test_random(random) % MCI_COUNT(counts)],
                                  .in_place = test_random(random) % 2,
                                  .slice = test_random(random) % 4,
                                  .credits = 1 + (uint32_t)(test_random(random) % 3),
                                  .seed = test_random(random),
                                  .data = test_random(random),
                                  .order = (test_order)(test_random(random) % TEST_NUM_ORDERS),
                                  .lend = (test_lend)(test_random(random) % TEST_NUM_LENDS)};
}

static void results_match_the_oracle_in_any_order(void** state) {
  (void)state;
  uint64_t random = test_seed(), bits;
  for (int round = 0; round < 40; round++) {
    for (size_t i = 0; i < test_schedule_nrows; i++) {
      uint32_t n = 1 + (uint32_t)(test_random(&random) % 6);
      mci_schedule* schedule = test_schedule_build(&test_schedule_rows[i], n, (uint32_t)(test_random(&random) % n));
      test_interpret_options options = random_options(&random);
      if (test_interpret(schedule, &options, &bits) != meshcclSuccess)
        fail_msg("%s %s on %u ranks, type %d, op %d, count %d: %s", mci_coll_name(test_schedule_rows[i].coll),
                 test_schedule_rows[i].name, n, options.type, options.op, (int)options.count, mci_error_last());
      mci_schedule_destroy(schedule);
    }
  }
}

static void bits_do_not_depend_on_the_order_of_events(void** state) {
  (void)state;
  uint64_t random = test_seed();
  for (size_t i = 0; i < test_schedule_nrows; i++) {
    mci_schedule* schedule = test_schedule_build(&test_schedule_rows[i], 5, 3);
    uint64_t first = 0, data = test_random(&random);
    for (int round = 0; round < 12; round++) {
      test_interpret_options options = random_options(&random);
      uint64_t bits;
      options.type = meshcclBfloat16;
      options.op = meshcclAvg;
      options.count = 23;
      options.rough = true;
      options.data = data;
      check_ok(test_interpret(schedule, &options, &bits));
      if (round == 0) first = bits;
      if (bits != first)
        fail_msg("%s %s: other bits", mci_coll_name(test_schedule_rows[i].coll), test_schedule_rows[i].name);
    }
    mci_schedule_destroy(schedule);
  }
}

/* What the verifier refuses as a race does go wrong on data, in some order of events: the interpreter can tell. */
static void races_show_on_data(void** state) {
  (void)state;
  static const struct {
    size_t row;
    mutation mutation;
  } rows[] = {
      {5, {.kind = MUTANT_DROP_COPY, .step = 1, .operand = 1}}, /* the next fold overwrites the slot that is lent */
      {3, {.kind = MUTANT_DROP_AFTER, .channel = 1}},           /* sent before it is reduced */
      {3, {.kind = MUTANT_EARLY_AFTER, .channel = 1}},
      {10, {.kind = MUTANT_SLOT, .rank = 1, .step = 1}}, /* two messages in one slot */
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_schedule* schedule = test_schedule_build(&test_schedule_rows[rows[i].row], 5, 0);
    mci_schedule* unrolled = test_unroll(schedule);
    mci_schedule* mutant = test_mutant(unrolled, &rows[i].mutation);
    uint64_t random = test_seed(), bits;
    bool wrong = false;
    assert_non_null(mutant);
    check_fails(mci_schedule_verify(mutant, NULL, NULL), meshcclInvalidUsage, "");
    for (int round = 0; round < 1000 && !wrong; round++) {
      test_interpret_options options = random_options(&random);
      options.type = meshcclInt64;
      options.op = meshcclSum;
      options.count = 20;
      wrong = test_interpret(mutant, &options, &bits) != meshcclSuccess;
    }
    if (!wrong)
      fail_msg("%s: %s never showed", test_schedule_rows[rows[i].row].name, mutant_names[rows[i].mutation.kind]);
    mci_schedule_destroy(mutant);
    mci_schedule_destroy(unrolled);
    mci_schedule_destroy(schedule);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(results_match_the_oracle_in_any_order),
      cmocka_unit_test(bits_do_not_depend_on_the_order_of_events),
      cmocka_unit_test(races_show_on_data),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
