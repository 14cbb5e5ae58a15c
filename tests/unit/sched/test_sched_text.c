/* Text form: what is printed parses to the same and prints the same. */
#include "support/schedules.h"
#include "support/test.h"

static void printed_text_parses_and_prints_the_same(void** state) {
  (void)state;
  for (size_t i = 0; i < test_schedule_nrows; i++) {
    for (uint32_t n = 1; n <= 5; n++) {
      mci_schedule *schedule = test_schedule_build(&test_schedule_rows[i], n, n - 1), *back = NULL;
      mci_str first = {0}, second = {0};
      check_ok(mci_schedule_print(schedule, &first));
      if (getenv("SHOW") && n == 4) printf("%s\n", first.text);
      check_ok(mci_schedule_parse(first.text, first.length, "printed", &back));
      check_ok(mci_schedule_print(back, &second));
      assert_string_equal(first.text, second.text);
      mci_schedule_destroy(schedule);
      mci_schedule_destroy(back);
      mci_str_fini(&first);
      mci_str_fini(&second);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(printed_text_parses_and_prints_the_same)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
