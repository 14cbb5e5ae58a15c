/* The simulator: runs the programs of all ranks on the links of a topology, message by message, and says how long they
 * take. Nothing is measured and nothing is random: equal inputs give equal reports, in integer picoseconds.
 *
 * What is modelled:
 *  - Every chunk is cut into messages of at most `message_bytes`, as the executor cuts slices. A step runs message by
 *    message when its arrivals are there and its `after` conditions hold; steps of one channel run in order, channels
 *    advance independently. A step that only sends is over at once, its messages wait on their lanes.
 *  - A lane (source, destination, channel) has `credits` messages under way; the credit of one returns when the
 *    receiver's step has taken it, after the delay of the way back. Credits occupy no link.
 *  - A message goes along the links of its route (mci_topo_route). It occupies a link direction for cost + bytes / rate
 *    and is at the next node the link's delay after that: store and forward. With cut_through its first byte is there
 *    the delay after it began, and a link further on does not finish before the last byte has come; between the ports of
 *    a switch, or of groups of ranks, it always does so.
 *  - A link direction carries one message at a time and never idles while one waits. Which one goes next: see
 *    mci_sim_order. Flows that meet on a link share it message by message.
 *  - Folds take no time, or `fold_Bps` per rank: n operands of b bytes take (n - 1) b / fold_Bps, one slice after the
 *    other. Copies within a rank take no time.
 * What is not: the time of a call, memory bandwidth, messages of the executor without payload.
 *
 * Cost: at most three events per message and link (one where links have no delay), a few million per second; memory
 * follows the programs and the messages under way (repeats are walked, not expanded), and the sends that wait on lanes.
 * Sources: store and forward with occupation and delay apart as in LogGP (Alexandrov et al. 1995); the arbitration at
 * links is ours. */
#ifndef MCI_SIM_H
#define MCI_SIM_H

#include "sched/sched.h"
#include "topo/bounds.h"
#include "topo/graph.h"

/* Which of the messages that wait for a link goes first. Ties: the lower channel, then the one that came first. */
typedef enum {
  MCI_SIM_FIFO,    /* the one that came first, as lanes of the executor hand them to a transport */
  MCI_SIM_PROGRAM, /* the one whose step comes first in the program: the lowest channel number, then its step */
  MCI_SIM_PROGRESS /* the one whose channel is least far, as a share of its steps */
} mci_sim_order;

/* One message on one link direction. */
typedef struct {
  uint64_t start_ps, end_ps; /* occupation */
  uint64_t link;             /* mci_hop.id */
  uint32_t source, target;   /* ranks of the lane */
  uint16_t channel;
  uint32_t step; /* of the source's channel, from 1; repeats unrolled */
  uint32_t hop;  /* of the route, from 0 */
  uint64_t bytes;
} mci_sim_span;

typedef struct {
  uint64_t bytes;         /* of the whole vector, as in bounds.h; cut down to whole elements, at least one */
  uint32_t type_size;     /* bytes of an element; 0: 4 */
  uint64_t message_bytes; /* 0: 131072; at least one element */
  uint32_t credits;       /* 1 .. 64 messages per lane; 0: 8 */
  bool set_lat, set_cost; /* lat_ps, cost_ps replace the delay and the cost per message of every link */
  uint64_t lat_ps, cost_ps;
  uint64_t fold_Bps; /* 0: folds are free */
  mci_sim_order order;
  bool cut_through;
  uint64_t limit_ps; /* 0: none; else a run that takes longer is given up, and only total_ps is reported, UINT64_MAX */
  uint64_t* finish_ps; /* NULL, or room for one value per rank: when its last step has run */
  void (*trace)(void* arg, const mci_sim_span* span); /* NULL, or called for every message and link, by start */
  void* trace_arg;
} mci_sim_options;

typedef struct {
  uint64_t total_ps; /* when the last step of all ranks has run */
  uint64_t bound_ps; /* mci_bound_of with the delay in use; 0: there is none for this collective */
  double share;      /* bound / total; 1 when both are 0 */
  uint64_t messages; /* that lanes carried */
  uint64_t bytes;    /* of these messages, counted once per link */
  uint64_t events;
  uint32_t links;        /* link directions in use */
  uint32_t max_queue;    /* most messages that waited for one link */
  double busiest;        /* share of the time that the busiest link direction was occupied */
  uint64_t busiest_link; /* its mci_hop.id */
  /* Where the time of the links in use went, in shares that sum to 1: occupied; before the first message; idle between
   * messages because nothing was ready; idle with a message ready that lacked a credit; after the last message. */
  double busy, fill, starved, credit, drain;
} mci_sim_report;

/* `schedule` must be one that the verifier passes. InvalidArgument: an option out of range, or another number of ranks.
 * InvalidUsage: a route is missing, or nothing runs any more (then the schedule was not verified). */
meshcclResult_t mci_sim_run(const mci_topo* topo, const mci_schedule* schedule, const mci_sim_options* options,
                            mci_sim_report* report);
#endif
