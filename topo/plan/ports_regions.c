/* Cuts the ranks around the root into connected regions, one per link of the root, of sizes that are asked for. Where
 * this succeeds every region gets a tree of its own, and no two of the root's links have routes in common: nothing is
 * in the way of anything. It need not succeed; ports_routes.c then has routes that cross.
 *
 *        a a a b b       R: the root; its three links lead into the regions a, b, c of 6, 6 and 7 ranks
 *        a a R b b
 *        a c c c b       regions grow in turn, the emptiest first; one that is too large then gives ranks at its border
 *        c c c c b       to its neighbour, and that one to the next, until one is reached that has room
 *
 * Ends: every round brings the sizes nearer to those wanted by one, or forbids a pair of regions in it. Integers and
 * fixed orders only. Derived here; cutting graphs into connected parts of given sizes is hard in general (Dyer and
 * Frieze 1985). */
#include <string.h>

#include "topo/plan/ports.h"

#define PORTS MCI_PORTS_MAX_BRANCHES
#define NONE UINT32_MAX
#define NOBODY 0xff

typedef struct {
  uint32_t n, root, branches;
  const uint32_t (*peer)[PORTS];
  const uint64_t* wanted; /* per region: at most so many ranks */
  uint64_t size[PORTS];
  uint8_t* region;
  uint32_t *parent, *depth, *queue; /* of the search within a region that was made last */
} state;

/* Breadth first within a region, without one of its ranks; returns how many ranks it reached. */
static uint32_t search(state* s, uint8_t region, uint32_t without) {
  uint32_t head_of = s->peer[s->root][region], tail = 0;
  for (uint32_t v = 0; v < s->n; v++)
    if (s->region[v] == region) s->depth[v] = NONE;
  if (head_of == without) return 0;
  s->depth[head_of] = 0;
  s->parent[head_of] = s->root;
  s->queue[tail++] = head_of;
  for (uint32_t head = 0; head < tail; head++)
    for (uint32_t p = 0, v = s->queue[head]; p < PORTS && s->peer[v][p] != NONE; p++) {
      uint32_t u = s->peer[v][p];
      if (u == without || s->region[u] != region || s->depth[u] != NONE) continue;
      s->depth[u] = s->depth[v] + 1;
      s->parent[u] = v;
      s->queue[tail++] = u;
    }
  return tail;
}

static bool beside(const state* s, uint32_t v, uint8_t region) {
  for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++)
    if (s->region[s->peer[v][p]] == region) return true;
  return false;
}

/* Relative to what is wanted. */
static bool emptier(const state* s, uint32_t a, uint32_t b) {
  return (unsigned __int128)s->size[a] * s->wanted[b] < (unsigned __int128)s->size[b] * s->wanted[a];
}

/* A free rank beside the region, of those found first when it is searched; NONE: it is shut in. */
static uint32_t free_beside(state* s, uint8_t region) {
  uint32_t n = search(s, region, NONE);
  for (uint32_t i = 0; i < n; i++)
    for (uint32_t p = 0, v = s->queue[i]; p < PORTS && s->peer[v][p] != NONE; p++)
      if (s->peer[v][p] != s->root && s->region[s->peer[v][p]] == NOBODY) return s->peer[v][p];
  return NONE;
}

static void grow(state* s) {
  uint32_t shut = 0; /* bit per region */
  for (uint8_t r = 0; r < s->branches; r++) {
    s->region[s->peer[s->root][r]] = r;
    s->size[r] = 1;
  }
  while (shut + 1 != UINT32_C(1) << s->branches) {
    uint32_t least = NONE;
    for (uint32_t r = 0; r < s->branches; r++)
      if (!(shut >> r & 1) && (least == NONE || emptier(s, r, least))) least = r;
    uint32_t v = free_beside(s, (uint8_t)least);
    if (v == NONE) {
      shut |= UINT32_C(1) << least;
      continue;
    }
    s->region[v] = (uint8_t)least;
    s->size[least]++;
  }
}

/* Gives a rank of one region to another, of those that it can do without the one farthest from the root. */
static bool give(state* s, uint8_t from, uint8_t to) {
  uint32_t above = NONE; /* the depth of the one that was tried last */
  for (;;) {
    uint32_t n = search(s, from, NONE), best = NONE;
    for (uint32_t i = n; i-- > 0 && best == NONE;)
      if (s->queue[i] != NONE && i < above && i > 0 && beside(s, s->queue[i], to)) {
        best = s->queue[i];
        above = i;
      }
    if (best == NONE) return false;
    if (search(s, from, best) != s->size[from] - 1) continue;
    s->region[best] = to;
    s->size[from]--;
    s->size[to]++;
    return true;
  }
}

/* A chain of regions that touch, from one that is too large to one with room. before[r]: the one in front of r. */
static uint32_t find_chain(const state* s, uint32_t from, const bool (*bars)[PORTS], uint32_t before[PORTS]) {
  uint32_t queue[PORTS], tail = 0;
  for (uint32_t r = 0; r < PORTS; r++) before[r] = NONE;
  before[from] = from;
  queue[tail++] = from;
  for (uint32_t head = 0; head < tail; head++) {
    uint32_t r = queue[head];
    if (s->size[r] < s->wanted[r]) return r;
    for (uint32_t v = 0; v < s->n; v++) {
      if (s->region[v] != r) continue;
      for (uint32_t p = 0; p < PORTS && s->peer[v][p] != NONE; p++) {
        uint32_t other = s->region[s->peer[v][p]];
        if (other == NOBODY || before[other] != NONE || bars[r][other]) continue;
        before[other] = r;
        queue[tail++] = other;
      }
    }
  }
  return NONE;
}

/* Brings one rank less into a region that is too large. */
static bool relieve(state* s, uint32_t from) {
  bool bars[PORTS][PORTS] = {{false}};
  for (;;) {
    uint32_t before[PORTS], to = find_chain(s, from, (const bool(*)[PORTS])bars, before);
    if (to == NONE) return false;
    bool done = true;
    for (uint32_t r = to; r != from && done; r = before[r]) {
      done = give(s, (uint8_t)before[r], (uint8_t)r);
      if (!done) bars[before[r]][r] = true;
    }
    if (done) return true;
  }
}

static bool even_out(state* s) {
  for (uint32_t r = 0; r < s->branches; r++)
    for (uint32_t rounds = 0; s->size[r] > s->wanted[r]; rounds++)
      if (rounds == s->n || !relieve(s, r)) return false;
  return true;
}

meshcclResult_t mci_ports_regions(uint32_t n, uint32_t root, const uint32_t (*peer)[PORTS], const uint64_t* wanted,
                                  uint32_t* parent_out, bool* found) {
  state s = {.n = n, .root = root, .peer = peer, .wanted = wanted, .parent = parent_out};
  s.region = mci_alloc(n);
  s.depth = mci_alloc(n * sizeof *s.depth);
  s.queue = mci_alloc(n * sizeof *s.queue);
  meshcclResult_t result = s.region && s.depth && s.queue ? meshcclSuccess : mci_oom(n * sizeof *s.queue);
  *found = false;
  if (result == meshcclSuccess) {
    memset(s.region, NOBODY, n);
    while (s.branches < PORTS && peer[root][s.branches] != NONE) s.branches++;
    grow(&s);
    *found = even_out(&s);
    for (uint32_t r = 0; r < s.branches; r++) search(&s, (uint8_t)r, NONE);
  }
  mci_free(s.region);
  mci_free(s.depth);
  mci_free(s.queue);
  return result;
}
