/* Finds routes from the root to all ranks such that its links carry alike many of them, as alike as the graph allows:
 * the least T is looked for with which a flow of one unit per item, and at most T over a link, leaves the root and ends
 * at all ranks. A flow of whole units comes apart into routes: one is followed back from each rank, the shortest that
 * is left, and taken out.
 *
 *        T = 3, root R in a corner of a mesh of 2x4:      R->o->o->o     links of lower rates carry less than T
 *                                                         v        v
 *                                                         o->o->o  o
 *
 * Ends: what is left when a route is taken out is again a flow to all other items. Source: Ford and Fulkerson 1962 for
 * whole flows and their coming apart; levels are Dinic's (topo/flow.h). */
#include <string.h>

#include "topo/flow.h"
#include "topo/plan/ports.h"

#define PORTS MCI_PORTS_MAX_BRANCHES
#define NONE UINT32_MAX

typedef struct {
  const mci_topo* topo;
  mci_ports* out;
  uint32_t n, nlinks;
  uint32_t (*peer)[PORTS]; /* NONE: no more */
  uint32_t (*link)[PORTS]; /* number of the link, each counted once */
  uint64_t* rate;          /* per link */
  uint64_t highest;
  int64_t* flow; /* per link: units from its lower rank to the higher one */
  uint32_t *seen, *queue;
  uint32_t* next;   /* per rank: the one beside it on a way */
  uint32_t* served; /* per rank: items that the flow brings it */
  int32_t* length;
  uint32_t search;
} state;

static void destroy(state* s) {
  mci_free(s->peer), mci_free(s->link), mci_free(s->rate), mci_free(s->flow);
  mci_free(s->seen), mci_free(s->queue), mci_free(s->next), mci_free(s->served), mci_free(s->length);
}

static meshcclResult_t create(const mci_topo* topo, mci_ports* out, state* s) {
  size_t n = mci_topo_nranks(topo);
  *s = (state){.topo = topo, .out = out, .n = (uint32_t)n, .highest = 1};
  s->peer = mci_alloc(n * sizeof *s->peer);
  s->link = mci_alloc(n * sizeof *s->link);
  s->rate = mci_alloc(n * PORTS * sizeof *s->rate);
  s->flow = mci_alloc(n * PORTS * sizeof *s->flow);
  s->seen = mci_alloc(n * sizeof *s->seen);
  s->queue = mci_alloc(n * sizeof *s->queue);
  s->next = mci_alloc(n * sizeof *s->next);
  s->served = mci_alloc(n * sizeof *s->served);
  s->length = mci_alloc(n * sizeof *s->length);
  bool all = s->peer && s->link && s->rate && s->flow && s->seen && s->queue && s->next && s->served && s->length;
  if (all) return meshcclSuccess;
  destroy(s);
  return mci_oom(n * PORTS * sizeof *s->flow);
}

static void read_links(state* s) {
  memset(s->peer, 0xff, s->n * sizeof *s->peer);
  for (uint32_t v = 0; v < s->n; v++) mci_topo_neighbors(s->topo, v, s->peer[v], PORTS);
  for (uint32_t v = 0; v < s->n; v++)
    for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) {
      uint32_t u = s->peer[v][p], q = 0;
      if (u < v) {
        while (s->peer[u][q] != v) q++;
        s->link[v][p] = s->link[u][q];
        continue;
      }
      s->rate[s->nlinks] = mci_topo_class(s->topo, mci_topo_pair_class(s->topo, v, u)).bw_Bps;
      s->highest = MCI_MAX(s->highest, s->rate[s->nlinks]);
      s->link[v][p] = s->nlinks++;
    }
}

/* ---- the flow ---- */

static int64_t room_of(const state* s, uint32_t link, uint64_t most) {
  return (int64_t)((unsigned __int128)most * s->rate[link] / s->highest);
}

/* Whether all items can be served with at most `most` over a link of the highest rate. */
static meshcclResult_t try_most(state* s, uint64_t most, bool* out) {
  mci_flow flow;
  uint32_t root = s->out->root, sink = s->n;
  int64_t wanted = (int64_t)(s->n - 1) * s->out->parts;
  MCI_TRY(mci_flow_create(s->n + 1, s->nlinks + s->n, &flow));
  for (uint32_t v = 0; v < s->n; v++)
    for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) {
      uint32_t u = s->peer[v][p];
      int64_t room = room_of(s, s->link[v][p], most);
      if (v < u) mci_flow_add(&flow, v, u, u == root ? 0 : room, v == root ? 0 : room);
    }
  for (uint32_t v = 0; v < s->n; v++)
    if (v != root) mci_flow_add(&flow, v, sink, s->out->parts, 0);
  *out = mci_flow_max(&flow, root, sink, wanted) == wanted;
  mci_flow_destroy(&flow);
  return meshcclSuccess;
}

/* The least T, beginning with what the root's links need. */
static meshcclResult_t find_most(state* s, uint64_t* out) {
  uint64_t items = (uint64_t)(s->n - 1) * s->out->parts, rates = 0;
  for (uint32_t p = 0; p < PORTS && s->peer[s->out->root][p] != NONE; p++) rates += s->rate[s->link[s->out->root][p]];
  uint64_t low = (uint64_t)(((unsigned __int128)items * s->highest + rates - 1) / rates), high = low;
  bool fits;
  MCI_TRY(try_most(s, high, &fits));
  while (!fits) {
    low = high + 1;
    high *= 2;
    MCI_TRY(try_most(s, high, &fits));
  }
  while (low < high) {
    uint64_t middle = low + (high - low) / 2;
    MCI_TRY(try_most(s, middle, &fits));
    if (fits) high = middle;
    if (!fits) low = middle + 1;
  }
  *out = high;
  return meshcclSuccess;
}

/* ---- the flow of that size with the shortest routes: one item after the other takes the shortest way that is left,
 * where to push back what flows already makes a way shorter ---- */

static int64_t into(const state* s, uint32_t v, uint32_t port) {
  int64_t flow = s->flow[s->link[v][port]];
  return s->peer[v][port] < v ? flow : -flow;
}

/* Lengths from the root; a rank is looked at again when a shorter way to it is found. */
static void measure(state* s, uint64_t most) {
  uint32_t head = 0, waiting = 1; /* a ring: no rank waits twice */
  for (uint32_t v = 0; v < s->n; v++) s->length[v] = INT32_MAX, s->seen[v] = 0;
  s->length[s->out->root] = 0;
  s->queue[0] = s->out->root;
  while (waiting > 0) {
    uint32_t v = s->queue[head];
    head = head + 1 == s->n ? 0 : head + 1;
    waiting--;
    s->seen[v] = 0;
    for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) {
      uint32_t u = s->peer[v][p];
      int64_t back = into(s, v, p);
      int32_t length = s->length[v] + (back > 0 ? -1 : 1);
      if (length >= s->length[u] || -back >= room_of(s, s->link[v][p], most)) continue;
      s->length[u] = length;
      s->next[u] = v;
      if (s->seen[u]) continue;
      s->seen[u] = 1;
      s->queue[head + waiting >= s->n ? head + waiting - s->n : head + waiting] = u;
      waiting++;
    }
  }
}

static void push(state* s, uint32_t from, uint32_t to, int64_t units) {
  uint32_t p = 0;
  while (s->peer[from][p] != to) p++;
  s->flow[s->link[from][p]] += from < to ? units : -units;
}

static void fill(state* s, uint64_t most) {
  for (uint32_t items = (s->n - 1) * s->out->parts; items > 0; items--) {
    uint32_t nearest = NONE;
    measure(s, most);
    for (uint32_t v = 0; v < s->n; v++)
      if (v != s->out->root && s->served[v] < s->out->parts && (nearest == NONE || s->length[v] < s->length[nearest]))
        nearest = v;
    mci_assert(nearest != NONE && s->length[nearest] != INT32_MAX);
    s->served[nearest]++;
    for (uint32_t v = nearest; v != s->out->root; v = s->next[v]) push(s, s->next[v], v, 1);
  }
  memset(s->seen, 0, s->n * sizeof *s->seen);
}

/* ---- routes ---- */

/* Follows the flow back from a rank, nearest first, until it meets the root. */
static bool follow(state* s, uint32_t rank) {
  uint32_t tail = 0;
  s->search++;
  s->seen[rank] = s->search;
  s->queue[tail++] = rank;
  for (uint32_t head = 0; head < tail; head++) {
    uint32_t v = s->queue[head];
    if (v == s->out->root) return true;
    for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) {
      uint32_t u = s->peer[v][p];
      if (s->seen[u] == s->search || into(s, v, p) <= 0) continue;
      s->seen[u] = s->search;
      s->next[u] = v;
      s->queue[tail++] = u;
    }
  }
  return false;
}

static meshcclResult_t add_hop(mci_ports* out, uint32_t item, uint32_t rank) {
  MCI_TRY(mci_grow(&out->way, sizeof *out->way, &out->cap_way, (size_t)out->nway + 1));
  out->way[out->nway++] = rank;
  out->hops[item]++;
  out->longest = MCI_MAX(out->longest, out->hops[item]);
  return meshcclSuccess;
}

static meshcclResult_t add_route(state* s, uint32_t rank, uint32_t item) {
  bool found = follow(s, rank);
  mci_assert(found);
  s->out->first[item] = s->out->nway;
  for (uint32_t v = s->out->root; found && v != rank; v = s->next[v]) {
    push(s, v, s->next[v], -1);
    MCI_TRY(add_hop(s->out, item, s->next[v]));
  }
  return meshcclSuccess;
}

static meshcclResult_t add_routes(state* s) {
  for (uint32_t v = 0; v < s->n; v++)
    for (uint32_t part = 0; part < s->out->parts && v != s->out->root; part++)
      MCI_TRY(add_route(s, v, v * s->out->parts + part));
  return meshcclSuccess;
}

/* Whether routes over different links of the root pass one link in the same direction. */
static bool routes_cross(state* s) {
  const mci_ports* out = s->out;
  memset(s->flow, 0xff, (size_t)s->n * PORTS * sizeof *s->flow); /* here: the first rank of routes into (rank, port) */
  for (uint32_t item = 0; item < s->n * out->parts; item++)
    for (uint32_t i = 1; i < out->hops[item]; i++) {
      const uint32_t* way = &out->way[out->first[item]];
      uint32_t p = 0;
      while (s->peer[way[i]][p] != way[i - 1]) p++;
      int64_t* branch = &s->flow[(size_t)way[i] * PORTS + p];
      if (*branch != -1 && *branch != way[0]) return true;
      *branch = way[0];
    }
  return false;
}

/* ---- trees on regions ---- */

/* s->next is the parent, s->length counts the ranks below. */
static bool links_carry_trees(state* s, uint64_t most) {
  memset(s->served, 0, s->n * sizeof *s->served);
  for (uint32_t v = 0; v < s->n; v++)
    for (uint32_t u = v; u != s->out->root; u = s->next[u]) s->served[u]++;
  for (uint32_t v = 0; v < s->n; v++) {
    uint32_t p = 0;
    if (v == s->out->root) continue;
    while (s->peer[v][p] != s->next[v]) p++;
    if ((int64_t)s->served[v] > room_of(s, s->link[v][p], most)) return false;
  }
  return true;
}

static meshcclResult_t add_tree_routes(state* s) {
  mci_ports* out = s->out;
  for (uint32_t v = 0; v < s->n; v++) {
    uint32_t n = 0;
    for (uint32_t u = v; u != out->root; u = s->next[u]) s->queue[n++] = u;
    out->first[v] = out->nway;
    while (n > 0) MCI_TRY(add_hop(out, v, s->queue[--n]));
  }
  return meshcclSuccess;
}

static meshcclResult_t try_regions(state* s, uint64_t most, bool* found) {
  uint64_t wanted[PORTS] = {0};
  for (uint32_t p = 0; p < s->out->branches; p++) wanted[p] = (uint64_t)room_of(s, s->link[s->out->root][p], most);
  MCI_TRY(mci_ports_regions(s->n, s->out->root, (const uint32_t(*)[PORTS])s->peer, wanted, s->next, found));
  *found = *found && links_carry_trees(s, most);
  return meshcclSuccess;
}

/* ---- */

/* Whether links join all ranks: then some T serves them all. */
static bool joined(state* s) {
  uint32_t tail = 0;
  s->search++;
  s->seen[0] = s->search;
  s->queue[tail++] = 0;
  for (uint32_t head = 0; head < tail; head++)
    for (uint32_t p = 0; p < PORTS && s->peer[s->queue[head]][p] != NONE; p++) {
      uint32_t u = s->peer[s->queue[head]][p];
      if (s->seen[u] == s->search) continue;
      s->seen[u] = s->search;
      s->queue[tail++] = u;
    }
  return tail == s->n;
}

static meshcclResult_t find_routes(state* s) {
  uint64_t most;
  if (!joined(s)) return meshcclSuccess;
  MCI_TRY(find_most(s, &most));
  s->out->most = most;
  s->out->bw_Bps = s->highest;
  bool trees = false;
  if (s->out->parts == 1) MCI_TRY(try_regions(s, most, &trees));
  if (trees) return add_tree_routes(s);
  memset(s->served, 0, s->n * sizeof *s->served);
  fill(s, most);
  MCI_TRY(add_routes(s));
  s->out->cross = routes_cross(s);
  return meshcclSuccess;
}

meshcclResult_t mci_ports_find(const mci_topo* topo, uint32_t root, uint32_t parts, mci_ports* out) {
  state s;
  mci_ports ports = {.nranks = mci_topo_nranks(topo), .root = root, .parts = parts};
  size_t items = (size_t)ports.nranks * parts;
  MCI_TRY(create(topo, &ports, &s));
  read_links(&s);
  while (ports.branches < PORTS && s.peer[root][ports.branches] != NONE) ports.branches++;
  ports.first = mci_alloc(items * sizeof *ports.first);
  ports.hops = mci_alloc(items * sizeof *ports.hops);
  meshcclResult_t result = ports.first && ports.hops ? find_routes(&s) : mci_oom(items * sizeof *ports.hops);
  destroy(&s);
  if (result == meshcclSuccess) {
    *out = ports;
  } else {
    mci_ports_fini(&ports);
  }
  return result;
}

void mci_ports_fini(mci_ports* ports) {
  mci_free(ports->first);
  mci_free(ports->hops);
  mci_free(ports->way);
}

uint32_t mci_ports_branch(const mci_topo* topo, const mci_ports* ports, uint32_t item) {
  uint32_t peers[PORTS], p = 0;
  mci_topo_neighbors(topo, ports->root, peers, PORTS);
  while (peers[p] != ports->way[ports->first[item]]) p++;
  return p;
}
