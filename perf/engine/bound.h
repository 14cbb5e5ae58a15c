/* The share of the topology's lower bound in the measured time: in the foot where a topology is described, and as a
 * column with --bound. */
#ifndef PERF_BOUND_H
#define PERF_BOUND_H

#include "perf/engine/perf.h"

/* Reads the topology of --topo or MESHCCL_TOPO (without either: all ranks directly joined, as the library does). */
/* Whether somebody said which links there are. */
bool perf_bound_described(const perf_world* world);
meshcclResult_t perf_bound_open(perf_world* world, int nranks);
void perf_bound_close(perf_world* world);

/* 100 * bound / time at the topology's own link figures. Below 0 where no bound applies: a program without one, or a
 * group that is not the whole topology. */
double perf_bound_percent(const perf_rank* rank, const perf_line* line, double time_us);
#endif
