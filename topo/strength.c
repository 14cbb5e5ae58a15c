/* Strength of a graph: min over partitions of (crossing capacity) / (parts - 1); its inverse bounds all-reduce
 * (Nash-Williams and Tutte 1961: a fractional packing of spanning trees reaches it).
 *
 * For a candidate a/b a partition P with links(P) * b < a * (parts - 1) is one whose sum over its sets S of
 * b * inner(S) + a exceeds b * (capacity of all links) + a. The largest such sum comes from one greedy pass (Dilworth
 * truncation; Cunningham 1985): nodes enter in order, node v gets the least capacity w(v) such that w(S) >= b *
 * inner(S) + a for every set S of nodes so far with v in it. Newton's method repeats with the partition's own ratio
 * until none is worse; ratios only fall, so it ends.
 *
 * The pass keeps an assignment: every link's units, b per unit of capacity, lie at its ends, never more at a node than
 * its capacity. A new node starts with all units of its links to earlier nodes and moves them along links to nodes with
 * room; what cannot move raises its capacity, and the set it reached is tight: one part. Room is never far in grids, so
 * a pass is close to linear, and nothing is built anew per node. */
#include <string.h>

#include "topo/net.h"

#define NONE UINT32_MAX

typedef struct {
  const mci_net* net;
  int64_t a, b;
  uint32_t *first, *arcs; /* arcs of a node: numbers of its links */
  int64_t* held;          /* per link: units at link[0]; the others are at link[1] */
  int64_t* room;          /* per node: capacity left */
  uint32_t* via;          /* per node: link that the search came by */
  uint32_t* stamp;        /* per node: last search that saw it */
  uint32_t *queue, *part; /* part: union-find over nodes */
  uint32_t search, tail;
} state;

static void destroy(state* s) {
  void* all[] = {s->first, s->arcs, s->held, s->room, s->via, s->stamp, s->queue, s->part};
  for (size_t i = 0; i < MCI_COUNT(all); i++) mci_free(all[i]);
}

static meshcclResult_t create(const mci_net* net, state* s) {
  size_t nodes = net->nnodes, links = net->nlinks;
  s->net = net;
  s->first = mci_alloc((nodes + 1) * sizeof *s->first);
  s->arcs = mci_alloc(2 * links * sizeof *s->arcs);
  s->held = mci_alloc(links * sizeof *s->held);
  s->room = mci_alloc(nodes * sizeof *s->room);
  s->via = mci_alloc(nodes * sizeof *s->via);
  s->stamp = mci_alloc(nodes * sizeof *s->stamp);
  s->queue = mci_alloc(nodes * sizeof *s->queue);
  s->part = mci_alloc(nodes * sizeof *s->part);
  if (!s->first || !s->arcs || !s->held || !s->room || !s->via || !s->stamp || !s->queue || !s->part) {
    destroy(s);
    return mci_oom(nodes * 28 + links * 16);
  }
  for (uint32_t i = 0; i < 2 * links; i++) s->first[net->link[i / 2][i % 2] + 1]++;
  for (uint32_t node = 0; node < nodes; node++) s->first[node + 1] += s->first[node];
  for (uint32_t i = 0; i < 2 * links; i++) {
    uint32_t node = net->link[i / 2][i % 2];
    s->arcs[s->first[node] + s->via[node]++] = i / 2;
  }
  return meshcclSuccess;
}

static uint32_t part_of(state* s, uint32_t node) {
  while (s->part[node] != node) node = s->part[node] = s->part[s->part[node]];
  return node;
}

static uint32_t far_end(const state* s, uint32_t link, uint32_t node) {
  return s->net->link[link][s->net->link[link][0] == node];
}

static int64_t units_at(const state* s, uint32_t link, uint32_t node) {
  return s->net->link[link][0] == node ? s->held[link] : s->b * s->net->cap[link] - s->held[link];
}

static void move_units(state* s, uint32_t link, uint32_t from, int64_t units) {
  s->held[link] += s->net->link[link][0] == from ? -units : units;
}

/* Nearest node with room that units at v can move to, among the nodes up to v; NONE: queue[0..tail) is all they reach.
 */
static uint32_t find_room(state* s, uint32_t v) {
  s->search++;
  s->tail = 0;
  s->stamp[v] = s->search;
  s->queue[s->tail++] = v;
  for (uint32_t head = 0; head < s->tail; head++) {
    uint32_t node = s->queue[head];
    for (uint32_t i = s->first[node]; i < s->first[node + 1]; i++) {
      uint32_t link = s->arcs[i], next = far_end(s, link, node);
      if (next > v || s->stamp[next] == s->search || units_at(s, link, node) == 0) continue;
      s->stamp[next] = s->search;
      s->via[next] = link;
      if (s->room[next] > 0) return next;
      s->queue[s->tail++] = next;
    }
  }
  return NONE;
}

static int64_t shift(state* s, uint32_t v, uint32_t goal, int64_t units) {
  units = MCI_MIN(units, s->room[goal]);
  for (uint32_t node = goal; node != v; node = far_end(s, s->via[node], node))
    units = MCI_MIN(units, units_at(s, s->via[node], far_end(s, s->via[node], node)));
  for (uint32_t node = goal; node != v; node = far_end(s, s->via[node], node))
    move_units(s, s->via[node], far_end(s, s->via[node], node), units);
  s->room[goal] -= units;
  return units;
}

/* Lets v enter; returns its capacity. */
static int64_t enter(state* s, uint32_t v) {
  int64_t excess = 0;
  s->part[v] = v;
  s->room[v] = 0;
  for (uint32_t i = s->first[v]; i < s->first[v + 1]; i++) {
    uint32_t link = s->arcs[i];
    if (far_end(s, link, v) > v) continue;
    s->held[link] = s->net->link[link][0] == v ? s->b * s->net->cap[link] : 0;
    excess += s->b * s->net->cap[link];
  }
  while (excess > 0) {
    uint32_t goal = find_room(s, v);
    if (goal == NONE) break;
    excess -= shift(s, v, goal, excess);
  }
  if (excess > 0)
    for (uint32_t i = 0; i < s->tail; i++) s->part[part_of(s, s->queue[i])] = part_of(s, v);
  s->room[v] = s->a;
  return s->a + excess;
}

static mci_ratio partition_ratio(state* s) {
  mci_ratio ratio = {0, 0};
  for (uint32_t i = 0; i < s->net->nlinks; i++)
    if (part_of(s, s->net->link[i][0]) != part_of(s, s->net->link[i][1])) ratio.num += (uint64_t)s->net->cap[i];
  for (uint32_t node = 0; node < s->net->nnodes; node++) ratio.den += s->part[node] == node;
  ratio.den--;
  return ratio;
}

meshcclResult_t mci_net_strength(const mci_net* net, mci_ratio* out) {
  state s = {0};
  MCI_TRY(create(net, &s));
  int64_t whole = 0;
  for (uint32_t i = 0; i < net->nlinks; i++) whole += net->cap[i];
  mci_ratio ratio = {(uint64_t)whole, net->nnodes - 1};
  for (;;) {
    s.a = (int64_t)ratio.num;
    s.b = (int64_t)ratio.den;
    int64_t capacity = 0;
    for (uint32_t node = 0; node < net->nnodes; node++) capacity += enter(&s, node);
    if (capacity <= s.b * whole + s.a) break;
    ratio = partition_ratio(&s);
  }
  destroy(&s);
  *out = ratio;
  return meshcclSuccess;
}
