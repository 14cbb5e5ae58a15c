/* Reports as files: JSON that any parser takes, with the keys of nccl-tests' version 3 and without secrets; CSV whose
 * rows have as many fields as its head. */
#include <ctype.h>
#include <unistd.h>

#include "perf/engine/report.h"
#include "support/test.h"

/* A strict little reader: returns what follows the value, NULL where the text is not JSON. */
static const char* value(const char* s);

static const char* space(const char* s) { return s + strspn(s, " \n\t"); }

static const char* string(const char* s) {
  if (*s++ != '"') return NULL;
  for (; *s != '"'; s++) {
    if ((unsigned char)*s < 0x20) return NULL;
    if (*s != '\\') continue;
    s++;
    if (*s == 'u') {
      for (int k = 0; k < 4; k++)
        if (!isxdigit((unsigned char)*++s)) return NULL;
    } else if (!*s || !strchr("\"\\/bfnrt", *s)) {
      return NULL;
    }
  }
  return s + 1;
}

static const char* members(const char* s, char close, bool keys) {
  s = space(s + 1);
  if (*s == close) return s + 1;
  for (;;) {
    if (keys && (!(s = string(s)) || *(s = space(s)) != ':')) return NULL;
    if (!(s = value(space(keys ? s + 1 : s)))) return NULL;
    s = space(s);
    if (*s == close) return s + 1;
    if (*s != ',') return NULL;
    s = space(s + 1);
  }
}

static const char* value(const char* s) {
  char* end;
  if (*s == '{') return members(s, '}', true);
  if (*s == '[') return members(s, ']', false);
  if (*s == '"') return string(s);
  if (!strncmp(s, "null", 4)) return s + 4;
  if (!isdigit((unsigned char)*s) && *s != '-') return NULL;
  strtod(s, &end);
  return end == s ? NULL : end;
}

static bool is_json(const char* text) {
  const char* end = value(space(text));
  return end && *space(end) == 0;
}

static void the_little_reader_is_strict(void** state) {
  (void)state;
  static const struct {
    const char* text;
    bool good;
  } rows[] = {
      {"{}", true},           {"[1,-2.5e3,null,\"a\\u00e9\"]", true},
      {"{\"a\":[{}]}", true}, {"[1,]", false},
      {"{\"a\"}", false},     {"{\"a\":1,}", false},
      {"[1 2]", false},       {"{} {}", false},
      {"\"a\nb\"", false},    {"nan", false},
      {"[\"\\x\"]", false},   {"[", false},
  };
  for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++)
    if (is_json(rows[k].text) != rows[k].good) fail_msg("%s", rows[k].text);
}

static void writer_sets_commas_and_escapes(void** state) {
  (void)state;
  char text[512] = {0};
  perf_json j = {.to = fmemopen(text, sizeof(text), "w")};
  perf_json_open(&j, '{');
  perf_json_key(&j, "a");
  perf_json_open(&j, '[');
  perf_json_integer(&j, -1);
  perf_json_string(&j, "q\"b\\n\n\xc3");
  perf_json_string(&j, NULL);
  perf_json_real(&j, 0.0 / 0.0);
  perf_json_open(&j, '[');
  perf_json_close(&j);
  perf_json_close(&j);
  perf_json_key(&j, "b");
  perf_json_boolean(&j, true);
  perf_json_key(&j, "c");
  perf_json_finish(&j);
  fclose(j.to);
  assert_string_equal(text, "{\"a\":[-1,\"q\\\"b\\\\n\\u000a\\u00c3\",null,null,[]],\"b\":\"true\",\"c\":null}\n");
  assert_true(is_json(text));
}

typedef struct {
  char folder[64], json[96], csv[96];
} files;

static files make_files(void) {
  files f;
  snprintf(f.folder, sizeof(f.folder), "/tmp/perf_json_XXXXXX");
  assert_non_null(mkdtemp(f.folder));
  snprintf(f.json, sizeof(f.json), "%s/out.json", f.folder);
  snprintf(f.csv, sizeof(f.csv), "%s/out.csv", f.folder);
  return f;
}

static void read_and_remove(const char* path, char* text, size_t size) {
  FILE* file = fopen(path, "r");
  assert_non_null(file);
  text[fread(text, 1, size - 1, file)] = 0;
  fclose(file);
  unlink(path);
}

static const perf_program program = {.program = "all_reduce_perf", .name = "AllReduce"};

/* Writes one report; the table on stdout goes with it. */
static bool write_report(const files* f, bool per_iter, double wrong, const char* error) {
  perf_world world = {.program = &program};
  char *words[] = {(char*)"all_reduce_perf", (char*)"-I", (char*)(per_iter ? "1" : "0")}, message[PERF_MESSAGE];
  assert_int_equal(perf_options_parse(3, words, &world.options, message), PERF_PARSED);
  world.options.json_file = f->json;
  world.options.csv_file = f->csv;
  double times[] = {1, 2, 3};
  perf_row row = {8, 2, "float", "sum", -1, {{.time_us = 1.5, .wrong = wrong}, {.wrong = -1, .bound_percent = -1}}};
  row.half[0].iterations = (perf_iterations){.n = 3, .times = times};
  perf_device devices[2] = {{.rank = 0, .host = "a\"b"}, {.rank = 1}};
  perf_report report;
  assert_true(perf_report_open(&report, &world, 3, words));
  perf_report_head(&report, devices, 2);
  perf_report_row(&report, &row);
  perf_report_row(&report, &row);
  return perf_report_close(&report, error);
}

static void reports_are_json_with_the_keys_of_nccl_tests(void** state) {
  (void)state;
  static const char* const keys[] = {
      "\"version\":3",
      "\"start_time\":\"",
      "\"args\":[\"all_reduce_perf\"",
      "\"env\":[",
      "\"nccl_version\":",
      "\"config\":{",
      "\"devices\":[{\"rank\":0",
      "\"results\":[{\"size\":8,\"count\":2,\"type\":\"float\",\"redop\":\"sum\",\"root\":\"-1\"",
      "\"out_of_place\":{\"time\":1.5,",
      "\"in_place\":{",
      "\"nwrong\":null",
      "\"actual_iterations\":20",
      "\"experiment_name\":\"AllReduce\"",
      "\"out_of_bounds\":{\"count\":0,\"okay\":\"true\"}",
      "\"average_bus_bandwidth\":{\"bandwidth\":0,\"okay\":\"unchecked\"}",
      "\"errors\":[]",
      "\"end_time\":\""};
  files f = make_files();
  char text[16384];
  setenv("MESHCCL_ID", "top-secret", 1);
  assert_true(write_report(&f, false, 0, NULL));
  unsetenv("MESHCCL_ID");
  read_and_remove(f.json, text, sizeof(text));
  unlink(f.csv);
  assert_true(is_json(text));
  for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
    if (!strstr(text, keys[k])) fail_msg("%s is not in %s", keys[k], text);
  assert_null(strstr(text, "top-secret"));
  assert_null(strstr(text, "_per_iter\""));
  rmdir(f.folder);
}

static void failures_still_leave_json(void** state) {
  (void)state;
  files f = make_files();
  char text[16384];
  assert_false(write_report(&f, true, 7, NULL));
  assert_false(write_report(&f, true, 0, "rank 3 \"died\"")); /* the first file is kept: this one has a number */
  read_and_remove(f.json, text, sizeof(text));
  assert_true(is_json(text));
  assert_non_null(strstr(text, "\"out_of_bounds\":{\"count\":14,\"okay\":\"false\"}"));
  assert_non_null(strstr(text, "\"out_of_place_per_iter\":{\"min_us\":"));
  strcat(f.json, ".0");
  read_and_remove(f.json, text, sizeof(text));
  assert_true(is_json(text));
  assert_non_null(strstr(text, "\"errors\":[\"rank 3 \\\"died\\\"\"]"));
  unlink(f.csv);
  rmdir(f.folder);
}

static int fields(const char* line) {
  int n = 1;
  for (; *line && *line != '\n'; line++) n += *line == ',';
  return n;
}

static void csv_rows_have_the_fields_of_the_head(void** state) {
  (void)state;
  files f = make_files();
  char text[4096];
  assert_true(write_report(&f, false, 0, NULL));
  read_and_remove(f.csv, text, sizeof(text));
  unlink(f.json);
  rmdir(f.folder);
  const char* row = strchr(text, '\n') + 1;
  assert_int_equal(fields(text), 15);
  assert_int_equal(fields(row), 15);
  assert_int_equal(strncmp(row, "8,2,float,sum,-1,1.5,0,0,0,0,0,0,0,,\n", 37), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_little_reader_is_strict),
      cmocka_unit_test(writer_sets_commas_and_escapes),
      cmocka_unit_test(reports_are_json_with_the_keys_of_nccl_tests),
      cmocka_unit_test(failures_still_leave_json),
      cmocka_unit_test(csv_rows_have_the_fields_of_the_head),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
