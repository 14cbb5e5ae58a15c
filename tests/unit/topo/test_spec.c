/* Topology text: what is written reads back, quantities are exact, every mistake is named with place and remedy. */
#include "specs.h"

static char* printed(const char* spec) {
  mci_topo* topo;
  check_ok(mci_topo_parse(spec, &topo));
  mci_str text = {0};
  check_ok(mci_topo_print(topo, &text));
  mci_topo_destroy(topo);
  return text.text;
}

static void specs_have_one_canonical_text_that_reads_back(void** state) {
  (void)state;
  static const char* const rows[][2] = {
      {"ring:8", "ring:8@50GB/s,500ns"},
      {"line:5", "line:5@50GB/s,500ns"},
      {"mesh:5x5", "mesh:5x5@50GB/s,500ns"},
      {"mesh:7", "line:7@50GB/s,500ns"},
      {"torus:7", "ring:7@50GB/s,500ns"},
      {"torus:4x4x4", "torus:4x4x4@50GB/s,500ns"},
      {"torus:2x3x4x5", "torus:2x3x4x5@50GB/s,500ns"},
      {"full:4", "full:4@50GB/s,500ns"},
      {"full:4@memory,map=1.0.3.2", "full:4@50GB/s,500ns,memory"},
      {"mesh:1x1", "mesh:1x1@50GB/s,500ns"},
      {"ring:1", "ring:1@50GB/s,500ns"},
      {"torus:4x4@500ns,50GB/s", "torus:4x4@50GB/s,500ns"},
      {"torus:4x4@100Gbit/s,1.5us,o=20ns", "torus:4x4@12.5GB/s,1.5us,o=20ns"},
      {"ring:3@97.65Gbit/s,0ns", "ring:3@12.20625GB/s,0ps"},
      {"ring:3@1B/s,1ps", "ring:3@1B/s,1ps"},
      {"ring:3@1000.001KB/s,2ms", "ring:3@1.000001MB/s,2ms"},
      {"ring:3@8kbit/s,1000s", "ring:3@1KB/s,1000s"},
      {"mesh:5x5@2TB/s,100ns,dead=4.1+2.3,cut=0.1-0.0", "mesh:5x5@2TB/s,100ns,dead=2.3+4.1,cut=0.0-0.1"},
      {"torus:4x4@cut=0.0-0.3+3.1-0.1", "torus:4x4@50GB/s,500ns,cut=0.3-0.0+3.1-0.1"},
      {"ring:8@dead=3,cut=2-3+5-6", "ring:8@50GB/s,500ns,dead=3,cut=5-6"},
      {"mesh:2x2@neighbours,map=3.1.0.2", "mesh:2x2@50GB/s,500ns,neighbours,map=3.1.0.2"},
      {"mesh:2x2@routed,map=0.1.2.3", "mesh:2x2@50GB/s,500ns"},
      {"mesh:2x2@neighbors", "mesh:2x2@50GB/s,500ns,neighbours"},
      {"full:3@map=2.0.1", "full:3@50GB/s,500ns"},
      {"mesh:3x4@wrap=x", "mesh:3x4@50GB/s,500ns,wrap=x"},
      {"mesh:3x4x5@cut=2.0.0-0.0.0,wrap=zx", "mesh:3x4x5@50GB/s,500ns,wrap=xz,cut=2.0.0-0.0.0"},
      {"mesh:3x4@wrap=yx", "torus:3x4@50GB/s,500ns"},
      {"mesh:5x5@pick=4.4+0.0+0.3,map=2.1.0", "mesh:5x5@50GB/s,500ns,pick=0.0+0.3+4.4,map=2.1.0"},
      {"mesh:1x3@dead=0.1,pick=0.2+0.0", "mesh:1x3@50GB/s,500ns,dead=0.1"},
  };
  expect_canonical(rows, MCI_COUNT(rows));
}

static void quantities_are_exact(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    uint64_t bw, lat, cost;
  } rows[] = {
      {"ring:2", 50000000000u, 500000, 0},         {"ring:2@2TB/s,100ns,o=20ns", 2000000000000u, 100000, 20000},
      {"ring:2@0.1GB/s,0.001ns", 100000000, 1, 0}, {"ring:2@123456789.123456789GB/s", 123456789123456789u, 500000, 0},
      {"ring:2@0.125bit/s,1s", 0, 0, 0},           {"ring:2@8bit/s,1s,o=3us", 1, 1000000000000u, 3000000}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo;
    if (rows[i].bw == 0) {
      check_fails(mci_topo_parse(rows[i].spec, &topo), meshcclInvalidArgument, "whole number of bytes");
      continue;
    }
    check_ok(mci_topo_parse(rows[i].spec, &topo));
    mci_link link = mci_topo_link(topo);
    if (link.bw_Bps != rows[i].bw || link.lat_ps != rows[i].lat || link.cost_ps != rows[i].cost)
      fail_msg("%s: %llu B/s %llu ps %llu ps", rows[i].spec, (unsigned long long)link.bw_Bps,
               (unsigned long long)link.lat_ps, (unsigned long long)link.cost_ps);
    mci_topo_destroy(topo);
  }
}

static void mistakes_name_text_place_and_remedy(void** state) {
  (void)state;
  static const char* const rows[][3] = {
      {"", "\"\" at character 1", "write ring, line"},
      {"tours:4x4", "\"tours\" at character 1", "torus?"},
      {"torus", "\"torus\" at character 1", "torus:4x4"},
      {"torus:", "at character 7", "write sides"},
      {"torus:4x0", "\"0\" at character 9", "smallest side is 1"},
      {"torus:4x4x", "\"4x4x\"", "write sides"},
      {"torus:-4", "\"-4\"", "write sides"},
      {"torus:2x2x2x2x2", "\"2x2x2x2x2\" at character 7", "at most 4"},
      {"ring:4x4", "\"4x4\" at character 6", "torus:4x4"},
      {"line:4x4", "\"4x4\" at character 6", "mesh:4x4"},
      {"full:4x4", "\"4x4\" at character 6", "full:N"},
      {"mesh:65536x32768", "\"65536x32768\" at character 6", "limit is 2147483647"},
      {"ring:99999999999999999999", "too many nodes", "limit is 2147483647"},
      {"mesh:7x99999905@dead=3.2", "\"dead=3.2\"", "at most 16777216 nodes"},
      {"ring:4@", "\"\" at character 8", "remove"},
      {"ring:4@50GB/s,,500ns", "\"\" at character 15", "remove"},
      {"ring:4@50Gb/s", "\"50Gb/s\" at character 8", "Gbit/s"},
      {"ring:4@50", "\"50\" at character 8", "unit"},
      {"ring:4@0GB/s", "\"0GB/s\" at character 8", "cut=A-B"},
      {"ring:4@5.GB/s", "\"5.GB/s\"", "50GB/s"},
      {"ring:4@1e9B/s", "\"1e9B/s\"", "unit"},
      {"ring:4@2000PB/s", "too fast", "1000PB/s"},
      {"ring:4@1001s", "too long", "1000s"},
      {"ring:4@0.0001ns", "whole number of picoseconds", "fewer decimals"},
      {"ring:4@1234567890123456789B/s", "18 digits", "larger unit"},
      {"ring:4@50GB/s,60GB/s", "\"60GB/s\" at character 15", "second rate"},
      {"ring:4@5ns,6ns", "\"6ns\" at character 12", "second delay"},
      {"ring:4@o=5GB/s", "\"5GB/s\" at character 10", "takes a time"},
      {"ring:4@o", "\"o\" at character 8", "lacks a value"},
      {"ring:4@o=", "\"\" at character 10", "unit"},
      {"ring:4@routed=1", "\"routed=1\"", "takes no value"},
      {"ring:4@routed,neighbours", "\"neighbours\" at character 15", "once"},
      {"ring:4@speed=4", "\"speed=4\" at character 8", "options are"},
      {"mesh:5x5@dead=5.0", "\"5.0\" at character 15", "last node is 4.4"},
      {"mesh:5x5@dead=1", "\"1\" at character 15", "such as 0.0"},
      {"mesh:5x5@dead=1.1.1", "\"1.1.1\" at character 15", "such as 0.0"},
      {"mesh:5x5@dead=1.1++2.2", "\"\" at character 19", "such as 0.0"},
      {"mesh:5x5@dead=1.1+2.2+1.1", "\"1.1\" at character 23", "listed twice"},
      {"mesh:5x5@dead=1.1,dead=2.2", "\"dead=2.2\" at character 19", "once"},
      {"mesh:1x2@dead=0.0+0.1", "\"dead=0.0+0.1\" at character 10", "no node alive"},
      {"mesh:5x5@cut=0.0", "\"0.0\" at character 14", "joined by '-'"},
      {"mesh:5x5@cut=0.0-0.2", "\"0.0-0.2\" at character 14", "no neighbours"},
      {"mesh:5x5@cut=0.0-0.4", "\"0.0-0.4\" at character 14", "no neighbours"},
      {"mesh:5x5@cut=0.0-0.1+0.1-0.0", "\"0.1-0.0\" at character 22", "listed twice"},
      {"mesh:5x5@cut=0.0-0.9", "\"0.9\" at character 18", "outside the grid"},
      {"full:4@dead=1", "\"dead=1\" at character 8", "no coordinates"},
      {"mesh:2x2@memory", "\"memory\" at character 10", "full graphs"},
      {"full:4@routed,memory", "\"memory\" at character 15", "repeats an option"},
      {"ring:4@map=0.1.2", "3 entries for 4 ranks", "one per rank"},
      {"ring:4@map=0.1.2.2", "repeats node 2", "one rank"},
      {"ring:4@map=0.1.2.9", "entry 3", "from 0 to 3"},
      {"ring:4@map=0.x", "\"x\" at character 14", "such as 3.1.0.2"},
      {"ring:4@wrap=x", "\"x\"", "mesh of two"},
      {"mesh:4x4@wrap=z", "\"z\" at character 15", "xy"},
      {"mesh:4x4@wrap=xx", "\"xx\" at character 15", "xy"},
      {"mesh:4x4@wrap=", "\"wrap=\"", "wrap=x"},
      {"mesh:4x4@dead=1.1,pick=1.1+0.0", "\"pick=1.1+0.0\" at character 19", "dead="},
  };
  expect_mistakes(rows, MCI_COUNT(rows));
}

static void damaged_specs_never_crash_and_survivors_read_back(void** state) {
  (void)state;
  static const char base[] =
      "mesh:5x5@2TB/s,100ns,o=1ns,wrap=x,dead=2.3+4.1,cut=0.0-0.1,pick=0.0+1.1+2.2,neighbours,map=2.0.1";
  static const char alphabet[] = "0123456789.+-=,@:xyzwGBbits/ deadcutpickmap";
  uint64_t random = test_seed();
  for (int round = 0; round < 20000; round++) {
    char spec[sizeof base];
    memcpy(spec, base, sizeof base);
    for (uint64_t edits = 1 + test_random(&random) % 3; edits > 0; edits--)
      spec[test_random(&random) % (sizeof base - 1)] = alphabet[test_random(&random) % (sizeof alphabet - 1)];
    if (test_random(&random) % 4 == 0) spec[test_random(&random) % sizeof base] = 0;
    mci_topo* topo;
    if (mci_topo_parse(spec, &topo) != meshcclSuccess) continue;
    mci_str text = {0};
    check_ok(mci_topo_print(topo, &text));
    mci_topo_destroy(topo);
    char* again = printed(text.text);
    if (strcmp(again, text.text) != 0) fail_msg("%s -> %s -> %s", spec, text.text, again);
    mci_free(again);
    mci_str_fini(&text);
  }
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
  (void)state;
  static const char spec[] = "mesh:5x5@dead=2.3+4.1,cut=0.0-0.1,pick=0.0+1.1+2.2,map=2.0.1";
  int64_t n = 1;
  for (;; n++) {
    mci_topo* topo = NULL;
    mci_alloc_fail_after(n);
    meshcclResult_t result = mci_topo_parse(spec, &topo);
    mci_alloc_fail_after(-1);
    if (result == meshcclSuccess) {
      mci_topo_destroy(topo);
      break;
    }
    assert_int_equal(result, meshcclSystemError);
    assert_null(topo);
  }
  assert_true(n > 8);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(specs_have_one_canonical_text_that_reads_back),
      cmocka_unit_test(quantities_are_exact),
      cmocka_unit_test(mistakes_name_text_place_and_remedy),
      cmocka_unit_test(damaged_specs_never_crash_and_survivors_read_back),
      cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
