/* The part of meshccl plan that simulates candidates. */
#ifndef MCI_TOOLS_PLAN_SIMULATE_H
#define MCI_TOOLS_PLAN_SIMULATE_H

#include "topo/plan/plan.h"
#include "topo/sim/sim.h"

typedef struct {
  uint32_t most; /* candidates to be simulated; 0: none */
  mci_sim_options how;
} mci_tool_simulation;

typedef struct {
  bool done;
  mci_sim_report report;
} mci_tool_simulated;

extern const char mci_tool_simulate_usage[];
/* Reads the option at argv[*i], with its value, when it is one of simulation: *known. */
meshcclResult_t mci_tool_simulate_option(int argc, char** argv, int* i, mci_tool_simulation* out, bool* known);
/* Simulates the best candidates, and the one called `forced` if any; out[k] belongs to candidates[k]. */
meshcclResult_t mci_tool_simulate(const mci_topo* topo, const mci_request* request, const mci_candidate* candidates,
                                  uint32_t ncandidates, const char* forced, const mci_tool_simulation* simulation,
                                  mci_tool_simulated* out);
/* Where the time of the links went, one line. */
void mci_tool_simulate_text(const char* name, const mci_tool_simulated* simulated, mci_str* out);
#endif
