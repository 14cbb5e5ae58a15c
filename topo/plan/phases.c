/* Channels, their order and their conditions; see phases.h for the algorithm and phases_step.c for the steps. */
#include "topo/plan/phases.h"

#include "base/base.h"
#include "topo/plan/phases_step.h"

uint32_t mci_phases_positions(const mci_phases* phases) {
  uint32_t n = 1;
  for (uint32_t a = 0; a < phases->naxes; a++) n *= phases->axes[a].n;
  return n;
}

bool mci_phases_paired(const mci_phases* phases, uint32_t chunks) {
  if (chunks % 2) return false;
  for (uint32_t a = 0; a < phases->naxes; a++) {
    const mci_axis* axis = &phases->axes[a];
    if (axis->ring && !axis->one_way && (axis->n % 2 == 0 || phases->coll != MCI_ALL_GATHER)) return true;
  }
  return false;
}

static uint32_t count_phases(const mci_phases* phases) {
  return phases->coll == MCI_ALL_REDUCE ? 2 * phases->naxes : phases->naxes;
}

static void set_number(mci_phase* phase, uint32_t number) {
  const mci_phases* p = phase->phases;
  phase->number = number;
  phase->gather = p->coll == MCI_ALL_GATHER || number >= p->naxes;
  phase->level = phase->gather ? count_phases(p) - 1 - number : number;
}

bool mci_phase_before(const mci_phase* phase, mci_phase* out) {
  if (phase->number == 0) return false;
  *out = *phase;
  set_number(out, phase->number - 1);
  return true;
}

const mci_axis* mci_phase_axis(const mci_phase* phase) {
  return &phase->phases->axes[phase->phases->order[phase->color][phase->level]];
}

uint16_t mci_phase_channel(const mci_phase* phase, unsigned dir) {
  return (uint16_t)((phase->number * phase->phases->ncolors + phase->color) * 2 + dir);
}

uint32_t mci_phase_steps(const mci_phase* phase, unsigned dir, uint32_t turn) {
  mci_flow flow = mci_axis_flow(mci_phase_axis(phase), dir, turn % 2);
  if (!phase->gather) return flow.out + (flow.in > 0);
  bool enters = phase->phases->coll == MCI_ALL_GATHER && phase->number == 0;
  return flow.in + (flow.out > 0 || (enters && dir == mci_phase_early(phase, turn)));
}

/* The two sums that end at a position of a line come from as many positions as lie on their sides: the nearer is early.
 */
unsigned mci_phase_early(const mci_phase* phase, uint32_t turn) {
  const mci_axis* axis = mci_phase_axis(phase);
  bool behind = turn == 1;
  if (phase->period == 1 && !axis->ring && !phase->gather) behind = axis->at + 1 < axis->n - axis->at;
  return behind ? MCI_BEHIND : MCI_AHEAD;
}

uint32_t mci_phase_turn(const mci_phase* phase, unsigned dir, uint32_t place) {
  return dir == MCI_BEHIND ? phase->period - 1 - place : place;
}

static uint32_t steps_per_turn(const mci_phase* phase, unsigned dir) {
  uint32_t steps = 0;
  for (uint32_t t = 0; t < phase->period; t++) steps += mci_phase_steps(phase, dir, t);
  return steps;
}

mci_affine mci_phase_done(const mci_phase* phase, unsigned dir) {
  uint32_t steps = 0;
  for (uint32_t i = 0, turn = UINT32_MAX; turn != phase->turn; i++) {
    turn = mci_phase_turn(phase, dir, i);
    steps += mci_phase_steps(phase, dir, turn);
  }
  bool looped = phase->chunks > phase->period;
  return mci_lin((int32_t)steps, looped ? (int32_t)steps_per_turn(phase, dir) : 0);
}

/* Steps of the last chunk that only take what arrives for this rank. */
static uint32_t last_takes(const mci_phase* phase, unsigned dir) {
  mci_flow flow = mci_axis_flow(mci_phase_axis(phase), dir, mci_phase_turn(phase, dir, phase->period - 1));
  return phase->gather ? flow.in - flow.gather_through : flow.in > 0;
}

void mci_phase_after_links(const mci_phase* phase) {
  mci_phase before;
  if (phase->chunks == 1 || !mci_phase_before(phase, &before)) return;
  if (phase->gather && !before.gather) return;
  if (phase->phases->coll == MCI_ALL_REDUCE && !mci_phase_axis(phase)->ring) return;
  for (before.color = 0; before.color < phase->phases->ncolors; before.color++) {
    if (mci_phase_axis(&before) != mci_phase_axis(phase)) continue;
    uint32_t steps = steps_per_turn(&before, phase->dir) * (phase->chunks / phase->period);
    steps -= MCI_MIN(steps, last_takes(&before, phase->dir));
    if (steps > 0) mci_build_after(phase->b, mci_phase_channel(&before, phase->dir), mci_const((int32_t)steps));
  }
}

static void build_channel(mci_phase* phase) {
  if (steps_per_turn(phase, phase->dir) == 0) return;
  mci_build_channel(phase->b, mci_phase_channel(phase, phase->dir));
  uint32_t turns = phase->chunks / phase->period;
  if (turns > 1) mci_build_repeat(phase->b, turns);
  for (uint32_t place = 0; place < phase->period; place++) {
    phase->turn = mci_phase_turn(phase, phase->dir, place);
    phase->waited = false;
    if (phase->gather) {
      mci_phase_gather(phase);
    } else {
      mci_phase_scatter(phase);
    }
  }
  if (turns > 1) mci_build_end(phase->b);
}

static void set_layout(mci_build* b, const mci_phases* p, uint32_t chunks, const uint32_t* place) {
  uint32_t weights[MCI_MAX_DIMS * MCI_PHASES_MAX_CHUNKS];
  for (uint32_t i = 0; i < p->ncolors * chunks; i++) weights[i] = p->weight[i / chunks];
  mci_build_layout(b, mci_phases_positions(p), p->ncolors * chunks, weights);
  if (p->coll != MCI_ALL_REDUCE) mci_build_order(b, place);
  if (p->coll == MCI_REDUCE_SCATTER) mci_build_slots(b, p->ncolors * chunks);
}

meshcclResult_t mci_phases_build(const mci_phases* phases, const char* name, uint32_t nranks, uint32_t rank,
                                 const mci_plan_cost* cost, const uint32_t* place, mci_program** out) {
  mci_build* b = mci_build_begin(phases->coll, name, nranks, rank, 0);
  set_layout(b, phases, cost->chunks, place);
  mci_phase phase = {.phases = phases, .b = b, .chunks = cost->chunks};
  phase.period = mci_phases_paired(phases, cost->chunks) ? 2 : 1;
  for (uint32_t number = 0; number < count_phases(phases); number++) {
    set_number(&phase, number);
    for (phase.color = 0; phase.color < phases->ncolors; phase.color++)
      for (phase.dir = MCI_AHEAD; phase.dir <= MCI_BEHIND; phase.dir++) build_channel(&phase);
  }
  MCI_TRY(mci_build_finish(b, out));
  (*out)->steps = cost->steps;
  return meshcclSuccess;
}
