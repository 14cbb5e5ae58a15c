/* The command line: defaults are nccl-tests', suffixes are powers of 1024, and whoever mistypes is told what is
 * allowed. */
#include "perf/engine/options.h"
#include "support/test.h"

enum { MOST_WORDS = 12 };

static perf_parse_result parse(const char* line, perf_options* out, char message[PERF_MESSAGE]) {
  static char copy[PERF_MESSAGE];
  char* words[MOST_WORDS + 1] = {(char*)"all_reduce_perf"};
  int n = 1;
  snprintf(copy, sizeof(copy), "%s", line);
  for (char* word = strtok(copy, " "); word && n < MOST_WORDS; word = strtok(NULL, " ")) words[n++] = word;
  *message = 0;
  return perf_options_parse(n, words, out, message);
}

static void defaults_are_those_of_nccl_tests(void** state) {
  (void)state;
  perf_options o;
  char message[PERF_MESSAGE];
  assert_int_equal(parse("", &o, message), PERF_PARSED);
  assert_int_equal(o.nthreads, 1);
  assert_int_equal(o.ngpus, 1);
  assert_int_equal(o.min_bytes, 32 << 20);
  assert_int_equal(o.max_bytes, 32 << 20);
  assert_int_equal(o.step_bytes, 1 << 20);
  assert_true(o.step_factor == 0);
  assert_int_equal(o.iters, 20);
  assert_int_equal(o.warmup_iters, 1);
  assert_int_equal(o.agg_iters, 1);
  assert_int_equal(o.run_cycles, 1);
  assert_int_equal(o.check, 1);
  assert_int_equal(o.average, 1);
  assert_string_equal(o.op, "sum");
  assert_string_equal(o.type, "float");
  assert_int_equal(o.root, 0);
  assert_int_equal(o.np, 0);
  assert_null(o.json_file);
  assert_false(o.bound);
}

static void flags_set_their_fields(void** state) {
  (void)state;
  perf_options o;
  char message[PERF_MESSAGE];
  assert_int_equal(parse("-b 8 -e 256K -f 8 -n 2 -w 0", &o, message), PERF_PARSED);
  assert_int_equal(o.min_bytes, 8);
  assert_int_equal(o.max_bytes, 256 << 10);
  assert_true(o.step_factor == 8);
  assert_int_equal(o.iters, 2);
  assert_int_equal(o.warmup_iters, 0);
  assert_int_equal(parse("--np 4 --topo torus:2x2 --bound --csv out.csv", &o, message), PERF_PARSED);
  assert_int_equal(o.np, 4);
  assert_string_equal(o.topology, "torus:2x2");
  assert_string_equal(o.csv_file, "out.csv");
  assert_true(o.bound);
  assert_int_equal(o.iters, 20); /* nothing is left from the line before */
  assert_int_equal(parse("--root all --stream", &o, message), PERF_PARSED);
  assert_int_equal(o.root, -1);
  assert_int_equal(o.stream_null, 0);
  assert_int_equal(parse("--help", &o, message), PERF_HELP);
}

static void sizes_are_powers_of_1024(void** state) {
  (void)state;
  static const struct {
    const char* text;
    bool good;
    size_t value;
  } rows[] = {
      {"0", true, 0},
      {"8", true, 8},
      {"4K", true, 4096},
      {"4k", true, 4096},
      {"1.5M", true, 1572864},
      {"2G", true, 2147483648u},
      {"1T", true, 1099511627776u},
      {"", false, 0},
      {"K", false, 0},
      {"-1", false, 0},
      {"8x", false, 0},
      {"8KB", false, 0},
      {"1e30", false, 0},
      {"nan", false, 0},
  };
  for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
    size_t value = 77;
    if (perf_parse_size(rows[k].text, &value) != rows[k].good || value != (rows[k].good ? rows[k].value : 77))
      fail_msg("\"%s\" gave %zu", rows[k].text, value);
  }
}

static void mistakes_are_named_with_what_is_allowed(void** state) {
  (void)state;
  static const struct {
    const char *line, *part;
  } rows[] = {
      {"-b lots", "--minbytes: \"lots\" is not a size"},
      {"-a 4", "--average: \"4\" is not a number from 0 to 3"},
      {"-n 1.5", "--iters: \"1.5\" is not a number"},
      {"-t 0", "--nthreads: \"0\" is not a number from 1"},
      {"--np 0", "--np: \"0\" is not a number from 1"},
      {"-o mean", "--op: \"mean\" is none of sum prod"},
      {"-d fp32", "--datatype: \"fp32\" is none of int8"},
      {"-r none", "--root: \"none\" is not a rank or \"all\""},
      {"-n", "-n needs a value"},
      {"--nonsense", "--nonsense: no such flag"},
      {"-b 8 64K", "\"64K\" is left over"},
      {"-b 1M -e 1K", "--maxbytes is below --minbytes"},
      {"-f 1", "--stepfactor 1 never reaches"},
      {"-I 1 -n 4 -K 4", "--per_iter_skip leaves no iteration"},
  };
  for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
    perf_options o;
    char message[PERF_MESSAGE];
    if (parse(rows[k].line, &o, message) != PERF_BAD || !strstr(message, rows[k].part))
      fail_msg("%s: message \"%s\" lacks \"%s\"", rows[k].line, message, rows[k].part);
  }
}

static void features_of_cuda_are_refused_by_name(void** state) {
  (void)state;
  static const char* const lines[] = {"-G 1", "--cudagraph 1", "-x 2", "-D 1", "-V 4", "-M 1", "--memory 1"};
  for (size_t k = 0; k < sizeof(lines) / sizeof(lines[0]); k++) {
    perf_options o;
    char message[PERF_MESSAGE], letter[3] = {0};
    if (parse(lines[k], &o, message) != PERF_BAD || !strstr(message, "CUDA")) fail_msg("%s: \"%s\"", lines[k], message);
    memcpy(letter, lines[k], 2);
    if (lines[k][1] != '-' && !strstr(message, letter)) fail_msg("%s: \"%s\" does not name it", lines[k], message);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults_are_those_of_nccl_tests),
      cmocka_unit_test(flags_set_their_fields),
      cmocka_unit_test(sizes_are_powers_of_1024),
      cmocka_unit_test(mistakes_are_named_with_what_is_allowed),
      cmocka_unit_test(features_of_cuda_are_refused_by_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
