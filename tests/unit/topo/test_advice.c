/* Advice on damaged grids: whom to leave out, with the factors of all-reduce that the bound of the pasted topology
 * confirms, and silence where leaving out does not pay. */
#include <stdlib.h>
#include <string.h>

#include "support/test.h"
#include "topo/advice.h"
#include "topo/bounds.h"

static char* advice_on(const char* spec) {
  mci_topo* topo;
  mci_str out = {0};
  check_ok(mci_topo_parse(spec, &topo));
  check_ok(mci_topo_advice(topo, &out));
  mci_topo_destroy(topo);
  char* text = strdup(out.text ? out.text : "");
  mci_str_fini(&out);
  return text;
}

static double factor_of(const char* spec) {
  mci_topo* topo;
  mci_bound bound;
  check_ok(mci_topo_parse(spec, &topo));
  check_ok(mci_bound_of(topo, MCI_ALL_REDUCE, 1 << 20, 0, &bound));
  mci_topo_destroy(topo);
  return bound.factor;
}

static void what_hangs_on_few_links_is_left_out(void** state) {
  (void)state;
  static const struct {
    const char *shape, *options, *dead;
  } rows[] = {
      {"mesh:5x5", "dead=0.1", "dead=0.1+0.0"},                  /* a corner behind a bridge */
      {"mesh:5x5", "dead=1.1", "dead=1.1+0.0+0.1+1.0"},          /* a chain round a corner, not the corner alone */
      {"mesh:8x8", "cut=0.0-0.1", "dead=0.0"},                   /* a link is lost instead */
      {"mesh:10x15", "dead=0.1+8.14", "dead=0.1+8.14+0.0+9.14"}, /* two bridges: one alone gains nothing */
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    char spec[128], pasted[128];
    double said, before;
    unsigned count;
    snprintf(spec, sizeof spec, "%s@%s", rows[i].shape, rows[i].options);
    snprintf(pasted, sizeof pasted, "%s@%s", rows[i].shape, rows[i].dead);
    char* text = advice_on(spec);
    const char* at = strstr(text, "dead=");
    if (!at || strncmp(at, rows[i].dead, strlen(rows[i].dead)) != 0 || at[strlen(rows[i].dead)] != '\n')
      fail_msg("%s: \"%s\" instead of %s", spec, text, rows[i].dead);
    if (sscanf(text, "advice without %u more rank%*[s] all-reduce has the factor %lf instead of %lf", &count, &said,
               &before) != 3)
      assert_int_equal(sscanf(text, "advice without %u more rank all-reduce has the factor %lf instead of %lf", &count,
                              &said, &before),
                       3);
    assert_float_equal(before, factor_of(spec), 1e-3);
    assert_float_equal(said, factor_of(pasted), 1e-3);
    assert_true(said < 0.9 * before);
    free(text);
  }
}

static void nothing_is_said_where_it_does_not_pay(void** state) {
  (void)state;
  static const char* const specs[] = {"mesh:5x5", "mesh:5x5@dead=2.2", "torus:8x8@dead=3.3",
                                      "full:4",   "line:5@dead=4",     "mesh:3x3@pick=0.0+0.1"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    char* text = advice_on(specs[i]);
    if (*text) fail_msg("%s: %s", specs[i], text);
    free(text);
  }
}

static void running_out_of_memory_is_reported(void** state) {
  (void)state;
  mci_topo* topo;
  check_ok(mci_topo_parse("mesh:4x4@dead=0.1", &topo));
  for (int64_t calls = 1;; calls++) {
    mci_str out = {0};
    mci_alloc_fail_after(calls);
    meshcclResult_t result = mci_topo_advice(topo, &out);
    bool lost = result == meshcclSuccess && mci_str_result(&out) != meshcclSuccess;
    mci_alloc_fail_after(-1);
    mci_str_fini(&out);
    if (result == meshcclSuccess && !lost) break;
    if (!lost) assert_int_equal(result, meshcclSystemError);
  }
  mci_topo_destroy(topo);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_hangs_on_few_links_is_left_out),
      cmocka_unit_test(nothing_is_said_where_it_does_not_pay),
      cmocka_unit_test(running_out_of_memory_is_reported),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
