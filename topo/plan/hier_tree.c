/* Trees of trees: one rank of every group leads it, the leaders of a group's units form a tree, and so on outwards; for
 * broadcast and reduce on full graphs, and for all-reduce, where it competes. The root leads every group that it is in,
 * so that a vector enters every host once, chunk after chunk.
 *
 *      0 -----> 4 -----> 8        chain of leaders between hosts 0..3, 4..7, 8..11 (large vectors: a host's way out
 *     /|\      /|\      /|\       carries the vector once)
 *    1 2 3    5 6 7    9 10 11    or a binary or binomial tree of leaders (small vectors: fewer steps)
 *
 * A host's ranks get theirs while the next hosts get the chunk. Steps are those of tree.c: up waits only for ranks
 * below, down for ranks above. Shapes are chosen by predicted time, for the outermost stage and for all others. */
#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"
#include "topo/plan/hier.h"
#include "topo/plan/tree.h"

#define COLLS \
  (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_BROADCAST) | MCI_COLL_BIT(MCI_REDUCE) | MCI_COLL_BIT(MCI_BARRIER))
#define MAX_CHUNKS 64

/* Children of a unit: none but the next, two, or those of a binomial tree. */
typedef enum { CHAIN = 1, BINARY, BINOMIAL, END_SHAPES } shape;

static uint32_t bits_of(uint32_t n) {
  uint32_t bits = 0;
  for (; n > 0; n >>= 1) bits++;
  return bits;
}

static uint32_t depth_of(shape s, uint32_t units) { return s == CHAIN ? units - 1 : bits_of(units) - 1; }

static uint32_t most_children(shape s, uint32_t units) {
  return s == CHAIN ? units > 1 : s == BINARY ? MCI_MIN(2, units - 1) : bits_of(units - 1);
}

static uint32_t parent_of(shape s, uint32_t v) { return s == BINOMIAL ? v & (v - 1) : (v - 1) / s; }

/* Farthest first. */
static uint32_t children_of(shape s, uint32_t v, uint32_t units, uint32_t* out) {
  uint32_t n = 0;
  if (s != BINOMIAL) {
    for (uint64_t child = (uint64_t)v * s + 1; child <= (uint64_t)v * s + s && child < units; child++)
      out[n++] = (uint32_t)child;
    return n;
  }
  for (uint32_t bit = UINT32_C(1) << 30; bit > 0; bit >>= 1)
    if ((v == 0 || bit < (v & -v)) && v + bit < units) out[n++] = v + bit;
  return n;
}

/* ---- cost ---- */
typedef struct {
  shape top, inner;
} shapes;

static shape at_stage(const mci_hier* h, shapes s, uint32_t stage) { return stage + 1 == h->nstages ? s.top : s.inner; }

/* Messages over the busiest link or way out for one chunk. The ranks of a group have links of their own; between groups
 * all children are served over one way out, and with two passes what goes up takes it, too, where a unit has a parent
 * and children. */
static uint64_t messages_at(const mci_hier* h, shapes s, uint32_t stage, uint64_t passes) {
  shape form = at_stage(h, s, stage);
  if (stage == 0) return 1;
  return most_children(form, h->most[stage]) + (form != BINOMIAL && passes == 2 && depth_of(form, h->most[stage]) > 1);
}

/* Chunks follow each other message by message, at the pace of the busiest way or of credits that come back. */
static uint64_t predict(const mci_hier* h, shapes s, uint64_t passes, const mci_request* request, uint32_t chunks) {
  uint64_t once = 0, apart = 0, paced = 0, turn = 0, chunk = mci_cost_share(request->bytes, 1, chunks);
  uint64_t bytes = MCI_MIN(chunk, mci_cost_message(request)), more = chunks * ((chunk + bytes - 1) / bytes) - 1;
  for (uint32_t stage = 0; stage < h->nstages; stage++) {
    const mci_link* link = &h->link[stage];
    shape form = at_stage(h, s, stage);
    uint64_t message = mci_cost_wire(link, bytes) + link->cost_ps, serves = messages_at(h, s, stage, 1);
    once += passes * depth_of(form, h->most[stage]) * (serves * message + link->lat_ps);
    apart = MCI_MAX(apart, messages_at(h, s, stage, passes) * message);
    if (passes == 2) turn = MCI_MAX(turn, mci_cost_wire(link, chunk - bytes)); /* totals leave when it is complete */
    if (h->most[stage] > 1) paced = MCI_MAX(paced, mci_cost_pace(link, bytes, 1));
  }
  uint64_t waits = more >= MCI_COST_CREDITS && paced > apart ? (more + 1 - MCI_COST_CREDITS) * (paced - apart) : 0;
  return once + more * apart + waits + turn;
}

static uint64_t passes_of(mci_coll coll) { return mci_coll_rooted(coll) ? 1 : 2; }

static shapes choose(const mci_hier* h, const mci_request* request, mci_plan_cost* out) {
  shapes best = {CHAIN, CHAIN};
  uint64_t passes = passes_of(request->coll);
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .channels = (uint32_t)passes, .chunks = 1};
  for (unsigned code = 0; code < 9; code++) {
    shapes s = {BINOMIAL - code / 3, BINOMIAL - code % 3};
    for (uint32_t chunks = 1; chunks <= MAX_CHUNKS; chunks *= 2) {
      if (chunks > 1 && request->bytes / chunks < MCI_COST_MIN_MESSAGE) break;
      uint64_t time = predict(h, s, passes, request, chunks);
      if (time >= out->cost_ps) continue;
      out->cost_ps = time;
      out->chunks = chunks;
      best = s;
    }
  }
  for (uint32_t stage = 0; stage < h->nstages; stage++) {
    shape form = at_stage(h, best, stage);
    out->steps += (uint32_t)passes * depth_of(form, h->most[stage]);
    out->load = MCI_MAX(out->load, (double)messages_at(h, best, stage, passes));
  }
  return best;
}

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)request, (void)buffer, (void)size;
  if (!mci_topo_is_full(topo)) return "on a grid, tree passes every link once and needs fewer steps";
  return mci_hier_refuse(topo);
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_hier h;
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .chunks = 1};
  if (mci_hier_of(topo, &h) != meshcclSuccess) return;
  choose(&h, request, out);
  mci_hier_fini(&h);
}

/* ---- building ---- */
typedef struct {
  const mci_hier* h;
  uint32_t root;
  mci_hier_place place[MCI_HIER_MAX_STAGES], root_place[MCI_HIER_MAX_STAGES];
} spot;

static uint32_t leader_of(const spot* s, uint32_t stage, uint32_t unit) {
  uint32_t roots = stage == 0 ? s->root : s->root_place[stage - 1].group;
  return unit == roots ? s->root : mci_hier_first_rank(s->h, stage, unit);
}

/* Index, within a group, of the unit that leads it: its leader's. The first rank of a group is that of one of its
 * units, which need not be the first one when ranks are mapped. */
static uint32_t leading_unit(const spot* s, uint32_t stage, uint32_t group) {
  uint32_t leader = leader_of(s, stage + 1, group), i = 0;
  while (leader_of(s, stage, mci_hier_unit(s->h, stage, group, i)) != leader) i++;
  return i;
}

static uint32_t leader_at(const spot* s, uint32_t stage, uint32_t v, uint32_t leading) {
  const mci_hier_place* place = &s->place[stage];
  return leader_of(s, stage, mci_hier_unit(s->h, stage, place->group, (v + leading) % place->count));
}

/* A rank leads its units up to some stage; in the groups below it serves, in that one it is served. */
static void find_family(const spot* s, shapes forms, uint32_t rank, mci_tree_spot* out) {
  uint32_t top = 0;
  while (top + 1 < s->h->nstages && leader_of(s, top + 1, s->place[top].group) == rank) top++;
  for (uint32_t stage = top + 1; stage-- > 0;) {
    const mci_hier_place* place = &s->place[stage];
    uint32_t leading = leading_unit(s, stage, place->group), list[MCI_TREE_MAX_CHILDREN];
    uint32_t v = (place->index + place->count - leading) % place->count;
    shape form = at_stage(s->h, forms, stage);
    if (stage == top) out->parent = v == 0 ? MCI_TREE_NONE : leader_at(s, stage, parent_of(form, v), leading);
    uint32_t n = children_of(form, v, place->count, list);
    for (uint32_t i = 0; i < n; i++) out->children[out->nchildren++] = leader_at(s, stage, list[i], leading);
  }
}

static void build_spot(const mci_hier* h, const mci_request* request, uint32_t rank, mci_tree_spot* out) {
  mci_plan_cost ignored;
  spot s = {.h = h, .root = mci_coll_rooted(request->coll) ? request->root : 0};
  mci_hier_place_of(h, rank, s.place);
  mci_hier_place_of(h, s.root, s.root_place);
  find_family(&s, choose(h, request, &ignored), rank, out);
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_hier h;
  MCI_TRY(mci_hier_of(topo, &h));
  mci_tree_spot place = {.rank = rank, .wide = request->wide, .chunks = cost_of->chunks};
  build_spot(&h, request, rank, &place);
  mci_hier_fini(&h);
  place.b = mci_build_begin(request->coll, "hier_tree", mci_topo_nranks(topo), rank, request->root);
  mci_build_layout(place.b, 1, cost_of->chunks, NULL);
  mci_tree_build_whole(&place, request->coll);
  MCI_TRY(mci_build_finish(place.b, out));
  (*out)->steps = cost_of->steps;
  return meshcclSuccess;
}

const mci_family mci_family_hier_tree = {"hier_tree", COLLS, "a tree of leaders at every level, chunk by chunk",
                                         refuse,      cost,  build};
