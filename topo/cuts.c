/* Cuts that are worth a look. Sets and partitions come as labels of nodes: every label is a set, all labels together
 * are a partition. What a plane lets out of a set is what its members' ports carry, in or out, whichever are fewer. */
#include "topo/cuts.h"

#include <string.h>

#include "topo/grid.h"

#define MAX_UNITS (1u << 24)

/* ---- capacities ---- */

static uint64_t divisor(uint64_t a, uint64_t b) {
  while (b) {
    uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

void mci_capacities_of(const mci_topo* topo, mci_capacities* out) {
  uint64_t rates[1 + MCI_MAX_LEVELS + MCI_MAX_PLANES], unit = 0, most = 0;
  uint32_t n = 0;
  for (uint32_t c = 0; c <= topo->nlevels; c++) rates[n++] = mci_topo_class(topo, c).bw_Bps;
  for (uint32_t p = 0; p < topo->nplanes; p++) rates[n++] = topo->plane[p].link.bw_Bps;
  for (uint32_t i = 0; i < n; i++) {
    unit = divisor(rates[i], unit);
    most = MCI_MAX(most, rates[i]);
  }
  *out = (mci_capacities){.exact = most / unit <= MAX_UNITS};
  if (!out->exact) unit = most / MAX_UNITS + 1;
  out->base = rates[0] / unit; /* may be 0 when others are 16 million times as fast: no bound then */
  for (uint32_t c = 0; c <= topo->nlevels; c++) out->of_class[c] = (rates[c] + unit - 1) / unit;
  for (uint32_t p = 0; p < topo->nplanes; p++) out->of_plane[p] = (rates[topo->nlevels + 1 + p] + unit - 1) / unit;
}

/* ---- one cut ---- */

/* Rounds down to what a mci_ratio holds. */
static void raise_to(mci_ratio* best, unsigned __int128 num, unsigned __int128 den) {
  if (den == 0) return;
  while (num >> 62 || den >> 62) {
    num >>= 1;
    den = (den >> 1) + (den & 1);
  }
  mci_ratio ratio = {(uint64_t)num, (uint64_t)den};
  if (mci_ratio_less(*best, ratio)) *best = ratio;
}

void mci_cuts_set(mci_cuts* cuts, uint64_t inside, bool holds_root, uint64_t capacity) {
  uint64_t p = cuts->topo->nranks, outside = p - inside;
  unsigned __int128 base = cuts->cap.base, all = (unsigned __int128)p * capacity;
  if (inside == 0 || outside == 0) return;
  switch (cuts->coll) {
    case MCI_ALL_REDUCE:
    case MCI_BROADCAST:
    case MCI_REDUCE:
      raise_to(&cuts->worst, base, capacity);
      return;
    case MCI_ALL_GATHER:
    case MCI_REDUCE_SCATTER:
      raise_to(&cuts->worst, MCI_MAX(inside, outside) * base, all);
      return;
    case MCI_GATHER:
    case MCI_SCATTER:
      raise_to(&cuts->worst, (holds_root ? outside : inside) * base, all);
      return;
    case MCI_ALL_TO_ALL:
      raise_to(&cuts->worst, (unsigned __int128)inside * outside * base, all);
      return;
    default:
      return;
  }
}

void mci_cuts_parts(mci_cuts* cuts, uint64_t parts, uint64_t twice) {
  if (cuts->coll == MCI_ALL_REDUCE && parts > 1)
    raise_to(&cuts->worst, (unsigned __int128)2 * (parts - 1) * cuts->cap.base, twice);
}

/* ---- full graphs: a group lets out what its port carries ---- */

static void full_cuts(mci_cuts* cuts) {
  const mci_topo* topo = cuts->topo;
  bool spreads = cuts->coll == MCI_BROADCAST || cuts->coll == MCI_SCATTER; /* of shared memory any number may read */
  uint64_t everything = 0;
  for (uint32_t l = 0; l < topo->nlevels; l++) {
    const mci_level* level = &topo->level[l];
    uint64_t port = level->ngroups > 1 ? cuts->cap.of_class[l + 1] : 0;
    uint32_t home = mci_topo_group(topo, l, cuts->root);
    for (uint32_t i = 0; i < level->nruns; i++) {
      const mci_runs* runs = &level->runs[i];
      bool holds_root = home >= runs->group && home - runs->group < runs->count;
      if (port && holds_root) mci_cuts_set(cuts, runs->length, true, port);
      if (port && (!holds_root || runs->count > 1)) mci_cuts_set(cuts, runs->length, false, port);
      if (l > 0) continue;
      uint64_t to_each = (uint64_t)(runs->length - 1) * cuts->cap.of_class[0];
      uint64_t own = topo->memory ? MCI_MIN(to_each, cuts->cap.of_class[0]) : to_each;
      everything += runs->count * (runs->length * own + port);
      if (own + port == 0) continue;
      if (holds_root) mci_cuts_set(cuts, 1, true, (spreads ? to_each : own) + port);
      if (!holds_root || runs->count > 1 || runs->length > 1) mci_cuts_set(cuts, 1, false, own + port);
    }
    if (port) mci_cuts_parts(cuts, level->ngroups, level->ngroups * port);
  }
  mci_cuts_parts(cuts, topo->nranks, everything);
}

/* ---- grids, node by node ---- */

enum { SINGLES, SLABS, LEVELS }; /* labels; from LEVELS on one per level */

static uint32_t label_of(const mci_topo* topo, uint32_t labels, uint32_t node) {
  if (labels == SINGLES) return node;
  if (labels >= LEVELS) return mci_level_group(topo, &topo->level[labels - LEVELS], node);
  uint32_t slab = 0;
  for (uint32_t d = 0; d < topo->ndims; d++)
    if (mci_topo_apart(topo, d)) slab = slab * topo->side[d] + node / topo->stride[d] % topo->side[d];
  return slab;
}

static uint32_t count_labels(const mci_topo* topo, uint32_t labels) {
  uint32_t slabs = 1;
  if (labels == SINGLES) return topo->nodes;
  if (labels >= LEVELS) return mci_level_groups(topo, &topo->level[labels - LEVELS]);
  for (uint32_t d = 0; d < topo->ndims; d++) slabs *= mci_topo_apart(topo, d) ? topo->side[d] : 1;
  return slabs;
}

typedef struct {
  uint64_t links;
  uint32_t ranks, members[MCI_MAX_PLANES];
} set;

static void fill_sets(const mci_cuts* cuts, uint32_t labels, set* sets) {
  const mci_topo* topo = cuts->topo;
  for (uint32_t node = 0; node < topo->nodes; node++) {
    bool rank = mci_grid_rank(topo, node) >= 0;
    if (mci_grid_is_dead(topo, node) || (!topo->routed && !rank)) continue;
    uint32_t label = label_of(topo, labels, node);
    sets[label].ranks += rank;
    for (uint32_t i = 0; i < 2 * topo->ndims; i++) {
      int64_t next = mci_grid_next(topo, node, i / 2, i % 2);
      if (next < 0 || label_of(topo, labels, (uint32_t)next) == label) continue;
      sets[label].links += cuts->cap.of_class[mci_levels_class(topo, node, (uint32_t)next)];
    }
    for (uint32_t p = 0; p < topo->nplanes; p++) sets[label].members[p] += mci_plane_has(&topo->plane[p], node);
  }
}

static meshcclResult_t labelled_cuts(mci_cuts* cuts, uint32_t labels) {
  const mci_topo* topo = cuts->topo;
  uint32_t n = count_labels(topo, labels), home = label_of(topo, labels, mci_grid_node(topo, cuts->root));
  set* sets = mci_alloc(n * sizeof *sets);
  if (!sets) return mci_oom(n * sizeof *sets);
  fill_sets(cuts, labels, sets);
  uint64_t parts = 0, twice = 0;
  bool only_ranks = true; /* a part without ranks must not count, and would pass messages on */
  for (uint32_t i = 0; i < n; i++) {
    uint64_t capacity = sets[i].links;
    for (uint32_t p = 0; p < topo->nplanes; p++)
      capacity += cuts->cap.of_plane[p] * MCI_MIN(sets[i].members[p], topo->plane[p].nmembers - sets[i].members[p]);
    mci_cuts_set(cuts, sets[i].ranks, i == home, capacity);
    parts += sets[i].ranks > 0;
    twice += capacity;
    only_ranks = only_ranks && (sets[i].ranks > 0 || capacity == 0);
  }
  if (only_ranks) mci_cuts_parts(cuts, parts, twice);
  mci_free(sets);
  return meshcclSuccess;
}

meshcclResult_t mci_cuts_bound(const mci_topo* topo, mci_coll coll, uint32_t root, mci_ratio* out) {
  mci_cuts cuts = {.topo = topo, .coll = coll, .root = root, .worst = {0, 1}};
  mci_capacities_of(topo, &cuts.cap);
  if (topo->full) {
    full_cuts(&cuts);
  } else if (mci_topo_is_regular(topo) && topo->nplanes == 0) {
    mci_cuts_whole(&cuts);
  } else {
    for (uint32_t labels = 0; labels < LEVELS + topo->nlevels; labels++) MCI_TRY(labelled_cuts(&cuts, labels));
  }
  *out = cuts.worst;
  return meshcclSuccess;
}
