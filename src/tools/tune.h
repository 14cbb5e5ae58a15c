/* Between tune.c (entry, output) and tune_measure.c (who measures what, and how). */
#ifndef MCI_TOOLS_TUNE_H
#define MCI_TOOLS_TUNE_H

#include "meshccl/meshccl.h"
#include "topo/graph.h"

#define MCI_TUNE_PAIRS 8  /* of a team, at most */
#define MCI_TUNE_TEAMS 4  /* of a class of links, at most */
#define MCI_TUNE_BURSTS 3 /* 1, 2 and 4 messages back to back: more would wait for credits */

/* Pairs of ranks that are measured together: one, or, where the ranks of a group share a way out, one for each rank of
 * the smaller group. The first pair alone measures small messages. */
typedef struct {
  uint32_t link_class, npairs;
  uint32_t a[MCI_TUNE_PAIRS], b[MCI_TUNE_PAIRS];
} mci_tune_team;

/* Of a team: times in seconds, rates in bytes per second and direction, summed over its pairs. */
typedef struct {
  double burst[MCI_TUNE_BURSTS]; /* one way, 2^i messages of 8 bytes */
  double one_way, both_ways;
} mci_tune_result;

/* The teams of a topology, classes one after the other; returns how many. Equal on all ranks. */
uint32_t mci_tune_teams(const mci_topo* topo, mci_tune_team teams[(MCI_MAX_LEVELS + 1) * MCI_TUNE_TEAMS]);

/* Medians of `rounds` rounds, in which all teams take turns; results[] on every rank. Every rank calls it. */
meshcclResult_t mci_tune_measure(meshcclComm_t comm, const mci_tune_team* teams, uint32_t nteams, uint32_t rounds,
                                 mci_tune_result* results);

/* Delay and cost per message that explain the bursts. */
void mci_tune_fit(const mci_tune_result* result, double* delay_s, double* cost_s);

#endif
