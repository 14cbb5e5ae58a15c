/* Cuts of whole grids with levels. The class of a link depends on its dimension and its place there alone, so whatever
 * is cut along straight lines has a closed form: single nodes, boxes that are groups, and two halves. */
#include "topo/cuts.h"
#include "topo/grid.h"

/* Capacity of the link from `at` upwards; 0 at a wall. */
static uint64_t up(const mci_cuts* cuts, uint32_t dim, uint32_t at) {
  const mci_topo* topo = cuts->topo;
  bool last = at + 1 == topo->side[dim];
  if (last && !mci_topo_wraps(topo, dim)) return 0;
  uint32_t a = at * topo->stride[dim], b = last ? 0 : a + topo->stride[dim];
  return cuts->cap.of_class[mci_levels_class(topo, a, b)];
}

static uint64_t down(const mci_cuts* cuts, uint32_t dim, uint32_t at) {
  if (at > 0) return up(cuts, dim, at - 1);
  return mci_topo_wraps(cuts->topo, dim) ? up(cuts, dim, cuts->topo->side[dim] - 1) : 0;
}

/* What leaves a box. */
static uint64_t leaving(const mci_cuts* cuts, const uint32_t* low, const uint32_t* width) {
  const mci_topo* topo = cuts->topo;
  uint64_t volume = 1, links = 0;
  for (uint32_t d = 0; d < topo->ndims; d++) volume *= width[d];
  for (uint32_t d = 0; d < topo->ndims; d++)
    if (width[d] < topo->side[d])
      links += volume / width[d] * (down(cuts, d, low[d]) + up(cuts, d, low[d] + width[d] - 1));
  return links;
}

static void consider_box(mci_cuts* cuts, const uint32_t* low, const uint32_t* width) {
  const mci_topo* topo = cuts->topo;
  uint32_t root[MCI_MAX_DIMS];
  uint64_t volume = 1;
  bool holds_root = true;
  mci_topo_coords(topo, cuts->root, root);
  for (uint32_t d = 0; d < topo->ndims; d++) {
    volume *= width[d];
    holds_root = holds_root && root[d] >= low[d] && root[d] - low[d] < width[d];
  }
  mci_cuts_set(cuts, volume, holds_root, leaving(cuts, low, width));
}

/* First coordinate and width of the group that a coordinate is in. */
static void extent_of(const mci_topo* topo, const mci_level* level, uint32_t dim, uint32_t at, uint32_t* low,
                      uint32_t* width) {
  uint64_t start = (uint64_t)mci_level_slot(level, dim, at) * level->box[dim], before = level->before[dim];
  *low = (uint32_t)(MCI_MAX(start, before) - before);
  *width = (uint32_t)(MCI_MIN(start + level->box[dim] - before, topo->side[dim]) - *low);
}

/* The node at a corner, beside the middle of the grid and the root, alone and with its groups. */
static void boxes_around(mci_cuts* cuts, const uint32_t at[MCI_MAX_DIMS]) {
  const mci_topo* topo = cuts->topo;
  uint32_t low[MCI_MAX_DIMS], width[MCI_MAX_DIMS];
  for (uint32_t d = 0; d < topo->ndims; d++) width[d] = 1;
  consider_box(cuts, at, width);
  for (uint32_t l = 0; l < topo->nlevels; l++) {
    for (uint32_t d = 0; d < topo->ndims; d++) extent_of(topo, &topo->level[l], d, at[d], &low[d], &width[d]);
    consider_box(cuts, low, width);
  }
}

/* The slabs below `at`, and on rings also those from one half turn before it. */
static void halves(mci_cuts* cuts, uint32_t dim, uint32_t at) {
  const mci_topo* topo = cuts->topo;
  uint32_t low[MCI_MAX_DIMS] = {0}, width[MCI_MAX_DIMS], half = topo->side[dim] / 2;
  if (at == 0 || at >= topo->side[dim]) return;
  for (uint32_t d = 0; d < topo->ndims; d++) width[d] = topo->side[d];
  width[dim] = at;
  consider_box(cuts, low, width);
  if (!mci_topo_wraps(topo, dim) || at < half) return;
  low[dim] = at - half;
  width[dim] = half;
  consider_box(cuts, low, width);
}

static void straight_cuts(mci_cuts* cuts, uint32_t dim) {
  const mci_topo* topo = cuts->topo;
  uint32_t middle = topo->side[dim] / 2;
  halves(cuts, dim, middle);
  for (uint32_t l = 0; l < topo->nlevels; l++) {
    uint32_t low, width;
    extent_of(topo, &topo->level[l], dim, middle, &low, &width);
    halves(cuts, dim, low);
    halves(cuts, dim, low + width);
    extent_of(topo, &topo->level[l], dim, 0, &low, &width);
    halves(cuts, dim, width);
  }
}

static void partitions(mci_cuts* cuts) {
  const mci_topo* topo = cuts->topo;
  for (uint32_t l = 0; l <= topo->nlevels; l++) { /* single nodes, then groups */
    uint64_t twice = 0;
    for (uint32_t d = 0; d < topo->ndims; d++)
      for (uint32_t c = l; c <= topo->nlevels; c++)
        twice += 2 * (uint64_t)mci_levels_links(topo, d, c) * (topo->nodes / topo->side[d]) * cuts->cap.of_class[c];
    mci_cuts_parts(cuts, l ? topo->level[l - 1].ngroups : topo->nodes, twice);
  }
}

void mci_cuts_whole(mci_cuts* cuts) {
  const mci_topo* topo = cuts->topo;
  uint32_t corner[MCI_MAX_DIMS] = {0}, end[MCI_MAX_DIMS], middle[MCI_MAX_DIMS], root[MCI_MAX_DIMS];
  for (uint32_t d = 0; d < topo->ndims; d++) {
    end[d] = topo->side[d] - 1;
    middle[d] = topo->side[d] / 2;
    straight_cuts(cuts, d);
  }
  mci_topo_coords(topo, cuts->root, root);
  boxes_around(cuts, corner);
  boxes_around(cuts, end);
  boxes_around(cuts, middle);
  boxes_around(cuts, root);
  partitions(cuts);
}
