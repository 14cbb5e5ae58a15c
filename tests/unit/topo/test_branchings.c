/* Arc-disjoint spanning trees: they span, no link direction serves more trees than its rate allows, there are as many
 * as the bound of a broadcast says, they are shallow, equal topologies get equal ones. */
#include <string.h>

#include "support/test.h"
#include "topo/bounds.h"
#include "topo/branchings.h"

static mci_topo* topo_of(const char* spec) {
  mci_topo* topo;
  check_ok(mci_topo_parse(spec, &topo));
  return topo;
}

/* Uses of the link from a to b, by the place of b among a's neighbours. */
typedef struct {
  uint8_t (*uses)[MCI_BRANCHINGS_PORTS];
  uint32_t n, deepest;
} count;

static void count_use(const char* spec, const mci_topo* topo, count* c, uint32_t from, uint32_t to) {
  uint32_t peers[MCI_BRANCHINGS_PORTS], p = 0, n = mci_topo_neighbors(topo, from, peers, MCI_BRANCHINGS_PORTS);
  while (p < n && peers[p] != to) p++;
  if (p == n) fail_msg("%s: the parent %u of rank %u is no neighbour", spec, from, to);
  c->uses[from][p]++;
}

static void check_tree(const char* spec, const mci_branchings* b, uint32_t tree, count* c) {
  for (uint32_t r = 0; r < c->n; r++) {
    uint32_t depth = 0;
    for (uint32_t v = r; v != b->root && depth <= c->n; v = mci_branchings_parent(b, tree, v)) depth++;
    if (depth > c->n) fail_msg("%s root %u: tree %u leads rank %u round in a circle", spec, b->root, tree, r);
    c->deepest = MCI_MAX(c->deepest, depth);
    if (r != b->root) count_use(spec, b->topo, c, mci_branchings_parent(b, tree, r), r);
    uint32_t children[MCI_BRANCHINGS_PORTS], n = mci_branchings_children(b, tree, r, children);
    for (uint32_t i = 0; i < n; i++) assert_int_equal(mci_branchings_parent(b, tree, children[i]), r);
  }
}

/* Returns the depth. `bound`: compare with the bound of a broadcast. */
static uint32_t check_root(const char* spec, const mci_topo* topo, uint32_t root, bool bound) {
  mci_branchings b;
  count c = {.n = mci_topo_nranks(topo)};
  check_ok(mci_branchings_of(topo, root, &b));
  c.uses = mci_alloc(c.n * sizeof *c.uses);
  for (uint32_t t = 0; t < b.ntrees; t++) check_tree(spec, &b, t, &c);
  for (uint32_t r = 0; r < c.n; r++)
    for (uint32_t p = 0; p < MCI_BRANCHINGS_PORTS; p++)
      if (mci_topo_nclasses(topo) == 1 && c.uses[r][p] > 1)
        fail_msg("%s root %u: %u trees leave rank %u by link %u", spec, root, c.uses[r][p], r, p);
  if (b.depth != c.deepest) fail_msg("%s root %u: depth %u, found %u", spec, root, b.depth, c.deepest);
  mci_bound exact;
  check_ok(mci_bound_of(topo, MCI_BROADCAST, 1 << 20, root, &exact));
  double factor = (double)b.uses / b.ntrees * (double)mci_topo_link(topo).bw_Bps / (double)b.bw_Bps;
  if (bound && (factor > exact.factor * 1.000001 || factor < exact.factor * 0.999999))
    fail_msg("%s root %u: %u trees, factor %.4f, the bound is %.4f", spec, root, b.ntrees, factor, exact.factor);
  mci_free(c.uses);
  mci_branchings_fini(&b);
  return c.deepest;
}

static void check_all_roots(const char* spec) {
  mci_topo* topo = topo_of(spec);
  for (uint32_t root = 0; root < mci_topo_nranks(topo); root++) check_root(spec, topo, root, true);
  mci_topo_destroy(topo);
}

static void all_roots_of_small_grids_have_as_many_trees_as_can_be(void** state) {
  (void)state;
  char spec[32];
  for (uint32_t a = 2; a <= 8; a++) {
    for (uint32_t b = a; b <= 8; b++) {
      snprintf(spec, sizeof spec, "mesh:%ux%u", a, b);
      check_all_roots(spec);
      snprintf(spec, sizeof spec, "torus:%ux%u", b, a);
      check_all_roots(spec);
    }
    snprintf(spec, sizeof spec, "line:%u", a);
    check_all_roots(spec);
    snprintf(spec, sizeof spec, "ring:%u", a);
    check_all_roots(spec);
  }
  for (uint32_t a = 1; a <= 4; a++)
    for (uint32_t b = 1; b <= 4; b++) {
      snprintf(spec, sizeof spec, "mesh:%ux%ux4", a, b);
      check_all_roots(spec);
      snprintf(spec, sizeof spec, "torus:3x%ux%u", a, b);
      check_all_roots(spec);
    }
}

static void unlike_topologies_have_as_many_trees_as_can_be(void** state) {
  (void)state;
  static const char* const specs[] = {
      "mesh:3x3@dead=1.1",
      "mesh:5x5@dead=2.2",
      "mesh:5x5@dead=0.1+3.3",
      "mesh:8x8@dead=4.4+1.6,cut=0.2-0.3",
      "torus:5x5@dead=1.1+3.2",
      "mesh:4x5@wrap=x",
      "mesh:4x4x3@wrap=y",
      "mesh:3x2x3x2",
      "torus:3x3x3@dead=0.0.0",
      "mesh:4x4@cut=0.0-0.1",
      "line:6@dead=5",
      "mesh:2x6@cut=0.2-0.3",
      "torus:4x4@map=3.1.0.2.5.4.6.7.14.9.10.11.12.13.8.15",
      "mesh:4x4@dead=1.1,neighbours",
      "mesh:10x15@dead=7.4",
  };
  for (size_t i = 0; i < MCI_COUNT(specs); i++) check_all_roots(specs[i]);
}

/* A link of half the rate carries half as much. */
static void slower_links_serve_fewer_trees(void** state) {
  (void)state;
  static const char* const specs[] = {"mesh:4x4@level=die:2x2:25GB/s:1us", "mesh:6x6@level=tile:3x3:25GB/s:1us",
                                      "ring:6@level=a:3:25GB/s:1us"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = topo_of(specs[i]);
    check_root(specs[i], topo, 0, true);
    mci_topo_destroy(topo);
  }
}

static void trees_are_shallow(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    uint32_t more; /* than the root's distance to the farthest rank */
  } rows[] = {{"mesh:8x8", 1},  {"mesh:10x15", 1},  {"mesh:4x4x4", 1},          {"mesh:2x9", 1},
              {"torus:4x4", 1}, {"torus:8x8", 3},   {"torus:4x4x4", 1},         {"mesh:5x5@dead=2.2", 6},
              {"torus:4x8", 3}, {"torus:16x16", 7}, {"mesh:10x15@dead=7.4", 10}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = topo_of(rows[i].spec);
    for (uint32_t root = 0; root < mci_topo_nranks(topo); root += 1 + mci_topo_nranks(topo) / 9) {
      uint32_t depth = check_root(rows[i].spec, topo, root, false), far = mci_topo_eccentricity(topo, root);
      if (depth > far + rows[i].more)
        fail_msg("%s root %u: trees of depth %u, the farthest rank is %u links away", rows[i].spec, root, depth, far);
    }
    mci_topo_destroy(topo);
  }
}

/* Beyond the size that is searched. */
static void large_grids_have_closed_forms(void** state) {
  (void)state;
  static const char* const specs[] = {"mesh:50x60", "torus:40x50", "mesh:10x10x11", "torus:9x11x13"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = topo_of(specs[i]);
    mci_branchings b;
    check_ok(mci_branchings_of(topo, 7, &b));
    assert_null(b.port);
    mci_branchings_fini(&b);
    check_root(specs[i], topo, 7, true);
    mci_topo_destroy(topo);
  }
}

static void equal_topologies_get_equal_trees(void** state) {
  (void)state;
  static const char* spec = "mesh:8x8@dead=4.3+6.4";
  mci_topo *one = topo_of(spec), *two = topo_of(spec);
  mci_branchings a, b, again;
  check_ok(mci_branchings_of(one, 5, &a));
  for (uint32_t root = 10; root < 22; root++) { /* more than are kept */
    check_ok(mci_branchings_of(one, root, &b));
    mci_branchings_fini(&b);
  }
  check_ok(mci_branchings_of(two, 5, &b));
  check_ok(mci_branchings_of(one, 5, &again));
  assert_int_equal(a.ntrees, b.ntrees);
  size_t bytes = (size_t)a.ntrees * mci_topo_nranks(one);
  assert_memory_equal(a.port, b.port, bytes);
  assert_memory_equal(a.port, again.port, bytes);
  mci_branchings_fini(&a);
  mci_branchings_fini(&b);
  mci_branchings_fini(&again);
  mci_topo_destroy(one);
  mci_topo_destroy(two);
}

static void ranks_that_links_do_not_join_get_no_trees(void** state) {
  (void)state;
  mci_topo* topo = topo_of("mesh:3x3@pick=0.0+0.1+2.2");
  mci_branchings b;
  check_ok(mci_branchings_of(topo, 0, &b));
  assert_int_equal(b.ntrees, 0);
  mci_branchings_fini(&b);
  mci_topo_destroy(topo);
  topo = topo_of("full:4");
  assert_non_null(mci_branchings_refuse(topo));
  mci_topo_destroy(topo);
}

static void running_out_of_memory_is_reported(void** state) {
  (void)state;
  bool failed = true;
  for (int64_t calls = 1; failed; calls++) {
    mci_topo* topo = topo_of("mesh:5x5@dead=2.2");
    mci_branchings b = {0};
    mci_alloc_fail_after(calls);
    meshcclResult_t result = mci_branchings_of(topo, 3, &b);
    mci_alloc_fail_after(-1);
    failed = result != meshcclSuccess || calls < 20; /* what is kept for later may lack memory unnoticed */
    if (result == meshcclSuccess) {
      assert_int_equal(b.ntrees, 2);
    } else {
      assert_int_equal(result, meshcclSystemError);
    }
    mci_branchings_fini(&b);
    mci_topo_destroy(topo);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_roots_of_small_grids_have_as_many_trees_as_can_be),
      cmocka_unit_test(unlike_topologies_have_as_many_trees_as_can_be),
      cmocka_unit_test(slower_links_serve_fewer_trees),
      cmocka_unit_test(trees_are_shallow),
      cmocka_unit_test(large_grids_have_closed_forms),
      cmocka_unit_test(equal_topologies_get_equal_trees),
      cmocka_unit_test(ranks_that_links_do_not_join_get_no_trees),
      cmocka_unit_test(running_out_of_memory_is_reported),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
