/* The inside of mci_topo, for the files of topo/ only. A grid has nodes, numbered row-major; its ranks are the live
 * nodes (or the picked ones) in that order, permuted by the rank map. Nothing here costs memory per node while the grid
 * is whole: dead nodes, cut links and picked nodes are short sorted lists that are searched. */
#ifndef MCI_GRID_H
#define MCI_GRID_H

#include <pthread.h>

#include "topo/graph.h"
#include "topo/levels.h"
#include "topo/planes.h"
#include "topo/units.h"

#define MCI_MAX_NODES 2147483647u      /* ranks are an int in the public API */
#define MCI_MAX_LISTED_NODES 16777216u /* of grids whose damage or ranks are listed: searches take memory per node */

/* Distances by breadth-first search, for grids that have no closed form. The row of the last source is kept. */
typedef struct {
  pthread_mutex_t lock;
  uint32_t* dist;  /* per node, from source */
  uint32_t* queue; /* per node */
  int64_t source;  /* -1: none yet */
  uint32_t diameter;
  bool has_diameter;
} mci_walk;

struct mci_topo {
  bool full;
  bool routed;
  bool memory;
  uint32_t ndims;
  uint32_t side[MCI_MAX_DIMS], stride[MCI_MAX_DIMS];
  bool ring[MCI_MAX_DIMS]; /* as written; a side of 1 or 2 wraps all the same to nothing */
  uint32_t nodes, nranks;
  mci_link link;
  uint32_t* dead; /* node numbers, ascending */
  uint32_t ndead, cap_dead;
  uint64_t* cut; /* link numbers (mci_grid_link), ascending */
  uint32_t ncut, cap_cut;
  uint32_t* pick; /* node numbers, ascending; NULL: all live nodes are ranks */
  uint32_t npick, cap_pick;
  uint32_t* map;            /* rank -> place among the ranks' nodes; NULL: identity */
  uint32_t* place;          /* the inverse of map */
  bool apart[MCI_MAX_DIMS]; /* as written */
  uint32_t nplanes;
  mci_plane plane[MCI_MAX_PLANES];
  uint32_t nlevels;
  mci_level level[MCI_MAX_LEVELS];
  bool connected;
  mci_walk* walk; /* NULL: closed forms serve */
  pthread_mutex_t packings_lock;
  struct mci_packing* packings;      /* packing.h; those that somebody asked for */
  struct mci_branchings* branchings; /* branchings.h; those asked for last; under the same lock */
};

/* A new topology without options; `side` and `ring` have ndims entries (0: full graph of side[0] ranks). */
meshcclResult_t mci_grid_create(uint32_t ndims, const uint32_t* side, const bool* ring, mci_topo** out);
/* Sorts the lists and drops what says nothing; harmless when repeated. */
void mci_grid_sort(mci_topo* topo);
/* Sorts, counts the ranks and makes what queries need. Called once, before anybody else sees the topology. */
meshcclResult_t mci_grid_finish(mci_topo* topo);
/* Writes why map is not a permutation of 0..n-1, or "". */
meshcclResult_t mci_grid_check_map(const uint32_t* map, uint32_t n, char* reason, size_t size);

void mci_grid_split(const mci_topo* topo, uint32_t node, uint32_t coords[MCI_MAX_DIMS]);
uint32_t mci_grid_join(const mci_topo* topo, const uint32_t coords[MCI_MAX_DIMS]);
void mci_grid_print_node(const mci_topo* topo, uint32_t node, mci_str* out); /* "2.3" */
/* The node one step along dim, up or down, whether it works or not; -1 at a wall and where the dimension is apart. */
int64_t mci_grid_step(const mci_topo* topo, uint32_t node, uint32_t dim, bool up);
/* The same over a working link to a node that takes messages; -1 otherwise. */
int64_t mci_grid_next(const mci_topo* topo, uint32_t node, uint32_t dim, bool up);
uint64_t mci_grid_link(uint32_t node, uint32_t dim);          /* number of the link from node upwards along dim */
uint32_t mci_grid_ports(const mci_topo* topo, uint32_t node); /* working links of a node */
bool mci_grid_is_dead(const mci_topo* topo, uint32_t node);
uint32_t mci_grid_node(const mci_topo* topo, uint32_t rank);
uint32_t mci_grid_node_at(const mci_topo* topo, uint32_t place); /* place: as in the rank map */
int64_t mci_grid_rank(const mci_topo* topo, uint32_t node);      /* -1: the node is no rank */

meshcclResult_t mci_walk_create(const mci_topo* topo, mci_walk** out);
void mci_walk_destroy(mci_walk* walk);
bool mci_walk_connected(const mci_topo* topo);

#endif
