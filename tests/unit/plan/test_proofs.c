/* Every program of every family is proved: all shapes up to 6x6, odd and mixed ones, holes, rank maps, roots, chunks.
 */
#include "plan_test.h"

/* The predicted steps are the longest chain of messages. From one leaf of a tree to another it is shorter where the
 * deepest branches of the root differ. Combs and packed trees share channels: their static order chains messages of
 * different trees. The routes of blocks depend on how many parts a block has. Combs and sweeps are made otherwise for
 * another number of chunks, so the programs say how many steps. */
static void check_depth(const plan_case* c, uint64_t steps, uint64_t depth) {
  bool shared = strcmp(c->candidate.family->name, "comb") == 0 || strcmp(c->candidate.family->name, "packing") == 0;
  if (strcmp(c->candidate.family->name, "ports") == 0) return;
  if (shared && depth > steps) return;
  bool blocks = c->request.coll == MCI_ALL_GATHER || c->request.coll == MCI_REDUCE_SCATTER;
  uint64_t slack = blocks && strcmp(c->candidate.family->name, "tree") == 0;
  if (depth > steps || depth + slack < steps)
    fail_msg("%s: a chain of %lu messages, %lu predicted", plan_case_text(c), (unsigned long)depth,
             (unsigned long)steps);
}

static uint64_t steps_of(const plan_case* c, const mci_schedule* schedule) {
  bool otherwise = strcmp(c->candidate.family->name, "sweep") == 0 || strcmp(c->candidate.family->name, "comb") == 0;
  return otherwise ? schedule->programs[0]->steps : c->candidate.cost.steps;
}

static void prove(const plan_case* c) {
  mci_schedule* schedule = plan_schedule(c);
  for (int in_place = 0; in_place < 2; in_place++) {
    mci_verify_options options = {.in_place = in_place};
    mci_verify_report report;
    if (mci_schedule_verify(schedule, &options, &report) != meshcclSuccess)
      fail_msg("%s%s: %s", plan_case_text(c), in_place ? ", in place" : "", mci_error_last());
    if (c->candidate.cost.chunks == 1) check_depth(c, steps_of(c, schedule), report.depth);
  }
  mci_schedule_destroy(schedule);
}

static void prove_sizes(const char* format, uint32_t first, uint32_t last) {
  for (uint32_t n = first; n <= last; n++) {
    char spec[32];
    snprintf(spec, sizeof spec, format, n);
    plan_each_case(spec, 3, prove);
  }
}

static void rings_lines_and_full_graphs_are_proved(void** state) {
  (void)state;
  prove_sizes("ring:%u", 2, 16);
  prove_sizes("line:%u", 2, 9);
  prove_sizes("full:%u", 1, 9);
  prove_sizes("full:%u", 17, 18);
}

/* The families that are particular to grids; rings and direct messages are proved on selected shapes below. */
static void prove_grids(const char* kind) {
  static const mci_coll colls[] = {MCI_ALL_REDUCE, MCI_ALL_GATHER, MCI_REDUCE_SCATTER,
                                   MCI_BROADCAST,  MCI_GATHER,     MCI_ALL_TO_ALL};
  for (uint32_t rows = 1; rows <= 6; rows++) {
    for (uint32_t columns = 1; columns <= 6; columns++) {
      char spec[32];
      snprintf(spec, sizeof spec, "%s:%ux%u@neighbours", kind, rows, columns);
      mci_topo* topo = plan_topo(spec);
      for (size_t i = 0; i < MCI_COUNT(colls); i++) {
        mci_request request = {.coll = colls[i], .bytes = 1 << 20, .root = mci_topo_nranks(topo) / 3};
        if (plan_each_family(spec, topo, &request, 3, prove) == 0)
          fail_msg("%s: nothing serves %s", spec, mci_coll_name(colls[i]));
      }
      mci_topo_destroy(topo);
    }
  }
}

static void all_meshes_up_to_6x6_are_proved(void** state) {
  (void)state;
  prove_grids("mesh");
}

static void all_tori_up_to_6x6_are_proved(void** state) {
  (void)state;
  prove_grids("torus");
}

static void odd_shapes_holes_and_maps_are_proved(void** state) {
  (void)state;
  static const char* specs[] = {
      "mesh:1x5",
      "mesh:5x1",
      "mesh:3x4",
      "torus:3x4",
      "torus:4x4",
      "torus:5x3",
      "mesh:3x3x3",
      "torus:3x3x3",
      "torus:2x3x4",
      "mesh:4x2x3",
      "mesh:2x1x2x3",
      "torus:2x2x3x4",
      "mesh:3x5@neighbours",
      "torus:3x5@neighbours",
      "torus:3x3x3@neighbours",
      "mesh:5x5@dead=2.2",
      "mesh:4x5@dead=0.0+3.1,cut=1.1-1.2",
      "mesh:3x3@dead=0.1,neighbours",
      "torus:4x4@cut=0.0-0.1+2.2-3.2",
      "mesh:2x3@map=3.1.0.2.5.4",
      "torus:3x3@map=8.0.7.1.6.2.5.3.4",
  };
  for (size_t i = 0; i < MCI_COUNT(specs); i++) plan_each_case(specs[i], 2, prove);
}

/* Combs as the planner wants them: with few spines, several lanes, outer trees of fewer chunks, and apart or not. */
static void combs_are_proved(void** state) {
  (void)state;
  static const char* specs[] = {
      "mesh:7x7@500ns", "mesh:8x8@500ns", "mesh:6x6@0ns",   "mesh:3x9@2us",
      "mesh:2x12",      "line:9",         "mesh:3x4x5@2us", "mesh:4x6@level=tile:2x6:10GB/s:3us"};
  unsigned few_spines = 0, several_lanes = 0;
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = plan_topo(specs[i]);
    plan_case c = {.spec = specs[i], .topo = topo};
    for (uint64_t bytes = 1 << 12; bytes <= 1 << 20; bytes *= 4) {
      c.request = (mci_request){.coll = MCI_ALL_REDUCE, .bytes = bytes, .message_bytes = 8192};
      check_ok(mci_plan_choose(topo, &c.request, "comb", &c.candidate));
      few_spines += c.candidate.cost.variant > 0;
      several_lanes += c.candidate.cost.channels > 2 * mci_topo_ndims(c.topo);
      prove(&c);
    }
    mci_topo_destroy(topo);
  }
  assert_true(few_spines > 0);
  assert_true(several_lanes > 0);
}

/* Packed trees for themselves: many shapes, and enough chunks for a loop. */
static void packed_trees_are_proved(void** state) {
  (void)state;
  static const char* specs[] = {
      "mesh:2x2@cut=0.0-0.1",
      "line:5@dead=0",
      "ring:5@cut=4-0",
      "ring:7@dead=3",
      "mesh:3x4@dead=0.0,neighbours",
      "mesh:5x5@dead=0.1+1.0,neighbours,pick=0.2+0.3+1.2+1.1+2.1+2.2",
      "mesh:5x5@dead=1.1+1.3+3.2,cut=2.0-3.0",
      "mesh:6x4@dead=0.0+5.3+2.2,o=20ns,0ns",
      "torus:5x5@dead=0.0",
      "torus:3x5@cut=0.0-0.4+2.1-0.1",
      "torus:4x4@dead=1.1+2.2+3.3",
      "mesh:3x3x3@dead=1.1.1+0.0.2",
      "torus:3x3x4@cut=0.0.0-0.0.3,dead=2.2.2",
      "mesh:4x6@dead=1.4,level=tile:2x3:10GB/s:1us",
      "mesh:4x4@dead=1.1,map=3.1.0.2.5.4.6.7.14.9.10.11.12.13.8",
  };
  static const uint32_t chunks[] = {1, 2, 11};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    plan_case c = {.spec = specs[i], .topo = plan_topo(specs[i])};
    for (size_t k = 0; k < MCI_COUNT(chunks); k++) {
      c.request = (mci_request){.coll = MCI_ALL_REDUCE, .bytes = chunks[k] << 16, .wide = k % 2};
      check_ok(mci_plan_choose(c.topo, &c.request, "packing", &c.candidate));
      c.candidate.cost.chunks = chunks[k];
      prove(&c);
    }
    mci_topo_destroy((mci_topo*)c.topo);
  }
}

static void parts_of_grids_are_proved(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    uint32_t n, ranks[9];
  } rows[] = {
      {"mesh:4x4", 5, {0, 5, 10, 15, 3}}, {"torus:4x4", 4, {3, 2, 1, 0}}, {"mesh:4x4", 4, {5, 6, 9, 10}},
      {"ring:8", 3, {7, 0, 4}},           {"full:6", 3, {5, 1, 3}},       {"mesh:3x3", 1, {4}},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo *topo = plan_topo(rows[i].spec), *part;
    check_ok(mci_topo_subset(topo, rows[i].ranks, rows[i].n, &part));
    for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
      mci_request request = {.coll = (mci_coll)coll, .bytes = 1 << 20, .root = rows[i].n - 1};
      if (plan_each_family(rows[i].spec, part, &request, 2, prove) == 0)
        fail_msg("part of %s: nothing serves %s", rows[i].spec, mci_coll_name((mci_coll)coll));
    }
    mci_topo_destroy(part);
    mci_topo_destroy(topo);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rings_lines_and_full_graphs_are_proved),
      cmocka_unit_test(all_meshes_up_to_6x6_are_proved),
      cmocka_unit_test(all_tori_up_to_6x6_are_proved),
      cmocka_unit_test(odd_shapes_holes_and_maps_are_proved),
      cmocka_unit_test(combs_are_proved),
      cmocka_unit_test(packed_trees_are_proved),
      cmocka_unit_test(parts_of_grids_are_proved),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
