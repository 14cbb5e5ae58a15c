/* Planes: switches beside or instead of links, against an oracle that searches; parts; mistakes in the text. */
#include "specs.h"

#define MAX_RANKS 128

static void planes_have_one_canonical_text_that_reads_back(void** state) {
  (void)state;
  static const char* const rows[][2] = {
      {"mesh:2x3@plane=s:*.0", "mesh:2x3@50GB/s,500ns,plane=s:50GB/s:500ns:*.0"},
      {"mesh:2x3@plane=s:1us:o=2ns:2GB/s:1.2+0.1+0.1", "mesh:2x3@50GB/s,500ns,plane=s:2GB/s:1us:o=2ns:0.1+1.2"},
      {"mesh:2x3@apart=y,plane=s:*.2+*.0,plane=t:0.*",
       "mesh:2x3@50GB/s,500ns,apart=y,plane=s:50GB/s:500ns:*.0+*.2,plane=t:50GB/s:500ns:0.*"},
      {"line:4@plane=all:*,apart=x", "line:4@50GB/s,500ns,apart=x,plane=all:50GB/s:500ns:*"},
      {"mesh:2x3x4@wrap=x,apart=zy,plane=s:*.*.0",
       "mesh:2x3x4@50GB/s,500ns,wrap=x,apart=yz,plane=s:50GB/s:500ns:*.*.0"},
      {"mesh:2x3@level=a:1x3:5GB/s,plane=s:5GB/s:*.0,dead=1.1",
       "mesh:2x3@50GB/s,500ns,level=a:1x3:5GB/s:500ns,dead=1.1,plane=s:5GB/s:500ns:*.0"},
  };
  expect_canonical(rows, MCI_COUNT(rows));
}

static void mistakes_name_text_place_and_remedy(void** state) {
  (void)state;
  static const char* const rows[][3] = {
      {"mesh:2x2@apart=", "\"apart=\" at character 10", "apart=y"},
      {"mesh:2x2@apart=z", "\"z\" at character 16", "xy"},
      {"mesh:2x2@apart=xx", "\"xx\" at character 16", "at most once"},
      {"torus:4x4@apart=x", "\"x\" at character 17", "written as a mesh"},
      {"mesh:4x4@wrap=x,apart=x", "\"x\" at character 23", "written as a mesh"},
      {"full:4@apart=x", "\"apart=x\" at character 8", "no coordinates"},
      {"full:4@plane=s:1", "\"plane=s:1\" at character 8", "no coordinates"},
      {"mesh:2x2@plane=", "\"\" at character 16", "a letter first"},
      {"mesh:2x2@plane=s", "\"s\" at character 16", "plane=NAME:50GB/s:1us"},
      {"mesh:2x2@plane=s:", "\"\" at character 18", "such as *.0"},
      {"mesh:2x2@plane=s:50GB/s:1us", "\"1us\" at character 25", "such as *.0"},
      {"mesh:2x2@plane=s:*.2", "\"*.2\" at character 18", "below its side"},
      {"mesh:2x2@plane=s:*.*.0", "\"*.*.0\" at character 18", "2 coordinates"},
      {"mesh:2x2@plane=s:*.0+*", "\"*\" at character 22", "2 coordinates"},
      {"mesh:2x2@plane=s:0.0", "\"0.0\" at character 18", "two or more"},
      {"mesh:2x2@plane=s:1us:2us:*.0", "\"2us\" at character 22", "second delay"},
      {"mesh:2x2@plane=s:*.0,plane=s:*.1", "\"s\" at character 28", "its own name"},
      {"mesh:2x2@plane=a:*.0,plane=b:*.0,plane=c:*.0,plane=d:*.0,plane=e:*.0", "\"plane=e:*.0\"", "at most 4"},
      {"mesh:2x4@apart=x,cut=0.1-0.2", "\"0.1-0.2\" at character 22", "no neighbours"},
      {"mesh:10000x10000@plane=s:*.0", "\"plane=s:*.0\"", "at most 16777216"},
  };
  expect_mistakes(rows, MCI_COUNT(rows));
}

/* Distances over own links and planes between ranks; nodes that are no rank are not in these specs, or do not matter.
 */
static void oracle(const mci_topo* topo, uint32_t n, uint32_t dist[MAX_RANKS][MAX_RANKS]) {
  for (uint32_t a = 0; a < n; a++)
    for (uint32_t b = 0; b < n; b++) dist[a][b] = a == b ? 0 : UINT32_MAX / 2;
  for (uint32_t a = 0; a < n; a++) {
    uint32_t peers[2 * MCI_MAX_DIMS], count = mci_topo_neighbors(topo, a, peers, MCI_COUNT(peers));
    for (uint32_t i = 0; i < count; i++) dist[a][peers[i]] = 1;
    for (uint32_t p = 0; p < mci_topo_nplanes(topo); p++)
      for (uint32_t b = 0; b < n; b++)
        if (a != b && mci_topo_in_plane(topo, p, a) && mci_topo_in_plane(topo, p, b)) dist[a][b] = 1;
  }
  for (uint32_t k = 0; k < n; k++)
    for (uint32_t a = 0; a < n; a++)
      for (uint32_t b = 0; b < n; b++) dist[a][b] = MCI_MIN(dist[a][b], dist[a][k] + dist[k][b]);
}

/* Two ports for every crossing, nothing twice, and as many links as hops wherever a plane is taken. */
static void expect_route(const mci_topo* topo, uint32_t a, uint32_t b, uint32_t hops) {
  mci_hop route[64];
  uint32_t n = mci_topo_route(topo, a, b, route, MCI_COUNT(route)), ports = 0;
  assert_true(n <= MCI_COUNT(route));
  assert_int_equal(mci_topo_route(topo, a, b, NULL, 0), n);
  for (uint32_t i = 0; i < n; i++) {
    ports += route[i].id >> 62 & 1;
    for (uint32_t k = 0; k < i; k++) assert_true(route[k].id != route[i].id);
  }
  assert_true(ports ? n - ports / 2 == hops : n >= hops);
  assert_int_equal(ports % 2, 0);
}

static void ways_through_planes_are_shortest(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    bool connected;
    uint64_t links;
    uint32_t low, high;
  } rows[] = {
      {"mesh:4x4@plane=s:*.0", true, 28, 2, 4},
      {"line:9@plane=s:0+8", true, 10, 2, 2},
      {"line:9@plane=s:0+4,plane=t:4+8", true, 12, 2, 4},
      {"mesh:3x2x4@apart=z,plane=s:*.*.0+*.*.3", true, 42, 3, 3},
      {"mesh:3x5@apart=y,plane=s:*.2", true, 15, 1, 3},
      {"mesh:3x5@apart=y,plane=s:*.2,dead=1.2", false, 12, 1, 3},
      {"mesh:3x5@apart=y,plane=s:*.2+*.0+*.4,dead=1.2", true, 18, 1, 3},
      {"mesh:2x3@apart=y", false, 4, 1, 2},
      {"line:4@apart=x,plane=s:*", true, 4, 1, 1},
      {"torus:4x4@plane=s:0.0+2.2,map=15.14.13.12.11.10.9.8.7.6.5.4.3.2.1.0", true, 34, 4, 5},
      {"mesh:3x3@apart=y,plane=s:*.0,neighbours", true, 9, 1, 2},
  };
  static uint32_t dist[MAX_RANKS][MAX_RANKS];
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = parse(rows[i].spec);
    uint32_t n = mci_topo_nranks(topo), most = 0, low, high;
    oracle(topo, n, dist);
    for (uint32_t a = 0; a < n; a++) {
      uint32_t far = 0;
      for (uint32_t b = 0; b < n; b++) {
        uint32_t hops = mci_topo_hops(topo, a, b), expected = dist[a][b] >= n ? UINT32_MAX : dist[a][b];
        if (hops != expected || mci_topo_adjacent(topo, a, b) != (expected == 1))
          fail_msg("%s: %u to %u takes %u hops, expected %u", rows[i].spec, a, b, hops, expected);
        far = MCI_MAX(far, expected);
        if (expected != UINT32_MAX) expect_route(topo, a, b, expected);
      }
      assert_int_equal(mci_topo_eccentricity(topo, a), far);
      most = MCI_MAX(most, far);
    }
    mci_topo_degrees(topo, &low, &high);
    if (mci_topo_connected(topo) != rows[i].connected || mci_topo_nlinks(topo) != rows[i].links ||
        mci_topo_diameter(topo) != most || low != rows[i].low || high != rows[i].high)
      fail_msg("%s: connected %d, %llu links, diameter %u, degrees %u to %u", rows[i].spec, mci_topo_connected(topo),
               (unsigned long long)mci_topo_nlinks(topo), mci_topo_diameter(topo), low, high);
    mci_topo_destroy(topo);
  }
}

static void parts_keep_planes_that_still_join_somebody(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    uint32_t n, ranks[12];
    const char* expected;
  } rows[] = {
      {"mesh:3x4@apart=y,plane=s:*.0+*.3", 4, {4, 5, 6, 7}, "line:4@50GB/s,500ns,plane=s:50GB/s:500ns:0+3"},
      {"mesh:3x4@apart=y,plane=s:*.0", 4, {4, 5, 6, 7}, "line:4@50GB/s,500ns"},
      {"mesh:3x4@apart=y,plane=s:*.0", 3, {0, 4, 8}, "line:3@50GB/s,500ns,apart=x,plane=s:50GB/s:500ns:*"},
      {"mesh:3x4@apart=y,plane=s:*.0",
       2,
       {1, 5},
       "mesh:3x4@50GB/s,500ns,apart=y,plane=s:50GB/s:500ns:*.0,pick=0.1+1.1"},
      {"mesh:3x4@apart=y,plane=s:*.0+*.3", 4, {2, 3, 6, 7}, "mesh:2x2@50GB/s,500ns,apart=y,plane=s:50GB/s:500ns:*.1"},
      {"mesh:3x4@apart=y,level=t:1x4:5GB/s,plane=s:5GB/s:*.0",
       3,
       {0, 4, 8},
       "line:3@5GB/s,500ns,apart=x,plane=s:5GB/s:500ns:*"},
      {"ring:6@plane=s:0+2+5", 3, {5, 0, 1}, "line:3@50GB/s,500ns,plane=s:50GB/s:500ns:0+1"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo *topo = parse(rows[i].spec), *part;
    check_ok(mci_topo_subset(topo, rows[i].ranks, rows[i].n, &part));
    expect_text(rows[i].spec, part, rows[i].expected);
    assert_true(mci_topo_connected(part));
    for (uint32_t a = 0; a < rows[i].n; a++)
      for (uint32_t b = 0; b < rows[i].n; b++)
        assert_true(mci_topo_hops(part, a, b) >= mci_topo_hops(topo, rows[i].ranks[a], rows[i].ranks[b]));
    mci_topo_destroy(part);
    mci_topo_destroy(topo);
  }
}

static void the_undamaged_version_keeps_planes(void** state) {
  (void)state;
  mci_topo *topo = parse("mesh:2x4@apart=y,plane=s:*.0,dead=1.1"), *whole;
  check_ok(mci_topo_healthy(topo, &whole));
  expect_text("healthy", whole, "mesh:2x4@50GB/s,500ns,apart=y,plane=s:50GB/s:500ns:*.0");
  mci_topo_destroy(whole);
  mci_topo_destroy(topo);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
  (void)state;
  static const uint32_t ranks[] = {1, 5};
  bool failed = true;
  int64_t calls = 1;
  for (; failed; calls++) {
    mci_topo *topo = NULL, *part = NULL;
    mci_alloc_fail_after(calls);
    meshcclResult_t result = mci_topo_parse("mesh:3x4@apart=y,plane=s:*.0+*.3,plane=t:*.1+0.2", &topo);
    if (result == meshcclSuccess) result = mci_topo_subset(topo, ranks, 2, &part);
    mci_alloc_fail_after(-1);
    failed = result != meshcclSuccess;
    if (failed) assert_int_equal(result, meshcclSystemError);
    mci_topo_destroy(part);
    mci_topo_destroy(topo);
  }
  assert_true(calls > 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(planes_have_one_canonical_text_that_reads_back),
      cmocka_unit_test(mistakes_name_text_place_and_remedy),
      cmocka_unit_test(ways_through_planes_are_shortest),
      cmocka_unit_test(parts_keep_planes_that_still_join_somebody),
      cmocka_unit_test(the_undamaged_version_keeps_planes),
      cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
