/* Two binary trees that each carry half of the vector, chunk by chunk: who passes things on in one has only a parent in
 * the other, so that all ranks send about as much as they get. For all-reduce (up and down), broadcast and reduce.
 *
 *      tree 1        4               tree 2        3        The root (place 0) is above both. Places 1 .. n-1: odd
 *                2       6                     5       1    ones are leaves of tree 1; tree 2 has them in reverse
 *              1   3   5                     6   4   2      (an even number of them), or moved on by one.
 *
 * Places are ranks, counted from the root. Trees are numbered in order, parents by bits: a place has the parent whose
 * lowest bit is the next higher one, if that exists. On grids neighbours in a tree are far apart, and their messages
 * share links, which the cost counts link by link: a baseline there. The steps of each tree are those of tree.c, in
 * channels of its own; up waits only for places below, down for places above, so it ends.
 *
 * Source: P. Sanders, J. Speck and J. L. Traff, Two-tree algorithms for full bandwidth broadcast, reduction and scan,
 * 2009; numbering by bits as in NCCL 2.4. */
#include <stdio.h>

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"
#include "topo/plan/tally.h"
#include "topo/plan/tree.h"

#define COLLS (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_BROADCAST) | MCI_COLL_BIT(MCI_REDUCE))
#define MAX_RANKS 4096 /* whose routes are counted one by one */
#define MAX_CHUNKS 64

/* ---- trees: places 0 .. n-1, 0 on top ---- */
static uint32_t lowest(uint32_t v) { return v & (0 - v); }

/* Parent of v > 0 in tree 1. */
static uint32_t parent_in_order(uint32_t v, uint32_t n) {
  uint32_t bit = lowest(v), above = (v ^ bit) | bit << 1;
  return above < n ? above : v ^ bit;
}

static uint32_t children_in_order(uint32_t v, uint32_t n, uint32_t out[2]) {
  uint32_t count = 0, bit = 1;
  if (v == 0) {
    while (2 * bit < n) bit *= 2;
    out[0] = bit;
    return n > 1;
  }
  bit = lowest(v) / 2;
  if (bit) out[count++] = v - bit;
  while (bit && v + bit >= n) bit /= 2;
  if (bit) out[count++] = v + bit;
  return count;
}

/* Place in tree 1 whose role a place has in tree t, and back. */
static uint32_t role(uint32_t t, uint32_t v, uint32_t n) {
  if (t == 0 || v == 0) return v;
  return n % 2 ? n - v : v % (n - 1) + 1;
}

static uint32_t actor(uint32_t t, uint32_t v, uint32_t n) {
  if (t == 0 || v == 0) return v;
  return n % 2 ? n - v : v == 1 ? n - 1 : v - 1;
}

typedef struct {
  const mci_topo* topo;
  uint32_t n, root;
} forest;

static forest forest_of(const mci_topo* topo, const mci_request* request) {
  return (forest){topo, mci_topo_nranks(topo), mci_coll_rooted(request->coll) ? request->root : 0};
}

static uint32_t rank_of(const forest* f, uint32_t tree, uint32_t role_of) {
  return (uint32_t)(((uint64_t)actor(tree, role_of, f->n) + f->root) % f->n);
}

static uint32_t role_of(const forest* f, uint32_t tree, uint32_t rank) {
  return role(tree, (uint32_t)(((uint64_t)rank + f->n - f->root) % f->n), f->n);
}

/* ---- cost ---- */
static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)request;
  uint32_t n = mci_topo_nranks(topo);
  if (n == 1) return "a single rank has no tree";
  if (n <= MAX_RANKS) return mci_routes_refuse_pairs(topo, buffer, size);
  snprintf(buffer, size, "the routes of more than %d ranks would be counted one by one", MAX_RANKS);
  return buffer;
}

/* The longest way from the top of a tree, and all its links. */
typedef struct {
  uint32_t edges, hops;
  uint32_t farthest; /* hops of one edge */
  uint64_t delay_ps;
  mci_tally tally;
} ways;

static void measure(const forest* f, uint32_t tree, uint32_t v, ways* w) {
  mci_link worst = mci_topo_worst(f->topo);
  uint32_t edges = 0, hops = 0;
  uint64_t delay = 0;
  for (uint32_t above; v > 0; v = above, edges++) {
    above = parent_in_order(v, f->n);
    uint32_t a = rank_of(f, tree, v), b = rank_of(f, tree, above), way = mci_topo_hops(f->topo, a, b);
    bool full = mci_topo_is_full(f->topo);
    hops += way;
    w->farthest = MCI_MAX(w->farthest, way);
    delay += full ? mci_topo_class(f->topo, mci_topo_pair_class(f->topo, a, b)).lat_ps : way * worst.lat_ps;
  }
  w->edges = MCI_MAX(w->edges, edges);
  w->hops = MCI_MAX(w->hops, hops);
  w->delay_ps = MCI_MAX(w->delay_ps, delay);
}

static meshcclResult_t measure_all(const forest* f, mci_coll coll, ways* w) {
  for (uint32_t tree = 0; tree < 2; tree++) {
    for (uint32_t v = 1; v < f->n; v++) {
      uint32_t below = rank_of(f, tree, v), above = rank_of(f, tree, parent_in_order(v, f->n));
      if (coll != MCI_BROADCAST) MCI_TRY(mci_tally_add(&w->tally, f->topo, below, above));
      if (coll != MCI_REDUCE) MCI_TRY(mci_tally_add(&w->tally, f->topo, above, below));
      measure(f, tree, v, w);
    }
  }
  return meshcclSuccess;
}

/* A first message goes all the way (over a shared port it also waits for one to another child), and the others follow
 * as the busiest link lets them, or credits on the longest edge. What goes down begins with a whole chunk, which has
 * come up alone. */
static void best_of(const mci_topo* topo, const mci_request* request, const ways* w, mci_plan_cost* out) {
  mci_link link = mci_topo_worst(topo);
  uint64_t passes = mci_coll_rooted(request->coll) ? 1 : 2, half = mci_cost_share(request->bytes, 1, 2);
  uint64_t largest = mci_cost_message(request), messages;
  for (uint32_t chunks = 1; chunks <= MAX_CHUNKS; chunks *= 2) {
    uint64_t chunk = mci_cost_share(half, 1, chunks), message = MCI_MIN(chunk, largest);
    if (chunks > 1 && chunk < mci_cost_min_chunk(topo, request)) break;
    uint64_t one = mci_cost_wire(&link, message) + link.cost_ps,
             busy = mci_tally_busiest(&w->tally, message, &messages);
    uint64_t way =
        w->hops * one + w->delay_ps + (w->edges - 1) * (mci_topo_nlevels(topo) || mci_topo_is_memory(topo) ? one : 0);
    uint64_t time = passes * way, turn = w->farthest * (one + 2 * link.lat_ps);
    busy = MCI_MAX(busy, turn / MCI_COST_CREDITS);
    if (!mci_topo_is_full(topo)) busy += busy / 16; /* routes that cross make each other wait, as simulated */
    time += message ? mci_cost_share(busy, half - message, message) : 0;
    time = MCI_MAX(time, (message ? mci_cost_share(busy, half, message) : 0) + link.lat_ps);
    if (passes == 2 && message) time += mci_cost_share(busy, chunk - message, 2 * message);
    if (chunks > 1 && time >= out->cost_ps - out->cost_ps / 200) continue;
    *out = (mci_plan_cost){.cost_ps = time, .channels = 2 * (uint32_t)passes, .chunks = chunks};
    out->load = (double)messages / 2;
  }
  out->steps = (uint32_t)passes * w->edges;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  forest f = forest_of(topo, request);
  ways w = {0};
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .chunks = 1};
  if (measure_all(&f, request->coll, &w) == meshcclSuccess) best_of(topo, request, &w, out);
  mci_tally_fini(&w.tally);
}

/* ---- building ---- */
static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  forest f = forest_of(topo, request);
  mci_build* b = mci_build_begin(request->coll, "double_tree", f.n, rank, request->root);
  mci_build_layout(b, 1, 2 * cost_of->chunks, NULL);
  for (uint32_t tree = 0; tree < 2; tree++) {
    mci_tree_spot spot = {.b = b, .rank = rank, .wide = request->wide, .chunks = cost_of->chunks};
    uint32_t v = role_of(&f, tree, rank), children[2];
    spot.first_channel = (uint16_t)(2 * tree);
    spot.first_chunk = tree * cost_of->chunks;
    spot.parent = v == 0 ? MCI_TREE_NONE : rank_of(&f, tree, parent_in_order(v, f.n));
    spot.nchildren = children_in_order(v, f.n, children);
    for (uint32_t i = 0; i < spot.nchildren; i++) spot.children[i] = rank_of(&f, tree, children[i]);
    mci_tree_build_whole(&spot, request->coll);
  }
  MCI_TRY(mci_build_finish(b, out));
  (*out)->steps = cost_of->steps;
  return meshcclSuccess;
}

const mci_family mci_family_double_tree = {
    "double_tree", COLLS, "halves of the vector over two binary trees with exchanged leaves", refuse, cost, build};
