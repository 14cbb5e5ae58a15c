/* Lower bounds on collectives. A bound is the largest of a bandwidth term (a cut that must carry so much), a latency
 * term (somebody is so far away) and, where every rank handles the whole vector, their combination (bounds.h). All
 * terms are fractions in integers.
 *
 *   all-reduce              any partition into k parts is crossed 2(k-1) times N in both directions: 1 / strength
 *   all-gather, reduce-scatter   a set S holds |S| N/p that others lack: max |S| / (p links(S))
 *   broadcast, reduce       everything enters everywhere: 1 / edge connectivity
 *   all-to-all              max |S| |V-S| / (p links(S))
 *   gather, scatter         a set around the root keeps out |V-S| N/p: max |V-S| / (p links(S))
 *
 * Whole grids are products of rings and lines. There the partition into single nodes is the worst one: trees that use
 * all links of one factor and one copy of the other load every link alike. The least cut is one node of least degree,
 * the all-to-all cut halves the longest side (dimension-ordered routes reach it), and sets around a root are boxes. */
#include "topo/bounds.h"

#include "topo/bounds_delay.h"
#include "topo/cuts.h"
#include "topo/grid.h"
#include "topo/net.h"

#define EXACT_RANKS 4096       /* beyond, graphs with holes get bounds from degrees */
#define EXACT_GATHER_RANKS 256 /* one flow per rank, where degrees do not decide */

typedef struct {
  mci_ratio ratio;
  bool exact;
} term;

static void raise_to(mci_ratio* best, mci_ratio other) {
  if (mci_ratio_less(*best, other)) *best = other;
}

/* ---- whole grids and full graphs ---- */

static mci_ratio whole_exchange(const mci_topo* topo) {
  if (topo->full) return (mci_ratio){1, topo->nranks};
  mci_ratio best = {0, 1};
  for (uint32_t d = 0; d < topo->ndims; d++) {
    uint64_t side = topo->side[d], half = side / 2;
    raise_to(&best, (mci_ratio){half * (side - half), side * (mci_topo_wraps(topo, d) ? 2 : 1)});
  }
  return best;
}

/* How a box around the root lies in one dimension: all of it, the root's place, or from the root's place to a wall. */
enum { ALL, HERE, DOWN, UP, NUM_EXTENTS };

static void box_extent(const mci_topo* topo, uint32_t dim, uint32_t at, int kind, uint64_t* width, uint64_t* faces) {
  uint64_t side = topo->side[dim], low = at > 0, high = at + 1 < side;
  bool wraps = mci_topo_wraps(topo, dim);
  *width = side;
  *faces = 0;
  if (kind == HERE) {
    *width = 1;
    *faces = wraps ? 2 : low + high;
  } else if (kind == DOWN && !wraps) {
    *width = at + 1;
    *faces = high;
  } else if (kind == UP && !wraps) {
    *width = side - at;
    *faces = low;
  }
}

/* Between those extents the ratio only falls as a box grows, so 4 per dimension suffice. */
static mci_ratio whole_spread(const mci_topo* topo, uint32_t root) {
  if (topo->full) return (mci_ratio){1, topo->nranks};
  uint32_t at[MCI_MAX_DIMS];
  mci_topo_coords(topo, root, at);
  mci_ratio best = {0, 1};
  for (uint32_t code = 0; code < 1u << (2 * topo->ndims); code++) {
    uint64_t volume = 1, links = 0, width[MCI_MAX_DIMS], faces[MCI_MAX_DIMS];
    for (uint32_t d = 0; d < topo->ndims; d++) {
      box_extent(topo, d, at[d], code >> (2 * d) & 3, &width[d], &faces[d]);
      volume *= width[d];
    }
    for (uint32_t d = 0; d < topo->ndims; d++) links += faces[d] * (volume / width[d]);
    if (links) raise_to(&best, (mci_ratio){topo->nranks - volume, topo->nranks * links});
  }
  return best;
}

/* What one rank must read of shared memory. */
static mci_ratio memory_ratio(uint64_t p, mci_coll coll) {
  switch (coll) {
    case MCI_ALL_REDUCE:
      return (mci_ratio){2 * (p - 1), p};
    case MCI_BROADCAST:
    case MCI_REDUCE:
      return (mci_ratio){1, 1};
    case MCI_SCATTER:
      return (mci_ratio){1, p};
    case MCI_BARRIER:
      return (mci_ratio){0, 1};
    default:
      return (mci_ratio){p - 1, p};
  }
}

static mci_ratio whole_ratio(const mci_topo* topo, mci_coll coll, uint32_t root) {
  uint64_t p = topo->nranks;
  uint32_t low, high;
  mci_topo_degrees(topo, &low, &high);
  if (topo->memory) return memory_ratio(p, coll);
  switch (coll) {
    case MCI_ALL_REDUCE:
      return (mci_ratio){p - 1, mci_topo_nlinks(topo)};
    case MCI_ALL_GATHER:
    case MCI_REDUCE_SCATTER:
      return (mci_ratio){p - 1, p * low};
    case MCI_BROADCAST:
    case MCI_REDUCE:
      return (mci_ratio){1, low};
    case MCI_ALL_TO_ALL:
      return whole_exchange(topo);
    case MCI_GATHER:
    case MCI_SCATTER:
      return whole_spread(topo, root);
    default:
      return (mci_ratio){0, 1};
  }
}

/* ---- grids with holes ---- */

/* Ranks at each coordinate of a dimension, and working links from it upwards. */
typedef struct {
  uint64_t ranks, links;
} layer;

static void count_layers(const mci_topo* topo, uint32_t dim, layer* layers) {
  for (uint32_t node = 0; node < topo->nodes; node++) {
    if (mci_grid_is_dead(topo, node) || (!topo->routed && mci_grid_rank(topo, node) < 0)) continue;
    layer* at = &layers[node / topo->stride[dim] % topo->side[dim]];
    at->ranks += mci_grid_rank(topo, node) >= 0;
    at->links += mci_grid_next(topo, node, dim, true) >= 0;
  }
}

static void raise_to_cut(mci_ratio* best, uint64_t inside, uint64_t p, uint64_t links) {
  if (links) raise_to(best, (mci_ratio){inside * (p - inside), p * links});
}

/* Straight cuts: between two layers of an open dimension, round half of a closed one. */
static meshcclResult_t straight_exchange(const mci_topo* topo, mci_ratio* best) {
  for (uint32_t d = 0; d < topo->ndims; d++) {
    uint32_t side = topo->side[d], half = side / 2;
    layer* layers = mci_alloc(side * sizeof *layers);
    if (!layers) return mci_oom(side * sizeof *layers);
    count_layers(topo, d, layers);
    uint64_t inside = 0;
    for (uint32_t i = 0; i < half; i++) inside += layers[i].ranks;
    if (mci_topo_wraps(topo, d)) {
      for (uint32_t i = 0; i < side; i++) { /* the half from i on */
        raise_to_cut(best, inside, topo->nranks,
                     layers[(i + side - 1) % side].links + layers[(i + half - 1) % side].links);
        inside += layers[(i + half) % side].ranks;
        inside -= layers[i].ranks;
      }
    } else {
      inside = 0;
      for (uint32_t i = 0; i + 1 < side; i++) {
        inside += layers[i].ranks;
        raise_to_cut(best, inside, topo->nranks, layers[i].links);
      }
    }
    mci_free(layers);
  }
  return meshcclSuccess;
}

static uint32_t least_ports(const mci_topo* topo) {
  uint32_t least = UINT32_MAX;
  for (uint32_t rank = 0; rank < topo->nranks; rank++)
    least = MCI_MIN(least, mci_grid_ports(topo, mci_grid_node(topo, rank)));
  return least;
}

/* Valid for every topology: what single ranks must take in and give out. */
static meshcclResult_t port_term(const mci_topo* topo, mci_coll coll, uint32_t root, term* out) {
  uint64_t p = topo->nranks, ports = least_ports(topo);
  out->exact = false;
  switch (coll) {
    case MCI_ALL_REDUCE:
      out->ratio = (mci_ratio){1, ports};
      if (!topo->pick) raise_to(&out->ratio, (mci_ratio){p - 1, mci_topo_nlinks(topo)});
      return meshcclSuccess;
    case MCI_BROADCAST:
    case MCI_REDUCE:
      out->ratio = (mci_ratio){1, ports};
      return meshcclSuccess;
    case MCI_GATHER:
    case MCI_SCATTER:
      out->ratio = (mci_ratio){p - 1, p * mci_grid_ports(topo, mci_grid_node(topo, root))};
      return meshcclSuccess;
    case MCI_ALL_GATHER:
    case MCI_REDUCE_SCATTER:
      out->ratio = (mci_ratio){p - 1, p * ports};
      return meshcclSuccess;
    default:
      out->ratio = (mci_ratio){p - 1, p * ports};
      return straight_exchange(topo, &out->ratio);
  }
}

static meshcclResult_t least_degree(const mci_net* net, uint64_t* out) {
  uint64_t* degree = mci_alloc(net->nnodes * sizeof *degree);
  if (!degree) return mci_oom(net->nnodes * sizeof *degree);
  for (uint32_t i = 0; i < 2 * net->nlinks; i++) degree[net->link[i / 2][i % 2]] += (uint64_t)net->cap[i / 2];
  *out = UINT64_MAX;
  for (uint32_t node = 0; node < net->nnodes; node++) *out = MCI_MIN(*out, degree[node]);
  mci_free(degree);
  return meshcclSuccess;
}

/* Where no cut is smaller than the least degree, one node of that degree is the worst set to be left out. */
static meshcclResult_t all_gather_term(const mci_net* net, term* out) {
  uint64_t p = net->nnodes, ports = 0, links;
  uint32_t larger;
  MCI_TRY(least_degree(net, &ports));
  MCI_TRY(mci_net_min_cut(net, &links, &larger));
  mci_ratio best = {p - 1, ports};
  raise_to(&best, (mci_ratio){larger, links});
  out->exact = links == ports || p <= EXACT_GATHER_RANKS;
  if (links < ports && out->exact)
    for (uint32_t node = 0; node < p; node++) MCI_TRY(mci_net_spread(net, node, &best));
  out->ratio = (mci_ratio){best.num, best.den * p};
  return meshcclSuccess;
}

static meshcclResult_t net_term(const mci_topo* topo, const mci_net* net, mci_coll coll, uint32_t root, term* out) {
  mci_ratio ratio = {0, 1};
  uint64_t links;
  uint32_t larger;
  out->exact = true;
  switch (coll) {
    case MCI_ALL_REDUCE:
      MCI_TRY(mci_net_strength(net, &ratio));
      out->ratio = (mci_ratio){ratio.den, ratio.num};
      return meshcclSuccess;
    case MCI_BROADCAST:
    case MCI_REDUCE:
      MCI_TRY(mci_net_min_cut(net, &links, &larger));
      out->ratio = (mci_ratio){1, links};
      return meshcclSuccess;
    case MCI_GATHER:
    case MCI_SCATTER:
      MCI_TRY(mci_net_spread(net, root, &ratio));
      out->ratio = (mci_ratio){ratio.num, ratio.den * net->nnodes};
      return meshcclSuccess;
    case MCI_ALL_GATHER:
    case MCI_REDUCE_SCATTER:
      return all_gather_term(net, out);
    default:
      return port_term(topo, coll, root, out);
  }
}

/* Ranks that route through nodes which are no ranks use links that the graph of ranks lacks. */
static meshcclResult_t holed_term(const mci_topo* topo, mci_coll coll, uint32_t root, term* out) {
  bool plain = !topo->pick || !topo->routed;
  if (!plain || topo->nranks > EXACT_RANKS || coll == MCI_ALL_TO_ALL) return port_term(topo, coll, root, out);
  static const uint64_t alike[MCI_MAX_LEVELS + 1] = {1, 1, 1, 1, 1, 1, 1};
  mci_net net;
  MCI_TRY(mci_net_create(topo, alike, &net));
  meshcclResult_t result = net_term(topo, &net, coll, root, out);
  mci_net_destroy(&net);
  return result;
}

/* ---- unequal links and planes ---- */

/* Whether every link has the rate of the finest level. */
static bool alike(const mci_topo* topo) {
  if (topo->nplanes > 0) return false;
  for (uint32_t l = 0; l < topo->nlevels; l++) {
    if (topo->level[l].ngroups == 1) continue;
    if (topo->full || topo->level[l].link.bw_Bps != topo->link.bw_Bps) return false;
  }
  return true;
}

/* The exact optimum by flows, where the ranks and their own links are all there is. */
static meshcclResult_t weighted_term(const mci_topo* topo, mci_coll coll, uint32_t root, term* out) {
  bool plain = !topo->full && topo->nplanes == 0 && (!topo->pick || !topo->routed);
  *out = (term){{0, 1}, false};
  if (!plain || topo->nranks > EXACT_RANKS || coll == MCI_ALL_TO_ALL)
    return mci_cuts_bound(topo, coll, root, &out->ratio);
  mci_capacities cap;
  mci_capacities_of(topo, &cap);
  mci_net net;
  MCI_TRY(mci_net_create(topo, cap.of_class, &net));
  meshcclResult_t result = net_term(topo, &net, coll, root, out);
  mci_net_destroy(&net);
  out->ratio.num *= cap.base;
  out->exact = out->exact && cap.exact;
  return result;
}

/* ---- the bound ---- */

static uint64_t saturated(unsigned __int128 value) { return value > UINT64_MAX ? UINT64_MAX : (uint64_t)value; }

/* bytes * ratio / rate in ps, rounded down; the quotient is split so that no product overflows. */
static uint64_t transfer_ps(uint64_t bytes, mci_ratio ratio, uint64_t bw_Bps) {
  unsigned __int128 whole_ps = (unsigned __int128)bytes * 1000000000000u / bw_Bps, product;
  if (__builtin_mul_overflow(whole_ps / ratio.den, (unsigned __int128)ratio.num, &product)) return UINT64_MAX;
  return saturated(product + whole_ps % ratio.den * ratio.num / ratio.den);
}

meshcclResult_t mci_bound_of(const mci_topo* topo, mci_coll coll, uint64_t bytes, uint32_t root, mci_bound* out) {
  if ((unsigned)coll >= MCI_NUM_COLLS || coll == MCI_SEND_RECV)
    MCI_FAIL(meshcclInvalidArgument, "no bound for collective %d; bounds are for collectives of all ranks", (int)coll);
  if (root >= topo->nranks)
    MCI_FAIL(meshcclInvalidArgument, "root %u is outside the %u ranks of the topology", root, topo->nranks);
  if (!topo->connected)
    MCI_FAIL(
        meshcclInvalidArgument,
        "the topology is in pieces: some ranks have no route to each other; restore links or nodes, or pick one piece");
  term bandwidth = {{0, 1}, true};
  if (topo->nranks > 1 && coll != MCI_BARRIER) {
    if (!alike(topo)) {
      MCI_TRY(weighted_term(topo, coll, root, &bandwidth));
    } else if (mci_topo_is_regular(topo)) {
      bandwidth.ratio = whole_ratio(topo, coll, root);
    } else {
      MCI_TRY(holed_term(topo, coll, root, &bandwidth));
    }
  }
  mci_bound bound = {.factor = (double)bandwidth.ratio.num / (double)bandwidth.ratio.den, .exact = bandwidth.exact};
  bound.bandwidth_ps = transfer_ps(bytes, bandwidth.ratio, topo->link.bw_Bps);
  bound.latency_ps = mci_bound_delay_ps(topo, mci_coll_rooted(coll), root);
  bound.bound_ps = MCI_MAX(bound.bandwidth_ps, bound.latency_ps);
  if (coll == MCI_ALL_REDUCE || coll == MCI_BROADCAST || coll == MCI_REDUCE) {
    mci_bound_way way = mci_bound_way_of(topo, mci_coll_rooted(coll), root, bytes);
    bound.way_ps = way.way_ps;
    bound.combined_ps = saturated((unsigned __int128)way.way_ps + way.entry_ps);
    bound.bound_ps = MCI_MAX(bound.bound_ps, bound.combined_ps);
  }
  *out = bound;
  return meshcclSuccess;
}
