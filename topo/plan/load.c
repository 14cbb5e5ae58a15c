/* What shared ways out of groups do to messages; see load.h. */
#include "topo/plan/load.h"

#include "base/base.h"
#include "topo/plan/cost.h"

#define SYSTEM_CALL_PS 1000000

typedef struct {
  uint64_t time, messages;
} busiest;

static void raise_to(busiest* worst, const mci_topo* topo, uint32_t link_class, uint64_t messages, uint64_t bytes) {
  mci_link link = mci_topo_class(topo, link_class);
  uint64_t time = messages * (link.cost_ps + mci_cost_wire(&link, bytes));
  if (time > worst->time) *worst = (busiest){time, messages};
}

/* Messages at the finest links of a rank to which `pairs` others of its group send: each has its own link, or it reads
 * one after the other. */
static uint64_t at_once(const mci_topo* topo, uint64_t pairs) { return mci_topo_is_memory(topo) ? pairs : pairs > 0; }

/* What a rank spends in sending `bytes` to each of `peers` of its group where messages are system calls, as their cost
 * shows: the kernel copies for every one, in about two fifths of the time that a receiver takes. */
static uint64_t copies(const mci_topo* topo, uint64_t peers, uint64_t bytes) {
  mci_link link = mci_topo_class(topo, 0);
  bool calls = mci_topo_is_memory(topo) && link.cost_ps >= SYSTEM_CALL_PS;
  return calls ? mci_cost_share(mci_cost_wire(&link, bytes), 2 * peers, 5) : 0;
}

/* The most ranks that share the finest links. */
static uint64_t together(const mci_topo* topo) {
  if (mci_topo_nlevels(topo) == 0) return mci_topo_nranks(topo);
  uint64_t most = 1;
  for (uint32_t g = 0; g < mci_topo_ngroups(topo, 0); g++) most = MCI_MAX(most, mci_topo_group_size(topo, 0, g));
  return most;
}

uint64_t mci_load_all_pairs(const mci_topo* topo, uint64_t bytes, uint64_t* messages) {
  uint64_t n = mci_topo_nranks(topo);
  busiest worst = {0, 1};
  raise_to(&worst, topo, 0, at_once(topo, together(topo) - 1), bytes);
  for (uint32_t l = 0; l < mci_topo_nlevels(topo); l++) {
    uint64_t leaving = 0;
    for (uint32_t g = 0; g < mci_topo_ngroups(topo, l); g++) {
      uint64_t size = mci_topo_group_size(topo, l, g);
      leaving = MCI_MAX(leaving, size * (n - size));
    }
    raise_to(&worst, topo, l + 1, leaving, bytes);
  }
  *messages = worst.messages;
  return worst.time;
}

uint64_t mci_load_to_one(const mci_topo* topo, uint32_t root, bool gathers, uint64_t bytes, uint64_t* messages) {
  uint64_t n = mci_topo_nranks(topo),
           near = mci_topo_nlevels(topo) ? mci_topo_group_size(topo, 0, mci_topo_group(topo, 0, root)) : n;
  busiest worst = {0, 1};
  raise_to(&worst, topo, 0, gathers ? at_once(topo, near - 1) : n > 1, bytes);
  if (!gathers) worst.time = MCI_MAX(worst.time, copies(topo, near - 1, bytes));
  for (uint32_t l = 0; l < mci_topo_nlevels(topo); l++)
    raise_to(&worst, topo, l + 1, n - mci_topo_group_size(topo, l, mci_topo_group(topo, l, root)), bytes);
  *messages = worst.messages;
  return worst.time;
}

/* Edges from a rank to its children that leave its group of a level. */
static uint64_t leaving_edges(const mci_tree* tree, uint32_t level, uint32_t rank) {
  const mci_topo* topo = tree->topo;
  uint32_t children[MCI_TREE_MAX_CHILDREN], n = mci_tree_children(tree, rank, children);
  uint64_t leaving = 0;
  while (n > 0) leaving += mci_topo_group(topo, level, children[--n]) != mci_topo_group(topo, level, rank);
  return leaving;
}

uint64_t mci_load_tree(const mci_tree* tree, bool up, uint64_t bytes, uint64_t* messages) {
  const mci_topo* topo = tree->topo;
  uint32_t ignored[MCI_TREE_MAX_CHILDREN];
  busiest worst = {0, 1};
  uint64_t inside =
      mci_tree_children(tree, tree->root, ignored) - (mci_topo_nlevels(topo) ? leaving_edges(tree, 0, tree->root) : 0);
  raise_to(&worst, topo, 0, up ? MCI_MAX(at_once(topo, inside), 1u) : 1, bytes);
  if (!up && inside > 1)
    worst.time += copies(topo, inside - 1, bytes); /* of a child, which receives and sends by turns */
  for (uint32_t l = 0; l < mci_topo_nlevels(topo); l++) {
    uint32_t group = mci_topo_group(topo, l, tree->root);
    uint64_t leaving = 0;
    for (uint32_t i = 0; i < mci_topo_group_size(topo, l, group); i++)
      leaving += leaving_edges(tree, l, mci_topo_group_rank(topo, l, group, i));
    raise_to(&worst, topo, l + 1, leaving, bytes);
  }
  *messages = worst.messages;
  return worst.time;
}

/* Steps of the ring in rank order that leave the busiest group of the level. */
static uint64_t crossings(const mci_topo* topo, uint32_t level) {
  uint32_t n = mci_topo_nranks(topo), groups = mci_topo_ngroups(topo, level);
  uint64_t worst = 0;
  for (uint32_t g = 0; g < groups; g++) {
    uint64_t leaving = 0;
    for (uint32_t i = 0; i < mci_topo_group_size(topo, level, g); i++) {
      uint32_t rank = mci_topo_group_rank(topo, level, g, i);
      leaving += mci_topo_group(topo, level, rank + 1 == n ? 0 : rank + 1) != g;
    }
    worst = MCI_MAX(worst, leaving);
  }
  return worst;
}

/* Delay of the slowest `hops` steps in a row. */
static uint64_t slowest_way(const mci_topo* topo, uint32_t hops) {
  uint32_t n = mci_topo_nranks(topo);
  uint64_t delay = 0, worst = 0;
  for (uint32_t i = 0; i < n + hops; i++) {
    uint32_t rank = i % n;
    delay += mci_topo_class(topo, mci_topo_pair_class(topo, rank, (rank + 1) % n)).lat_ps;
    if (i >= hops) {
      uint32_t left = i - hops;
      delay -= mci_topo_class(topo, mci_topo_pair_class(topo, left, (left + 1) % n)).lat_ps;
    }
    worst = MCI_MAX(worst, delay);
  }
  return worst;
}

mci_axis_links mci_load_ring(const mci_topo* topo, bool one_way) {
  uint32_t n = mci_topo_nranks(topo), ways = one_way || n == 2 ? 1 : 2;
  mci_axis_links out = {.link = mci_topo_link(topo), .load = mci_topo_is_memory(topo) ? ways : 1};
  if (mci_topo_is_memory(topo) && !one_way) out.link.cost_ps *= 2; /* two messages a step for one reader */
  uint32_t hops = one_way ? n - 1 : n / 2;
  if (mci_topo_nlevels(topo) == 0) return out;
  for (uint32_t l = 0; l < mci_topo_nlevels(topo); l++) {
    uint64_t leaving = crossings(topo, l) * ways;
    mci_link link = mci_topo_class(topo, l + 1);
    if ((unsigned __int128)leaving * out.link.bw_Bps <= (unsigned __int128)out.load * link.bw_Bps) continue;
    out.link = link;
    out.load = (uint32_t)leaving;
  }
  out.link.lat_ps = (slowest_way(topo, hops) + hops - 1) / hops;
  return out;
}
