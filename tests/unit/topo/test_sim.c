/* The simulator where the answer is known in closed form, and what must hold for every schedule: no bound is beaten,
 * links carry what the programs send, one message at a time, and two runs are equal. */
#include "support/programs.h"
#include "support/test.h"
#include "topo/plan/plan.h"
#include "topo/sim/sim.h"

#define US UINT64_C(1000000)

static mci_topo* topo_of(const char* spec) {
  mci_topo* topo;
  check_ok(mci_topo_parse(spec, &topo));
  return topo;
}

static mci_schedule* empty_schedule(uint32_t nranks) {
  mci_schedule* schedule = mci_alloc(sizeof *schedule);
  schedule->programs = mci_alloc(nranks * sizeof *schedule->programs);
  schedule->nranks = nranks;
  return schedule;
}

typedef struct {
  uint32_t from, to;
  uint16_t channel;
  uint32_t times;
} flow;

static mci_shape whole(void) { return mci_span(mci_const(0), 1, mci_const(0)); }

/* Every flow sends the whole vector `times` times; all flows begin at once. */
static mci_schedule* flows_schedule(uint32_t nranks, const flow* flows, uint32_t nflows) {
  mci_schedule* schedule = empty_schedule(nranks);
  for (uint32_t r = 0; r < nranks; r++) {
    mci_build* b = mci_build_begin(MCI_SEND_RECV, "test-flows", nranks, r, 0);
    for (uint32_t f = 0; f < nflows; f++) {
      if (flows[f].from != r && flows[f].to != r) continue;
      mci_build_channel(b, flows[f].channel);
      mci_build_repeat(b, flows[f].times);
      mci_build_step(b, 0);
      if (flows[f].from == r) {
        mci_build_dst_lane(b, 0, mci_const((int32_t)flows[f].to));
        mci_build_src(b, MCI_IN, whole());
      } else {
        mci_build_dst(b, MCI_OUT, 0, whole());
        mci_build_src_lane(b, mci_const((int32_t)flows[f].from));
      }
      mci_build_end(b);
    }
    check_ok(mci_build_finish(b, &schedule->programs[r]));
  }
  return schedule;
}

static mci_sim_report simulate(const char* spec, mci_schedule* schedule, const mci_sim_options* options) {
  mci_topo* topo = topo_of(spec);
  mci_sim_report report;
  check_ok(mci_sim_run(topo, schedule, options, &report));
  mci_schedule_destroy(schedule);
  mci_topo_destroy(topo);
  return report;
}

static mci_sim_report simulate_flows(const char* spec, const flow* flows, uint32_t nflows,
                                     const mci_sim_options* options) {
  mci_topo* topo = topo_of(spec);
  uint32_t nranks = mci_topo_nranks(topo);
  mci_topo_destroy(topo);
  return simulate(spec, flows_schedule(nranks, flows, nflows), options);
}

/* ---- closed forms ---- 50 GB/s: 1 MB takes 20 us. */

static void a_message_is_stored_at_every_hop_or_cut_through(void** state) {
  (void)state;
  for (uint32_t hops = 1; hops <= 4; hops++) {
    flow f = {0, hops, 0, 1};
    mci_sim_options o = {.bytes = 1000000, .message_bytes = 1000000};
    assert_int_equal(simulate_flows("line:5@500ns", &f, 1, &o).total_ps, hops * (20 * US + US / 2));
    o.cut_through = true;
    assert_int_equal(simulate_flows("line:5@500ns", &f, 1, &o).total_ps, hops * US / 2 + 20 * US);
    o.cut_through = false;
    o.message_bytes = 250000; /* a pipeline of four */
    mci_sim_report report = simulate_flows("line:5@500ns", &f, 1, &o);
    assert_int_equal(report.total_ps, (hops + 3) * 5 * US + hops * US / 2);
    assert_int_equal(report.messages, 4);
    assert_int_equal(report.bytes, hops * 1000000);
    assert_int_equal(report.links, hops);
  }
}

static void a_link_further_on_waits_for_the_last_byte(void** state) {
  (void)state; /* the second half of the way is ten times as fast: it cannot end before the slow one */
  flow f = {0, 3, 0, 1};
  mci_sim_options o = {.bytes = 1000000, .message_bytes = 1000000, .cut_through = true};
  const char* spec = "line:4@50GB/s,500ns,level=die:2:5GB/s:500ns";
  mci_sim_report report = simulate_flows(spec, &f, 1, &o);
  assert_int_equal(report.total_ps, 3 * US / 2 + 200 * US);
  o.cut_through = false;
  assert_int_equal(simulate_flows(spec, &f, 1, &o).total_ps, 3 * US / 2 + 200 * US + 2 * 20 * US);
}

static void two_messages_share_a_link_one_after_the_other(void** state) {
  (void)state;
  const flow flows[] = {{0, 2, 0, 1}, {1, 2, 1, 1}};
  mci_sim_options o = {.bytes = 1000000, .message_bytes = 1000000, .cut_through = true};
  uint64_t finish[3];
  o.finish_ps = finish;
  mci_sim_report report = simulate_flows("line:3@500ns", flows, 2, &o);
  assert_int_equal(report.total_ps, 40 * US + US / 2); /* as SimGrid has it */
  assert_int_equal(report.max_queue, 1);
  assert_int_equal(finish[0], 0); /* a send is over at once */
  assert_int_equal(finish[2], report.total_ps);
  assert_true(report.busiest > 0.98 && report.busiest < 0.99); /* 40 of 40.5 us */
  o.cut_through = false;                                       /* the far one is stored at rank 1 until 20.5 us */
  assert_int_equal(simulate_flows("line:3@500ns", flows, 2, &o).total_ps, 41 * US);
}

/* Two ranks leave a host and enter another: 20 us each over its port one after the other, one delay, nothing stored on
 * the way. A message within the host has a link of its own. */
static void ranks_of_a_group_share_its_port(void** state) {
  (void)state;
  const char* spec = "full:4@level=host:2+2:50GB/s:10us";
  const flow flows[] = {{0, 2, 0, 1}, {1, 3, 1, 1}, {0, 1, 2, 1}};
  mci_sim_options o = {.bytes = 1000000, .message_bytes = 1000000};
  uint64_t finish[4];
  o.finish_ps = finish;
  assert_int_equal(simulate_flows(spec, flows, 1, &o).total_ps, 30 * US);
  assert_int_equal(simulate_flows(spec, flows, 3, &o).total_ps, 50 * US);
  assert_int_equal(finish[1], 20 * US + US / 2);
  o.set_lat = true;
  o.lat_ps = US;
  assert_int_equal(simulate_flows(spec, flows, 2, &o).total_ps, 41 * US);
  /* Of two levels the slower port counts, and the delay of the outer one. */
  const flow far = {0, 3, 0, 1};
  o.set_lat = false;
  spec = "full:4@level=host:1*4:10GB/s:5us,level=rack:2+2:25GB/s:10us";
  assert_int_equal(simulate_flows(spec, &far, 1, &o).total_ps, 110 * US);
}

static void note_channel(void* arg, const mci_sim_span* span) {
  char* order = arg;
  size_t length = strlen(order);
  order[length] = (char)('0' + span->channel);
}

static void the_order_at_a_link_is_the_chosen_one(void** state) {
  (void)state;
  const flow flows[] = {{0, 1, 0, 4}, {0, 1, 1, 2}};
  static const char* expected[] = {
      [MCI_SIM_FIFO] = "010100", [MCI_SIM_PROGRAM] = "000011", [MCI_SIM_PROGRESS] = "001001"};
  for (int order = MCI_SIM_FIFO; order <= MCI_SIM_PROGRESS; order++) {
    char seen[16] = "";
    mci_sim_options o = {.bytes = 1000000, .message_bytes = 1000000, .credits = 1, .order = (mci_sim_order)order};
    o.trace = note_channel;
    o.trace_arg = seen;
    assert_int_equal(simulate_flows("line:2@0ns", flows, 2, &o).total_ps, 6 * 20 * US);
    assert_string_equal(seen, expected[order]);
  }
}

static void credits_limit_a_lane(void** state) {
  (void)state; /* messages of 1 us, a round trip of 10 us more: C messages every 11 us while C < 11 */
  flow f = {0, 1, 0, 1};
  for (uint32_t credits = 1; credits <= 16; credits++) {
    mci_sim_options o = {.bytes = 50000 * 40, .message_bytes = 50000, .credits = credits};
    uint64_t last = 39, start = credits < 11 ? last / credits * 11 + last % credits : last;
    mci_sim_report report = simulate_flows("line:2@5us", &f, 1, &o);
    assert_int_equal(report.total_ps, (start + 1 + 5) * US);
    assert_true((report.credit > 0) == (credits < 11));
    assert_true(report.starved == 0 && report.fill == 0 && report.drain > 0);
  }
}

static void a_message_costs_and_its_link_is_occupied(void** state) {
  (void)state;
  flow f = {0, 2, 0, 1};
  mci_sim_options o = {.bytes = 1000000, .message_bytes = 100000};
  /* ten messages of 2 us and 0.1 us, two hops of 0.5 us */
  assert_int_equal(simulate_flows("line:3@500ns,o=100ns", &f, 1, &o).total_ps, 11 * (2 * US + US / 10) + US);
  o.set_cost = o.set_lat = true;
  assert_int_equal(simulate_flows("line:3@500ns,o=100ns", &f, 1, &o).total_ps, 11 * 2 * US);
  o.cost_ps = US;
  o.lat_ps = 2 * US;
  assert_int_equal(simulate_flows("line:3@500ns,o=100ns", &f, 1, &o).total_ps, 11 * 3 * US + 4 * US);
}

static mci_schedule* rings(uint32_t n) {
  mci_schedule* schedule = empty_schedule(n);
  for (uint32_t r = 0; r < n; r++) check_ok(test_program_ring_all_reduce(n, r, &schedule->programs[r]));
  return schedule;
}

static void a_ring_takes_its_steps(void** state) {
  (void)state;
  for (uint32_t n = 3; n <= 16; n++) {
    char spec[64];
    snprintf(spec, sizeof spec, "ring:%u@500ns,o=30ns", n);
    mci_sim_options o = {.bytes = n * UINT64_C(50000), .message_bytes = 50000};
    mci_sim_report report = simulate(spec, rings(n), &o);
    uint64_t step = US + US / 2 + 30000;
    assert_int_equal(report.total_ps, 2 * (n - 1) * step);
    assert_int_equal(report.messages, 2 * (n - 1) * n);
    assert_int_equal(report.bytes, 2 * (n - 1) * n * 50000);
    o.fold_Bps = 100000000000; /* half the time of the wire, in the first n - 1 steps */
    assert_int_equal(simulate(spec, rings(n), &o).total_ps, 2 * (n - 1) * step + (n - 1) * US / 2);
  }
}

/* 1 MB over 16 ranks. On a 4x4 torus every fourth step of rank order is two hops long: at most 8 of a chain of 30. */
static void a_ring_in_rank_order_pays_for_longer_steps(void** state) {
  (void)state;
  mci_sim_options o = {.bytes = 1000000, .message_bytes = 1000000, .cut_through = true};
  assert_int_equal(simulate("ring:16", rings(16), &o).total_ps, 52 * US + US / 2); /* as SimGrid has it */
  assert_int_equal(simulate("torus:4x4", rings(16), &o).total_ps, 52 * US + US / 2 + 8 * US / 2);
  o.cut_through = false;
  assert_int_equal(simulate("torus:4x4", rings(16), &o).total_ps, 52 * US + US / 2 + 8 * (US / 2 + 5 * US / 4));
}

static void folds_of_one_rank_follow_each_other(void** state) {
  (void)state;
  mci_schedule* schedule = empty_schedule(3);
  for (uint32_t r = 0; r < 3; r++) check_ok(test_program_direct_all_reduce(3, r, &schedule->programs[r]));
  /* blocks of 1 us; all arrive at 1 us, two operands are added in 2 us, and the results go out in 1 us */
  mci_sim_options o = {.bytes = 150000, .message_bytes = 50000, .fold_Bps = UINT64_C(50000000000)};
  assert_int_equal(simulate("full:3@0ns", schedule, &o).total_ps, 4 * US);
}

/* ---- every schedule ---- */

typedef struct {
  uint64_t link[4096], end[4096]; /* link directions and when they get free */
  uint32_t nlinks;
  uint64_t bytes, last_start, digest;
} tracer;

static void trace(void* arg, const mci_sim_span* span) {
  tracer* t = arg;
  uint32_t i = 0;
  while (i < t->nlinks && t->link[i] != span->link) i++;
  assert_true(i < MCI_COUNT(t->link));
  if (i == t->nlinks) t->link[t->nlinks++] = span->link;
  assert_true(span->start_ps >= t->end[i] && span->end_ps >= span->start_ps && span->start_ps >= t->last_start);
  t->end[i] = span->end_ps;
  t->last_start = span->start_ps;
  t->bytes += span->bytes;
  t->digest = mci_hash64_mix(t->digest, span->start_ps ^ span->link << 40);
  t->digest = mci_hash64_mix(t->digest, (uint64_t)span->source << 32 | span->target);
  t->digest = mci_hash64_mix(t->digest, (uint64_t)span->channel << 32 | span->step);
}

/* Bytes times links of all departures of all programs. */
static uint64_t sent_bytes(const mci_topo* topo, const mci_schedule* schedule, uint64_t count, uint32_t size) {
  uint64_t bytes = 0;
  for (uint32_t r = 0; r < schedule->nranks; r++) {
    const mci_program* p = schedule->programs[r];
    for (uint32_t c = 0; c < p->nchannels; c++) {
      mci_cursor cursor;
      mci_cursor_start(&cursor, &p->channels[c]);
      for (const mci_instr* step; (step = mci_cursor_next(&cursor));) {
        uint64_t hops = 0, elements = 0;
        for (unsigned k = 0; k < (unsigned)step->ndst + step->nsrc; k++) {
          mci_arg arg = mci_cursor_arg(&cursor, step, k);
          if (arg.kind != MCI_LANE) elements = mci_layout_elements(&p->layout, count, &arg);
          if (arg.kind == MCI_LANE && k < step->ndst) hops += mci_topo_hops(topo, r, arg.peer);
        }
        bytes += hops * elements * size;
      }
    }
  }
  return bytes;
}

static void check_run(const char* spec, const mci_topo* topo, const mci_request* request, const mci_candidate* choice,
                      const mci_sim_options* base) {
  static tracer first, second;
  mci_schedule* schedule;
  check_ok(mci_plan_build_all(topo, request, choice, &schedule));
  mci_sim_options o = *base;
  o.trace = trace;
  mci_sim_report a, b;
  memset(&first, 0, sizeof first);
  memset(&second, 0, sizeof second);
  o.trace_arg = &first;
  check_ok(mci_sim_run(topo, schedule, &o, &a));
  o.trace_arg = &second;
  check_ok(mci_sim_run(topo, schedule, &o, &b));
  uint64_t blocks = mci_coll_block_major(request->coll) ? mci_topo_nranks(topo) : 1;
  uint64_t count = MCI_MAX(request->bytes / 4 / blocks, UINT64_C(1));
  bool equal = a.total_ps == b.total_ps && a.events == b.events && first.digest == second.digest;
  bool conserved = first.bytes == a.bytes && a.bytes == sent_bytes(topo, schedule, count, 4);
  bool bounded = a.total_ps >= a.bound_ps && a.share <= 1;
  bool sums = a.busy <= a.busiest + 1e-9 && a.drain > -1e-9;
  if (!equal || !conserved || !bounded || !sums)
    fail_msg("%s %s %lu %s: equal %d, conserved %d (%lu), bounded %d (%lu of %lu ps), sums %d", spec,
             mci_coll_name(request->coll), (unsigned long)request->bytes, choice->family->name, equal, conserved,
             (unsigned long)a.bytes, bounded, (unsigned long)a.total_ps, (unsigned long)a.bound_ps, sums);
  mci_schedule_destroy(schedule);
}

static void every_schedule_keeps_the_rules(void** state) {
  (void)state;
  static const char* specs[] = {
      "full:5",
      "ring:6",
      "line:4@o=100ns",
      "mesh:3x3",
      "torus:4x4",
      "torus:3x5@0ns",
      "mesh:2x3x2",
      "full:1",
      "mesh:5x5@dead=2.2",
      "mesh:4x4@cut=0.0-0.1,dead=3.1",
      "mesh:3x4@map=11.10.9.8.7.6.5.4.3.2.1.0",
      "mesh:4x4@level=die:2x2:10GB/s:2us",
      "mesh:3x3@pick=0.0+1.1+2.2",
  };
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = topo_of(specs[i]);
    for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
      mci_request request = {.coll = (mci_coll)coll, .bytes = i % 2 ? 40000 : 1000, .root = 0};
      mci_candidate list[MCI_MAX_CANDIDATES];
      uint32_t n;
      check_ok(mci_plan_candidates(topo, &request, list, &n));
      for (uint32_t k = 0; k < n && list[k].applies; k++) {
        mci_sim_options o = {.bytes = request.bytes, .message_bytes = 4096, .credits = 1 + (k + (uint32_t)coll) % 8};
        o.order = (mci_sim_order)(k % 3);
        o.cut_through = coll % 2;
        check_run(specs[i], topo, &request, &list[k], &o);
      }
    }
    mci_topo_destroy(topo);
  }
}

static void routes_have_as_many_links_as_hops(void** state) {
  (void)state;
  static const char* specs[] = {"ring:7",     "mesh:4x4@dead=1.1+2.2",    "torus:4x5@dead=0.0,cut=1.1-1.2", "full:4",
                                "mesh:2x3x4", "mesh:4x4@pick=0.0+1.3+3.1"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = topo_of(specs[i]);
    uint32_t n = mci_topo_nranks(topo);
    for (uint32_t a = 0; a < n; a++) {
      for (uint32_t b = 0; b < n; b++) {
        mci_hop hops[64], few[1];
        uint32_t nhops = mci_topo_route(topo, a, b, hops, MCI_COUNT(hops));
        assert_int_equal(nhops, mci_topo_hops(topo, a, b));
        assert_int_equal(mci_topo_route(topo, a, b, few, 1), nhops);
        assert_int_equal(mci_topo_route(topo, a, b, NULL, 0), nhops);
        if (nhops) assert_true(few[0].id == hops[0].id);
        for (uint32_t x = 0; x < nhops; x++)
          for (uint32_t y = 0; y < x; y++) assert_true(hops[x].id != hops[y].id);
      }
    }
    mci_topo_destroy(topo);
  }
}

/* ---- cost and errors ---- */

static mci_schedule* planned(const char* spec, uint64_t bytes, const char* family) {
  mci_topo* topo = topo_of(spec);
  mci_request request = {.coll = MCI_ALL_REDUCE, .bytes = bytes};
  mci_candidate choice;
  mci_schedule* schedule;
  check_ok(mci_plan_choose(topo, &request, family, &choice));
  check_ok(mci_plan_build_all(topo, &request, &choice, &schedule));
  mci_topo_destroy(topo);
  return schedule;
}

static void a_run_beyond_its_limit_is_given_up(void** state) {
  (void)state;
  const flow f = {0, 1, 0, 10};
  mci_sim_options o = {.bytes = 1000000, .message_bytes = 1000000, .limit_ps = 1000 * US};
  uint64_t time = simulate_flows("line:2", &f, 1, &o).total_ps;
  assert_int_equal(time, 200 * US + US / 2);
  o.limit_ps = time;
  assert_int_equal(simulate_flows("line:2", &f, 1, &o).total_ps, time);
  o.limit_ps = time / 2;
  assert_true(simulate_flows("line:2", &f, 1, &o).total_ps == UINT64_MAX);
}

static void events_are_few(void** state) {
  (void)state;
  mci_sim_options o = {.bytes = 1 << 22, .message_bytes = 8192, .set_lat = true};
  mci_sim_report report = simulate("mesh:5x5", planned("mesh:5x5", o.bytes, "grid"), &o);
  assert_true(report.messages > 5000);
  assert_int_equal(report.events, report.messages); /* one hop each, no delay: one event each */
  o.lat_ps = US / 2;
  report = simulate("mesh:5x5", planned("mesh:5x5", o.bytes, "grid"), &o);
  assert_true(report.events <= 3 * report.messages);
}

/* Odd square tori reach their bound with one message per step and no delay: every link is busy to the end. */
static void an_odd_square_torus_takes_its_bound(void** state) {
  (void)state;
  static const struct {
    const char* spec;
    uint64_t bytes;
  } rows[] = {{"torus:3x3@0ns", 9 * 80000}, {"torus:5x5@0ns", 25 * 80000}, {"torus:7x7@0ns", 49 * 80000}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo = topo_of(rows[i].spec);
    mci_request request = {.coll = MCI_ALL_REDUCE, .bytes = rows[i].bytes};
    mci_candidate choice;
    check_ok(mci_plan_choose(topo, &request, "grid", &choice));
    choice.cost.chunks = 1;
    mci_schedule* schedule;
    check_ok(mci_plan_build_all(topo, &request, &choice, &schedule));
    mci_sim_options o = {.bytes = rows[i].bytes, .message_bytes = rows[i].bytes};
    mci_sim_report report = simulate(rows[i].spec, schedule, &o);
    assert_int_equal(report.total_ps, report.bound_ps);
    assert_true(report.busy > 0.9999 && report.busiest <= 1 && report.credit == 0);
    mci_topo_destroy(topo);
  }
}

static void a_pipelined_mesh_comes_near_its_bound(void** state) {
  (void)state;
  mci_sim_options o = {.bytes = 1 << 24, .message_bytes = 8192};
  mci_sim_report report = simulate("mesh:4x4@0ns", planned("mesh:4x4@0ns", o.bytes, "grid"), &o);
  assert_true(report.share > 0.9 && report.share <= 1);
}

static void wrong_options_are_refused(void** state) {
  (void)state;
  mci_topo* topo = topo_of("ring:4");
  mci_schedule* schedule = rings(4);
  mci_sim_report report;
  check_fails(mci_sim_run(topo, schedule, &(mci_sim_options){.bytes = 64, .credits = 65}, &report),
              meshcclInvalidArgument, "65 credits");
  check_fails(mci_sim_run(topo, schedule, &(mci_sim_options){.bytes = 64, .message_bytes = 2}, &report),
              meshcclInvalidArgument, "hold no element");
  mci_topo* other = topo_of("ring:5");
  check_fails(mci_sim_run(other, schedule, &(mci_sim_options){.bytes = 64}, &report), meshcclInvalidArgument,
              "a topology of 5");
  mci_topo_destroy(other);
  schedule->programs[2]->channels[0].instrs[0].ndst = 0; /* never sends its first message */
  check_fails(mci_sim_run(topo, schedule, &(mci_sim_options){.bytes = 64}, &report), meshcclInvalidUsage,
              "nothing runs any more");
  mci_schedule_destroy(schedule);
  mci_topo_destroy(topo);
}

static void every_allocation_may_fail(void** state) {
  (void)state;
  mci_topo* topo = topo_of("torus:2x3");
  mci_schedule* schedule = planned("torus:2x3", 1 << 14, "grid");
  mci_sim_options o = {.bytes = 1 << 14, .message_bytes = 256, .fold_Bps = UINT64_C(1000000000)};
  mci_sim_report report;
  meshcclResult_t result = meshcclSystemError;
  int n = 1;
  for (; n < 2000; n++) {
    mci_alloc_fail_after(n);
    result = mci_sim_run(topo, schedule, &o, &report);
    mci_alloc_fail_after(-1);
    if (result == meshcclSuccess) break;
  }
  assert_int_equal(result, meshcclSuccess);
  assert_true(n > 20);
  mci_schedule_destroy(schedule);
  mci_topo_destroy(topo);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_message_is_stored_at_every_hop_or_cut_through),
      cmocka_unit_test(a_link_further_on_waits_for_the_last_byte),
      cmocka_unit_test(two_messages_share_a_link_one_after_the_other),
      cmocka_unit_test(ranks_of_a_group_share_its_port),
      cmocka_unit_test(the_order_at_a_link_is_the_chosen_one),
      cmocka_unit_test(credits_limit_a_lane),
      cmocka_unit_test(a_message_costs_and_its_link_is_occupied),
      cmocka_unit_test(a_ring_takes_its_steps),
      cmocka_unit_test(a_ring_in_rank_order_pays_for_longer_steps),
      cmocka_unit_test(folds_of_one_rank_follow_each_other),
      cmocka_unit_test(every_schedule_keeps_the_rules),
      cmocka_unit_test(routes_have_as_many_links_as_hops),
      cmocka_unit_test(a_run_beyond_its_limit_is_given_up),
      cmocka_unit_test(events_are_few),
      cmocka_unit_test(an_odd_square_torus_takes_its_bound),
      cmocka_unit_test(a_pipelined_mesh_comes_near_its_bound),
      cmocka_unit_test(wrong_options_are_refused),
      cmocka_unit_test(every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
