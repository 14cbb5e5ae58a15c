/* The public topology functions (meshccl/topo.h): argument checks around topo/graph.h and topo/bounds.h. */
#include "meshccl/topo.h"

#include <limits.h>

#include "boot/topology.h"
#include "topo/bounds.h"
#include "topo/graph.h"

static mci_topo* graph(meshcclTopo_t topo) { return (mci_topo*)topo; }

static meshcclResult_t check_given(const char* function, const char* what, const void* given) {
  if (!given) MCI_FAIL(meshcclInvalidArgument, "%s: %s is NULL", function, what);
  return meshcclSuccess;
}
#define CHECK_GIVEN(argument) MCI_TRY(check_given(__func__, #argument, argument))

static meshcclResult_t check_rank(const char* function, const char* what, meshcclTopo_t topo, int rank) {
  uint32_t n = mci_topo_nranks(graph(topo));
  if (rank < 0 || (uint32_t)rank >= n)
    MCI_FAIL(meshcclInvalidArgument, "%s: %s is %d; ranks of this topology go from 0 to %u", function, what, rank,
             n - 1);
  return meshcclSuccess;
}

static meshcclResult_t check_room(const char* function, const char* what, int room, uint32_t needed) {
  if (room < 0 || (uint32_t)room < needed)
    MCI_FAIL(meshcclInvalidArgument, "%s: room for %d %s, %u needed", function, room, what, needed);
  return meshcclSuccess;
}

meshcclResult_t meshcclTopoParse(meshcclTopo_t* topo, const char* spec) {
  CHECK_GIVEN(topo);
  CHECK_GIVEN(spec);
  mci_topo* parsed;
  MCI_TRY(mci_topology_load(spec, &parsed));
  *topo = (meshcclTopo_t)parsed;
  return meshcclSuccess;
}

meshcclResult_t meshcclTopoDestroy(meshcclTopo_t topo) {
  mci_topo_destroy(graph(topo));
  return meshcclSuccess;
}

meshcclResult_t meshcclTopoPrint(meshcclTopo_t topo, char* text, size_t size, size_t* needed) {
  CHECK_GIVEN(topo);
  mci_str str = {0};
  meshcclResult_t result = mci_topo_print(graph(topo), &str);
  if (result == meshcclSuccess) result = mci_str_hand_out(&str, __func__, text, size, needed);
  mci_str_fini(&str);
  return result;
}

meshcclResult_t meshcclTopoDraw(meshcclTopo_t topo, char* text, size_t size, size_t* needed) {
  CHECK_GIVEN(topo);
  mci_str str = {0};
  meshcclResult_t result = mci_topo_draw(graph(topo), &str);
  if (result == meshcclSuccess) result = mci_str_hand_out(&str, __func__, text, size, needed);
  mci_str_fini(&str);
  return result;
}

meshcclResult_t meshcclTopoCount(meshcclTopo_t topo, int* count) {
  CHECK_GIVEN(topo);
  CHECK_GIVEN(count);
  *count = (int)mci_topo_nranks(graph(topo));
  return meshcclSuccess;
}

meshcclResult_t meshcclTopoDims(meshcclTopo_t topo, int* sides, int* wraps, int* ndims) {
  CHECK_GIVEN(topo);
  CHECK_GIVEN(ndims);
  uint32_t n = mci_topo_ndims(graph(topo));
  if (sides || wraps) MCI_TRY(check_room(__func__, "dimensions", *ndims, n));
  for (uint32_t d = 0; d < n; d++) {
    if (sides) sides[d] = (int)mci_topo_side(graph(topo), d);
    if (wraps) wraps[d] = mci_topo_wraps(graph(topo), d);
  }
  *ndims = (int)n;
  return meshcclSuccess;
}

meshcclResult_t meshcclTopoCoordinates(meshcclTopo_t topo, int rank, int* coords, int* ndims) {
  CHECK_GIVEN(topo);
  CHECK_GIVEN(coords);
  CHECK_GIVEN(ndims);
  MCI_TRY(check_rank(__func__, "rank", topo, rank));
  uint32_t n = mci_topo_ndims(graph(topo)), at[MCI_MAX_DIMS];
  MCI_TRY(check_room(__func__, "dimensions", *ndims, n));
  mci_topo_coords(graph(topo), (uint32_t)rank, at);
  for (uint32_t d = 0; d < n; d++) coords[d] = (int)at[d];
  *ndims = (int)n;
  return meshcclSuccess;
}

meshcclResult_t meshcclTopoRankAt(meshcclTopo_t topo, const int* coords, int ndims, int* rank) {
  CHECK_GIVEN(topo);
  CHECK_GIVEN(coords);
  CHECK_GIVEN(rank);
  uint32_t n = mci_topo_ndims(graph(topo)), at[MCI_MAX_DIMS] = {0};
  if (n == 0) MCI_FAIL(meshcclInvalidArgument, "%s: a full graph has no coordinates", __func__);
  if (ndims < 0 || (uint32_t)ndims != n)
    MCI_FAIL(meshcclInvalidArgument, "%s: ndims is %d; the topology has %u", __func__, ndims, n);
  for (uint32_t d = 0; d < n; d++) {
    uint32_t side = mci_topo_side(graph(topo), d);
    if (coords[d] < 0 || (uint32_t)coords[d] >= side)
      MCI_FAIL(meshcclInvalidArgument, "%s: coords[%u] is %d; allowed are 0 to %u", __func__, d, coords[d], side - 1);
    at[d] = (uint32_t)coords[d];
  }
  *rank = (int)mci_topo_rank_at(graph(topo), at);
  return meshcclSuccess;
}

meshcclResult_t meshcclTopoNeighbors(meshcclTopo_t topo, int rank, int* peers, int* n) {
  CHECK_GIVEN(topo);
  CHECK_GIVEN(n);
  MCI_TRY(check_rank(__func__, "rank", topo, rank));
  if (*n < 0 || (!peers && *n > 0))
    MCI_FAIL(meshcclInvalidArgument, "%s: room for %d peers %s", __func__, *n, peers ? "" : "at NULL");
  /* Ranks fit an int, and both types have one representation for them. */
  *n = (int)mci_topo_neighbors(graph(topo), (uint32_t)rank, (uint32_t*)peers, (uint32_t)*n);
  return meshcclSuccess;
}

meshcclResult_t meshcclTopoHops(meshcclTopo_t topo, int a, int b, int* hops) {
  CHECK_GIVEN(topo);
  CHECK_GIVEN(hops);
  MCI_TRY(check_rank(__func__, "a", topo, a));
  MCI_TRY(check_rank(__func__, "b", topo, b));
  uint32_t distance = mci_topo_hops(graph(topo), (uint32_t)a, (uint32_t)b);
  *hops = distance > INT_MAX ? -1 : (int)distance;
  return meshcclSuccess;
}

meshcclResult_t meshcclTopoBound(meshcclTopo_t topo, const char* collective, size_t bytes, int root, double* us,
                                 double* factor) {
  CHECK_GIVEN(topo);
  CHECK_GIVEN(collective);
  MCI_TRY(check_rank(__func__, "root", topo, root));
  mci_coll coll;
  MCI_TRY(mci_coll_parse(collective, &coll));
  mci_bound bound;
  MCI_TRY(mci_bound_of(graph(topo), coll, bytes, (uint32_t)root, &bound));
  if (us) *us = (double)bound.bound_ps * 1e-6;
  if (factor) *factor = bound.factor;
  return meshcclSuccess;
}
