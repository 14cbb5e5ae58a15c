/* Hierarchical families: every program is proved and run on data, for hosts with equal and unequal numbers of ranks, in
 * order and interleaved, and for grids cut into boxes, at one to three levels; and the predictions that make the
 * choice.
 */
#include <math.h>

#include "plan_test.h"
#include "support/interpret.h"

static uint64_t random_state;
static uint32_t proved;

static bool hierarchical(const plan_case* c) { return strncmp(c->candidate.family->name, "hier", 4) == 0; }

/* Where groups are uneven the longest chain may avoid the deepest group. */
static void check_depth(const plan_case* c, uint64_t depth) {
  uint64_t steps = c->candidate.cost.steps, slack = steps / 2;
  if (depth > steps || depth + slack < steps)
    fail_msg("%s: a chain of %lu messages, %lu predicted", plan_case_text(c), (unsigned long)depth,
             (unsigned long)steps);
}

static void run(const plan_case* c, const mci_schedule* schedule, bool in_place) {
  test_interpret_options how = {.type = meshcclInt64,
                                .op = meshcclSum,
                                .count = test_random(&random_state) % 150,
                                .in_place = in_place,
                                .slice = test_random(&random_state) % 3 ? 0 : 40,
                                .credits = 1,
                                .seed = test_random(&random_state),
                                .data = test_random(&random_state),
                                .order = (test_order)(test_random(&random_state) % TEST_NUM_ORDERS),
                                .lend = (test_lend)(test_random(&random_state) % TEST_NUM_LENDS)};
  uint64_t bits;
  if (test_interpret(schedule, &how, &bits) != meshcclSuccess)
    fail_msg("%s, count %lu%s: %s", plan_case_text(c), (unsigned long)how.count, in_place ? ", in place" : "",
             mci_error_last());
}

static void prove(const plan_case* c) {
  if (!hierarchical(c)) return;
  mci_schedule* schedule = plan_schedule(c);
  for (int in_place = 0; in_place < 2; in_place++) {
    mci_verify_options options = {.in_place = in_place};
    mci_verify_report report;
    if (mci_schedule_verify(schedule, &options, &report) != meshcclSuccess)
      fail_msg("%s%s: %s", plan_case_text(c), in_place ? ", in place" : "", mci_error_last());
    if (c->candidate.cost.chunks == 1) check_depth(c, report.depth);
    if (test_long() || proved % 2 == (uint32_t)in_place) run(c, schedule, in_place);
  }
  mci_schedule_destroy(schedule);
  proved++;
}

/* All collectives, all roots; small and large, which changes how the vector is cut. */
static void prove_all(const char* spec) {
  mci_topo* topo = plan_topo(spec);
  uint32_t n = mci_topo_nranks(topo), before = proved;
  for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
    for (uint32_t root = 0; root < (mci_coll_rooted((mci_coll)coll) ? n : 1); root++) {
      for (uint64_t bytes = 64; bytes <= 1 << 24; bytes <<= 9) {
        mci_request request = {.coll = (mci_coll)coll, .bytes = bytes, .root = root, .wide = coll % 2};
        plan_each_family(spec, topo, &request, root > 0 ? 1 : test_long() ? 4 : bytes == 64 ? 1 : 3, prove);
      }
    }
  }
  if (proved == before) fail_msg("%s: no hierarchical family applies", spec);
  mci_topo_destroy(topo);
}

static void hosts_of_all_sizes_are_proved(void** state) {
  (void)state;
  static const char* hosts[] = {"2+1",   "1+2",   "2+2",   "1+3",   "3+2",   "4+4",     "8+1",     "5+4",    "2+2+2",
                                "4+4+1", "2+3+4", "1+1+7", "3+3+3", "2+1+2", "2+2+2+2", "1+2+3+3", "4+1+3+1"};
  for (size_t i = 0; i < MCI_COUNT(hosts); i++) {
    char spec[64];
    uint32_t n = 0;
    for (const char* c = hosts[i]; *c; c++) n += *c == '+' ? 0 : (uint32_t)(*c - '0');
    snprintf(spec, sizeof spec, "full:%u@level=host:%s:12.5GB/s:10us", n, hosts[i]);
    prove_all(spec);
  }
}

/* Every pair of two to four hosts with one to seven ranks each, up to nine in all; a single collective per case. */
static void all_pairs_of_hosts_are_proved(void** state) {
  (void)state;
  for (uint32_t code = 0; code < 7 * 7 * 7; code++) {
    uint32_t a = 1 + code % 7, b = 1 + code / 7 % 7, c = code / 49;
    if (a + b + c > 9 || (a == 1 && b == 1 && c < 2)) continue;
    char spec[64], third[8] = "";
    if (c) snprintf(third, sizeof third, "+%u", c);
    snprintf(spec, sizeof spec, "full:%u@level=host:%u+%u%s:12.5GB/s:10us", a + b + c, a, b, third);
    mci_topo* topo = plan_topo(spec);
    for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
      mci_request request = {.coll = (mci_coll)coll, .bytes = code % 2 ? 1 << 10 : 1 << 24, .root = code % (a + b + c)};
      plan_each_family(spec, topo, &request, 1, prove);
    }
    mci_topo_destroy(topo);
  }
}

static void grids_of_boxes_are_proved(void** state) {
  (void)state;
  static const char* specs[] = {"mesh:4x4@level=tile:2x2:10GB/s",
                                "torus:4x4@level=tile:2x2:10GB/s",
                                "mesh:4x6@level=tile:2x3",
                                "torus:6x4@level=tile:2x4",
                                "line:6@level=part:2",
                                "ring:8@level=part:2",
                                "mesh:4x4@level=row:1x4:10GB/s:2us",
                                "mesh:2x2x4@level=board:2x2x1",
                                "mesh:3x3@level=tile:2x2",
                                "mesh:4x4@level=die:1x2:20GB/s,level=tile:2x2:10GB/s",
                                "torus:4x8@level=die:1x2,level=tile:2x4:10GB/s",
                                "mesh:4x4@level=tile:2x2:10GB/s,map=3.1.0.2.7.5.4.6.15.14.13.12.8.9.10.11"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) prove_all(specs[i]);
}

static void three_levels_and_interleaved_hosts_are_proved(void** state) {
  (void)state;
  static const char* specs[] = {
      "full:8@level=numa:2*4:20GB/s,level=host:4*2:10GB/s:5us",
      "full:12@level=numa:2*6:20GB/s,level=host:6*2:10GB/s:5us",
      "full:12@level=core:1*12:40GB/s,level=numa:2*6,level=host:4+4+4:5GB/s,level=rack:8+4:1GB/s",
      "full:9@level=numa:2+1+3+1+2:20GB/s,level=host:3+4+2:10GB/s:5us",
      "full:12@level=numa:2+2+1+1+3+3:20GB/s,level=host:4+2+6:10GB/s:5us,level=pod:6+6:5GB/s",
      "full:6@level=host:3+3:10GB/s,map=0.3.1.4.2.5",
      "full:7@level=host:4+3:10GB/s,map=6.0.5.1.4.2.3",
      "full:9@level=host:4+4+1:10GB/s,map=8.0.4.1.5.2.6.3.7"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) prove_all(specs[i]);
}

static void what_is_not_hierarchical_is_refused(void** state) {
  (void)state;
  static const struct {
    const char *spec, *family, *reason;
  } rows[] = {
      {"full:4", "hier", "the topology has no levels"},
      {"full:4@level=host:4", "hier_tree", "all ranks are in one group"},
      {"full:4@level=host:1+1+1+1", "hier_ring", "every rank is a group of its own"},
      {"full:5@level=host:3+2", "hier_ring", "the groups of a level are not all alike"},
      {"mesh:3x3@level=tile:2x2", "hier_ring", "the groups of a level are not all alike"},
      {"mesh:4x4@level=tile:2x2,cut=0.0-0.1", "hier_ring", "the grid has holes or gaps, or not all of it takes part"},
      {"mesh:4x4@level=tile:2x2", "hier_tree", "on a grid, tree passes every link once and needs fewer steps"},
      {"mesh:4x4@level=tile:2x2,neighbours", "hier_ring",
       "only neighbours may exchange messages, and the same places of two boxes are none"},
      {"full:130@level=host:65*2", "hier", "a group of 65: more than 64 would be folded in one step"}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = plan_topo(rows[i].spec);
    mci_request request = {.coll = MCI_ALL_REDUCE, .bytes = 1 << 20};
    mci_candidate list[MCI_MAX_CANDIDATES];
    uint32_t n, k = 0;
    check_ok(mci_plan_candidates(topo, &request, list, &n));
    while (k < n && strcmp(list[k].family->name, rows[i].family) != 0) k++;
    if (k == n || list[k].applies || strcmp(list[k].reason, rows[i].reason) != 0)
      fail_msg("%s %s: \"%s\", expected \"%s\"", rows[i].spec, rows[i].family, k < n ? list[k].reason : "not there",
               rows[i].reason);
    mci_topo_destroy(topo);
  }
}

/* ---- predictions ---- */
static mci_candidate candidate(const mci_topo* topo, const mci_request* request, const char* name) {
  mci_candidate out;
  check_ok(mci_plan_choose(topo, request, name, &out));
  return out;
}

/* Several ranks per host, slower links between hosts: at large sizes what knows of the hosts wins. */
static void large_vectors_between_hosts_go_by_levels(void** state) {
  (void)state;
  static const mci_coll colls[] = {MCI_ALL_REDUCE, MCI_ALL_GATHER, MCI_REDUCE_SCATTER, MCI_BROADCAST, MCI_REDUCE};
  for (uint32_t hosts = 2; hosts <= 6; hosts++) {
    for (uint32_t each = 2; each <= 8; each++) {
      char spec[64];
      snprintf(spec, sizeof spec, "full:%u@level=host:%u*%u:12.5GB/s:10us", hosts * each, each, hosts);
      mci_topo* topo = plan_topo(spec);
      for (size_t i = 0; i < MCI_COUNT(colls); i++) {
        mci_request request = {.coll = colls[i], .bytes = 1 << 26};
        mci_candidate best = candidate(topo, &request, NULL), direct = candidate(topo, &request, "direct");
        if (strncmp(best.family->name, "hier", 4) != 0)
          fail_msg("%s %s: %s is chosen", spec, mci_coll_name(colls[i]), best.family->name);
        if (best.cost.cost_ps * 3 > direct.cost.cost_ps * 2)
          fail_msg("%s %s: %s is hardly faster than direct", spec, mci_coll_name(colls[i]), best.family->name);
      }
      mci_topo_destroy(topo);
    }
  }
}

/* 4 ranks on each of 2 hosts. One after the other the phases of an all-reduce take 2/4 of the vector inside twice and
 * 1/2 outside twice; in chunks the inner ones hide behind the outer ones but for the first and the last chunk. */
static void chunks_hide_the_inner_phases(void** state) {
  (void)state;
  mci_topo* topo = plan_topo("full:8@20GB/s,500ns,level=host:4*2:12.5GB/s:10us");
  mci_request request = {.coll = MCI_ALL_REDUCE, .bytes = 1 << 28};
  mci_candidate hier = candidate(topo, &request, "hier");
  double bytes = (double)request.bytes, inner = 2 * bytes / 4 / 20e9 * 1e12, outer = bytes / 12.5e9 * 1e12;
  double time = (double)hier.cost.cost_ps;
  assert_true(hier.cost.chunks > 1);
  if (time < outer || time > outer + inner / 4)
    fail_msg("%.0f us predicted; %.0f outside, %.0f inside", time * 1e-6, outer * 1e-6, inner * 1e-6);
  mci_topo_destroy(topo);
}

/* ---- loads ---- */
/* What crosses each border: out of and into every group, between two ranks of one. */
typedef struct {
  const plan_case* c;
  uint32_t n;
  uint64_t *pair, *out, *in;
} traffic;

static uint64_t step_elements(const mci_cursor* cursor, const mci_instr* step, const mci_layout* layout,
                              uint64_t count) {
  for (unsigned k = 0; k < (unsigned)step->ndst + step->nsrc; k++) {
    mci_arg arg = mci_cursor_arg(cursor, step, k);
    if (arg.kind != MCI_LANE) return mci_layout_elements(layout, count, &arg);
  }
  return 0;
}

static void add_message(traffic* t, uint32_t from, uint32_t to, uint64_t elements) {
  uint32_t a = mci_topo_group(t->c->topo, 0, from), b = mci_topo_group(t->c->topo, 0, to);
  if (a == b) {
    t->pair[(size_t)from * t->n + to] += elements;
  } else {
    t->out[a] += elements;
    t->in[b] += elements;
  }
}

static double busiest(const plan_case* c) {
  uint64_t whole = UINT64_C(200000000), worst = 0;
  uint32_t n = mci_topo_nranks(c->topo);
  traffic t = {.c = c, .n = n, .pair = mci_alloc(8 * (size_t)n * n), .out = mci_alloc(8 * n), .in = mci_alloc(8 * n)};
  mci_schedule* schedule = plan_schedule(c);
  for (uint32_t r = 0; r < n; r++) {
    const mci_program* p = schedule->programs[r];
    for (uint32_t ch = 0; ch < p->nchannels; ch++) {
      mci_cursor cursor;
      mci_cursor_start(&cursor, &p->channels[ch]);
      for (const mci_instr* step; (step = mci_cursor_next(&cursor));) {
        uint64_t elements = step_elements(&cursor, step, &p->layout, p->layout.block_major ? whole / n : whole);
        for (unsigned k = 0; k < step->ndst; k++) {
          mci_arg arg = mci_cursor_arg(&cursor, step, k);
          if (arg.kind == MCI_LANE) add_message(&t, r, arg.peer, elements);
        }
      }
    }
  }
  for (size_t i = 0; i < (size_t)n * n; i++) worst = MCI_MAX(worst, t.pair[i]);
  for (uint32_t i = 0; i < n; i++) worst = MCI_MAX(worst, MCI_MAX(t.out[i], t.in[i]));
  mci_free(t.pair);
  mci_free(t.out);
  mci_free(t.in);
  mci_schedule_destroy(schedule);
  return (double)worst / (double)whole;
}

static void the_predicted_load_is_the_load(void** state) {
  (void)state;
  static const char* hosts[] = {"4+4", "2+2+2", "3+3+3", "4+3", "4+4+1", "2+3+4", "8+1", "2+2+2+2"};
  static const char* families[] = {"hier", "hier_ring", "hier_tree", "direct"};
  for (size_t i = 0; i < MCI_COUNT(hosts) * MCI_COUNT(families) * MCI_SEND_RECV; i++) {
    const char *list = hosts[i % MCI_COUNT(hosts)], *family = families[i / MCI_COUNT(hosts) % MCI_COUNT(families)];
    char spec[64];
    uint32_t n = 0;
    for (const char* c = list; *c; c++) n += *c == '+' ? 0 : (uint32_t)(*c - '0');
    snprintf(spec, sizeof spec, "full:%u@level=host:%s:12.5GB/s:10us", n, list);
    plan_case c = {.spec = spec, .topo = plan_topo(spec)};
    c.request = (mci_request){.coll = (mci_coll)(i / MCI_COUNT(hosts) / MCI_COUNT(families)), .bytes = 1 << 26};
    mci_candidate all[MCI_MAX_CANDIDATES];
    uint32_t count;
    check_ok(mci_plan_candidates(c.topo, &c.request, all, &count));
    for (uint32_t k = 0; k < count && all[k].applies; k++) {
      if (strcmp(all[k].family->name, family) != 0) continue;
      c.candidate = all[k];
      double load = busiest(&c), predicted = c.candidate.cost.load;
      if (fabs(load - predicted) > 0.02 * load)
        fail_msg("%s: load %g, predicted %g", plan_case_text(&c), load, predicted);
    }
    mci_topo_destroy((mci_topo*)c.topo);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(hosts_of_all_sizes_are_proved),
      cmocka_unit_test(all_pairs_of_hosts_are_proved),
      cmocka_unit_test(grids_of_boxes_are_proved),
      cmocka_unit_test(three_levels_and_interleaved_hosts_are_proved),
      cmocka_unit_test(what_is_not_hierarchical_is_refused),
      cmocka_unit_test(large_vectors_between_hosts_go_by_levels),
      cmocka_unit_test(chunks_hide_the_inner_phases),
      cmocka_unit_test(the_predicted_load_is_the_load),
  };
  random_state = test_seed();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
