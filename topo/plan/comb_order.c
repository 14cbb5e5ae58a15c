/* Shares, chunks and times of combs; see comb.h.
 *
 * The times of the static order: sums along the lines are complete at 0, which gives the links before their times; the
 * spine follows hop by hop; totals start back along an axis one or more whole periods after they started on the one
 * before. The whole period is what keeps partial sums and totals of all trees in each other's gaps on rectangles, where
 * the two kinds of combs have different periods. Messages of one link are sorted by these times, so that only their
 * order matters, not the times themselves; hops are stretched (patience) because an order computed for hops that are
 * too short is worse than one computed for longer ones. */
#include <string.h>

#include "base/base.h"
#include "topo/plan/balance.h"
#include "topo/plan/comb.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"

#define SHARE_SUM (UINT32_C(1) << 30)
#define CREDITS 8 /* messages that a link can be expected to have under way */

static uint32_t side(const mci_combs* combs, const mci_comb_class* class, uint32_t level) {
  return combs->axes[class->order[level]].n;
}

/* A tree loads every link of its first axis, and of a later one as many less as there are spines before it. */
static void set_shares(mci_combs* combs, uint32_t share[MCI_MAX_DIMS]) {
  mci_loads load;
  uint32_t n = combs->naxes;
  int64_t positions = 1;
  for (uint32_t a = 0; a < n; a++) positions *= combs->axes[a].n;
  for (uint32_t c = 0; c < n; c++) {
    mci_comb_class* class = &combs->classes[c];
    uint32_t trees = 1;
    for (uint32_t l = 0; l < n; l++) {
      class->order[l] = (uint8_t)((c + l) % n);
      class->trees = trees;
      load[class->order[l]][c] = positions / trees;
      trees *= side(combs, class, l);
    }
  }
  mci_balance(load, n, SHARE_SUM, share);
}

static void set_chunks(mci_combs* combs, const uint32_t* share, uint32_t chunks) {
  uint64_t one = MCI_MAX(share[0] / combs->classes[0].trees, 1u); /* share of a tree of class 0 */
  combs->nparts = 0;
  for (uint32_t c = 0; c < combs->naxes; c++) {
    mci_comb_class* class = &combs->classes[c];
    uint64_t tree = share[c] / class->trees;
    class->chunks = (uint32_t)MCI_MAX((tree * chunks + one / 2) / one, UINT64_C(1));
    class->weight = (uint32_t)MCI_MAX(tree / class->chunks, UINT64_C(1));
    class->part = combs->nparts;
    combs->nparts += class->trees * class->chunks;
  }
}

static int64_t whole_periods(int64_t time, uint64_t period) {
  int64_t p = (int64_t)MCI_MAX(period, UINT64_C(1));
  return (time + p - 1) / p * p;
}

static void set_times(const mci_combs* combs, mci_comb_class* class) {
  uint32_t last = combs->naxes - 1;
  int64_t hop = (int64_t)combs->hop_ps;
  class->up_ps[0] = 0;
  for (uint32_t l = 1; l < last; l++)
    class->up_ps[l] = class->up_ps[l - 1] + whole_periods(hop * side(combs, class, l), class->period_ps);
  class->down_ps[last] = class->up_ps[last] = last > 0 ? class->up_ps[last - 1] : 0;
  for (uint32_t l = last; l-- > 0;)
    class->down_ps[l] = class->down_ps[l + 1] + whole_periods(hop * side(combs, class, l + 1), class->period_ps);
}

void mci_combs_init(mci_combs* combs, const mci_topo* topo, const mci_request* request, uint32_t rank, uint32_t chunks,
                    uint32_t patience) {
  uint32_t share[MCI_MAX_DIMS];
  mci_link link = mci_topo_worst(topo);
  memset(combs, 0, sizeof *combs);
  combs->wide = request->wide;
  combs->naxes = mci_grid_axes(topo, rank, combs->axes);
  combs->equal = true;
  for (uint32_t a = 1; a < combs->naxes; a++) combs->equal = combs->equal && combs->axes[a].n == combs->axes[0].n;
  set_shares(combs, share);
  set_chunks(combs, share, chunks);
  uint64_t weights = 0, message_ps = 0;
  for (uint32_t c = 0; c < combs->naxes; c++)
    weights += (uint64_t)combs->classes[c].weight * combs->classes[c].trees * combs->classes[c].chunks;
  for (uint32_t c = 0; c < combs->naxes; c++) {
    uint64_t bytes = mci_cost_share(request->bytes, combs->classes[c].weight, weights);
    message_ps = MCI_MAX(message_ps, mci_cost_wire(&link, bytes) + link.cost_ps);
  }
  combs->hop_ps = MCI_MAX((message_ps + link.lat_ps) * patience / 4, UINT64_C(1));
  uint64_t busy_ps = message_ps * mci_combs_messages(combs);
  uint64_t turn_ps = 2 * link.lat_ps + message_ps; /* until a credit returns */
  if (turn_ps > CREDITS * message_ps) busy_ps = turn_ps / CREDITS * mci_combs_messages(combs);
  for (uint32_t c = 0; c < combs->naxes; c++) {
    combs->classes[c].period_ps = MCI_MAX(busy_ps / combs->classes[c].chunks, UINT64_C(1));
    set_times(combs, &combs->classes[c]);
  }
}

uint64_t mci_combs_messages(const mci_combs* combs) {
  uint64_t most = 0;
  for (uint32_t a = 0; a < combs->naxes; a++) {
    uint64_t messages = 0;
    for (uint32_t c = 0; c < combs->naxes; c++) {
      const mci_comb_class* class = &combs->classes[c];
      uint64_t trees = class->trees;
      for (uint32_t l = 0; class->order[l] != a; l++) trees /= side(combs, class, l);
      messages += trees * class->chunks;
    }
    most = MCI_MAX(most, messages);
  }
  return most;
}

uint64_t mci_combs_time(const mci_combs* combs) {
  uint64_t longest = 0;
  for (uint32_t c = 0; c < combs->naxes; c++) {
    const mci_comb_class* class = &combs->classes[c];
    uint64_t before = combs->hop_ps * (side(combs, class, 0) - 1);
    uint64_t after = combs->naxes > 1 ? before : combs->hop_ps;
    uint64_t chunks = class->period_ps * (class->chunks - 1);
    longest = MCI_MAX(longest, before + chunks + (uint64_t) class->down_ps[0] + after);
  }
  return longest;
}

uint32_t mci_comb_spine(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level) {
  for (uint32_t l = 0; l < level; l++) tree /= side(combs, class, l);
  return tree % side(combs, class, level);
}

bool mci_comb_reaches(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level) {
  for (uint32_t l = 0; l < level; l++)
    if (combs->axes[class->order[l]].at != mci_comb_spine(combs, class, tree, l)) return false;
  return true;
}

bool mci_comb_leaves(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level, uint32_t x,
                     unsigned dir, int64_t* ps_out) {
  uint32_t n = side(combs, class, level);
  int64_t hop = (int64_t)combs->hop_ps;
  if (x == (dir == MCI_AHEAD ? n - 1 : 0)) return false;
  if (level + 1 == combs->naxes) {
    *ps_out = class->up_ps[level] + hop * (dir == MCI_AHEAD ? x + 1 : n - x);
    return true;
  }
  uint32_t s = mci_comb_spine(combs, class, tree, level);
  bool inwards = dir == MCI_AHEAD ? x < s : x > s;
  uint32_t distance = x < s ? s - x : x - s;
  *ps_out = inwards ? class->up_ps[level] - hop * distance : class->down_ps[level] + hop * distance;
  return true;
}
