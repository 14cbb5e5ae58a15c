/* Grows arc-disjoint spanning trees; see branchings.h. All trees grow at once, always by the link whose far end is
 * nearest to the root in its tree. A link is taken only if the rest can still be completed, which Edmonds' theorem for
 * trees that have begun says: every set of ranks must have as many unused links into it as there are trees that have
 * not reached it. Only sets that hold the link's far end can lose by taking it, so one flow tells: from the trees that
 * have begun, each giving one unit at any of its ranks, to the far end; it must be as large as there are trees.
 *
 *        trees ==> s --1--> tree 1 --> its ranks \
 *                  s --1--> tree 2 --> its ranks  >  unused links  -->  far end       flow = number of trees
 *
 * A link that may not be taken may never be: the set that forbids it stays short of links. So each is asked for each
 * tree once, and it ends with all trees complete. The flow is searched backwards from the far end, near which mostly
 * all trees are, so that it looks at a few ranks only.
 *
 * Where rates differ, a link has room for several trees: its rate in units of the highest, the grain of which is tried.
 * Orders of links at equal depth are tried, by a fixed pseudo-random sequence; the shallowest trees win.
 *
 * Integers only, so that every machine finds the same trees. Time: trees * links flows of mostly a few steps, and one
 * flow over the graph per rank at the beginning.
 * Sources: Edmonds 1973, Edge-disjoint branchings; the proof by which trees grow link by link is Lovasz 1976; growing
 * all trees together by depth is ours. */
#include <string.h>

#include "topo/branchings.h"
#include "topo/grid.h"

#define PORTS MCI_BRANCHINGS_PORTS
#define NONE UINT32_MAX
#define COARSEST 1
#define FINEST 4 /* trees per link of the highest rate, where rates differ */

typedef enum { FORWARD, CANCEL, JUMP } kind;

/* How the flow goes on from a rank. */
typedef struct {
  uint32_t node;
  uint8_t port; /* FORWARD: of that rank; CANCEL: of this one; JUMP: the tree */
  uint8_t what;
} hop;

typedef struct {
  uint64_t key; /* depth, chance, and which came first */
  uint32_t node;
  uint8_t port, tree;
} candidate;

/* Links are named by their far end and its port: (v, p) leads from peer[v][p] to v. */
typedef struct {
  uint32_t n, root, ntrees;
  uint32_t (*peer)[PORTS]; /* NONE: no more */
  uint8_t (*back)[PORTS];  /* the port of the other end */
  uint64_t (*rate)[PORTS];
  uint8_t (*units)[PORTS]; /* trees that there is room for */
  uint8_t (*room)[PORTS];  /* what is left of them */
  uint8_t (*flow)[PORTS];
  uint64_t* in; /* per rank: bit per tree that has reached it */
  uint8_t* port;
  uint16_t* depth; /* per tree and rank */
  uint32_t* seen;  /* per rank: the search that came by last */
  uint32_t search;
  hop* hops;
  uint32_t* queue;
  uint32_t entry[MCI_BRANCHINGS_MAX_TREES]; /* where a tree's unit of flow begins */
  uint64_t used;                            /* trees whose unit is in use */
  uint32_t* touched;                        /* links with flow, as v * PORTS + p */
  uint32_t ntouched, cap_touched;
  candidate* heap;
  uint32_t nheap, cap_heap, sequence;
  uint64_t random; /* 0: links of equal depth as they come */
  meshcclResult_t result;
} state;

static void destroy(state* s) {
  mci_free(s->peer), mci_free(s->back), mci_free(s->rate), mci_free(s->units), mci_free(s->room), mci_free(s->flow);
  mci_free(s->in), mci_free(s->port), mci_free(s->depth), mci_free(s->seen), mci_free(s->hops), mci_free(s->queue);
  mci_free(s->touched), mci_free(s->heap);
}

static meshcclResult_t create(const mci_topo* topo, uint32_t root, state* s) {
  size_t n = s->n = mci_topo_nranks(topo);
  *s = (state){.n = s->n, .root = root};
  s->peer = mci_alloc(n * sizeof *s->peer);
  s->back = mci_alloc(n * sizeof *s->back);
  s->rate = mci_alloc(n * sizeof *s->rate);
  s->units = mci_alloc(n * sizeof *s->units);
  s->room = mci_alloc(n * sizeof *s->room);
  s->flow = mci_alloc(n * sizeof *s->flow);
  s->in = mci_alloc(n * sizeof *s->in);
  s->port = mci_alloc(n * MCI_BRANCHINGS_MAX_TREES);
  s->depth = mci_alloc(n * MCI_BRANCHINGS_MAX_TREES * sizeof *s->depth);
  s->seen = mci_alloc(n * sizeof *s->seen);
  s->hops = mci_alloc(n * sizeof *s->hops);
  s->queue = mci_alloc(n * sizeof *s->queue);
  bool all = s->peer && s->back && s->rate && s->units && s->room && s->flow && s->in && s->port && s->depth &&
             s->seen && s->hops && s->queue;
  if (all) return meshcclSuccess;
  destroy(s);
  return mci_oom(n * MCI_BRANCHINGS_MAX_TREES * sizeof *s->depth);
}

static void read_links(const mci_topo* topo, state* s) {
  memset(s->peer, 0xff, s->n * sizeof *s->peer);
  for (uint32_t v = 0; v < s->n; v++) mci_topo_neighbors(topo, v, s->peer[v], PORTS);
  for (uint32_t v = 0; v < s->n; v++)
    for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) {
      uint32_t u = s->peer[v][p];
      while (s->peer[u][s->back[v][p]] != v) s->back[v][p]++;
      s->rate[v][p] = mci_topo_class(topo, mci_topo_pair_class(topo, v, u)).bw_Bps;
    }
}

/* Room for trees, when a link of the highest rate has room for `grain` of them. */
static void set_units(state* s, uint32_t grain) {
  uint64_t highest = 1;
  for (uint32_t v = 0; v < s->n; v++)
    for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) highest = MCI_MAX(highest, s->rate[v][p]);
  for (uint32_t v = 0; v < s->n; v++)
    for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) {
      uint64_t units = (uint64_t)((unsigned __int128)s->rate[v][p] * grain / highest);
      s->units[v][p] = (uint8_t)MCI_MAX(units, UINT64_C(1));
    }
}

/* ---- flows ---- */

static void come_by(state* s, uint32_t node, hop next, uint32_t* tail) {
  if (s->seen[node] == s->search) return;
  s->seen[node] = s->search;
  s->hops[node] = next;
  s->queue[(*tail)++] = node;
}

/* Looks backwards from the sink for a rank where an unused tree can give its unit. Returns the tree, or NONE. */
static uint32_t search_tree(state* s, uint32_t sink, uint32_t* at_out) {
  uint64_t jumped = 0;
  uint32_t tail = 0;
  s->search++;
  come_by(s, sink, (hop){.node = NONE}, &tail);
  for (uint32_t head = 0; head < tail; head++) {
    uint32_t v = s->queue[head];
    uint64_t fresh = s->in[v] & ~s->used;
    if (fresh) {
      *at_out = v;
      return (uint32_t)__builtin_ctzll(fresh);
    }
    for (uint64_t trees = s->in[v] & ~jumped; trees; trees &= trees - 1) {
      uint32_t t = (uint32_t)__builtin_ctzll(trees);
      come_by(s, s->entry[t], (hop){v, (uint8_t)t, JUMP}, &tail);
    }
    jumped |= s->in[v];
    for (uint8_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) {
      uint32_t u = s->peer[v][p];
      uint8_t q = s->back[v][p];
      if (s->room[v][p] > s->flow[v][p]) {
        come_by(s, u, (hop){v, p, FORWARD}, &tail);
      } else if (s->flow[u][q] > 0) {
        come_by(s, u, (hop){v, q, CANCEL}, &tail);
      }
    }
  }
  return NONE;
}

static void add_flow(state* s, uint32_t node, uint8_t port) {
  if (s->flow[node][port]++ > 0 || s->result != meshcclSuccess) return;
  s->result = mci_grow(&s->touched, sizeof *s->touched, &s->cap_touched, (size_t)s->ntouched + 1);
  if (s->result == meshcclSuccess) s->touched[s->ntouched++] = node * PORTS + port;
}

static void augment(state* s, uint32_t tree, uint32_t at) {
  s->used |= UINT64_C(1) << tree;
  s->entry[tree] = at;
  for (hop next; (next = s->hops[at]).node != NONE; at = next.node) {
    if (next.what == FORWARD) add_flow(s, next.node, next.port);
    if (next.what == CANCEL) s->flow[at][next.port]--;
    if (next.what == JUMP) s->entry[next.port] = next.node;
  }
}

/* Units of flow that reach the sink, at most one of each tree. */
static uint32_t flow_to(state* s, uint32_t sink) {
  uint32_t units = 0, tree, at = 0;
  while (units < s->ntrees && s->result == meshcclSuccess && (tree = search_tree(s, sink, &at)) != NONE) {
    augment(s, tree, at);
    units++;
  }
  for (uint32_t i = 0; i < s->ntouched; i++) s->flow[s->touched[i] / PORTS][s->touched[i] % PORTS] = 0;
  s->ntouched = 0;
  s->used = 0;
  return units;
}

/* ---- growing ---- */

static void begin(state* s) {
  memcpy(s->room, s->units, s->n * sizeof *s->room);
  memset(s->in, 0, s->n * sizeof *s->in);
  s->in[s->root] = s->ntrees == 64 ? UINT64_MAX : (UINT64_C(1) << s->ntrees) - 1;
  s->nheap = s->sequence = 0;
}

/* How many trees there can be. On a whole grid of equal links as many as the least rank has links. */
static void count_trees(state* s, bool least_is_enough) {
  s->ntrees = MCI_BRANCHINGS_MAX_TREES;
  for (uint32_t v = 0; v < s->n; v++) {
    uint32_t units = 0;
    for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) units += s->units[v][p];
    s->ntrees = MCI_MIN(s->ntrees, units);
  }
  if (least_is_enough) return;
  begin(s);
  for (uint32_t v = 0; v < s->n && s->ntrees > 0; v++)
    if (v != s->root) s->ntrees = flow_to(s, v);
}

static uint32_t chance(state* s) {
  if (s->random == 0) return 0;
  s->random ^= s->random << 13;
  s->random ^= s->random >> 7;
  s->random ^= s->random << 17;
  return (uint32_t)(s->random >> 40);
}

static void push(state* s, candidate c) {
  if (s->result == meshcclSuccess) s->result = mci_grow(&s->heap, sizeof *s->heap, &s->cap_heap, (size_t)s->nheap + 1);
  if (s->result != meshcclSuccess) return;
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

/* Offers the links out of a rank that a tree has reached. */
static void offer(state* s, uint32_t tree, uint32_t v) {
  uint64_t depth = s->depth[(size_t)tree * s->n + v];
  for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) {
    uint32_t u = s->peer[v][p];
    if (s->in[u] >> tree & 1) continue;
    uint64_t key = depth << 48 | (uint64_t)chance(s) << 24 | (s->sequence++ & 0xffffff);
    push(s, (candidate){key, u, s->back[v][p], (uint8_t)tree});
  }
}

/* Grows all trees; returns the depth of the deepest. */
static uint32_t grow(state* s) {
  uint32_t deepest = 0, missing = s->ntrees * (s->n - 1);
  begin(s);
  for (uint32_t t = 0; t < s->ntrees; t++) {
    s->depth[(size_t)t * s->n + s->root] = 0;
    s->port[(size_t)t * s->n + s->root] = MCI_BRANCHINGS_ROOT;
  }
  for (uint32_t t = 0; t < s->ntrees; t++) offer(s, t, s->root);
  while (s->nheap > 0 && s->result == meshcclSuccess) {
    candidate c = pop(s);
    if (s->in[c.node] >> c.tree & 1 || s->room[c.node][c.port] == 0) continue;
    s->room[c.node][c.port]--;
    s->in[c.node] |= UINT64_C(1) << c.tree;
    if (flow_to(s, c.node) < s->ntrees) {
      s->room[c.node][c.port]++;
      s->in[c.node] &= ~(UINT64_C(1) << c.tree);
      continue;
    }
    size_t place = (size_t)c.tree * s->n + c.node;
    uint32_t above = s->peer[c.node][c.port], depth = s->depth[(size_t)c.tree * s->n + above] + 1u;
    s->depth[place] = (uint16_t)depth;
    s->port[place] = c.port;
    deepest = MCI_MAX(deepest, depth);
    missing--;
    offer(s, c.tree, c.node);
  }
  mci_assert(missing == 0 || s->result != meshcclSuccess);
  return deepest;
}

/* ---- all of it ---- */

static bool busier(uint64_t uses, uint64_t rate, uint64_t than_uses, uint64_t than_rate) {
  return (unsigned __int128)uses * than_rate > (unsigned __int128)than_uses * rate;
}

/* The link that takes longest for one part of each of its trees. */
static void find_busiest(const state* s, mci_branchings* out) {
  out->uses = 0;
  out->bw_Bps = 1;
  for (uint32_t v = 0; v < s->n; v++)
    for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) {
      uint32_t uses = (uint32_t)s->units[v][p] - s->room[v][p];
      if (!busier(uses, s->rate[v][p], out->uses, out->bw_Bps)) continue;
      out->uses = uses;
      out->bw_Bps = s->rate[v][p];
    }
}

/* Whether a is faster for large vectors than b, or as fast and shallower. */
static bool better(const mci_branchings* a, const mci_branchings* b) {
  unsigned __int128 x = (unsigned __int128)a->uses * b->ntrees * b->bw_Bps;
  unsigned __int128 y = (unsigned __int128)b->uses * a->ntrees * a->bw_Bps;
  return x != y ? x < y : a->depth < b->depth;
}

static meshcclResult_t keep(const state* s, mci_branchings* found, mci_branchings* out) {
  if (out->port && !better(found, out)) return meshcclSuccess;
  size_t bytes = (size_t)s->ntrees * s->n;
  uint8_t* port = mci_alloc(bytes + 1);
  if (!port) return mci_oom(bytes);
  memcpy(port, s->port, bytes);
  mci_free(out->port);
  out->ntrees = found->ntrees;
  out->depth = found->depth;
  out->uses = found->uses;
  out->bw_Bps = found->bw_Bps;
  out->port = port;
  return meshcclSuccess;
}

static meshcclResult_t try_orders(state* s, uint32_t tries, mci_branchings* out) {
  for (uint32_t i = 0; i < tries && s->ntrees > 0; i++) {
    mci_branchings found = {.ntrees = s->ntrees};
    s->random = i * UINT64_C(0x9e3779b97f4a7c15);
    found.depth = grow(s);
    MCI_TRY(s->result);
    find_busiest(s, &found);
    MCI_TRY(keep(s, &found, out));
  }
  return s->result;
}

meshcclResult_t mci_branchings_search(const mci_topo* topo, uint32_t root, uint32_t tries, mci_branchings* out) {
  state s;
  mci_branchings best = {.topo = topo, .root = root};
  bool equal = mci_topo_nclasses(topo) == 1;
  meshcclResult_t result = create(topo, root, &s);
  if (result != meshcclSuccess) return result;
  read_links(topo, &s);
  for (uint32_t grain = COARSEST; grain <= (equal ? COARSEST : FINEST) && result == meshcclSuccess; grain *= 2) {
    set_units(&s, grain);
    count_trees(&s, equal && mci_topo_is_regular(topo));
    result = try_orders(&s, tries, &best);
  }
  destroy(&s);
  if (result == meshcclSuccess) {
    *out = best;
  } else {
    mci_branchings_fini(&best);
  }
  return result;
}
