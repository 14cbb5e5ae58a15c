/* Asks the public topology queries; keeps nothing but the topology. */
#include "perf/engine/bound.h"

#include <stdio.h>
#include <stdlib.h>

static const char* described(const perf_world* world) {
  return world->options.topology ? world->options.topology : getenv("MESHCCL_TOPO");
}

bool perf_bound_described(const perf_world* world) { return described(world) != NULL; }

meshcclResult_t perf_bound_open(perf_world* world, int nranks) {
  const char* spec = described(world);
  char full[32];
  snprintf(full, sizeof(full), "full:%d", nranks);
  PERF_CALL(world, meshcclTopoParse(&world->topology, spec ? spec : full));
  return meshcclSuccess;
}

void perf_bound_close(perf_world* world) { meshcclTopoDestroy(world->topology); }

double perf_bound_percent(const perf_rank* rank, const perf_line* line, double time_us) {
  const perf_world* world = rank->world;
  int nodes = 0;
  double us = 0;
  if (!world->program->collective || time_us <= 0) return -1;
  if (meshcclTopoCount(world->topology, &nodes) != meshcclSuccess || nodes != rank->group_size) return -1;
  int root = line->root < 0 ? 0 : line->root;
  if (meshcclTopoBound(world->topology, world->program->collective, line->bytes, root, &us, NULL) != meshcclSuccess)
    return -1;
  return 100 * us / time_us;
}
