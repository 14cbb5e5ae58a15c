/* Maximum flow for net.c: levels by breadth-first search, then blocking flows (Dinic 1970). */
#ifndef MCI_FLOW_H
#define MCI_FLOW_H

#include "base/base.h"

typedef struct {
  uint32_t nnodes, narcs;
  uint32_t* first; /* per node: its newest arc, UINT32_MAX: none */
  uint32_t* next;  /* per arc: the node's arc before it */
  uint32_t* to;
  int64_t* room; /* what the arc still takes; arc ^ 1 is its reverse */
  uint32_t *level, *queue, *at, *path;
} mci_flow;

meshcclResult_t mci_flow_create(uint32_t nnodes, uint32_t npairs, mci_flow* out);
void mci_flow_destroy(mci_flow* flow);
/* An arc and its reverse, at most npairs times. */
void mci_flow_add(mci_flow* flow, uint32_t from, uint32_t to, int64_t room, int64_t back);
/* Flow from source to sink; stops early at `limit`. Below the limit, mci_flow_reached tells the source's side of a cut.
 */
int64_t mci_flow_max(mci_flow* flow, uint32_t source, uint32_t sink, int64_t limit);
bool mci_flow_reached(const mci_flow* flow, uint32_t node);
#endif
