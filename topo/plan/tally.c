/* See tally.h. */
#include "topo/plan/tally.h"

#include "base/base.h"
#include "topo/plan/cost.h"

static uint32_t place_of(const mci_tally* t, uint64_t id) {
  uint32_t at = (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (t->slots - 1);
  while (t->table[at].messages && t->table[at].id != id) at = (at + 1) & (t->slots - 1);
  return at;
}

static meshcclResult_t make_room(mci_tally* t) {
  if (2 * t->used < t->slots) return meshcclSuccess;
  mci_tally larger = *t;
  larger.slots = MCI_MAX(64, 2 * t->slots);
  larger.table = mci_alloc(larger.slots * sizeof *larger.table);
  if (!larger.table) return mci_oom(larger.slots * sizeof *larger.table);
  for (uint32_t i = 0; i < t->slots; i++)
    if (t->table[i].messages) larger.table[place_of(&larger, t->table[i].id)] = t->table[i];
  mci_free(t->table);
  *t = larger;
  return meshcclSuccess;
}

static meshcclResult_t count(mci_tally* t, uint64_t id, mci_link link) {
  MCI_TRY(make_room(t));
  mci_tally_entry* entry = &t->table[place_of(t, id)];
  t->used += entry->messages == 0;
  *entry = (mci_tally_entry){id, link, entry->messages + 1};
  return meshcclSuccess;
}

meshcclResult_t mci_tally_add(mci_tally* tally, const mci_topo* topo, uint32_t from, uint32_t to) {
  uint32_t hops = mci_topo_route(topo, from, to, tally->route, tally->cap_route);
  if (hops != UINT32_MAX && hops > tally->cap_route) {
    MCI_TRY(mci_grow(&tally->route, sizeof *tally->route, &tally->cap_route, hops));
    hops = mci_topo_route(topo, from, to, tally->route, tally->cap_route);
  }
  if (hops == UINT32_MAX) MCI_FAIL(meshcclInternalError, "there is no route from rank %u to rank %u", from, to);
  for (uint32_t i = 0; i < hops; i++) MCI_TRY(count(tally, tally->route[i].id, tally->route[i].link));
  return meshcclSuccess;
}

uint64_t mci_tally_busiest(const mci_tally* tally, uint64_t bytes, uint64_t* messages) {
  uint64_t worst = 0;
  *messages = 0;
  for (uint32_t i = 0; i < tally->slots; i++) {
    const mci_tally_entry* entry = &tally->table[i];
    if (entry->messages == 0) continue;
    uint64_t time = entry->messages * (entry->link.cost_ps + mci_cost_wire(&entry->link, bytes));
    if (time < worst || (time == worst && entry->messages <= *messages)) continue;
    worst = time;
    *messages = entry->messages;
  }
  return worst;
}

void mci_tally_fini(mci_tally* tally) {
  mci_free(tally->table);
  mci_free(tally->route);
  *tally = (mci_tally){.slots = 0};
}
