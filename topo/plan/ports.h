/* Routes for gather and scatter that load all links of the root alike: between ports.c, the family, and
 * ports_routes.c, which finds them. */
#ifndef MCI_PLAN_PORTS_H
#define MCI_PLAN_PORTS_H

#include "topo/graph.h"

#define MCI_PORTS_MAX_RANKS 2048 /* programs list every block that passes; each rank works out all routes */
#define MCI_PORTS_MAX_PARTS 4    /* of a block */
#define MCI_PORTS_MAX_BRANCHES (2 * MCI_MAX_DIMS)

/* An item is one part of one rank's block; items are numbered rank by rank. */
typedef struct {
  uint32_t nranks, root, parts;
  uint32_t branches; /* links of the root */
  uint32_t longest;  /* links, of all routes */
  uint32_t* first;   /* per item: index into `way`; items of the root have none */
  uint32_t* hops;    /* per item: links of its route */
  uint32_t* way;     /* the ranks of each route from the root on, without the root; the last one is the item's rank */
  uint32_t nway, cap_way;
  uint64_t most;   /* items over a link of the highest rate, at most; over others in proportion */
  uint64_t bw_Bps; /* that rate */
  bool cross;      /* routes over different links of the root have links in common */
} mci_ports;

/* *out has no way (longest 0) when the ranks' own links do not join them all. */
meshcclResult_t mci_ports_find(const mci_topo* topo, uint32_t root, uint32_t parts, mci_ports* out);
/* Trees on connected regions around the links of the root, of at most `wanted` ranks each. *found: there are such. */
meshcclResult_t mci_ports_regions(uint32_t n, uint32_t root, const uint32_t (*peer)[MCI_PORTS_MAX_BRANCHES],
                                  const uint64_t* wanted, uint32_t* parent_out, bool* found);
void mci_ports_fini(mci_ports* ports);
/* Number of the root's link that the item's route takes. */
uint32_t mci_ports_branch(const mci_topo* topo, const mci_ports* ports, uint32_t item);

#endif
