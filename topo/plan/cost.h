/* Integer arithmetic of the cost formulas, in picoseconds. */
#ifndef MCI_PLAN_COST_H
#define MCI_PLAN_COST_H

#include "topo/plan/plan.h"

/* total * numerator / denominator, rounded up, without overflow in between. */
static inline uint64_t mci_cost_share(uint64_t total, uint64_t numerator, uint64_t denominator) {
  unsigned __int128 product = (unsigned __int128)total * numerator;
  return (uint64_t)((product + denominator - 1) / denominator);
}

/* Time that `bytes` keep a link busy. */
static inline uint64_t mci_cost_wire(const mci_link* link, uint64_t bytes) {
  return mci_cost_share(bytes, UINT64_C(1000000000000), link->bw_Bps);
}

/* Largest message that the request allows. */
static inline uint64_t mci_cost_message(const mci_request* request) {
  return request->message_bytes ? request->message_bytes : 131072;
}

/* Time that `bytes` keep a link busy when they are cut into messages of at most `message` bytes. */
static inline uint64_t mci_cost_busy(const mci_link* link, uint64_t bytes, uint64_t message) {
  uint64_t messages = bytes <= message ? 1 : (bytes + message - 1) / message;
  return mci_cost_wire(link, bytes) + messages * link->cost_ps;
}

/* Messages of a lane that may be under way; where there are more, each waits for one's return. */
#define MCI_COST_CREDITS 8

/* Time from one message to the next on a lane over `hops` links that sends without end. */
static inline uint64_t mci_cost_pace(const mci_link* link, uint64_t message, uint64_t hops) {
  uint64_t busy = mci_cost_wire(link, message) + link->cost_ps, turn = hops * (busy + 2 * link->lat_ps);
  return MCI_MAX(busy, (turn + MCI_COST_CREDITS - 1) / MCI_COST_CREDITS);
}

/* Time in which a lane over `hops` links sends `bytes` in messages of at most `message` bytes. */
static inline uint64_t mci_cost_lane(const mci_link* link, uint64_t bytes, uint64_t message, uint64_t hops) {
  uint64_t busy = mci_cost_busy(link, bytes, message);
  if (bytes / message <= MCI_COST_CREDITS) return busy;
  uint64_t last = MCI_COST_CREDITS * (mci_cost_wire(link, message) + link->cost_ps);
  uint64_t paced = (bytes / message - MCI_COST_CREDITS) * mci_cost_pace(link, message, hops) + last;
  return MCI_MAX(busy, paced);
}

/* The link as a lane finds it that sends messages of `message` bytes over it without end: no faster than credits come
 * back. */
static inline mci_link mci_cost_paced(const mci_link* link, uint64_t message) {
  mci_link out = *link;
  uint64_t free = mci_cost_wire(link, message) + link->cost_ps, pace = mci_cost_pace(link, message, 1);
  if (pace > free) out.bw_Bps = MCI_MAX(1u, (uint64_t)((unsigned __int128)link->bw_Bps * free / pace));
  return out;
}

/* Smallest message worth cutting a larger one into. */
#define MCI_COST_MIN_MESSAGE 8192

/* The same for chunks that ranks pass on. Where all are on one host, whose processors handle every message, none is
 * smaller than it has to be. */
static inline uint64_t mci_cost_min_chunk(const mci_topo* topo, const mci_request* request) {
  bool one_host = mci_topo_is_memory(topo) && mci_topo_nlevels(topo) == 0;
  return one_host ? mci_cost_message(request) : MCI_COST_MIN_MESSAGE;
}

#endif
