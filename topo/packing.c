/* Packs spanning trees; see packing.h. Round by round one tree is grown from a center of the graph, always by the link
 * with the least LAMBDA * (trees on it so far) + (depth of its near end): light links first, shallow trees among them.
 * Each tree is then hung up in its middle. The first rounds only settle the loads: links near the centers run ahead of
 * the others, and trees from then on load all links evenly at any time, which the order of messages needs more than
 * anything else. Of the rounds that count the first ones are kept that together load the busiest link least per tree,
 * at least half of them. Ties fall by a fixed pseudo-random sequence: with any regular rule the same
 * links would lose every time.
 *
 * Integers only, so that every machine finds the same trees. Time: rounds * links * log(links).
 * Source: minimum spanning trees by load are the multiplicative-weights method for fractional packing (Garg and
 * Koenemann 1998; Plotkin, Shmoys and Tardos 1995), here with loads for weights and with depth. */
#include "topo/packing.h"

#include <string.h>

#include "topo/grid.h"

#define LAMBDA 8
#define MAX_RATIO 1000 /* of rates; slower links count as this slow */
#define NONE UINT32_MAX

typedef struct {
  uint64_t key;
  uint32_t from;
  uint32_t port;
} candidate;

typedef struct {
  uint32_t n, nlinks;
  uint32_t (*peer)[MCI_PACKING_PORTS]; /* per rank and port; NONE: no more */
  uint32_t (*link)[MCI_PACKING_PORTS]; /* number of the link */
  uint8_t (*back)[MCI_PACKING_PORTS];  /* the port of the other end */
  uint64_t *load, *before;             /* per link; before: when the first tree that counts began */
  uint64_t* weight;                    /* per link: load of one tree */
  candidate* heap;
  uint32_t nheap;
  uint8_t* tree; /* per rank: bit per port, the links of the tree under way */
  uint8_t* port;
  uint16_t* depth;
  uint32_t* queue;
  uint32_t *centers, ncenters;
  uint64_t random;
} state;

static void destroy(state* s) {
  mci_free(s->peer), mci_free(s->link), mci_free(s->back), mci_free(s->load), mci_free(s->before), mci_free(s->weight),
      mci_free(s->heap);
  mci_free(s->tree), mci_free(s->port), mci_free(s->depth), mci_free(s->queue), mci_free(s->centers);
}

static meshcclResult_t create(const mci_topo* topo, state* s) {
  uint32_t n = s->n = mci_topo_nranks(topo);
  size_t ports = (size_t)n * MCI_PACKING_PORTS;
  s->random = UINT64_C(0x9e3779b97f4a7c15);
  s->peer = mci_alloc(n * sizeof *s->peer);
  s->link = mci_alloc(n * sizeof *s->link);
  s->back = mci_alloc(n * sizeof *s->back);
  s->load = mci_alloc(ports * sizeof *s->load);
  s->before = mci_alloc(ports * sizeof *s->before);
  s->weight = mci_alloc(ports * sizeof *s->weight);
  s->heap = mci_alloc(ports * sizeof *s->heap);
  s->tree = mci_alloc(n);
  s->port = mci_alloc(n);
  s->depth = mci_alloc(n * sizeof *s->depth);
  s->queue = mci_alloc(n * sizeof *s->queue);
  s->centers = mci_alloc(n * sizeof *s->centers);
  bool all = s->peer && s->link && s->back && s->load && s->before && s->weight && s->heap && s->tree && s->port &&
             s->depth && s->queue && s->centers;
  if (all) return meshcclSuccess;
  destroy(s);
  return mci_oom(ports * sizeof *s->heap);
}

/* ---- the graph ---- */

static uint64_t highest_rate(const mci_topo* topo, const state* s) {
  uint64_t highest = 1;
  for (uint32_t v = 0; v < s->n; v++)
    for (uint32_t p = 0; p < MCI_PACKING_PORTS && s->peer[v][p] != NONE; p++)
      highest = MCI_MAX(highest, mci_topo_class(topo, mci_topo_pair_class(topo, v, s->peer[v][p])).bw_Bps);
  return highest;
}

static uint64_t weight_of(uint64_t highest, uint64_t rate) {
  uint64_t least = MCI_MAX(highest / MAX_RATIO, UINT64_C(1));
  rate = MCI_MAX(rate, least);
  return (uint64_t)(((unsigned __int128)highest * MCI_PACKING_UNIT + rate - 1) / rate);
}

static void read_links(const mci_topo* topo, state* s) {
  memset(s->peer, 0xff, s->n * sizeof *s->peer);
  for (uint32_t v = 0; v < s->n; v++) mci_topo_neighbors(topo, v, s->peer[v], MCI_PACKING_PORTS);
  uint64_t highest = highest_rate(topo, s);
  for (uint32_t v = 0; v < s->n; v++)
    for (uint32_t p = 0; p < MCI_PACKING_PORTS && s->peer[v][p] != NONE; p++) {
      uint32_t u = s->peer[v][p];
      uint8_t back = 0;
      while (s->peer[u][back] != v) back++;
      s->back[v][p] = back;
      if (u < v) {
        s->link[v][p] = s->link[u][back];
        continue;
      }
      s->weight[s->nlinks] = weight_of(highest, mci_topo_class(topo, mci_topo_pair_class(topo, v, u)).bw_Bps);
      s->link[v][p] = s->nlinks++;
    }
}

/* Breadth first from `first`, and from `second` unless NONE, over all links or those of the tree. Fills queue, port and
 * depth; returns how many ranks it reached, of which the last is farthest. */
static uint32_t search(state* s, bool in_tree, uint32_t first, uint32_t second) {
  uint32_t tail = 0;
  memset(s->depth, 0xff, s->n * sizeof *s->depth);
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
    for (uint32_t p = 0; p < MCI_PACKING_PORTS && s->peer[v][p] != NONE; p++) {
      uint32_t u = s->peer[v][p];
      if (s->depth[u] != UINT16_MAX || (in_tree && !(s->tree[v] >> p & 1))) continue;
      s->depth[u] = (uint16_t)(s->depth[v] + 1);
      s->port[u] = s->back[v][p];
      s->queue[tail++] = u;
    }
  }
  return tail;
}

/* The ranks whose farthest rank is nearest. False: the ranks are not joined. */
static bool find_centers(state* s) {
  uint32_t least = NONE;
  for (uint32_t v = 0; v < s->n; v++) {
    if (search(s, false, v, NONE) != s->n) return false;
    uint32_t far = s->depth[s->queue[s->n - 1]];
    if (far > least) continue;
    if (far < least) s->ncenters = 0;
    least = far;
    s->centers[s->ncenters++] = v;
  }
  return true;
}

/* ---- one tree ---- */

static uint32_t random_bits(state* s) {
  s->random ^= s->random << 13;
  s->random ^= s->random >> 7;
  s->random ^= s->random << 17;
  return (uint32_t)(s->random >> 44);
}

static void push(state* s, candidate c) {
  uint32_t place = s->nheap++;
  for (; place > 0 && c.key < s->heap[(place - 1) / 2].key; place = (place - 1) / 2)
    s->heap[place] = s->heap[(place - 1) / 2];
  s->heap[place] = c;
}

static candidate pop(state* s) {
  candidate first = s->heap[0], last = s->heap[--s->nheap];
  uint32_t place = 0;
  for (uint32_t child; (child = 2 * place + 1) < s->nheap; place = child) {
    if (child + 1 < s->nheap && s->heap[child + 1].key < s->heap[child].key) child++;
    if (s->heap[child].key >= last.key) break;
    s->heap[place] = s->heap[child];
  }
  s->heap[place] = last;
  return first;
}

/* Offers the links of a rank that the tree has reached. Key: cost, then depth, then chance. */
static void offer(state* s, uint32_t v) {
  for (uint32_t p = 0; p < MCI_PACKING_PORTS && s->peer[v][p] != NONE; p++) {
    if (s->depth[s->peer[v][p]] != UINT16_MAX) continue;
    uint64_t cost = LAMBDA * s->load[s->link[v][p]] + (uint64_t)MCI_PACKING_UNIT * s->depth[v];
    uint64_t key = cost << 32 | (uint64_t)s->depth[v] << 20 | random_bits(s);
    push(s, (candidate){key, v, p});
  }
}

static void grow(state* s, uint32_t root) {
  memset(s->tree, 0, s->n);
  memset(s->depth, 0xff, s->n * sizeof *s->depth);
  s->nheap = 0;
  s->depth[root] = 0;
  offer(s, root);
  while (s->nheap > 0) {
    candidate c = pop(s);
    uint32_t v = c.from, u = s->peer[v][c.port];
    if (s->depth[u] != UINT16_MAX) continue;
    s->depth[u] = (uint16_t)(s->depth[v] + 1);
    s->tree[v] |= (uint8_t)(1u << c.port);
    s->tree[u] |= (uint8_t)(1u << s->back[v][c.port]);
    s->load[s->link[v][c.port]] += s->weight[s->link[v][c.port]];
    offer(s, u);
  }
}

/* Hangs the tree up in its middle; returns the length of its longest way. */
static uint32_t center(state* s) {
  search(s, true, 0, NONE);
  search(s, true, s->queue[s->n - 1], NONE);
  uint32_t middle = s->queue[s->n - 1], length = s->depth[middle], other = NONE, port = 0;
  for (uint32_t i = 0; i < length / 2; i++) middle = s->peer[middle][s->port[middle]];
  if (length % 2) {
    port = s->port[middle];
    other = s->peer[middle][port];
  }
  search(s, true, middle, other);
  if (other != NONE) {
    s->port[middle] = (uint8_t)port;
    s->port[other] = s->back[middle][port];
  }
  return length;
}

/* ---- all of them ---- */

static uint64_t busiest(const state* s) {
  uint64_t most = 0;
  for (uint32_t i = 0; i < s->nlinks; i++) most = MCI_MAX(most, s->load[i] - s->before[i]);
  return most;
}

static void keep(const state* s, uint32_t length, mci_packing* packing, uint32_t tree) {
  memcpy(&packing->port[(size_t)tree * s->n], s->port, s->n * sizeof *s->port);
  memcpy(&packing->depth[(size_t)tree * s->n], s->depth, s->n * sizeof *s->depth);
  packing->swaps[tree] = length % 2;
}

static void pack(state* s, mci_packing* packing) {
  uint32_t longest = 0;
  for (uint32_t t = 0; t < packing->rounds; t++) grow(s, s->centers[t % s->ncenters]);
  memcpy(s->before, s->load, s->nlinks * sizeof *s->load);
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

static meshcclResult_t make(const mci_topo* topo, uint32_t rounds, mci_packing** out) {
  state s = {0};
  meshcclResult_t result = meshcclSuccess;
  mci_packing* packing = mci_alloc(sizeof *packing);
  if (!packing) return mci_oom(sizeof *packing);
  MCI_TRY_OR(create(topo, &s), err_packing);
  packing->rounds = rounds;
  packing->nranks = s.n;
  packing->port = mci_alloc((size_t)rounds * s.n * sizeof *packing->port);
  packing->depth = mci_alloc((size_t)rounds * s.n * sizeof *packing->depth);
  packing->swaps = mci_alloc(rounds * sizeof *packing->swaps);
  if (!packing->port || !packing->depth || !packing->swaps) {
    result = mci_oom((size_t)rounds * s.n * sizeof *packing->depth);
    goto err_state;
  }
  read_links(topo, &s);
  packing->bw_Bps = highest_rate(topo, &s);
  if (find_centers(&s)) pack(&s, packing);
  destroy(&s);
  *out = packing;
  return meshcclSuccess;
err_state:
  destroy(&s);
err_packing:
  mci_packing_destroy(packing);
  return result;
}

meshcclResult_t mci_topo_packing(const mci_topo* topo, uint32_t rounds, const mci_packing** out) {
  mci_assert(topo->walk && rounds > 0 && rounds <= MCI_PACKING_MAX_TREES && topo->nranks <= MCI_PACKING_MAX_RANKS);
  meshcclResult_t result = meshcclSuccess;
  mci_walk* walk = topo->walk;
  pthread_mutex_lock(&walk->lock);
  mci_packing* packing = walk->packings;
  while (packing && packing->rounds != rounds) packing = packing->next;
  if (!packing) {
    result = make(topo, rounds, &packing);
    if (result == meshcclSuccess) {
      packing->next = walk->packings;
      walk->packings = packing;
    }
  }
  pthread_mutex_unlock(&walk->lock);
  if (result == meshcclSuccess) *out = packing;
  return result;
}

void mci_packing_destroy(mci_packing* list) {
  while (list) {
    mci_packing* next = list->next;
    mci_free(list->port);
    mci_free(list->depth);
    mci_free(list->swaps);
    mci_free(list);
    list = next;
  }
}
