/* The simulator's own structures. The parts: sim.c (entry, main loop, report), steps.c (channels), lanes.c (departures,
 * credits), links.c (messages on links), events.c (the event queue). */
#ifndef MCI_SIM_STATE_H
#define MCI_SIM_STATE_H

#include "base/base.h"
#include "topo/sim/sim.h"

#define MCI_SIM_NONE UINT32_MAX

/* ---- events ---- at one time in the order of `what`: kind in the upper bits, then the index. */
typedef enum { MCI_SIM_LINK_FREE, MCI_SIM_ARRIVES, MCI_SIM_CREDIT, MCI_SIM_FOLDED } mci_sim_kind;
#define MCI_SIM_INDEX_BITS 30

typedef struct {
  uint64_t at;
  uint32_t what;
} mci_sim_event;

/* ---- links ---- */
typedef struct {
  uint64_t key, tie;
  uint32_t message;
} mci_sim_waiting;

typedef struct {
  uint64_t id;
  mci_link figures;
  bool port;              /* hands on as it comes, see mci_hop */
  mci_sim_waiting* queue; /* heap */
  uint32_t nqueue, cap_queue;
  uint32_t delivers; /* message that arrives when the link gets free, or NONE */
  bool busy, dirty, started;
  uint32_t lacking; /* lanes that begin here and have a message ready but no credit */
  uint64_t sequence;
  uint64_t timed_bytes, timed_ps; /* occupation of the last size seen */
  uint64_t mark;                  /* idle time is accounted up to here */
  uint64_t busy_ps, fill_ps, starved_ps, credit_ps;
} mci_sim_link;

typedef struct {
  uint32_t lane, hop;
  uint32_t step;
  uint32_t next_free;
  uint64_t bytes;
  uint64_t tail; /* cut through: when its last byte is at the current node */
} mci_sim_message;

/* ---- lanes ---- */
typedef struct {
  uint64_t bytes;
  uint32_t nslices, next, ready;
  uint32_t step;
} mci_sim_departure;

typedef struct {
  uint32_t source, target;       /* channels */
  uint32_t hops, nhops;          /* of the route, in sim->hops */
  uint64_t back_ps;              /* delay of the way back */
  mci_sim_departure* departures; /* ring */
  uint32_t cap_departures, head, tail;
  uint64_t sent, arrived, taken;
  uint64_t* returned; /* per credit: when the message that took it last gave it back */
  bool lacks;         /* a message is ready, its credit is not here */
  bool expects;       /* and an event will tell */
} mci_sim_lane;

/* ---- channels ---- */
typedef struct {
  uint32_t lane;      /* NONE: a local chunk */
  uint32_t departure; /* lane destinations: its number */
} mci_sim_operand;

typedef enum { MCI_SIM_RUNS, MCI_SIM_WAITS_AFTER, MCI_SIM_WAITS_LANE, MCI_SIM_FOLDS, MCI_SIM_ENDED } mci_sim_wait;

typedef struct {
  const mci_channel* channel;
  mci_cursor cursor;
  const mci_instr* step; /* loaded or waiting for its conditions; NULL: the next one is to be fetched */
  uint32_t rank, id;
  uint32_t operands; /* of the step, in sim->operands */
  bool loaded, queued;
  uint8_t wait;      /* mci_sim_wait */
  uint32_t wait_for; /* a lane; or a channel and the steps that it must have run */
  uint64_t wait_count;
  uint32_t waiters, next_waiter; /* channels that wait for this one */
  uint32_t slice, nslices;
  uint64_t bytes; /* of the step's chunk */
  uint64_t done, total;
} mci_sim_channel;

typedef struct {
  const mci_topo* topo;
  const mci_schedule* schedule;
  mci_sim_options options; /* defaults filled in */
  const mci_layout* layout;
  uint64_t count;       /* elements, as the layout understands them */
  uint64_t slice_bytes; /* whole elements */
  uint64_t now, last_ps;

  mci_sim_event* events; /* heap of four children */
  uint32_t nevents, cap_events;
  uint64_t events_done;

  mci_sim_link* links;
  uint32_t nlinks, cap_links;
  uint32_t *link_table, link_slots; /* id -> link, open addressing */
  uint32_t* dirty;
  uint32_t ndirty, cap_dirty;
  uint32_t max_queue;
  mci_sim_message* messages;
  uint32_t nmessages, cap_messages, free_message;
  uint64_t messages_sent, bytes_carried;

  mci_sim_lane* lanes;
  uint32_t nlanes, cap_lanes;
  uint32_t *lane_table, lane_slots; /* (source, target) -> lane */
  uint32_t* hops;                   /* links of routes */
  uint32_t nhops, cap_hops;
  mci_hop* route; /* room for one route */
  uint32_t cap_route;

  mci_sim_channel* channels;
  uint32_t nchannels, ended;
  uint32_t* first_channel; /* per rank, and one more */
  mci_sim_operand* operands;
  uint32_t* queue; /* channels to run: ring */
  uint32_t queue_head, queue_length;
  uint64_t* folder_free; /* per rank: when its fold under way ends */
} mci_sim;

/* events.c */
meshcclResult_t mci_sim_at(mci_sim* sim, uint64_t at, mci_sim_kind kind, uint32_t index);
mci_sim_event mci_sim_pop(mci_sim* sim); /* there must be one */

/* links.c */
meshcclResult_t mci_sim_link_of(mci_sim* sim, const mci_hop* hop, uint32_t* out);
/* A new message waits at the first link of its lane. */
meshcclResult_t mci_sim_send(mci_sim* sim, uint32_t lane, uint32_t step, uint64_t bytes);
meshcclResult_t mci_sim_arrive(mci_sim* sim, uint32_t message);
meshcclResult_t mci_sim_link_free(mci_sim* sim, uint32_t link);
meshcclResult_t mci_sim_serve(mci_sim* sim);            /* all links that may begin a message */
void mci_sim_account(mci_sim* sim, mci_sim_link* link); /* idle time up to now, before its reason changes */

/* lanes.c */
meshcclResult_t mci_sim_lane_of(mci_sim* sim, uint32_t source, uint32_t target, uint32_t* out);
/* Its number, which mci_sim_ready takes. */
meshcclResult_t mci_sim_push(mci_sim* sim, uint32_t lane, mci_sim_departure departure, uint32_t* number_out);
meshcclResult_t mci_sim_ready(mci_sim* sim, uint32_t lane, uint32_t number); /* one more slice of it may go */
meshcclResult_t mci_sim_pump(mci_sim* sim, uint32_t lane);                   /* sends what may go */
meshcclResult_t mci_sim_take(mci_sim* sim, uint32_t lane);                   /* the receiver's step has run */
meshcclResult_t mci_sim_credit(mci_sim* sim, uint32_t lane);                 /* the event */

/* steps.c */
meshcclResult_t mci_sim_open_channels(mci_sim* sim);
uint32_t mci_sim_find_channel(const mci_sim* sim, uint32_t rank, uint32_t id); /* NONE */
void mci_sim_wake(mci_sim* sim, uint32_t channel);
meshcclResult_t mci_sim_folded(mci_sim* sim, uint32_t channel);
meshcclResult_t mci_sim_run_channels(mci_sim* sim);
meshcclResult_t mci_sim_stuck(const mci_sim* sim); /* says who waits for what */
#endif
