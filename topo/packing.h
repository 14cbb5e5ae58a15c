/* Spanning trees that load the links of a topology with holes, or whose links differ, alike: as many trees for as little
 * load on the busiest link as can be found, which comes close to the strength (net.h), the most there is. For all-reduce
 * each tree carries partial sums to its middle and totals back. Kept with the topology: all ranks and all sizes share
 * them. */
#ifndef MCI_PACKING_H
#define MCI_PACKING_H

#include "topo/graph.h"

#define MCI_PACKING_MAX_RANKS 4096
#define MCI_PACKING_MAX_TREES 256
#define MCI_PACKING_PORTS (2 * MCI_MAX_DIMS)
#define MCI_PACKING_UNIT 64 /* load of a tree on a link of the highest rate; slower ones have more */
#define MCI_PACKING_ROOT 0xff

typedef struct mci_packing {
  uint32_t rounds; /* that were asked for */
  uint32_t ntrees; /* 0: the ranks' own links do not join them all */
  uint32_t nranks;
  uint32_t longest; /* links between the two ranks of a tree that are farthest apart, of all trees */
  uint64_t load;    /* of the busiest link, in units */
  uint64_t bw_Bps;  /* the highest rate */
  uint8_t* port;    /* per tree, per rank: place of the parent among mci_topo_neighbors, or ROOT */
  uint16_t* depth;  /* per tree, per rank: links to the middle */
  bool* swaps;      /* per tree: its middle is a link */
  struct mci_packing* next;
} mci_packing;

/* At most `rounds` trees (1 .. MCI_PACKING_MAX_TREES) of a topology with holes or uneven links: not full, at most
 * MCI_PACKING_MAX_RANKS. They stay as long as the topology. Equal topologies get equal trees. A tree's middle is a rank
 * (ROOT, depth 0) or a link: then both its ends have depth 0 and are each other's parent. */
meshcclResult_t mci_topo_packing(const mci_topo* topo, uint32_t rounds, const mci_packing** out);
void mci_packing_destroy(mci_packing* list); /* topo only */

static inline uint8_t mci_packing_port(const mci_packing* p, uint32_t tree, uint32_t rank) {
  return p->port[(size_t)tree * p->nranks + rank];
}
static inline uint32_t mci_packing_depth(const mci_packing* p, uint32_t tree, uint32_t rank) {
  return p->depth[(size_t)tree * p->nranks + rank];
}

#endif
