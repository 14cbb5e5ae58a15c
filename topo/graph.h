/* The topology: who the ranks are and which links they have. A value: parsed, printed, queried; no sockets, no clock,
 * no environment. Regular grids answer every query in closed form (no table per rank); holes and subsets keep tables.
 *
 *   ring:8  line:5  mesh:5x5  torus:4x4  torus:4x4x4  full:4     options after '@', separated by ',':
 *   50GB/s (rate per direction)  500ns (delay per hop)  o=20ns (cost per message)  dead=2.3+4.1  cut=0.0-0.1
 *   routed | neighbours | memory (full: the ranks share memory)    map=3.1.0.2 (rank map)   wrap=x (mesh: dimensions that close to rings)
 *   pick=0.0+1.1 (the ranks are these nodes only; the others still route)
 *   level=tile:5x5:900GB/s:1us (packaging, below; on a full graph level=host:4+4+3)
 *   plane=sw:50GB/s:1us:*.0 (a switch that joins these nodes)   apart=y (dimensions without links)
 * Coordinates are row.column, slowest dimension first. Defaults 50GB/s, 500ns, o=0, routed. */
#ifndef MCI_GRAPH_H
#define MCI_GRAPH_H

#include "base/base.h"

#define MCI_MAX_DIMS 4

typedef struct mci_topo mci_topo;

typedef struct {
  uint64_t bw_Bps;  /* per direction */
  uint64_t lat_ps;  /* delay per hop; does not occupy the link */
  uint64_t cost_ps; /* occupation of the link per message, on top of its bytes */
} mci_link;

meshcclResult_t mci_topo_parse(const char* spec, mci_topo** out);
meshcclResult_t mci_topo_full(uint32_t nranks, mci_topo** out);     /* every pair joined directly */
meshcclResult_t mci_topo_print(const mci_topo* topo, mci_str* out); /* print(parse(x)) parses to the same */
void mci_topo_destroy(mci_topo* topo);
/* map[rank] = node index in row-major order over live nodes; a permutation, checked. */
meshcclResult_t mci_topo_set_map(mci_topo* topo, const uint32_t* map, uint32_t n);
/* The part that `ranks` (of topo, in the child's rank order) span: a box of a grid stays a grid, a full ring stays a
 * ring; anything else keeps the parent's geometry, and pairs that are not adjacent talk over routed paths. Levels that
 * no longer separate anybody are dropped: a part within one group of level 0 is flat, and so is one with one rank per
 * group, whose links then have the figures between groups. */
meshcclResult_t mci_topo_subset(const mci_topo* topo, const uint32_t* ranks, uint32_t n, mci_topo** out);

uint32_t mci_topo_nranks(const mci_topo* topo);
uint32_t mci_topo_ndims(const mci_topo* topo); /* full: 0 */
uint32_t mci_topo_side(const mci_topo* topo, uint32_t dim);
bool mci_topo_wraps(const mci_topo* topo, uint32_t dim); /* a side of 1 or 2 never wraps: there is one link at most */
bool mci_topo_is_full(const mci_topo* topo);
bool mci_topo_is_regular(const mci_topo* topo); /* a whole grid: nothing dead, cut or apart; maybe planes */
bool mci_topo_is_uneven(const mci_topo* topo);  /* links have different rates */
bool mci_topo_is_mapped(const mci_topo* topo);  /* the rank map is not the identity */
bool mci_topo_routed(const mci_topo* topo);
/* A full graph whose ranks (those of one group of the finest level) share memory: a rank reads what others wrote, one
 * message after the other, and any number may read the same at once. So the finest "links" are the ranks' own reading. */
bool mci_topo_is_memory(const mci_topo* topo);
mci_link mci_topo_link(const mci_topo* topo); /* figures of the links inside the finest level */
void mci_topo_coords(const mci_topo* topo, uint32_t rank, uint32_t coords[MCI_MAX_DIMS]);
int64_t mci_topo_rank_at(const mci_topo* topo, const uint32_t coords[MCI_MAX_DIMS]); /* -1: dead or no rank */
/* Ranks at the other ends of a rank's own links, ascending by dimension and direction, without repeats; returns how
 * many there are (on grids at most 2 * MCI_MAX_DIMS), fills at most cap of them. Ranks beyond a switch are not among
 * them. */
uint32_t mci_topo_neighbors(const mci_topo* topo, uint32_t rank, uint32_t* out, uint32_t cap);
bool mci_topo_adjacent(const mci_topo* topo, uint32_t a, uint32_t b); /* one hop: a link or a plane */
/* Hops of the route from a to b: dimension order (last dimension first), the short way round a ring, around holes and
 * through planes by breadth-first search. UINT32_MAX when there is none. */
uint32_t mci_topo_hops(const mci_topo* topo, uint32_t a, uint32_t b);
/* A link in one direction, as a route crosses it. */
typedef struct {
  uint64_t id; /* the same for every route that crosses it */
  mci_link link;
  bool port; /* a way to the next port, which takes each message as it comes: has no delay, the last port has it */
} mci_hop;
/* The links of that route in order; returns how many there are, fills at most cap of them. Through a plane they are the
 * two ports, and on a full graph with levels the ports of the groups that it leaves, then of those that it enters.
 * Where own links join both ends, a plane is only taken when the delay is less, so that there may be more links than
 * hops. */
uint32_t mci_topo_route(const mci_topo* topo, uint32_t a, uint32_t b, mci_hop* out, uint32_t cap);
bool mci_topo_connected(const mci_topo* topo); /* every pair has a route */
/* Hops of the longest route from one rank, and from any. With holes and too many ranks to search from each, the
 * diameter comes from a few sweeps and may be too small, never too large. */
uint32_t mci_topo_eccentricity(const mci_topo* topo, uint32_t rank);
uint32_t mci_topo_diameter(const mci_topo* topo);
uint64_t mci_topo_nlinks(const mci_topo* topo); /* links between ranks, each counted once, and ranks' ports to planes */
void mci_topo_degrees(const mci_topo* topo, uint32_t* low, uint32_t* high); /* fewest and most links of a rank */
uint32_t mci_topo_ndead(const mci_topo* topo);
uint32_t mci_topo_ncut(const mci_topo* topo);

/* ---- levels: how the nodes are packaged, from the inside out ----
 * A level cuts the nodes into groups: boxes of equal sides on a grid (the last ones may be smaller), runs of
 * consecutive nodes on a full graph (hosts with unequal numbers of ranks). The groups of a level lie within those of
 * the next. Links within a group of level 0 have the figures of mci_topo_link; a link between two groups of level l
 * that lies within one group of level l + 1 has the figures of level l (its class is l + 1, the inside of level 0 is
 * class 0). On a full graph the links that leave a group share its one port: all that leaves, or enters, has the
 * level's rate together, as the ranks of a host share its network. A level may have one group of all ranks, or only
 * groups of one rank. */
#define MCI_MAX_LEVELS 6
uint32_t mci_topo_nlevels(const mci_topo* topo); /* 0: flat */
const char* mci_topo_level_name(const mci_topo* topo, uint32_t level);
uint32_t mci_topo_ngroups(const mci_topo* topo, uint32_t level);                    /* that have ranks */
uint32_t mci_topo_group(const mci_topo* topo, uint32_t level, uint32_t rank);       /* groups are numbered row-major */
uint32_t mci_topo_group_size(const mci_topo* topo, uint32_t level, uint32_t group); /* ranks in it */
/* The i-th rank of a group, in the order of nodes. */
uint32_t mci_topo_group_rank(const mci_topo* topo, uint32_t level, uint32_t group, uint32_t i);
uint32_t mci_topo_nclasses(const mci_topo* topo); /* nlevels + 1 */
mci_link mci_topo_class(const mci_topo* topo, uint32_t link_class);
/* Measured figures instead of the described ones; before the topology is asked by other threads. */
void mci_topo_set_class(mci_topo* topo, uint32_t link_class, mci_link link);
/* Highest class of the links on the straight way from a to b, as if no node or link were missing: 0 within a group of
 * level 0. For neighbours it is the class of their link. */
uint32_t mci_topo_pair_class(const mci_topo* topo, uint32_t a, uint32_t b);

/* ---- planes: switches that join some nodes, beside the links of the grid or instead of those of a dimension ----
 * Every member has one port of the plane's rate to the switch; a crossing is one hop with its delay. Members are
 * adjacent but not listed as neighbours; their ports count as links and in the degrees. */
#define MCI_MAX_PLANES 4
uint32_t mci_topo_nplanes(const mci_topo* topo);
const char* mci_topo_plane_name(const mci_topo* topo, uint32_t plane);
mci_link mci_topo_plane_link(const mci_topo* topo, uint32_t plane);
uint32_t mci_topo_plane_size(const mci_topo* topo, uint32_t plane); /* nodes with a port, ranks or not */
bool mci_topo_in_plane(const mci_topo* topo, uint32_t plane, uint32_t rank);
bool mci_topo_apart(const mci_topo* topo, uint32_t dim); /* no links along dim */

/* Slowest rate and highest cost per message of all links and ports that there are, and of the links along a dimension.
 * The delay is the mean of a hop on a way through all of it, so that hops times delay is about the delay of a way; of a
 * ring of unequal links, and of a full graph, the longest one. */
mci_link mci_topo_worst(const mci_topo* topo);
mci_link mci_topo_axis_worst(const mci_topo* topo, uint32_t dim);

/* The same topology with every node and link working and no rank map: what damage is compared with. */
meshcclResult_t mci_topo_healthy(const mci_topo* topo, mci_topo** out);
/* A text drawing for people; empty for more than two dimensions or very large grids. */
meshcclResult_t mci_topo_draw(const mci_topo* topo, mci_str* out);
#endif
