/* Bounds against brute force over all cuts and all partitions of small graphs, and against known values of large ones.
 */
#include <math.h>

#include "specs.h"
#include "support/test.h"
#include "topo/bounds.h"
#include "topo/net.h"

#define MAX_NODES 12

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
  double joined[MAX_NODES][MAX_NODES];       /* rate of the link, 0: none */
  uint32_t nplanes, members[MCI_MAX_PLANES]; /* members: bit per node */
  double port[MCI_MAX_PLANES];
} graph;

/* What the planes let out of a set. */
static double crossing(const graph* g, uint32_t set) {
  double sum = 0;
  for (uint32_t p = 0; p < g->nplanes; p++) {
    int inside = __builtin_popcount(g->members[p] & set), all = __builtin_popcount(g->members[p]);
    sum += g->port[p] * MCI_MIN(inside, all - inside);
  }
  return sum;
}

static double leaving(const graph* g, uint32_t set) {
  double links = crossing(g, set);
  for (uint32_t a = 0; a < g->n; a++)
    for (uint32_t b = 0; b < g->n; b++) links += (set >> a & 1) && !(set >> b & 1) ? g->joined[a][b] : 0;
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
    double links = 0;
    for (uint32_t a = 0; a < g->n; a++)
      for (uint32_t b = 0; b < a; b++) links += part[a] != part[b] ? g->joined[a][b] : 0;
    for (uint32_t i = 0; i < parts && g->nplanes; i++) {
      uint32_t set = 0;
      for (uint32_t a = 0; a < g->n; a++) set |= part[a] == i ? 1u << a : 0;
      links += crossing(g, set) / 2;
    }
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
  double base = (double)mci_topo_link(topo).bw_Bps;
  for (uint32_t a = 0; a < g.n; a++) {
    uint32_t peers[MAX_NODES], n = mci_topo_neighbors(topo, a, peers, MAX_NODES);
    for (uint32_t i = 0; i < n; i++)
      g.joined[a][peers[i]] = (double)mci_topo_class(topo, mci_topo_pair_class(topo, a, peers[i])).bw_Bps / base;
  }
  g.nplanes = mci_topo_nplanes(topo);
  for (uint32_t p = 0; p < g.nplanes; p++) {
    g.port[p] = (double)mci_topo_plane_link(topo, p).bw_Bps / base;
    for (uint32_t a = 0; a < g.n; a++) g.members[p] |= mci_topo_in_plane(topo, p, a) ? 1u << a : 0;
  }
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

static void unequal_links_never_exceed_and_when_exact_equal_the_oracle(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    bool exact; /* all-reduce and broadcast */
  } rows[] = {
      {"line:6@level=a:3:20GB/s", true},
      {"ring:8@level=a:4:5GB/s", true},
      {"mesh:3x3@level=a:2x2:10GB/s", true},
      {"mesh:2x4@level=a:1x2:70GB/s,level=b:2x2:3GB/s", true},
      {"mesh:3x3@level=a:1x2:10GB/s,dead=0.1", true},
      {"torus:3x3@level=a:2x2:60GB/s,cut=0.0-0.1,map=8.7.6.5.4.3.2.1.0", true},
      {"mesh:3x3@1PB/s,level=a:2x2:7B/s", false},
      {"mesh:3x3@7B/s,level=a:2x2:1PB/s", false},
      {"mesh:3x3@plane=s:10GB/s:1us:*.0", false},
      {"mesh:2x4@apart=y,plane=s:10GB/s:1us:*.0+*.3", false},
      {"mesh:3x3@level=a:1x3:10GB/s,apart=y,plane=s:5GB/s:*.*", false},
      {"mesh:2x4@apart=x,plane=s:5GB/s:0.*,plane=t:7GB/s:1.*", false},
      {"mesh:3x3@apart=y,plane=s:10GB/s:1us:*.0,plane=t:20GB/s:*.2,dead=1.1", false},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = parse(rows[i].spec);
    bool reduce, broadcast;
    factor(topo, MCI_ALL_REDUCE, 0, &reduce);
    factor(topo, MCI_BROADCAST, 0, &broadcast);
    if (reduce != rows[i].exact || broadcast != rows[i].exact) fail_msg("%s: exact %d", rows[i].spec, reduce);
    compare_all(rows[i].spec, topo);
    mci_topo_destroy(topo);
  }
}

/* Values of single cuts, by hand. */
static void packaged_machines_have_known_bounds(void** state) {
  (void)state;
  /* A tray with slower seams: the partition into single dies. */
  expect_factor("mesh:10x15@2TB/s,level=tile:5x5:1.8TB/s", MCI_ALL_REDUCE, 0.5488, 0.0002);
  expect_factor("mesh:10x15@2TB/s,level=tile:5x5:0.9TB/s", MCI_ALL_REDUCE, 0.5826, 0.0002);
  /* Two hosts share two ports: 2 (k - 1) N over k ports. */
  expect_factor("full:8@50GB/s,level=host:4+4:12.5GB/s", MCI_ALL_REDUCE, 4, 1e-9);
  expect_factor("full:12@50GB/s,level=host:4+4+4:12.5GB/s", MCI_ALL_REDUCE, 16.0 / 3, 1e-9);
  expect_factor("full:8@50GB/s,level=host:4+4:12.5GB/s", MCI_ALL_GATHER, 2, 1e-9);
  expect_factor("full:8@50GB/s,level=host:5+3:12.5GB/s", MCI_ALL_GATHER, 2.5, 1e-9);
  expect_factor("full:8@50GB/s,level=host:4+4:12.5GB/s", MCI_ALL_TO_ALL, 8, 1e-9);
  expect_factor("full:8@50GB/s,level=host:4+4:12.5GB/s", MCI_BROADCAST, 4, 1e-9);
  expect_factor("full:8@50GB/s,level=host:5+3:12.5GB/s", MCI_GATHER, 1.5, 1e-9);
  /* What one rank reads of shared memory; anybody's reading is his own. */
  expect_factor("full:8@50GB/s,memory", MCI_ALL_REDUCE, 14.0 / 8, 1e-9);
  expect_factor("full:8@50GB/s,memory", MCI_ALL_GATHER, 7.0 / 8, 1e-9);
  expect_factor("full:8@50GB/s,memory", MCI_GATHER, 7.0 / 8, 1e-9);
  expect_factor("full:8@50GB/s,memory", MCI_SCATTER, 1.0 / 8, 1e-9);
  expect_factor("full:8@50GB/s,memory", MCI_BROADCAST, 1, 1e-9);
  expect_factor("full:8@50GB/s,memory,level=host:4+4:12.5GB/s", MCI_BROADCAST, 4, 1e-9);
  /* Twenty trays of 150, each with twenty ports: 2 * 19 N over 400 ports of 1/40. */
  expect_factor("mesh:20x10x15@2TB/s,apart=z,plane=p:50GB/s:*.*.0+*.*.14", MCI_ALL_REDUCE, 3.8, 1e-9);
  expect_factor("mesh:20x10x15@2TB/s,apart=z,plane=p:50GB/s:*.*.0+*.*.14", MCI_BROADCAST, 2, 1e-9);
  /* Too large for flows: halves at a seam. */
  expect_factor("mesh:1000x1000@level=a:500x500:25GB/s", MCI_ALL_TO_ALL, 500, 1e-9);
  expect_factor("mesh:1000x1000@level=a:500x500:1GB/s", MCI_ALL_REDUCE, 999999.0 / (2 * 1000 * 998 + 2 * 20), 1e-9);
  expect_factor("mesh:1000x1000@level=a:1x1:1GB/s", MCI_ALL_REDUCE, 50.0 * 999999 / (2 * 999000), 1e-6);
}

static void delays_follow_the_classes(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    uint64_t all_ps, from_0_ps;
  } rows[] = {
      {"mesh:4x4@1TB/s,1ns,level=a:2x2:10ns", 2 * 12000, 2 * 12000},
      {"mesh:5x5@1TB/"
       "s,1ns,level=a:2x2:10ns,level=b:4x4:100ns,map=12.0.1.2.3.4.5.6.7.8.9.10.11.13.14.15.16.17.18.19.20.21."
       "22.23.24",
       2 * 112000, 2 * 101000},
      {"full:8@1ns,level=a:4+4:10ns", 10000, 10000},
      {"full:8@1ns,level=a:8:10ns", 1000, 1000},
      {"ring:8@1ns,level=a:4:10ns", 4000, 4000},
      {"mesh:2x3@5ns,apart=y,plane=p:2ns:*.0", 10000, 6000},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = parse(rows[i].spec);
    mci_bound all, rooted;
    check_ok(mci_bound_of(topo, MCI_ALL_REDUCE, 1, 0, &all));
    check_ok(mci_bound_of(topo, MCI_BROADCAST, 1, 0, &rooted));
    if (all.latency_ps != rows[i].all_ps || rooted.latency_ps != rows[i].from_0_ps)
      fail_msg("%s: %llu ps, from rank 0 %llu ps", rows[i].spec, (unsigned long long)all.latency_ps,
               (unsigned long long)rooted.latency_ps);
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
    int64_t caps[MAX_NODES * MAX_NODES], most = round % 2 ? 1 : 30;
    uint64_t density = 1 + test_random(&random) % 4;
    for (uint32_t a = 1; a < g.n; a++) {
      uint32_t parent = (uint32_t)(test_random(&random) % a);
      for (uint32_t b = 0; b < a; b++) {
        if (b != parent && test_random(&random) % 4 >= density) continue;
        caps[nlinks] = 1 + (int64_t)(test_random(&random) % (uint64_t)most);
        g.joined[a][b] = g.joined[b][a] = (double)caps[nlinks];
        links[nlinks][0] = a;
        links[nlinks++][1] = b;
      }
    }
    mci_net net = {.nnodes = g.n, .nlinks = nlinks, .link = links, .cap = caps};
    mci_ratio ratio;
    check_ok(mci_net_strength(&net, &ratio));
    assert_true(fabs((double)ratio.den / (double)ratio.num - strength_factor(&g)) < 1e-9);
    uint64_t least;
    uint32_t larger;
    check_ok(mci_net_min_cut(&net, &least, &larger));
    assert_true(fabs(1.0 / (double)least - worst_set(&g, UINT32_MAX, one_value)) < 1e-9);
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

static void time_is_the_largest_of_bytes_hops_and_both(void** state) {
  (void)state;
  mci_topo* topo = parse("mesh:5x5@50GB/s,500ns");
  mci_bound bound;
  check_ok(mci_bound_of(topo, MCI_ALL_REDUCE, 50000000, 0, &bound));
  assert_int_equal(bound.bandwidth_ps, 600000000);
  assert_int_equal(bound.latency_ps, 4000000);
  assert_int_equal(bound.bound_ps, 600000000);
  check_ok(mci_bound_of(topo, MCI_BROADCAST, 8, 12, &bound));
  assert_int_equal(bound.latency_ps, 2000000);
  assert_int_equal(bound.bound_ps, 2000080);
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

/* ---- ways and bytes together ---- */

/* Seconds until the last byte can have come over the links at the end of the worst way, every pair looked at. Delays
 * are taken from the shortest hop, so on unequal links the bound may be larger where it knows the way. */
static double slowest_entry(const mci_topo* topo, bool rooted, uint32_t root, double bytes) {
  graph g = graph_of(topo);
  double rate = (double)mci_topo_link(topo).bw_Bps, lat = 1e99, worst = 0;
  for (uint32_t c = 0; c < mci_topo_nclasses(topo); c++) lat = fmin(lat, (double)mci_topo_class(topo, c).lat_ps);
  for (uint32_t p = 0; p < g.nplanes; p++) lat = fmin(lat, (double)mci_topo_plane_link(topo, p).lat_ps);
  for (uint32_t u = 0; u < g.n; u++) {
    for (uint32_t v = 0; v < g.n; v++) {
      if (u == v || (rooted && u != root && v != root)) continue;
      double ports = 0;
      for (uint32_t w = 0; w < g.n; w++) ports += g.joined[v][w];
      for (uint32_t p = 0; p < g.nplanes; p++) ports += g.members[p] >> v & 1 ? g.port[p] : 0;
      worst = fmax(worst, mci_topo_hops(topo, u, v) * lat + bytes / (ports * rate) * 1e12);
    }
  }
  return worst;
}

static void a_vector_enters_after_the_longest_way(void** state) {
  (void)state;
  static const char* const rows[] = {"ring:2",
                                     "ring:7",
                                     "line:9",
                                     "mesh:2x4@7GB/s,3us",
                                     "mesh:3x4",
                                     "mesh:1x6",
                                     "torus:3x3",
                                     "torus:2x5",
                                     "mesh:2x2x3",
                                     "mesh:3x4@wrap=x",
                                     "full:7",
                                     "mesh:3x4@map=11.10.9.8.7.6.5.4.3.2.1.0",
                                     "mesh:3x4@dead=0.1",
                                     "torus:3x4@dead=1.1+2.2,cut=0.0-0.1",
                                     "mesh:3x3@cut=0.0-0.1",
                                     "mesh:3x3@plane=s:10GB/s:500ns:*.0",
                                     "mesh:2x4@apart=y,plane=s:10GB/s:1us:*.0+*.3"};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = parse(rows[i]);
    for (uint64_t bytes = 1; bytes <= 1 << 24; bytes <<= 12) {
      for (uint32_t root = 0; root < mci_topo_nranks(topo); root++) {
        mci_bound all, from, to;
        check_ok(mci_bound_of(topo, MCI_ALL_REDUCE, bytes, root, &all));
        check_ok(mci_bound_of(topo, MCI_BROADCAST, bytes, root, &from));
        check_ok(mci_bound_of(topo, MCI_REDUCE, bytes, root, &to));
        double wanted = slowest_entry(topo, false, 0, (double)bytes);
        double rooted = slowest_entry(topo, true, root, (double)bytes);
        if (fabs((double)all.combined_ps - wanted) > 1 || fabs((double)from.combined_ps - rooted) > 1 ||
            from.combined_ps != to.combined_ps)
          fail_msg("%s, %lu bytes, root %u: all-reduce %lu, expected %.1f; broadcast %lu, reduce %lu, expected %.1f",
                   rows[i], (unsigned long)bytes, root, (unsigned long)all.combined_ps, wanted,
                   (unsigned long)from.combined_ps, (unsigned long)to.combined_ps, rooted);
        assert_true(all.way_ps <= all.latency_ps && all.combined_ps <= all.bound_ps);
      }
    }
    mci_topo_destroy(topo);
  }
}

static void known_times_of_ways_and_bytes(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    mci_coll coll;
    uint32_t root;
    uint64_t bytes, combined_ps;
  } rows[] = {
      {"mesh:8x8", MCI_ALL_REDUCE, 0, 1000000, 7000000 + 10000000},
      {"torus:8x8", MCI_ALL_REDUCE, 0, 1000000, 4000000 + 5000000},
      {"mesh:5x5", MCI_BROADCAST, 12, 1000000, 2000000 + 10000000},
      {"mesh:5x5", MCI_REDUCE, 12, 1000000, 2000000 + 10000000},
      {"mesh:1000x1062", MCI_ALL_REDUCE, 0, 1000000, UINT64_C(2060) * 500000 + 10000000},
      /* A seam beside each wall: two slow links into a corner, and their delays on the way. */
      {"mesh:4x4@100GB/s,1us,level=a:1x1:10GB/s:2us", MCI_ALL_REDUCE, 0, 1000000, 12000000 + 50000000},
      {"full:8@50GB/s,1us,level=host:4+4:10GB/s:5us", MCI_ALL_REDUCE, 0, 1600000, 5000000 + 10000000},
      {"mesh:8x8", MCI_ALL_GATHER, 0, 1000000, 0},
      {"mesh:8x8", MCI_BARRIER, 0, 0, 0},
      {"ring:1", MCI_ALL_REDUCE, 0, 1000, 0},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = parse(rows[i].spec);
    mci_bound bound;
    check_ok(mci_bound_of(topo, rows[i].coll, rows[i].bytes, rows[i].root, &bound));
    if (bound.combined_ps != rows[i].combined_ps)
      fail_msg("%s: %lu ps, expected %lu", rows[i].spec, (unsigned long)bound.combined_ps,
               (unsigned long)rows[i].combined_ps);
    mci_topo_destroy(topo);
  }
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
      cmocka_unit_test(unequal_links_never_exceed_and_when_exact_equal_the_oracle),
      cmocka_unit_test(packaged_machines_have_known_bounds),
      cmocka_unit_test(delays_follow_the_classes),
      cmocka_unit_test(holes_never_exceed_and_when_exact_equal_the_oracle),
      cmocka_unit_test(cuts_of_random_graphs_equal_the_oracle),
      cmocka_unit_test(table_of_known_optima),
      cmocka_unit_test(known_losses_to_dead_dies),
      cmocka_unit_test(large_grids_with_holes_still_have_bounds),
      cmocka_unit_test(picked_ranks_count_their_ports_only),
      cmocka_unit_test(time_is_the_largest_of_bytes_hops_and_both),
      cmocka_unit_test(a_vector_enters_after_the_longest_way),
      cmocka_unit_test(known_times_of_ways_and_bytes),
      cmocka_unit_test(each_failing_allocation_is_reported),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
