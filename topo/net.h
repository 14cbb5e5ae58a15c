/* A plain graph of links with capacities and the cuts that bound collectives on it. Exact, in integers; cost grows with
 * the number of nodes squared at best, so bounds.c uses it for graphs with holes up to a few thousand ranks. */
#ifndef MCI_NET_H
#define MCI_NET_H

#include "topo/graph.h"

typedef struct {
  uint32_t nnodes, nlinks;
  uint32_t (*link)[2]; /* the two ends */
  int64_t* cap;        /* per link, at least 1 */
} mci_net;

typedef struct {
  uint64_t num, den;
} mci_ratio;
bool mci_ratio_less(mci_ratio a, mci_ratio b);

/* Ranks and their own links, of capacity of_class[class of the link]. */
meshcclResult_t mci_net_create(const mci_topo* topo, const uint64_t* of_class, mci_net* out);
void mci_net_destroy(mci_net* net);

/* Strength: the least (capacity crossing a partition) / (parts - 1). The graph must be connected and have two nodes. */
meshcclResult_t mci_net_strength(const mci_net* net, mci_ratio* out);
/* Edge connectivity: least capacity whose loss separates the graph, and the nodes on the larger side of such a cut. */
meshcclResult_t mci_net_min_cut(const mci_net* net, uint64_t* capacity, uint32_t* larger_side);
/* Raises *best to the most (nodes outside S) / (capacity leaving S) over sets S with root inside, where that is more.
 */
meshcclResult_t mci_net_spread(const mci_net* net, uint32_t root, mci_ratio* best);
#endif
