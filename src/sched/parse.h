/* The parts of the schedule parser: parse.c (ranks and channels, entry), parse_header.c, parse_step.c. */
#ifndef MCI_SCHED_PARSE_H
#define MCI_SCHED_PARSE_H

#include "sched/scan.h"
#include "sched/text.h"

typedef struct {
  mci_scan scan;
  mci_coll coll;
  char algorithm[48];
  uint32_t nranks, root;
  uint32_t nblocks, nparts;
  uint32_t *weights, *order;
  bool have_coll, have_algorithm, have_ranks, have_root, have_layout, have_order, have_bits;
  mci_schedule* schedule;
  mci_build* build;      /* of the rank being read */
  uint32_t depth;        /* open repeats */
  uint64_t last_channel; /* id + 1 of the channel before, 0: none */
} mci_parser;

/* Everything before the first rank, complete and consistent. */
meshcclResult_t mci_parse_header(mci_parser* p);
/* One line with a step, up to its end. */
meshcclResult_t mci_parse_step(mci_parser* p);
#endif
