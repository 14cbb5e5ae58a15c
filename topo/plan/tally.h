/* Counts messages per link direction, ports included, over the routes that they take; for families whose ways have no
 * closed form. */
#ifndef MCI_PLAN_TALLY_H
#define MCI_PLAN_TALLY_H

#include "topo/graph.h"

typedef struct {
  uint64_t id;
  mci_link link;
  uint64_t messages; /* 0: a free place */
} mci_tally_entry;

typedef struct {
  mci_tally_entry* table;
  uint32_t slots, used;
  mci_hop* route;
  uint32_t cap_route;
} mci_tally;

/* Begins with all fields 0. */
meshcclResult_t mci_tally_add(mci_tally* tally, const mci_topo* topo, uint32_t from, uint32_t to);
/* Time of the busiest link when each message has `bytes`, and how many messages that one carries. */
uint64_t mci_tally_busiest(const mci_tally* tally, uint64_t bytes, uint64_t* messages);
void mci_tally_fini(mci_tally* tally);

#endif
