/* The planner's own programs, broken on purpose: the verifier rejects every change that is not harmless; and their
 * results on real data. Covers small shapes of all kinds; the exhaustive mutants of simple schedules are in unit/sched.
 */
#include "support/interpret.h"
#include "support/mutate.h"
#include "support/test.h"
#include "topo/plan/plan.h"

static const char* const specs[] = {"full:3",
                                    "full:4",
                                    "ring:4",
                                    "ring:5",
                                    "line:3",
                                    "line:4",
                                    "mesh:2x2",
                                    "mesh:2x3",
                                    "mesh:3x3",
                                    "torus:3x3",
                                    "torus:2x4",
                                    "torus:3x4",
                                    "mesh:2x2x2",
                                    "mesh:3x3@dead=1.1",
                                    "mesh:2x3@cut=0.0-0.1",
                                    "torus:3x3@dead=0.2,map=7.6.5.4.3.2.1.0",
                                    "full:3@level=host:2+1:10GB/s:5us",
                                    "full:4@level=host:2*2:10GB/s:5us,o=1us",
                                    "full:5@level=host:3+2:10GB/s:5us,map=4.0.3.1.2",
                                    "mesh:2x4@level=tile:2x2:10GB/s"};

static mutant_tally tally;

typedef void (*visit)(const char* what, mci_schedule* schedule);

/* Every family that applies, on every shape, for every collective; small and large, which changes the pipeline. */
static void for_all_plans(visit visitor) {
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo;
    check_ok(mci_topo_parse(specs[i], &topo));
    for (int k = 0; k < 2 * MCI_SEND_RECV; k++) {
      mci_request request = {.coll = (mci_coll)(k / 2),
                             .bytes = k % 2 ? 1 << 22 : 1 << 10,
                             .root = mci_topo_nranks(topo) / 2,
                             .wide = k % 2};
      mci_candidate list[MCI_MAX_CANDIDATES];
      uint32_t n;
      check_ok(mci_plan_candidates(topo, &request, list, &n));
      for (uint32_t c = 0; c < n && list[c].applies; c++) {
        char what[128];
        mci_schedule* schedule;
        check_ok(mci_plan_build_all(topo, &request, &list[c], &schedule));
        snprintf(what, sizeof what, "%s %s %s %u bytes", specs[i], mci_coll_name(request.coll), list[c].family->name,
                 (unsigned)request.bytes);
        visitor(what, schedule);
        mci_schedule_destroy(schedule);
      }
    }
    mci_topo_destroy(topo);
  }
}

/* Pipelines with many chunks only repeat themselves. */
static bool small(const mci_schedule* schedule) {
  uint64_t steps = 0;
  for (uint32_t r = 0; r < schedule->nranks; r++)
    for (uint32_t c = 0; c < schedule->programs[r]->nchannels; c++)
      steps += mci_channel_steps(&schedule->programs[r]->channels[c]);
  return steps <= 2000;
}

static void break_it(const char* what, mci_schedule* schedule) {
  if (small(schedule)) test_all_mutants(what, schedule, (test_long() ? 20 : 2) * NUM_MUTANTS, &tally);
}

static void mutants_of_plans_are_rejected(void** state) {
  (void)state;
  for_all_plans(break_it);
  for (int kind = 0; kind < NUM_MUTANTS; kind++)
    print_message("%-18s %6llu mutants, %5llu harmless\n", mutant_names[kind], (unsigned long long)tally.tried[kind],
                  (unsigned long long)tally.accepted[kind]);
}

static void run_it(const char* what, mci_schedule* schedule) {
  uint64_t random = test_seed(), bits;
  if (!small(schedule)) return;
  for (int round = 0; round < 2; round++) {
    test_interpret_options options = {.type = round ? meshcclBfloat16 : meshcclInt32,
                                      .op = round ? meshcclMax : meshcclAvg,
                                      .count = 1 + test_random(&random) % 50,
                                      .in_place = test_random(&random) % 2,
                                      .slice = test_random(&random) % 5,
                                      .credits = 1 + (uint32_t)(test_random(&random) % 2),
                                      .seed = test_random(&random),
                                      .data = test_random(&random),
                                      .order = (test_order)(test_random(&random) % TEST_NUM_ORDERS),
                                      .lend = (test_lend)(test_random(&random) % TEST_NUM_LENDS)};
    if (test_interpret(schedule, &options, &bits) != meshcclSuccess) fail_msg("%s: %s", what, mci_error_last());
  }
}

static void plans_give_right_results_on_data(void** state) {
  (void)state;
  for_all_plans(run_it);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plans_give_right_results_on_data),
      cmocka_unit_test(mutants_of_plans_are_rejected),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
