/* The levels of a topology as stages of units; see hier.h. */
#include "base/base.h"
#include "topo/plan/hier.h"

/* Levels that cut: more than one group, fewer than the level inside (or ranks). Returns how many. */
static uint32_t cutting_levels(const mci_topo* topo, uint32_t out[MCI_MAX_LEVELS]) {
  uint32_t n = 0, inside = mci_topo_nranks(topo);
  for (uint32_t l = 0; l < mci_topo_nlevels(topo); l++) {
    uint32_t groups = mci_topo_ngroups(topo, l);
    if (groups == 1) break;
    if (groups == inside) continue;
    out[n++] = l;
    inside = groups;
  }
  return n;
}

const char* mci_hier_refuse(const mci_topo* topo) {
  uint32_t levels[MCI_MAX_LEVELS], n = mci_topo_nlevels(topo);
  if (n == 0) return "the topology has no levels";
  if (cutting_levels(topo, levels) > 0) return NULL;
  return mci_topo_ngroups(topo, 0) == 1 ? "all ranks are in one group" : "every rank is a group of its own";
}

/* The units of every group of a stage above 0, ascending. */
static meshcclResult_t list_units(mci_hier* h, uint32_t stage) {
  uint32_t nunits = h->nunits[stage], ngroups = h->ngroups[stage];
  uint32_t* first = h->first[stage] = mci_alloc((ngroups + (size_t)2) * sizeof *first);
  uint32_t* units = h->units[stage] = mci_alloc(nunits * sizeof *units);
  if (!first || !units) return mci_oom((ngroups + (size_t)2) * sizeof *first);
  bool top = stage + 1 == h->nstages;
  for (int fill = 0; fill < 2; fill++) {
    /* Counted one place further on, so that filling leaves every group's start behind. */
    for (uint32_t u = 0; u < nunits; u++) {
      uint32_t group = top ? 0 : mci_topo_group(h->topo, h->level[stage], mci_hier_first_rank(h, stage, u));
      if (fill) {
        units[first[group + 1]++] = u;
      } else {
        first[group + 2]++;
      }
    }
    for (uint32_t g = 0; g < ngroups && !fill; g++) first[g + 2] += first[g + 1];
  }
  return meshcclSuccess;
}

static void measure(mci_hier* h, uint32_t stage) {
  for (uint32_t g = 0; g < h->ngroups[stage]; g++) {
    uint32_t count = mci_hier_count(h, stage, g);
    if (g > 0 && count != h->most[stage]) h->even = false;
    h->most[stage] = MCI_MAX(h->most[stage], count);
  }
}

static mci_link link_of(const mci_hier* h, uint32_t stage) {
  uint32_t g = 0;
  while (mci_hier_count(h, stage, g) < 2) g++;
  uint32_t a = mci_hier_first_rank(h, stage, mci_hier_unit(h, stage, g, 0));
  uint32_t b = mci_hier_first_rank(h, stage, mci_hier_unit(h, stage, g, 1));
  return mci_topo_class(h->topo, mci_topo_pair_class(h->topo, a, b));
}

meshcclResult_t mci_hier_of(const mci_topo* topo, mci_hier* out) {
  mci_hier h = {.topo = topo, .even = true};
  meshcclResult_t result = meshcclSuccess;
  h.nstages = cutting_levels(topo, h.level) + 1;
  h.nunits[0] = mci_topo_nranks(topo);
  for (uint32_t s = 0; s < h.nstages; s++) {
    bool top = s + 1 == h.nstages;
    h.ngroups[s] = top ? 1 : mci_topo_ngroups(topo, h.level[s]);
    if (!top) h.nunits[s + 1] = h.ngroups[s];
    if (s > 0) MCI_TRY_OR(list_units(&h, s), err_hier);
    measure(&h, s);
    h.link[s] = link_of(&h, s);
  }
  *out = h;
  return meshcclSuccess;
err_hier:
  mci_hier_fini(&h);
  return result;
}

void mci_hier_fini(mci_hier* h) {
  for (uint32_t s = 0; s < h->nstages; s++) {
    mci_free(h->first[s]);
    mci_free(h->units[s]);
  }
}

uint32_t mci_hier_count(const mci_hier* h, uint32_t stage, uint32_t group) {
  if (stage > 0) return h->first[stage][group + 1] - h->first[stage][group];
  return h->nstages == 1 ? h->nunits[0] : mci_topo_group_size(h->topo, h->level[0], group);
}

uint32_t mci_hier_unit(const mci_hier* h, uint32_t stage, uint32_t group, uint32_t i) {
  if (stage > 0) return h->units[stage][h->first[stage][group] + i];
  return h->nstages == 1 ? i : mci_topo_group_rank(h->topo, h->level[0], group, i);
}

uint32_t mci_hier_first_rank(const mci_hier* h, uint32_t stage, uint32_t unit) {
  return stage == 0 ? unit : mci_topo_group_rank(h->topo, h->level[stage - 1], unit, 0);
}

void mci_hier_place_of(const mci_hier* h, uint32_t rank, mci_hier_place place[MCI_HIER_MAX_STAGES]) {
  uint32_t unit = rank;
  for (uint32_t s = 0; s < h->nstages; s++) {
    uint32_t group = s + 1 == h->nstages ? 0 : mci_topo_group(h->topo, h->level[s], rank), i = 0;
    while (mci_hier_unit(h, s, group, i) != unit) i++;
    place[s] = (mci_hier_place){group, i, mci_hier_count(h, s, group)};
    unit = group;
  }
}

uint32_t mci_hier_rail(const mci_hier* h, uint32_t stage, uint32_t unit, const mci_hier_item* item) {
  while (stage-- > 0) {
    uint64_t count = mci_hier_count(h, stage, unit);
    unit = mci_hier_unit(h, stage, unit, (uint32_t)(item->digit[stage] * count / item->of[stage]));
  }
  return unit;
}

void mci_hier_extent(const mci_hier* h, uint32_t stage, bool group, uint32_t out[MCI_MAX_DIMS]) {
  uint32_t low[MCI_MAX_DIMS] = {0}, high[MCI_MAX_DIMS] = {0};
  for (uint32_t d = 0; d < MCI_MAX_DIMS; d++) out[d] = 1;
  uint32_t above = stage + group;
  if (above == 0) return;
  if (above == h->nstages) {
    for (uint32_t d = 0; d < mci_topo_ndims(h->topo); d++) out[d] = mci_topo_side(h->topo, d);
    return;
  }
  uint32_t level = h->level[above - 1], size = mci_topo_group_size(h->topo, level, 0);
  mci_topo_coords(h->topo, mci_topo_group_rank(h->topo, level, 0, 0), low);
  mci_topo_coords(h->topo, mci_topo_group_rank(h->topo, level, 0, size - 1), high);
  for (uint32_t d = 0; d < mci_topo_ndims(h->topo); d++)
    out[d] = MCI_MAX(high[d], low[d]) - MCI_MIN(high[d], low[d]) + 1;
}

/* The last may be smaller. */
static uint32_t parts_of(uint32_t side, uint32_t part) { return (side + part - 1) / part; }

uint64_t mci_hier_delay(const mci_hier* h, uint32_t stage, uint32_t dim) {
  uint64_t sum = h->link[stage].lat_ps;
  uint32_t unit[MCI_MAX_DIMS], part[MCI_MAX_DIMS], above[MCI_MAX_DIMS];
  mci_hier_extent(h, stage, false, unit);
  for (uint32_t t = 0; t < stage; t++) {
    mci_hier_extent(h, t, false, part);
    mci_hier_extent(h, t, true, above);
    sum += (uint64_t)(parts_of(above[dim], part[dim]) - 1) * (unit[dim] / above[dim]) * h->link[t].lat_ps;
  }
  return sum;
}

uint32_t mci_hier_ports(const mci_hier* h, uint32_t stage, mci_link* link) {
  const mci_topo* topo = h->topo;
  uint32_t unit[MCI_MAX_DIMS], group[MCI_MAX_DIMS], nodes = 0;
  bool apart = false;
  mci_hier_extent(h, stage, false, unit);
  mci_hier_extent(h, stage, true, group);
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) apart = apart || (group[d] > unit[d] && mci_topo_apart(topo, d));
  if (!apart || mci_topo_nplanes(topo) == 0) return 0;
  *link = mci_topo_plane_link(topo, 0);
  for (uint32_t p = 0; p < mci_topo_nplanes(topo); p++) {
    mci_link plane = mci_topo_plane_link(topo, p);
    link->bw_Bps = MCI_MIN(link->bw_Bps, plane.bw_Bps);
    link->lat_ps = MCI_MAX(link->lat_ps, plane.lat_ps);
    link->cost_ps = MCI_MAX(link->cost_ps, plane.cost_ps);
    nodes += mci_topo_plane_size(topo, p);
  }
  return MCI_MAX(nodes / h->nunits[stage], 1);
}

uint64_t mci_hier_longest_delay(const mci_hier* h, uint32_t stage) {
  if (mci_topo_is_full(h->topo)) return h->link[stage].lat_ps;
  uint32_t unit[MCI_MAX_DIMS], group[MCI_MAX_DIMS];
  mci_link plane;
  bool ports = mci_hier_ports(h, stage, &plane) > 0;
  uint64_t sum = ports ? plane.lat_ps : 0;
  mci_hier_extent(h, stage, false, unit);
  mci_hier_extent(h, stage, true, group);
  for (uint32_t d = 0; d < mci_topo_ndims(h->topo); d++) {
    uint64_t along = parts_of(group[d], unit[d]);
    bool ring = group[d] == mci_topo_side(h->topo, d) && mci_topo_wraps(h->topo, d);
    if (ports) sum += 2 * (uint64_t)(unit[d] - 1) * h->link[0].lat_ps; /* to a port and from one */
    if (!mci_topo_apart(h->topo, d)) sum += (ring ? along / 2 : along - 1) * mci_hier_delay(h, stage, d);
  }
  return sum;
}
