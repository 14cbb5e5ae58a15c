/* As much of CMocka as the tests of the kernels use, for processors for which this machine has a compiler but no CMocka:
 * the first failure ends the program. */
#ifndef MCI_CROSS_CMOCKA_H
#define MCI_CROSS_CMOCKA_H

struct CMUnitTest {
  const char* name;
  void (*run)(void** state);
};

#define cmocka_unit_test(f) \
  { #f, f }
#define print_message printf
#define fail_msg(...) (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), exit(1))
#define assert_true(x) ((x) ? (void)0 : (void)fail_msg("%s\n", #x))
#define assert_false(x) assert_true(!(x))
#define assert_non_null(x) assert_true((x) != NULL)
#define assert_int_equal(a, b) assert_true((uintmax_t)(a) == (uintmax_t)(b))
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

static inline int cmocka_run(const struct CMUnitTest* tests, size_t n) {
  for (size_t i = 0; i < n; i++) {
    tests[i].run(NULL);
    printf("ok: %s\n", tests[i].name);
  }
  return 0;
}
#define cmocka_run_group_tests(tests, setup, teardown) cmocka_run(tests, sizeof(tests) / sizeof *(tests))
#endif
