/* Bounds of a graph by other means than topo/: a tree packing that proves one side, a partition or cut that proves the
 * other. Reads a topology through its public queries only and shares no code with what it judges. */
#ifndef MCI_TEST_ORACLE_GRAPH_H
#define MCI_TEST_ORACLE_GRAPH_H

#include "topo/graph.h"

typedef struct {
  uint32_t n, nlinks;
  uint32_t (*link)[2];
  double* rate; /* per direction; the finest links have 1 */
} oracle_graph;

/* Links of a topology without planes. */
void oracle_graph_of(const mci_topo* topo, oracle_graph* out);
void oracle_graph_free(oracle_graph* g);

typedef struct {
  double
      partition;  /* (parts - 1) / capacity between the parts of a partition that was found: no all-reduce is faster */
  double packing; /* 1 / value of a packing of spanning trees that was found: an all-reduce this fast exists */
  uint32_t parts, trees;
} oracle_strength;

/* The inverse strength lies between `partition` and `packing`. Stops when they are within `gap` of each other or after
 * `rounds` trees. */
oracle_strength oracle_strength_of(const oracle_graph* g, double gap, uint32_t rounds);
/* Inverse strength over all partitions; at most 9 nodes. */
double oracle_strength_brute(const oracle_graph* g);

/* The most that flows from one node to another, by augmenting paths. */
double oracle_flow(const oracle_graph* g, uint32_t from, uint32_t to);
/* 1 / least flow from root to any node. */
double oracle_broadcast(const oracle_graph* g, uint32_t root);
/* Whether |S| <= factor * n * capacity that leaves S for every set S but the whole: an all-gather of this factor breaks
 * no cut. For each node in turn, every node gets one unit to send to it over links that are factor * n wide. */
bool oracle_gather_fits(const oracle_graph* g, double factor);
#endif
