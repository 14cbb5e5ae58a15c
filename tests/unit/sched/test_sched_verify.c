/* The verifier on genuine schedules. */
#include "support/schedules.h"
#include "support/test.h"

static void every_schedule_is_proved_in_and_out_of_place(void** state) {
  (void)state;
  for (size_t i = 0; i < test_schedule_nrows; i++) {
    for (uint32_t n = 1; n <= 6; n++) {
      mci_schedule* schedule = test_schedule_build(&test_schedule_rows[i], n, n / 2);
      mci_verify_report reports[2];
      for (int in_place = 0; in_place < 2; in_place++) {
        mci_verify_options options = {.in_place = in_place};
        if (mci_schedule_verify(schedule, &options, &reports[in_place]) != meshcclSuccess)
          fail_msg("%s %s on %u ranks%s: %s", mci_coll_name(test_schedule_rows[i].coll), test_schedule_rows[i].name, n,
                   in_place ? ", in place" : "", mci_error_last());
      }
      assert_string_equal(reports[0].bits, reports[1].bits);
      mci_schedule_destroy(schedule);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_schedule_is_proved_in_and_out_of_place)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
