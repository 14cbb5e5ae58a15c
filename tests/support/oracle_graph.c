/* Strength: spanning trees of least load are taken again and again; the load of the busiest link proves one side (trees
 * / load is the value of a packing). The loads also show the worst partition: links between its parts fill up, links
 * inside do not. Every threshold of the load gives a partition; the best is improved by moving single nodes and merging
 * parts. Flows: breadth-first augmenting paths (Edmonds and Karp 1972). */
#include "support/oracle_graph.h"

#include <math.h>

#include "support/test.h"

#define TINY 1e-9
#define ORACLE_LINKS 8 /* of one node */

static void* room_for(size_t count, size_t size) {
  void* memory = calloc(count + 1, size);
  assert_non_null(memory);
  return memory;
}

void oracle_graph_of(const mci_topo* topo, oracle_graph* out) {
  assert_int_equal(mci_topo_nplanes(topo), 0);
  double base = (double)mci_topo_link(topo).bw_Bps;
  uint32_t peers[ORACLE_LINKS];
  *out = (oracle_graph){.n = mci_topo_nranks(topo)};
  out->link = room_for((size_t)out->n * ORACLE_LINKS, sizeof *out->link);
  out->rate = room_for((size_t)out->n * ORACLE_LINKS, sizeof *out->rate);
  for (uint32_t a = 0; a < out->n; a++) {
    uint32_t count = mci_topo_neighbors(topo, a, peers, ORACLE_LINKS);
    assert_true(count <= ORACLE_LINKS);
    for (uint32_t i = 0; i < count; i++) {
      if (peers[i] < a) continue;
      uint32_t at = out->nlinks++;
      out->link[at][0] = a;
      out->link[at][1] = peers[i];
      out->rate[at] = (double)mci_topo_class(topo, mci_topo_pair_class(topo, a, peers[i])).bw_Bps / base;
    }
  }
}

void oracle_graph_free(oracle_graph* g) {
  free(g->link);
  free(g->rate);
}

/* ---- partitions ---- */
static uint32_t find(uint32_t* parent, uint32_t x) {
  while (parent[x] != x) x = parent[x] = parent[parent[x]];
  return x;
}

/* part[v] is any name of v's part below n. */
static double ratio_of(const oracle_graph* g, const uint32_t* part, uint32_t* parts_out) {
  bool* used = room_for(g->n, sizeof *used);
  double between = 0;
  uint32_t parts = 0;
  for (uint32_t v = 0; v < g->n; v++) {
    parts += !used[part[v]];
    used[part[v]] = true;
  }
  for (uint32_t i = 0; i < g->nlinks; i++) between += part[g->link[i][0]] != part[g->link[i][1]] ? g->rate[i] : 0;
  free(used);
  *parts_out = parts;
  return parts > 1 ? (parts - 1) / between : 0;
}

static void keep(const oracle_graph* g, const uint32_t* part, uint32_t* best, oracle_strength* out) {
  uint32_t parts;
  double ratio = ratio_of(g, part, &parts);
  if (ratio <= out->partition) return;
  out->partition = ratio;
  out->parts = parts;
  memcpy(best, part, g->n * sizeof *part);
}

/* Nodes that lighter links than `load` join are one part. */
static void partition_at(const oracle_graph* g, const double* load, double limit, uint32_t* part) {
  for (uint32_t v = 0; v < g->n; v++) part[v] = v;
  for (uint32_t i = 0; i < g->nlinks; i++)
    if (load[i] < limit) part[find(part, g->link[i][0])] = find(part, g->link[i][1]);
  for (uint32_t v = 0; v < g->n; v++) part[v] = find(part, v);
}

static uint32_t free_name(const oracle_graph* g, const uint32_t* part) {
  for (uint32_t name = 0; name < g->n; name++) {
    bool used = false;
    for (uint32_t v = 0; v < g->n; v++) used = used || part[v] == name;
    if (!used) return name;
  }
  return part[0];
}

/* Every node to every part next to it or alone, every two joined parts to one, while that makes the ratio worse. */
static void improve(const oracle_graph* g, uint32_t* best, oracle_strength* out) {
  uint32_t* part = room_for(g->n, sizeof *part);
  for (double before = 0; before < out->partition;) {
    before = out->partition;
    for (uint32_t i = 0; i < 2 * g->nlinks; i++) {
      uint32_t v = g->link[i / 2][i % 2], w = g->link[i / 2][1 - i % 2];
      memcpy(part, best, g->n * sizeof *part);
      part[v] = part[w];
      keep(g, part, best, out);
      memcpy(part, best, g->n * sizeof *part);
      part[v] = free_name(g, part);
      keep(g, part, best, out);
      memcpy(part, best, g->n * sizeof *part);
      for (uint32_t x = 0, from = part[v], to = part[w]; x < g->n; x++) part[x] = part[x] == from ? to : part[x];
      keep(g, part, best, out);
    }
  }
  free(part);
}

static int by_value(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static void search_partition(const oracle_graph* g, const double* load, oracle_strength* out) {
  uint32_t *part = room_for(g->n, sizeof *part), *best = room_for(g->n, sizeof *best);
  double* limits = room_for(g->nlinks, sizeof *limits);
  memcpy(limits, load, g->nlinks * sizeof *limits);
  qsort(limits, g->nlinks, sizeof *limits, by_value);
  for (uint32_t i = 0; i < g->nlinks; i++) {
    if (i && limits[i] == limits[i - 1]) continue;
    partition_at(g, load, limits[i], part);
    keep(g, part, best, out);
  }
  improve(g, best, out);
  free(part);
  free(best);
  free(limits);
}

/* ---- packing ---- */
typedef struct {
  double load;
  uint32_t tie, link;
} choice;

static int by_load(const void* a, const void* b) {
  const choice *x = a, *y = b;
  if (x->load != y->load) return x->load < y->load ? -1 : 1;
  return (x->tie > y->tie) - (x->tie < y->tie);
}

/* Kruskal: adds a spanning tree of least load. */
static void add_tree(const oracle_graph* g, double* load, choice* order, uint32_t* parent, uint64_t* random) {
  for (uint32_t i = 0; i < g->nlinks; i++)
    order[i] = (choice){load[i] + 1 / g->rate[i], (uint32_t)test_random(random), i};
  qsort(order, g->nlinks, sizeof *order, by_load);
  for (uint32_t v = 0; v < g->n; v++) parent[v] = v;
  for (uint32_t i = 0; i < g->nlinks; i++) {
    uint32_t link = order[i].link, a = find(parent, g->link[link][0]), b = find(parent, g->link[link][1]);
    if (a == b) continue;
    parent[a] = b;
    load[link] += 1 / g->rate[link];
  }
}

oracle_strength oracle_strength_of(const oracle_graph* g, double gap, uint32_t rounds) {
  oracle_strength out = {.packing = INFINITY};
  double* load = room_for(g->nlinks, sizeof *load);
  choice* order = room_for(g->nlinks, sizeof *order);
  uint32_t* parent = room_for(g->n, sizeof *parent);
  uint64_t random = 1;
  for (uint32_t next = 250; out.trees < rounds && out.packing > (1 + gap) * out.partition; next *= 2) {
    double most = 0;
    while (out.trees < next && out.trees < rounds) {
      add_tree(g, load, order, parent, &random);
      out.trees++;
    }
    for (uint32_t i = 0; i < g->nlinks; i++) most = fmax(most, load[i]);
    out.packing = fmin(out.packing, most / out.trees);
    search_partition(g, load, &out);
  }
  free(load);
  free(order);
  free(parent);
  return out;
}

static double brute(const oracle_graph* g, uint32_t* part, uint32_t v, uint32_t names) {
  uint32_t parts;
  if (v == g->n) return ratio_of(g, part, &parts);
  double worst = 0;
  for (uint32_t name = 0; name <= names && name < g->n; name++) {
    part[v] = name;
    worst = fmax(worst, brute(g, part, v + 1, MCI_MAX(names, name + 1)));
  }
  return worst;
}

double oracle_strength_brute(const oracle_graph* g) {
  uint32_t part[9];
  assert_true(g->n <= MCI_COUNT(part));
  return brute(g, part, 0, 0);
}

/* ---- flows ---- */
typedef struct {
  uint32_t n, narcs;
  uint32_t (*arc)[2]; /* arc and arc ^ 1 are opposite */
  double* room;
  uint32_t *first, *list; /* arcs that leave a node */
  uint32_t *via, *queue;
} flows;

static void flows_free(flows* f) {
  void* all[] = {f->arc, f->room, f->first, f->list, f->via, f->queue};
  for (size_t i = 0; i < MCI_COUNT(all); i++) free(all[i]);
}

static void add_arc(flows* f, uint32_t from, uint32_t to, double room, double back) {
  for (uint32_t i = 0; i < 2; i++) {
    f->arc[f->narcs][0] = i ? to : from;
    f->arc[f->narcs][1] = i ? from : to;
    f->room[f->narcs++] = i ? back : room;
  }
}

/* The graph's links `wide` times as wide, and one more node that has an arc of `supply` to every other. */
static void flows_of(const oracle_graph* g, double wide, double supply, flows* f) {
  uint32_t most = 2 * (g->nlinks + g->n);
  *f = (flows){.n = g->n + 1};
  f->arc = room_for(most, sizeof *f->arc);
  f->room = room_for(most, sizeof *f->room);
  f->first = room_for(f->n + 1, sizeof *f->first);
  f->list = room_for(most, sizeof *f->list);
  f->via = room_for(f->n, sizeof *f->via);
  f->queue = room_for(f->n, sizeof *f->queue);
  for (uint32_t i = 0; i < g->nlinks; i++)
    add_arc(f, g->link[i][0], g->link[i][1], wide * g->rate[i], wide * g->rate[i]);
  for (uint32_t v = 0; v < g->n; v++) add_arc(f, g->n, v, supply, 0);
  for (uint32_t i = 0; i < f->narcs; i++) f->first[f->arc[i][0] + 1]++;
  for (uint32_t v = 0; v < f->n; v++) f->first[v + 1] += f->first[v];
  for (uint32_t i = 0; i < f->narcs; i++) f->list[f->first[f->arc[i][0]] + f->queue[f->arc[i][0]]++] = i;
}

static double augment(flows* f, uint32_t from, uint32_t to) {
  uint32_t head = 0, tail = 0;
  for (uint32_t v = 0; v < f->n; v++) f->via[v] = UINT32_MAX;
  for (f->queue[tail++] = from; head < tail && f->via[to] == UINT32_MAX; head++) {
    uint32_t v = f->queue[head];
    for (uint32_t i = f->first[v]; i < f->first[v + 1]; i++) {
      uint32_t arc = f->list[i], w = f->arc[arc][1];
      if (w == from || f->via[w] != UINT32_MAX || f->room[arc] < TINY) continue;
      f->via[w] = arc;
      f->queue[tail++] = w;
    }
  }
  if (f->via[to] == UINT32_MAX) return 0;
  double amount = INFINITY;
  for (uint32_t v = to; v != from; v = f->arc[f->via[v]][0]) amount = fmin(amount, f->room[f->via[v]]);
  for (uint32_t v = to; v != from; v = f->arc[f->via[v]][0]) {
    f->room[f->via[v]] -= amount;
    f->room[f->via[v] ^ 1] += amount;
  }
  return amount;
}

static double flow_between(const oracle_graph* g, double wide, double supply, uint32_t from, uint32_t to) {
  flows f;
  flows_of(g, wide, supply, &f);
  double sum = 0;
  for (double more; (more = augment(&f, from, to)) > 0;) sum += more;
  flows_free(&f);
  return sum;
}

double oracle_flow(const oracle_graph* g, uint32_t from, uint32_t to) { return flow_between(g, 1, 0, from, to); }

double oracle_broadcast(const oracle_graph* g, uint32_t root) {
  double least = INFINITY;
  for (uint32_t v = 0; v < g->n; v++)
    if (v != root) least = fmin(least, oracle_flow(g, root, v));
  return 1 / least;
}

bool oracle_gather_fits(const oracle_graph* g, double factor) {
  for (uint32_t v = 0; v < g->n; v++)
    if (flow_between(g, factor * g->n, 1, g->n, v) < g->n - 1e-6) return false;
  return true;
}
