/* Choosing: sizes decide, ties go to the earlier row, names are checked, refusals say why; plans of huge grids are
 * small. */
#include "support/test.h"
#include "topo/plan/plan.h"

static mci_topo* topo_of(const char* spec) {
  mci_topo* topo;
  check_ok(mci_topo_parse(spec, &topo));
  return topo;
}

static void classes_are_powers_of_two(void** state) {
  (void)state;
  static const uint64_t rows[][2] = {{0, 1}, {1, 1}, {2, 2}, {3, 4}, {1 << 20, 1 << 20}, {(1 << 20) + 1, 1 << 21}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) assert_int_equal(mci_plan_class(rows[i][0]), rows[i][1]);
  assert_true(mci_plan_class(UINT64_MAX) == UINT64_C(1) << 63);
}

static void the_best_family_depends_on_shape_and_size(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    mci_coll coll;
    uint64_t bytes;
    const char* name;
  } rows[] = {
      {"full:4", MCI_ALL_REDUCE, 64, "exchange"},
      {"full:4", MCI_ALL_REDUCE, 1 << 24, "direct"},
      {"ring:8", MCI_ALL_REDUCE, 1 << 26, "bidir_ring"},
      {"torus:4x4", MCI_ALL_REDUCE, 1 << 26, "grid"},
      {"mesh:5x5", MCI_ALL_REDUCE, 1 << 26, "comb"},
      {"torus:4x4x4", MCI_ALL_GATHER, 1 << 26, "grid"},
      {"mesh:8x8", MCI_REDUCE_SCATTER, 1 << 22, "grid"},
      {"line:9", MCI_ALL_REDUCE, 1 << 26, "comb"},
      {"full:1", MCI_ALL_REDUCE, 1 << 10, "exchange"},
      {"full:8", MCI_ALL_TO_ALL, 1 << 20, "direct"},
      {"full:8@memory", MCI_BROADCAST, 1 << 21, "direct"},
      {"full:8@3GB/s,2us,o=3us,memory", MCI_BROADCAST, 1 << 15, "direct"},
      {"full:8@3GB/s,2us,o=3us,memory", MCI_BROADCAST, 1 << 21, "double_tree"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = topo_of(rows[i].spec);
    mci_request request = {.coll = rows[i].coll, .bytes = rows[i].bytes};
    mci_candidate choice;
    check_ok(mci_plan_choose(topo, &request, NULL, &choice));
    if (strcmp(choice.family->name, rows[i].name) != 0)
      fail_msg("%s %s %lu: %s, expected %s", rows[i].spec, mci_coll_name(rows[i].coll), (unsigned long)rows[i].bytes,
               choice.family->name, rows[i].name);
    mci_topo_destroy(topo);
  }
}

static void candidates_come_best_first_and_refusals_last(void** state) {
  (void)state;
  static const char* specs[] = {
      "full:5", "ring:6", "torus:4x4", "mesh:3x5", "mesh:5x5@dead=2.2", "mesh:3x3@neighbours"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = topo_of(specs[i]);
    for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
      mci_request request = {.coll = (mci_coll)coll, .bytes = 1 << 20};
      mci_candidate list[MCI_MAX_CANDIDATES];
      uint32_t n;
      check_ok(mci_plan_candidates(topo, &request, list, &n));
      for (uint32_t k = 0; k < n; k++) {
        if (list[k].applies == (list[k].reason[0] != '\0')) fail_msg("%s: %s: reason", specs[i], list[k].family->name);
        if (k == 0) continue;
        assert_true(list[k - 1].applies || !list[k].applies);
        if (list[k].applies) assert_true(list[k - 1].cost.cost_ps <= list[k].cost.cost_ps);
      }
    }
    mci_topo_destroy(topo);
  }
}

static void unknown_and_unfit_names_are_refused_by_name(void** state) {
  (void)state;
  mci_topo* topo = topo_of("mesh:3x3@neighbours");
  mci_request request = {.coll = MCI_ALL_REDUCE, .bytes = 4096};
  mci_candidate choice;
  check_fails(mci_plan_choose(topo, &request, "rnig", &choice), meshcclInvalidArgument, "known: ");
  check_fails(mci_plan_choose(topo, &request, "ring", &choice), meshcclInvalidArgument, "not neighbours");
  check_fails(mci_plan_choose(topo, &request, "direct", &choice), meshcclInvalidArgument, "ranks 0 and 2");
  check_ok(mci_plan_choose(topo, &request, "grid", &choice));
  request = (mci_request){.coll = MCI_BROADCAST, .bytes = 4096, .root = 9};
  check_fails(mci_plan_choose(topo, &request, NULL, &choice), meshcclInvalidArgument, "root 9");
  mci_topo_destroy(topo);
}

static void a_topology_in_pieces_is_refused_with_a_rank(void** state) {
  (void)state;
  mci_topo* topo = topo_of("line:4@cut=1-2");
  mci_request request = {.coll = MCI_ALL_REDUCE, .bytes = 4096};
  mci_candidate choice;
  check_fails(mci_plan_choose(topo, &request, NULL, &choice), meshcclInvalidUsage, "rank 2");
  mci_topo_destroy(topo);
}

static void forced_names_are_found_per_collective(void** state) {
  (void)state;
  static const struct {
    const char* text;
    mci_coll coll;
    const char* name;
  } rows[] = {
      {NULL, MCI_ALL_REDUCE, ""},
      {"", MCI_ALL_REDUCE, ""},
      {"all_reduce:ring", MCI_ALL_REDUCE, "ring"},
      {"allreduce:ring", MCI_ALL_REDUCE, "ring"},
      {"all_reduce:ring", MCI_ALL_GATHER, ""},
      {"all_reduce:ring;broadcast:direct", MCI_BROADCAST, "direct"},
      {"grid", MCI_REDUCE_SCATTER, "grid"},
      {"grid", MCI_BROADCAST, ""},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    char name[48];
    check_ok(mci_plan_forced(rows[i].text, rows[i].coll, name, sizeof name));
    assert_string_equal(name, rows[i].name);
  }
  char name[48] = "kept";
  check_fails(mci_plan_forced("all_reduce:rnig", MCI_ALL_REDUCE, name, sizeof name), meshcclInvalidArgument,
              "bidir_ring");
  check_fails(mci_plan_forced("broadcast:grid", MCI_ALL_REDUCE, name, sizeof name), meshcclInvalidArgument,
              "broadcast");
  check_fails(mci_plan_forced("all_redcue:ring", MCI_ALL_REDUCE, name, sizeof name), meshcclInvalidArgument,
              "all_redcue");
  assert_string_equal(name, "kept");
}

static void a_rank_of_a_million_needs_little_memory(void** state) {
  (void)state;
  mci_topo* topo = topo_of("mesh:1000x1062");
  static const mci_coll colls[] = {MCI_ALL_REDUCE, MCI_ALL_GATHER, MCI_REDUCE_SCATTER};
  for (size_t i = 0; i < MCI_COUNT(colls); i++) {
    mci_request request = {.coll = colls[i], .bytes = UINT64_C(1) << 30};
    mci_candidate choice;
    mci_program* program;
    check_ok(mci_plan_choose(topo, &request, "grid", &choice));
    check_ok(mci_plan_build(topo, &request, &choice, 531000, &program));
    if (mci_program_bytes(program) >= 1 << 20)
      fail_msg("%s: %zu bytes", mci_coll_name(colls[i]), mci_program_bytes(program));
    mci_program_destroy(program);
  }
  mci_topo_destroy(topo);
}

static void every_failing_allocation_is_an_error_and_leaks_nothing(void** state) {
  (void)state;
  mci_topo* topo = topo_of("torus:3x4@map=11.10.9.8.7.6.5.4.3.2.1.0");
  for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
    mci_request request = {.coll = (mci_coll)coll, .bytes = 1 << 20};
    mci_candidate list[MCI_MAX_CANDIDATES];
    uint32_t n;
    check_ok(mci_plan_candidates(topo, &request, list, &n));
    for (uint32_t k = 0; k < n && list[k].applies; k++) {
      meshcclResult_t result = meshcclSystemError;
      for (int calls = 1; result != meshcclSuccess; calls++) {
        mci_program* program = NULL;
        mci_alloc_fail_after(calls);
        result = mci_plan_build(topo, &request, &list[k], 5, &program);
        mci_alloc_fail_after(-1);
        assert_true((result == meshcclSuccess) == (program != NULL));
        mci_program_destroy(program);
      }
    }
  }
  mci_topo_destroy(topo);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(classes_are_powers_of_two),
      cmocka_unit_test(the_best_family_depends_on_shape_and_size),
      cmocka_unit_test(candidates_come_best_first_and_refusals_last),
      cmocka_unit_test(unknown_and_unfit_names_are_refused_by_name),
      cmocka_unit_test(a_topology_in_pieces_is_refused_with_a_rank),
      cmocka_unit_test(forced_names_are_found_per_collective),
      cmocka_unit_test(a_rank_of_a_million_needs_little_memory),
      cmocka_unit_test(every_failing_allocation_is_an_error_and_leaks_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
