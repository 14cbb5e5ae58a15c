/* Bounds against brute force over all cuts and all partitions of small graphs, and against known values of large ones.
 */
#include <math.h>

#include "support/test.h"
#include "topo/bounds.h"
#include "topo/net.h"

#define MAX_NODES 12

static mci_topo* parse(const char* spec) {
  mci_topo* topo = NULL;
  if (mci_topo_parse(spec, &topo) != meshcclSuccess) fail_msg("%s: %s", spec, mci_error_last());
  return topo;
}

static double factor(const mci_topo* topo, mci_coll coll, uint32_t root, bool* exact) {
  mci_bound bound;
  check_ok(mci_bound_of(topo, coll, 1 << 20, root, &bound));
  if (exact) *exact = bound.exact;
  return bound.factor;
}

static void expect_factor(const char* spec, mci_coll coll, double wanted, double tolerance) {
  mci_topo* topo = parse(spec);
  double got = factor(topo, coll, 0, NULL);
  if (fabs(got - wanted) > tolerance) fail_msg("%s, collective %d: %.6f, expected %.6f", spec, (int)coll, got, wanted);
  mci_topo_destroy(topo);
}

/* ---- the oracle: every set, every partition ---- */

typedef struct {
  uint32_t n;
  bool joined[MAX_NODES][MAX_NODES];
} graph;

static uint32_t leaving(const graph* g, uint32_t set) {
  uint32_t links = 0;
  for (uint32_t a = 0; a < g->n; a++)
    for (uint32_t b = 0; b < g->n; b++) links += (set >> a & 1) && !(set >> b & 1) && g->joined[a][b];
  return links;
}

/* Largest value over all proper sets; `root` < n: only sets that hold it. */
static double worst_set(const graph* g, uint32_t root, double (*value)(double inside, double outside, double links)) {
  double worst = 0;
  for (uint32_t set = 1; set + 1 < 1u << g->n; set++) {
    if (root < g->n && !(set >> root & 1)) continue;
    uint32_t inside = (uint32_t)__builtin_popcount(set);
    worst = fmax(worst, value(inside, g->n - inside, leaving(g, set)));
  }
  return worst;
}

static double gather_value(double inside, double outside, double links) { return inside / (inside + outside) / links; }
static double spread_value(double inside, double outside, double links) { return outside / (inside + outside) / links; }
static double one_value(double inside, double outside, double links) {
  (void)inside;
  (void)outside;
  return 1 / links;
}
static double exchange_value(double inside, double outside, double links) {
  return inside * outside / (inside + outside) / links;
}

/* Restricted growth strings enumerate the partitions. */
static double worst_partition(const graph* g, uint32_t* part, uint32_t node, uint32_t parts) {
  if (node == g->n) {
    uint32_t links = 0;
    for (uint32_t a = 0; a < g->n; a++)
      for (uint32_t b = 0; b < a; b++) links += part[a] != part[b] && g->joined[a][b];
    return parts > 1 ? (double)(parts - 1) / links : 0;
  }
  double worst = 0;
  for (part[node] = 0; part[node] <= parts; part[node]++)
    worst = fmax(worst, worst_partition(g, part, node + 1, MCI_MAX(parts, part[node] + 1)));
  return worst;
}

static double strength_factor(const graph* g) {
  uint32_t part[MAX_NODES];
  return worst_partition(g, part, 0, 0);
}

static graph graph_of(const mci_topo* topo) {
  graph g = {.n = mci_topo_nranks(topo)};
  assert_true(g.n <= MAX_NODES);
  for (uint32_t a = 0; a < g.n; a++)
    for (uint32_t b = 0; b < g.n; b++) g.joined[a][b] = mci_topo_adjacent(topo, a, b);
  return g;
}

/* An exact bound equals the oracle's, any other is at most that. */
static void compare(const char* spec, const mci_topo* topo, mci_coll coll, uint32_t root, double wanted) {
  bool exact;
  double got = factor(topo, coll, root, &exact);
  if (got > wanted + 1e-9 || (exact && got < wanted - 1e-9))
    fail_msg("%s, collective %d, root %u: %.6f (exact %d), the worst cut says %.6f", spec, (int)coll, root, got, exact,
             wanted);
}

static void compare_all(const char* spec, const mci_topo* topo) {
  graph g = graph_of(topo);
  if (g.n < 2) return;
  double gather = worst_set(&g, UINT32_MAX, gather_value), one = worst_set(&g, UINT32_MAX, one_value);
  if (g.n <= 9) compare(spec, topo, MCI_ALL_REDUCE, 0, strength_factor(&g));
  compare(spec, topo, MCI_ALL_GATHER, 0, gather);
  compare(spec, topo, MCI_REDUCE_SCATTER, 0, gather);
  compare(spec, topo, MCI_ALL_TO_ALL, 0, worst_set(&g, UINT32_MAX, exchange_value));
  for (uint32_t root = 0; root < g.n; root++) {
    double spread = worst_set(&g, root, spread_value);
    compare(spec, topo, MCI_SCATTER, root, spread);
    compare(spec, topo, MCI_GATHER, root, spread);
    compare(spec, topo, MCI_BROADCAST, root, one);
    compare(spec, topo, MCI_REDUCE, root, one);
  }
}

static void closed_forms_equal_the_worst_cut_and_partition(void** state) {
  (void)state;
  static const char* const rows[] = {
      "ring:2",      "ring:3",          "ring:7",          "ring:12",           "line:2",
      "line:9",      "mesh:2x2",        "mesh:2x4",        "mesh:3x3",          "mesh:3x4",
      "mesh:2x6",    "mesh:1x6",        "torus:2x2",       "torus:3x3",         "torus:2x3",
      "torus:3x4",   "torus:2x5",       "torus:2x2x2",     "mesh:2x2x2",        "mesh:2x2x3",
      "torus:2x2x3", "mesh:3x4@wrap=x", "mesh:2x4@wrap=x", "mesh:2x2x3@wrap=x", "full:2",
      "full:5",      "full:8",          "ring:1",          "mesh:2x1x2x2",      "mesh:3x3@map=8.0.1.2.3.4.5.6.7"};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = parse(rows[i]);
    bool exact;
    factor(topo, MCI_ALL_TO_ALL, 0, &exact);
    assert_true(exact);
    compare_all(rows[i], topo);
    mci_topo_destroy(topo);
  }
}

/* Random holes and cuts in small grids; those in pieces must be refused. */
static void holes_never_exceed_and_when_exact_equal_the_oracle(void** state) {
  (void)state;
  static const char* const shapes[] = {"mesh:3x4", "torus:3x4", "mesh:2x2x3", "mesh:3x3",
                                       "mesh:2x5", "torus:3x3", "ring:9"};
  uint64_t random = test_seed();
  int compared = 0;
  for (int round = 0; round < 150; round++) {
    mci_topo* grid = parse(shapes[test_random(&random) % MCI_COUNT(shapes)]);
    uint32_t n = mci_topo_nranks(grid), ndims = mci_topo_ndims(grid), coords[MCI_MAX_DIMS], peers[8];
    mci_str spec = {0};
    check_ok(mci_topo_print(grid, &spec));
    uint32_t victim = (uint32_t)(test_random(&random) % n), other = (uint32_t)(test_random(&random) % n);
    mci_topo_coords(grid, victim, coords);
    mci_str_add(&spec, ",dead=");
    for (uint32_t d = 0; d < ndims; d++) mci_str_add(&spec, "%s%u", d ? "." : "", coords[d]);
    uint32_t degree = mci_topo_neighbors(grid, other, peers, 8);
    uint32_t peer = peers[test_random(&random) % degree];
    mci_topo_coords(grid, other, coords);
    mci_str_add(&spec, ",cut=");
    for (uint32_t d = 0; d < ndims; d++) mci_str_add(&spec, "%s%u", d ? "." : "", coords[d]);
    mci_topo_coords(grid, peer, coords);
    for (uint32_t d = 0; d < ndims; d++) mci_str_add(&spec, "%s%u", d ? "." : "-", coords[d]);
    mci_topo* topo = parse(spec.text);
    if (mci_topo_connected(topo)) {
      compare_all(spec.text, topo);
      compared++;
    } else {
      mci_bound bound;
      check_fails(mci_bound_of(topo, MCI_ALL_REDUCE, 1, 0, &bound), meshcclInvalidArgument, "in pieces");
    }
    mci_topo_destroy(topo);
    mci_topo_destroy(grid);
    mci_str_fini(&spec);
  }
  assert_true(compared > 50);
}

static void cuts_of_random_graphs_equal_the_oracle(void** state) {
  (void)state;
  uint64_t random = test_seed();
  for (int round = 0; round < 300; round++) {
    graph g = {.n = 2 + (uint32_t)(test_random(&random) % 7)};
    uint32_t links[MAX_NODES * MAX_NODES][2], nlinks = 0;
    uint64_t density = 1 + test_random(&random) % 4;
    for (uint32_t a = 1; a < g.n; a++) {
      uint32_t parent = (uint32_t)(test_random(&random) % a);
      for (uint32_t b = 0; b < a; b++) {
        if (b != parent && test_random(&random) % 4 >= density) continue;
        g.joined[a][b] = g.joined[b][a] = true;
        links[nlinks][0] = a;
        links[nlinks++][1] = b;
      }
    }
    mci_net net = {.nnodes = g.n, .nlinks = nlinks, .link = links};
    mci_ratio ratio;
    check_ok(mci_net_strength(&net, &ratio));
    assert_true(fabs((double)ratio.den / (double)ratio.num - strength_factor(&g)) < 1e-9);
    uint32_t least, larger;
    check_ok(mci_net_min_cut(&net, &least, &larger));
    assert_true(fabs(1.0 / least - worst_set(&g, UINT32_MAX, one_value)) < 1e-9);
    for (uint32_t root = 0; root < g.n; root++) {
      ratio = (mci_ratio){0, 1};
      check_ok(mci_net_spread(&net, root, &ratio));
      assert_true(fabs((double)ratio.num / (double)ratio.den / g.n - worst_set(&g, root, spread_value)) < 1e-9);
    }
  }
}

static void table_of_known_optima(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    mci_coll coll;
    double factor;
  } rows[] = {
      {"mesh:5x5", MCI_ALL_REDUCE, 0.6000},
      {"mesh:8x8", MCI_ALL_REDUCE, 0.5625},
      {"mesh:9x9", MCI_ALL_REDUCE, 0.55556},
      {"mesh:10x15", MCI_ALL_REDUCE, 0.54182},
      {"mesh:18x20", MCI_ALL_REDUCE, 0.52639},
      {"mesh:50x60", MCI_ALL_REDUCE, 0.50917},
      {"mesh:3x4x5", MCI_ALL_REDUCE, 59.0 / 133},
      {"torus:8x8", MCI_ALL_REDUCE, 63.0 / 128},
      {"torus:4x4x4", MCI_ALL_REDUCE, 63.0 / 192},
      {"ring:8", MCI_ALL_REDUCE, 7.0 / 8},
      {"line:8", MCI_ALL_REDUCE, 1},
      {"full:8", MCI_ALL_REDUCE, 0.25},
      {"mesh:8x8", MCI_ALL_GATHER, 63.0 / 128},
      {"torus:8x8", MCI_REDUCE_SCATTER, 63.0 / 256},
      {"mesh:4x4x4", MCI_ALL_GATHER, 63.0 / 192},
      {"ring:8", MCI_ALL_GATHER, 7.0 / 16},
      {"line:8", MCI_ALL_GATHER, 7.0 / 8},
      {"ring:8", MCI_BROADCAST, 0.5},
      {"torus:4x4x4", MCI_REDUCE, 1.0 / 6},
      {"mesh:8x8", MCI_BROADCAST, 0.5},
      {"line:8", MCI_BROADCAST, 1},
      {"ring:8", MCI_ALL_TO_ALL, 1},
      {"ring:7", MCI_ALL_TO_ALL, 48.0 / 56},
      {"torus:6x10", MCI_ALL_TO_ALL, 10.0 / 8},
      {"mesh:5x7", MCI_ALL_TO_ALL, 12.0 / 7},
      {"full:8", MCI_ALL_TO_ALL, 1.0 / 8},
      {"mesh:8x8", MCI_GATHER, 63.0 / 128},
      {"ring:8", MCI_SCATTER, 7.0 / 16},
      {"mesh:8x8", MCI_BARRIER, 0},
      {"ring:1", MCI_ALL_REDUCE, 0},
      {"mesh:1000x1062", MCI_ALL_REDUCE, 1061999.0 / 2121938},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) expect_factor(rows[i].spec, rows[i].coll, rows[i].factor, 1e-5);
}

/* Inverse strength after single faults, by position, and of larger grids. */
static void known_losses_to_dead_dies(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    double factor;
  } rows[] = {{"mesh:5x5@dead=0.0", 0.605},
              {"mesh:5x5@dead=0.1", 1.000},
              {"mesh:5x5@dead=0.2", 0.667},
              {"mesh:5x5@dead=1.1", 0.750},
              {"mesh:5x5@dead=1.2", 0.643},
              {"mesh:5x5@dead=2.2", 0.639},
              {"mesh:5x5@dead=0.1+0.0", 0.611},
              {"mesh:5x5@dead=1.1+0.0", 1.000},
              {"mesh:5x5@dead=0.0+0.1+1.0+1.1", 0.625},
              {"mesh:10x15@dead=4.7", 0.546},
              {"mesh:10x15@dead=4.7+4.8+5.7+5.8", 0.551},
              {"torus:8x8@dead=3.3", 0.500}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) expect_factor(rows[i].spec, MCI_ALL_REDUCE, rows[i].factor, 0.0006);
  expect_factor("torus:8x8@dead=3.3", MCI_ALL_GATHER, 0.328, 0.001);
}

static void large_grids_with_holes_still_have_bounds(void** state) {
  (void)state;
  /* The 15 nodes left of the 4x4 corner block, each alone, against all others: 28 links, 16 parts. */
  expect_factor("mesh:54x55@dead=3.3+20.20+40.41", MCI_ALL_REDUCE, 15.0 / 28, 1e-9);
  /* Far from the border single nodes are the worst partition again. */
  expect_factor("mesh:54x55@dead=15.15+20.30+40.41", MCI_ALL_REDUCE, 2966.0 / (54 * 54 + 53 * 55 - 12), 1e-9);
  expect_factor("mesh:100x100@dead=50.50", MCI_ALL_REDUCE, 0.5051, 0.0005);
  expect_factor("mesh:100x100@dead=50.50", MCI_ALL_GATHER, 0.49995, 0.0005);
  expect_factor("mesh:100x100@dead=50.50", MCI_ALL_TO_ALL, 25, 0.3);
}

static void picked_ranks_count_their_ports_only(void** state) {
  (void)state;
  mci_topo* topo = parse("mesh:5x5@pick=0.0+2.2+4.4");
  bool exact;
  assert_true(fabs(factor(topo, MCI_ALL_REDUCE, 0, &exact) - 0.5) < 1e-9);
  assert_false(exact);
  assert_true(fabs(factor(topo, MCI_SCATTER, 1, NULL) - 2.0 / 3 / 4) < 1e-9);
  mci_topo_destroy(topo);
}

static void time_is_the_larger_of_bytes_and_hops(void** state) {
  (void)state;
  mci_topo* topo = parse("mesh:5x5@50GB/s,500ns");
  mci_bound bound;
  check_ok(mci_bound_of(topo, MCI_ALL_REDUCE, 50000000, 0, &bound));
  assert_int_equal(bound.bandwidth_ps, 600000000);
  assert_int_equal(bound.latency_ps, 4000000);
  assert_int_equal(bound.bound_ps, 600000000);
  check_ok(mci_bound_of(topo, MCI_BROADCAST, 8, 12, &bound));
  assert_int_equal(bound.latency_ps, 2000000);
  assert_int_equal(bound.bound_ps, 2000000);
  check_ok(mci_bound_of(topo, MCI_BROADCAST, 8, 0, &bound));
  assert_int_equal(bound.latency_ps, 4000000);
  check_ok(mci_bound_of(topo, MCI_BARRIER, 0, 0, &bound));
  assert_int_equal(bound.bound_ps, 4000000);
  check_fails(mci_bound_of(topo, MCI_REDUCE, 8, 25, &bound), meshcclInvalidArgument, "root 25");
  check_fails(mci_bound_of(topo, MCI_SEND_RECV, 8, 0, &bound), meshcclInvalidArgument, "collectives of all ranks");
  mci_topo_destroy(topo);
  topo = parse("line:2147483647@1B/s,1000s");
  check_ok(mci_bound_of(topo, MCI_ALL_TO_ALL, UINT64_MAX, 0, &bound));
  assert_true(bound.bandwidth_ps == UINT64_MAX && bound.latency_ps == UINT64_MAX);
  mci_topo_destroy(topo);
}

static void each_failing_allocation_is_reported(void** state) {
  (void)state;
  mci_topo* topo = parse("mesh:3x4@dead=0.1");
  for (int coll = 0; coll < MCI_BARRIER; coll++) {
    mci_bound bound;
    for (int64_t n = 1;; n++) {
      mci_alloc_fail_after(n);
      meshcclResult_t result = mci_bound_of(topo, (mci_coll)coll, 8, 0, &bound);
      mci_alloc_fail_after(-1);
      if (result == meshcclSuccess) break;
      assert_int_equal(result, meshcclSystemError);
    }
  }
  mci_topo_destroy(topo);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(closed_forms_equal_the_worst_cut_and_partition),
      cmocka_unit_test(holes_never_exceed_and_when_exact_equal_the_oracle),
      cmocka_unit_test(cuts_of_random_graphs_equal_the_oracle),
      cmocka_unit_test(table_of_known_optima),
      cmocka_unit_test(known_losses_to_dead_dies),
      cmocka_unit_test(large_grids_with_holes_still_have_bounds),
      cmocka_unit_test(picked_ranks_count_their_ports_only),
      cmocka_unit_test(time_is_the_larger_of_bytes_and_hops),
      cmocka_unit_test(each_failing_allocation_is_reported),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
