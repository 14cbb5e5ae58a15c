/* From a request to the family that serves it: candidates in order, the winner, and its programs. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "topo/plan/families.h"

#define LONGEST_OF_TWO ((uint64_t)256 << 10)

enum { BY_STEP, ONCE, BY_ADDITION }; /* MESHCCL_ACCUMULATE */

uint64_t mci_plan_slice_bytes(uint32_t nranks) {
  uint64_t slice = (uint64_t)mci_param_int(MCI_P_SLICE);
  return nranks == 2 && slice < LONGEST_OF_TWO ? MCI_MIN(2 * slice, LONGEST_OF_TWO) : slice;
}

mci_request mci_plan_request(mci_coll coll, uint64_t bytes, uint32_t nranks, bool narrow) {
  int64_t rounding = mci_param_int(MCI_P_ACCUMULATE);
  return (mci_request){.coll = coll,
                       .bytes = bytes,
                       .message_bytes = mci_plan_slice_bytes(nranks),
                       .wide = rounding != BY_ADDITION,
                       .once = rounding == ONCE && narrow && mci_coll_reduces(coll)};
}

uint64_t mci_plan_class(uint64_t bytes) {
  uint64_t size = 1;
  while (size < bytes && size < UINT64_C(1) << 63) size <<= 1;
  return size;
}

static meshcclResult_t check(const mci_topo* topo, const mci_request* request) {
  uint32_t n = mci_topo_nranks(topo);
  if (mci_coll_rooted(request->coll) && request->root >= n)
    MCI_FAIL(meshcclInvalidArgument, "root %u of a %s: the ranks are 0 .. %u", request->root,
             mci_coll_name(request->coll), n - 1);
  if (mci_topo_connected(topo)) return meshcclSuccess;
  for (uint32_t r = 1; r < n; r++) {
    if (mci_topo_hops(topo, 0, r) != UINT32_MAX) continue;
    MCI_FAIL(
        meshcclInvalidUsage,
        "rank %u cannot be reached from rank 0: the topology falls apart; leave out what is cut off or mend a link", r);
  }
  return meshcclSuccess;
}

/* Two ranks have one fold in any family. */
static bool folds_once(const mci_topo* topo, const mci_request* request, const mci_family* family) {
  return !mci_coll_reduces(request->coll) || mci_topo_nranks(topo) <= 2 || family == &mci_family_direct ||
         family == &mci_family_exchange;
}

static void weigh(const mci_topo* topo, const mci_request* request, const mci_family* family, mci_candidate* out) {
  *out = (mci_candidate){.family = family};
  char buffer[sizeof out->reason];
  const char* reason = family->refuse(topo, request, buffer, sizeof buffer);
  if (!reason && request->once && !folds_once(topo, request, family))
    reason = "it rounds at several ranks, and MESHCCL_ACCUMULATE asks for one rounding";
  out->applies = reason == NULL;
  if (reason) {
    snprintf(out->reason, sizeof out->reason, "%s", reason);
  } else {
    family->cost(topo, request, &out->cost);
  }
}

/* Whether b, which comes later in the table, must stand before a. */
static bool better(const mci_candidate* b, const mci_candidate* a) {
  if (a->applies != b->applies) return b->applies;
  return a->applies && b->cost.cost_ps < a->cost.cost_ps;
}

/* Predictions that differ by less say nothing. */
#define TIE_SHARE 200 /* half a percent */

/* Of those that are about as good as the best, the first one in the table comes first. */
static void prefer_earlier(mci_candidate* candidates, uint32_t n) {
  for (const mci_family* const* family = mci_families; *family; family++) {
    for (uint32_t i = 0; i < n && candidates[i].applies; i++) {
      uint64_t best = candidates[0].cost.cost_ps;
      if (candidates[i].family != *family || candidates[i].cost.cost_ps - best > best / TIE_SHARE) continue;
      mci_candidate first = candidates[i];
      memmove(&candidates[1], &candidates[0], i * sizeof *candidates);
      candidates[0] = first;
      return;
    }
  }
}

meshcclResult_t mci_plan_candidates(const mci_topo* topo, const mci_request* request, mci_candidate* out, uint32_t* n) {
  MCI_TRY(check(topo, request));
  uint32_t count = 0;
  for (const mci_family* const* family = mci_families; *family && count < MCI_MAX_CANDIDATES; family++) {
    if (!((*family)->colls >> request->coll & 1)) continue;
    mci_candidate candidate;
    weigh(topo, request, *family, &candidate);
    uint32_t place = count++;
    for (; place > 0 && better(&candidate, &out[place - 1]); place--) out[place] = out[place - 1];
    out[place] = candidate;
  }
  prefer_earlier(out, count);
  *n = count;
  return meshcclSuccess;
}

static void list_names(const mci_candidate* candidates, uint32_t n, char* text, size_t size) {
  text[0] = '\0';
  for (uint32_t i = 0; i < n; i++) {
    size_t length = strlen(text);
    snprintf(text + length, size - length, "%s%s", i ? ", " : "", candidates[i].family->name);
  }
}

static meshcclResult_t refuse_all(const mci_request* request, const mci_candidate* candidates, uint32_t n) {
  mci_str text = {0};
  for (uint32_t i = 0; i < n; i++)
    mci_str_add(&text, "%s%s: %s", i ? "; " : "", candidates[i].family->name, candidates[i].reason);
  meshcclResult_t result = mci_fail(meshcclInvalidUsage, "no algorithm for %s on this topology (%s)",
                                    mci_coll_name(request->coll), text.text ? text.text : "none is known");
  mci_str_fini(&text);
  return result;
}

meshcclResult_t mci_plan_choose(const mci_topo* topo, const mci_request* request, const char* forced,
                                mci_candidate* out) {
  mci_candidate candidates[MCI_MAX_CANDIDATES];
  uint32_t n;
  MCI_TRY(mci_plan_candidates(topo, request, candidates, &n));
  if (!forced || !*forced) {
    if (n == 0 || !candidates[0].applies) return refuse_all(request, candidates, n);
    *out = candidates[0];
    return meshcclSuccess;
  }
  for (uint32_t i = 0; i < n; i++) {
    if (strcmp(candidates[i].family->name, forced) != 0) continue;
    if (!candidates[i].applies)
      MCI_FAIL(meshcclInvalidArgument, "algorithm \"%s\" cannot serve %s here: %s", forced,
               mci_coll_name(request->coll), candidates[i].reason);
    *out = candidates[i];
    return meshcclSuccess;
  }
  char names[256];
  list_names(candidates, n, names, sizeof names);
  MCI_FAIL(meshcclInvalidArgument, "\"%s\" is no algorithm for %s; known: %s", forced, mci_coll_name(request->coll),
           names);
}

meshcclResult_t mci_plan_build(const mci_topo* topo, const mci_request* request, const mci_candidate* choice,
                               uint32_t rank, mci_program** out) {
  return choice->family->build(topo, request, &choice->cost, rank, out);
}

meshcclResult_t mci_plan_build_all(const mci_topo* topo, const mci_request* request, const mci_candidate* choice,
                                   mci_schedule** out) {
  uint32_t n = mci_topo_nranks(topo);
  mci_schedule* schedule = mci_alloc(sizeof *schedule);
  if (!schedule) return mci_oom(sizeof *schedule);
  meshcclResult_t result = meshcclSuccess;
  schedule->nranks = n;
  schedule->programs = mci_alloc(n * sizeof *schedule->programs);
  if (!schedule->programs) {
    result = mci_oom(n * sizeof *schedule->programs);
    goto err_schedule;
  }
  for (uint32_t r = 0; r < n; r++)
    MCI_TRY_OR(mci_plan_build(topo, request, choice, r, &schedule->programs[r]), err_schedule);
  *out = schedule;
  return meshcclSuccess;
err_schedule:
  mci_schedule_destroy(schedule);
  return result;
}
