/* Two Hamiltonian cycles of a torus without a common link. */
#ifndef MCI_PLAN_HAM_CYCLES_H
#define MCI_PLAN_HAM_CYCLES_H

#include "topo/graph.h"

/* Ranks at the positions of both cycles, and positions of ranks. */
typedef struct {
  uint32_t n;
  uint32_t *rank[2], *position[2];
} mci_ham_cycles;

/* The topology is a whole torus with two sides above 2 and none else above 1. Memory per rank. */
meshcclResult_t mci_ham_cycles_of(const mci_topo* topo, mci_ham_cycles* out);
void mci_ham_cycles_fini(mci_ham_cycles* cycles);

#endif
