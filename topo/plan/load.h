/* Full graphs with levels, or with shared memory: what shared ways mean to families that know nothing of them. All that
 * leaves a group, and all that enters it, shares the rate of its class; so does all that one rank reads of shared memory
 * (docs/topology-format.md). */
#ifndef MCI_PLAN_LOAD_H
#define MCI_PLAN_LOAD_H

#include "topo/plan/phases.h"
#include "topo/plan/spanning.h"

/* Time of the busiest link or way out when every rank sends `bytes` to every other; *messages over it. */
uint64_t mci_load_all_pairs(const mci_topo* topo, uint64_t bytes, uint64_t* messages);
/* The same when every rank sends to one (gathers), or one to all. */
uint64_t mci_load_to_one(const mci_topo* topo, uint32_t root, bool gathers, uint64_t bytes, uint64_t* messages);
/* The same when the edges of a tree each carry one message up, or down, at the root's groups, which have most of them. */
uint64_t mci_load_tree(const mci_tree* tree, bool up, uint64_t bytes, uint64_t* messages);
/* The busiest link, or way out, of the ring in rank order, with the mean delay of its slowest chain. */
mci_axis_links mci_load_ring(const mci_topo* topo, bool one_way);

#endif
