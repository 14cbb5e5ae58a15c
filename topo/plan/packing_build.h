/* What packing_build.c (order) and packing_steps.c (steps) share. Every neighbour has two lists of messages: what comes
 * from it and what goes to it, one message per tree with a link to it, with the time of its first chunk. A list is
 * sorted once by the time within the period; chunk k of a message then stands `lag` periods after period k. */
#ifndef MCI_PLAN_PACKING_BUILD_H
#define MCI_PLAN_PACKING_BUILD_H

#include "base/base.h"
#include "topo/plan/packing.h"

typedef enum { MCI_SUM_IN, MCI_SUM_OUT, MCI_TOTAL_IN, MCI_TOTAL_OUT } mci_packed_kind; /* odd: it departs */
#define MCI_PACKED_LISTS (2 * MCI_PACKING_PORTS)

typedef struct {
  int64_t within; /* the period */
  int32_t lag;
  uint32_t tree;
  uint32_t what; /* mci_packed_kind */
} mci_packed_event;

typedef struct {
  mci_packed_event* events;
  uint32_t* place; /* per tree: in `events` */
  uint32_t* turn;  /* per place and chunk: steps of the list up to it */
  uint32_t n;
  uint16_t channel;
} mci_packed_list;

/* Where the rank stands in a tree. */
typedef struct {
  uint32_t depth;
  uint32_t slot;  /* scratch, for the sums of reduce-scatter */
  uint8_t parent; /* port; ROOT */
  bool swaps;     /* the tree's middle is a link, to the parent if depth is 0 */
  uint32_t nchildren;
  uint8_t children[MCI_PACKING_PORTS]; /* ports */
} mci_packed_spot;

typedef struct {
  const mci_topo* topo;
  const mci_packed* packed;
  mci_build* b;
  uint32_t rank, nports, nslots;
  uint32_t peers[MCI_PACKING_PORTS];
  mci_packed_spot* spots; /* per tree */
  mci_packed_list lists[MCI_PACKED_LISTS];
  int32_t first, last;    /* periods with messages: first .. last - 1 */
  int32_t loop, loop_end; /* those written as a loop */
} mci_packed_builder;

static inline mci_packed_list* mci_packed_list_of(mci_packed_builder* w, mci_packed_kind what, uint32_t port) {
  return &w->lists[2 * port + what % 2];
}
static inline bool mci_packed_is_root(const mci_packed_spot* s) { return s->parent == MCI_PACKING_ROOT; }
static inline bool mci_packed_swaps_here(const mci_packed_spot* s) { return s->swaps && s->depth == 0; }

/* One chunk of a message, or in the loop the same message in every period. */
typedef struct {
  uint32_t tree, chunk;
  bool loops;
} mci_packed_part;

void mci_packed_step(mci_packed_builder* w, mci_packed_part part, mci_packed_kind what, uint32_t port);
/* A rank's own block in an all-gather. */
void mci_packed_keep_own(mci_packed_builder* w);

#endif
