/* The topology as a value: construction, ranks and coordinates, neighbours. Parsing is spec.c, text print.c and draw.c,
 * distances route.c, levels levels.c, parts of a topology subset.c. A whole grid answers everything from its sides. */
#include "topo/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "topo/branchings.h"
#include "topo/grid.h"
#include "topo/packing.h"

/* Number of entries below `value` in an ascending list. */
#define BELOW(name, type)                                          \
  static uint32_t name(const type* list, uint32_t n, type value) { \
    uint32_t low = 0, high = n;                                    \
    while (low < high) {                                           \
      uint32_t middle = low + (high - low) / 2;                    \
      if (list[middle] < value) {                                  \
        low = middle + 1;                                          \
      } else {                                                     \
        high = middle;                                             \
      }                                                            \
    }                                                              \
    return low;                                                    \
  }
BELOW(below32, uint32_t)
BELOW(below64, uint64_t)

static bool listed(const uint32_t* list, uint32_t n, uint32_t value) {
  uint32_t at = below32(list, n, value);
  return at < n && list[at] == value;
}

/* ---- construction ---- */

meshcclResult_t mci_grid_create(uint32_t ndims, const uint32_t* side, const bool* ring, mci_topo** out) {
  mci_topo* topo = mci_alloc(sizeof *topo);
  if (!topo) return mci_oom(sizeof *topo);
  pthread_mutex_init(&topo->packings_lock, NULL);
  topo->full = ndims == 0;
  topo->routed = true;
  topo->ndims = ndims;
  topo->link = (mci_link){50000000000u, 500000, 0};
  topo->nodes = topo->full ? side[0] : 1;
  for (uint32_t d = ndims; d-- > 0;) {
    topo->side[d] = side[d];
    topo->stride[d] = topo->nodes;
    topo->ring[d] = ring[d];
    topo->nodes *= side[d];
  }
  *out = topo;
  return meshcclSuccess;
}

static int compare32(const void* a, const void* b) {
  uint32_t x = *(const uint32_t*)a, y = *(const uint32_t*)b;
  return (x > y) - (x < y);
}

static int compare64(const void* a, const void* b) {
  uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return (x > y) - (x < y);
}

/* A cut next to a dead node says nothing new: dropping it keeps one text per topology. */
static void drop_idle_cuts(mci_topo* topo) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < topo->ncut; i++) {
    uint32_t node = (uint32_t)(topo->cut[i] / MCI_MAX_DIMS), dim = (uint32_t)(topo->cut[i] % MCI_MAX_DIMS);
    int64_t other = mci_grid_step(topo, node, dim, true);
    if (!mci_grid_is_dead(topo, node) && !mci_grid_is_dead(topo, (uint32_t)other)) topo->cut[kept++] = topo->cut[i];
  }
  topo->ncut = kept;
}

void mci_grid_sort(mci_topo* topo) {
  if (topo->ndead) qsort(topo->dead, topo->ndead, sizeof *topo->dead, compare32);
  if (topo->npick) qsort(topo->pick, topo->npick, sizeof *topo->pick, compare32);
  drop_idle_cuts(topo);
  if (topo->ncut) qsort(topo->cut, topo->ncut, sizeof *topo->cut, compare64);
}

meshcclResult_t mci_grid_finish(mci_topo* topo) {
  mci_grid_sort(topo);
  if (topo->npick == topo->nodes - topo->ndead) { /* everything that lives needs no list */
    mci_free(topo->pick);
    topo->pick = NULL;
    topo->npick = 0;
  }
  topo->nranks = topo->pick ? topo->npick : topo->nodes - topo->ndead;
  topo->connected = true;
  MCI_TRY(mci_levels_finish(topo));
  MCI_TRY(mci_planes_finish(topo));
  if (mci_topo_is_regular(topo) && topo->nplanes == 0) return meshcclSuccess;
  MCI_TRY(mci_walk_create(topo, &topo->walk));
  topo->connected = mci_walk_connected(topo);
  return meshcclSuccess;
}

meshcclResult_t mci_topo_full(uint32_t nranks, mci_topo** out) {
  if (nranks == 0 || nranks > MCI_MAX_NODES)
    MCI_FAIL(meshcclInvalidArgument, "a full graph of %u ranks: allowed are 1 to %u", nranks, MCI_MAX_NODES);
  mci_topo* topo = NULL;
  MCI_TRY(mci_grid_create(0, &nranks, NULL, &topo));
  topo->nranks = nranks;
  topo->connected = true;
  *out = topo;
  return meshcclSuccess;
}

void mci_topo_destroy(mci_topo* topo) {
  if (!topo) return;
  mci_walk_destroy(topo->walk);
  mci_packing_destroy(topo->packings);
  mci_branchings_destroy(topo->branchings);
  pthread_mutex_destroy(&topo->packings_lock);
  for (uint32_t l = 0; l < topo->nlevels; l++) mci_level_fini(&topo->level[l]);
  for (uint32_t p = 0; p < topo->nplanes; p++) mci_plane_fini(&topo->plane[p]);
  mci_free(topo->dead);
  mci_free(topo->cut);
  mci_free(topo->pick);
  mci_free(topo->map);
  mci_free(topo->place);
  mci_free(topo);
}

meshcclResult_t mci_grid_check_map(const uint32_t* map, uint32_t n, char* reason, size_t size) {
  uint64_t bytes = (uint64_t)n / 8 + 1;
  uint8_t* seen = mci_alloc(bytes);
  if (!seen) return mci_oom(bytes);
  reason[0] = 0;
  for (uint32_t rank = 0; rank < n && !reason[0]; rank++) {
    uint32_t node = map[rank];
    if (node >= n) {
      snprintf(reason, size, "entry %u of the rank map is %u; entries go from 0 to %u", rank, node, n - 1);
    } else if (seen[node / 8] >> node % 8 & 1) {
      snprintf(reason, size, "entry %u of the rank map repeats node %u; every node has one rank", rank, node);
    } else {
      seen[node / 8] |= (uint8_t)(1u << node % 8);
    }
  }
  mci_free(seen);
  return meshcclSuccess;
}

meshcclResult_t mci_topo_set_map(mci_topo* topo, const uint32_t* map, uint32_t n) {
  if (n != topo->nranks)
    MCI_FAIL(meshcclInvalidArgument, "the rank map has %u entries for %u ranks; give one entry per rank", n,
             topo->nranks);
  char reason[160];
  MCI_TRY(mci_grid_check_map(map, n, reason, sizeof reason));
  if (reason[0]) MCI_FAIL(meshcclInvalidArgument, "%s", reason);
  bool identity = true;
  for (uint32_t rank = 0; rank < n; rank++) identity = identity && map[rank] == rank;
  uint32_t *copy = NULL, *inverse = NULL;
  /* Every order of a full graph is the same graph, unless it is packaged. */
  if (!identity && (!topo->full || topo->nlevels > 0)) {
    copy = mci_alloc(n * sizeof *copy);
    inverse = mci_alloc(n * sizeof *inverse);
    if (!copy || !inverse) {
      mci_free(copy);
      mci_free(inverse);
      return mci_oom(n * sizeof *copy);
    }
    for (uint32_t rank = 0; rank < n; rank++) inverse[copy[rank] = map[rank]] = rank;
  }
  mci_packing_destroy(topo->packings); /* trees are by rank */
  mci_branchings_destroy(topo->branchings);
  topo->packings = NULL;
  topo->branchings = NULL;
  mci_free(topo->map);
  mci_free(topo->place);
  topo->map = copy;
  topo->place = inverse;
  return meshcclSuccess;
}

/* ---- nodes and links ---- */

void mci_grid_split(const mci_topo* topo, uint32_t node, uint32_t coords[MCI_MAX_DIMS]) {
  for (uint32_t d = 0; d < MCI_MAX_DIMS; d++) coords[d] = d < topo->ndims ? node / topo->stride[d] % topo->side[d] : 0;
}

uint32_t mci_grid_join(const mci_topo* topo, const uint32_t coords[MCI_MAX_DIMS]) {
  uint32_t node = 0;
  for (uint32_t d = 0; d < topo->ndims; d++) node += coords[d] * topo->stride[d];
  return node;
}

uint64_t mci_grid_link(uint32_t node, uint32_t dim) { return (uint64_t)node * MCI_MAX_DIMS + dim; }

int64_t mci_grid_step(const mci_topo* topo, uint32_t node, uint32_t dim, bool up) {
  uint32_t side = topo->side[dim], stride = topo->stride[dim], at = node / stride % side;
  if (topo->apart[dim]) return -1;
  if (up && at + 1 < side) return node + stride;
  if (!up && at > 0) return node - stride;
  if (!mci_topo_wraps(topo, dim)) return -1;
  return up ? node - (side - 1) * stride : node + (side - 1) * stride;
}

int64_t mci_grid_next(const mci_topo* topo, uint32_t node, uint32_t dim, bool up) {
  int64_t next = mci_grid_step(topo, node, dim, up);
  if (next < 0) return -1;
  if (topo->ndead && mci_grid_is_dead(topo, (uint32_t)next)) return -1;
  if (topo->pick && !topo->routed && !listed(topo->pick, topo->npick, (uint32_t)next)) return -1;
  if (!topo->ncut) return next;
  uint64_t link = mci_grid_link(up ? node : (uint32_t)next, dim);
  uint32_t at = below64(topo->cut, topo->ncut, link);
  return at < topo->ncut && topo->cut[at] == link ? -1 : next;
}

uint32_t mci_grid_ports(const mci_topo* topo, uint32_t node) {
  uint32_t ports = 0;
  for (uint32_t i = 0; i < 2 * topo->ndims; i++) ports += mci_grid_next(topo, node, i / 2, i % 2) >= 0;
  return ports;
}

bool mci_grid_is_dead(const mci_topo* topo, uint32_t node) { return listed(topo->dead, topo->ndead, node); }

/* dead[i] - i live nodes stand before dead[i]: the holes before the wanted live node are those with at most `place`. */
static uint32_t live_node(const mci_topo* topo, uint32_t place) {
  uint32_t low = 0, high = topo->ndead;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (topo->dead[middle] - middle <= place) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return place + low;
}

uint32_t mci_grid_node_at(const mci_topo* topo, uint32_t place) {
  return topo->pick ? topo->pick[place] : live_node(topo, place);
}

uint32_t mci_grid_node(const mci_topo* topo, uint32_t rank) {
  return mci_grid_node_at(topo, topo->map ? topo->map[rank] : rank);
}

int64_t mci_grid_rank(const mci_topo* topo, uint32_t node) {
  uint32_t place;
  if (topo->pick) {
    place = below32(topo->pick, topo->npick, node);
    if (place == topo->npick || topo->pick[place] != node) return -1;
  } else {
    uint32_t holes = below32(topo->dead, topo->ndead, node);
    if (holes < topo->ndead && topo->dead[holes] == node) return -1;
    place = node - holes;
  }
  return topo->place ? topo->place[place] : place;
}

/* ---- queries ---- */

uint32_t mci_topo_nranks(const mci_topo* topo) { return topo->nranks; }
uint32_t mci_topo_ndims(const mci_topo* topo) { return topo->ndims; }
uint32_t mci_topo_side(const mci_topo* topo, uint32_t dim) { return dim < topo->ndims ? topo->side[dim] : 1; }
bool mci_topo_wraps(const mci_topo* topo, uint32_t dim) {
  return dim < topo->ndims && topo->ring[dim] && topo->side[dim] > 2;
}
bool mci_topo_is_full(const mci_topo* topo) { return topo->full; }
bool mci_topo_is_uneven(const mci_topo* topo) {
  for (uint32_t c = 1; c < mci_topo_nclasses(topo); c++)
    if (mci_topo_class(topo, c).bw_Bps != topo->link.bw_Bps) return true;
  return false;
}

bool mci_topo_is_regular(const mci_topo* topo) {
  bool regular = topo->ndead == 0 && topo->ncut == 0 && !topo->pick;
  for (uint32_t d = 0; d < topo->ndims; d++) regular = regular && !mci_topo_apart(topo, d);
  return regular;
}
bool mci_topo_is_mapped(const mci_topo* topo) { return topo->map != NULL; }
bool mci_topo_routed(const mci_topo* topo) { return topo->routed; }
bool mci_topo_is_memory(const mci_topo* topo) { return topo->memory; }
mci_link mci_topo_link(const mci_topo* topo) { return topo->link; }
bool mci_topo_connected(const mci_topo* topo) { return topo->connected; }

void mci_topo_coords(const mci_topo* topo, uint32_t rank, uint32_t coords[MCI_MAX_DIMS]) {
  mci_grid_split(topo, mci_grid_node(topo, rank), coords);
}

int64_t mci_topo_rank_at(const mci_topo* topo, const uint32_t coords[MCI_MAX_DIMS]) {
  if (topo->full) return -1;
  for (uint32_t d = 0; d < topo->ndims; d++)
    if (coords[d] >= topo->side[d]) return -1;
  return mci_grid_rank(topo, mci_grid_join(topo, coords));
}

uint32_t mci_topo_neighbors(const mci_topo* topo, uint32_t rank, uint32_t* out, uint32_t cap) {
  uint32_t n = 0;
  if (topo->full) {
    for (uint32_t peer = 0; n < cap && peer < topo->nranks; peer++)
      if (peer != rank) out[n++] = peer;
    return topo->nranks - 1;
  }
  uint32_t node = mci_grid_node(topo, rank);
  for (uint32_t i = 0; i < 2 * topo->ndims; i++) {
    int64_t next = mci_grid_next(topo, node, i / 2, i % 2);
    int64_t peer = next < 0 ? -1 : mci_grid_rank(topo, (uint32_t)next);
    if (peer < 0) continue;
    if (n < cap) out[n] = (uint32_t)peer;
    n++;
  }
  return n;
}

bool mci_topo_adjacent(const mci_topo* topo, uint32_t a, uint32_t b) {
  if (topo->full) return a != b;
  uint32_t peers[2 * MCI_MAX_DIMS];
  uint32_t n = mci_topo_neighbors(topo, a, peers, MCI_COUNT(peers));
  for (uint32_t i = 0; i < n; i++)
    if (peers[i] == b) return true;
  for (uint32_t p = 0; p < topo->nplanes; p++)
    if (a != b && mci_topo_in_plane(topo, p, a) && mci_topo_in_plane(topo, p, b)) return true;
  return false;
}

uint32_t mci_topo_ndead(const mci_topo* topo) { return topo->ndead; }
uint32_t mci_topo_ncut(const mci_topo* topo) { return topo->ncut; }

static uint64_t whole_links(const mci_topo* topo) {
  if (topo->full) return (uint64_t)topo->nranks * (topo->nranks - 1) / 2;
  uint64_t links = 0;
  for (uint32_t d = 0; d < topo->ndims; d++)
    links += (uint64_t)(topo->nodes / topo->side[d]) * (mci_topo_wraps(topo, d) ? topo->side[d] : topo->side[d] - 1);
  return links;
}

static uint32_t plane_ports(const mci_topo* topo, uint32_t rank) {
  uint32_t ports = 0;
  for (uint32_t p = 0; p < topo->nplanes; p++) ports += mci_topo_in_plane(topo, p, rank);
  return ports;
}

uint64_t mci_topo_nlinks(const mci_topo* topo) {
  if (mci_topo_is_regular(topo) && topo->nplanes == 0) return whole_links(topo);
  uint64_t ends = 0, ports = 0;
  for (uint32_t rank = 0; rank < topo->nranks; rank++) {
    ends += mci_topo_neighbors(topo, rank, NULL, 0);
    ports += plane_ports(topo, rank);
  }
  return ends / 2 + ports;
}

void mci_topo_degrees(const mci_topo* topo, uint32_t* low, uint32_t* high) {
  *low = *high = topo->full ? topo->nranks - 1 : 0;
  if (topo->full) return;
  if (mci_topo_is_regular(topo) && topo->nplanes == 0) {
    for (uint32_t d = 0; d < topo->ndims; d++) {
      *low += mci_topo_wraps(topo, d) ? 2 : topo->side[d] > 1;
      *high += MCI_MIN(topo->side[d] - 1, 2u);
    }
    return;
  }
  *low = UINT32_MAX;
  for (uint32_t rank = 0; rank < topo->nranks; rank++) {
    uint32_t degree = mci_topo_neighbors(topo, rank, NULL, 0) + plane_ports(topo, rank);
    *low = MCI_MIN(*low, degree);
    *high = MCI_MAX(*high, degree);
  }
}
