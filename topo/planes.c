/* Planes: which nodes a switch joins. Ways through them are route.c, reading is spec_plane.c. */
#include "topo/planes.h"

#include <stdlib.h>
#include <string.h>

#include "topo/grid.h"

meshcclResult_t mci_plane_add(mci_plane* plane, const mci_pattern pattern) {
  MCI_TRY(mci_grow(&plane->patterns, sizeof *plane->patterns, &plane->cap_patterns, (size_t)plane->npatterns + 1));
  memcpy(plane->patterns[plane->npatterns++], pattern, sizeof(mci_pattern));
  return meshcclSuccess;
}

static int compare(const void* a, const void* b) {
  const uint32_t *x = a, *y = b;
  for (uint32_t d = 0; d < MCI_MAX_DIMS; d++)
    if (x[d] != y[d]) return x[d] < y[d] ? -1 : 1;
  return 0;
}

void mci_plane_settle(const mci_topo* topo, mci_plane* plane) {
  for (uint32_t i = 0; i < plane->npatterns; i++)
    for (uint32_t d = topo->ndims; d < MCI_MAX_DIMS; d++) plane->patterns[i][d] = 0;
  if (plane->npatterns) qsort(plane->patterns, plane->npatterns, sizeof *plane->patterns, compare);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < plane->npatterns; i++)
    if (kept == 0 || compare(plane->patterns[i], plane->patterns[kept - 1]) != 0)
      memmove(plane->patterns[kept++], plane->patterns[i], sizeof *plane->patterns);
  plane->npatterns = kept;
}

bool mci_plane_fits(const mci_topo* topo, const mci_plane* plane, uint32_t node) {
  uint32_t at[MCI_MAX_DIMS];
  mci_grid_split(topo, node, at);
  for (uint32_t i = 0; i < plane->npatterns; i++) {
    bool fits = true;
    for (uint32_t d = 0; d < topo->ndims && fits; d++)
      fits = plane->patterns[i][d] == MCI_ANY || plane->patterns[i][d] == at[d];
    if (fits) return true;
  }
  return false;
}

bool mci_plane_has(const mci_plane* plane, uint32_t node) {
  uint32_t low = 0, high = plane->nmembers;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (plane->members[middle] < node) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < plane->nmembers && plane->members[low] == node;
}

void mci_plane_fini(mci_plane* plane) {
  mci_free(plane->patterns);
  mci_free(plane->members);
  *plane = (mci_plane){.nmembers = 0};
}

void mci_planes_remove(mci_topo* topo, uint32_t p) {
  mci_plane_fini(&topo->plane[p]);
  topo->nplanes--;
  memmove(&topo->plane[p], &topo->plane[p + 1], (topo->nplanes - p) * sizeof *topo->plane);
  topo->plane[topo->nplanes] = (mci_plane){.nmembers = 0};
}

meshcclResult_t mci_planes_copy(const mci_topo* from, mci_topo* to) {
  memcpy(to->apart, from->apart, sizeof to->apart);
  for (uint32_t p = 0; p < from->nplanes; p++) {
    mci_plane* plane = &to->plane[to->nplanes++];
    memcpy(plane->name, from->plane[p].name, sizeof plane->name);
    plane->link = from->plane[p].link;
    for (uint32_t i = 0; i < from->plane[p].npatterns; i++) MCI_TRY(mci_plane_add(plane, from->plane[p].patterns[i]));
  }
  return meshcclSuccess;
}

static bool takes_messages(const mci_topo* topo, uint32_t node) {
  return !mci_grid_is_dead(topo, node) && (topo->routed || !topo->pick || mci_grid_rank(topo, node) >= 0);
}

meshcclResult_t mci_planes_finish(mci_topo* topo) {
  for (uint32_t p = 0; p < topo->nplanes; p++) {
    mci_plane* plane = &topo->plane[p];
    uint32_t cap = 0;
    mci_plane_settle(topo, plane);
    for (uint32_t node = 0; node < topo->nodes; node++) {
      if (!takes_messages(topo, node) || !mci_plane_fits(topo, plane, node)) continue;
      MCI_TRY(mci_grow(&plane->members, sizeof *plane->members, &cap, (size_t)plane->nmembers + 1));
      plane->members[plane->nmembers++] = node;
    }
  }
  return meshcclSuccess;
}

/* ---- queries ---- */

uint32_t mci_topo_nplanes(const mci_topo* topo) { return topo->nplanes; }
const char* mci_topo_plane_name(const mci_topo* topo, uint32_t plane) { return topo->plane[plane].name; }
mci_link mci_topo_plane_link(const mci_topo* topo, uint32_t plane) { return topo->plane[plane].link; }
bool mci_topo_in_plane(const mci_topo* topo, uint32_t plane, uint32_t rank) {
  return mci_plane_has(&topo->plane[plane], mci_grid_node(topo, rank));
}
uint32_t mci_topo_plane_size(const mci_topo* topo, uint32_t plane) { return topo->plane[plane].nmembers; }
bool mci_topo_apart(const mci_topo* topo, uint32_t dim) {
  return dim < topo->ndims && topo->apart[dim] && topo->side[dim] > 1;
}
