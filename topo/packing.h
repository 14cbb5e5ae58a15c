/* Spanning trees that load the links of a topology alike, for topologies without a closed form. Two sorts:
 *
 *  - mci_topo_packing, for all-reduce: as many trees for as little load on the busiest link as can be found, which comes
 *    close to the strength (net.h), the most there is. A tree carries partial sums to its middle and totals back.
 *  - mci_topo_owned_packing, for all-gather and reduce-scatter: some trees for every rank, its owner, which carry parts
 *    of the owner's block away from it, or partial sums to it. A link then bears another load each way.
 *
 * Kept with the topology: all ranks and all sizes share them. */
#ifndef MCI_PACKING_H
#define MCI_PACKING_H

#include "topo/graph.h"

#define MCI_PACKING_MAX_RANKS 4096
#define MCI_PACKING_MAX_TREES 256
#define MCI_PACKING_MAX_OWNED 64 /* trees of a rank */
#define MCI_PACKING_PORTS (2 * MCI_MAX_DIMS)
#define MCI_PACKING_UNIT 64 /* load of a tree on a link of the highest rate; slower ones have more */
#define MCI_PACKING_ROOT 0xff

typedef struct mci_packing {
  bool owned;
  uint32_t rounds; /* that were asked for; owned: trees of every rank */
  uint32_t ntrees; /* 0: the ranks' own links do not join them all */
  uint32_t nranks;
  uint32_t longest; /* links between the two ranks of a tree that are farthest apart, or from the owner; of all trees */
  uint64_t load;    /* of the busiest link, in units */
  uint64_t bw_Bps;  /* the highest rate */
  uint32_t* owner;  /* owned: per tree; every rank comes once in each `nranks` trees */
  uint8_t* port;    /* per tree, per rank: place of the parent among mci_topo_neighbors, or ROOT */
  uint16_t* depth;  /* per tree, per rank: links to the middle, or to the owner */
  bool* swaps;      /* per tree: its middle is a link */
  struct mci_packing* next;
} mci_packing;

/* At most `rounds` trees (1 .. MCI_PACKING_MAX_TREES) of a grid of at most MCI_PACKING_MAX_RANKS. They stay as long as
 * the topology. Equal topologies get equal trees. A tree's middle is a rank (ROOT, depth 0) or a link: then both its
 * ends have depth 0 and are each other's parent. */
meshcclResult_t mci_topo_packing(const mci_topo* topo, uint32_t rounds, const mci_packing** out);
/* `each` trees (1 .. MCI_PACKING_MAX_OWNED) for every rank, likewise. */
meshcclResult_t mci_topo_owned_packing(const mci_topo* topo, uint32_t each, const mci_packing** out);
void mci_packing_destroy(mci_packing* list); /* topo only */

static inline uint8_t mci_packing_port(const mci_packing* p, uint32_t tree, uint32_t rank) {
  return p->port[(size_t)tree * p->nranks + rank];
}
static inline uint32_t mci_packing_depth(const mci_packing* p, uint32_t tree, uint32_t rank) {
  return p->depth[(size_t)tree * p->nranks + rank];
}

#endif
