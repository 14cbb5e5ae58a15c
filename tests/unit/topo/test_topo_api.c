/* The public topology functions: a walk through all of them, and every wrong argument named. */
#include <math.h>

#include "meshccl/topo.h"
#include "support/test.h"

static void a_topology_answers_through_the_public_header(void** state) {
  (void)state;
  meshcclTopo_t topo;
  check_ok(meshcclTopoParse(&topo, "mesh:3x4@dead=1.1"));
  int count, sides[4], wraps[4], ndims = 4, coords[4], rank, hops, peers[8], n = 8;
  check_ok(meshcclTopoCount(topo, &count));
  assert_int_equal(count, 11);
  check_ok(meshcclTopoDims(topo, sides, wraps, &ndims));
  assert_int_equal(ndims, 2);
  assert_int_equal(sides[0] * 10 + sides[1], 34);
  assert_false(wraps[0] || wraps[1]);
  ndims = 4;
  check_ok(meshcclTopoCoordinates(topo, 5, coords, &ndims));
  assert_int_equal(coords[0] * 10 + coords[1], 12);
  check_ok(meshcclTopoRankAt(topo, coords, 2, &rank));
  assert_int_equal(rank, 5);
  coords[1] = 1;
  check_ok(meshcclTopoRankAt(topo, coords, 2, &rank));
  assert_int_equal(rank, -1);
  check_ok(meshcclTopoNeighbors(topo, 5, peers, &n));
  assert_int_equal(n, 3);
  assert_int_equal(peers[0] * 100 + peers[1] * 10 + peers[2], 2 * 100 + 9 * 10 + 6);
  check_ok(meshcclTopoHops(topo, 4, 5, &hops));
  assert_int_equal(hops, 4);
  double us, factor;
  check_ok(meshcclTopoBound(topo, "broadcast", 100000000, 0, &us, &factor));
  assert_true(fabs(factor - 0.5) < 1e-12 && fabs(us - 1002.5) < 1e-9);
  check_ok(meshcclTopoBound(topo, "allreduce", 8, 0, &us, NULL));
  assert_true(fabs(us - 2.50008) < 1e-12);
  check_ok(meshcclTopoDestroy(topo));
  check_ok(meshcclTopoDestroy(NULL));
}

static void texts_tell_their_size(void** state) {
  (void)state;
  meshcclTopo_t topo;
  check_ok(meshcclTopoParse(&topo, "ring:3"));
  size_t needed = 0;
  check_ok(meshcclTopoPrint(topo, NULL, 0, &needed));
  assert_int_equal(needed, sizeof "ring:3@50GB/s,500ns");
  char text[64] = "untouched";
  check_fails(meshcclTopoPrint(topo, text, needed - 1, NULL), meshcclInvalidArgument, "takes 20 bytes");
  assert_string_equal(text, "untouched");
  check_ok(meshcclTopoPrint(topo, text, needed, NULL));
  assert_string_equal(text, "ring:3@50GB/s,500ns");
  check_ok(meshcclTopoDraw(topo, text, sizeof text, &needed));
  assert_string_equal(text, "- 0 -- 1 -- 2 -\n");
  check_ok(meshcclTopoDestroy(topo));
  check_ok(meshcclTopoParse(&topo, "torus:3x3x3"));
  check_ok(meshcclTopoDraw(topo, text, sizeof text, &needed));
  assert_string_equal(text, "");
  assert_int_equal(needed, 1);
  check_ok(meshcclTopoDestroy(topo));
}

static void a_plan_is_explained_with_its_losers(void** state) {
  (void)state;
  meshcclTopo_t topo;
  check_ok(meshcclTopoParse(&topo, "torus:4x4"));
  size_t needed;
  check_ok(meshcclPlanExplain(topo, "all_reduce", 1 << 20, NULL, 0, &needed));
  char* text = mci_alloc(needed);
  check_ok(meshcclPlanExplain(topo, "all_reduce", 1 << 20, text, needed, NULL));
  assert_non_null(strstr(text, "no schedule takes less than 9.830 us"));
  assert_int_equal(strlen(text) + 1, needed);
  const char* chosen = strstr(text, "\n* ");
  assert_non_null(chosen);
  assert_null(strstr(chosen + 1, "\n* "));
  /* Best first: predicted times ascend. */
  double last = 0, share;
  int rows = 0;
  for (const char* line = chosen + 1; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
    double us;
    if (sscanf(line + 2, "%*s %lf us, %lf%%", &us, &share) != 2) continue;
    assert_true(us >= last && share <= 100);
    last = us;
    rows++;
  }
  assert_true(rows >= 2);
  check_fails(meshcclPlanExplain(topo, "all_reduce", 8, text, 4, NULL), meshcclInvalidArgument, "size is 4");
  check_fails(meshcclPlanExplain(topo, "sum", 8, text, needed, NULL), meshcclInvalidArgument, "\"sum\"");
  check_fails(meshcclPlanExplain(NULL, "all_reduce", 8, NULL, 0, NULL), meshcclInvalidArgument, "topo is NULL");
  mci_free(text);
  check_ok(meshcclTopoDestroy(topo));
}

static void wrong_arguments_are_named(void** state) {
  (void)state;
  meshcclTopo_t topo, none = NULL;
  int value = 4, coords[4] = {0}, ndims = 1;
  double us = -1;
  check_fails(meshcclTopoParse(NULL, "ring:3"), meshcclInvalidArgument, "meshcclTopoParse: topo is NULL");
  check_fails(meshcclTopoParse(&none, NULL), meshcclInvalidArgument, "spec is NULL");
  check_fails(meshcclTopoParse(&none, "rong:3"), meshcclInvalidArgument, "ring?");
  assert_null(none);
  check_ok(meshcclTopoParse(&topo, "mesh:2x2@dead=0.1,cut=1.0-1.1"));
  check_fails(meshcclTopoPrint(topo, NULL, 5, NULL), meshcclInvalidArgument, "text is NULL");
  check_fails(meshcclTopoCount(NULL, &value), meshcclInvalidArgument, "topo is NULL");
  check_fails(meshcclTopoCount(topo, NULL), meshcclInvalidArgument, "count is NULL");
  check_fails(meshcclTopoDims(topo, coords, NULL, &ndims), meshcclInvalidArgument, "2 needed");
  check_fails(meshcclTopoCoordinates(topo, 0, coords, &ndims), meshcclInvalidArgument, "2 needed");
  check_fails(meshcclTopoCoordinates(topo, 3, coords, &value), meshcclInvalidArgument, "from 0 to 2");
  check_fails(meshcclTopoRankAt(topo, coords, 3, &value), meshcclInvalidArgument, "the topology has 2");
  coords[1] = 2;
  check_fails(meshcclTopoRankAt(topo, coords, 2, &value), meshcclInvalidArgument, "coords[1] is 2");
  check_fails(meshcclTopoNeighbors(topo, -1, coords, &value), meshcclInvalidArgument, "rank is -1");
  check_fails(meshcclTopoNeighbors(topo, 0, NULL, &value), meshcclInvalidArgument, "at NULL");
  check_fails(meshcclTopoHops(topo, 0, 9, &value), meshcclInvalidArgument, "b is 9");
  check_ok(meshcclTopoHops(topo, 0, 2, &value));
  assert_int_equal(value, -1);
  check_fails(meshcclTopoBound(topo, "all_reduce", 8, 0, &us, NULL), meshcclInvalidArgument, "in pieces");
  check_fails(meshcclTopoBound(topo, "all_roduce", 8, 0, &us, NULL), meshcclInvalidArgument, "all_roduce");
  check_fails(meshcclTopoBound(topo, "reduce", 8, 3, &us, NULL), meshcclInvalidArgument, "root is 3");
  assert_true(us == -1);
  check_ok(meshcclTopoDestroy(topo));
  check_ok(meshcclTopoParse(&topo, "full:3"));
  check_fails(meshcclTopoRankAt(topo, coords, 0, &value), meshcclInvalidArgument, "no coordinates");
  check_ok(meshcclTopoDestroy(topo));
}

static void machines_are_found_by_name_and_path(void** state) {
  (void)state;
  static const char* const texts[] = {"dojo-tray", MACHINES "/dojo-tray.yaml"};
  for (size_t i = 0; i < 2; i++) {
    meshcclTopo_t topo;
    int count;
    char text[256];
    check_ok(meshcclTopoParse(&topo, texts[i]));
    check_ok(meshcclTopoCount(topo, &count));
    check_ok(meshcclTopoPrint(topo, text, sizeof text, NULL));
    assert_int_equal(count, 150);
    assert_string_equal(text, "mesh:10x15@2TB/s,100ns,level=tile:5x5:900GB/s:100ns,level=tray:10x15:900GB/s:100ns");
    check_ok(meshcclTopoDestroy(topo));
  }
  meshcclTopo_t topo = NULL;
  check_fails(meshcclTopoParse(&topo, "dojo-trey"), meshcclInvalidArgument, "none of the machines");
  check_fails(meshcclTopoParse(&topo, MACHINES "/dojo-trey.yaml"), meshcclInvalidArgument, "No such file");
  check_fails(meshcclTopoParse(&topo, MACHINES "/"), meshcclInvalidArgument, "no regular file");
  check_fails(meshcclTopoParse(&topo, "torus"), meshcclInvalidArgument, "lacks its size");
  assert_null(topo);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(machines_are_found_by_name_and_path),
      cmocka_unit_test(a_topology_answers_through_the_public_header),
      cmocka_unit_test(texts_tell_their_size),
      cmocka_unit_test(a_plan_is_explained_with_its_losers),
      cmocka_unit_test(wrong_arguments_are_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
