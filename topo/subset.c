/* Parts of a topology, for split communicators. A box of working nodes and links becomes a grid of its own: extents of
 * one are dropped, a ring that is spanned in full stays a ring, a part of one is open. Everything else keeps the
 * parent's geometry and picks its nodes. Levels are cut along with the nodes. Also the undamaged version of a topology.
 */
#include <stdlib.h>
#include <string.h>

#include "topo/grid.h"

typedef struct {
  uint32_t start[MCI_MAX_DIMS], extent[MCI_MAX_DIMS];
} box;

static int compare32(const void* a, const void* b) {
  uint32_t x = *(const uint32_t*)a, y = *(const uint32_t*)b;
  return (x > y) - (x < y);
}

static meshcclResult_t check_ranks(const mci_topo* topo, const uint32_t* ranks, uint32_t n) {
  if (n == 0) MCI_FAIL(meshcclInvalidArgument, "a part of a topology needs at least one rank");
  uint64_t bytes = (uint64_t)topo->nranks / 8 + 1;
  uint8_t* seen = mci_alloc(bytes);
  if (!seen) return mci_oom(bytes);
  uint32_t bad = UINT32_MAX;
  for (uint32_t i = 0; i < n && bad == UINT32_MAX; i++) {
    uint32_t rank = ranks[i];
    if (rank >= topo->nranks || (seen[rank / 8] >> rank % 8 & 1)) {
      bad = i;
    } else {
      seen[rank / 8] |= (uint8_t)(1u << rank % 8);
    }
  }
  mci_free(seen);
  if (bad != UINT32_MAX)
    MCI_FAIL(meshcclInvalidArgument, "part of a topology: rank %u at place %u is %s", ranks[bad], bad,
             ranks[bad] < topo->nranks ? "listed twice" : "outside the topology");
  return meshcclSuccess;
}

/* The values that the nodes' coordinate `dim` takes: start and extent when they are one run (round a ring: cyclic). */
static bool run_of(const mci_topo* topo, const uint32_t* nodes, uint32_t n, uint32_t dim, uint32_t* values, box* out) {
  for (uint32_t i = 0; i < n; i++) values[i] = nodes[i] / topo->stride[dim] % topo->side[dim];
  qsort(values, n, sizeof *values, compare32);
  uint32_t extent = 0, gaps = 0;
  for (uint32_t i = 0; i < n; i++)
    if (i == 0 || values[i] != values[extent - 1]) values[extent++] = values[i];
  uint32_t start = values[0];
  for (uint32_t i = 1; i < extent; i++) {
    if (values[i] == values[i - 1] + 1) continue;
    gaps++;
    start = values[i];
  }
  bool round = gaps == 1 && mci_topo_wraps(topo, dim) && values[0] == 0 && values[extent - 1] == topo->side[dim] - 1;
  out->start[dim] = round ? start : values[0];
  out->extent[dim] = extent;
  return gaps == 0 || round;
}

static bool box_closed(const mci_topo* topo, const box* b, uint32_t dim) {
  return topo->ring[dim] && b->extent[dim] == topo->side[dim];
}

/* Round the end of a ring the groups of a level must go on as they do elsewhere. */
static bool keeps_levels(const mci_topo* topo, const box* b) {
  for (uint32_t l = 0; l < topo->nlevels; l++) {
    const mci_level* level = &topo->level[l];
    for (uint32_t d = 0; d < topo->ndims; d++) {
      bool round = b->start[d] + b->extent[d] > topo->side[d];
      if (round && (level->before[d] > 0 || topo->side[d] % level->box[d] != 0)) return false;
    }
  }
  return true;
}

static uint32_t offset_in(const mci_topo* topo, const box* b, uint32_t node, uint32_t dim) {
  uint32_t at = node / topo->stride[dim] % topo->side[dim];
  return (at + topo->side[dim] - b->start[dim]) % topo->side[dim];
}

static bool holds_cut(const mci_topo* topo, const box* b) {
  for (uint32_t i = 0; i < topo->ncut; i++) {
    uint32_t node = (uint32_t)(topo->cut[i] / MCI_MAX_DIMS), dim = (uint32_t)(topo->cut[i] % MCI_MAX_DIMS);
    bool inside = true;
    for (uint32_t d = 0; d < topo->ndims; d++) inside = inside && offset_in(topo, b, node, d) < b->extent[d];
    inside = inside && (offset_in(topo, b, node, dim) + 1 < b->extent[dim] || box_closed(topo, b, dim));
    if (inside) return true;
  }
  return false;
}

/* n distinct nodes fill the product of their coordinate ranges exactly when the product has n places. */
static bool find_box(const mci_topo* topo, const uint32_t* nodes, uint32_t n, uint32_t* work, box* out) {
  uint64_t places = 1;
  for (uint32_t d = 0; d < topo->ndims; d++) {
    if (!run_of(topo, nodes, n, d, work, out)) return false;
    places *= out->extent[d];
    if (places > n) return false;
  }
  return places == n && !holds_cut(topo, out) && keeps_levels(topo, out);
}

/* The levels of the parent, seen from inside the box. */
static meshcclResult_t cut_levels(const mci_topo* topo, const box* b, mci_topo* child) {
  MCI_TRY(mci_levels_copy(topo, child));
  for (uint32_t l = 0; l < topo->nlevels; l++) {
    const mci_level* from = &topo->level[l];
    uint32_t *boxes = child->level[l].box, *before = child->level[l].before;
    uint32_t kept = 0;
    boxes[0] = 1; /* the side of a part that is one node */
    before[0] = 0;
    for (uint32_t d = 0; d < topo->ndims; d++) {
      if (b->extent[d] == 1) continue;
      before[kept] = (uint32_t)(((uint64_t)from->before[d] + b->start[d]) % from->box[d]);
      boxes[kept++] = from->box[d];
    }
  }
  mci_levels_prune(child);
  return meshcclSuccess;
}

/* The planes of the parent, seen from inside the box. */
static meshcclResult_t cut_planes(const mci_topo* topo, const box* b, mci_topo* child) {
  uint32_t kept = 0;
  for (uint32_t d = 0; d < topo->ndims; d++)
    if (b->extent[d] > 1) child->apart[kept++] = topo->apart[d];
  for (uint32_t p = 0; p < topo->nplanes; p++) {
    mci_plane* plane = &child->plane[child->nplanes++];
    memcpy(plane->name, topo->plane[p].name, sizeof plane->name);
    plane->link = topo->plane[p].link;
    for (uint32_t i = 0; i < topo->plane[p].npatterns; i++) {
      mci_pattern pattern = {0};
      bool inside = true;
      uint32_t n = 0;
      for (uint32_t d = 0; d < topo->ndims; d++) {
        uint32_t at = topo->plane[p].patterns[i][d];
        if (at != MCI_ANY) at = (at + topo->side[d] - b->start[d]) % topo->side[d];
        inside = inside && (at == MCI_ANY || at < b->extent[d]);
        if (b->extent[d] > 1) pattern[n++] = at;
      }
      if (inside) MCI_TRY(mci_plane_add(plane, pattern));
    }
  }
  return meshcclSuccess;
}

static meshcclResult_t cut_box(const mci_topo* topo, const box* b, mci_topo* child) {
  MCI_TRY(cut_levels(topo, b, child));
  return cut_planes(topo, b, child);
}

static meshcclResult_t copy_packaging(const mci_topo* topo, mci_topo* child) {
  MCI_TRY(mci_levels_copy(topo, child));
  return mci_planes_copy(topo, child);
}

/* map[i]: row-major place of the i-th node inside the box. */
static meshcclResult_t make_box(const mci_topo* topo, const box* b, const uint32_t* nodes, uint32_t n, uint32_t* map,
                                mci_topo** out) {
  uint32_t side[MCI_MAX_DIMS] = {1}, ndims = 0;
  bool ring[MCI_MAX_DIMS] = {false};
  for (uint32_t d = 0; d < topo->ndims; d++) {
    if (b->extent[d] == 1) continue;
    side[ndims] = b->extent[d];
    ring[ndims++] = box_closed(topo, b, d);
  }
  for (uint32_t i = 0; i < n; i++) {
    map[i] = 0;
    for (uint32_t d = 0; d < topo->ndims; d++) map[i] = map[i] * b->extent[d] + offset_in(topo, b, nodes[i], d);
  }
  return mci_grid_create(MCI_MAX(ndims, 1u), side, ring, out);
}

static meshcclResult_t copy_list(const void* list, uint32_t n, size_t size, void* out) {
  if (n == 0) return meshcclSuccess;
  void* copy = mci_alloc(n * size);
  if (!copy) return mci_oom(n * size);
  memcpy(copy, list, n * size);
  memcpy(out, &copy, sizeof copy);
  return meshcclSuccess;
}

/* The parent's geometry; map[i]: place of the i-th node among the picked ones in row-major order. */
static meshcclResult_t make_pick(const mci_topo* topo, const uint32_t* nodes, uint32_t n, uint32_t* map,
                                 mci_topo** out) {
  mci_topo* child = NULL;
  MCI_TRY(mci_grid_create(topo->ndims, topo->side, topo->ring, &child));
  meshcclResult_t result;
  MCI_TRY_OR(copy_list(topo->dead, topo->ndead, sizeof *topo->dead, &child->dead), err_destroy);
  child->ndead = topo->ndead;
  MCI_TRY_OR(copy_list(topo->cut, topo->ncut, sizeof *topo->cut, &child->cut), err_destroy);
  child->ncut = topo->ncut;
  MCI_TRY_OR(copy_list(nodes, n, sizeof *nodes, &child->pick), err_destroy);
  qsort(child->pick, n, sizeof *nodes, compare32);
  for (uint32_t i = 0; i < n; i++) {
    const uint32_t* at = bsearch(&nodes[i], child->pick, n, sizeof *nodes, compare32);
    map[i] = (uint32_t)(at - child->pick);
  }
  child->npick = n;
  *out = child;
  return meshcclSuccess;
err_destroy:
  mci_topo_destroy(child);
  return result;
}

/* A smaller full graph; map[i]: place of the i-th node among all of them. */
static meshcclResult_t make_full(const mci_topo* topo, const uint32_t* nodes, uint32_t n, uint32_t* map,
                                 mci_topo* child) {
  uint32_t* sorted = mci_alloc(n * sizeof *sorted);
  if (!sorted) return mci_oom(n * sizeof *sorted);
  memcpy(sorted, nodes, n * sizeof *sorted);
  qsort(sorted, n, sizeof *sorted, compare32);
  for (uint32_t i = 0; i < n; i++)
    map[i] = (uint32_t)((uint32_t*)bsearch(&nodes[i], sorted, n, sizeof *sorted, compare32) - sorted);
  meshcclResult_t result = meshcclSuccess;
  for (uint32_t l = 0; l < topo->nlevels && result == meshcclSuccess; l++) {
    mci_level* level = &child->level[child->nlevels++];
    memcpy(level->name, topo->level[l].name, sizeof level->name);
    level->link = topo->level[l].link;
    for (uint32_t first = 0, end; first < n && result == meshcclSuccess; first = end) {
      uint32_t group = mci_level_group(topo, &topo->level[l], sorted[first]);
      for (end = first + 1; end < n && mci_level_group(topo, &topo->level[l], sorted[end]) == group;) end++;
      result = mci_level_add_runs(level, end - first, 1);
    }
  }
  mci_free(sorted);
  if (result == meshcclSuccess) mci_levels_prune(child);
  return result;
}

/* boxed NULL: the part keeps the geometry, or is a part of a full graph. */
static meshcclResult_t make_part(const mci_topo* topo, const uint32_t* nodes, uint32_t n, uint32_t* map,
                                 const box* boxed, mci_topo** out) {
  mci_topo* child = NULL;
  if (topo->full) {
    MCI_TRY(mci_topo_full(n, &child));
  } else {
    MCI_TRY(boxed ? make_box(topo, boxed, nodes, n, map, &child) : make_pick(topo, nodes, n, map, &child));
  }
  child->link = topo->link;
  child->routed = topo->routed;
  child->memory = topo->memory;
  meshcclResult_t result;
  MCI_TRY_OR(topo->full ? make_full(topo, nodes, n, map, child)
             : boxed    ? cut_box(topo, boxed, child)
                        : copy_packaging(topo, child),
             err_destroy);
  MCI_TRY_OR(mci_grid_finish(child), err_destroy);
  if (child->pick) mci_levels_drop_outer(child);
  for (uint32_t p = child->nplanes; p-- > 0;)
    if (child->plane[p].nmembers < 2) mci_planes_remove(child, p);
  MCI_TRY_OR(mci_topo_set_map(child, map, n), err_destroy);
  *out = child;
  return meshcclSuccess;
err_destroy:
  mci_topo_destroy(child);
  return result;
}

/* A box whose nodes were joined by what lies outside would fall apart. */
static meshcclResult_t make_any_part(const mci_topo* topo, const uint32_t* nodes, uint32_t n, uint32_t* map,
                                     mci_topo** out) {
  box b = {0};
  bool boxed = !topo->full && find_box(topo, nodes, n, map, &b);
  MCI_TRY(make_part(topo, nodes, n, map, boxed ? &b : NULL, out));
  if (!boxed || mci_topo_connected(*out)) return meshcclSuccess;
  mci_topo_destroy(*out);
  return make_part(topo, nodes, n, map, NULL, out);
}

meshcclResult_t mci_topo_subset(const mci_topo* topo, const uint32_t* ranks, uint32_t n, mci_topo** out) {
  MCI_TRY(check_ranks(topo, ranks, n));
  size_t bytes = n * sizeof(uint32_t);
  uint32_t *nodes = mci_alloc(bytes), *map = mci_alloc(bytes);
  meshcclResult_t result = nodes && map ? meshcclSuccess : mci_oom(bytes);
  if (result == meshcclSuccess) {
    for (uint32_t i = 0; i < n; i++) nodes[i] = mci_grid_node(topo, ranks[i]);
    result = make_any_part(topo, nodes, n, map, out);
  }
  mci_free(nodes);
  mci_free(map);
  return result;
}

meshcclResult_t mci_topo_healthy(const mci_topo* topo, mci_topo** out) {
  mci_topo* whole = NULL;
  MCI_TRY(topo->full ? mci_topo_full(topo->nranks, &whole)
                     : mci_grid_create(topo->ndims, topo->side, topo->ring, &whole));
  whole->link = topo->link;
  whole->routed = topo->routed;
  whole->memory = topo->memory;
  meshcclResult_t result;
  MCI_TRY_OR(copy_list(topo->pick, topo->npick, sizeof *topo->pick, &whole->pick), err_destroy);
  whole->npick = topo->npick;
  MCI_TRY_OR(copy_packaging(topo, whole), err_destroy);
  MCI_TRY_OR(mci_grid_finish(whole), err_destroy);
  *out = whole;
  return meshcclSuccess;
err_destroy:
  mci_topo_destroy(whole);
  return result;
}
