/* Levels of packaging inside a topology (graph.h says what they are), for the files of topo/ only. A level of a whole
 * grid or of a full graph is a few numbers; where not every node is a rank, tables per rank say who is in which group.
 *
 * Along a dimension the groups of a level are boxes of equal width, numbered row-major. `before`: how many coordinates
 * of the first box lie outside the grid, which happens in parts of machines:
 *
 *      box 5, before 2, side 9:   o o o | o o o o o | o  */
#ifndef MCI_LEVELS_H
#define MCI_LEVELS_H

#include "topo/graph.h"

#define MCI_MAX_LEVEL_NAME 24 /* with the final NUL */

/* `count` runs of `length` consecutive nodes of a full graph. */
typedef struct {
  uint32_t length, count;
  uint32_t node, group; /* the first ones */
} mci_runs;

typedef struct {
  char name[MCI_MAX_LEVEL_NAME];
  mci_link link;                                    /* between its groups */
  uint32_t box[MCI_MAX_DIMS], before[MCI_MAX_DIMS]; /* grids */
  mci_runs* runs;                                   /* full graphs, ascending */
  uint32_t nruns, cap_runs;
  uint32_t ngroups;                  /* that have ranks */
  uint32_t *group, *first, *members; /* not regular: group per place, first member per group, places by group */
} mci_level;

/* Nodes of a group that is given by its number among all groups, with ranks or without. */
uint32_t mci_level_groups(const mci_topo* topo, const mci_level* level);
uint32_t mci_level_group(const mci_topo* topo, const mci_level* level, uint32_t node);
/* Groups along a dimension of a grid, and the one that coordinate `at` is in. */
uint32_t mci_level_along(const mci_topo* topo, const mci_level* level, uint32_t dim);
uint32_t mci_level_slot(const mci_level* level, uint32_t dim, uint32_t at);

meshcclResult_t mci_level_add_runs(mci_level* level, uint32_t length, uint32_t count);
void mci_level_fini(mci_level* level);
meshcclResult_t mci_levels_copy(const mci_topo* from, mci_topo* to); /* the same nodes */
/* Counts groups, and makes tables where there is no closed form. */
meshcclResult_t mci_levels_finish(mci_topo* topo);
/* Drops what says nothing about a part that has been cut out: levels with one group, with groups of one node, and with
 * the groups of the level above. Before mci_levels_finish. */
void mci_levels_prune(mci_topo* topo);
/* The same for a part that keeps the geometry, after mci_levels_finish: outer levels of which one group has ranks. */
void mci_levels_drop_outer(mci_topo* topo);

/* Class of the link between two neighbouring nodes, and the highest class on the straight way between any two. */
uint32_t mci_levels_class(const mci_topo* topo, uint32_t a, uint32_t b);
/* How many links of a class a line of nodes along a dimension has, from wall to wall or once round. */
uint32_t mci_levels_links(const mci_topo* topo, uint32_t dim, uint32_t link_class);
/* Delay of the straight way, which does not go round, between two coordinates of a dimension. */
uint64_t mci_levels_delay_ps(const mci_topo* topo, uint32_t dim, uint32_t low, uint32_t high);
#endif
