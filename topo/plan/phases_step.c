/* The steps of one chunk of one phase in one direction: where its blocks lie, what is sent, folded and stored. */
#include "topo/plan/phases_step.h"

#include "base/base.h"

/* A block position along the axis: x, or x + step * i inside a loop. */
typedef struct {
  uint32_t x;
  int step;
} spot;

static bool chunk_loop(const mci_phase* phase) { return phase->chunks > phase->period; }

/* base + step * i, i the counter of the loop over blocks. */
static mci_affine along(const mci_phase* phase, int64_t base, int64_t step) {
  mci_affine a = mci_const((int32_t)base);
  a.step[chunk_loop(phase)] = (int32_t)step;
  return a;
}

static mci_affine part_of(const mci_phase* phase) {
  int32_t base = (int32_t)(phase->color * phase->chunks + phase->turn);
  return mci_lin(base, chunk_loop(phase) ? (int32_t)phase->period : 0);
}

/* Blocks are numbered with the colour's first axis as the slowest digit: all blocks of a spot are one run. */
static mci_shape numbered(const mci_phase* phase, spot s, bool scratch) {
  const mci_phases* p = phase->phases;
  const uint8_t* order = p->order[phase->color];
  int64_t run = 1, before = 0;
  for (uint32_t l = phase->level + 1; l < p->naxes; l++) run *= p->axes[order[l]].n;
  for (uint32_t l = 0; l < phase->level; l++) before = (before + p->axes[order[l]].at) * p->axes[order[l + 1]].n;
  if (!scratch) return mci_span(along(phase, (before + s.x) * run, s.step * run), (uint32_t)run, part_of(phase));
  mci_shape shape = mci_span(mci_const(0), (uint32_t)run, part_of(phase));
  shape.skip = along(phase, before + s.x, s.step);
  return shape;
}

/* Blocks are numbered row-major over the axes, for all colours alike: a spot is a run of blocks, repeated. */
static mci_shape strided(const mci_phase* phase, spot s) {
  const mci_phases* p = phase->phases;
  const uint8_t* order = p->order[phase->color];
  bool fixed[MCI_PHASES_MAX_AXES] = {false};
  for (uint32_t l = 0; l <= phase->level; l++) fixed[order[l]] = true;
  mci_shape shape = {.run = 1, .nruns = 1, .part = part_of(phase), .nparts = 1};
  int64_t stride = 1, base = 0, step = 0;
  bool contiguous = true;
  for (uint32_t a = p->naxes; a-- > 0; stride *= p->axes[a].n) {
    if (a == order[phase->level]) {
      base += s.x * stride;
      step = s.step * stride;
    } else if (fixed[a]) {
      base += p->axes[a].at * stride;
    } else if (contiguous) {
      shape.run *= p->axes[a].n;
      continue;
    } else {
      /* The free axes above the run are neighbours of each other (mci_phases_colors): one stride describes them. */
      if (shape.nruns == 1) shape.stride = (uint32_t)stride;
      shape.nruns *= p->axes[a].n;
    }
    contiguous = false;
  }
  shape.block = along(phase, base, step);
  return shape;
}

static mci_shape shape_of(const mci_phase* phase, mci_kind kind, spot s) {
  if (kind == MCI_TMP) return numbered(phase, s, true);
  return phase->phases->coll == MCI_ALL_REDUCE ? numbered(phase, s, false) : strided(phase, s);
}

static void to(const mci_phase* phase, mci_kind kind, unsigned flags, spot s) {
  mci_shape shape = shape_of(phase, kind, s);
  if (kind == MCI_TMP) {
    mci_build_dst_tmp(phase->b, flags, part_of(phase), shape);
  } else {
    mci_build_dst(phase->b, kind, flags, shape);
  }
}

static void from(const mci_phase* phase, mci_kind kind, spot s) {
  mci_shape shape = shape_of(phase, kind, s);
  if (kind == MCI_TMP) {
    mci_build_src_tmp(phase->b, part_of(phase), shape);
  } else {
    mci_build_src(phase->b, kind, shape);
  }
}

static void depart(const mci_phase* phase) {
  mci_build_dst_lane(phase->b, 0, mci_const((int32_t)mci_phase_axis(phase)->peer[phase->dir]));
}

static void arrive(const mci_phase* phase) {
  mci_build_src_lane(phase->b, mci_const((int32_t)mci_phase_axis(phase)->peer[!phase->dir]));
}

/* Opens a step; the first of a chunk waits until the phase before has finished this chunk in both directions. */
static void open_step(mci_phase* phase, unsigned flags) {
  mci_build_step(phase->b, flags);
  mci_phase before;
  if (!phase->waited && mci_phase_before(phase, &before)) {
    for (unsigned dir = MCI_AHEAD; dir <= MCI_BEHIND; dir++) {
      if (mci_phase_steps(&before, dir, phase->turn) == 0) continue;
      mci_build_after(phase->b, mci_phase_channel(&before, dir), mci_phase_done(&before, dir));
    }
    mci_phase_after_links(phase);
  }
  phase->waited = true;
}

/* Writes `step` for `count` blocks from position `first` on, against the direction of travel. */
static void walk(mci_phase* phase, int64_t first, uint32_t count, void (*step)(mci_phase*, spot)) {
  const mci_axis* axis = mci_phase_axis(phase);
  int sign = phase->dir == MCI_AHEAD ? -1 : 1;
  mci_run runs[2];
  uint32_t nruns = mci_axis_runs(axis->n, (uint32_t)((first + axis->n) % axis->n), count, sign, runs);
  for (uint32_t i = 0; i < nruns; i++) {
    bool loop = runs[i].count > 1;
    if (loop) mci_build_repeat(phase->b, runs[i].count);
    step(phase, (spot){runs[i].first, loop ? sign : 0});
    if (loop) mci_build_end(phase->b);
  }
}

static spot own(const mci_phase* phase) { return (spot){mci_phase_axis(phase)->at, 0}; }

/* ---- scatter ---- */
static mci_kind addend(const mci_phase* phase) {
  if (phase->level == 0) return MCI_IN;
  return phase->phases->coll == MCI_ALL_REDUCE ? MCI_OUT : MCI_TMP;
}

static mci_kind sum(const mci_phase* phase) { return phase->phases->coll == MCI_ALL_REDUCE ? MCI_OUT : MCI_TMP; }

static unsigned wide(const mci_phase* phase) { return phase->phases->wide ? MCI_WIDE : 0; }

static void start_sum(mci_phase* phase, spot s) {
  open_step(phase, 0);
  depart(phase);
  from(phase, addend(phase), s);
}

static void pass_sum(mci_phase* phase, spot s) {
  open_step(phase, wide(phase));
  to(phase, sum(phase), MCI_SPILL, s);
  depart(phase);
  arrive(phase);
  from(phase, addend(phase), s);
}

/* What stays here: first the sum that comes in the direction that takes this chunk early, then the other. */
static void keep_sum(mci_phase* phase) {
  bool last = phase->level + 1 == phase->phases->naxes;
  mci_kind kept = last ? MCI_OUT : sum(phase);
  unsigned first = mci_phase_early(phase, phase->turn);
  bool alone = mci_axis_flow(mci_phase_axis(phase), !phase->dir, phase->turn % 2).in == 0;
  bool second = phase->dir != first && !alone;
  open_step(phase, wide(phase) | (last && (second || alone) ? MCI_FINISH : 0));
  if (second) mci_build_after(phase->b, mci_phase_channel(phase, first), mci_phase_done(phase, first));
  to(phase, kept, 0, own(phase));
  if (second) {
    from(phase, kept, own(phase));
    arrive(phase);
  } else {
    arrive(phase);
    from(phase, addend(phase), own(phase));
  }
}

void mci_phase_scatter(mci_phase* phase) {
  const mci_axis* axis = mci_phase_axis(phase);
  mci_flow flow = mci_axis_flow(axis, phase->dir, phase->turn % 2);
  int64_t sign = phase->dir == MCI_AHEAD ? 1 : -1;
  walk(phase, axis->at + sign * flow.out, flow.out - flow.scatter_through, start_sum);
  walk(phase, axis->at + sign * flow.scatter_through, flow.scatter_through, pass_sum);
  if (flow.in > 0) keep_sum(phase);
}

/* ---- gather ---- */
static void pass_block(mci_phase* phase, spot s) {
  open_step(phase, 0);
  to(phase, MCI_OUT, 0, s);
  depart(phase);
  arrive(phase);
}

static void keep_block(mci_phase* phase, spot s) {
  open_step(phase, 0);
  to(phase, MCI_OUT, 0, s);
  arrive(phase);
}

/* An all-gather's own block enters the output on the way that takes the chunk early; the other waits for it. */
static void own_block(mci_phase* phase, bool departs) {
  bool enters = phase->phases->coll == MCI_ALL_GATHER && phase->number == 0;
  unsigned first = mci_phase_early(phase, phase->turn);
  bool copies = enters && phase->dir == first;
  if (!departs && !copies) return;
  open_step(phase, 0);
  if (enters && !copies) {
    mci_affine done = mci_phase_done(phase, first);
    done.base -= (int32_t)mci_phase_steps(phase, first, phase->turn) - 1;
    mci_build_after(phase->b, mci_phase_channel(phase, first), done);
  }
  if (copies) to(phase, MCI_OUT, 0, own(phase));
  if (departs) depart(phase);
  from(phase, copies ? MCI_IN : MCI_OUT, own(phase));
}

void mci_phase_gather(mci_phase* phase) {
  const mci_axis* axis = mci_phase_axis(phase);
  mci_flow flow = mci_axis_flow(axis, phase->dir, phase->turn % 2);
  int64_t sign = phase->dir == MCI_AHEAD ? 1 : -1;
  own_block(phase, flow.out > 0);
  walk(phase, axis->at - sign, flow.gather_through, pass_block);
  walk(phase, axis->at - sign * (1 + (int64_t)flow.gather_through), flow.in - flow.gather_through, keep_block);
}
