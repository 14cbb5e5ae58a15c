/* See packing_graph.h. */
#include "topo/packing_graph.h"

#include <string.h>

#define MAX_RATIO 1000 /* of rates; slower links count as this slow */
#define NONE MCI_PACKING_NONE

void mci_packing_graph_destroy(mci_packing_graph* g) {
  mci_free(g->peer);
  mci_free(g->link);
  mci_free(g->back);
  mci_free(g->weight);
  mci_free(g->heap);
}

static uint64_t rate_between(const mci_topo* topo, uint32_t a, uint32_t b) {
  return mci_topo_class(topo, mci_topo_pair_class(topo, a, b)).bw_Bps;
}

static uint64_t highest_rate(const mci_topo* topo, const mci_packing_graph* g) {
  uint64_t highest = 1;
  for (uint32_t v = 0; v < g->n; v++)
    for (uint32_t p = 0; p < MCI_PACKING_PORTS && g->peer[v][p] != NONE; p++)
      highest = MCI_MAX(highest, rate_between(topo, v, g->peer[v][p]));
  return highest;
}

static uint64_t weight_of(uint64_t highest, uint64_t rate) {
  uint64_t least = MCI_MAX(highest / MAX_RATIO, UINT64_C(1));
  rate = MCI_MAX(rate, least);
  return (uint64_t)(((unsigned __int128)highest * MCI_PACKING_UNIT + rate - 1) / rate);
}

static void read_links(const mci_topo* topo, mci_packing_graph* g) {
  memset(g->peer, 0xff, g->n * sizeof *g->peer);
  for (uint32_t v = 0; v < g->n; v++) mci_topo_neighbors(topo, v, g->peer[v], MCI_PACKING_PORTS);
  g->bw_Bps = highest_rate(topo, g);
  for (uint32_t v = 0; v < g->n; v++)
    for (uint32_t p = 0; p < MCI_PACKING_PORTS && g->peer[v][p] != NONE; p++) {
      uint32_t u = g->peer[v][p];
      uint8_t back = 0;
      while (g->peer[u][back] != v) back++;
      g->back[v][p] = back;
      if (u < v) {
        g->link[v][p] = g->link[u][back];
        continue;
      }
      g->weight[g->nlinks] = weight_of(g->bw_Bps, rate_between(topo, v, u));
      g->link[v][p] = g->nlinks++;
    }
}

meshcclResult_t mci_packing_graph_create(const mci_topo* topo, mci_packing_graph* out) {
  uint32_t n = mci_topo_nranks(topo);
  size_t ports = (size_t)n * MCI_PACKING_PORTS;
  mci_packing_graph g = {.n = n, .random = UINT64_C(0x9e3779b97f4a7c15)};
  g.peer = mci_alloc(n * sizeof *g.peer);
  g.link = mci_alloc(n * sizeof *g.link);
  g.back = mci_alloc(n * sizeof *g.back);
  g.weight = mci_alloc(ports * sizeof *g.weight);
  g.heap = mci_alloc(ports * sizeof *g.heap);
  if (!g.peer || !g.link || !g.back || !g.weight || !g.heap) {
    mci_packing_graph_destroy(&g);
    return mci_oom(ports * sizeof *g.heap);
  }
  read_links(topo, &g);
  *out = g;
  return meshcclSuccess;
}

/* ---- the heap ---- */

void mci_packing_push(mci_packing_graph* g, mci_packing_way way) {
  uint32_t place = g->nheap++;
  for (; place > 0 && way.key < g->heap[(place - 1) / 2].key; place = (place - 1) / 2)
    g->heap[place] = g->heap[(place - 1) / 2];
  g->heap[place] = way;
}

mci_packing_way mci_packing_pop(mci_packing_graph* g) {
  mci_packing_way first = g->heap[0], last = g->heap[--g->nheap];
  uint32_t place = 0;
  for (uint32_t child; (child = 2 * place + 1) < g->nheap; place = child) {
    if (child + 1 < g->nheap && g->heap[child + 1].key < g->heap[child].key) child++;
    if (g->heap[child].key >= last.key) break;
    g->heap[place] = g->heap[child];
  }
  g->heap[place] = last;
  return first;
}
