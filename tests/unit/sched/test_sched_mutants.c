/* Every broken version of every hand-built schedule is rejected, unless it is as good as the original. */
#include "support/mutate.h"
#include "support/schedules.h"
#include "support/test.h"

static mutant_tally tally;

static void mutants_are_rejected(void** state) {
  (void)state;
  for (size_t i = 0; i < test_schedule_nrows; i++) {
    for (uint32_t n = 2; n <= 5; n++) {
      char what[96];
      mci_schedule* schedule = test_schedule_build(&test_schedule_rows[i], n, n - 1);
      snprintf(what, sizeof what, "%s %s on %u ranks", mci_coll_name(test_schedule_rows[i].coll),
               test_schedule_rows[i].name, n);
      test_all_mutants(what, schedule, 0, &tally);
      mci_schedule_destroy(schedule);
    }
  }
}

static void every_kind_of_mutant_was_rejected_somewhere(void** state) {
  (void)state;
  for (int kind = 0; kind < NUM_MUTANTS; kind++) {
    print_message("%-18s %6llu mutants, %5llu harmless\n", mutant_names[kind], (unsigned long long)tally.tried[kind],
                  (unsigned long long)tally.accepted[kind]);
    if (tally.tried[kind] == tally.accepted[kind]) fail_msg("%s: never rejected", mutant_names[kind]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(mutants_are_rejected),
      cmocka_unit_test(every_kind_of_mutant_was_rejected_somewhere),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
