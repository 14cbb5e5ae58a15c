/* Traffic: a rule about messages as a row of a table, and the three ways to drive the parties of a case. */
#ifndef MCI_CONFORMANCE_TRAFFIC_H
#define MCI_CONFORMANCE_TRAFFIC_H

#include "party.h"

enum {
  TRAFFIC_ONE_WAY = 1,       /* only rank 0 sends data */
  TRAFFIC_LATE_CONNECT = 2,  /* odd ranks connect when the others have been sending for a while */
  TRAFFIC_DEAF = 4,          /* receivers do not call progress until the sender met Busy or is through */
  TRAFFIC_ACK_IN_ARRIVE = 8, /* acknowledgements are sent from inside arrive() */
  TRAFFIC_DISCONNECT = 16,   /* rank 0 disconnects at once when its last message was accepted */
  TRAFFIC_SLEEP = 32,        /* idle parties sleep on the wait handle; a wake-up that comes late fails the case */
  TRAFFIC_PIECES = 64,       /* many odd pieces */
  TRAFFIC_KILL = 128         /* the last rank dies in the middle */
};

typedef enum { SIZES_EMPTY, SIZES_TINY, SIZES_MIXED, SIZES_PAGE, SIZES_LARGEST } suite_sizes;

typedef struct {
  const char* rule;
  int parties;
  uint64_t messages; /* per link and direction */
  uint64_t window;   /* most unacknowledged data messages; 0: no acknowledgements */
  suite_sizes sizes;
  uint32_t flags;
  uint32_t modes; /* 1u << suite_mode */
} suite_traffic;

#define IN_ONE_THREAD (1u << MODE_ONE_THREAD)
#define IN_THREADS (1u << MODE_THREADS)
#define IN_PROCESSES (1u << MODE_PROCESSES | 1u << MODE_LAUNCHED)
#define IN_ALL (IN_ONE_THREAD | IN_THREADS | IN_PROCESSES)

/* One party's part in a traffic. */
typedef struct {
  suite_party party;
  const suite_traffic* traffic;
  suite_address addresses[SUITE_MAX_PARTIES];
  uint64_t steps;
  bool complete, counted;
} suite_actor;

void actor_open(suite_actor* actor, const suite_subject* subject, const suite_traffic* traffic, suite_world* world,
                int rank, int n);
/* Everything that can be done now; returns whether anything happened. Sets complete when its part is done. */
bool actor_step(suite_actor* actor);
/* Sleeps until a party's handle reports something; fails the case when a wake-up was lost. */
void actors_sleep(suite_actor* actors, int n);
void actor_stuck(suite_actor* actor) __attribute__((noreturn));

/* Runs one case in one mode and lets CMocka know how it ended. */
void traffic_run(const suite_subject* subject, const suite_traffic* traffic, suite_mode mode);
/* Runs body for ranks 0..n-1, each in a process or thread of its own as the mode says; fails the test as they fail. */
typedef void (*suite_body)(const suite_subject* subject, suite_world* world, int rank, const void* argument);
void suite_spread(const suite_subject* subject, suite_mode mode, int n, suite_body body, const void* argument,
                  int expectKilled);
#endif
