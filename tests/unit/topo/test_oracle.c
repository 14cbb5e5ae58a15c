/* The bounds against a second program (support/oracle_graph.h): the inverse strength lies between a partition and a
 * tree packing that are within half a percent of each other, the cuts of all-gather and broadcast are tight to a
 * millionth. Meshes with one to three dead dies, links of different rates, and small graphs by all partitions. */
#include <math.h>

#include "support/draw.h"
#include "support/oracle_graph.h"
#include "support/test.h"
#include "topo/bounds.h"

#define GAP 0.005
#define ROUNDS 200000

static double widest; /* gap between the two sides */
static uint32_t checked, equal;

static double factor_of(const char* spec, const mci_topo* topo, mci_coll coll, uint32_t root) {
  mci_bound bound;
  check_ok(mci_bound_of(topo, coll, 1 << 20, root, &bound));
  if (!bound.exact) fail_msg("%s: the bound of %s is not exact", spec, mci_coll_name(coll));
  return bound.factor;
}

static void check_strength(const char* spec, const mci_topo* topo, const oracle_graph* g) {
  oracle_strength found = oracle_strength_of(g, GAP, ROUNDS);
  double factor = factor_of(spec, topo, MCI_ALL_REDUCE, 0);
  if (found.packing > (1 + GAP) * found.partition)
    fail_msg("%s: %u trees leave %.6f to %.6f open", spec, found.trees, found.partition, found.packing);
  if (factor < found.partition * (1 - 1e-9) || factor > found.packing * (1 + 1e-9))
    fail_msg("%s: %.9f, but a partition shows %.9f and %u trees show %.9f", spec, factor, found.partition, found.trees,
             found.packing);
  widest = fmax(widest, found.packing / found.partition - 1);
  checked++;
  equal += fabs(factor - found.partition) < 1e-9;
}

static void check_cuts(const char* spec, const mci_topo* topo, const oracle_graph* g, uint32_t root) {
  double gather = factor_of(spec, topo, MCI_ALL_GATHER, 0), cast = factor_of(spec, topo, MCI_BROADCAST, root);
  if (!oracle_gather_fits(g, gather * (1 + 1e-6))) fail_msg("%s: all-gather %.9f breaks a cut", spec, gather);
  if (oracle_gather_fits(g, gather * (1 - 1e-6))) fail_msg("%s: no cut needs all-gather %.9f", spec, gather);
  double own = oracle_broadcast(g, root);
  if (fabs(cast - own) > 1e-9) fail_msg("%s: broadcast from %u %.9f, flows say %.9f", spec, root, cast, own);
}

static void check_draws(uint32_t rows, uint32_t columns, const char* options, uint32_t draws, uint32_t with_cuts) {
  uint64_t random = rows * 1000 + columns;
  widest = 0;
  checked = equal = 0;
  for (uint32_t i = 0; i < draws; i++) {
    char spec[160];
    oracle_graph g;
    mci_topo* topo = test_draw_mesh(rows, columns, options, 1 + i % 3, &random, spec, sizeof spec);
    oracle_graph_of(topo, &g);
    check_strength(spec, topo, &g);
    if (i < with_cuts) check_cuts(spec, topo, &g, (uint32_t)(test_random(&random) % g.n));
    oracle_graph_free(&g);
    mci_topo_destroy(topo);
  }
  print_message("%ux%u, %s: %u draws, both sides %.3f %% apart at most; %u equal the partition\n", rows, columns,
                options, checked, 100 * widest, equal);
}

/* The draws of test_holes are among them. */
static void meshes_with_holes(void** state) {
  (void)state;
  check_draws(5, 5, "0ns", 20, 20);
  check_draws(8, 8, "0ns", test_long() ? 20 : 6, test_long() ? 20 : 2);
  check_draws(10, 15, "0ns", test_long() ? 20 : 3, test_long() ? 20 : 0);
}

static void meshes_with_holes_and_slower_seams(void** state) {
  (void)state;
  check_draws(5, 5, "2TB/s,level=half:5x3:900GB/s", 20, 20);
  check_draws(8, 8, "2TB/s,level=tile:4x4:900GB/s", test_long() ? 20 : 3, test_long() ? 20 : 1);
  check_draws(10, 15, "2TB/s,level=tile:5x5:900GB/s,level=tray:10x10:500GB/s", test_long() ? 20 : 1,
              test_long() ? 10 : 0);
}

static void whole_grids(void** state) {
  (void)state;
  static const char* specs[] = {"mesh:5x5",
                                "mesh:3x7",
                                "torus:5x5",
                                "torus:4x8",
                                "mesh:3x3x3",
                                "torus:3x4x5",
                                "ring:9",
                                "line:12",
                                "torus:8x8@cut=0.0-0.1+3.3-4.3",
                                "mesh:6x6@level=a:3x2:70GB/s,level=b:6x4:10GB/s"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo;
    oracle_graph g;
    check_ok(mci_topo_parse(specs[i], &topo));
    oracle_graph_of(topo, &g);
    check_strength(specs[i], topo, &g);
    check_cuts(specs[i], topo, &g, g.n / 2);
    oracle_graph_free(&g);
    mci_topo_destroy(topo);
  }
}

/* The oracle itself: its partition is the worst of all. */
static void small_meshes_by_all_partitions(void** state) {
  (void)state;
  static const char* options[] = {"0ns", "level=a:2x2:20GB/s", "level=a:1x2:70GB/s,level=b:2x2:3GB/s"};
  uint64_t random = test_seed();
  for (uint32_t i = 0; i < (test_long() ? 150 : 24); i++) {
    static const uint32_t sides[][2] = {{3, 3}, {2, 5}, {2, 4}, {3, 4}, {2, 3}};
    const uint32_t* side = sides[i % MCI_COUNT(sides)];
    uint32_t ndead = side[0] * side[1] > 9 ? side[0] * side[1] - 9 : i % 2;
    char spec[160];
    oracle_graph g;
    mci_topo* topo =
        test_draw_mesh(side[0], side[1], options[i % MCI_COUNT(options)], ndead, &random, spec, sizeof spec);
    oracle_graph_of(topo, &g);
    double all = oracle_strength_brute(&g), factor = factor_of(spec, topo, MCI_ALL_REDUCE, 0);
    oracle_strength found = oracle_strength_of(&g, GAP, ROUNDS);
    if (fabs(found.partition - all) > 1e-9)
      fail_msg("%s: the search finds %.9f, all partitions %.9f", spec, found.partition, all);
    if (fabs(factor - all) > 1e-9) fail_msg("%s: %.9f, all partitions %.9f", spec, factor, all);
    check_strength(spec, topo, &g);
    check_cuts(spec, topo, &g, g.n / 2);
    oracle_graph_free(&g);
    mci_topo_destroy(topo);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_meshes_by_all_partitions),
      cmocka_unit_test(whole_grids),
      cmocka_unit_test(meshes_with_holes),
      cmocka_unit_test(meshes_with_holes_and_slower_seams),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
