/* Packed spanning trees: they are trees, they load links nearly as evenly as the strength allows, equal topologies get
 * equal ones, and they are found once. */
#include <string.h>

#include "support/test.h"
#include "topo/bounds.h"
#include "topo/packing.h"

static const char* const specs[] = {
    "mesh:5x5@dead=2.2",
    "mesh:8x8@dead=4.3+6.4",
    "mesh:10x15@dead=7.4",
    "torus:5x5@dead=1.1",
    "ring:9@dead=4",
    "torus:3x3x3@dead=0.0.0,cut=1.1.1-1.1.2",
    "mesh:4x6@dead=1.4,level=tile:2x3:25GB/s:1us",
};

static mci_topo* topo_of(const char* spec) {
  mci_topo* topo;
  check_ok(mci_topo_parse(spec, &topo));
  return topo;
}

/* From every rank the parents lead to the middle, one link nearer each time. */
static void check_tree(const char* spec, const mci_topo* topo, const mci_packing* p, uint32_t tree) {
  uint32_t middles = 0;
  for (uint32_t r = 0; r < p->nranks; r++) {
    uint32_t peers[MCI_PACKING_PORTS], port = mci_packing_port(p, tree, r), depth = mci_packing_depth(p, tree, r);
    uint32_t n = mci_topo_neighbors(topo, r, peers, MCI_PACKING_PORTS);
    middles += depth == 0;
    if (port == MCI_PACKING_ROOT) {
      assert_int_equal(depth, 0);
      assert_false(p->swaps[tree]);
      continue;
    }
    assert_true(port < n);
    uint32_t above = mci_packing_depth(p, tree, peers[port]);
    if (depth == 0 ? above != 0 || !p->swaps[tree] : above + 1 != depth)
      fail_msg("%s: tree %u: rank %u at depth %u is below rank %u at %u", spec, tree, r, depth, peers[port], above);
    assert_true(2 * depth <= p->longest);
  }
  assert_int_equal(middles, p->swaps[tree] ? 2 : 1);
}

static void trees_span_and_load_links_evenly(void** state) {
  (void)state;
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = topo_of(specs[i]);
    const mci_packing* p;
    mci_bound bound;
    check_ok(mci_topo_packing(topo, MCI_PACKING_MAX_TREES, &p));
    check_ok(mci_bound_of(topo, MCI_ALL_REDUCE, 1 << 20, 0, &bound));
    for (uint32_t t = 0; t < p->ntrees; t++) check_tree(specs[i], topo, p, t);
    double load = (double)p->load / MCI_PACKING_UNIT / p->ntrees;
    if (load < bound.factor * 0.9999 || load > bound.factor * 1.02)
      fail_msg("%s: %.4f on the busiest link, the bound is %.4f", specs[i], load, bound.factor);
    mci_topo_destroy(topo);
  }
}

/* From every rank the parents lead to the owner; every rank owns a tree in each round. */
static void check_owned(const char* spec, const mci_topo* topo, const mci_packing* p, uint32_t tree) {
  uint32_t round = tree / p->nranks * p->nranks;
  for (uint32_t t = round; t < tree; t++) assert_int_not_equal(p->owner[t], p->owner[tree]);
  for (uint32_t r = 0; r < p->nranks; r++) {
    uint32_t peers[MCI_PACKING_PORTS], port = mci_packing_port(p, tree, r), depth = mci_packing_depth(p, tree, r);
    uint32_t n = mci_topo_neighbors(topo, r, peers, MCI_PACKING_PORTS);
    assert_int_equal(port == MCI_PACKING_ROOT, r == p->owner[tree]);
    assert_int_equal(depth == 0, r == p->owner[tree]);
    assert_true(depth <= p->longest);
    if (port == MCI_PACKING_ROOT) continue;
    assert_true(port < n);
    if (mci_packing_depth(p, tree, peers[port]) + 1 != depth)
      fail_msg("%s: tree %u: rank %u is not below its parent", spec, tree, r);
  }
}

static void owned_trees_load_links_as_the_bound_says(void** state) {
  (void)state;
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = topo_of(specs[i]);
    const mci_packing* p;
    mci_bound bound;
    uint32_t low, high;
    mci_topo_degrees(topo, &low, &high);
    check_ok(mci_topo_owned_packing(topo, 4 * low, &p));
    check_ok(mci_bound_of(topo, MCI_ALL_GATHER, 1 << 20, 0, &bound));
    assert_int_equal(p->ntrees, 4 * low * mci_topo_nranks(topo));
    for (uint32_t t = 0; t < p->ntrees; t++) check_owned(specs[i], topo, p, t);
    double rate = (double)mci_topo_link(topo).bw_Bps / (double)p->bw_Bps;
    double load = (double)p->load / MCI_PACKING_UNIT / p->ntrees * rate;
    print_message("%s: %.4f of the bound, %u deep\n", specs[i], load / bound.factor, p->longest);
    if (load < bound.factor * 0.9999 || load > bound.factor * 1.02)
      fail_msg("%s: %.4f on the busiest link, the bound is %.4f", specs[i], load, bound.factor);
    mci_topo_destroy(topo);
  }
}

static void equal_topologies_get_equal_trees_once(void** state) {
  (void)state;
  mci_topo *one = topo_of(specs[1]), *two = topo_of(specs[1]);
  const mci_packing *a, *b, *again;
  check_ok(mci_topo_packing(one, 64, &a));
  check_ok(mci_topo_packing(two, 64, &b));
  check_ok(mci_topo_packing(one, 32, &again));
  check_ok(mci_topo_packing(one, 64, &again));
  assert_ptr_equal(a, again);
  assert_int_equal(a->ntrees, b->ntrees);
  assert_int_equal(a->load, b->load);
  assert_memory_equal(a->port, b->port, (size_t)a->ntrees * a->nranks);
  assert_memory_equal(a->depth, b->depth, (size_t)a->ntrees * a->nranks * sizeof *a->depth);
  mci_topo_destroy(one);
  mci_topo_destroy(two);
}

static void ranks_that_links_do_not_join_get_no_trees(void** state) {
  (void)state;
  mci_topo* topo = topo_of("mesh:3x3@pick=0.0+0.1+2.2");
  const mci_packing* p;
  check_ok(mci_topo_packing(topo, 8, &p));
  assert_int_equal(p->ntrees, 0);
  check_ok(mci_topo_owned_packing(topo, 2, &p));
  assert_int_equal(p->ntrees, 0);
  mci_topo_destroy(topo);
}

static void lack_memory(bool owned) {
  for (int64_t calls = 1;; calls++) {
    mci_topo* topo = topo_of(specs[0]);
    const mci_packing* p;
    mci_alloc_fail_after(calls);
    meshcclResult_t result = owned ? mci_topo_owned_packing(topo, 2, &p) : mci_topo_packing(topo, 8, &p);
    mci_alloc_fail_after(-1);
    mci_topo_destroy(topo);
    if (result == meshcclSuccess) break;
    assert_int_equal(result, meshcclSystemError);
  }
}

static void running_out_of_memory_is_reported(void** state) {
  (void)state;
  lack_memory(false);
  lack_memory(true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(trees_span_and_load_links_evenly),
      cmocka_unit_test(owned_trees_load_links_as_the_bound_says),
      cmocka_unit_test(equal_topologies_get_equal_trees_once),
      cmocka_unit_test(ranks_that_links_do_not_join_get_no_trees),
      cmocka_unit_test(running_out_of_memory_is_reported),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
