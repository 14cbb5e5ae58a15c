/* What both searches for trees (packing.c, packing_owners.c) share: the ranks' own links with the load of a tree on
 * each, and a heap of links that a growing tree could take next. */
#ifndef MCI_PACKING_GRAPH_H
#define MCI_PACKING_GRAPH_H

#include "topo/packing.h"

#define MCI_PACKING_NONE UINT32_MAX

typedef struct {
  uint64_t key; /* cost in the upper bits, then depth, then chance */
  uint32_t from;
  uint32_t port;
} mci_packing_way;

typedef struct {
  uint32_t n, nlinks;
  uint64_t bw_Bps;                     /* the highest rate */
  uint32_t (*peer)[MCI_PACKING_PORTS]; /* per rank and port; NONE: no more */
  uint32_t (*link)[MCI_PACKING_PORTS]; /* number of the link */
  uint8_t (*back)[MCI_PACKING_PORTS];  /* the port of the other end */
  uint64_t* weight;                    /* per link: load of one tree, MCI_PACKING_UNIT at the highest rate */
  mci_packing_way* heap;
  uint32_t nheap;
  uint64_t random;
} mci_packing_graph;

meshcclResult_t mci_packing_graph_create(const mci_topo* topo, mci_packing_graph* out);
void mci_packing_graph_destroy(mci_packing_graph* g);

/* A fixed sequence of 20 bits each. With any regular rule for ties the same links would lose every time. */
static inline uint32_t mci_packing_random(mci_packing_graph* g) {
  g->random ^= g->random << 13;
  g->random ^= g->random >> 7;
  g->random ^= g->random << 17;
  return (uint32_t)(g->random >> 44);
}

void mci_packing_push(mci_packing_graph* g, mci_packing_way way);
mci_packing_way mci_packing_pop(mci_packing_graph* g); /* one with the least key; there must be one */

/* Whether the ranks' own links join them all; `queue` has room for every rank, `seen` a byte each. */
static inline uint64_t mci_packing_key(uint64_t cost, uint32_t depth, uint32_t chance) {
  return cost << 32 | (uint64_t)depth << 20 | chance;
}

/* The two makers; `kind` decides. */
meshcclResult_t mci_packing_grow_any(const mci_topo* topo, mci_packing* packing);
meshcclResult_t mci_packing_grow_owned(const mci_topo* topo, mci_packing* packing);

#endif
