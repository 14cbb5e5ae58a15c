/* Recursive halving and doubling (`halving_doubling`), and recursive doubling alone (`recursive_doubling`): partners
 * are a power of two apart on an axis, see butterfly.h.
 *
 *      halving:   0-1 2-3 4-5 6-7   halves of the vector     an all-reduce doubles afterwards, the same steps back
 *                 0-2 1-3 4-6 5-7   quarters
 *                 0-4 1-5 2-6 3-7   eighths
 *
 * Large messages go to near partners. On a grid the axes take turns, one copy of the vector's parts begins with each
 * axis, and where all axes are rings another one has its partners at the other side, so that all links carry. On full
 * graphs ranks pair up in rank order, which keeps the large messages inside hosts; ranks beyond a power of two are
 * folded in, in an all-reduce. Ends: see butterfly.h.
 *
 * Sources: R. Rabenseifner, Optimization of collective reduction operations, 2004; R. Thakur, R. Rabenseifner and W.
 * Gropp, Optimization of collective communication operations in MPICH, 2005. Which copies load all links of a torus
 * alike is derived here. */
#include "topo/plan/butterfly.h"
#include "topo/plan/families.h"

#define REDUCES_ALL (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_BARRIER))
#define HALVES (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_ALL_GATHER) | MCI_COLL_BIT(MCI_REDUCE_SCATTER))

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  bool folds_in = request->coll == MCI_ALL_REDUCE || request->coll == MCI_BARRIER;
  return mci_butterfly_refuse(topo, false, folds_in, buffer, size);
}

static void cost_halving(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_butterfly b;
  mci_butterfly_of(topo, false, &b);
  mci_butterfly_cost(&b, request, false, out);
}

static void cost_doubling(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_butterfly b;
  mci_butterfly_of(topo, false, &b);
  mci_butterfly_cost(&b, request, true, out);
}

static meshcclResult_t build_halving(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost,
                                     uint32_t rank, mci_program** out) {
  mci_butterfly b;
  mci_butterfly_of(topo, false, &b);
  mci_butterfly_form form = {false, cost->channels};
  return mci_butterfly_build(&b, request, "halving_doubling", form, cost, rank, out);
}

static meshcclResult_t build_doubling(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost,
                                      uint32_t rank, mci_program** out) {
  mci_butterfly b;
  mci_butterfly_of(topo, false, &b);
  mci_butterfly_form form = {true, cost->channels};
  return mci_butterfly_build(&b, request, "recursive_doubling", form, cost, rank, out);
}

const mci_family mci_family_halving_doubling = {
    "halving_doubling", HALVES,       "halves of the vector between pairs of ranks, then the same way back", refuse,
    cost_halving,       build_halving};
const mci_family mci_family_recursive_doubling = {
    "recursive_doubling", REDUCES_ALL,   "the whole vector between pairs of ranks, in log2 p steps", refuse,
    cost_doubling,        build_doubling};
