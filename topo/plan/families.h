/* The families of algorithms (one file each; table.c lists them in order) and what several of them use. */
#ifndef MCI_PLAN_FAMILIES_H
#define MCI_PLAN_FAMILIES_H

#include "topo/plan/axis.h"
#include "topo/plan/phases.h"
#include "topo/plan/plan.h"

extern const mci_family mci_family_exchange;
extern const mci_family mci_family_direct;
extern const mci_family mci_family_bidir_ring;
extern const mci_family mci_family_ring;
extern const mci_family mci_family_grid;
extern const mci_family mci_family_comb;
extern const mci_family mci_family_sweep;
extern const mci_family mci_family_packing;
extern const mci_family mci_family_tree;
extern const mci_family mci_family_arcs;
extern const mci_family mci_family_ports;
extern const mci_family mci_family_staged;
extern const mci_family mci_family_hier;
extern const mci_family mci_family_hier_ring;
extern const mci_family mci_family_hier_tree;
extern const mci_family mci_family_halving_doubling;
extern const mci_family mci_family_recursive_doubling;
extern const mci_family mci_family_swing;
extern const mci_family mci_family_double_tree;
extern const mci_family mci_family_ham_rings;
extern const mci_family mci_family_torus_2d;

#define MCI_COLL_BIT(coll) (1u << (coll))

/* ---- routes.c: who shares links when messages take routes ---- */
/* Messages over the busiest link direction when every rank sends one to every other. Exact for dimension-order routes
 * on whole grids, an estimate from the sides around holes. */
uint64_t mci_routes_all_pairs(const mci_topo* topo);
/* The same when every rank sends one to root, or root one to each. */
uint64_t mci_routes_to_one(const mci_topo* topo, uint32_t root);
/* NULL when every pair may exchange messages, else why not. */
const char* mci_routes_refuse_pairs(const mci_topo* topo, char* buffer, size_t size);

/* ---- grid_axes.c: whole grids ---- */
/* NULL when the ranks are all of a grid that has its links, else why not. */
const char* mci_grid_refuse(const mci_topo* topo);
/* The dimensions longer than 1 as axes with the rank's neighbours; returns how many. */
uint32_t mci_grid_axes(const mci_topo* topo, uint32_t rank, mci_axis axes[MCI_MAX_DIMS]);
/* Rank at every position in grid order, to be freed; NULL when that is rank order. */
meshcclResult_t mci_grid_places(const mci_topo* topo, uint32_t** out);
/* A program of phases whose axes are the grid's. */
meshcclResult_t mci_grid_build(const mci_topo* topo, const mci_phases* phases, const char* name, uint32_t rank,
                               const mci_plan_cost* cost, mci_program** out);

/* ---- cycle.c: a closed way through all ranks ---- */
typedef struct {
  uint64_t round;    /* hops of one turn; the number of ranks when every step is a link */
  uint32_t from, to; /* a step that is not a link, when there is one */
} mci_cycle;
void mci_cycle_of(const mci_topo* topo, mci_cycle* out);
uint32_t mci_cycle_rank(const mci_topo* topo, uint32_t position);
uint32_t mci_cycle_position(const mci_topo* topo, uint32_t rank);

#endif
