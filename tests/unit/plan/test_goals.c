/* What the planner's own choice must reach in the simulator: one row per shape and size, its figure printed beside the
 * limit. Links carry 50 GB/s per direction and a lane has 8 messages under way unless a row says otherwise; messages
 * are never limited to less than 4 KiB. All rows of a test are run before it fails. Holes: test_holes.c. */
#include <time.h>

#include "plan_test.h"
#include "support/chain.h"
#include "topo/bounds.h"
#include "topo/sim/sim.h"

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)

typedef struct {
  const char* spec; /* what the planner is told */
  mci_coll coll;
  uint64_t bytes;
  uint64_t message;   /* largest message; 0: the default */
  const char* family; /* NULL: the planner's choice */
  const char* delay;  /* of the links that it runs on; NULL: as told */
  uint32_t credits;   /* 0: 8 */
} run;

typedef struct {
  mci_sim_report sim;
  mci_plan_cost cost;
  const char* family;
  uint64_t bandwidth_ps; /* bytes alone: the bound without delay */
  uint64_t stronger_ps;  /* see `stronger_bound` */
  uint32_t chain;        /* of messages that data passes through; 0: not looked at */
} result;

static unsigned missed;

/* Prints a row; `good` says whether the limit is kept. */
static void note(const char* what, double figure, const char* unit, double limit, bool good) {
  print_message("%-74s %9.2f %-3s limit %9.2f%s\n", what, figure, unit, limit, good ? "" : "   MISSED");
  missed += !good;
}

static void close_rows(void) {
  unsigned rows = missed;
  missed = 0;
  if (rows) fail_msg("%u rows miss their limit", rows);
}

/* A node v at the greatest distance D has d links. What reaches it before D delays does not depend on the node at the
 * other end, all bytes of the result do, so they all still have to come: D delays and N bytes over d links. */
static uint64_t stronger_bound(const mci_topo* topo, uint64_t bytes, uint64_t bandwidth_ps) {
  uint32_t low, high;
  mci_link link = mci_topo_link(topo);
  mci_topo_degrees(topo, &low, &high);
  double enter = (double)bytes / ((double)low * (double)link.bw_Bps) * 1e12;
  return MCI_MAX(bandwidth_ps, mci_topo_diameter(topo) * link.lat_ps + (uint64_t)enter);
}

static result run_it(const run* r, bool chain) {
  mci_topo *topo = plan_topo(r->spec), *machine = topo;
  plan_case c = {.spec = r->spec, .topo = topo};
  c.request = (mci_request){.coll = r->coll, .bytes = r->bytes, .message_bytes = r->message};
  check_ok(mci_plan_choose(topo, &c.request, r->family, &c.candidate));
  mci_schedule* schedule = plan_schedule(&c);
  mci_sim_options options = {.bytes = r->bytes, .message_bytes = r->message, .credits = r->credits};
  if (r->delay) {
    options.set_lat = true;
    options.lat_ps = strtoull(r->delay, NULL, 10) * 1000;
  }
  result out = {.cost = c.candidate.cost, .family = c.candidate.family->name};
  mci_bound bound;
  check_ok(mci_bound_of(machine, r->coll, r->bytes, 0, &bound));
  assert_true(bound.exact);
  check_ok(mci_sim_run(machine, schedule, &options, &out.sim));
  out.bandwidth_ps = bound.bandwidth_ps;
  out.stronger_ps = stronger_bound(topo, r->bytes, bound.bandwidth_ps);
  if (chain) out.chain = test_data_chain(schedule);
  mci_schedule_destroy(schedule);
  mci_topo_destroy(topo);
  return out;
}

static const char* label(const run* r, const result* got) {
  static char text[160];
  uint64_t kib = r->bytes >> 10;
  snprintf(text, sizeof text, "%s %s %lu%s%s%s by %s, %u chunks", r->spec, mci_coll_name(r->coll),
           (unsigned long)(kib >= 1024 ? kib >> 10 : kib), kib >= 1024 ? "M" : "K", r->delay ? " on links of " : "",
           r->delay ? r->delay : "", got->family, got->cost.chunks);
  return text;
}

/* Share of the bound on bytes alone: delays count as loss. */
static result check_share(const run* r, double limit, bool chain) {
  result got = run_it(r, chain);
  double share = 100 * (double)got.bandwidth_ps / (double)got.sim.total_ps;
  note(label(r, &got), share, "%", limit, share >= limit);
  return got;
}

static void check_all(const run* rows, size_t n, double limit) {
  for (size_t i = 0; i < n; i++) check_share(&rows[i], limit, false);
}

/* ---- meshes ---- */
static void meshes_reach_the_strength_bound(void** state) {
  (void)state;
  static const run rows[] = {
      {"mesh:4x4@0ns", MCI_ALL_REDUCE, MIB(64), 0, NULL, NULL, 0},
      {"mesh:5x5@0ns", MCI_ALL_REDUCE, MIB(64), 0, NULL, NULL, 0},
      {"mesh:8x8@0ns", MCI_ALL_REDUCE, MIB(64), 0, NULL, NULL, 0},
      {"mesh:10x15@0ns", MCI_ALL_REDUCE, MIB(64), 0, NULL, NULL, 0},
      {"mesh:16x16@0ns", MCI_ALL_REDUCE, MIB(64), 0, NULL, NULL, 0},
  };
  check_all(rows, MCI_COUNT(rows), 98);
  close_rows();
}

static void meshes_with_delay_come_near_it(void** state) {
  (void)state;
  static const char* specs[] = {"mesh:4x4@500ns", "mesh:5x5@500ns", "mesh:8x8@500ns", "mesh:10x15@500ns",
                                "mesh:16x16@500ns"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    check_share(&(run){specs[i], MCI_ALL_REDUCE, MIB(64), 0, NULL, NULL, 0}, 95, false);
    check_share(&(run){specs[i], MCI_ALL_REDUCE, MIB(256), 0, NULL, NULL, 0}, 98, false);
  }
  close_rows();
}

static void an_order_for_another_delay_loses_little(void** state) {
  (void)state;
  static const char* shapes[] = {"4x4", "5x5", "8x8", "10x15", "16x16"};
  for (size_t i = 0; i < MCI_COUNT(shapes); i++) {
    char spec[32];
    snprintf(spec, sizeof spec, "mesh:%s@0ns", shapes[i]);
    check_share(&(run){spec, MCI_ALL_REDUCE, MIB(64), 0, NULL, "500ns", 0}, 93, false);
    snprintf(spec, sizeof spec, "mesh:%s@500ns", shapes[i]);
    check_share(&(run){spec, MCI_ALL_REDUCE, MIB(64), 0, NULL, "0ns", 0}, 93, false);
  }
  close_rows();
}

/* The published setting of TTO: 25 bytes per cycle, 8 KiB messages that take 357 cycles. One cycle is 1 ns here. */
static void messages_of_357_cycles(void** state) {
  (void)state;
  static const char* spec = "mesh:8x8@25GB/s,0ns,o=29320ps";
  static const struct {
    uint64_t bytes;
    double kcycles;
  } rows[] = {{MIB(64), 1660}, {MIB(1), 32}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    run r = {spec, MCI_ALL_REDUCE, rows[i].bytes, 8192, NULL, NULL, 0};
    result got = run_it(&r, false);
    double kcycles = (double)got.sim.total_ps / 1e6;
    note(label(&r, &got), kcycles, "k", rows[i].kcycles, kcycles <= rows[i].kcycles);
  }
  close_rows();
}

/* The plain ring in both directions sends one half of the vector each way, in 2(p-1) steps: as long as a ring in one
 * direction takes for one half. A message is a whole chunk of N/2p bytes, or an eighth of it. */
static void a_tray_is_faster_than_its_ring(void** state) {
  (void)state;
  static const char* spec = "mesh:10x15@2TB/s,500ns";
  static const struct {
    uint64_t bytes, cut;
    double times;
  } rows[] = {{MIB(256), 1, 3}, {MIB(256), 8, 1.75}, {KIB(64), 1, 12}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    run ours = {spec, MCI_ALL_REDUCE, rows[i].bytes, MIB(1), NULL, NULL, 0}, ring = ours;
    ring.family = "ring";
    ring.bytes /= 2;
    ring.credits = 64;
    ring.message = ring.bytes / 150 / rows[i].cut + 4;
    result got = run_it(&ours, false), other = run_it(&ring, false);
    double times = (double)other.sim.total_ps / (double)got.sim.total_ps;
    print_message("%.1f us; the ring with chunks in %lu: %.1f us, %.2f times as long\n", (double)got.sim.total_ps / 1e6,
                  (unsigned long)rows[i].cut, (double)other.sim.total_ps / 1e6, times);
    note(label(&ours, &got), times, "x", rows[i].times, times >= rows[i].times);
  }
  close_rows();
}

static void gathering_and_scattering_on_meshes(void** state) {
  (void)state;
  static const char* specs[] = {"mesh:2x2@0ns",   "mesh:3x3@0ns",   "mesh:4x4@0ns",  "mesh:5x5@0ns", "mesh:8x8@0ns",
                                "mesh:16x16@0ns", "mesh:2x3@0ns",   "mesh:3x5@0ns",  "mesh:4x8@0ns", "mesh:2x8@0ns",
                                "mesh:10x15@0ns", "mesh:5x20@0ns",  "mesh:2x20@0ns", "line:8@0ns",   "mesh:3x3x3@0ns",
                                "mesh:4x4x4@0ns", "mesh:2x3x4@0ns", "mesh:2x4x8@0ns"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    check_share(&(run){specs[i], MCI_ALL_GATHER, MIB(64), 0, NULL, NULL, 0}, 97, false);
    check_share(&(run){specs[i], MCI_REDUCE_SCATTER, MIB(64), 0, NULL, NULL, 0}, 97, false);
  }
  close_rows();
}

/* ---- tori ---- */
static void tori_reach_the_bound_in_as_many_hops_as_there_must_be(void** state) {
  (void)state;
  static const struct {
    uint32_t rows, columns;
    double limit;
  } rows[] = {{3, 3, 99},   {4, 4, 99},  {5, 5, 99},  {6, 6, 99},  {7, 7, 99},  {8, 8, 99},
              {16, 16, 99}, {3, 4, 99},  {3, 5, 99},  {4, 8, 99},  {5, 7, 99},  {8, 16, 99},
              {10, 15, 99}, {3, 12, 99}, {4, 16, 99}, {8, 32, 99}, {3, 48, 96}, {4, 64, 96}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    char spec[32];
    snprintf(spec, sizeof spec, "torus:%ux%u@0ns", rows[i].rows, rows[i].columns);
    result got = check_share(&(run){spec, MCI_ALL_REDUCE, MIB(64), 0, NULL, NULL, 0}, rows[i].limit, true);
    uint32_t hops = 2 * (rows[i].rows / 2 + rows[i].columns / 2);
    note("    messages that data passes through", got.chain, "", hops, got.chain == hops);
  }
  close_rows();
}

/* ---- damage, unequal links, other collectives: no limit was asked for; these are what must not be lost again ---- */
static void other_collectives_come_near_their_bounds(void** state) {
  (void)state;
  static const mci_coll colls[] = {MCI_ALL_GATHER, MCI_REDUCE_SCATTER, MCI_BROADCAST,
                                   MCI_REDUCE,     MCI_GATHER,         MCI_SCATTER};
  static const char* specs[] = {"mesh:8x8@0ns",
                                "torus:8x8@0ns",
                                "mesh:5x5@0ns,dead=2.2",
                                "mesh:8x8@0ns,dead=3.3",
                                "mesh:10x15@0ns,dead=4.7+0.3+9.9",
                                "torus:8x8@0ns,dead=3.3"};
  for (size_t i = 0; i < MCI_COUNT(specs) * MCI_COUNT(colls); i++)
    check_share(&(run){specs[i / MCI_COUNT(colls)], colls[i % MCI_COUNT(colls)], MIB(64), 0, NULL, NULL, 0}, 95, false);
  check_share(&(run){"mesh:8x8@0ns", MCI_ALL_TO_ALL, MIB(64), 0, NULL, NULL, 0}, 95, false);
  check_share(&(run){"torus:8x8@0ns", MCI_ALL_TO_ALL, MIB(64), 0, NULL, NULL, 0}, 95, false);
  close_rows();
}

static void slower_seams_are_loaded_by_their_rate(void** state) {
  (void)state;
  static const char* specs[] = {"mesh:10x15@0ns,level=tile:5x5:22.5GB/s", "mesh:8x8@0ns,level=tile:4x4:45GB/s",
                                "torus:8x8@0ns,level=tile:4x4:22.5GB/s"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++)
    check_share(&(run){specs[i], MCI_ALL_REDUCE, MIB(64), 0, NULL, NULL, 0}, 90, false);
  close_rows();
}

/* All that one rank does before its first message: choice and program. */
static void a_plan_around_holes_takes_little_time(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    double seconds;
  } rows[] = {{"mesh:10x15@dead=4.7+0.3+9.9", 1}, {"mesh:50x60@dead=4.7+10.3+49.9", 60}};
  static const mci_coll colls[] = {MCI_ALL_REDUCE, MCI_ALL_GATHER, MCI_BROADCAST};
  for (size_t i = 0; i < MCI_COUNT(rows) * MCI_COUNT(colls); i++) {
    clock_t start = clock();
    mci_topo* topo = plan_topo(rows[i / MCI_COUNT(colls)].spec);
    mci_request request = {.coll = colls[i % MCI_COUNT(colls)], .bytes = MIB(64)};
    mci_candidate choice;
    mci_program* program;
    check_ok(mci_plan_choose(topo, &request, NULL, &choice));
    check_ok(mci_plan_build(topo, &request, &choice, 5, &program));
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC, limit = rows[i / MCI_COUNT(colls)].seconds;
    char what[128];
    snprintf(what, sizeof what, "%s %s by %s", rows[i / MCI_COUNT(colls)].spec, mci_coll_name(request.coll),
             choice.family->name);
    note(what, seconds, "s", limit, seconds <= limit);
    mci_program_destroy(program);
    mci_topo_destroy(topo);
  }
  close_rows();
}

/* ---- between the smallest and the largest ---- */
static void middle_sizes_reach_most_of_the_stronger_bound(void** state) {
  (void)state;
  static const char* specs[] = {"mesh:8x8@500ns", "torus:8x8@500ns"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    for (uint64_t bytes = KIB(1); bytes <= MIB(4); bytes *= 2) {
      run r = {specs[i], MCI_ALL_REDUCE, bytes, 0, NULL, NULL, 0};
      result got = run_it(&r, false);
      double share = 100 * (double)got.stronger_ps / (double)got.sim.total_ps;
      note(label(&r, &got), share, "%", 80, share >= 80);
    }
  }
  close_rows();
}

/* An argument names the tests to run, such as "a_tray*". */
int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(meshes_reach_the_strength_bound),
      cmocka_unit_test(meshes_with_delay_come_near_it),
      cmocka_unit_test(an_order_for_another_delay_loses_little),
      cmocka_unit_test(messages_of_357_cycles),
      cmocka_unit_test(a_tray_is_faster_than_its_ring),
      cmocka_unit_test(gathering_and_scattering_on_meshes),
      cmocka_unit_test(tori_reach_the_bound_in_as_many_hops_as_there_must_be),
      cmocka_unit_test(other_collectives_come_near_their_bounds),
      cmocka_unit_test(slower_seams_are_loaded_by_their_rate),
      cmocka_unit_test(a_plan_around_holes_takes_little_time),
      cmocka_unit_test(middle_sizes_reach_most_of_the_stronger_bound),
  };
  if (argc > 1) cmocka_set_test_filter(argv[1]);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
