/* Shared by the planner's tests: walking over every request that a topology can serve. */
#ifndef MCI_PLAN_TEST_H
#define MCI_PLAN_TEST_H

#include "support/test.h"
#include "topo/plan/plan.h"

typedef struct {
  const char* spec;
  const mci_topo* topo;
  mci_request request;
  mci_candidate candidate; /* with the number of chunks that the test wants */
} plan_case;

static inline const char* plan_case_text(const plan_case* c) {
  static char text[256];
  snprintf(text, sizeof text, "%s %s %s, root %u, %u chunks", c->spec, mci_coll_name(c->request.coll),
           c->candidate.family->name, c->request.root, c->candidate.cost.chunks);
  return text;
}

static inline mci_topo* plan_topo(const char* spec) {
  mci_topo* topo;
  check_ok(mci_topo_parse(spec, &topo));
  return topo;
}

static inline mci_schedule* plan_schedule(const plan_case* c) {
  mci_schedule* schedule;
  meshcclResult_t result = mci_plan_build_all(c->topo, &c->request, &c->candidate, &schedule);
  if (result != meshcclSuccess) fail_msg("%s: %s", plan_case_text(c), mci_error_last());
  return schedule;
}

/* Calls check for the applying families of one collective, with 1 .. max_chunks chunks; returns how many families. */
static inline uint32_t plan_each_family(const char* spec, const mci_topo* topo, const mci_request* request,
                                        uint32_t max_chunks, void (*check)(const plan_case*)) {
  mci_candidate list[MCI_MAX_CANDIDATES];
  uint32_t n, applying = 0;
  check_ok(mci_plan_candidates(topo, request, list, &n));
  for (uint32_t k = 0; k < n && list[k].applies; k++, applying++) {
    for (uint32_t chunks = 1; chunks <= max_chunks; chunks++) {
      plan_case c = {spec, topo, *request, list[k]};
      c.candidate.cost.chunks = chunks;
      check(&c);
    }
  }
  return applying;
}

/* The same for all collectives, and for the first, the last and a middle root. */
static inline void plan_each_case(const char* spec, uint32_t max_chunks, void (*check)(const plan_case*)) {
  mci_topo* topo = plan_topo(spec);
  uint32_t n = mci_topo_nranks(topo), roots[] = {0, n / 2, n - 1};
  for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
    for (uint32_t i = 0; i < MCI_COUNT(roots); i++) {
      if (i > 0 && (!mci_coll_rooted((mci_coll)coll) || roots[i] == roots[i - 1])) continue;
      mci_request request = {.coll = (mci_coll)coll, .bytes = 1 << 20, .root = roots[i], .wide = coll % 2};
      uint32_t applying = plan_each_family(spec, topo, &request, max_chunks, check);
      if (applying == 0 && mci_topo_routed(topo))
        fail_msg("%s: nothing serves %s", spec, mci_coll_name((mci_coll)coll));
    }
  }
  mci_topo_destroy(topo);
}

#endif
