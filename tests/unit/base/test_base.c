/* base: sizes, text, parameters, failing allocations, table of shared memory. */
#include "support/test.h"

static void sizes_take_suffixes_of_1024(void** state) {
  (void)state;
  static const struct {
    const char* text;
    uint64_t bytes;
  } rows[] = {{"0", 0}, {"8", 8}, {"64K", 65536}, {"1.5M", 1572864}, {"2G", 2147483648u}, {"4KiB", 4096}, {"16B", 16}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    uint64_t bytes = 0;
    check_ok(mci_parse_size(rows[i].text, "size", &bytes));
    if (bytes != rows[i].bytes) fail_msg("%s gave %llu", rows[i].text, (unsigned long long)bytes);
  }
}

static void bad_sizes_are_named(void** state) {
  (void)state;
  static const char* const rows[] = {"", "K", "-1", "12Q", "1K2", "nan", "1e30"};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    uint64_t bytes = 0;
    check_fails(mci_parse_size(rows[i], "--bytes", &bytes), meshcclInvalidArgument, "--bytes");
  }
}

static void text_grows_and_escapes(void** state) {
  (void)state;
  mci_str str = {0};
  for (int i = 0; i < 100; i++) mci_str_add(&str, "%d,", i);
  assert_int_equal(str.length, 10 * 2 + 90 * 3);
  mci_str_fini(&str);
  mci_str_json(&str, "a\"b\\\n");
  assert_string_equal(str.text, "\"a\\\"b\\\\\\u000a\"");
  mci_str_fini(&str);
}

static void the_nth_allocation_fails_once(void** state) {
  (void)state;
  mci_alloc_fail_after(2);
  void* first = mci_alloc(8);
  void* second = mci_alloc(8);
  void* third = mci_alloc(8);
  mci_alloc_fail_after(-1);
  assert_non_null(first);
  assert_null(second);
  assert_non_null(third);
  mci_free(first);
  mci_free(third);
}

static void a_bad_variable_names_itself_and_its_range(void** state) {
  (void)state;
  setenv("MESHCCL_CREDITS", "900", 1);
  mci_params_reload();
  check_fails(mci_params_check(), meshcclInvalidArgument, "MESHCCL_CREDITS=900");
  assert_int_equal(mci_param_int(MCI_P_CREDITS), 0);
  setenv("MESHCCL_CREDITS", "9", 1);
  setenv("MESHCCL_SLICE", "64K", 1);
  mci_params_reload();
  check_ok(mci_params_check());
  assert_int_equal(mci_param_int(MCI_P_CREDITS), 9);
  assert_int_equal(mci_param_int(MCI_P_SLICE), 65536);
  unsetenv("MESHCCL_CREDITS");
  unsetenv("MESHCCL_SLICE");
  mci_params_reload();
}

static void shared_memory_is_found_by_pointer_and_range(void** state) {
  (void)state;
  struct mci_shared_region a, b, found;
  check_ok(mci_shared_alloc(10000, &a));
  check_ok(mci_shared_alloc(1, &b));
  assert_true(mci_shared_find((char*)a.base + 5000, 5000, &found));
  assert_int_equal(found.id, a.id);
  assert_true(mci_shared_find(b.base, 1, &found));
  assert_int_equal(found.id, b.id);
  assert_false(mci_shared_find(a.base, a.bytes + 1, &found));
  assert_false(mci_shared_find(&a, 1, &found));
  uint64_t frees = mci_shared_frees();
  check_ok(mci_shared_free(a.base));
  assert_true(mci_shared_frees() > frees);
  assert_false(mci_shared_alive(a.id));
  check_fails(mci_shared_free(a.base), meshcclInvalidArgument, "meshcclMemAlloc");
  check_ok(mci_shared_free(b.base));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sizes_take_suffixes_of_1024),
      cmocka_unit_test(bad_sizes_are_named),
      cmocka_unit_test(text_grows_and_escapes),
      cmocka_unit_test(the_nth_allocation_fails_once),
      cmocka_unit_test(a_bad_variable_names_itself_and_its_range),
      cmocka_unit_test(shared_memory_is_found_by_pointer_and_range),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
