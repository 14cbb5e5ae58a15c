/* The shipped models have the published sizes; the format is read or refused with file and line; buckets cover every
 * gradient once. */
#include <unistd.h>

#include "perf/workload/buckets.h"
#include "support/test.h"

static const struct {
  const char* name;
  size_t ntensors;
  uint64_t total, first, last, largest;
} models[] = {
    {"resnet50", 161, 25557032, 9408, 1000, 2359296},
    {"bert-large", 391, 335141888, 31254528, 1024, 31254528},
    {"gpt2-xl", 580, 1557611200, 80411200, 1600, 80411200},
    {"llama3-8b", 291, 8030261248, 525336576, 525336576, 525336576},
};
enum { NMODELS = sizeof(models) / sizeof(models[0]) };

static void shipped_models_have_the_published_sizes(void** state) {
  (void)state;
  for (size_t k = 0; k < NMODELS; k++) {
    perf_model m;
    char message[512] = "";
    if (perf_model_load(models[k].name, &m, message, sizeof(message))) fail_msg("%s", message);
    uint64_t total = 0, largest = 0;
    for (size_t t = 0; t < m.ntensors; t++) {
      total += m.elements[t];
      if (m.elements[t] > largest) largest = m.elements[t];
    }
    assert_string_equal(m.name, models[k].name);
    if (m.ntensors != models[k].ntensors || m.total != models[k].total || total != m.total ||
        m.elements[0] != models[k].first || m.elements[m.ntensors - 1] != models[k].last ||
        largest != models[k].largest)
      fail_msg("%s: %zu tensors, %llu parameters", m.name, m.ntensors, (unsigned long long)total);
    perf_model_free(&m);
  }
}

static int load_text(const char* text, perf_model* out, char* message, size_t size) {
  char path[] = "/tmp/perf_model_XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
  close(fd);
  int status = perf_model_load(path, out, message, size);
  unlink(path);
  return status;
}

static void repeats_nest(void** state) {
  (void)state;
  perf_model m;
  char message[512];
  assert_int_equal(
      load_text("# head\na 2x3 # tail\nrepeat 2\nb 5\nrepeat 3\nc 7x1x2\nend\nend\nd 1", &m, message, sizeof(message)),
      0);
  static const uint64_t expected[] = {6, 5, 14, 14, 14, 5, 14, 14, 14, 1};
  assert_int_equal(m.ntensors, 10);
  for (size_t k = 0; k < 10; k++) assert_int_equal(m.elements[k], expected[k]);
  assert_int_equal(m.total, 101);
  perf_model_free(&m);
}

static void mistakes_are_named_with_their_line(void** state) {
  (void)state;
  static const struct {
    const char *text, *part;
  } rows[] = {
      {"a 2x\n", ":1: a shape is"},
      {"a 0x5\n", ":1: a shape is"},
      {"a -3\n", ":1: a shape is"},
      {"a 2*3\n", ":1: a shape is"},
      {"a 5\nb\n", ":2: a line is"},
      {"a 5 6\n", ":1: a line is"},
      {"end\n", ":1: `end` without"},
      {"a 1\nrepeat 2\nb 1\n", ":2: `repeat` without"},
      {"repeat x\n", ":1: repeat wants"},
      {"repeat 0\nend\n", ":1: repeat wants"},
      {"# nothing\n", ":1: the file names no"},
      {"repeat 100000\nrepeat 100000\na 1\nend\nend\n", ":3: more than"},
      {"a 99999999999999999999\n", ":1: a shape is"},
  };
  for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
    perf_model m;
    char message[512] = "";
    if (load_text(rows[k].text, &m, message, sizeof(message)) == 0 || !strstr(message, rows[k].part))
      fail_msg("row %zu: \"%s\" lacks \"%s\"", k, message, rows[k].part);
  }
  perf_model m;
  char message[512] = "";
  assert_int_equal(perf_model_load("alexnet", &m, message, sizeof(message)), -1);
  assert_non_null(strstr(message, "resnet50, bert-large, gpt2-xl, llama3-8b"));
}

static void buckets_cover_every_gradient_once_in_backward_order(void** state) {
  (void)state;
  static const size_t limits[] = {0, 1, 1000, 25 << 18, SIZE_MAX};
  static const double scales[] = {1, 0.01, 1e-9};
  for (size_t k = 0; k < NMODELS * 15; k++) {
    perf_model m;
    perf_plan p;
    char message[512];
    size_t limit = limits[k % 5];
    assert_int_equal(perf_model_load(models[k / 15].name, &m, message, sizeof(message)), 0);
    assert_int_equal(perf_plan_create(&m, scales[k / 5 % 3], limit, &p), 0);
    size_t tensor = 0, element = 0;
    for (size_t b = 0; b < p.nbuckets; b++) {
      const perf_bucket* bucket = &p.buckets[b];
      assert_int_equal(bucket->first_tensor, tensor);
      assert_int_equal(bucket->first, element);
      assert_true(bucket->ntensors == 1 || bucket->count <= limit);
      size_t sum = 0;
      for (size_t t = 0; t < bucket->ntensors; t++) sum += p.elements[tensor + t];
      assert_int_equal(sum, bucket->count);
      /* it was closed because the next tensor did not fit */
      if (b + 1 < p.nbuckets) assert_true(bucket->count + p.elements[tensor + bucket->ntensors] > limit);
      tensor += bucket->ntensors;
      element += bucket->count;
    }
    assert_int_equal(tensor, m.ntensors);
    assert_int_equal(element, p.total);
    if (k / 5 % 3 == 0) assert_int_equal(p.elements[0], m.elements[m.ntensors - 1]);
    if (k / 5 % 3 == 2) assert_true(p.total < 2 * m.ntensors);
    if (limit == 0) assert_int_equal(p.nbuckets, m.ntensors);
    if (limit == SIZE_MAX) assert_int_equal(p.nbuckets, 1);
    perf_plan_free(&p);
    perf_model_free(&m);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shipped_models_have_the_published_sizes),
      cmocka_unit_test(repeats_nest),
      cmocka_unit_test(mistakes_are_named_with_their_line),
      cmocka_unit_test(buckets_cover_every_gradient_once_in_backward_order),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
