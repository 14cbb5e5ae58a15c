/* The planner: a pure function of (topology, request). Costs are integers (ps), near ties go to the earlier row of the table,
 * so that every rank on every machine chooses alike. Losers are costed in closed form, only the winner is built, and only
 * for one rank: in time and memory proportional to that rank's own program. */
#ifndef MCI_PLAN_H
#define MCI_PLAN_H

#include "sched/sched.h"
#include "topo/graph.h"

typedef struct {
  mci_coll coll;
  uint64_t bytes; /* of the whole vector, see bounds.h */
  uint32_t root;
  uint64_t message_bytes; /* the largest message that will be sent: longer chunks are cut; 0: 131072 */
  bool wide;              /* folds accumulate 16- and 8-bit floats in float32 (MCI_WIDE on every fold) */
  bool once; /* one fold takes the numbers of all ranks: with `wide`, a sum is rounded once on its whole way */
} mci_request;

/* What a job of `nranks` asks: messages and rounding as MESHCCL_SLICE and MESHCCL_ACCUMULATE say. narrow: it adds 16- or
 * 8-bit floats, if `coll` reduces at all; only they are rounded in more than one way. */
mci_request mci_plan_request(mci_coll coll, uint64_t bytes, uint32_t nranks, bool narrow);
/* The largest message of such a job. Two ranks have few lanes, so that longer ones need little memory; they save system
 * calls and handovers. */
uint64_t mci_plan_slice_bytes(uint32_t nranks);

typedef struct {
  uint64_t cost_ps;
  uint32_t steps; /* longest chain of messages (one pipeline chunk) */
  uint32_t channels;
  uint32_t chunks;  /* pipeline depth the builder is to use */
  uint32_t variant; /* what else the builder is to know, as the family's cost chose it */
  double load;      /* bytes over the busiest link direction, in units of N */
} mci_plan_cost;

/* One algorithm family. */
typedef struct mci_family {
  const char* name;
  uint32_t colls;      /* bit per mci_coll */
  const char* summary; /* one line for people */
  /* NULL when it applies, else why not (static text or text in `buffer`). */
  const char* (*refuse)(const mci_topo* topo, const mci_request* request, char* buffer, size_t size);
  void (*cost)(const mci_topo* topo, const mci_request* request, mci_plan_cost* out);
  meshcclResult_t (*build)(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost, uint32_t rank,
                           mci_program** out);
} mci_family;

extern const mci_family* const mci_families[]; /* the visible table, NULL-terminated (table.c) */

typedef struct {
  const mci_family* family;
  bool applies;
  char reason[160]; /* why it does not apply, or "" */
  mci_plan_cost cost;
} mci_candidate;

#define MCI_MAX_CANDIDATES 32
/* All families for the collective: those that apply first, best first, then the others. Where the best ones are within
 * half a percent, the one that the table has first. */
meshcclResult_t mci_plan_candidates(const mci_topo* topo, const mci_request* request, mci_candidate* out, uint32_t* n);
/* The winner, or the family called `forced` (NULL: free choice). InvalidArgument names unknown or unfit ones. */
meshcclResult_t mci_plan_choose(const mci_topo* topo, const mci_request* request, const char* forced,
                                mci_candidate* out);
/* Finds "all_reduce:ring;broadcast:tree"'s entry for coll; NULL text: none. *out is "" when there is none. */
meshcclResult_t mci_plan_forced(const char* text, mci_coll coll, char* out, size_t size);
meshcclResult_t mci_plan_build(const mci_topo* topo, const mci_request* request, const mci_candidate* choice,
                               uint32_t rank, mci_program** out);
/* Every rank's program (for proofs and exports; memory proportional to all of them). */
meshcclResult_t mci_plan_build_all(const mci_topo* topo, const mci_request* request, const mci_candidate* choice,
                                   mci_schedule** out);
/* The size that stands for all counts of its class: powers of two from 1 up. Plans depend on the class only. */
uint64_t mci_plan_class(uint64_t bytes);
#endif
