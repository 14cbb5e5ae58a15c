/* Shares, chunks and times of combs; see comb.h.
 *
 * All chunks are equally long. A link carries one of each tree that uses it per period, and the periods of the classes
 * are such that the links of all axes, whose rates may differ, are busy all the time.
 *
 * The times of the static order: sums along the lines are complete at 0, which gives the links before their times; the
 * spine follows hop by hop; totals start back along an axis one or more whole periods after they started on the one
 * before. The whole period is what keeps partial sums and totals of all trees in each other's gaps on rectangles, where
 * the two kinds of combs have different periods. Messages of one link are sorted by these times, so that only their
 * order matters, not the times themselves; hops are stretched (margin) because an order computed for hops that are too
 * short is worse than one computed for longer ones.
 *
 * On squares with q spines per axis the order is free of conflicts: count time in slots, of which the period has q + 1,
 * and let a hop take g of them. On the link after position j, spines being at f .. f + q - 1, the trees use the slots
 * -(f + q - 1 - j) g .. (j - f) g, modulo the period, but for the spine's, which gets the one left over, (j - f + 1) g,
 * when it begins -f g later. When g has no divisor in common with q + 1, these are all slots, each once. So hops are
 * stretched to the next such g. */
#include <string.h>

#include "base/base.h"
#include "topo/plan/balance.h"
#include "topo/plan/comb.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"

#define SHARE_SUM (UINT32_C(1) << 30)
#define LARGEST_ELEMENT 16
#define MAX_LANES 4
#define APART_CHUNKS 250
#define ROUNDS 3 /* the length of chunks depends on how many there are, and the other way round */

static uint32_t side(const mci_combs* combs, const mci_comb_class* class, uint32_t level) {
  return combs->axes[class->order[level]].n;
}

static uint32_t spines(const mci_combs* combs, const mci_comb_class* class, uint32_t level) {
  return combs->spines[class->order[level]];
}

static void set_links(mci_combs* combs, const mci_topo* topo) {
  uint32_t a = 0;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++)
    if (mci_topo_side(topo, d) > 1) combs->links[a++] = mci_topo_axis_worst(topo, d);
  for (a = 0; a < combs->naxes; a++)
    combs->spines[a] = combs->way.spines ? MCI_MIN(combs->way.spines, combs->axes[a].n) : combs->axes[a].n;
}

/* How many trees of a class use the busiest links of an axis: all of them on its first axis, on a later one as many
 * less as there are spines before it. */
static uint64_t users(const mci_combs* combs, const mci_comb_class* class, uint32_t axis) {
  uint64_t trees = class->trees;
  for (uint32_t l = 0; class->order[l] != axis; l++) trees /= spines(combs, class, l);
  return trees;
}

/* Shares of the vector such that the links of all axes are busy equally long. */
static void set_shares(mci_combs* combs, uint32_t share[MCI_MAX_DIMS]) {
  mci_loads load;
  uint32_t n = combs->naxes;
  uint64_t slowest = UINT64_MAX;
  for (uint32_t a = 0; a < n; a++) slowest = MCI_MIN(slowest, combs->links[a].bw_Bps);
  for (uint32_t c = 0; c < n; c++) {
    mci_comb_class* class = &combs->classes[c];
    class->trees = 1;
    for (uint32_t l = 0; l < n; l++) {
      class->order[l] = (uint8_t)((c + l) % n);
      if (l + 1 < n) class->trees *= spines(combs, class, l);
    }
  }
  for (uint32_t c = 0; c < n; c++)
    for (uint32_t a = 0; a < n; a++)
      load[a][c] = (int64_t)mci_cost_share(
          mci_cost_share(UINT64_C(1) << 40, users(combs, &combs->classes[c], a), combs->classes[c].trees), slowest,
          combs->links[a].bw_Bps);
  mci_balance(load, n, SHARE_SUM, share);
  for (uint32_t c = 0; c < n; c++)
    if (share[c] == 0) combs->classes[c].trees = 0;
}

/* Messages of a chunk. Borders of chunks are cut to elements. */
static uint64_t messages_of(const mci_combs* combs, const mci_request* request) {
  uint64_t message = mci_cost_message(request);
  uint64_t bytes = mci_cost_share(request->bytes, 1, combs->nparts);
  if (request->bytes % combs->nparts) bytes += LARGEST_ELEMENT - 1;
  return MCI_MAX((bytes + message - 1) / message, UINT64_C(1));
}

static bool is_square(const mci_combs* combs) {
  if (combs->naxes != 2 || combs->axes[0].n != combs->axes[1].n) return false;
  return memcmp(&combs->links[0], &combs->links[1], sizeof(mci_link)) == 0;
}

/* Sums, totals and spines may run apart: then one that is late holds up only its like. On squares that costs the time
 * of about 20 messages, or nothing where delays are longer than messages; on rectangles more, for there only one common
 * order keeps them from colliding. With three axes they collide
 * in any case. */
static uint32_t set_apart(mci_combs* combs) {
  bool pays = combs->way.chunks >= APART_CHUNKS || combs->links[0].lat_ps >= combs->send_ps[0];
  combs->apart = pays && (combs->naxes > 2 || is_square(combs));
  /* Ends of lines send mostly one kind, and others not much more than one at a time. */
  return combs->apart ? MCI_COST_CREDITS + MCI_COST_CREDITS / 4 : MCI_COST_CREDITS;
}

/* Lanes until what they can have under way lasts until credits return, on the busiest axis. */
static void set_lanes(mci_combs* combs, uint64_t messages, uint32_t credits) {
  combs->lanes = 1;
  for (uint32_t a = 0; a < combs->naxes; a++) {
    uint64_t turn_ps = (2 * combs->links[a].lat_ps + combs->send_ps[a]) * messages;
    uint64_t lanes = (turn_ps + credits * combs->send_ps[a] - 1) / (credits * combs->send_ps[a]);
    combs->lanes = (uint32_t)MCI_MAX((uint64_t)combs->lanes, MCI_MIN(lanes, (uint64_t)MAX_LANES));
  }
}

/* Time that all parts together need on the busiest link, per part. */
static uint64_t slot_of(const mci_combs* combs, uint64_t messages, uint32_t credits, const uint32_t* share,
                        uint64_t shares) {
  uint64_t slot = 1;
  for (uint32_t a = 0; a < combs->naxes; a++) {
    uint64_t used = 0; /* of all shares */
    for (uint32_t c = 0; c < combs->naxes; c++)
      if (share[c]) used += mci_cost_share(share[c], users(combs, &combs->classes[c], a), combs->classes[c].trees);
    uint64_t turn_ps = (2 * combs->links[a].lat_ps + combs->send_ps[a]) * messages / credits;
    slot = MCI_MAX(slot, mci_cost_share(MCI_MAX(combs->send_ps[a], turn_ps), used, shares));
  }
  return slot;
}

static void set_periods(mci_combs* combs, const mci_request* request, const uint32_t* share) {
  uint64_t shares = 0, bytes = mci_cost_share(request->bytes, 1, combs->nparts);
  uint64_t messages = messages_of(combs, request);
  for (uint32_t a = 0; a < combs->naxes; a++) {
    const mci_link* link = &combs->links[a];
    combs->send_ps[a] = MCI_MAX(mci_cost_wire(link, bytes) + messages * link->cost_ps, UINT64_C(1));
    combs->hop_ps[a] = combs->send_ps[a] + link->lat_ps;
    shares += share[a];
  }
  uint32_t credits = set_apart(combs);
  set_lanes(combs, messages, credits);
  uint64_t slot = slot_of(combs, messages, credits * combs->lanes, share, shares);
  for (uint32_t c = 0; c < combs->naxes; c++) {
    if (share[c] == 0) continue;
    uint64_t period = mci_cost_share(slot * combs->classes[c].trees, shares, share[c]);
    combs->classes[c].period_ps = MCI_MAX(period, UINT64_C(1));
  }
}

/* The longest way along a level's axis to the spine, beyond that of the middle. */
static uint32_t beyond(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level) {
  uint32_t n = side(combs, class, level), s = mci_comb_spine(combs, class, tree, level);
  return MCI_MAX(s, n - 1 - s) - n / 2;
}

/* The same in all levels, as time, for hops of each axis. */
static uint64_t later(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, const uint64_t* hop_ps) {
  uint64_t time = 0;
  for (uint32_t l = 0; l + 1 < combs->naxes; l++) time += beyond(combs, class, tree, l) * hop_ps[class->order[l]];
  return time;
}

uint32_t mci_comb_chunks(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t* first) {
  uint64_t period = class->skip_period_ps;
  uint64_t skip = (later(combs, class, tree, combs->skip_hop_ps) + period / 2) / period;
  *first = (uint32_t)MCI_MIN(skip, (uint64_t) class->chunks);
  return 2 * *first < class->chunks ? class->chunks - 2 * *first : 0;
}

/* The way of a tree with its spine in the middle, from the first message to the last. */
static uint64_t shortest(const mci_combs* combs, const mci_comb_class* class) {
  uint32_t last = combs->naxes - 1;
  uint64_t time = (side(combs, class, last) - 1) * combs->hop_ps[class->order[last]];
  for (uint32_t l = 0; l < last; l++) time += 2 * (side(combs, class, l) / 2) * combs->hop_ps[class->order[l]];
  return time;
}

/* All classes end together. */
static void set_chunks(mci_combs* combs) {
  const mci_comb_class* lead = &combs->classes[0];
  while (lead->trees == 0) lead++;
  uint64_t end = (combs->way.chunks - 1) * lead->period_ps + shortest(combs, lead);
  combs->nparts = 0;
  memcpy(combs->skip_hop_ps, combs->hop_ps, sizeof combs->hop_ps);
  for (uint32_t c = 0; c < combs->naxes; c++) {
    mci_comb_class* class = &combs->classes[c];
    class->skip_period_ps = class->period_ps;
    class->part = combs->nparts;
    class->nparts = class->chunks = 0;
    if (class->trees == 0) continue;
    uint64_t own = shortest(combs, class);
    class->chunks = 1;
    if (end > own) class->chunks += (uint32_t)((end - own + class->period_ps / 2) / class->period_ps);
    for (uint32_t tree = 0; tree < class->trees; tree++) {
      uint32_t first;
      class->nparts += mci_comb_chunks(combs, class, tree, &first);
    }
    combs->nparts += class->nparts;
  }
}

static int64_t whole_periods(int64_t time, uint64_t period) {
  int64_t p = (int64_t)period;
  return (time + p - 1) / p * p;
}

static int64_t step(const mci_combs* combs, const mci_comb_class* class, uint32_t level) {
  return (int64_t)combs->step_ps[class->order[level]];
}

static uint32_t gcd(uint32_t a, uint32_t b) { return b ? gcd(b, a % b) : a; }

/* Hops as the order counts them. */
static void set_steps(mci_combs* combs) {
  for (uint32_t a = 0; a < combs->naxes; a++) combs->step_ps[a] = combs->hop_ps[a] + combs->way.margin_ps;
  if (combs->apart || !is_square(combs)) return;
  uint32_t slots = combs->spines[0] + 1;
  for (uint32_t a = 0; a < 2; a++) {
    uint64_t period = combs->classes[a].period_ps;
    uint64_t step = MCI_MIN(mci_cost_share(combs->step_ps[a], slots, period), (uint64_t)UINT32_MAX - slots);
    while (gcd((uint32_t)step, slots) != 1) step++;
    uint64_t outside = (combs->axes[a].n - combs->spines[a] + 1) / 2;
    combs->step_ps[a] = mci_cost_share(period, step, slots);
    combs->classes[a].turn_ps = (int64_t)mci_cost_share(period, (slots - outside * step % slots) % slots, slots);
  }
}

static void set_times(const mci_combs* combs, mci_comb_class* class) {
  uint32_t last = combs->naxes - 1;
  class->up_ps[0] = 0;
  for (uint32_t l = 1; l < last; l++)
    class->up_ps[l] =
        class->up_ps[l - 1] + whole_periods(step(combs, class, l) * side(combs, class, l), class->period_ps);
  class->down_ps[last] = class->up_ps[last] = last > 0 ? class->up_ps[last - 1] : 0;
  if (last) class->up_ps[last] += class->turn_ps;
  for (uint32_t l = last; l-- > 0;)
    class->down_ps[l] = class->down_ps[l + 1] + whole_periods((l + 1 == last ? class->turn_ps : 0) +
                                                                  step(combs, class, l + 1) * side(combs, class, l + 1),
                                                              class->period_ps);
}

void mci_combs_init(mci_combs* combs, const mci_topo* topo, const mci_request* request, uint32_t rank,
                    const mci_comb_way* way) {
  uint32_t share[MCI_MAX_DIMS];
  memset(combs, 0, sizeof *combs);
  combs->wide = request->wide;
  combs->way = *way;
  combs->naxes = mci_grid_axes(topo, rank, combs->axes);
  set_links(combs, topo);
  set_shares(combs, share);
  combs->nparts = 1;
  for (uint32_t c = 0; c < combs->naxes; c++) combs->nparts += combs->classes[c].trees * way->chunks;
  for (uint32_t round = 0; round < ROUNDS; round++) {
    set_periods(combs, request, share);
    set_chunks(combs);
  }
  set_periods(combs, request, share);
  set_steps(combs);
  for (uint32_t c = 0; c < combs->naxes; c++)
    if (combs->classes[c].trees) set_times(combs, &combs->classes[c]);
}

/* Messages of a class over the busiest links of an axis: those that a spine in the middle lies on. */
static uint64_t class_messages(const mci_combs* combs, const mci_comb_class* class, uint32_t axis) {
  uint64_t before = class->trees ? class->trees / users(combs, class, axis) : 1, messages = 0;
  uint32_t middle = 0, first, count = 1;
  for (uint32_t l = 0; class->trees && class->order[l] != axis; l++) {
    uint32_t q = spines(combs, class, l);
    middle += (q / 2) * count;
    count *= q;
  }
  for (uint64_t tree = middle; tree < class->trees; tree += before)
    messages += mci_comb_chunks(combs, class, (uint32_t)tree, &first);
  return messages;
}

static uint64_t axis_messages(const mci_combs* combs, uint32_t axis) {
  uint64_t messages = 0;
  for (uint32_t c = 0; c < combs->naxes; c++) messages += class_messages(combs, &combs->classes[c], axis);
  return messages;
}

uint64_t mci_combs_messages(const mci_combs* combs) {
  uint64_t most = 0;
  for (uint32_t a = 0; a < combs->naxes; a++) most = MCI_MAX(most, axis_messages(combs, a));
  return most;
}

double mci_combs_load(const mci_combs* combs) { return (double)mci_combs_messages(combs) / combs->nparts; }

uint32_t mci_combs_depth(const mci_combs* combs) {
  uint32_t most = 0, first, last = combs->naxes - 1;
  for (uint32_t c = 0; c < combs->naxes; c++) {
    const mci_comb_class* class = &combs->classes[c];
    for (uint32_t tree = 0; tree < class->trees; tree++) {
      uint32_t hops = side(combs, class, last) - 1;
      for (uint32_t l = 0; l < last; l++) hops += 2 * (side(combs, class, l) / 2 + beyond(combs, class, tree, l));
      if (mci_comb_chunks(combs, class, tree, &first) > 0) most = MCI_MAX(most, hops);
    }
  }
  return most;
}

uint64_t mci_combs_time(const mci_combs* combs) {
  uint64_t longest = 0;
  for (uint32_t c = 0; c < combs->naxes; c++) {
    const mci_comb_class* class = &combs->classes[c];
    for (uint32_t tree = 0; tree < class->trees; tree++) {
      uint32_t first, count = mci_comb_chunks(combs, class, tree, &first);
      if (count == 0) continue;
      uint64_t way = shortest(combs, class) + 2 * later(combs, class, tree, combs->hop_ps);
      /* With three axes and more a period is longer than the way, and its messages get in each other's way. */
      uint64_t busy = combs->naxes > 2 ? class->period_ps + way : 0;
      longest = MCI_MAX(longest, MCI_MAX(way, busy) + (count - 1) * class->period_ps);
    }
  }
  return longest;
}

uint64_t mci_combs_order_time(const mci_combs* combs) {
  int64_t longest = 0;
  uint32_t last = combs->naxes - 1;
  for (uint32_t c = 0; c < combs->naxes; c++) {
    const mci_comb_class* class = &combs->classes[c];
    if (class->trees == 0) continue;
    int64_t lines = last > 0 ? class->down_ps[0] + step(combs, class, 0) * (side(combs, class, 0) / 2 * 2)
                             : step(combs, class, 0) * side(combs, class, 0);
    longest = MCI_MAX(longest, lines + (int64_t)((class->chunks - 1) * class->period_ps));
  }
  return (uint64_t)longest;
}

uint32_t mci_comb_spine(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level) {
  for (uint32_t l = 0; l < level; l++) tree /= spines(combs, class, l);
  uint32_t q = spines(combs, class, level);
  return (side(combs, class, level) - q + 1) / 2 + tree % q;
}

bool mci_comb_reaches(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level) {
  for (uint32_t l = 0; l < level; l++)
    if (combs->axes[class->order[l]].at != mci_comb_spine(combs, class, tree, l)) return false;
  return true;
}

bool mci_comb_leaves(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level, uint32_t x,
                     unsigned dir, int64_t* ps_out) {
  uint32_t n = side(combs, class, level);
  int64_t hop = step(combs, class, level);
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
