/* What is particular to the baselines: pairs that are pairs, cycles that are cycles, shapes that are refused with a
 * reason, forms that change with the size, loads as the formulas say. Proofs and results are those of all families. */
#include <math.h>

#include "plan_test.h"
#include "topo/plan/butterfly.h"
#include "topo/plan/families.h"
#include "topo/plan/ham_cycles.h"
#include "topo/plan/tally.h"

/* ---- exchanges in pairs ---- */
/* A partner's partner is the rank itself; labels are those of all ranks, each once; partners differ in the bit of the
 * step and agree in those before. */
static void check_pairs(const char* spec, bool swing) {
  mci_topo* topo = plan_topo(spec);
  char buffer[160];
  if (mci_butterfly_refuse(topo, swing, false, buffer, sizeof buffer)) fail_msg("%s is refused", spec);
  mci_butterfly b;
  mci_butterfly_of(topo, swing, &b);
  uint32_t n = mci_topo_nranks(topo);
  bool* taken = calloc(n, sizeof *taken);
  assert_true(1u << b.nsteps == n);
  for (uint32_t copy = 0; copy < 2 * b.naxes; copy++) {
    mci_butterfly_step steps[MCI_BUTTERFLY_MAX_STEPS];
    bool mirrored = mci_butterfly_mirrored(&b, copy);
    mci_butterfly_steps(&b, copy, steps);
    memset(taken, 0, n * sizeof *taken);
    for (uint32_t rank = 0; rank < n; rank++) {
      uint32_t at[MCI_MAX_DIMS], there[MCI_MAX_DIMS], label = 0;
      assert_true(mci_butterfly_place(&b, rank, at));
      assert_int_equal(mci_butterfly_rank(&b, at), rank);
      for (uint32_t s = 0; s < b.nsteps; s++) {
        uint32_t partner = mci_butterfly_partner(&b, at, steps[s], mirrored);
        mci_butterfly_place(&b, partner, there);
        if (mci_butterfly_partner(&b, there, steps[s], mirrored) != rank)
          fail_msg("%s copy %u step %u: %u's partner %u has another", spec, copy, s, rank, partner);
        for (uint32_t k = 0; k <= s; k++)
          if ((mci_butterfly_label_bit(&b, at, steps[k], mirrored) ==
               mci_butterfly_label_bit(&b, there, steps[k], mirrored)) != (k < s))
            fail_msg("%s copy %u: label bit %u of %u and its partner %u of step %u", spec, copy, k, rank, partner, s);
        label = 2 * label + mci_butterfly_label_bit(&b, at, steps[s], mirrored);
      }
      if (label >= n || taken[label]) fail_msg("%s copy %u: label %u twice", spec, copy, label);
      taken[label] = true;
    }
  }
  free(taken);
  mci_topo_destroy(topo);
}

static void partners_pair_up_and_labels_tell_halves(void** state) {
  (void)state;
  static const char* tori[] = {"ring:2",    "ring:4",     "ring:64",     "ring:256",    "torus:2x2",    "torus:4x8",
                               "torus:8x8", "torus:2x16", "torus:4x4x4", "torus:2x8x4", "torus:2x2x4x8"};
  static const char* others[] = {"full:2", "full:16", "line:8", "mesh:4x8", "mesh:2x4x8"};
  for (size_t i = 0; i < MCI_COUNT(tori); i++) {
    check_pairs(tori[i], true);
    check_pairs(tori[i], false);
  }
  for (size_t i = 0; i < MCI_COUNT(others); i++) check_pairs(others[i], false);
}

/* Counts, per link, the blocks that a program sends. */
static void count_blocks(const mci_topo* topo, const mci_program* program, mci_tally* tally) {
  for (uint32_t c = 0; c < program->nchannels; c++) {
    mci_cursor cursor;
    mci_cursor_start(&cursor, &program->channels[c]);
    for (const mci_instr* step; (step = mci_cursor_next(&cursor));) {
      int64_t peer = -1;
      uint32_t blocks = 0;
      for (unsigned k = 0; k < (unsigned)step->ndst + step->nsrc; k++) {
        mci_arg arg = mci_cursor_arg(&cursor, step, k);
        if (arg.kind != MCI_LANE) blocks = arg.run * arg.nruns;
        if (arg.kind == MCI_LANE && k < step->ndst) peer = arg.peer;
      }
      while (peer >= 0 && blocks-- > 0) check_ok(mci_tally_add(tally, topo, program->rank, (uint32_t)peer));
    }
  }
}

static void check_load(const char* spec, const char* name) {
  mci_topo* topo = plan_topo(spec);
  plan_case c = {.spec = spec, .topo = topo, .request = {.coll = MCI_ALL_REDUCE, .bytes = 1 << 24}};
  check_ok(mci_plan_choose(topo, &c.request, name, &c.candidate));
  mci_schedule* schedule = plan_schedule(&c);
  const mci_layout* layout = &schedule->programs[0]->layout;
  mci_tally tally = {0};
  uint64_t busiest;
  for (uint32_t rank = 0; rank < schedule->nranks; rank++) count_blocks(topo, schedule->programs[rank], &tally);
  mci_tally_busiest(&tally, 1, &busiest);
  double load = (double)busiest / layout->nblocks / layout->nparts;
  if (fabs(load - c.candidate.cost.load) > 0.001 * load)
    fail_msg("%s: load %g, predicted %g", plan_case_text(&c), load, c.candidate.cost.load);
  mci_tally_fini(&tally);
  mci_schedule_destroy(schedule);
  mci_topo_destroy(topo);
}

/* The closed form of what shares a link, against the routes one by one. On lines it is above them, because not the same
 * link is busiest in every step. */
static void loads_of_exchanges_are_those_of_the_routes(void** state) {
  (void)state;
  static const char* specs[] = {"ring:8", "ring:32", "torus:4x4", "torus:8x8", "torus:4x8", "torus:4x4x4"};
  static const char* names[] = {"swing", "halving_doubling", "recursive_doubling"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++)
    for (size_t k = 0; k < MCI_COUNT(names); k++) check_load(specs[i], names[k]);
}

static void forms_change_with_the_size(void** state) {
  (void)state;
  mci_topo* topo = plan_topo("torus:8x8");
  mci_candidate choice;
  mci_request small = {.coll = MCI_ALL_REDUCE, .bytes = 1 << 10}, large = {.coll = MCI_ALL_REDUCE, .bytes = 1 << 24};
  check_ok(mci_plan_choose(topo, &small, "swing", &choice));
  assert_int_equal(choice.cost.steps, 6);
  check_ok(mci_plan_choose(topo, &large, "swing", &choice));
  assert_int_equal(choice.cost.steps, 12);
  assert_int_equal(choice.cost.channels, 4);
  mci_topo_destroy(topo);
}

/* ---- cycles ---- */
static void check_cycles(uint32_t r, uint32_t c) {
  char spec[32];
  snprintf(spec, sizeof spec, "torus:%ux%u", r, c);
  mci_topo* topo = plan_topo(spec);
  mci_ham_cycles cycles;
  check_ok(mci_ham_cycles_of(topo, &cycles));
  mci_tally tally = {0};
  uint64_t most;
  for (uint32_t k = 0; k < 2; k++) {
    for (uint32_t i = 0; i < cycles.n; i++) {
      uint32_t rank = cycles.rank[k][i], next = cycles.rank[k][(i + 1) % cycles.n];
      if (cycles.position[k][rank] != i) fail_msg("%s cycle %u passes rank %u twice", spec, k, rank);
      if (!mci_topo_adjacent(topo, rank, next)) fail_msg("%s cycle %u: %u to %u is no link", spec, k, rank, next);
      check_ok(mci_tally_add(&tally, topo, rank, next));
      check_ok(mci_tally_add(&tally, topo, next, rank));
    }
  }
  mci_tally_busiest(&tally, 1, &most);
  if (most != 1 || tally.used != 4 * cycles.n) fail_msg("%s: the cycles have a common link", spec);
  mci_tally_fini(&tally);
  mci_ham_cycles_fini(&cycles);
  mci_topo_destroy(topo);
}

static void two_cycles_pass_all_ranks_and_share_no_link(void** state) {
  (void)state;
  for (uint32_t r = 3; r <= 20; r++)
    for (uint32_t c = 3; c <= 20; c++) check_cycles(r, c);
  check_cycles(3, 101);
  check_cycles(64, 3);
}

/* ---- refusals ---- */
static void what_does_not_fit_is_refused_with_the_reason(void** state) {
  (void)state;
  static const struct {
    const char *spec, *name;
    mci_coll coll;
    const char* reason;
  } rows[] = {
      {"torus:3x4", "swing", MCI_ALL_REDUCE, "powers of two"},
      {"torus:4x6", "halving_doubling", MCI_ALL_REDUCE, "dimension 1 has 6"},
      {"mesh:4x4", "swing", MCI_ALL_REDUCE, "is a line"},
      {"full:8", "swing", MCI_ALL_REDUCE, "not as rings"},
      {"full:6", "halving_doubling", MCI_ALL_GATHER, "there are 6"},
      {"torus:4x4@dead=1.1", "recursive_doubling", MCI_ALL_REDUCE, "holes"},
      {"torus:4x4@neighbours", "halving_doubling", MCI_ALL_REDUCE, "only neighbours"},
      {"mesh:4x4", "ham_rings", MCI_ALL_REDUCE, "is a line"},
      {"torus:2x4", "ham_rings", MCI_ALL_REDUCE, "is a line"},
      {"torus:4x4x4", "ham_rings", MCI_ALL_REDUCE, "two dimensions"},
      {"torus:72x72", "ham_rings", MCI_ALL_GATHER, "4096"},
      {"torus:300x300", "ham_rings", MCI_ALL_REDUCE, "65536"},
      {"ring:8", "torus_2d", MCI_ALL_REDUCE, "two dimensions"},
      {"mesh:3x3", "torus_2d", MCI_ALL_REDUCE, "line"},
      {"mesh:70x70", "double_tree", MCI_BROADCAST, "4096"},
      {"full:1", "double_tree", MCI_BROADCAST, "single rank"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = plan_topo(rows[i].spec);
    mci_request request = {.coll = rows[i].coll, .bytes = 1 << 20};
    mci_candidate choice;
    check_fails(mci_plan_choose(topo, &request, rows[i].name, &choice), meshcclInvalidArgument, rows[i].reason);
    mci_topo_destroy(topo);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(partners_pair_up_and_labels_tell_halves),
      cmocka_unit_test(loads_of_exchanges_are_those_of_the_routes),
      cmocka_unit_test(forms_change_with_the_size),
      cmocka_unit_test(two_cycles_pass_all_ranks_and_share_no_link),
      cmocka_unit_test(what_does_not_fit_is_refused_with_the_reason),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
