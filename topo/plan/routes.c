/* How many messages share the busiest link when traffic takes dimension-order routes (last dimension first, the short
 * way round a ring; half way round counts as upwards). Estimates where planes join parts. Used for costs only. */
#include <stdio.h>

#include "base/base.h"
#include "topo/plan/families.h"

/* Ordered pairs of positions whose way uses the busiest link direction of a line or ring of n. */
static uint64_t pairs_on_axis(uint64_t n, bool ring) {
  uint64_t half = n / 2;
  return ring ? half * (half + 1) / 2 : half * (n - half);
}

static uint64_t around_holes(const mci_topo* topo, uint64_t messages) {
  return mci_topo_is_regular(topo) ? messages : messages + (messages + 1) / 2;
}

/* Parts that only planes join, and the ports of all planes. */
static uint64_t parts_of(const mci_topo* topo) {
  uint64_t parts = 1;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) parts *= mci_topo_apart(topo, d) ? mci_topo_side(topo, d) : 1;
  return parts;
}

static uint64_t ports_of(const mci_topo* topo) {
  uint64_t ports = 0;
  for (uint32_t p = 0; p < mci_topo_nplanes(topo); p++) ports += mci_topo_plane_size(topo, p);
  return MCI_MAX(ports, 1u);
}

uint64_t mci_routes_all_pairs(const mci_topo* topo) {
  if (mci_topo_is_full(topo)) return 1;
  uint64_t ranks = mci_topo_nranks(topo), parts = parts_of(topo);
  /* What leaves the parts is spread over the ports; on the way to them it shares links with the rest. */
  if (parts > 1) return 2 * (ranks * (ranks - ranks / parts) / ports_of(topo) + 1);
  uint64_t nodes = 1, worst = 1;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) nodes *= mci_topo_side(topo, d);
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    uint64_t n = mci_topo_side(topo, d);
    worst = MCI_MAX(worst, pairs_on_axis(n, mci_topo_wraps(topo, d)) * (nodes / n));
  }
  return around_holes(topo, worst);
}

uint64_t mci_routes_to_one(const mci_topo* topo, uint32_t root) {
  if (mci_topo_is_full(topo)) return 1;
  if (parts_of(topo) > 1) return mci_topo_nranks(topo); /* perhaps all of it over the root's last link */
  uint32_t at[MCI_MAX_DIMS];
  mci_topo_coords(topo, root, at);
  uint64_t behind = 1, worst = 1;
  for (uint32_t d = mci_topo_ndims(topo); d-- > 0; behind *= mci_topo_side(topo, d)) {
    uint64_t n = mci_topo_side(topo, d);
    uint64_t side = mci_topo_wraps(topo, d) ? n / 2 : MCI_MAX(at[d], n - 1 - at[d]);
    worst = MCI_MAX(worst, side * behind);
  }
  return around_holes(topo, worst);
}

const char* mci_routes_refuse_pairs(const mci_topo* topo, char* buffer, size_t size) {
  if (mci_topo_routed(topo) || mci_topo_is_full(topo)) return NULL;
  uint32_t n = mci_topo_nranks(topo);
  for (uint32_t a = 0; a < n; a++) {
    for (uint32_t b = a + 1; b < n; b++) {
      if (mci_topo_adjacent(topo, a, b)) continue;
      snprintf(buffer, size, "ranks %u and %u are not neighbours, and only neighbours may exchange messages", a, b);
      return buffer;
    }
  }
  return NULL;
}
