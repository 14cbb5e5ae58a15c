/* All-reduce and barrier in one step: everybody sends the whole vector to everybody and folds p vectors in rank order,
 * so all get the same bits. For small vectors and few ranks.
 *
 *     >1 >2 >3 copy <- in        (rank 0 of 4)
 *     out <- in + <1 + <2 + <3
 *
 * The sends are copied, because in place the fold overwrites what they read. Ends: every arrival is sent before
 * anything is waited for. */
#include <stdio.h>

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"
#include "topo/plan/load.h"

#define MAX_RANKS 16

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)request;
  if (mci_topo_nranks(topo) > MAX_RANKS) {
    snprintf(buffer, size, "more than %d ranks would exchange whole vectors", MAX_RANKS);
    return buffer;
  }
  return mci_routes_refuse_pairs(topo, buffer, size);
}

#define CACHED 16384 /* bytes; this much of every vector is folded in caches, for nothing */

/* Besides what it reads of shared memory, every rank folds n whole vectors, where the other algorithms fold one
 * vector's worth; beyond the caches that takes as long as reading. */
static uint64_t folding(const mci_topo* topo, uint64_t bytes) {
  mci_link inside = mci_topo_link(topo);
  uint32_t n = mci_topo_nranks(topo);
  return !mci_topo_is_memory(topo) || n < 2 || bytes <= CACHED ? 0
                                                               : (n - 1) * mci_cost_wire(&inside, bytes - CACHED) / 2;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_link link = mci_topo_worst(topo);
  uint32_t n = mci_topo_nranks(topo);
  uint64_t sharing = n > 1 ? mci_routes_all_pairs(topo) : 0, hops = mci_topo_diameter(topo);
  uint64_t message = mci_cost_message(request);
  uint64_t busy = sharing * mci_cost_busy(&link, request->bytes, message);
  if (mci_topo_is_full(topo)) busy = mci_load_all_pairs(topo, request->bytes, &sharing);
  *out = (mci_plan_cost){.steps = n > 1, .channels = 1, .chunks = 1, .load = n > 1 ? (double)sharing : 0};
  out->cost_ps = hops * link.lat_ps + busy + folding(topo, request->bytes);
  if (hops > 1) out->cost_ps += (hops - 1) * mci_cost_busy(&link, MCI_MIN(request->bytes, message), message);
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  uint32_t n = mci_topo_nranks(topo);
  mci_shape all = mci_span(mci_const(0), 1, mci_const(0));
  mci_build* b = mci_build_begin(request->coll, "exchange", n, rank, 0);
  mci_build_layout(b, 1, 1, NULL);
  mci_build_channel(b, 0);
  if (n > 1) {
    mci_build_step(b, 0);
    for (uint32_t k = 1; k < n; k++) mci_build_dst_lane(b, MCI_COPY, mci_const((int32_t)((rank + k) % n)));
    mci_build_src(b, MCI_IN, all);
  }
  mci_build_step(b, MCI_FINISH | (request->wide && n > 1 ? MCI_WIDE : 0));
  mci_build_dst(b, MCI_OUT, 0, all);
  for (uint32_t k = 0; k < n; k++) {
    if (k == rank) {
      mci_build_src(b, MCI_IN, all);
    } else {
      mci_build_src_lane(b, mci_const((int32_t)k));
    }
  }
  MCI_TRY(mci_build_finish(b, out));
  (*out)->steps = cost_of->steps;
  return meshcclSuccess;
}

const mci_family mci_family_exchange = {"exchange",
                                        MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_BARRIER),
                                        "everybody sends all to everybody, one fold in rank order",
                                        refuse,
                                        cost,
                                        build};
