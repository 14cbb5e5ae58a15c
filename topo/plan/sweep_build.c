/* The programs of sweeps; see sweep.h. All messages of a channel are listed with their times and sorted. What a message
 * must wait for on other channels is looked up. */
#include <stdlib.h>

#include "base/base.h"
#include "topo/plan/sweep.h"

typedef enum {
  ADD_PASS,   /* > <- x (+ <)      a sum for a block further on */
  KEEP_FIRST, /* out <- x + <      the first of two sums for the own block */
  KEEP_LAST,  /* out <- out + <    the second, or the only one */
  SUM_PASS,   /* > <- x (+ <)      a running sum of a segment */
  SWAP,       /* the same from one middle of a segment to the other */
  SUM_KEEP,   /* out <- x + <      the only middle, one way */
  TOTAL,      /* out(, >) <- x + < the last addition in a segment */
  PASS,       /* out(, >) <- <     the sum of the segment on its way */
  SEND,       /* > <- out          and as it leaves the only middle */
  EDGE,       /* > <- x            the sum of the segment leaves it */
  RELAY,      /* tmp(, >) <- <     the sum of another segment */
  FOLD,       /* out <- sums of all segments */
  OWN,        /* > <- out          gathering: the own block */
  BLOCK       /* out(, >) <- <     gathering: another block */
} role;

typedef struct {
  uint64_t ps;
  uint32_t chunk;
  uint8_t role;
  bool arrives, departs, own_input; /* own_input: x is what the rank had before the stage, else what it added up */
  uint32_t at;                      /* position of the block, or number of the segment */
} event;

/* Places of events in their channel, per chunk. */
enum { FIRST, SUM, LAST, NUM_MARKS };

typedef struct {
  const mci_sweep* sweep;
  mci_build* b;
  uint32_t nchannels, nblocks, nslots; /* nslots: of a chunk */
  event* events[MCI_MAX_CHANNELS];
  uint32_t nevents[MCI_MAX_CHANNELS], cap[MCI_MAX_CHANNELS];
  uint32_t* marks[MCI_MAX_CHANNELS]; /* index + 1, 0: none */
  meshcclResult_t result;
} builder;

enum { FOLDS = 2 }; /* after MCI_AHEAD and MCI_BEHIND: the channel of additions that take no message */

/* What is being listed or written. */
typedef struct {
  builder* w;
  const mci_sweep_stage* stage;
  const mci_axis* axis;
  uint32_t color, number, chunk;
  unsigned dir;
  uint64_t start_ps; /* when the chunk begins the stage */
} spot;

static uint32_t channel_of(const spot* s, uint32_t number, unsigned dir) {
  const mci_sweep* sweep = s->w->sweep;
  uint32_t first = (number * sweep->ncolors + s->color) * (2 * sweep->lanes + 1);
  return first + (dir == FOLDS ? 2 * sweep->lanes : dir * sweep->lanes + s->chunk % sweep->lanes);
}

/* ---- listing ---- */

static void add(const spot* s, event e, uint64_t hops) {
  builder* w = s->w;
  uint32_t channel = channel_of(s, s->number, s->dir);
  if (w->result != meshcclSuccess) return;
  e.chunk = s->chunk;
  e.ps = s->start_ps + hops * s->stage->hop_ps;
  w->result = mci_grow(&w->events[channel], sizeof(event), &w->cap[channel], (size_t)w->nevents[channel] + 1);
  if (w->result == meshcclSuccess) w->events[channel][w->nevents[channel]++] = e;
}

static uint32_t moved(const mci_axis* axis, unsigned dir, uint32_t hops) {
  return (axis->at + (dir == MCI_AHEAD ? hops : axis->n - hops)) % axis->n;
}

/* On a line sums start so that all that end anywhere end together. */
static uint32_t scatter_hops(const spot* s, unsigned dir) {
  return s->axis->ring ? mci_axis_reach(s->axis, dir, s->chunk % 2) : s->axis->n - 1;
}

/* The direction whose sum of the own block comes first, or alone. */
static bool comes_last(const spot* s) {
  mci_flow other = mci_axis_flow(s->axis, !s->dir, s->chunk % 2);
  if (other.in == 0) return true;
  uint32_t mine = scatter_hops(s, s->dir), theirs = scatter_hops(s, !s->dir);
  return mine != theirs ? mine > theirs : s->dir == MCI_BEHIND;
}

static void list_scatter(const spot* s) {
  mci_flow flow = mci_axis_flow(s->axis, s->dir, s->chunk % 2);
  uint32_t hops = scatter_hops(s, s->dir);
  for (uint32_t d = flow.out; d > 0; d--)
    add(s,
        (event){.role = ADD_PASS,
                .departs = true,
                .arrives = d <= flow.scatter_through,
                .own_input = true,
                .at = moved(s->axis, s->dir, d)},
        hops - d);
  if (flow.in == 0) return;
  bool last = comes_last(s), alone = mci_axis_flow(s->axis, !s->dir, s->chunk % 2).in == 0;
  add(s,
      (event){.role = last ? KEEP_LAST : KEEP_FIRST, .arrives = true, .own_input = !last || alone, .at = s->axis->at},
      hops);
}

static void list_gather(const spot* s) {
  mci_flow flow = mci_axis_flow(s->axis, s->dir, s->chunk % 2);
  if (flow.out > 0) add(s, (event){.role = OWN, .departs = true, .at = s->axis->at}, 0);
  for (uint32_t d = 1; d <= flow.in; d++)
    add(s,
        (event){.role = BLOCK, .arrives = true, .departs = d <= flow.gather_through, .at = moved(s->axis, !s->dir, d)},
        d);
}

/* Where this rank stands in its segment, in the order of travel. */
typedef struct {
  uint32_t y, middle, segment;
  bool even;
} place;

static place place_of(const spot* s) {
  uint32_t n = s->axis->n, width = s->stage->width;
  uint32_t x = (s->axis->at + n - mci_sweep_offset(s->stage, s->chunk)) % n, y = x % width;
  return (place){.y = s->dir == MCI_AHEAD ? y : width - 1 - y,
                 .middle = (width - 1) / 2,
                 .segment = x / width,
                 .even = width % 2 == 0};
}

static void list_segment(const spot* s) {
  place p = place_of(s);
  uint32_t width = s->stage->width;
  if (width == 1) return;
  event e = {.arrives = p.y > 0, .departs = p.y + 1 < width, .own_input = true};
  if (p.y < p.middle || (p.even && p.y == p.middle)) {
    e.role = p.y < p.middle ? SUM_PASS : SWAP;
  } else if (!p.even && p.y == p.middle) {
    e.role = s->dir == MCI_BEHIND ? TOTAL : SUM_KEEP;
    e.own_input = s->dir == MCI_AHEAD;
    e.departs = false;
  } else {
    e.role = p.even && p.y == p.middle + 1 ? TOTAL : PASS;
    e.own_input = p.middle == 0;
  }
  add(s, e, p.y);
  if (!p.even && p.y == p.middle) add(s, (event){.role = SEND, .departs = true}, p.y);
}

static void list_ring(const spot* s) {
  place p = place_of(s);
  uint32_t width = s->stage->width, segments = s->stage->segments;
  uint32_t reach = mci_sweep_reach(s->stage, s->axis->n, s->dir, s->chunk % 2);
  if (p.y + 1 == width && reach > 0) add(s, (event){.role = EDGE, .departs = true}, width - 1);
  for (uint32_t d = p.y + 1, back = 1; d <= reach; d += width, back++) {
    uint32_t from = (p.segment + (s->dir == MCI_AHEAD ? segments - back : back)) % segments;
    add(s, (event){.role = RELAY, .arrives = true, .departs = d < reach, .at = from}, width - 1 + d);
  }
}

static void list_stage(spot* s) {
  for (s->dir = MCI_AHEAD; s->dir <= MCI_BEHIND; s->dir++) {
    switch (s->stage->kind) {
      case MCI_SWEEP_SCATTER:
        list_scatter(s);
        break;
      case MCI_SWEEP_GATHER:
        list_gather(s);
        break;
      default:
        list_segment(s);
        if (s->stage->segments > 1) list_ring(s);
        break;
    }
  }
  s->dir = FOLDS;
  if (s->stage->kind == MCI_SWEEP_ALL && s->stage->segments > 1) add(s, (event){.role = FOLD}, s->stage->hops);
}

/* At equal times a sum is kept before the same is sent. */
static int compare(const void* a, const void* b) {
  const event *x = a, *y = b;
  if (x->ps != y->ps) return x->ps < y->ps ? -1 : 1;
  if (x->chunk != y->chunk) return x->chunk < y->chunk ? -1 : 1;
  return (x->role == SEND || x->role == EDGE) - (y->role == SEND || y->role == EDGE);
}

static meshcclResult_t mark_all(builder* w) {
  size_t bytes = (size_t)w->sweep->way.chunks * NUM_MARKS * sizeof(uint32_t);
  for (uint32_t channel = 0; channel < w->nchannels; channel++) {
    if (w->nevents[channel] == 0) continue;
    qsort(w->events[channel], w->nevents[channel], sizeof(event), compare);
    w->marks[channel] = mci_alloc(bytes);
    if (!w->marks[channel]) return mci_oom(bytes);
    for (uint32_t i = 0; i < w->nevents[channel]; i++) {
      const event* e = &w->events[channel][i];
      uint32_t* mark = &w->marks[channel][e->chunk * NUM_MARKS];
      if (e->role == KEEP_FIRST || e->role == SUM_KEEP || e->role == SWAP) mark[FIRST] = i + 1;
      if (e->role == KEEP_LAST || e->role == TOTAL || e->role == PASS) mark[SUM] = i + 1;
      mark[LAST] = i + 1;
    }
  }
  return meshcclSuccess;
}

static spot spot_of(builder* w, uint32_t color, uint32_t number, uint32_t chunk) {
  const mci_sweep_stage* stage = &w->sweep->colors[color].stages[number];
  return (spot){.w = w,
                .stage = stage,
                .axis = &w->sweep->axes[stage->axis],
                .color = color,
                .number = number,
                .chunk = chunk,
                .start_ps = stage->from_ps + chunk * w->sweep->period_ps};
}

static meshcclResult_t list_all(builder* w) {
  for (uint32_t c = 0; c < w->sweep->ncolors; c++) {
    for (uint32_t i = 0; i < w->sweep->colors[c].nstages; i++) {
      for (uint32_t k = 0; k < w->sweep->way.chunks; k++) {
        spot s = spot_of(w, c, i, k);
        list_stage(&s);
      }
    }
  }
  MCI_TRY(w->result);
  return mark_all(w);
}

/* ---- conditions ---- */

/* Within the own channel the order of steps says it already. */
static void after(const spot* s, uint32_t number, unsigned dir, uint32_t mark) {
  uint32_t channel = channel_of(s, number, dir);
  if (channel == channel_of(s, s->number, s->dir)) return;
  const uint32_t* marks = s->w->marks[channel];
  uint32_t count = marks ? marks[s->chunk * NUM_MARKS + mark] : 0;
  if (count > 0) mci_build_after(s->w->b, (uint16_t)channel, mci_const((int32_t)count));
}

/* The chunk has passed the stage before, and what this rank sends of it has been copied or needs no more changes. */
static void after_stage(const spot* s) {
  if (s->number == 0) return;
  const mci_sweep_stage* before = s->stage - 1;
  if (before->kind == MCI_SWEEP_ALL && before->segments > 1) {
    after(s, s->number - 1, FOLDS, LAST);
  } else {
    for (unsigned dir = MCI_AHEAD; dir <= MCI_BEHIND; dir++) after(s, s->number - 1, dir, LAST);
  }
}

/* The sum of the own segment is there. */
static void after_segment(const spot* s) {
  if (s->stage->width == 1) after_stage(s);
  for (unsigned dir = MCI_AHEAD; dir <= MCI_BEHIND; dir++) after(s, s->number, dir, SUM);
}

static void conditions(const spot* s, const event* e) {
  switch ((role)e->role) {
    case KEEP_LAST:
      if (e->own_input) {
        after_stage(s);
      } else {
        after(s, s->number, !s->dir, FIRST);
      }
      break;
    case TOTAL:
      after(s, s->number, !s->dir, FIRST);
      break;
    case SEND:
    case EDGE:
      after_segment(s);
      break;
    case FOLD:
      after_segment(s);
      after(s, s->number, MCI_AHEAD, LAST);
      after(s, s->number, MCI_BEHIND, LAST);
      break;
    case PASS:
    case RELAY:
    case BLOCK:
      break;
    default:
      after_stage(s);
      break;
  }
}

/* ---- steps ---- */

/* The blocks of a position on the stage's axis that this rank deals with; of an axis that is not scattered, its own. */
static mci_shape shape_of(const spot* s, uint32_t at) {
  const mci_sweep* sweep = s->w->sweep;
  const uint8_t* order = sweep->colors[s->color].order;
  uint32_t run = s->w->nblocks, block = 0;
  for (uint32_t l = 0; l < sweep->way.scattered; l++) {
    const mci_axis* axis = &sweep->axes[order[l]];
    bool here = order[l] == s->stage->axis;
    run /= axis->n;
    block += (here ? at : axis->at) * run;
    if (here) break;
  }
  uint32_t part = s->color * sweep->way.chunks + s->chunk;
  return mci_span(mci_const((int32_t)block), run, mci_const((int32_t)part));
}

static mci_affine slot_of(const spot* s, uint32_t segment) {
  const mci_sweep* sweep = s->w->sweep;
  uint32_t slot = (s->color * sweep->way.chunks + s->chunk) * s->w->nslots + segment;
  for (const mci_sweep_stage* stage = sweep->colors[s->color].stages; stage < s->stage; stage++)
    if (stage->segments > 1) slot += stage->segments;
  return mci_const((int32_t)slot);
}

static mci_kind had(const spot* s) { return s->number == 0 ? MCI_IN : MCI_OUT; }

static void depart(const spot* s, unsigned flags) {
  mci_build_dst_lane(s->w->b, flags, mci_const((int32_t)s->axis->peer[s->dir]));
}

static void arrive(const spot* s) { mci_build_src_lane(s->w->b, mci_const((int32_t)s->axis->peer[!s->dir])); }

static void fold_segments(const spot* s) {
  uint32_t own = place_of(s).segment;
  mci_shape shape = shape_of(s, 0);
  mci_build_dst(s->w->b, MCI_OUT, 0, shape);
  for (uint32_t g = 0; g < s->stage->segments; g++) {
    if (g != own) {
      mci_build_src_tmp(s->w->b, slot_of(s, g), shape);
    } else {
      mci_build_src(s->w->b, s->stage->width == 1 ? had(s) : MCI_OUT, shape);
    }
  }
}

/* Whether what leaves is written again before the receiver can be known to have it: a sum that is not yet the total. */
static unsigned copied(const spot* s, const event* e) {
  bool final = s->stage->segments == 1 && s->number + 1 == s->w->sweep->naxes;
  bool sum = e->role == TOTAL || e->role == PASS || e->role == SEND;
  return e->role == SWAP || e->role == EDGE || (sum && !final) ? MCI_COPY : 0;
}

/* Whether the step makes the result. */
static bool finishes(const spot* s, const event* e) {
  if (s->number + 1 != s->w->sweep->naxes) return false;
  return e->role == KEEP_LAST || e->role == FOLD || (e->role == TOTAL && s->stage->segments == 1);
}

static void write_step(const spot* s, const event* e) {
  mci_build* b = s->w->b;
  bool block = s->stage->kind != MCI_SWEEP_ALL;
  mci_shape shape = shape_of(s, block ? e->at : 0);
  bool moves = e->role == PASS || e->role == RELAY || e->role == BLOCK,
       adds = (e->arrives && !moves) || e->role == FOLD;
  mci_build_step(b, (adds && s->w->sweep->wide ? MCI_WIDE : 0) | (finishes(s, e) ? MCI_FINISH : 0));
  conditions(s, e);
  if (e->role == FOLD) {
    fold_segments(s);
    return;
  }
  bool spills = e->role == ADD_PASS || e->role == SUM_PASS;
  if (e->role == RELAY) {
    mci_build_dst_tmp(b, 0, slot_of(s, e->at), shape);
  } else if (e->arrives) {
    mci_build_dst(b, MCI_OUT, spills ? MCI_SPILL : 0, shape);
  }
  if (e->departs) depart(s, copied(s, e));
  bool input = e->own_input || (e->role == EDGE && s->stage->width == 1);
  if (!moves) mci_build_src(b, input ? had(s) : MCI_OUT, shape);
  if (e->arrives) arrive(s);
}

static void write_channel(builder* w, uint32_t channel) {
  uint32_t lanes = w->sweep->lanes, group = channel / (2 * lanes + 1), kind = channel % (2 * lanes + 1) / lanes;
  if (w->nevents[channel] == 0) return;
  mci_build_channel(w->b, (uint16_t)channel);
  for (uint32_t i = 0; i < w->nevents[channel]; i++) {
    const event* e = &w->events[channel][i];
    spot s = spot_of(w, group % w->sweep->ncolors, group / w->sweep->ncolors, e->chunk);
    s.dir = kind;
    write_step(&s, e);
  }
}

static void write_layout(builder* w) {
  const mci_sweep* s = w->sweep;
  uint32_t weights[MCI_MAX_DIMS * MCI_SWEEP_MAX_CHUNKS], nparts = s->ncolors * s->way.chunks;
  for (uint32_t i = 0; i < nparts; i++) weights[i] = s->colors[i / s->way.chunks].weight;
  mci_build_layout(w->b, w->nblocks, nparts, weights);
  mci_build_slots(w->b, nparts * w->nslots);
}

static void measure(builder* w) {
  const mci_sweep* s = w->sweep;
  w->nblocks = 1;
  for (uint32_t a = 0; a < s->naxes && s->way.scattered > 0; a++) w->nblocks *= s->axes[a].n;
  for (uint32_t c = 0; c < s->ncolors; c++) {
    uint32_t slots = 0;
    for (uint32_t i = 0; i < s->colors[c].nstages; i++)
      if (s->colors[c].stages[i].segments > 1) slots += s->colors[c].stages[i].segments;
    w->nslots = MCI_MAX(w->nslots, slots);
  }
}

meshcclResult_t mci_sweep_build(const mci_sweep* sweep, uint32_t nranks, uint32_t rank, mci_program** out) {
  builder* w = mci_alloc(sizeof *w);
  if (!w) return mci_oom(sizeof *w);
  *w = (builder){.sweep = sweep, .nchannels = mci_sweep_channels(sweep)};
  measure(w);
  meshcclResult_t result = list_all(w);
  if (result == meshcclSuccess) {
    w->b = mci_build_begin(MCI_ALL_REDUCE, "sweep", nranks, rank, 0);
    write_layout(w);
    for (uint32_t channel = 0; channel < w->nchannels; channel++) write_channel(w, channel);
    result = mci_build_finish(w->b, out);
  }
  for (uint32_t channel = 0; channel < w->nchannels; channel++) {
    mci_free(w->events[channel]);
    mci_free(w->marks[channel]);
  }
  mci_free(w);
  return result;
}
