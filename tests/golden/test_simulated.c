/* Simulated times of all candidates against a recorded table, beside the predicted ones: a change of a builder, of the
 * simulator or of a formula shows as a difference to look at. `test_simulated --update` records the table anew. */
#include "support/golden.h"
#include "support/test.h"
#include "topo/plan/plan.h"
#include "topo/sim/sim.h"

static const char* const specs[] = {"full:8",      "full:4@20GB/s,500ns,o=135ns,memory",
                                    "ring:8",      "line:5",
                                    "mesh:4x4",    "mesh:5x3",
                                    "torus:4x4",   "torus:3x5",
                                    "torus:2x3x3", "mesh:5x5@dead=2.2",
                                    "mesh:2x3x2",  "mesh:4x4@level=die:2x2:10GB/s:2us"};
static const uint64_t sizes[] = {1 << 10, 1 << 16, 1 << 20};

static void add_candidate(const char* spec, const mci_topo* topo, const mci_request* request,
                          const mci_candidate* candidate, mci_str* out) {
  mci_schedule* schedule;
  mci_sim_report report;
  mci_sim_options options = {.bytes = request->bytes, .message_bytes = 8192};
  check_ok(mci_plan_build_all(topo, request, candidate, &schedule));
  check_ok(mci_sim_run(topo, schedule, &options, &report));
  mci_str_add(out, "%s %s %llu %s predicted %llu simulated %llu ps %llu messages\n", spec, mci_coll_name(request->coll),
              (unsigned long long)request->bytes, candidate->family->name, (unsigned long long)candidate->cost.cost_ps,
              (unsigned long long)report.total_ps, (unsigned long long)report.messages);
  mci_schedule_destroy(schedule);
}

static void make_table(mci_str* out) {
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo;
    check_ok(mci_topo_parse(specs[i], &topo));
    for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
      for (size_t s = 0; s < MCI_COUNT(sizes); s++) {
        mci_request request = {.coll = (mci_coll)coll, .bytes = sizes[s], .message_bytes = 8192};
        mci_candidate list[MCI_MAX_CANDIDATES];
        uint32_t n;
        check_ok(mci_plan_candidates(topo, &request, list, &n));
        for (uint32_t k = 0; k < n && list[k].applies; k++) add_candidate(specs[i], topo, &request, &list[k], out);
      }
    }
    mci_topo_destroy(topo);
  }
  check_ok(mci_str_result(out));
}

static void simulated_times_are_as_recorded(void** state) {
  (void)state;
  mci_str table = {0};
  make_table(&table);
  check_golden(SIMULATED_FILE, table.text);
  mci_str_fini(&table);
}

static int update(void) {
  mci_str table = {0};
  make_table(&table);
  int status = update_golden(SIMULATED_FILE, table.text);
  mci_str_fini(&table);
  return status;
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "--update") == 0) return update();
  const struct CMUnitTest tests[] = {cmocka_unit_test(simulated_times_are_as_recorded)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
