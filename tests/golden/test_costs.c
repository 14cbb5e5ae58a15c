/* Predicted costs of all candidates against a recorded table: a change of any formula or choice shows as a difference
 * to look at. `test_costs --update` records the table anew. */
#include "support/golden.h"
#include "support/test.h"
#include "topo/plan/plan.h"

static const char* const specs[] = {
    "full:2",
    "full:8",
    "full:4@20GB/s,500ns,o=135ns,memory",
    "full:8@3GB/s,2us,o=3us,memory",
    "full:100",
    "ring:8",
    "line:5",
    "mesh:2x2",
    "mesh:5x5",
    "mesh:8x8",
    "mesh:10x15@2TB/s,500ns",
    "torus:2x2",
    "torus:4x4",
    "torus:4x8",
    "torus:3x5",
    "torus:4x4x4",
    "mesh:2x3x4",
    "mesh:5x5@dead=2.2",
    "mesh:4x4@neighbours,o=100ns",
    "mesh:1000x1062",
    "full:8@level=host:4*2:12.5GB/s:10us",
    "full:9@level=host:4+4+1:12.5GB/s:10us,o=1us",
    "mesh:10x15@2TB/s,100ns,level=tile:5x5:900GB/s:150ns",
};
static const uint64_t sizes[] = {8, 1 << 12, 1 << 20, 1 << 28};

static void add_candidates(const char* spec, const mci_topo* topo, mci_coll coll, uint64_t bytes, mci_str* out) {
  mci_request request = {.coll = coll, .bytes = bytes};
  mci_candidate list[MCI_MAX_CANDIDATES];
  uint32_t n;
  check_ok(mci_plan_candidates(topo, &request, list, &n));
  for (uint32_t k = 0; k < n; k++) {
    const mci_plan_cost* cost = &list[k].cost;
    mci_str_add(out, "%s %s %llu %s ", spec, mci_coll_name(coll), (unsigned long long)bytes, list[k].family->name);
    if (list[k].applies) {
      mci_str_add(out, "%llu ps %u steps %u channels %u chunks\n", (unsigned long long)cost->cost_ps, cost->steps,
                  cost->channels, cost->chunks);
    } else {
      mci_str_add(out, "refused: %s\n", list[k].reason);
    }
  }
}

static void make_table(mci_str* out) {
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo;
    check_ok(mci_topo_parse(specs[i], &topo));
    for (int coll = 0; coll < MCI_SEND_RECV; coll++)
      for (size_t s = 0; s < MCI_COUNT(sizes); s++) add_candidates(specs[i], topo, (mci_coll)coll, sizes[s], out);
    mci_topo_destroy(topo);
  }
  check_ok(mci_str_result(out));
}

static void predicted_costs_are_as_recorded(void** state) {
  (void)state;
  mci_str table = {0};
  make_table(&table);
  check_golden(COSTS_FILE, table.text);
  mci_str_fini(&table);
}

static int update(void) {
  mci_str table = {0};
  make_table(&table);
  int status = update_golden(COSTS_FILE, table.text);
  mci_str_fini(&table);
  return status;
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "--update") == 0) return update();
  const struct CMUnitTest tests[] = {cmocka_unit_test(predicted_costs_are_as_recorded)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
