/* Time of rings that go one way. */
#ifndef MCI_PLAN_ROUNDS_H
#define MCI_PLAN_ROUNDS_H

#include "topo/plan/cost.h"

/* A chain of `steps` messages of `piece` bytes, of which each rank passes on message by message what comes: the next
 * one begins when all of the one before has left, and not before its first message has come. */
static inline uint64_t mci_rounds(const mci_link* link, uint64_t piece, uint64_t steps, uint64_t message) {
  uint64_t time = mci_cost_busy(link, piece, message);
  uint64_t first = mci_cost_wire(link, piece < message ? piece : message) + link->cost_ps + link->lat_ps;
  return steps == 0 ? 0 : (steps - 1) * (time > first ? time : first) + time + link->lat_ps;
}

#endif
