/* Distances: closed forms on whole grids, breadth-first search around holes. A route is dimension-ordered, last
 * dimension first, the short way round a ring; where that meets a hole, any shortest way. Both have the same length
 * whenever both exist, so hops are shortest distances. Searches share one work space per topology, under its lock. */
#include <string.h>

#include "topo/grid.h"

/* Node visits that a diameter may cost before it is estimated by sweeps. */
#define DIAMETER_WORK 20000000u
#define DIAMETER_SWEEPS 8

meshcclResult_t mci_walk_create(const mci_topo* topo, mci_walk** out) {
  mci_walk* walk = mci_alloc(sizeof *walk);
  if (!walk) return mci_oom(sizeof *walk);
  pthread_mutex_init(&walk->lock, NULL);
  walk->source = -1;
  size_t bytes = (size_t)topo->nodes * sizeof *walk->dist;
  walk->dist = mci_alloc(bytes);
  walk->queue = mci_alloc(bytes);
  if (!walk->dist || !walk->queue) {
    mci_walk_destroy(walk);
    return mci_oom(bytes);
  }
  *out = walk;
  return meshcclSuccess;
}

void mci_walk_destroy(mci_walk* walk) {
  if (!walk) return;
  pthread_mutex_destroy(&walk->lock);
  mci_free(walk->dist);
  mci_free(walk->queue);
  mci_free(walk);
}

/* Everything down to the queries runs under the lock of topo->walk, or before anybody else knows the topology. */

/* The first member that is reached reaches all others; the rest of the members add nothing. */
static void cross_plane(const mci_topo* topo, uint32_t p, uint32_t node, uint32_t* crossed, uint32_t* tail) {
  const mci_plane* plane = &topo->plane[p];
  mci_walk* walk = topo->walk;
  if (*crossed >> p & 1 || !mci_plane_has(plane, node)) return;
  *crossed |= 1u << p;
  for (uint32_t i = 0; i < plane->nmembers; i++) {
    uint32_t next = plane->members[i];
    if (walk->dist[next] != UINT32_MAX) continue;
    walk->dist[next] = walk->dist[node] + 1;
    walk->queue[(*tail)++] = next;
  }
}

static void search(const mci_topo* topo, uint32_t source) {
  mci_walk* walk = topo->walk;
  if (walk->source == source) return;
  memset(walk->dist, 0xff, (size_t)topo->nodes * sizeof *walk->dist);
  uint32_t head = 0, tail = 0, crossed = 0; /* crossed: bit per plane */
  walk->dist[source] = 0;
  walk->queue[tail++] = source;
  while (head < tail) {
    uint32_t node = walk->queue[head++];
    for (uint32_t p = 0; p < topo->nplanes; p++) cross_plane(topo, p, node, &crossed, &tail);
    for (uint32_t i = 0; i < 2 * topo->ndims; i++) {
      int64_t next = mci_grid_next(topo, node, i / 2, i % 2);
      if (next < 0 || walk->dist[next] != UINT32_MAX) continue;
      walk->dist[next] = walk->dist[node] + 1;
      walk->queue[tail++] = (uint32_t)next;
    }
  }
  walk->source = source;
}

static uint32_t searched_eccentricity(const mci_topo* topo, uint32_t rank, uint32_t* farthest) {
  search(topo, mci_grid_node(topo, rank));
  uint32_t most = 0;
  for (uint32_t other = 0; other < topo->nranks; other++) {
    uint32_t hops = topo->walk->dist[mci_grid_node(topo, other)];
    if (hops <= most) continue;
    most = hops;
    *farthest = other;
  }
  return most;
}

static uint32_t searched_diameter(const mci_topo* topo) {
  uint32_t most = 0, farthest = 0;
  if ((uint64_t)topo->nranks * topo->nodes <= DIAMETER_WORK) {
    for (uint32_t rank = 0; rank < topo->nranks; rank++)
      most = MCI_MAX(most, searched_eccentricity(topo, rank, &farthest));
    return most;
  }
  for (uint32_t sweep = 0; sweep < DIAMETER_SWEEPS; sweep++)
    most = MCI_MAX(most, searched_eccentricity(topo, farthest, &farthest));
  return most;
}

bool mci_walk_connected(const mci_topo* topo) {
  uint32_t farthest;
  return searched_eccentricity(topo, 0, &farthest) != UINT32_MAX;
}

/* ---- queries ---- */

static uint32_t apart(const mci_topo* topo, uint32_t dim, uint32_t x, uint32_t y) {
  uint32_t gap = x > y ? x - y : y - x;
  return mci_topo_wraps(topo, dim) ? MCI_MIN(gap, topo->side[dim] - gap) : gap;
}

/* Whether the short way from x, `gap` hops long, leads upwards. */
static bool upwards(const mci_topo* topo, uint32_t dim, uint32_t x, uint32_t gap, uint32_t goal) {
  return x + gap == goal || (mci_topo_wraps(topo, dim) && (x + gap) % topo->side[dim] == goal);
}

/* Whether the dimension-ordered route works throughout. */
static bool straight_route(const mci_topo* topo, uint32_t from, uint32_t to) {
  uint32_t goal[MCI_MAX_DIMS], at[MCI_MAX_DIMS];
  mci_grid_split(topo, from, at);
  mci_grid_split(topo, to, goal);
  int64_t node = from;
  for (uint32_t d = topo->ndims; d-- > 0;) {
    uint32_t hops = apart(topo, d, at[d], goal[d]);
    bool up = upwards(topo, d, at[d], hops, goal[d]);
    for (uint32_t i = 0; i < hops; i++) {
      node = mci_grid_next(topo, (uint32_t)node, d, up);
      if (node < 0) return false;
    }
  }
  return true;
}

uint32_t mci_topo_hops(const mci_topo* topo, uint32_t a, uint32_t b) {
  if (a == b) return 0;
  if (topo->full) return 1;
  uint32_t from = mci_grid_node(topo, a), to = mci_grid_node(topo, b);
  if (topo->nplanes && mci_topo_adjacent(topo, a, b)) return 1;
  if (!topo->walk || (topo->nplanes == 0 && straight_route(topo, from, to))) {
    uint32_t x[MCI_MAX_DIMS], y[MCI_MAX_DIMS], hops = 0;
    mci_grid_split(topo, from, x);
    mci_grid_split(topo, to, y);
    for (uint32_t d = 0; d < topo->ndims; d++) hops += apart(topo, d, x[d], y[d]);
    return hops;
  }
  mci_walk* walk = topo->walk;
  pthread_mutex_lock(&walk->lock);
  if (walk->source != to) search(topo, from);
  uint32_t hops = walk->dist[walk->source == to ? from : to];
  pthread_mutex_unlock(&walk->lock);
  return hops;
}

/* ---- the links of a route ---- */

typedef struct {
  mci_hop* out;
  uint32_t cap, hops;
  uint64_t delay_ps;
} way;

static void pass(way* w, uint64_t id, mci_link link) {
  if (w->hops < w->cap) w->out[w->hops] = (mci_hop){id, link, false};
  w->hops++;
  w->delay_ps += link.lat_ps;
}

static void pass_port(way* w, uint64_t id, mci_link link) {
  if (w->hops < w->cap) w->out[w->hops] = (mci_hop){id, {link.bw_Bps, 0, link.cost_ps}, true};
  w->hops++;
}

/* Crosses the link of `node` along dim. */
static int64_t cross(const mci_topo* topo, uint32_t node, uint32_t dim, bool up, way* w) {
  int64_t next = mci_grid_step(topo, node, dim, up);
  pass(w, 2 * mci_grid_link(node, dim) + up, mci_topo_class(topo, mci_levels_class(topo, node, (uint32_t)next)));
  return next;
}

static void straight_way(const mci_topo* topo, uint32_t from, uint32_t to, way* w) {
  uint32_t goal[MCI_MAX_DIMS], at[MCI_MAX_DIMS];
  mci_grid_split(topo, from, at);
  mci_grid_split(topo, to, goal);
  int64_t node = from;
  for (uint32_t d = topo->ndims; d-- > 0;) {
    uint32_t gap = apart(topo, d, at[d], goal[d]);
    bool up = upwards(topo, d, at[d], gap, goal[d]);
    for (uint32_t i = 0; i < gap; i++) node = cross(topo, (uint32_t)node, d, up, w);
  }
}

/* To a member of a plane that `node` is in, too, one hop nearer; where there are several, different nodes take
 * different ones. */
static uint32_t cross_switch(const mci_topo* topo, uint32_t node, way* w) {
  const uint32_t* dist = topo->walk->dist;
  for (uint32_t p = 0; p < topo->nplanes; p++) {
    const mci_plane* plane = &topo->plane[p];
    if (!mci_plane_has(plane, node)) continue;
    for (uint32_t i = 0; i < plane->nmembers; i++) {
      uint32_t next = plane->members[(i + node) % plane->nmembers];
      if (dist[next] + 1 != dist[node]) continue;
      uint64_t ids = UINT64_C(1) << 62 | (uint64_t)p << 40;
      pass_port(w, ids | 2 * (uint64_t)node, plane->link);
      pass(w, ids | (2 * (uint64_t)next + 1), plane->link);
      return next;
    }
  }
  return UINT32_MAX; /* not reached: somebody is nearer */
}

/* Always to the first neighbour that is one hop nearer, else through a plane. Under the lock, after a search. */
static void searched_way(const mci_topo* topo, uint32_t from, uint32_t to, way* w) {
  const uint32_t* dist = topo->walk->dist;
  for (uint32_t node = from; node != to;) {
    int64_t next = -1;
    uint32_t i = 0;
    for (; i < 2 * topo->ndims; i++) {
      next = mci_grid_next(topo, node, i / 2, i % 2);
      if (next >= 0 && dist[next] + 1 == dist[node]) break;
    }
    node = (uint32_t)(i < 2 * topo->ndims ? cross(topo, node, i / 2, i % 2, w) : cross_switch(topo, node, w));
  }
}

static uint32_t searched_hops(const mci_topo* topo, uint32_t from, uint32_t to, bool straight, mci_hop* out,
                              uint32_t cap) {
  search(topo, to);
  if (topo->walk->dist[from] == UINT32_MAX) return UINT32_MAX;
  way direct = {0}, found = {0}, taken = {out, cap, 0, 0};
  if (straight) {
    straight_way(topo, from, to, &direct);
    searched_way(topo, from, to, &found);
  }
  if (straight && direct.delay_ps <= found.delay_ps) {
    straight_way(topo, from, to, &taken);
  } else {
    searched_way(topo, from, to, &taken);
  }
  return taken.hops;
}

static uint64_t port_of(const mci_topo* topo, uint32_t level, uint32_t rank, bool in) {
  return UINT64_C(1) << 62 | (uint64_t)level << 40 | 2 * (uint64_t)mci_topo_group(topo, level, rank) | in;
}

/* Within a group every pair has a link, or whoever receives reads everything itself. Outside, the way goes through the
 * ports of all groups that hold one of the two; the delay is that of the outermost. */
static uint32_t full_way(const mci_topo* topo, uint32_t a, uint32_t b, mci_hop* out, uint32_t cap) {
  uint32_t outermost = mci_topo_pair_class(topo, a, b);
  way w = {out, cap, 0, 0};
  if (outermost == 0) pass(&w, (topo->memory ? 0 : (uint64_t)a * topo->nranks) + b, mci_topo_class(topo, 0));
  for (uint32_t l = 0; l < outermost; l++) pass_port(&w, port_of(topo, l, a, false), mci_topo_class(topo, l + 1));
  for (uint32_t l = outermost; l-- > 1;) pass_port(&w, port_of(topo, l, b, true), mci_topo_class(topo, l + 1));
  if (outermost == 0) return w.hops;
  mci_link last = mci_topo_class(topo, 1);
  last.lat_ps = mci_topo_class(topo, outermost).lat_ps;
  pass(&w, port_of(topo, 0, b, true), last);
  return w.hops;
}

uint32_t mci_topo_route(const mci_topo* topo, uint32_t a, uint32_t b, mci_hop* out, uint32_t cap) {
  if (a == b) return 0;
  if (topo->full) return full_way(topo, a, b, out, cap);
  uint32_t from = mci_grid_node(topo, a), to = mci_grid_node(topo, b);
  bool straight = !topo->walk || straight_route(topo, from, to);
  if (straight && topo->nplanes == 0) {
    way w = {out, cap, 0, 0};
    straight_way(topo, from, to, &w);
    return w.hops;
  }
  pthread_mutex_lock(&topo->walk->lock);
  uint32_t hops = searched_hops(topo, from, to, straight, out, cap);
  pthread_mutex_unlock(&topo->walk->lock);
  return hops;
}

uint32_t mci_topo_eccentricity(const mci_topo* topo, uint32_t rank) {
  if (topo->full) return topo->nranks > 1;
  uint32_t hops = 0;
  if (topo->walk) {
    pthread_mutex_lock(&topo->walk->lock);
    uint32_t farthest;
    hops = searched_eccentricity(topo, rank, &farthest);
    pthread_mutex_unlock(&topo->walk->lock);
    return hops;
  }
  uint32_t at[MCI_MAX_DIMS];
  mci_topo_coords(topo, rank, at);
  for (uint32_t d = 0; d < topo->ndims; d++)
    hops += mci_topo_wraps(topo, d) ? topo->side[d] / 2 : MCI_MAX(at[d], topo->side[d] - 1 - at[d]);
  return hops;
}

uint32_t mci_topo_diameter(const mci_topo* topo) {
  if (topo->full) return topo->nranks > 1;
  uint32_t hops = 0;
  mci_walk* walk = topo->walk;
  if (walk) {
    pthread_mutex_lock(&walk->lock);
    if (!walk->has_diameter) walk->diameter = searched_diameter(topo);
    walk->has_diameter = true;
    hops = walk->diameter;
    pthread_mutex_unlock(&walk->lock);
    return hops;
  }
  for (uint32_t d = 0; d < topo->ndims; d++) hops += mci_topo_wraps(topo, d) ? topo->side[d] / 2 : topo->side[d] - 1;
  return hops;
}
