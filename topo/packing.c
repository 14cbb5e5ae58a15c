/* Packs spanning trees; see packing.h. Round by round one tree is grown from a center of the graph, always by the link
 * with the least LAMBDA * (load above the pace) + (depth of its near end), the pace being what every link would bear by
 * then if all bore alike (0 where rates differ): shallow trees, and links that are ahead wait for the others. Each
 * tree is then hung up in its middle. The first rounds only settle the loads: links near the centers run ahead of
 * the others, and trees from then on load all links evenly at any time, which the order of messages needs more than
 * anything else. Of the rounds that count the first ones are kept that together load the busiest link least per tree,
 * at least half of them.
 *
 * Integers only, so that every machine finds the same trees. Time: rounds * links * log(links).
 * Source: minimum spanning trees by load are the multiplicative-weights method for fractional packing (Garg and
 * Koenemann 1998; Plotkin, Shmoys and Tardos 1995), here with loads for weights and with depth. */
#include <string.h>

#include "topo/grid.h"
#include "topo/packing_graph.h"

#define LAMBDA 8
#define NONE MCI_PACKING_NONE

typedef struct {
  mci_packing_graph g;
  uint64_t *load, *before; /* per link; before: when the first tree that counts began */
  bool even;               /* all links have one rate */
  uint64_t ngrown, pace;
  uint8_t* tree; /* per rank: bit per port, the links of the tree under way */
  uint8_t* port;
  uint16_t* depth;
  uint32_t* queue;
  uint32_t *centers, ncenters;
} state;

static void destroy(state* s) {
  mci_packing_graph_destroy(&s->g);
  mci_free(s->load), mci_free(s->before), mci_free(s->tree), mci_free(s->port), mci_free(s->depth), mci_free(s->queue);
  mci_free(s->centers);
}

static meshcclResult_t create(const mci_topo* topo, state* s) {
  MCI_TRY(mci_packing_graph_create(topo, &s->g));
  size_t n = s->g.n, links = (size_t)s->g.nlinks + 1;
  s->load = mci_alloc(links * sizeof *s->load);
  s->before = mci_alloc(links * sizeof *s->before);
  s->tree = mci_alloc(n);
  s->port = mci_alloc(n);
  s->depth = mci_alloc(n * sizeof *s->depth);
  s->queue = mci_alloc(n * sizeof *s->queue);
  s->centers = mci_alloc(n * sizeof *s->centers);
  if (s->load && s->before && s->tree && s->port && s->depth && s->queue && s->centers) return meshcclSuccess;
  destroy(s);
  return mci_oom(links * 2 * sizeof *s->load);
}

/* Breadth first from `first`, and from `second` unless NONE, over all links or those of the tree. Fills queue, port and
 * depth; returns how many ranks it reached, of which the last is farthest. */
static uint32_t search(state* s, bool in_tree, uint32_t first, uint32_t second) {
  uint32_t tail = 0;
  memset(s->depth, 0xff, s->g.n * sizeof *s->depth);
  s->port[first] = MCI_PACKING_ROOT;
  s->depth[first] = 0;
  s->queue[tail++] = first;
  if (second != NONE) {
    s->port[second] = MCI_PACKING_ROOT;
    s->depth[second] = 0;
    s->queue[tail++] = second;
  }
  for (uint32_t head = 0; head < tail; head++) {
    uint32_t v = s->queue[head];
    for (uint32_t p = 0; p < MCI_PACKING_PORTS && s->g.peer[v][p] != NONE; p++) {
      uint32_t u = s->g.peer[v][p];
      if (s->depth[u] != UINT16_MAX || (in_tree && !(s->tree[v] >> p & 1))) continue;
      s->depth[u] = (uint16_t)(s->depth[v] + 1);
      s->port[u] = s->g.back[v][p];
      s->queue[tail++] = u;
    }
  }
  return tail;
}

/* The ranks whose farthest rank is nearest. False: the ranks are not joined. */
static bool find_centers(state* s) {
  uint32_t least = NONE;
  for (uint32_t v = 0; v < s->g.n; v++) {
    if (search(s, false, v, NONE) != s->g.n) return false;
    uint32_t far = s->depth[s->queue[s->g.n - 1]];
    if (far > least) continue;
    if (far < least) s->ncenters = 0;
    least = far;
    s->centers[s->ncenters++] = v;
  }
  return true;
}

/* ---- one tree ---- */

/* Offers the links of a rank that the tree has reached. Key: cost, then depth, then chance. */
static void offer(state* s, uint32_t v) {
  for (uint32_t p = 0; p < MCI_PACKING_PORTS && s->g.peer[v][p] != NONE; p++) {
    if (s->depth[s->g.peer[v][p]] != UINT16_MAX) continue;
    uint64_t load = s->load[s->g.link[v][p]] + s->g.weight[s->g.link[v][p]];
    uint64_t cost = LAMBDA * (load > s->pace ? load - s->pace : 0) + (uint64_t)MCI_PACKING_UNIT * s->depth[v];
    uint64_t key = mci_packing_key(cost, s->depth[v], mci_packing_random(&s->g));
    mci_packing_push(&s->g, (mci_packing_way){key, v, p});
  }
}

static void grow(state* s, uint32_t root) {
  s->ngrown++;
  s->pace = s->even ? s->ngrown * (s->g.n - 1) * MCI_PACKING_UNIT / s->g.nlinks : 0;
  memset(s->tree, 0, s->g.n);
  memset(s->depth, 0xff, s->g.n * sizeof *s->depth);
  s->g.nheap = 0;
  s->depth[root] = 0;
  offer(s, root);
  while (s->g.nheap > 0) {
    mci_packing_way c = mci_packing_pop(&s->g);
    uint32_t v = c.from, u = s->g.peer[v][c.port];
    if (s->depth[u] != UINT16_MAX) continue;
    s->depth[u] = (uint16_t)(s->depth[v] + 1);
    s->tree[v] |= (uint8_t)(1u << c.port);
    s->tree[u] |= (uint8_t)(1u << s->g.back[v][c.port]);
    s->load[s->g.link[v][c.port]] += s->g.weight[s->g.link[v][c.port]];
    offer(s, u);
  }
}

/* Hangs the tree up in its middle; returns the length of its longest way. */
static uint32_t center(state* s) {
  search(s, true, 0, NONE);
  search(s, true, s->queue[s->g.n - 1], NONE);
  uint32_t middle = s->queue[s->g.n - 1], length = s->depth[middle], other = NONE, port = 0;
  for (uint32_t i = 0; i < length / 2; i++) middle = s->g.peer[middle][s->port[middle]];
  if (length % 2) {
    port = s->port[middle];
    other = s->g.peer[middle][port];
  }
  search(s, true, middle, other);
  if (other != NONE) {
    s->port[middle] = (uint8_t)port;
    s->port[other] = s->g.back[middle][port];
  }
  return length;
}

/* ---- all of them ---- */

static uint64_t busiest(const state* s) {
  uint64_t most = 0;
  for (uint32_t i = 0; i < s->g.nlinks; i++) most = MCI_MAX(most, s->load[i] - s->before[i]);
  return most;
}

static void keep(const state* s, uint32_t length, mci_packing* packing, uint32_t tree) {
  memcpy(&packing->port[(size_t)tree * s->g.n], s->port, s->g.n * sizeof *s->port);
  memcpy(&packing->depth[(size_t)tree * s->g.n], s->depth, s->g.n * sizeof *s->depth);
  packing->swaps[tree] = length % 2;
}

static void pack(state* s, mci_packing* packing) {
  uint32_t longest = 0;
  for (uint32_t t = 0; t < packing->rounds; t++) grow(s, s->centers[t % s->ncenters]);
  memcpy(s->before, s->load, s->g.nlinks * sizeof *s->load);
  for (uint32_t t = 0; t < packing->rounds; t++) {
    grow(s, s->centers[t % s->ncenters]);
    uint32_t length = center(s);
    longest = MCI_MAX(longest, length);
    keep(s, length, packing, t);
    if (2 * (t + 1) < packing->rounds) continue;
    uint64_t load = busiest(s);
    if (packing->ntrees > 0 && load * packing->ntrees >= packing->load * (t + 1)) continue;
    packing->ntrees = t + 1;
    packing->load = load;
    packing->longest = longest;
  }
}

meshcclResult_t mci_packing_grow_any(const mci_topo* topo, mci_packing* packing) {
  state s = {0};
  MCI_TRY(create(topo, &s));
  packing->bw_Bps = s.g.bw_Bps;
  s.even = !mci_topo_is_uneven(topo);
  if (find_centers(&s)) pack(&s, packing);
  destroy(&s);
  return meshcclSuccess;
}

/* ---- those that a topology has been asked for ---- */

void mci_packing_destroy(mci_packing* list) {
  while (list) {
    mci_packing* next = list->next;
    mci_free(list->owner);
    mci_free(list->port);
    mci_free(list->depth);
    mci_free(list->swaps);
    mci_free(list);
    list = next;
  }
}

static meshcclResult_t make(const mci_topo* topo, bool owned, uint32_t rounds, mci_packing** out) {
  uint32_t n = mci_topo_nranks(topo);
  size_t trees = owned ? (size_t)rounds * n : rounds;
  mci_packing* packing = mci_alloc(sizeof *packing);
  if (!packing) return mci_oom(sizeof *packing);
  meshcclResult_t result = meshcclSuccess;
  *packing = (mci_packing){.owned = owned, .rounds = rounds, .nranks = n};
  packing->owner = owned ? mci_alloc(trees * sizeof *packing->owner) : NULL;
  packing->port = mci_alloc(trees * n * sizeof *packing->port);
  packing->depth = mci_alloc(trees * n * sizeof *packing->depth);
  packing->swaps = mci_alloc(trees * sizeof *packing->swaps);
  if ((owned && !packing->owner) || !packing->port || !packing->depth || !packing->swaps) {
    result = mci_oom(trees * n * sizeof *packing->depth);
    goto err_packing;
  }
  MCI_TRY_OR(owned ? mci_packing_grow_owned(topo, packing) : mci_packing_grow_any(topo, packing), err_packing);
  *out = packing;
  return meshcclSuccess;
err_packing:
  mci_packing_destroy(packing);
  return result;
}

static meshcclResult_t find(const mci_topo* topo, bool owned, uint32_t rounds, const mci_packing** out) {
  mci_assert(!topo->full && rounds > 0 && topo->nranks <= MCI_PACKING_MAX_RANKS);
  meshcclResult_t result = meshcclSuccess;
  mci_topo* keeper = (mci_topo*)topo; /* what it keeps is no part of its value */
  pthread_mutex_lock(&keeper->packings_lock);
  mci_packing* packing = keeper->packings;
  while (packing && (packing->owned != owned || packing->rounds != rounds)) packing = packing->next;
  if (!packing) {
    result = make(topo, owned, rounds, &packing);
    if (result == meshcclSuccess) {
      packing->next = keeper->packings;
      keeper->packings = packing;
    }
  }
  pthread_mutex_unlock(&keeper->packings_lock);
  if (result == meshcclSuccess) *out = packing;
  return result;
}

meshcclResult_t mci_topo_packing(const mci_topo* topo, uint32_t rounds, const mci_packing** out) {
  mci_assert(rounds <= MCI_PACKING_MAX_TREES);
  return find(topo, false, rounds, out);
}

meshcclResult_t mci_topo_owned_packing(const mci_topo* topo, uint32_t each, const mci_packing** out) {
  mci_assert(each <= MCI_PACKING_MAX_OWNED);
  return find(topo, true, each, out);
}
