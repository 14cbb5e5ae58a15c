/* Colours, stages and times of sweeps; see sweep.h. */

#include <string.h>

#include "base/base.h"
#include "topo/plan/balance.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"
#include "topo/plan/sweep.h"

#define SHARE_SUM 65536
#define CREDITS 8 /* messages that a lane can be expected to have under way */
#define UNIT 4096 /* of loads */

uint32_t mci_sweep_offset(const mci_sweep_stage* stage, uint32_t chunk) {
  return stage->segments > 1 ? chunk % stage->width : 0;
}

uint32_t mci_sweep_reach(const mci_sweep_stage* stage, uint32_t n, unsigned dir, bool mirror) {
  uint32_t rest = n - stage->width;
  return (dir == MCI_AHEAD) != mirror ? (rest + 1) / 2 : rest / 2;
}

static uint32_t nstages(const mci_sweep* s) { return s->naxes + s->way.scattered; }

static mci_sweep_stage stage_of(const mci_sweep* s, const mci_sweep_color* color, uint32_t number) {
  uint32_t n = s->naxes, level = number < n ? number : nstages(s) - 1 - number;
  mci_sweep_stage stage = {.axis = color->order[level]};
  const mci_axis* axis = &s->axes[stage.axis];
  stage.kind = number >= n ? MCI_SWEEP_GATHER : number < s->way.scattered ? MCI_SWEEP_SCATTER : MCI_SWEEP_ALL;
  stage.hops = mci_axis_depth(axis);
  if (stage.kind != MCI_SWEEP_ALL) return stage;
  stage.width = axis->ring ? s->way.width[stage.axis] : axis->n;
  stage.segments = axis->n / stage.width;
  stage.hops = stage.width - 1 + (axis->n - stage.width + 1) / 2;
  return stage;
}

/* What a link of the stage's axis carries, in units of what a rank has when the stage begins. Segments of several
 * chunks load links alike. */
static uint64_t stage_load(const mci_sweep* s, const mci_sweep_stage* stage) {
  const mci_axis* axis = &s->axes[stage->axis];
  uint64_t n = axis->n;
  if (stage->kind != MCI_SWEEP_ALL) {
    if (!axis->ring) return UNIT * n / 2; /* scattering and gathering load opposite ends */
    return s->way.chunks > 1 || n % 2 ? UNIT * (n - 1) / 2 : UNIT * (n / 2);
  }
  if (stage->segments == 1) return UNIT;
  return (2 * (uint64_t)(stage->width - 1) + n - stage->width) * UNIT / (2 * stage->width);
}

/* The same for predictions: scattering and gathering on a line meet in the middle of it and hold each other up, as
 * simulated by a quarter of what they load. */
static uint64_t stage_busy(const mci_sweep* s, const mci_sweep_stage* stage) {
  bool line = stage->kind != MCI_SWEEP_ALL && !s->axes[stage->axis].ring;
  return stage_load(s, stage) * (line ? 5 : 4) / 4;
}

/* 1 / the share of the vector that a message of the stage carries. */
static uint64_t divided(const mci_sweep* s, const mci_sweep_color* color, uint32_t number) {
  uint64_t parts = 1;
  uint32_t level = number < s->naxes ? number : nstages(s) - 1 - number;
  for (uint32_t l = 0; l <= level && l < s->way.scattered; l++) parts *= s->axes[color->order[l]].n;
  return parts;
}

static void set_colors(mci_sweep* s) {
  mci_loads load;
  uint32_t share[MCI_MAX_DIMS];
  memset(load, 0, sizeof load);
  for (uint32_t c = 0; c < s->naxes; c++) {
    mci_sweep_color* color = &s->colors[c];
    for (uint32_t l = 0; l < s->naxes; l++) color->order[l] = (uint8_t)((c + l) % s->naxes);
    for (uint32_t i = 0; i < nstages(s); i++) {
      mci_sweep_stage stage = stage_of(s, color, i);
      load[stage.axis][c] += (int64_t)((stage_load(s, &stage) << 16) / divided(s, color, i));
    }
    share[c] = SHARE_SUM / s->naxes;
  }
  if (s->way.scattered > 0) mci_balance(load, s->naxes, SHARE_SUM, share);
  s->ncolors = 0;
  for (uint32_t c = 0; c < s->naxes; c++) {
    if (share[c] == 0) continue;
    mci_sweep_color* color = &s->colors[s->ncolors++];
    if (color != &s->colors[c]) *color = s->colors[c];
    color->weight = share[c];
  }
}

static void set_stages(mci_sweep* s, const mci_topo* topo, uint64_t bytes) {
  uint64_t weights = 0, from = 0;
  mci_link links[MCI_MAX_DIMS];
  for (uint32_t d = 0, a = 0; d < mci_topo_ndims(topo); d++)
    if (mci_topo_side(topo, d) > 1) links[a++] = mci_topo_axis_worst(topo, d);
  for (uint32_t c = 0; c < s->ncolors; c++) weights += s->colors[c].weight;
  s->period_ps = 1;
  for (uint32_t c = 0; c < s->ncolors; c++) {
    mci_sweep_color* color = &s->colors[c];
    color->nstages = nstages(s);
    from = 0;
    for (uint32_t i = 0; i < color->nstages; i++) {
      mci_sweep_stage* stage = &color->stages[i];
      *stage = stage_of(s, color, i);
      const mci_link* link = &links[stage->axis];
      uint64_t parts = divided(s, color, i) * s->way.chunks;
      uint64_t wire = mci_cost_wire(link, mci_cost_share(mci_cost_share(bytes, color->weight, weights), 1, parts));
      stage->hop_ps = link->lat_ps + link->cost_ps + wire;
      stage->busy_ps = mci_cost_share(link->cost_ps + wire, stage_busy(s, stage), UNIT);
      stage->from_ps = from;
      from += stage->hops * stage->hop_ps;
      s->period_ps = MCI_MAX(s->period_ps, stage->busy_ps);
    }
  }
}

/* Where blocks on lines wait for each other, chunks in order do better than many at once: no more lanes than it takes
 * to have a link's messages under way while credits return. */
static uint32_t lanes_for_credits(const mci_sweep* s) {
  const mci_sweep_stage* stage = &s->colors[0].stages[0];
  uint32_t lanes = 1, turns = s->axes[stage->axis].n;
  uint64_t message = MCI_MAX(stage->busy_ps / turns, UINT64_C(1));
  while (lanes < MCI_SWEEP_MAX_LANES && lanes * CREDITS * message < 2 * stage->hop_ps) lanes *= 2;
  return lanes;
}

void mci_sweep_init(mci_sweep* s, const mci_topo* topo, const mci_request* request, const mci_sweep_way* way,
                    uint32_t rank) {
  memset(s, 0, sizeof *s);
  s->wide = request->wide;
  s->way = *way;
  s->naxes = mci_grid_axes(topo, rank, s->axes);
  set_colors(s);
  set_stages(s, topo, request->bytes);
  /* Every chunk for itself, as far as there are channels; powers of two, so that segments in a channel are alike. */
  uint32_t most = (MCI_MAX_CHANNELS / (nstages(s) * s->ncolors) - 1) / 2;
  for (uint32_t a = 0; a < s->naxes; a++)
    if (s->way.scattered > 0 && !s->axes[a].ring) most = MCI_MIN(most, lanes_for_credits(s));
  s->lanes = 1;
  while (2 * s->lanes <= MCI_MIN(MCI_MIN(most, way->chunks), (uint32_t)MCI_SWEEP_MAX_LANES)) s->lanes *= 2;
}

uint32_t mci_sweep_channels(const mci_sweep* s) { return nstages(s) * s->ncolors * (2 * s->lanes + 1); }

uint32_t mci_sweep_hops(const mci_sweep* s) {
  uint32_t most = 0;
  for (uint32_t c = 0; c < s->ncolors; c++) {
    uint32_t hops = 0;
    for (uint32_t i = 0; i < s->colors[c].nstages; i++) hops += s->colors[c].stages[i].hops;
    most = MCI_MAX(most, hops);
  }
  return most;
}

double mci_sweep_load(const mci_sweep* s) {
  uint64_t weights = 0, most = 0;
  for (uint32_t c = 0; c < s->ncolors; c++) weights += s->colors[c].weight;
  for (uint32_t a = 0; a < s->naxes; a++) {
    uint64_t load = 0;
    for (uint32_t c = 0; c < s->ncolors; c++)
      for (uint32_t i = 0; i < s->colors[c].nstages; i++)
        if (s->colors[c].stages[i].axis == a)
          load += s->colors[c].weight * stage_load(s, &s->colors[c].stages[i]) / divided(s, &s->colors[c], i);
    most = MCI_MAX(most, load);
  }
  return (double)most / (double)(weights * UNIT);
}

/* ---- prediction: an axis carries the messages of all stages in the order in which they become ready ---- */

/* How often a link is used by one chunk, and so in how many turns. */
static uint32_t turns_of(const mci_sweep* s, const mci_sweep_stage* stage) {
  uint64_t load = stage_load(s, stage);
  if (!s->axes[stage->axis].ring) return 1;
  return MCI_MIN((uint32_t)((load + UNIT - 1) / UNIT), (uint32_t)MCI_SWEEP_MAX_TURNS);
}

typedef struct {
  uint64_t ready;
  uint32_t stage, turn;
} progress;

uint64_t mci_sweep_time(const mci_sweep* s) {
  progress at[MCI_MAX_DIMS * MCI_SWEEP_MAX_CHUNKS];
  uint64_t free[MCI_MAX_DIMS] = {0}, end = 0;
  uint32_t n = s->ncolors * s->way.chunks;
  memset(at, 0, n * sizeof *at);
  for (uint32_t left = n; left > 0;) {
    uint32_t first = n;
    for (uint32_t i = 0; i < n; i++)
      if (at[i].ready != UINT64_MAX && (first == n || at[i].ready < at[first].ready)) first = i;
    const mci_sweep_color* color = &s->colors[first / s->way.chunks];
    progress* p = &at[first];
    const mci_sweep_stage* stage = &color->stages[p->stage];
    uint32_t turns = turns_of(s, stage);
    uint64_t start = MCI_MAX(p->ready, free[stage->axis]);
    free[stage->axis] = start + stage->busy_ps / turns;
    p->ready = start + MCI_MAX(stage->hops * stage->hop_ps, stage->busy_ps) / turns;
    if (++p->turn < turns) continue;
    p->turn = 0;
    if (++p->stage < color->nstages) continue;
    end = MCI_MAX(end, p->ready);
    p->ready = UINT64_MAX;
    left--;
  }
  return end;
}
