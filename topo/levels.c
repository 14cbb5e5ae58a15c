/* Levels: who is packaged with whom, and which class of links joins them. Reading is spec_level.c. */
#include "topo/levels.h"

#include <string.h>

#include "topo/grid.h"

/* ---- groups of nodes ---- */

uint32_t mci_level_along(const mci_topo* topo, const mci_level* level, uint32_t dim) {
  uint64_t covered = (uint64_t)level->before[dim] + topo->side[dim];
  return (uint32_t)((covered + level->box[dim] - 1) / level->box[dim]);
}

uint32_t mci_level_slot(const mci_level* level, uint32_t dim, uint32_t at) {
  return (uint32_t)(((uint64_t)at + level->before[dim]) / level->box[dim]);
}

/* The runs that hold a node, or a group. */
static const mci_runs* runs_at(const mci_level* level, uint32_t value, bool by_group) {
  uint32_t low = 0, high = level->nruns;
  while (high - low > 1) {
    uint32_t middle = low + (high - low) / 2;
    if ((by_group ? level->runs[middle].group : level->runs[middle].node) <= value) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return &level->runs[low];
}

uint32_t mci_level_groups(const mci_topo* topo, const mci_level* level) {
  if (topo->full) {
    const mci_runs* last = &level->runs[level->nruns - 1];
    return last->group + last->count;
  }
  uint32_t groups = 1;
  for (uint32_t d = 0; d < topo->ndims; d++) groups *= mci_level_along(topo, level, d);
  return groups;
}

uint32_t mci_level_group(const mci_topo* topo, const mci_level* level, uint32_t node) {
  if (topo->full) {
    const mci_runs* runs = runs_at(level, node, false);
    return runs->group + (node - runs->node) / runs->length;
  }
  uint32_t group = 0;
  for (uint32_t d = 0; d < topo->ndims; d++) {
    uint32_t at = node / topo->stride[d] % topo->side[d];
    group = group * mci_level_along(topo, level, d) + mci_level_slot(level, d, at);
  }
  return group;
}

/* The box of a group of a grid. */
static void box_of(const mci_topo* topo, const mci_level* level, uint32_t group, uint32_t low[MCI_MAX_DIMS],
                   uint32_t width[MCI_MAX_DIMS]) {
  for (uint32_t d = topo->ndims; d-- > 0;) {
    uint32_t along = mci_level_along(topo, level, d);
    uint64_t start = (uint64_t)(group % along) * level->box[d], end = start + level->box[d];
    low[d] = (uint32_t)(MCI_MAX(start, level->before[d]) - level->before[d]);
    width[d] = (uint32_t)(MCI_MIN(end - level->before[d], topo->side[d]) - low[d]);
    group /= along;
  }
}

static uint32_t whole_size(const mci_topo* topo, const mci_level* level, uint32_t group) {
  if (topo->full) return runs_at(level, group, true)->length;
  uint32_t low[MCI_MAX_DIMS], width[MCI_MAX_DIMS], size = 1;
  box_of(topo, level, group, low, width);
  for (uint32_t d = 0; d < topo->ndims; d++) size *= width[d];
  return size;
}

static uint32_t whole_node(const mci_topo* topo, const mci_level* level, uint32_t group, uint32_t i) {
  if (topo->full) {
    const mci_runs* runs = runs_at(level, group, true);
    return runs->node + (group - runs->group) * runs->length + i;
  }
  uint32_t low[MCI_MAX_DIMS], width[MCI_MAX_DIMS], node = 0;
  box_of(topo, level, group, low, width);
  for (uint32_t d = topo->ndims; d-- > 0; i /= width[d]) node += (low[d] + i % width[d]) * topo->stride[d];
  mci_assert(i == 0);
  return node;
}

/* ---- construction ---- */

meshcclResult_t mci_level_add_runs(mci_level* level, uint32_t length, uint32_t count) {
  mci_runs* last = level->nruns ? &level->runs[level->nruns - 1] : NULL;
  if (last && last->length == length) {
    last->count += count;
    return meshcclSuccess;
  }
  mci_runs next = {.length = length, .count = count};
  if (last) {
    next.node = last->node + last->length * last->count;
    next.group = last->group + last->count;
  }
  MCI_TRY(mci_grow(&level->runs, sizeof *level->runs, &level->cap_runs, (size_t)level->nruns + 1));
  level->runs[level->nruns++] = next;
  return meshcclSuccess;
}

void mci_level_fini(mci_level* level) {
  mci_free(level->runs);
  mci_free(level->group);
  mci_free(level->first);
  mci_free(level->members);
  *level = (mci_level){.ngroups = 0};
}

meshcclResult_t mci_levels_copy(const mci_topo* from, mci_topo* to) {
  for (uint32_t l = 0; l < from->nlevels; l++) {
    mci_level* level = &to->level[to->nlevels++];
    *level = from->level[l];
    level->runs = NULL;
    level->group = level->first = level->members = NULL;
    level->nruns = level->cap_runs = 0;
    for (uint32_t i = 0; i < from->level[l].nruns; i++)
      MCI_TRY(mci_level_add_runs(level, from->level[l].runs[i].length, from->level[l].runs[i].count));
  }
  return meshcclSuccess;
}

/* Groups without ranks have no number: `number` maps those that have some. */
static void fill_tables(const mci_topo* topo, mci_level* level, uint32_t* number, uint32_t groups) {
  for (uint32_t place = 0; place < topo->nranks; place++)
    number[mci_level_group(topo, level, mci_grid_node_at(topo, place))] = 1;
  level->ngroups = 0;
  for (uint32_t g = 0; g < groups; g++) number[g] = number[g] ? level->ngroups++ : UINT32_MAX;
  for (uint32_t place = 0; place < topo->nranks; place++) {
    level->group[place] = number[mci_level_group(topo, level, mci_grid_node_at(topo, place))];
    level->first[level->group[place] + 1]++;
  }
  for (uint32_t g = 0; g < level->ngroups; g++) level->first[g + 1] += level->first[g];
  memset(number, 0, groups * sizeof *number);
  for (uint32_t place = 0; place < topo->nranks; place++) {
    uint32_t g = level->group[place];
    level->members[level->first[g] + number[g]++] = place;
  }
}

static meshcclResult_t make_tables(const mci_topo* topo, mci_level* level) {
  uint32_t groups = mci_level_groups(topo, level);
  size_t bytes = ((size_t)MCI_MAX(groups, topo->nranks) + 1) * sizeof(uint32_t);
  uint32_t* number = mci_alloc(bytes);
  level->group = mci_alloc(bytes);
  level->first = mci_alloc(bytes);
  level->members = mci_alloc(bytes);
  bool made = number && level->group && level->first && level->members;
  if (made) fill_tables(topo, level, number, groups);
  mci_free(number);
  return made ? meshcclSuccess : mci_oom(bytes);
}

meshcclResult_t mci_levels_finish(mci_topo* topo) {
  for (uint32_t l = 0; l < topo->nlevels; l++) {
    mci_level* level = &topo->level[l];
    if (mci_topo_is_regular(topo)) {
      level->ngroups = mci_level_groups(topo, level);
    } else {
      MCI_TRY(make_tables(topo, level));
    }
  }
  return meshcclSuccess;
}

static void remove_level(mci_topo* topo, uint32_t l) {
  mci_level_fini(&topo->level[l]);
  topo->nlevels--;
  memmove(&topo->level[l], &topo->level[l + 1], (topo->nlevels - l) * sizeof *topo->level);
  topo->level[topo->nlevels] = (mci_level){.ngroups = 0};
}

/* A box that reaches from wall to wall has one form, so that equal parts have equal texts. */
static void settle_box(mci_topo* topo, mci_level* level) {
  for (uint32_t d = 0; d < topo->ndims; d++) {
    if ((uint64_t)level->before[d] + topo->side[d] > level->box[d]) continue;
    level->box[d] = topo->side[d];
    level->before[d] = 0;
  }
}

void mci_levels_prune(mci_topo* topo) {
  for (uint32_t l = 0; l < topo->nlevels; l++)
    if (!topo->full) settle_box(topo, &topo->level[l]);
  while (topo->nlevels && mci_level_groups(topo, &topo->level[topo->nlevels - 1]) == 1)
    remove_level(topo, topo->nlevels - 1);
  for (uint32_t l = topo->nlevels; l-- > 1;)
    if (mci_level_groups(topo, &topo->level[l - 1]) == mci_level_groups(topo, &topo->level[l]))
      remove_level(topo, l - 1);
  if (!topo->nlevels || mci_level_groups(topo, &topo->level[0]) < topo->nodes) return;
  topo->link = topo->level[0].link;
  topo->memory = false; /* nobody is left who shares any */
  remove_level(topo, 0);
}

void mci_levels_drop_outer(mci_topo* topo) {
  while (topo->nlevels && topo->level[topo->nlevels - 1].ngroups == 1) remove_level(topo, topo->nlevels - 1);
}

/* ---- classes of links ---- */

/* Whether the short way from a to b along a dimension leaves a box: it does when the boxes differ, and when it goes
 * round a ring of several boxes. */
static bool leaves(const mci_topo* topo, const mci_level* level, uint32_t dim, uint32_t a, uint32_t b) {
  uint32_t x = a / topo->stride[dim] % topo->side[dim], y = b / topo->stride[dim] % topo->side[dim];
  if (mci_level_slot(level, dim, x) != mci_level_slot(level, dim, y)) return true;
  uint32_t gap = x > y ? x - y : y - x;
  return mci_topo_wraps(topo, dim) && gap > topo->side[dim] - gap && mci_level_along(topo, level, dim) > 1;
}

uint32_t mci_levels_class(const mci_topo* topo, uint32_t a, uint32_t b) {
  for (uint32_t l = topo->nlevels; l-- > 0;) {
    const mci_level* level = &topo->level[l];
    bool out = topo->full && mci_level_group(topo, level, a) != mci_level_group(topo, level, b);
    for (uint32_t d = 0; d < topo->ndims && !out; d++) out = leaves(topo, level, d, a, b);
    if (out) return l + 1;
  }
  return 0;
}

/* Steps between two coordinates that leave a group of level link_class - 1; all steps for class 0. */
static uint32_t crossings(const mci_topo* topo, uint32_t dim, uint32_t link_class, uint32_t low, uint32_t high) {
  if (link_class == 0) return high - low;
  if (link_class > topo->nlevels) return 0;
  const mci_level* level = &topo->level[link_class - 1];
  return mci_level_slot(level, dim, high) - mci_level_slot(level, dim, low);
}

uint32_t mci_levels_links(const mci_topo* topo, uint32_t dim, uint32_t link_class) {
  uint32_t end = topo->side[dim] - 1;
  uint32_t inside = crossings(topo, dim, link_class, 0, end), outside = crossings(topo, dim, link_class + 1, 0, end);
  /* The link that closes a ring leaves every group that is not all of it. */
  bool closing = mci_topo_wraps(topo, dim) && outside == 0 && (link_class == 0 || inside > 0);
  return inside - outside + closing;
}

uint64_t mci_levels_delay_ps(const mci_topo* topo, uint32_t dim, uint32_t low, uint32_t high) {
  unsigned __int128 sum = 0;
  for (uint32_t c = 0; c <= topo->nlevels; c++) {
    uint32_t links = crossings(topo, dim, c, low, high) - crossings(topo, dim, c + 1, low, high);
    sum += (unsigned __int128)links * mci_topo_class(topo, c).lat_ps;
  }
  return sum > UINT64_MAX ? UINT64_MAX : (uint64_t)sum;
}

static void worsen(mci_link* link, mci_link other) {
  link->bw_Bps = MCI_MIN(link->bw_Bps, other.bw_Bps);
  link->lat_ps = MCI_MAX(link->lat_ps, other.lat_ps);
  link->cost_ps = MCI_MAX(link->cost_ps, other.cost_ps);
}

mci_link mci_topo_axis_worst(const mci_topo* topo, uint32_t dim) {
  mci_link worst = {UINT64_MAX, 0, 0};
  uint32_t steps = mci_topo_side(topo, dim) - 1;
  for (uint32_t c = 0; c <= topo->nlevels && steps > 0; c++)
    if (mci_levels_links(topo, dim, c) > 0) worsen(&worst, mci_topo_class(topo, c));
  if (worst.bw_Bps == UINT64_MAX) return topo->link;
  if (!mci_topo_wraps(topo, dim)) {
    uint64_t way = mci_levels_delay_ps(topo, dim, 0, steps);
    worst.lat_ps = way / steps + (way % steps > 0);
  }
  return worst;
}

/* Mean delay of the hops of a long way: through the whole grid, and once through every plane. */
static uint64_t mean_delay(const mci_topo* topo) {
  unsigned __int128 sum = 0;
  uint64_t hops = topo->nplanes;
  for (uint32_t p = 0; p < topo->nplanes; p++) sum += topo->plane[p].link.lat_ps;
  for (uint32_t d = 0; d < topo->ndims; d++) {
    if (topo->side[d] == 1 || mci_topo_apart(topo, d)) continue;
    uint64_t steps = mci_topo_wraps(topo, d) ? topo->side[d] / 2 : topo->side[d] - 1;
    sum += (unsigned __int128)steps * mci_topo_axis_worst(topo, d).lat_ps;
    hops += steps;
  }
  return hops ? (uint64_t)((sum + hops - 1) / hops) : topo->link.lat_ps;
}

mci_link mci_topo_worst(const mci_topo* topo) {
  mci_link worst = {UINT64_MAX, 0, 0};
  for (uint32_t c = 0; c <= topo->nlevels; c++) {
    bool there = topo->full && (c == 0 || topo->level[c - 1].ngroups > 1);
    for (uint32_t d = 0; d < topo->ndims && !there; d++)
      there = topo->side[d] > 1 && !mci_topo_apart(topo, d) && mci_levels_links(topo, d, c) > 0;
    if (there) worsen(&worst, mci_topo_class(topo, c));
  }
  for (uint32_t p = 0; p < topo->nplanes; p++) worsen(&worst, topo->plane[p].link);
  if (worst.bw_Bps == UINT64_MAX) return topo->link;
  if (!topo->full) worst.lat_ps = mean_delay(topo);
  return worst;
}

/* ---- queries ---- */

uint32_t mci_topo_nlevels(const mci_topo* topo) { return topo->nlevels; }
const char* mci_topo_level_name(const mci_topo* topo, uint32_t level) { return topo->level[level].name; }
uint32_t mci_topo_ngroups(const mci_topo* topo, uint32_t level) { return topo->level[level].ngroups; }

uint32_t mci_topo_group(const mci_topo* topo, uint32_t level, uint32_t rank) {
  const mci_level* l = &topo->level[level];
  if (l->group) return l->group[topo->map ? topo->map[rank] : rank];
  return mci_level_group(topo, l, mci_grid_node(topo, rank));
}

uint32_t mci_topo_group_size(const mci_topo* topo, uint32_t level, uint32_t group) {
  const mci_level* l = &topo->level[level];
  return l->first ? l->first[group + 1] - l->first[group] : whole_size(topo, l, group);
}

uint32_t mci_topo_group_rank(const mci_topo* topo, uint32_t level, uint32_t group, uint32_t i) {
  const mci_level* l = &topo->level[level];
  uint32_t place = l->first ? l->members[l->first[group] + i] : whole_node(topo, l, group, i);
  return topo->place ? topo->place[place] : place;
}

uint32_t mci_topo_nclasses(const mci_topo* topo) { return topo->nlevels + 1; }
mci_link mci_topo_class(const mci_topo* topo, uint32_t link_class) {
  return link_class ? topo->level[link_class - 1].link : topo->link;
}
void mci_topo_set_class(mci_topo* topo, uint32_t link_class, mci_link link) {
  mci_link* place = link_class ? &topo->level[link_class - 1].link : &topo->link;
  *place = link;
}
uint32_t mci_topo_pair_class(const mci_topo* topo, uint32_t a, uint32_t b) {
  return mci_levels_class(topo, mci_grid_node(topo, a), mci_grid_node(topo, b));
}
