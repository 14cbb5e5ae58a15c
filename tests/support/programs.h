/* Hand-built programs for tests of the executor: small, but with every kind of step. */
#ifndef MCI_TEST_PROGRAMS_H
#define MCI_TEST_PROGRAMS_H

#include "sched/sched.h"

/* Each builds the program of one rank. `chunks`: pipeline parts. */
meshcclResult_t test_program_ring_all_reduce(uint32_t nranks, uint32_t rank, mci_program** out);
meshcclResult_t test_program_direct_all_reduce(uint32_t nranks, uint32_t rank, mci_program** out);
meshcclResult_t test_program_exchange_all_reduce(uint32_t nranks, uint32_t rank, mci_program** out);
meshcclResult_t test_program_ring_all_gather(uint32_t nranks, uint32_t rank, mci_program** out);
meshcclResult_t test_program_chain_broadcast(uint32_t nranks, uint32_t rank, uint32_t root, mci_program** out);
meshcclResult_t test_program_scratch_reduce_scatter(uint32_t nranks, uint32_t rank, mci_program** out);
#endif
