/* How many messages data passes through, one after the other. */
#ifndef MCI_TEST_CHAIN_H
#define MCI_TEST_CHAIN_H

#include "sched/sched.h"

/* The longest chain of messages of which each carries data that came with the one before. The verifier's depth also
 * counts messages that only follow each other in the order of a channel: other chunks of a pipeline.
 * `schedule` must be one that the verifier passes. */
uint32_t test_data_chain(const mci_schedule* schedule);
#endif
