/* The table: numbers keep their column, and whole lines equal the ones that parsers of nccl-tests' output know. */
#include "perf/engine/columns.h"
#include "support/test.h"

static void numbers_lose_decimals_before_they_break_the_column(void** state) {
  (void)state;
  static const struct {
    double value;
    int width;
    const char* text;
  } rows[] = {
      {0, 7, "   0.00"},        {3.14159, 7, "   3.14"},  {9999.99, 7, "9999.99"},   {9999.996, 7, "10000.0"},
      {12345.67, 7, "12345.7"}, {123456.7, 7, " 123457"}, {1234567.4, 7, "1234567"}, {12345678, 7, "1.2e+07"},
      {0.004, 6, "  0.00"},     {999.99, 6, "999.99"},    {999.996, 6, "1000.0"},    {12345.6, 6, " 12346"},
      {123456, 6, "123456"},    {1234567, 6, " 1e+06"},   {360.5, 7, " 360.50"},     {12646, 7, "12646.0"},
  };
  for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
    char text[PERF_NUMBER];
    if (strcmp(perf_number(rows[k].value, rows[k].width, text), rows[k].text) != 0)
      fail_msg("%.9g in %d columns: \"%s\", expected \"%s\"", rows[k].value, rows[k].width, text, rows[k].text);
  }
}

static perf_row row(void) {
  return (perf_row){
      .size = 16777216,
      .count = 4194304,
      .type = "float",
      .redop = "sum",
      .root = -1,
      .half = {{.time_us = 977.6, .algbw = 17.1616, .busbw = 32.178, .bound_percent = 81.25},
               {.time_us = 12646, .algbw = 1.3267, .busbw = 1234567, .wrong = -1, .bound_percent = -1}},
  };
}

/* What the functions print, as text. */
static const char* printed(const perf_columns* columns, const perf_row* r, const char* now, char* text, size_t size) {
  memset(text, 0, size);
  FILE* to = fmemopen(text, size, "w");
  assert_non_null(to);
  if (r)
    perf_columns_row(to, columns, r, now);
  else
    perf_columns_head(to, columns);
  fclose(to);
  return text;
}

static void rows_equal_the_golden_lines(void** state) {
  (void)state;
  char text[1024];
  perf_row r = row();
  perf_columns plain = {0}, stamped = {.timestamps = true}, bound = {.bound = true}, iterations = {.per_iter = true};
  assert_string_equal(printed(&plain, &r, "", text, sizeof(text)),
                      "    16777216       4194304     float     sum      -1   977.60   17.16   32.18       0"
                      "  12646.0    1.33   1e+06     N/A\n");
  assert_string_equal(printed(&stamped, &r, "2000-01-02 03:04:05", text, sizeof(text)),
                      "    16777216       4194304     float     sum      -1   977.60   17.16   32.18       0"
                      "  12646.0    1.33   1e+06     N/A  2000-01-02 03:04:05\n");
  assert_string_equal(printed(&bound, &r, "", text, sizeof(text)),
                      "    16777216       4194304     float     sum      -1   977.60   17.16   32.18       0   81.25"
                      "  12646.0    1.33   1e+06     N/A     N/A\n");
  r.half[0].iterations = (perf_iterations){.min = 900, .max = 1100.5, .p99 = 1100.5, .cv = 3.25};
  r.half[0].wrong = 4194304;
  assert_string_equal(printed(&iterations, &r, "", text, sizeof(text)),
                      "    16777216       4194304     float     sum      -1   977.60   17.16   32.18  4.1943e+06"
                      "   900.00  1100.50  1100.50     3.25"
                      "  12646.0    1.33   1e+06     N/A     0.00     0.00     0.00     0.00\n");
}

static void heads_equal_the_golden_lines(void** state) {
  (void)state;
  char text[2048];
  perf_columns plain = {0}, stamped = {.cputime = true, .timestamps = true};
  assert_string_equal(
      printed(&plain, NULL, "", text, sizeof(text)),
      "#\n"
      "#                                                              out-of-place                       in-place      "
      "      \n"
      "#       size         count      type   redop    root     time   algbw   busbw  #wrong     time   algbw   busbw  "
      "#wrong \n"
      "#        (B)    (elements)                               (us)  (GB/s)  (GB/s)             (us)  (GB/s)  (GB/s)  "
      "       \n");
  assert_non_null(
      strstr(printed(&stamped, NULL, "", text, sizeof(text)),
             "root  cputime   algbw   busbw  #wrong  cputime   algbw   busbw  #wrong           timestamp\n"));
  assert_non_null(strstr(text, "  %Y-%m-%d %H:%M:%S\n"));
}

static void heads_and_rows_have_the_same_width(void** state) {
  (void)state;
  for (int bits = 0; bits < 16; bits++) {
    char head[4096], line[1024];
    perf_columns c = {bits & 1, bits & 2, bits & 4, bits & 8};
    perf_row r = row();
    printed(&c, NULL, "", head, sizeof(head));
    printed(&c, &r, "2000-01-02 03:04:05", line, sizeof(line));
    size_t width = 0;
    for (char* word = strtok(head, "\n"); word; word = strtok(NULL, "\n")) width = strlen(word);
    /* as in nccl-tests: one space before the time stamp in heads, also without it, and two in rows */
    if (width != strlen(line) - 1 + 1 - (c.timestamps ? 2 : 0))
      fail_msg("columns %d: %zu and %zu", bits, width, strlen(line));
  }
}

static void statistics_are_nearest_ranks(void** state) {
  (void)state;
  double times[100];
  for (int k = 0; k < 100; k++) times[k] = (k * 37) % 100 + 1; /* 1 to 100, shuffled */
  perf_iterations i = {0};
  perf_statistics(times, 100, &i);
  assert_true(i.min == 1 && i.max == 100 && i.avg == 50.5 && i.p50 == 51 && i.p95 == 95 && i.p99 == 99);
  assert_true(i.stdev > 28.86 && i.stdev < 28.87 && i.cv > 57.1 && i.cv < 57.2);
  perf_statistics(times, 1, &i);
  assert_true(i.min == 1 && i.max == 1 && i.p50 == 1 && i.p95 == 1 && i.p99 == 1 && i.stdev == 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_lose_decimals_before_they_break_the_column),
      cmocka_unit_test(rows_equal_the_golden_lines),
      cmocka_unit_test(heads_equal_the_golden_lines),
      cmocka_unit_test(heads_and_rows_have_the_same_width),
      cmocka_unit_test(statistics_are_nearest_ranks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
