/* Rings and lines inside the groups of every level, then between groups: phases.h with the axes of all levels, for
 * groups of equal shape. On a grid every dimension of a box is an axis, then every dimension of the grid of boxes,
 * whose steps lead to the rank at the same place of the next box; on a full graph each level is one ring.
 *
 *      o-o-o | o-o-o      mesh:4x6 in boxes of 2x3: lines of 3 and of 2 in the boxes, then lines of 2 and of 2
 *      o-o-o | o-o-o      between boxes, each with 1/6 of the vector. The seam, whose links may be slower, carries
 *      ------+------      1/6 per rank, where lines through the whole grid would carry halves.
 *      o-o-o | o-o-o
 *      o-o-o | o-o-o      A colour for each dimension; reducing starts with the axes of the innermost level.
 *
 * Steps between boxes pass the links of other boxes on their way: what that adds to their load is counted. Ends as
 * phases.h does. Sources: hierarchical rings as in Mikami et al. 2018 (rows, then columns), with all axes of phases.h.
 */
#include <stdio.h>

#include "base/base.h"
#include "topo/plan/families.h"
#include "topo/plan/hier.h"
#include "topo/plan/phases.h"

#define COLLS (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_ALL_GATHER) | MCI_COLL_BIT(MCI_REDUCE_SCATTER))

typedef struct {
  const mci_hier* h;
  mci_phases phases;
  mci_axis_links links[MCI_PHASES_MAX_AXES];
  uint32_t first[MCI_HIER_MAX_STAGES + 1]; /* axis of every stage */
  uint8_t dim[MCI_PHASES_MAX_AXES], stage[MCI_PHASES_MAX_AXES];
  uint32_t step[MCI_PHASES_MAX_AXES]; /* units from one place of the axis to the next */
} axes;

/* ---- grids ---- */
static void add_dims(axes* x, uint32_t stage) {
  const mci_topo* topo = x->h->topo;
  uint32_t unit[MCI_MAX_DIMS], group[MCI_MAX_DIMS], step = 1;
  mci_hier_extent(x->h, stage, false, unit);
  mci_hier_extent(x->h, stage, true, group);
  for (uint32_t d = mci_topo_ndims(topo); d-- > 0; step *= group[d] / unit[d]) {
    uint32_t n = group[d] / unit[d], a = x->phases.naxes;
    if (n == 1) continue;
    bool ring = n > 2 && group[d] == mci_topo_side(topo, d) && mci_topo_wraps(topo, d);
    x->phases.axes[a] = (mci_axis){.n = n, .ring = ring};
    x->links[a] = (mci_axis_links){.link = x->h->link[stage], .load = unit[d]};
    x->links[a].link.lat_ps = mci_hier_delay(x->h, stage, d);
    for (uint32_t b = 0; b < x->first[stage]; b++)
      if (x->dim[b] == d) x->links[a].passes |= 1u << b;
    x->dim[a] = (uint8_t)d, x->stage[a] = (uint8_t)stage, x->step[a] = step;
    x->phases.naxes++;
  }
}

/* ---- full graphs ---- */
static void add_ring(axes* x, uint32_t stage, uint32_t ranks) {
  uint32_t a = x->phases.naxes++, n = x->h->most[stage];
  x->phases.axes[a] = (mci_axis){.n = n, .ring = n > 2};
  x->links[a] = (mci_axis_links){.link = x->h->link[stage], .load = stage == 0 ? 1 : n > 2 ? 2 * ranks : ranks};
  x->stage[a] = (uint8_t)stage, x->step[a] = 1;
}

/* ---- both ---- */
/* Colour c begins every stage with another of its axes. What a reduce-scatter's fold leaves in scratch must lie in the
 * order of the axes to come (phases_colors.c): only the first may be out of turn. */
static void set_orders(axes* x) {
  mci_phases* p = &x->phases;
  p->ncolors = 1;
  for (uint32_t s = 0; s < x->h->nstages; s++) p->ncolors = MCI_MAX(p->ncolors, x->first[s + 1] - x->first[s]);
  if (p->coll == MCI_REDUCE_SCATTER) p->ncolors = MCI_MAX(1, x->first[1] - x->first[0]);
  for (uint32_t c = 0; c < p->ncolors; c++) {
    p->weight[c] = 1;
    for (uint32_t s = 0; s < x->h->nstages; s++) {
      uint32_t first = x->first[s], n = x->first[s + 1] - first;
      for (uint32_t l = 0; l < n; l++) {
        uint32_t turned = (c + l) % n;
        if (p->coll == MCI_REDUCE_SCATTER) turned = s > 0 ? l : l == 0 ? c : l - (l <= c);
        p->order[c][first + l] = (uint8_t)(first + turned);
      }
    }
  }
}

static void axes_of(const mci_hier* h, const mci_request* request, axes* x) {
  *x = (axes){.h = h, .phases = {.coll = request->coll, .wide = request->wide}};
  uint32_t ranks = 1;
  for (uint32_t s = 0; s < h->nstages; s++) {
    if (mci_topo_is_full(h->topo)) {
      add_ring(x, s, ranks);
    } else {
      add_dims(x, s);
    }
    ranks *= h->most[s];
    x->first[s + 1] = x->phases.naxes;
  }
  set_orders(x);
}

/* ---- the family ---- */
static const char* refuse_shape(const mci_hier* h, char* buffer, size_t size) {
  const mci_topo* topo = h->topo;
  uint32_t naxes = 0, unit[MCI_MAX_DIMS], group[MCI_MAX_DIMS];
  if (!h->even) return "the groups of a level are not all alike";
  if (mci_topo_is_full(topo)) return NULL;
  if (!mci_topo_is_regular(topo)) return "the grid has holes or gaps, or not all of it takes part";
  for (uint32_t s = 0; s < h->nstages; s++) {
    mci_hier_extent(h, s, false, unit);
    mci_hier_extent(h, s, true, group);
    for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
      naxes += group[d] > unit[d];
      if (group[d] > unit[d] && unit[d] > 1 && !mci_topo_routed(topo))
        return "only neighbours may exchange messages, and the same places of two boxes are none";
    }
  }
  if (naxes <= MCI_PHASES_MAX_AXES) return NULL;
  snprintf(buffer, size, "%u axes in all levels; %d at most", naxes, MCI_PHASES_MAX_AXES);
  return buffer;
}

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)request;
  const char* reason = mci_hier_refuse(topo);
  if (reason) return reason;
  mci_hier h;
  if (mci_hier_of(topo, &h) != meshcclSuccess) return "there is no memory for the groups";
  reason = refuse_shape(&h, buffer, size);
  mci_hier_fini(&h);
  return reason;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_hier h;
  axes x;
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .chunks = 1};
  if (mci_hier_of(topo, &h) != meshcclSuccess) return;
  axes_of(&h, request, &x);
  x.phases.message_bytes = request->message_bytes;
  mci_phases_cost(&x.phases, x.links, request->bytes, out);
  mci_hier_fini(&h);
}

/* The rank as an item: its rail in another unit stands at the same place there. */
static void set_places(axes* x, uint32_t rank) {
  const mci_hier* h = x->h;
  mci_hier_place place[MCI_HIER_MAX_STAGES];
  mci_hier_item item = {{0}, {0}};
  mci_hier_place_of(h, rank, place);
  for (uint32_t s = 0; s < h->nstages; s++) {
    item.digit[s] = place[s].index;
    item.of[s] = place[s].count;
  }
  for (uint32_t a = 0; a < x->phases.naxes; a++) {
    mci_axis* axis = &x->phases.axes[a];
    uint32_t s = x->stage[a], step = x->step[a];
    axis->at = place[s].index / step % axis->n;
    uint32_t base = place[s].index - axis->at * step;
    for (unsigned dir = MCI_AHEAD; dir <= MCI_BEHIND; dir++) {
      uint32_t at = (axis->at + (dir == MCI_AHEAD ? 1 : axis->n - 1)) % axis->n;
      axis->peer[dir] = mci_hier_rail(h, s, mci_hier_unit(h, s, place[s].group, base + at * step), &item);
    }
  }
}

/* Rank at every position, the axes' digits with the first one slowest. */
static meshcclResult_t places(const axes* x, uint32_t** out) {
  const mci_hier* h = x->h;
  *out = NULL;
  if (x->phases.coll == MCI_ALL_REDUCE) return meshcclSuccess;
  uint32_t n = mci_topo_nranks(h->topo);
  uint32_t* place = mci_alloc(n * sizeof *place);
  if (!place) return mci_oom(n * sizeof *place);
  for (uint32_t i = 0; i < n; i++) {
    mci_hier_item item = {{0}, {0}};
    uint32_t rest = i;
    for (uint32_t a = x->phases.naxes; a-- > 0; rest /= x->phases.axes[a].n)
      item.digit[x->stage[a]] += rest % x->phases.axes[a].n * x->step[a];
    for (uint32_t s = 0; s < h->nstages; s++) item.of[s] = h->most[s];
    place[i] = mci_hier_rail(h, h->nstages, 0, &item);
  }
  *out = place;
  return meshcclSuccess;
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_hier h;
  axes x;
  uint32_t* place;
  MCI_TRY(mci_hier_of(topo, &h));
  axes_of(&h, request, &x);
  set_places(&x, rank);
  meshcclResult_t result = places(&x, &place);
  if (result == meshcclSuccess) {
    result = mci_phases_build(&x.phases, "hier_ring", mci_topo_nranks(topo), rank, cost_of, place, out);
    mci_free(place);
  }
  mci_hier_fini(&h);
  return result;
}

const mci_family mci_family_hier_ring = {
    "hier_ring", COLLS, "rings and lines inside the groups of every level, then between them", refuse, cost, build};
