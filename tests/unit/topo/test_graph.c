/* Topology queries against an oracle that joins nodes by their coordinates and searches; parts of topologies. */
#include <pthread.h>

#include "specs.h"

#define MAX_RANKS 512

static const char* const whole[] = {"ring:1",
                                    "ring:2",
                                    "ring:3",
                                    "ring:8",
                                    "line:1",
                                    "line:5",
                                    "mesh:5x5",
                                    "mesh:1x7",
                                    "mesh:2x2",
                                    "torus:4x4",
                                    "torus:2x2",
                                    "torus:1x5",
                                    "torus:3x7",
                                    "torus:2x3x4",
                                    "mesh:3x1x4",
                                    "mesh:2x3x2x3",
                                    "torus:3x3x2x4",
                                    "mesh:3x4@wrap=x",
                                    "mesh:4x3x5@wrap=yz"};

/* Whether two live nodes have a link, from the definition. */
static bool joined(const mci_topo* topo, uint32_t a, uint32_t b) {
  uint32_t x[MCI_MAX_DIMS], y[MCI_MAX_DIMS], differing = 0;
  bool near = false;
  mci_topo_coords(topo, a, x);
  mci_topo_coords(topo, b, y);
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    if (x[d] == y[d]) continue;
    differing++;
    uint32_t gap = x[d] > y[d] ? x[d] - y[d] : y[d] - x[d];
    near = gap == 1 || (mci_topo_wraps(topo, d) && gap == mci_topo_side(topo, d) - 1);
  }
  return differing == 1 && near;
}

static void search(const mci_topo* topo, uint32_t source, uint32_t* dist) {
  uint32_t n = mci_topo_nranks(topo), queue[MAX_RANKS], tail = 0;
  for (uint32_t i = 0; i < n; i++) dist[i] = UINT32_MAX;
  dist[source] = 0;
  queue[tail++] = source;
  for (uint32_t head = 0; head < tail; head++)
    for (uint32_t next = 0; next < n; next++)
      if (dist[next] == UINT32_MAX && mci_topo_adjacent(topo, queue[head], next)) {
        dist[next] = dist[queue[head]] + 1;
        queue[tail++] = next;
      }
}

/* Distances, eccentricities and diameter must be those of the links that adjacent() admits. */
static void expect_distances(const mci_topo* topo, const char* name) {
  uint32_t n = mci_topo_nranks(topo), dist[MAX_RANKS], diameter = 0;
  assert_true(n <= MAX_RANKS);
  for (uint32_t a = 0; a < n; a++) {
    uint32_t most = 0;
    search(topo, a, dist);
    for (uint32_t b = 0; b < n; b++) {
      most = MCI_MAX(most, dist[b]);
      if (mci_topo_hops(topo, a, b) != dist[b])
        fail_msg("%s: %u to %u takes %u hops, not %u", name, a, b, dist[b], mci_topo_hops(topo, a, b));
    }
    if (mci_topo_eccentricity(topo, a) != most) fail_msg("%s: eccentricity of %u is %u", name, a, most);
    diameter = MCI_MAX(diameter, most);
  }
  if (mci_topo_diameter(topo) != diameter)
    fail_msg("%s: diameter is %u, not %u", name, diameter, mci_topo_diameter(topo));
  assert_int_equal(mci_topo_connected(topo), diameter != UINT32_MAX);
}

static void whole_grids_agree_with_their_definition(void** state) {
  (void)state;
  for (size_t i = 0; i < MCI_COUNT(whole); i++) {
    mci_topo* topo = parse(whole[i]);
    uint32_t n = mci_topo_nranks(topo), low = UINT32_MAX, high = 0, peers[2 * MCI_MAX_DIMS];
    uint64_t ends = 0;
    for (uint32_t a = 0; a < n; a++) {
      uint32_t degree = mci_topo_neighbors(topo, a, peers, MCI_COUNT(peers)), wanted = 0;
      for (uint32_t b = 0; b < n; b++) {
        wanted += joined(topo, a, b);
        if (joined(topo, a, b) != mci_topo_adjacent(topo, a, b)) fail_msg("%s: link %u-%u", whole[i], a, b);
      }
      if (degree != wanted) fail_msg("%s: rank %u has %u neighbours, not %u", whole[i], a, wanted, degree);
      uint32_t coords[MCI_MAX_DIMS];
      mci_topo_coords(topo, a, coords);
      assert_int_equal(mci_topo_rank_at(topo, coords), a);
      ends += degree;
      low = MCI_MIN(low, degree);
      high = MCI_MAX(high, degree);
    }
    uint32_t got_low, got_high;
    mci_topo_degrees(topo, &got_low, &got_high);
    if (mci_topo_nlinks(topo) != ends / 2 || got_low != low || got_high != high)
      fail_msg("%s: links or degrees", whole[i]);
    expect_distances(topo, whole[i]);
    mci_topo_destroy(topo);
  }
}

static void a_side_of_two_has_one_link(void** state) {
  (void)state;
  mci_topo* topo = parse("torus:2x2");
  uint32_t peers[8];
  assert_int_equal(mci_topo_neighbors(topo, 0, peers, 8), 2);
  assert_int_equal(mci_topo_nlinks(topo), 4);
  assert_false(mci_topo_wraps(topo, 0));
  mci_topo_destroy(topo);
}

static void neighbours_come_by_dimension_then_direction(void** state) {
  (void)state;
  mci_topo* topo = parse("torus:3x4");
  uint32_t peers[8];
  assert_int_equal(mci_topo_neighbors(topo, 0, peers, 8), 4);
  static const uint32_t wanted[] = {8, 4, 3, 1};
  assert_memory_equal(peers, wanted, sizeof wanted);
  assert_int_equal(mci_topo_neighbors(topo, 0, peers, 1), 4);
  mci_topo_destroy(topo);
}

static void holes_and_cuts_are_gone_for_every_query(void** state) {
  (void)state;
  static const char* const rows[] = {"mesh:5x5@dead=2.3+4.1,cut=0.0-0.1",
                                     "torus:4x5@dead=0.0+3.4+1.1",
                                     "ring:9@dead=4",
                                     "ring:9@cut=8-0",
                                     "mesh:3x3@dead=0.1+1.0",
                                     "mesh:3x3x3@dead=1.1.1,cut=0.0.0-0.0.1",
                                     "mesh:4x4@wrap=x,dead=0.0,cut=1.3-1.0"};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = parse(rows[i]);
    assert_false(mci_topo_is_regular(topo));
    expect_distances(topo, rows[i]);
    mci_topo_destroy(topo);
  }
  mci_topo* topo = parse("mesh:5x5@dead=2.3+4.1,cut=0.0-0.1");
  assert_int_equal(mci_topo_nranks(topo), 23);
  uint32_t coords[MCI_MAX_DIMS];
  int64_t rank = 0;
  for (coords[0] = 0; coords[0] < 5; coords[0]++)
    for (coords[1] = 0; coords[1] < 5; coords[1]++) {
      bool dead = (coords[0] == 2 && coords[1] == 3) || (coords[0] == 4 && coords[1] == 1);
      assert_int_equal(mci_topo_rank_at(topo, coords), dead ? -1 : rank++);
    }
  assert_false(mci_topo_adjacent(topo, 0, 1));
  assert_int_equal(mci_topo_hops(topo, 0, 1), 3);
  mci_topo_destroy(topo);
  topo = parse("mesh:3x3@dead=0.1+1.0");
  assert_false(mci_topo_connected(topo));
  assert_true(mci_topo_hops(topo, 0, 1) == UINT32_MAX);
  mci_topo_destroy(topo);
}

static void a_rank_map_moves_ranks_and_nothing_else(void** state) {
  (void)state;
  mci_topo* topo = parse("mesh:2x3@map=5.0.3.1.2.4");
  uint32_t coords[MCI_MAX_DIMS];
  mci_topo_coords(topo, 0, coords);
  assert_int_equal(coords[0] * 10 + coords[1], 12);
  for (uint32_t rank = 0; rank < 6; rank++) {
    mci_topo_coords(topo, rank, coords);
    assert_int_equal(mci_topo_rank_at(topo, coords), rank);
  }
  assert_true(mci_topo_is_mapped(topo));
  assert_true(mci_topo_is_regular(topo));
  expect_distances(topo, "mesh:2x3 mapped");
  static const uint32_t identity[] = {0, 1, 2, 3, 4, 5}, twice[] = {0, 1, 2, 3, 4, 4}, outside[] = {0, 1, 2, 3, 4, 6};
  check_fails(mci_topo_set_map(topo, twice, 6), meshcclInvalidArgument, "repeats node 4");
  check_fails(mci_topo_set_map(topo, outside, 6), meshcclInvalidArgument, "entry 5");
  check_fails(mci_topo_set_map(topo, identity, 5), meshcclInvalidArgument, "6 ranks");
  assert_true(mci_topo_is_mapped(topo));
  check_ok(mci_topo_set_map(topo, identity, 6));
  assert_false(mci_topo_is_mapped(topo));
  mci_topo_destroy(topo);
}

static void full_graphs_join_every_pair(void** state) {
  (void)state;
  mci_topo* topo;
  check_ok(mci_topo_full(5, &topo));
  uint32_t peers[8];
  assert_int_equal(mci_topo_neighbors(topo, 2, peers, 8), 4);
  static const uint32_t wanted[] = {0, 1, 3, 4};
  assert_memory_equal(peers, wanted, sizeof wanted);
  assert_int_equal(mci_topo_nlinks(topo), 10);
  assert_int_equal(mci_topo_hops(topo, 4, 1), 1);
  assert_int_equal(mci_topo_diameter(topo), 1);
  assert_int_equal(mci_topo_ndims(topo), 0);
  assert_true(mci_topo_is_full(topo) && mci_topo_is_regular(topo) && mci_topo_connected(topo));
  expect_distances(topo, "full:5");
  mci_topo_destroy(topo);
  check_fails(mci_topo_full(0, &topo), meshcclInvalidArgument, "allowed are 1");
}

static void a_million_nodes_cost_a_few_bytes(void** state) {
  (void)state;
  mci_alloc_fail_after(4); /* few allocations, whatever the size */
  mci_topo* topo = parse("mesh:1000x1062");
  mci_alloc_fail_after(-1);
  assert_int_equal(mci_topo_nranks(topo), 1062000);
  assert_int_equal(mci_topo_diameter(topo), 2060);
  assert_int_equal(mci_topo_hops(topo, 0, 1061999), 2060);
  assert_int_equal(mci_topo_nlinks(topo), 2 * 1062000 - 2062);
  uint32_t peers[4], coords[MCI_MAX_DIMS];
  mci_topo_coords(topo, 531000, coords);
  assert_int_equal(coords[0], 500);
  assert_int_equal(mci_topo_neighbors(topo, 531000, peers, 4), 3);
  mci_topo_destroy(topo);
  topo = parse("ring:2147483647");
  assert_int_equal(mci_topo_hops(topo, 0, 2147483646), 1);
  mci_topo_destroy(topo);
}

/* Parts: parent, ranks, text of the part. */
static void parts_keep_the_geometry_they_span(void** state) {
  (void)state;
  static const struct {
    const char* parent;
    uint32_t n, ranks[12];
    const char* text;
  } rows[] = {
      {"torus:4x4", 4, {4, 5, 6, 7}, "ring:4@50GB/s,500ns"},
      {"torus:4x4", 4, {1, 5, 9, 13}, "ring:4@50GB/s,500ns"},
      {"mesh:5x5", 5, {5, 6, 7, 8, 9}, "line:5@50GB/s,500ns"},
      {"mesh:5x5@2TB/s,1us,o=1ns,neighbours", 4, {6, 7, 11, 12}, "mesh:2x2@2TB/s,1us,o=1ns,neighbours"},
      {"torus:4x4", 8, {4, 5, 6, 7, 8, 9, 10, 11}, "mesh:2x4@50GB/s,500ns,wrap=x"},
      {"torus:4x4", 4, {3, 0, 7, 4}, "mesh:2x2@50GB/s,500ns"},
      {"torus:4x4", 3, {1, 2, 3}, "line:3@50GB/s,500ns"},
      {"ring:6", 4, {4, 5, 0, 1}, "line:4@50GB/s,500ns"},
      {"ring:6", 4, {0, 1, 4, 5}, "line:4@50GB/s,500ns,map=2.3.0.1"},
      {"ring:6", 6, {5, 4, 3, 2, 1, 0}, "ring:6@50GB/s,500ns,map=5.4.3.2.1.0"},
      {"ring:6", 3, {0, 2, 4}, "ring:6@50GB/s,500ns,pick=0+2+4"},
      {"mesh:3x3", 1, {4}, "line:1@50GB/s,500ns"},
      {"mesh:3x3", 3, {8, 0, 4}, "mesh:3x3@50GB/s,500ns,pick=0.0+1.1+2.2,map=2.0.1"},
      {"mesh:3x3@map=8.7.6.5.4.3.2.1.0", 3, {0, 1, 2}, "line:3@50GB/s,500ns,map=2.1.0"},
      {"mesh:3x3@dead=1.1", 3, {0, 1, 2}, "line:3@50GB/s,500ns"},
      {"mesh:3x3@dead=1.1", 2, {3, 4}, "mesh:3x3@50GB/s,500ns,dead=1.1,pick=1.0+1.2"},
      {"mesh:3x3@dead=1.1", 8, {7, 6, 5, 4, 3, 2, 1, 0}, "mesh:3x3@50GB/s,500ns,dead=1.1,map=7.6.5.4.3.2.1.0"},
      {"mesh:3x3@cut=0.0-0.1", 2, {0, 1}, "mesh:3x3@50GB/s,500ns,cut=0.0-0.1,pick=0.0+0.1"},
      {"mesh:3x3@cut=0.0-0.1", 2, {1, 2}, "line:2@50GB/s,500ns"},
      {"ring:5@cut=4-0", 5, {0, 1, 2, 3, 4}, "ring:5@50GB/s,500ns,cut=4-0"},
      {"ring:5@cut=4-0", 4, {0, 1, 2, 3}, "line:4@50GB/s,500ns"},
      {"torus:2x3x4", 12, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, "torus:3x4@50GB/s,500ns"},
      {"mesh:5x5@pick=0.0+0.1+0.2+4.4", 3, {0, 1, 2}, "line:3@50GB/s,500ns"},
      {"mesh:5x5@pick=0.0+0.1+0.2+4.4", 2, {3, 0}, "mesh:5x5@50GB/s,500ns,pick=0.0+4.4,map=1.0"},
      {"full:5", 3, {4, 0, 2}, "full:3@50GB/s,500ns"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo *parent = parse(rows[i].parent), *part;
    check_ok(mci_topo_subset(parent, rows[i].ranks, rows[i].n, &part));
    expect_text(rows[i].parent, part, rows[i].text);
    assert_int_equal(mci_topo_nranks(part), rows[i].n);
    for (uint32_t a = 0; a < rows[i].n; a++)
      for (uint32_t b = 0; b < rows[i].n; b++)
        if (mci_topo_adjacent(part, a, b) != mci_topo_adjacent(parent, rows[i].ranks[a], rows[i].ranks[b]))
          fail_msg("%s, part %zu: link %u-%u differs from the parent's", rows[i].parent, i, a, b);
    mci_topo_destroy(part);
    mci_topo_destroy(parent);
  }
}

static void picked_ranks_route_through_the_others(void** state) {
  (void)state;
  mci_topo* topo = parse("mesh:3x3@pick=0.0+0.2+2.2,dead=1.1");
  assert_int_equal(mci_topo_hops(topo, 0, 1), 2);
  assert_int_equal(mci_topo_hops(topo, 0, 2), 4);
  assert_int_equal(mci_topo_diameter(topo), 4);
  assert_int_equal(mci_topo_nlinks(topo), 0);
  assert_true(mci_topo_connected(topo));
  mci_topo_destroy(topo);
  topo = parse("mesh:3x3@pick=0.0+0.2+2.2,neighbours");
  assert_false(mci_topo_connected(topo));
  mci_topo_destroy(topo);
}

static void* ask_everything(void* arg) {
  const mci_topo* topo = arg;
  uint32_t n = mci_topo_nranks(topo);
  uint64_t sum = mci_topo_diameter(topo);
  for (uint32_t a = 0; a < n; a++)
    for (uint32_t b = 0; b < n; b++) sum += mci_topo_hops(topo, a, b) * (uint64_t)(a * n + b);
  return (void*)(uintptr_t)sum;
}

static void threads_that_ask_at_once_get_the_same_answers(void** state) {
  (void)state;
  mci_topo* topo = parse("mesh:6x6@dead=1.1+1.2+2.4+4.1,cut=3.3-3.4");
  pthread_t threads[4];
  for (size_t i = 0; i < MCI_COUNT(threads); i++)
    assert_int_equal(pthread_create(&threads[i], NULL, ask_everything, topo), 0);
  void *answers[MCI_COUNT(threads)], *alone;
  for (size_t i = 0; i < MCI_COUNT(threads); i++) assert_int_equal(pthread_join(threads[i], &answers[i]), 0);
  alone = ask_everything(topo);
  for (size_t i = 0; i < MCI_COUNT(threads); i++) assert_ptr_equal(answers[i], alone);
  mci_topo_destroy(topo);
}

static void damage_is_undone_by_healthy(void** state) {
  (void)state;
  mci_topo *topo = parse("mesh:3x3@2TB/s,1ns,dead=1.1,cut=0.0-0.1,neighbours"), *healthy;
  assert_int_equal(mci_topo_ndead(topo) * 10 + mci_topo_ncut(topo), 11);
  check_ok(mci_topo_healthy(topo, &healthy));
  expect_text("healthy", healthy, "mesh:3x3@2TB/s,1ns,neighbours");
  assert_true(mci_topo_is_regular(healthy));
  mci_topo_destroy(healthy);
  mci_topo_destroy(topo);
}

static void bad_parts_are_refused_by_name(void** state) {
  (void)state;
  mci_topo *topo = parse("mesh:2x2"), *part = NULL;
  static const uint32_t twice[] = {1, 1}, outside[] = {0, 4};
  check_fails(mci_topo_subset(topo, twice, 2, &part), meshcclInvalidArgument, "listed twice");
  check_fails(mci_topo_subset(topo, outside, 2, &part), meshcclInvalidArgument, "rank 4");
  check_fails(mci_topo_subset(topo, twice, 0, &part), meshcclInvalidArgument, "at least one");
  assert_null(part);
  static const uint32_t ranks[] = {0, 3};
  for (int64_t n = 1;; n++) {
    mci_alloc_fail_after(n);
    meshcclResult_t result = mci_topo_subset(topo, ranks, 2, &part);
    mci_alloc_fail_after(-1);
    if (result == meshcclSuccess) break;
    assert_int_equal(result, meshcclSystemError);
  }
  mci_topo_destroy(part);
  mci_topo_destroy(topo);
}

static void drawings_show_links_holes_and_rings(void** state) {
  (void)state;
  static const char* const rows[][2] = {
      {"mesh:2x3", "0 -- 1 -- 2\n|    |    |\n3 -- 4 -- 5\n"},
      {"mesh:3x3@dead=1.1,cut=0.0-0.1", "0    1 -- 2\n|         |\n3    x    4\n|         |\n5 -- 6 -- 7\n"},
      {"torus:3x3",
       "  |    |    |\n- 0 -- 1 -- 2 -\n  |    |    |\n- 3 -- 4 -- 5 -\n  |    |    |\n- 6 -- 7 -- 8 -\n  |    |    "
       "|\n"},
      {"ring:3@pick=0+2", "- 0 -- o -- 1 -\n"},
      {"mesh:2x2x2", ""},
      {"full:3", ""},
      {"mesh:2x41", ""},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = parse(rows[i][0]);
    mci_str out = {0};
    check_ok(mci_topo_draw(topo, &out));
    if (strcmp(out.text, rows[i][1]) != 0) fail_msg("%s drawn as\n%s", rows[i][0], out.text);
    mci_str_fini(&out);
    mci_topo_destroy(topo);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(whole_grids_agree_with_their_definition),
      cmocka_unit_test(a_side_of_two_has_one_link),
      cmocka_unit_test(neighbours_come_by_dimension_then_direction),
      cmocka_unit_test(holes_and_cuts_are_gone_for_every_query),
      cmocka_unit_test(a_rank_map_moves_ranks_and_nothing_else),
      cmocka_unit_test(full_graphs_join_every_pair),
      cmocka_unit_test(a_million_nodes_cost_a_few_bytes),
      cmocka_unit_test(parts_keep_the_geometry_they_span),
      cmocka_unit_test(picked_ranks_route_through_the_others),
      cmocka_unit_test(threads_that_ask_at_once_get_the_same_answers),
      cmocka_unit_test(damage_is_undone_by_healthy),
      cmocka_unit_test(bad_parts_are_refused_by_name),
      cmocka_unit_test(drawings_show_links_holes_and_rings),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
