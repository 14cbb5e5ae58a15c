/* Swing: exchanges in pairs on tori whose partners are rho = 1, -1, 3, -5, 11, .. positions away, even ranks one way
 * and odd ones the other, see butterfly.h. Step for step the ways are a third shorter than those of halving.
 *
 *      ring of 8     step 0: 0-1 2-3 4-5 6-7      halves    (all-reduce: the same steps back)
 *                    step 1: 7-0 1-2 3-4 5-6      quarters
 *                    step 2: 0-3 2-5 4-7 6-1      eighths
 *
 * For large vectors reduce-scatter and all-gather; for small ones all of the vector in every step, longest ways first,
 * which is how all ranks add in the same order. The form is chosen by predicted time. Parts of the vector begin with
 * different axes and, in an all-reduce, go mirrored, so that all ports are busy. Sides are powers of two; a side of 2
 * is a line. Ends: see butterfly.h.
 *
 * Source: D. De Sensi, T. Bonato, D. Saam and T. Hoefler, Swing: short-cutting rings for higher bandwidth allreduce,
 * NSDI 2024. The order of the small form and the numbering of blocks, by which every message is one run, are derived
 * here. */
#include "topo/plan/butterfly.h"
#include "topo/plan/families.h"

#define COLLS (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_ALL_GATHER) | MCI_COLL_BIT(MCI_REDUCE_SCATTER))

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)request;
  return mci_butterfly_refuse(topo, true, false, buffer, size);
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_butterfly b;
  mci_plan_cost whole;
  mci_butterfly_of(topo, true, &b);
  mci_butterfly_cost(&b, request, false, out);
  if (request->coll != MCI_ALL_REDUCE) return;
  mci_butterfly_cost(&b, request, true, &whole);
  if (whole.cost_ps < out->cost_ps) *out = whole;
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_butterfly b;
  mci_butterfly_of(topo, true, &b);
  /* A form is known by its steps: half as many where everything goes in every step. */
  mci_butterfly_form form = {request->coll == MCI_ALL_REDUCE && cost_of->steps == b.nsteps, cost_of->channels};
  return mci_butterfly_build(&b, request, "swing", form, cost_of, rank, out);
}

const mci_family mci_family_swing = {
    "swing", COLLS, "pairs of ranks 1, 1, 3, 5, 11, .. apart round the rings of a torus", refuse, cost, build};
