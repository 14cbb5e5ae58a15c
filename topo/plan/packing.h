/* Packed spanning trees (topo/packing.h) for grids with holes and parts of grids. All-reduce: every tree takes its share
 * of the vector in chunks, partial sums travel to the tree's middle and totals back.
 *
 *        o->o<-o        o  o->o         o<-o  o        one round after the other; together they load the links
 *        |     |        v  ^  ^         v     v        alike, and with enough trees nearly as much as the strength
 *        v     o        o->o  o         o  .  o        of the graph allows
 *        o->o->o           ^  |         v     ^
 *                       (dead dies differ)
 *
 * Consecutive trees complement each other, so parts leave in the order chunk by chunk, in it tree by tree. A message
 * d links from the middle leaves d hops before the middle's turn on its way there, and d - 1 hops after it on its way
 * back. Messages of unlike trees meet in no regular way, so a message is counted SLACK times as long as it is: then nearly
 * all that is due has come. Every link sends its messages in this one order: with partial sums and totals on channels
 * of their own, one that runs ahead would hold up the other.
 *
 * The order repeats itself from chunk to chunk, so that a program is a beginning, one period in a loop, and an end.
 *
 * All-gather: the trees belong to ranks and share out their blocks; what starts at the owner is a total. Reduce-scatter
 * is the same backwards, its partial sums stand in scratch, one slot for each tree, which is used again when the chunk
 * before has left it. Ranks with few links bound both, and all other links have room, so these orders forgive a lot.
 *
 * A channel serves the links along one dimension in one direction of which it is every second one (on odd rings one has
 * a third channel): at every rank it either only receives or only sends. It ends and cannot lock: steps wait only for
 * steps with an earlier time, or the same time, part and a child listed before.
 *
 * Sources: Nash-Williams and Tutte 1961, Edmonds 1973 for the bounds that packed trees reach; the order is ours. */
#ifndef MCI_PLAN_PACKING_H
#define MCI_PLAN_PACKING_H

#include "topo/packing.h"
#include "topo/plan/plan.h"

#define MCI_PACKED_SLOT 1024 /* time units from one part to the next */

#define MCI_PACKED_OWN (6 * MCI_MAX_DIMS) /* the channel behind those of links */

typedef struct {
  const mci_packing* trees;
  mci_coll coll; /* all-gather and reduce-scatter: the trees have owners */
  bool wide;
  uint32_t chunks; /* of every tree */
  int64_t hop;     /* time units that the order allows for a hop */
} mci_packed;

meshcclResult_t mci_packed_build(const mci_topo* topo, const mci_packed* packed, uint32_t rank, mci_program** out);

#endif
