/* The event queue: a heap of four children per node, by time, then by kind and index. */
#include "topo/sim/state.h"

static bool earlier(const mci_sim_event* a, const mci_sim_event* b) {
  return a->at != b->at ? a->at < b->at : a->what < b->what;
}

meshcclResult_t mci_sim_at(mci_sim* sim, uint64_t at, mci_sim_kind kind, uint32_t index) {
  if (MCI_UNLIKELY(sim->nevents == sim->cap_events))
    MCI_TRY(mci_grow(&sim->events, sizeof *sim->events, &sim->cap_events, (size_t)sim->nevents + 1));
  mci_sim_event event = {.at = at, .what = (uint32_t)kind << MCI_SIM_INDEX_BITS | index};
  mci_sim_event* heap = sim->events;
  uint32_t place = sim->nevents++;
  for (; place > 0; place = (place - 1) / 4) {
    uint32_t parent = (place - 1) / 4;
    if (!earlier(&event, &heap[parent])) break;
    heap[place] = heap[parent];
  }
  heap[place] = event;
  return meshcclSuccess;
}

mci_sim_event mci_sim_pop(mci_sim* sim) {
  mci_sim_event* heap = sim->events;
  mci_sim_event top = heap[0], last = heap[--sim->nevents];
  uint32_t n = sim->nevents, place = 0;
  for (uint32_t child; (child = 4 * place + 1) < n; place = child) {
    uint32_t end = MCI_MIN(child + 4, n);
    for (uint32_t other = child + 1; other < end; other++)
      if (earlier(&heap[other], &heap[child])) child = other;
    if (!earlier(&heap[child], &last)) break;
    heap[place] = heap[child];
  }
  heap[place] = last;
  return top;
}
