/* Planes inside a topology: switches that join some nodes beside or instead of the links of the grid (graph.h). For the
 * files of topo/ only. A plane costs memory per member. */
#ifndef MCI_PLANES_H
#define MCI_PLANES_H

#include "topo/levels.h"

#define MCI_ANY UINT32_MAX /* in a pattern: any coordinate */

typedef uint32_t mci_pattern[MCI_MAX_DIMS];

typedef struct {
  char name[MCI_MAX_LEVEL_NAME];
  mci_link link; /* of every member's port */
  mci_pattern* patterns;
  uint32_t npatterns, cap_patterns;
  uint32_t* members; /* nodes that work and take messages, ascending */
  uint32_t nmembers;
} mci_plane;

/* One text per plane: sorted, nothing twice. */
void mci_plane_settle(const mci_topo* topo, mci_plane* plane);
meshcclResult_t mci_plane_add(mci_plane* plane, const mci_pattern pattern);
bool mci_plane_fits(const mci_topo* topo, const mci_plane* plane, uint32_t node);
/* Nodes times patterns that finding the members may take. */
#define MCI_MAX_PLANE_WORK (1u << 28)
bool mci_plane_has(const mci_plane* plane, uint32_t node); /* among the members */
void mci_plane_fini(mci_plane* plane);
void mci_planes_remove(mci_topo* topo, uint32_t p);
meshcclResult_t mci_planes_copy(const mci_topo* from, mci_topo* to);
meshcclResult_t mci_planes_finish(mci_topo* topo); /* lists the members */
#endif
