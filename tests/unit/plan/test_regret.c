/* How much the choice loses: for every shape, collective and size all candidates are simulated, and the regret of a
 * request is the time of the family that the planner chooses over the least of all, less one. The mean over all
 * requests is to be within 3 %, the worst within 10 %; the limits below are what holds so far.
 *
 * A sample of shapes and sizes, with --all all of them (the ctest entry test_regret_all). `test_regret FILTER` prints
 * every request whose text contains FILTER, with predicted and simulated times of its candidates. */
#include "plan_test.h"
#include "topo/sim/sim.h"

#define MEAN 0.01
#define WORST 0.20
#define SHOWN 40

typedef struct {
  const char* spec;
  bool brief; /* in the sample */
} shape;

static const shape shapes[] = {
    {"line:5", true},
    {"ring:8", true},
    {"mesh:4x4", true},
    {"mesh:5x5", false},
    {"mesh:8x8", false},
    {"mesh:4x8", false},
    {"mesh:2x3x4", false},
    {"mesh:10x15", false},
    {"torus:4x4", true},
    {"torus:8x8", false},
    {"torus:4x8", false},
    {"torus:3x5", false},
    {"torus:4x4x4", false},
    {"full:4", true},
    {"full:8", false},
    {"full:4@20GB/s,500ns,o=135ns,memory", true},
    {"mesh:5x5@dead=2.2", false},
    {"mesh:8x8@dead=1.1+4.6", false},
    {"mesh:4x4@o=100ns", false},
    {"torus:4x4@2TB/s,500ns", false},
    {"full:8@level=host:4*2:12.5GB/s:10us", true},
    {"full:9@level=host:4+4+1:12.5GB/s:10us,o=1us", false},
    {"mesh:4x6@2TB/s,100ns,level=tile:2x3:900GB/s:150ns", false},
};

static bool all;
static const char* filter; /* NULL: the test */

typedef struct {
  double regret;
  char text[256];
} miss;

static miss worst[SHOWN]; /* descending */
static double sum, coll_sum[MCI_NUM_COLLS], coll_worst[MCI_NUM_COLLS];
static unsigned requests, coll_requests[MCI_NUM_COLLS];

static uint64_t simulate(const mci_topo* topo, const mci_request* request, const mci_candidate* candidate,
                         uint64_t limit) {
  mci_schedule* schedule;
  mci_sim_report report;
  mci_sim_options options = {.bytes = request->bytes, .message_bytes = request->message_bytes, .limit_ps = limit};
  check_ok(mci_plan_build_all(topo, request, candidate, &schedule));
  check_ok(mci_sim_run(topo, schedule, &options, &report));
  mci_schedule_destroy(schedule);
  return report.total_ps;
}

static void remember(mci_coll coll, double regret, const char* text) {
  requests++;
  sum += regret;
  coll_requests[coll]++;
  coll_sum[coll] += regret;
  coll_worst[coll] = MCI_MAX(coll_worst[coll], regret);
  size_t place = SHOWN;
  while (place > 0 && worst[place - 1].regret < regret) place--;
  if (place == SHOWN) return;
  memmove(&worst[place + 1], &worst[place], (SHOWN - 1 - place) * sizeof worst[0]);
  worst[place].regret = regret;
  snprintf(worst[place].text, sizeof worst[place].text, "%s", text);
}

static void try_request(const char* spec, const mci_topo* topo, const mci_request* request) {
  mci_candidate list[MCI_MAX_CANDIDATES];
  uint32_t n;
  char text[128];
  snprintf(text, sizeof text, "%s %s %llu", spec, mci_coll_name(request->coll), (unsigned long long)request->bytes);
  if (filter && !strstr(text, filter)) return;
  check_ok(mci_plan_candidates(topo, request, list, &n));
  uint64_t chosen = 0, least = UINT64_MAX;
  uint32_t best = 0;
  if (filter) print_message("%s\n", text);
  for (uint32_t k = 0; k < n && list[k].applies; k++) {
    uint64_t time = simulate(topo, request, &list[k], filter || k == 0 ? 0 : least);
    if (filter)
      print_message("  %-14s predicted %12.3f us, simulated %12.3f us (%+6.1f %%), %u chunks, load %.3f\n",
                    list[k].family->name, (double)list[k].cost.cost_ps / 1e6, (double)time / 1e6,
                    100 * ((double)list[k].cost.cost_ps / (double)time - 1), list[k].cost.chunks, list[k].cost.load);
    if (k == 0) chosen = time;
    if (time >= least) continue;
    least = time;
    best = k;
  }
  char result[256];
  snprintf(result, sizeof result, "%s: %s takes %.3f us, %s %.3f us", text, list[0].family->name, (double)chosen / 1e6,
           list[best].family->name, (double)least / 1e6);
  remember(request->coll, least ? (double)chosen / (double)least - 1 : 0, result);
}

static void try_shape(const shape* s, uint64_t step) {
  mci_topo* topo = plan_topo(s->spec);
  for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
    for (uint64_t bytes = 1024; bytes <= 64 << 20; bytes *= step) {
      mci_request request = {.coll = (mci_coll)coll, .bytes = bytes, .message_bytes = 131072};
      try_request(s->spec, topo, &request);
      if (coll == MCI_BARRIER) break;
    }
  }
  mci_topo_destroy(topo);
}

static void print_table(void) {
  for (size_t i = 0; i < SHOWN && worst[i].regret > 0.005; i++)
    print_message("%6.2f %%  %s\n", 100 * worst[i].regret, worst[i].text);
  for (int coll = 0; coll < MCI_SEND_RECV; coll++)
    if (coll_requests[coll])
      print_message("%-16s mean %6.2f %%  worst %6.2f %%\n", mci_coll_name((mci_coll)coll),
                    100 * coll_sum[coll] / coll_requests[coll], 100 * coll_worst[coll]);
  print_message("regret of %u requests: mean %.2f %%, worst %.2f %%\n", requests, 100 * sum / requests,
                100 * worst[0].regret);
}

static void the_choice_is_nearly_the_best_of_all(void** state) {
  (void)state;
  bool whole = all || filter;
  for (size_t i = 0; i < MCI_COUNT(shapes); i++)
    if (whole || shapes[i].brief) try_shape(&shapes[i], whole ? 4 : 64);
  if (requests == 0) fail_msg("nothing contains \"%s\"", filter);
  print_table();
  if (filter) return;
  if (sum / requests > MEAN) fail_msg("mean regret is %.2f %%", 100 * sum / requests);
  if (worst[0].regret > WORST) fail_msg("worst regret is %.2f %%", 100 * worst[0].regret);
}

int main(int argc, char** argv) {
  all = argc > 1 && strcmp(argv[1], "--all") == 0;
  if (argc > 1 && !all) filter = argv[1];
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_choice_is_nearly_the_best_of_all)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
