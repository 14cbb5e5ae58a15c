/* What the schedules really put on links, against the closed forms of the bound; and costs that respect the bound. */
#include <math.h>

#include "plan_test.h"
#include "topo/bounds.h"

#define ELEMENTS UINT64_C(200000000) /* of the whole vector: rounding of blocks is far below the tolerance */

/* Elements that a step moves: those of its local operand. */
static uint64_t step_elements(const mci_cursor* cursor, const mci_instr* step, const mci_layout* layout,
                              uint64_t count) {
  for (unsigned k = 0; k < (unsigned)step->ndst + step->nsrc; k++) {
    mci_arg arg = mci_cursor_arg(cursor, step, k);
    if (arg.kind != MCI_LANE) return mci_layout_elements(layout, count, &arg);
  }
  return 0;
}

/* Share of the whole vector over the busiest pair (from, to). Only for programs whose messages are single hops. */
static double busiest_link(const plan_case* c) {
  mci_schedule* schedule = plan_schedule(c);
  uint32_t n = schedule->nranks;
  uint64_t* sent = mci_alloc((size_t)n * n * sizeof *sent);
  uint64_t count = mci_coll_block_major(c->request.coll) ? ELEMENTS / n : ELEMENTS, worst = 0;
  for (uint32_t r = 0; r < n; r++) {
    const mci_program* p = schedule->programs[r];
    for (uint32_t ch = 0; ch < p->nchannels; ch++) {
      mci_cursor cursor;
      mci_cursor_start(&cursor, &p->channels[ch]);
      for (const mci_instr* step; (step = mci_cursor_next(&cursor));) {
        for (unsigned k = 0; k < step->ndst; k++) {
          mci_arg arg = mci_cursor_arg(&cursor, step, k);
          if (arg.kind != MCI_LANE) continue;
          if (!mci_topo_adjacent(c->topo, r, arg.peer)) fail_msg("%s: %u to %u", plan_case_text(c), r, arg.peer);
          sent[(size_t)r * n + arg.peer] += step_elements(&cursor, step, &p->layout, count);
        }
      }
    }
  }
  for (size_t i = 0; i < (size_t)n * n; i++) worst = MCI_MAX(worst, sent[i]);
  mci_free(sent);
  mci_schedule_destroy(schedule);
  return (double)worst / (double)ELEMENTS;
}

static void check_load(const char* spec, mci_coll coll, const char* family, uint32_t chunks, double expected) {
  mci_topo* topo = plan_topo(spec);
  plan_case c = {.spec = spec, .topo = topo, .request = {.coll = coll, .bytes = UINT64_C(1) << 30}};
  check_ok(mci_plan_choose(topo, &c.request, family, &c.candidate));
  c.candidate.cost.chunks = chunks;
  double load = busiest_link(&c);
  if (fabs(load - expected) > 0.01 * expected) fail_msg("%s: load %g, expected %g", plan_case_text(&c), load, expected);
  mci_topo_destroy(topo);
}

static void grids_load_links_as_the_bound_says(void** state) {
  (void)state;
  static const uint32_t sides[][2] = {{3, 3}, {4, 4}, {3, 4}, {4, 6}, {2, 8}, {3, 7}, {5, 5}, {1, 6}};
  for (size_t i = 0; i < MCI_COUNT(sides); i++) {
    double r = sides[i][0], c = sides[i][1], p = r * c;
    char spec[32];
    snprintf(spec, sizeof spec, "mesh:%ux%u", sides[i][0], sides[i][1]);
    double gather = r == 1 ? (p - 1) / p : (p - 1) / (2 * p);
    check_load(spec, MCI_ALL_GATHER, "grid", 2, gather);
    check_load(spec, MCI_REDUCE_SCATTER, "grid", 3, gather);
    check_load(spec, MCI_ALL_REDUCE, "grid", 2, (p - 1) / (2 * p - r - c));
    if (r < 3) continue;
    snprintf(spec, sizeof spec, "torus:%ux%u", sides[i][0], sides[i][1]);
    check_load(spec, MCI_ALL_GATHER, "grid", 2, (p - 1) / (4 * p));
    check_load(spec, MCI_REDUCE_SCATTER, "grid", 2, (p - 1) / (4 * p));
    check_load(spec, MCI_ALL_REDUCE, "grid", 4, (p - 1) / (2 * p));
  }
}

static void three_dimensions_load_links_as_the_bound_says(void** state) {
  (void)state;
  check_load("torus:3x3x3", MCI_ALL_REDUCE, "grid", 1, 26.0 / (3 * 27));
  check_load("torus:3x4x5", MCI_ALL_GATHER, "grid", 2, 59.0 / (6 * 60));
  check_load("torus:3x4x5", MCI_REDUCE_SCATTER, "grid", 2, 59.0 / (6 * 60));
  check_load("mesh:3x3x3", MCI_ALL_GATHER, "grid", 1, 26.0 / (3 * 27));
  check_load("mesh:2x3x4", MCI_ALL_REDUCE, "grid", 1, 23.0 / (3 * 24 - 12 - 8 - 6));
}

static void rings_load_links_as_the_bound_says(void** state) {
  (void)state;
  for (uint32_t n = 3; n <= 9; n++) {
    char spec[32];
    snprintf(spec, sizeof spec, "ring:%u", n);
    check_load(spec, MCI_ALL_REDUCE, "bidir_ring", 2, (n - 1.0) / n);
    check_load(spec, MCI_ALL_REDUCE, "ring", 1, 2 * (n - 1.0) / n);
    check_load(spec, MCI_ALL_GATHER, "bidir_ring", 2, (n - 1.0) / (2 * n));
    check_load(spec, MCI_REDUCE_SCATTER, "bidir_ring", 2, (n - 1.0) / (2 * n));
  }
}

static void the_predicted_load_is_the_load(void** state) {
  (void)state;
  static const char* specs[] = {"torus:4x4", "torus:3x5", "mesh:4x6", "torus:3x4x5", "ring:6", "line:5", "mesh:5x5"};
  static const mci_coll colls[] = {MCI_ALL_REDUCE, MCI_ALL_GATHER, MCI_REDUCE_SCATTER};
  for (size_t i = 0; i < MCI_COUNT(specs) * MCI_COUNT(colls); i++) {
    const char* spec = specs[i / MCI_COUNT(colls)];
    mci_topo* topo = plan_topo(spec);
    plan_case c = {.spec = spec, .topo = topo, .request = {.coll = colls[i % MCI_COUNT(colls)], .bytes = 1 << 28}};
    check_ok(mci_plan_choose(topo, &c.request, NULL, &c.candidate));
    double load = busiest_link(&c), predicted = c.candidate.cost.load;
    if (fabs(load - predicted) > 0.01 * load)
      fail_msg("%s: load %g, predicted %g", plan_case_text(&c), load, predicted);
    mci_topo_destroy(topo);
  }
}

static void steps_of_grids_are_the_closed_form(void** state) {
  (void)state;
  for (uint32_t r = 2; r <= 9; r++) {
    for (uint32_t c = 2; c <= 9; c++) {
      char spec[32];
      mci_candidate choice;
      mci_request request = {.coll = MCI_ALL_REDUCE, .bytes = 1 << 20};
      snprintf(spec, sizeof spec, "torus:%ux%u", r, c);
      mci_topo* torus = plan_topo(spec);
      check_ok(mci_plan_choose(torus, &request, "grid", &choice));
      assert_int_equal(choice.cost.steps, 2 * (r / 2 + c / 2));
      mci_topo_destroy(torus);
      snprintf(spec, sizeof spec, "mesh:%ux%u", r, c);
      mci_topo* mesh = plan_topo(spec);
      request.coll = MCI_ALL_GATHER;
      check_ok(mci_plan_choose(mesh, &request, "grid", &choice));
      assert_int_equal(choice.cost.steps, r + c - 2);
      mci_topo_destroy(mesh);
    }
  }
}

/* A prediction below the bound would be a wrong formula. */
static void no_prediction_is_below_the_bound(void** state) {
  (void)state;
  static const char* specs[] = {"full:2",
                                "full:5",
                                "ring:3",
                                "ring:8",
                                "line:6",
                                "mesh:1x5",
                                "mesh:4x4",
                                "mesh:3x7",
                                "torus:4x4",
                                "torus:2x8",
                                "torus:3x5",
                                "mesh:3x3x3",
                                "torus:2x3x4",
                                "mesh:5x5@dead=2.2",
                                "mesh:4x4@neighbours",
                                "torus:4x4x4@2TB/s,100ns",
                                "ring:5@o=20ns",
                                "torus:8x64",
                                "full:8@level=host:4*2:12.5GB/s:10us",
                                "full:9@level=host:4+4+1:12.5GB/s:10us",
                                "full:12@level=numa:2*6:20GB/s,level=host:4+8:5GB/s:2us",
                                "mesh:6x4@level=tile:3x2:10GB/s:2us",
                                "mesh:5x5@level=tile:2x2:10GB/s:2us",
                                "mesh:3x4x4@apart=z,level=tile:1x2x2:30GB/s,level=tray:1x4x4:10GB/s:2us,plane=sw:"
                                "10GB/s:2us:*.*.0+*.*.3"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = plan_topo(specs[i]);
    for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
      for (uint64_t bytes = 1; bytes <= UINT64_C(1) << 32; bytes <<= 4) {
        mci_request request = {.coll = (mci_coll)coll, .bytes = bytes};
        mci_candidate list[MCI_MAX_CANDIDATES];
        mci_bound bound;
        uint32_t n;
        check_ok(mci_bound_of(topo, request.coll, bytes, 0, &bound));
        check_ok(mci_plan_candidates(topo, &request, list, &n));
        for (uint32_t k = 0; k < n && list[k].applies; k++) {
          /* weights are cut to 1/65536 */
          if ((double)list[k].cost.cost_ps < 0.9999 * (double)bound.bound_ps)
            fail_msg("%s %s %s of %lu bytes: %lu ps, the bound is %lu", specs[i], mci_coll_name(request.coll),
                     list[k].family->name, (unsigned long)bytes, (unsigned long)list[k].cost.cost_ps,
                     (unsigned long)bound.bound_ps);
        }
      }
    }
    mci_topo_destroy(topo);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(grids_load_links_as_the_bound_says),
      cmocka_unit_test(three_dimensions_load_links_as_the_bound_says),
      cmocka_unit_test(rings_load_links_as_the_bound_says),
      cmocka_unit_test(the_predicted_load_is_the_load),
      cmocka_unit_test(steps_of_grids_are_the_closed_form),
      cmocka_unit_test(no_prediction_is_below_the_bound),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
