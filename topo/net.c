/* Cuts of a plain graph by maximum flows: edge connectivity, and the set around a root that has most to hand out over
 * fewest links. Strength stands in strength.c. */
#include "topo/net.h"

#include "topo/flow.h"

bool mci_ratio_less(mci_ratio a, mci_ratio b) {
  return (unsigned __int128)a.num * b.den < (unsigned __int128)b.num * a.den;
}

meshcclResult_t mci_net_create(const mci_topo* topo, const uint64_t* of_class, mci_net* out) {
  mci_net net = {.nnodes = mci_topo_nranks(topo)};
  uint64_t links = mci_topo_nlinks(topo);
  net.link = mci_alloc(links * sizeof *net.link);
  net.cap = mci_alloc(links * sizeof *net.cap);
  if (!net.link || !net.cap) {
    mci_net_destroy(&net);
    return mci_oom(links * (sizeof *net.link + sizeof *net.cap));
  }
  for (uint32_t rank = 0; rank < net.nnodes; rank++) {
    uint32_t peers[2 * MCI_MAX_DIMS];
    uint32_t n = mci_topo_neighbors(topo, rank, peers, MCI_COUNT(peers));
    for (uint32_t i = 0; i < n; i++) {
      if (peers[i] < rank) continue;
      net.cap[net.nlinks] = (int64_t)of_class[mci_topo_pair_class(topo, rank, peers[i])];
      net.link[net.nlinks][0] = rank;
      net.link[net.nlinks++][1] = peers[i];
    }
  }
  *out = net;
  return meshcclSuccess;
}

void mci_net_destroy(mci_net* net) {
  mci_free(net->link);
  mci_free(net->cap);
}

/* Every set separates node 0 from some other node, so flows from node 0 find the least cut. */
meshcclResult_t mci_net_min_cut(const mci_net* net, uint64_t* capacity, uint32_t* larger_side) {
  mci_flow flow;
  MCI_TRY(mci_flow_create(net->nnodes, net->nlinks, &flow));
  for (uint32_t i = 0; i < net->nlinks; i++)
    mci_flow_add(&flow, net->link[i][0], net->link[i][1], net->cap[i], net->cap[i]);
  int64_t least = INT64_MAX;
  uint32_t larger = 0;
  for (uint32_t sink = 1; sink < net->nnodes; sink++) {
    for (uint32_t arc = 0; arc < flow.narcs; arc++) flow.room[arc] = net->cap[arc / 2];
    int64_t cut = mci_flow_max(&flow, 0, sink, least);
    if (cut >= least) continue;
    uint32_t inside = 0;
    for (uint32_t node = 0; node < net->nnodes; node++) inside += mci_flow_reached(&flow, node);
    least = cut;
    larger = MCI_MAX(inside, net->nnodes - inside);
  }
  mci_flow_destroy(&flow);
  *capacity = (uint64_t)least;
  *larger_side = larger;
  return meshcclSuccess;
}

static meshcclResult_t spread_network(const mci_net* net, mci_ratio ratio, mci_flow* out) {
  MCI_TRY(mci_flow_create(net->nnodes + 1, net->nlinks + net->nnodes, out));
  for (uint32_t i = 0; i < net->nlinks; i++)
    mci_flow_add(out, net->link[i][0], net->link[i][1], (int64_t)ratio.num * net->cap[i],
                 (int64_t)ratio.num * net->cap[i]);
  for (uint32_t node = 0; node < net->nnodes; node++) mci_flow_add(out, node, net->nnodes, (int64_t)ratio.den, 0);
  return meshcclSuccess;
}

static mci_ratio reached_ratio(const mci_net* net, const mci_flow* flow) {
  mci_ratio ratio = {0, 0};
  for (uint32_t node = 0; node < net->nnodes; node++) ratio.num += !mci_flow_reached(flow, node);
  for (uint32_t i = 0; i < net->nlinks; i++)
    if (mci_flow_reached(flow, net->link[i][0]) != mci_flow_reached(flow, net->link[i][1]))
      ratio.den += (uint64_t)net->cap[i];
  return ratio;
}

/* Newton's method: at ratio a/b, links carry a times their capacity and every node takes b. When not all of it arrives,
 * the set that the root still reaches has a larger ratio. */
meshcclResult_t mci_net_spread(const mci_net* net, uint32_t root, mci_ratio* best) {
  mci_ratio at_root = {net->nnodes - 1, 0}, ratio = *best;
  for (uint32_t i = 0; i < net->nlinks; i++)
    if (net->link[i][0] == root || net->link[i][1] == root) at_root.den += (uint64_t)net->cap[i];
  if (mci_ratio_less(ratio, at_root)) ratio = at_root;
  for (;;) {
    mci_flow flow;
    MCI_TRY(spread_network(net, ratio, &flow));
    int64_t wanted = (int64_t)(ratio.den * net->nnodes);
    bool all = mci_flow_max(&flow, root, net->nnodes, wanted) == wanted;
    if (!all) ratio = reached_ratio(net, &flow);
    mci_flow_destroy(&flow);
    if (all) break;
  }
  *best = ratio;
  return meshcclSuccess;
}
