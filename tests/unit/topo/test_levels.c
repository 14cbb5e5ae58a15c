/* Levels of a topology against an oracle that sorts nodes into boxes and runs one by one; parts of packaged machines;
 * mistakes in the text. */
#include "specs.h"

#define MAX_RANKS 512

static void levels_have_one_canonical_text_that_reads_back(void** state) {
  (void)state;
  static const char* const rows[][2] = {
      {"mesh:10x15@level=tile:5x5", "mesh:10x15@50GB/s,500ns,level=tile:5x5:50GB/s:500ns"},
      {"mesh:10x15@level=tile:5x5:900GB/s,2TB/s,100ns", "mesh:10x15@2TB/s,100ns,level=tile:5x5:900GB/s:100ns"},
      {"mesh:10x15@level=tile:5x5:o=1ns:1us:1GB/s,level=tray:10x15",
       "mesh:10x15@50GB/s,500ns,level=tile:5x5:1GB/s:1us:o=1ns,level=tray:10x15:1GB/s:1us"},
      {"mesh:4x4@o=2ns,level=a:2x2:o=0ns", "mesh:4x4@50GB/s,500ns,o=2ns,level=a:2x2:50GB/s:500ns:o=0ps"},
      {"ring:9@level=a-b_3:4", "ring:9@50GB/s,500ns,level=a-b_3:4:50GB/s:500ns"},
      {"mesh:4x9@level=a:2x5-0x2", "mesh:4x9@50GB/s,500ns,level=a:2x5-0x2:50GB/s:500ns"},
      {"mesh:4x3@level=a:2x5-0x4", "mesh:4x3@50GB/s,500ns,level=a:2x5-0x4:50GB/s:500ns"},
      {"mesh:4x9@level=a:2x5-0x0", "mesh:4x9@50GB/s,500ns,level=a:2x5:50GB/s:500ns"},
      {"full:11@level=host:4+4+3:12.5GB/s:10us", "full:11@50GB/s,500ns,level=host:4*2+3:12.5GB/s:10us"},
      {"full:103@level=host:4*25+3,level=rack:52+51",
       "full:103@50GB/s,500ns,level=host:4*25+3:50GB/s:500ns,level=rack:52+51:50GB/s:500ns"},
      {"full:4@level=host:2+2,map=3.1.0.2", "full:4@50GB/s,500ns,level=host:2*2:50GB/s:500ns,map=3.1.0.2"},
  };
  expect_canonical(rows, MCI_COUNT(rows));
}

static void mistakes_name_text_place_and_remedy(void** state) {
  (void)state;
  static const char* const rows[][3] = {
      {"mesh:4x4@level", "\"level\" at character 10", "lacks a value"},
      {"mesh:4x4@level=", "\"\" at character 16", "level=tile:5x5"},
      {"full:4@level=9:2+2", "\"9\" at character 14", "level=host:4+4"},
      {"mesh:4x4@level=tile", "\"tile\" at character 16", "level=NAME:5x5"},
      {"full:4@level=host", "\"host\" at character 14", "level=NAME:4+4"},
      {"mesh:4x4@level=abcdefghijklmnopqrstuvwx:2x2", "at character 16", "23 letters"},
      {"mesh:4x4@level=a:2x2,level=a:4x4", "\"a\" at character 28", "its own name"},
      {"mesh:4x4@level=a:", "\"\" at character 18", "such as 2x2"},
      {"mesh:4x4@level=a:2", "\"2\" at character 18", "write 2 sides"},
      {"ring:4@level=a:2x2", "\"2x2\" at character 16", "such as 2"},
      {"mesh:4x4@level=a:2x0", "\"2x0\" at character 18", "smallest side is 1"},
      {"mesh:4x4@level=a:2x5", "\"2x5\" at character 18", "side 2 is 4"},
      {"mesh:4x4@level=a:2x3-0", "\"0\" at character 22", "one number per side"},
      {"mesh:4x4@level=a:2x3-0x3", "\"0x3\" at character 22", "shift them less"},
      {"mesh:4x3@level=a:2x5-0x2", "\"2x5\" at character 18", "larger than the grid"},
      {"mesh:4x4@level=a:2x2,level=b:4x3", "\"4x3\" at character 30", "multiple of 2, or 4"},
      {"mesh:4x9@level=a:2x2-0x1,level=b:2x4", "\"2x4\" at character 34", "cuts through groups of level a"},
      {"full:4@level=a:2+2,level=b:1+3", "\"1+3\" at character 28", "cuts through groups of level a"},
      {"full:10@level=a:2*5,level=b:3*2+4", "\"3*2+4\" at character 29", "let each group hold whole ones"},
      {"full:4@level=a:2+1", "\"2+1\" at character 16", "less than the 4 ranks"},
      {"full:4@level=a:2+3", "\"2+3\" at character 16", "more than the 4 ranks"},
      {"full:4@level=a:2000000000*2000000000", "at character 16", "more than the 4 ranks"},
      {"full:4@level=a:2+x", "\"x\" at character 18", "4*25"},
      {"full:4@level=a:2+0*2", "\"0*2\" at character 18", "4*25"},
      {"full:4@level=a:2*0", "\"2*0\" at character 16", "4*25"},
      {"mesh:4x4@level=a:2x2:5ns:6ns", "\"6ns\" at character 26", "second delay"},
      {"mesh:4x4@level=a:2x2:5GB/s:6GB/s", "\"6GB/s\" at character 28", "second rate"},
      {"mesh:4x4@level=a:2x2:o=5ns:o=6ns", "\"o=6ns\" at character 28", "second cost"},
      {"mesh:4x4@level=a:2x2:o=6GB/s", "\"6GB/s\" at character 24", "takes a time"},
      {"mesh:4x4@level=a:2x2:", "\"\" at character 22", "unit"},
      {"mesh:4x4@level=a:1x1,level=b:1x2,level=c:2x2,level=d:2x4,level=e:4x4,level=f:4x4,level=g:4x4",
       "\"level=g:4x4\"", "at most 6"},
  };
  expect_mistakes(rows, MCI_COUNT(rows));
}

/* ---- groups ---- */

typedef struct {
  const char* spec;
  uint32_t nlevels;
  uint32_t box[3][MCI_MAX_DIMS], before[3][MCI_MAX_DIMS]; /* of grids */
  uint32_t starts[3][8];                                  /* of full graphs: first nodes, 0 ends but for the first */
} packaged;

static const packaged machines[] = {
    {"mesh:10x15@level=tile:5x5", 1, {{5, 5}}, {{0}}, {{0}}},
    {"mesh:10x15@level=tile:5x5,level=tray:10x15", 2, {{5, 5}, {10, 15}}, {{0}}, {{0}}},
    {"mesh:7x9@level=a:2x2,level=b:4x2,level=c:4x6", 3, {{2, 2}, {4, 2}, {4, 6}}, {{0}}, {{0}}},
    {"torus:4x6@level=a:2x3", 1, {{2, 3}}, {{0}}, {{0}}},
    {"mesh:5x9@level=a:2x5-1x2", 1, {{2, 5}}, {{1, 2}}, {{0}}},
    {"ring:12@level=a:2,level=b:4", 2, {{2}, {4}}, {{0}}, {{0}}},
    {"mesh:3x4x5@level=a:1x2x5,level=b:3x2x5", 2, {{1, 2, 5}, {3, 2, 5}}, {{0}}, {{0}}},
    {"mesh:6x6@level=a:3x3,dead=0.0+4.5", 1, {{3, 3}}, {{0}}, {{0}}},
    {"mesh:4x4@level=a:2x2,dead=0.0+0.1+1.0+1.1,level=b:2x4", 2, {{2, 2}, {2, 4}}, {{0}}, {{0}}},
    {"mesh:6x6@level=a:2x2,level=b:4x4,pick=0.0+1.1+0.3+5.5+4.4", 2, {{2, 2}, {4, 4}}, {{0}}, {{0}}},
    {"mesh:2x4@level=a:2x2,map=7.6.5.4.3.2.1.0", 1, {{2, 2}}, {{0}}, {{0}}},
    {"full:11@level=host:4+4+3", 1, {{0}}, {{0}}, {{0, 4, 8}}},
    {"full:11@level=host:4+4+3,level=rack:8+3", 2, {{0}}, {{0}}, {{0, 4, 8}, {0, 8}}},
    {"full:6@level=host:2+1+3,map=5.4.3.2.1.0", 1, {{0}}, {{0}}, {{0, 2, 3}}},
    {"full:9@level=a:2*3+3,level=b:4+5,level=c:9", 3, {{0}}, {{0}}, {{0, 2, 4, 6}, {0, 4}, {0}}},
};

/* Row-major number of the group that a rank's node is in, counting groups without ranks. */
static uint32_t plain_group(const mci_topo* topo, const packaged* m, uint32_t l, uint32_t node,
                            const uint32_t at[MCI_MAX_DIMS]) {
  uint32_t group = 0;
  if (mci_topo_is_full(topo)) {
    for (uint32_t i = 1; i < 8 && m->starts[l][i]; i++) group += node >= m->starts[l][i];
    return group;
  }
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) group = group * 100 + (at[d] + m->before[l][d]) / m->box[l][d];
  return group;
}

/* Node of a rank, in row-major order of all nodes: from the text of the map on full graphs. */
static uint32_t node_of(const mci_topo* topo, const packaged* m, uint32_t rank, uint32_t at[MCI_MAX_DIMS]) {
  if (mci_topo_is_full(topo)) return strstr(m->spec, "map=5.4") ? 5 - rank : rank;
  mci_topo_coords(topo, rank, at);
  uint32_t node = 0;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) node = node * mci_topo_side(topo, d) + at[d];
  return node;
}

static void check_groups(const mci_topo* topo, const packaged* m, uint32_t l) {
  uint32_t n = mci_topo_nranks(topo), plain[MAX_RANKS], node[MAX_RANKS], at[MCI_MAX_DIMS];
  for (uint32_t r = 0; r < n; r++) {
    node[r] = node_of(topo, m, r, at);
    plain[r] = plain_group(topo, m, l, node[r], at);
  }
  uint32_t ngroups = 0;
  for (uint32_t r = 0; r < n; r++) {
    uint32_t below = 0, size = 0, place = 0; /* groups below, each counted once by its first rank; ranks of this one */
    bool new_group = true;
    for (uint32_t s = 0; s < n; s++) {
      bool first = true;
      for (uint32_t t = 0; t < s; t++) first = first && plain[t] != plain[s];
      below += first && plain[s] < plain[r];
      size += plain[s] == plain[r];
      place += plain[s] == plain[r] && node[s] < node[r];
      new_group = new_group && (s >= r || plain[s] != plain[r]);
    }
    ngroups += new_group;
    if (mci_topo_group(topo, l, r) != below || mci_topo_group_size(topo, l, below) != size ||
        mci_topo_group_rank(topo, l, below, place) != r)
      fail_msg("%s level %u rank %u: group %u (expected %u) of %u (%u), place %u is rank %u", m->spec, l, r,
               mci_topo_group(topo, l, r), below, mci_topo_group_size(topo, l, below), size, place,
               mci_topo_group_rank(topo, l, below, place));
  }
  if (mci_topo_ngroups(topo, l) != ngroups)
    fail_msg("%s level %u: %u groups, expected %u", m->spec, l, mci_topo_ngroups(topo, l), ngroups);
}

static void groups_are_boxes_and_runs(void** state) {
  (void)state;
  for (size_t i = 0; i < MCI_COUNT(machines); i++) {
    mci_topo* topo = parse(machines[i].spec);
    assert_int_equal(mci_topo_nlevels(topo), machines[i].nlevels);
    assert_int_equal(mci_topo_nclasses(topo), machines[i].nlevels + 1);
    for (uint32_t l = 0; l < machines[i].nlevels; l++) check_groups(topo, &machines[i], l);
    mci_topo_destroy(topo);
  }
}

static void classes_of_pairs_follow_the_way_between_them(void** state) {
  (void)state;
  for (size_t i = 0; i < MCI_COUNT(machines); i++) {
    mci_topo* topo = parse(machines[i].spec);
    for (uint32_t a = 0; a < mci_topo_nranks(topo); a++)
      for (uint32_t b = 0; b < mci_topo_nranks(topo); b++) {
        uint32_t expected = 0;
        for (uint32_t l = 0; l < machines[i].nlevels; l++)
          if (mci_topo_group(topo, l, a) != mci_topo_group(topo, l, b)) expected = l + 1;
        if (mci_topo_pair_class(topo, a, b) != expected)
          fail_msg("%s: %u to %u is class %u, expected %u", machines[i].spec, a, b, mci_topo_pair_class(topo, a, b),
                   expected);
      }
    mci_topo_destroy(topo);
  }
}

static void short_ways_round_a_ring_may_leave_the_group(void** state) {
  (void)state;
  mci_topo* topo = parse("ring:8@level=a:6");
  assert_int_equal(mci_topo_pair_class(topo, 0, 3), 0);
  assert_int_equal(mci_topo_pair_class(topo, 0, 5), 1); /* 0 7 6 5 */
  assert_int_equal(mci_topo_pair_class(topo, 6, 7), 0);
  assert_int_equal(mci_topo_pair_class(topo, 7, 0), 1);
  mci_topo_destroy(topo);
}

static void figures_come_per_class(void** state) {
  (void)state;
  mci_topo* topo = parse("mesh:4x8@1TB/s,100ns,o=1ns,level=a:2x2:o=3ns,level=b:4x4:10GB/s:1us,level=c:4x8");
  static const mci_link expected[] = {{1000000000000u, 100000, 1000},
                                      {1000000000000u, 100000, 3000},
                                      {10000000000u, 1000000, 3000},
                                      {10000000000u, 1000000, 3000}};
  static const char* const names[] = {"a", "b", "c"};
  for (uint32_t c = 0; c < 4; c++) {
    mci_link link = mci_topo_class(topo, c);
    if (memcmp(&link, &expected[c], sizeof link) != 0) fail_msg("class %u", c);
    if (c < 3) assert_string_equal(mci_topo_level_name(topo, c), names[c]);
  }
  mci_topo_destroy(topo);
}

static void a_million_nodes_need_no_table(void** state) {
  (void)state;
  mci_topo* topo = parse("mesh:30000x30000@level=a:10x10,level=b:1000x500");
  assert_int_equal(mci_topo_ngroups(topo, 0), 9000000);
  assert_int_equal(mci_topo_ngroups(topo, 1), 1800);
  assert_int_equal(mci_topo_group(topo, 1, 899999999), 1799);
  assert_int_equal(mci_topo_group_rank(topo, 0, 8999999, 99), 899999999);
  mci_topo_destroy(topo);
  topo = parse("full:2000000000@level=a:1*2000000000,level=b:8*250000000");
  assert_int_equal(mci_topo_group(topo, 1, 1999999999), 249999999);
  assert_int_equal(mci_topo_group_rank(topo, 1, 249999999, 7), 1999999999);
  mci_topo_destroy(topo);
}

/* ---- parts ---- */

typedef struct {
  const char* spec;
  uint32_t n;
  uint32_t ranks[40];
  const char* expected;
} part_row;

static void parts_keep_what_is_left_of_their_levels(void** state) {
  (void)state;
  static const part_row rows[] = {
      {"full:8@level=host:4+4:1GB/s:9us", 4, {4, 5, 6, 7}, "full:4@50GB/s,500ns"},
      {"full:8@level=host:4+4:1GB/s:9us", 2, {0, 4}, "full:2@1GB/s,9us"},
      {"full:8@memory,level=host:4+4:1GB/s:9us", 2, {0, 4}, "full:2@1GB/s,9us"},
      {"full:8@memory,level=host:4+4:1GB/s:9us", 4, {4, 5, 6, 7}, "full:4@50GB/s,500ns,memory"},
      {"full:8@level=host:4+4:1GB/s:9us", 3, {0, 1, 4}, "full:3@50GB/s,500ns,level=host:2+1:1GB/s:9us"},
      {"full:8@level=host:4+4:1GB/s:9us", 4, {4, 0, 1, 5}, "full:4@50GB/s,500ns,level=host:2*2:1GB/s:9us,map=2.0.1.3"},
      {"full:8@level=host:4+4:1GB/s:9us", 8, {0, 1, 2, 3, 4, 5, 6, 7}, "full:8@50GB/s,500ns,level=host:4*2:1GB/s:9us"},
      {"full:8@level=h:2*4:2GB/s,level=r:4+4:1GB/s", 4, {0, 2, 4, 6}, "full:4@2GB/s,500ns,level=r:2*2:1GB/s:500ns"},
      {"full:8@level=h:2*4:2GB/s,level=r:4+4:1GB/s", 4, {0, 1, 4, 5}, "full:4@50GB/s,500ns,level=r:2*2:1GB/s:500ns"},
      {"mesh:4x4@level=a:2x2:1GB/s", 4, {0, 1, 4, 5}, "mesh:2x2@50GB/s,500ns"},
      {"mesh:4x4@level=a:2x2:1GB/s", 4, {5, 6, 9, 10}, "mesh:2x2@1GB/s,500ns"},
      {"mesh:4x4@level=a:2x2:1GB/s", 3, {1, 2, 3}, "line:3@50GB/s,500ns,level=a:2-1:1GB/s:500ns"},
      {"mesh:4x4@level=a:2x2:1GB/s", 3, {3, 2, 1}, "line:3@50GB/s,500ns,level=a:2-1:1GB/s:500ns,map=2.1.0"},
      {"mesh:4x4@level=a:2x2:1GB/s,level=b:2x4:2us",
       8,
       {0, 1, 2, 3, 4, 5, 6, 7},
       "mesh:2x4@50GB/s,500ns,level=a:2x2:1GB/s:500ns"},
      {"mesh:4x4@level=a:2x2:1GB/s,level=b:2x4:2us", 4, {1, 5, 9, 13}, "line:4@50GB/s,500ns,level=b:2:1GB/s:2us"},
      {"mesh:4x4@level=a:2x2:1GB/s", 2, {0, 5}, "mesh:4x4@50GB/s,500ns,pick=0.0+1.1"},
      {"mesh:4x4@level=a:2x2:1GB/s", 2, {0, 15}, "mesh:4x4@50GB/s,500ns,level=a:2x2:1GB/s:500ns,pick=0.0+3.3"},
      {"torus:4x6@level=a:2x3:1GB/s", 4, {5, 0, 11, 6}, "mesh:2x2@50GB/s,500ns,level=a:2x3-0x2:1GB/s:500ns"},
      {"ring:8@level=a:4:1GB/s", 3, {7, 0, 1}, "line:3@50GB/s,500ns,level=a:4-3:1GB/s:500ns"},
      {"ring:9@level=a:4:1GB/s", 3, {8, 0, 1}, "ring:9@50GB/s,500ns,level=a:4:1GB/s:500ns,pick=0+1+8,map=2.0.1"},
      {"torus:4x4@level=a:2x4:1GB/s", 4, {0, 1, 2, 3}, "ring:4@50GB/s,500ns"},
      {"torus:4x4@level=a:2x4:1GB/s", 1, {7}, "line:1@50GB/s,500ns"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo *topo = parse(rows[i].spec), *part = NULL;
    check_ok(mci_topo_subset(topo, rows[i].ranks, rows[i].n, &part));
    expect_text(rows[i].spec, part, rows[i].expected);
    mci_topo* again = NULL;
    mci_str text = {0};
    check_ok(mci_topo_print(part, &text));
    if (mci_topo_parse(text.text, &again) != meshcclSuccess) fail_msg("%s: %s", rows[i].spec, mci_error_last());
    expect_text(rows[i].spec, again, text.text);
    mci_str_fini(&text);
    for (uint32_t a = 0; a < rows[i].n && !strstr(rows[i].expected, "pick"); a++)
      for (uint32_t b = 0; b < rows[i].n; b++) {
        if (!mci_topo_adjacent(part, a, b)) continue;
        mci_link now = mci_topo_class(part, mci_topo_pair_class(part, a, b));
        mci_link before = mci_topo_class(topo, mci_topo_pair_class(topo, rows[i].ranks[a], rows[i].ranks[b]));
        if (memcmp(&now, &before, sizeof now) != 0)
          fail_msg("%s: the link of %u and %u has other figures in the part", rows[i].spec, a, b);
      }
    mci_topo_destroy(again);
    mci_topo_destroy(part);
    mci_topo_destroy(topo);
  }
}

static void the_undamaged_version_keeps_levels(void** state) {
  (void)state;
  mci_topo *topo = parse("mesh:4x4@level=a:2x2:1GB/s,dead=0.0,cut=2.2-2.3"), *whole;
  check_ok(mci_topo_healthy(topo, &whole));
  expect_text("healthy", whole, "mesh:4x4@50GB/s,500ns,level=a:2x2:1GB/s:500ns");
  mci_topo_destroy(whole);
  mci_topo_destroy(topo);
  topo = parse("full:4@level=a:3+1:1GB/s,map=3.2.1.0");
  check_ok(mci_topo_healthy(topo, &whole));
  expect_text("healthy", whole, "full:4@50GB/s,500ns,level=a:3+1:1GB/s:500ns");
  mci_topo_destroy(whole);
  mci_topo_destroy(topo);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
  (void)state;
  static const char* const specs[] = {"mesh:4x4@level=a:2x2,level=b:4x4,dead=0.0", "full:9@level=a:2*3+3,level=b:4+5"};
  static const uint32_t ranks[] = {3, 1, 6, 0};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    bool failed = true;
    int64_t calls = 1;
    for (; failed; calls++) {
      mci_topo *topo = NULL, *part = NULL;
      mci_alloc_fail_after(calls);
      meshcclResult_t result = mci_topo_parse(specs[i], &topo);
      if (result == meshcclSuccess) result = mci_topo_subset(topo, ranks, 4, &part);
      mci_alloc_fail_after(-1);
      failed = result != meshcclSuccess;
      if (failed) assert_int_equal(result, meshcclSystemError);
      mci_topo_destroy(part);
      mci_topo_destroy(topo);
    }
    assert_true(calls > 10);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(levels_have_one_canonical_text_that_reads_back),
      cmocka_unit_test(mistakes_name_text_place_and_remedy),
      cmocka_unit_test(groups_are_boxes_and_runs),
      cmocka_unit_test(classes_of_pairs_follow_the_way_between_them),
      cmocka_unit_test(short_ways_round_a_ring_may_leave_the_group),
      cmocka_unit_test(figures_come_per_class),
      cmocka_unit_test(a_million_nodes_need_no_table),
      cmocka_unit_test(parts_keep_what_is_left_of_their_levels),
      cmocka_unit_test(the_undamaged_version_keeps_levels),
      cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
