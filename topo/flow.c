/* Maximum flow, see flow.h. Every phase lengthens the shortest path to the sink, so there are fewer phases than nodes.
 */
#include "topo/flow.h"

#include <string.h>

#define NONE UINT32_MAX

meshcclResult_t mci_flow_create(uint32_t nnodes, uint32_t npairs, mci_flow* out) {
  mci_flow flow = {.nnodes = nnodes};
  size_t per_node = nnodes * sizeof(uint32_t), per_arc = 2ul * npairs * sizeof(uint32_t);
  flow.first = mci_alloc(per_node);
  flow.level = mci_alloc(per_node);
  flow.queue = mci_alloc(per_node);
  flow.at = mci_alloc(per_node);
  flow.path = mci_alloc(per_node);
  flow.next = mci_alloc(per_arc);
  flow.to = mci_alloc(per_arc);
  flow.room = mci_alloc(2ul * npairs * sizeof *flow.room);
  if (!flow.first || !flow.level || !flow.queue || !flow.at || !flow.path || !flow.next || !flow.to || !flow.room) {
    mci_flow_destroy(&flow);
    return mci_oom(5 * per_node + 4 * per_arc);
  }
  memset(flow.first, 0xff, per_node);
  *out = flow;
  return meshcclSuccess;
}

void mci_flow_destroy(mci_flow* flow) {
  mci_free(flow->first);
  mci_free(flow->level);
  mci_free(flow->queue);
  mci_free(flow->at);
  mci_free(flow->path);
  mci_free(flow->next);
  mci_free(flow->to);
  mci_free(flow->room);
}

static void add_arc(mci_flow* flow, uint32_t from, uint32_t to, int64_t room) {
  uint32_t arc = flow->narcs++;
  flow->to[arc] = to;
  flow->room[arc] = room;
  flow->next[arc] = flow->first[from];
  flow->first[from] = arc;
}

void mci_flow_add(mci_flow* flow, uint32_t from, uint32_t to, int64_t room, int64_t back) {
  add_arc(flow, from, to, room);
  add_arc(flow, to, from, back);
}

static bool set_levels(mci_flow* flow, uint32_t source, uint32_t sink) {
  memset(flow->level, 0xff, flow->nnodes * sizeof *flow->level);
  uint32_t head = 0, tail = 0;
  flow->level[source] = 0;
  flow->queue[tail++] = source;
  while (head < tail) {
    uint32_t node = flow->queue[head++];
    for (uint32_t arc = flow->first[node]; arc != NONE; arc = flow->next[arc]) {
      uint32_t to = flow->to[arc];
      if (flow->room[arc] == 0 || flow->level[to] != NONE) continue;
      flow->level[to] = flow->level[node] + 1;
      flow->queue[tail++] = to;
    }
  }
  return flow->level[sink] != NONE;
}

/* Fills path[0..depth) and returns its bottleneck. */
static int64_t push(mci_flow* flow, uint32_t depth, int64_t most) {
  for (uint32_t i = 0; i < depth; i++) most = MCI_MIN(most, flow->room[flow->path[i]]);
  for (uint32_t i = 0; i < depth; i++) {
    flow->room[flow->path[i]] -= most;
    flow->room[flow->path[i] ^ 1] += most;
  }
  return most;
}

static int64_t blocking_flow(mci_flow* flow, uint32_t source, uint32_t sink, int64_t limit) {
  memcpy(flow->at, flow->first, flow->nnodes * sizeof *flow->at);
  int64_t total = 0;
  uint32_t node = source, depth = 0;
  while (total < limit) {
    if (node == sink) {
      total += push(flow, depth, limit - total);
      node = source;
      depth = 0;
      continue;
    }
    uint32_t arc = flow->at[node];
    while (arc != NONE && (flow->room[arc] == 0 || flow->level[flow->to[arc]] != flow->level[node] + 1))
      arc = flow->next[arc];
    flow->at[node] = arc;
    if (arc != NONE) {
      flow->path[depth++] = arc;
      node = flow->to[arc];
      continue;
    }
    if (node == source) break;
    node = flow->to[flow->path[--depth] ^ 1];
    flow->at[node] = flow->next[flow->at[node]];
  }
  return total;
}

int64_t mci_flow_max(mci_flow* flow, uint32_t source, uint32_t sink, int64_t limit) {
  int64_t total = 0;
  while (total < limit && set_levels(flow, source, sink)) total += blocking_flow(flow, source, sink, limit - total);
  return total;
}

bool mci_flow_reached(const mci_flow* flow, uint32_t node) { return flow->level[node] != NONE; }
