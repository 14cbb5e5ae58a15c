/* Spanning trees away from every rank, for all-gather; reduce-scatter runs them backwards. See packing.h.
 *
 * What bounds both is the rank with the least links: all other blocks enter it over these. So its links inwards must
 * bear alike, and no other link more; elsewhere there is room for short ways. The trees are grown one after the other,
 * owner by owner in a scattered order, always by the link with the least (depth of its near end) + LAMBDA * (load above
 * the pace), where the pace is what the busiest link must bear by then. So a link that is not ahead costs nothing and
 * trees are shallow, while links that all owners need are shared out, and any run of consecutive trees loads them
 * evenly, as the order of messages wants it.
 *
 * Where the busiest link bears more than it need, another pass takes each tree back and grows it anew, because the first
 * trees could not know of the others. Integers only. Time: trees * links * log(links).
 *
 *        o--o--o  x          the trees of one owner (*) with two: neither enters a rank of two links
 *        |     |             over the same link as the other, unless another owner's trees make up for it
 *        o--o--*--o
 *
 * Sources: that such trees can reach the bound: Edmonds 1973, Frank 1978; choice by load as in packing.c. */
#include <string.h>

#include "topo/packing_graph.h"

#define LAMBDA 8
#define MOST_PASSES 4
#define NONE MCI_PACKING_NONE

typedef struct {
  mci_packing_graph g;
  uint64_t* load;  /* per rank and port: of the link outwards */
  uint64_t needed; /* of the busiest link, when all trees are there */
  uint64_t pace;
  uint8_t* port;
  uint16_t* depth;
} state;

static uint64_t* load_of(state* s, uint32_t v, uint32_t p) { return &s->load[(size_t)v * MCI_PACKING_PORTS + p]; }

/* Load on the links inwards of the rank where that is most, if they bear alike. */
static uint64_t needed_of(const mci_packing_graph* g, uint64_t trees) {
  uint64_t most = 0;
  for (uint32_t v = 0; v < g->n; v++) {
    double rate = 0;
    for (uint32_t p = 0; p < MCI_PACKING_PORTS && g->peer[v][p] != NONE; p++)
      rate += 1.0 / (double)g->weight[g->link[v][p]];
    if (rate > 0) most = MCI_MAX(most, (uint64_t)((double)trees / rate));
  }
  return most;
}

static void offer(state* s, uint32_t v) {
  const mci_packing_graph* g = &s->g;
  for (uint32_t p = 0; p < MCI_PACKING_PORTS && g->peer[v][p] != NONE; p++) {
    if (s->depth[g->peer[v][p]] != UINT16_MAX) continue;
    uint64_t load = *load_of(s, v, p) + g->weight[g->link[v][p]], ahead = load > s->pace ? load - s->pace : 0;
    uint64_t cost = LAMBDA * ahead + (uint64_t)MCI_PACKING_UNIT * s->depth[v];
    uint64_t key = mci_packing_key(MCI_MIN(cost, UINT64_C(0xffffffff)), s->depth[v], mci_packing_random(&s->g));
    mci_packing_push(&s->g, (mci_packing_way){key, v, p});
  }
}

/* Returns how many ranks it reached. */
static uint32_t grow(state* s, uint32_t owner) {
  mci_packing_graph* g = &s->g;
  uint32_t reached = 1;
  memset(s->depth, 0xff, g->n * sizeof *s->depth);
  g->nheap = 0;
  s->depth[owner] = 0;
  s->port[owner] = MCI_PACKING_ROOT;
  offer(s, owner);
  while (g->nheap > 0) {
    mci_packing_way way = mci_packing_pop(g);
    uint32_t v = way.from, u = g->peer[v][way.port];
    if (s->depth[u] != UINT16_MAX) continue;
    s->depth[u] = (uint16_t)(s->depth[v] + 1);
    s->port[u] = g->back[v][way.port];
    *load_of(s, v, way.port) += g->weight[g->link[v][way.port]];
    offer(s, u);
    reached++;
  }
  return reached;
}

static void take_back(state* s, const uint8_t* port) {
  const mci_packing_graph* g = &s->g;
  for (uint32_t u = 0; u < g->n; u++) {
    if (port[u] == MCI_PACKING_ROOT) continue;
    uint32_t v = g->peer[u][port[u]];
    *load_of(s, v, g->back[u][port[u]]) -= g->weight[g->link[u][port[u]]];
  }
}

static uint64_t busiest(const state* s) {
  uint64_t most = 0;
  for (size_t i = 0; i < (size_t)s->g.n * MCI_PACKING_PORTS; i++) most = MCI_MAX(most, s->load[i]);
  return most;
}

/* A stride near the golden section that meets every rank once: owners of consecutive trees lie apart. */
static uint32_t stride_of(uint32_t n) {
  uint32_t stride = (uint32_t)(n * UINT64_C(618034) / 1000000);
  for (;; stride++) {
    uint32_t a = n, b = stride % n;
    while (b) {
      uint32_t rest = a % b;
      a = b;
      b = rest;
    }
    if (a == 1) return stride;
  }
}

static bool first_pass(state* s, mci_packing* packing) {
  uint32_t n = s->g.n, trees = packing->rounds * n, stride = stride_of(n);
  for (uint32_t t = 0; t < trees; t++) {
    packing->owner[t] = (uint32_t)((uint64_t)t * stride % n);
    s->port = &packing->port[(size_t)t * n];
    s->depth = &packing->depth[(size_t)t * n];
    s->pace = (uint64_t)((unsigned __int128)s->needed * (t + 1) / trees);
    if (grow(s, packing->owner[t]) < n) return false;
  }
  return true;
}

static void again(state* s, mci_packing* packing) {
  uint32_t n = s->g.n, trees = packing->rounds * n;
  s->pace = s->needed;
  for (uint32_t t = 0; t < trees; t++) {
    s->port = &packing->port[(size_t)t * n];
    s->depth = &packing->depth[(size_t)t * n];
    take_back(s, s->port);
    grow(s, packing->owner[t]);
  }
}

static uint32_t deepest(const mci_packing* packing) {
  uint32_t most = 0;
  for (size_t i = 0; i < (size_t)packing->ntrees * packing->nranks; i++) most = MCI_MAX(most, packing->depth[i]);
  return most;
}

meshcclResult_t mci_packing_grow_owned(const mci_topo* topo, mci_packing* packing) {
  state s = {0};
  MCI_TRY(mci_packing_graph_create(topo, &s.g));
  size_t ports = (size_t)s.g.n * MCI_PACKING_PORTS;
  s.load = mci_alloc(ports * sizeof *s.load);
  if (!s.load) {
    mci_packing_graph_destroy(&s.g);
    return mci_oom(ports * sizeof *s.load);
  }
  packing->bw_Bps = s.g.bw_Bps;
  s.needed = needed_of(&s.g, (uint64_t)packing->rounds * (s.g.n - 1));
  if (first_pass(&s, packing)) {
    packing->ntrees = packing->rounds * s.g.n;
    for (uint32_t i = 1; i < MOST_PASSES && busiest(&s) > s.needed; i++) again(&s, packing);
    packing->load = busiest(&s);
    packing->longest = deepest(packing);
  }
  mci_free(s.load);
  mci_packing_graph_destroy(&s.g);
  return meshcclSuccess;
}
