/* What the hierarchical families share: the levels of a topology as stages, and who stands for a group.
 *
 * A stage joins units to groups: stage 0 joins ranks to groups of the innermost level, stage s joins the groups of
 * stage s - 1, and the last stage joins all that is left. Levels with a single group, and levels that add nothing to
 * the one inside them, are no stages.
 *
 *        stage 0         stage 1                  full:7@level=host:3+2+2 has two stages; the units of stage 0 are
 *     (0 1 2) (3 4) (5 6)  ->  (A B C)            ranks, those of stage 1 the hosts A, B, C
 *
 * Items are what a vector is cut into. An item has one digit per stage; digit d of k at a stage whose group has c units
 * belongs to unit floor(d c / k). So every group, whatever its size, names one unit per item, and by descent one rank:
 * the item's rail in that group. Rails of one item talk to each other across groups, and a group's items are spread
 * over its ranks evenly. Where d and k are the place of a rank q and the size of its own group, the rail within every
 * group that holds q is q itself. */
#ifndef MCI_PLAN_HIER_H
#define MCI_PLAN_HIER_H

#include "topo/plan/plan.h"

#define MCI_HIER_MAX_STAGES (MCI_MAX_LEVELS + 1)

typedef struct {
  const mci_topo* topo;
  uint32_t nstages;                     /* at least 2 where levels matter */
  uint32_t level[MCI_MAX_LEVELS];       /* of the groups of stage s; the last stage has one group, everything */
  uint32_t nunits[MCI_HIER_MAX_STAGES]; /* in all groups of the stage */
  uint32_t ngroups[MCI_HIER_MAX_STAGES];
  uint32_t most[MCI_HIER_MAX_STAGES];   /* units in the largest group */
  bool even;                            /* all groups of a stage have equally many units, at every stage */
  mci_link link[MCI_HIER_MAX_STAGES];   /* between units of the stage */
  uint32_t* first[MCI_HIER_MAX_STAGES]; /* stages above 0: where a group's units begin in `units`; ngroups + 1 */
  uint32_t* units[MCI_HIER_MAX_STAGES];
} mci_hier;

/* A rank's place: at every stage its group, and which of its units the rank is in. */
typedef struct {
  uint32_t group, index, count;
} mci_hier_place;

typedef struct {
  uint32_t digit[MCI_HIER_MAX_STAGES], of[MCI_HIER_MAX_STAGES];
} mci_hier_item;

/* NULL when the topology has at least two stages, else why not. */
const char* mci_hier_refuse(const mci_topo* topo);
/* Memory proportional to the number of groups. */
meshcclResult_t mci_hier_of(const mci_topo* topo, mci_hier* out);
void mci_hier_fini(mci_hier* hier);

uint32_t mci_hier_count(const mci_hier* hier, uint32_t stage, uint32_t group);
uint32_t mci_hier_unit(const mci_hier* hier, uint32_t stage, uint32_t group, uint32_t i);
uint32_t mci_hier_first_rank(const mci_hier* hier, uint32_t stage, uint32_t unit);
void mci_hier_place_of(const mci_hier* hier, uint32_t rank, mci_hier_place place[MCI_HIER_MAX_STAGES]);
/* The rank that stands for an item in a unit of the stage; stage == nstages: in everything (unit 0). */
uint32_t mci_hier_rail(const mci_hier* hier, uint32_t stage, uint32_t unit, const mci_hier_item* item);

/* Grids: ranks along each dimension of a stage's first unit, or group, as the box that it lies in. */
void mci_hier_extent(const mci_hier* hier, uint32_t stage, bool group, uint32_t out[MCI_MAX_DIMS]);

/* Grids: delay of the way from a unit to the same place of the next one along a dimension. */
uint64_t mci_hier_delay(const mci_hier* hier, uint32_t stage, uint32_t dim);
/* Grids: where planes alone join the units of a stage, the ports of a unit and the slowest plane's figures; else 0. */
uint32_t mci_hier_ports(const mci_hier* hier, uint32_t stage, mci_link* link);
/* Delay of the longest way between the same places of two units of a group. */
uint64_t mci_hier_longest_delay(const mci_hier* hier, uint32_t stage);

/* Digits d of k that belong to unit i of c: [first, end). */
static inline uint32_t mci_hier_begin(uint32_t i, uint32_t c, uint32_t k) {
  return (uint32_t)(((uint64_t)i * k + c - 1) / c);
}

/* ---- hier.c, hier_pieces.c, hier_build.c: direct messages at every stage ---- */
typedef struct {
  mci_coll coll;
  bool wide;
  bool listed;   /* items are the ranks one by one; else all combinations of digits below radix[], the first slowest */
  bool exchange; /* the last stage has no owners: all rails of an item send each other what they have */
  uint32_t radix[MCI_HIER_MAX_STAGES];
  uint32_t chunks;
} mci_hier_shape;

/* Consecutive items that go the same way at a stage. */
typedef struct {
  uint32_t block, run;
  uint32_t owner; /* the unit of the group that takes them */
  uint32_t skip;  /* pieces of this size before it in what the rank holds after stage 0 */
  mci_hier_item item;
} mci_hier_piece;

/* What the rank holds before the stage reduces, own pieces first, then those of the next unit, and so on; each unit's
 * in the same order on all ranks. To be freed. */
meshcclResult_t mci_hier_pieces(const mci_hier* hier, const mci_hier_shape* shape, uint32_t rank,
                                const mci_hier_place* place, uint32_t stage, mci_hier_piece** out, uint32_t* n);
uint32_t mci_hier_blocks(const mci_hier* hier, const mci_hier_shape* shape);
/* Rank of every block, to be freed; NULL when that is rank order. */
meshcclResult_t mci_hier_order(const mci_hier* hier, const mci_hier_shape* shape, uint32_t** out);
meshcclResult_t mci_hier_build(const mci_hier* hier, const mci_hier_shape* shape, uint32_t rank, mci_program** out);

/* ---- hier_all_to_all.c ---- */
void mci_hier_all_to_all_cost(const mci_hier* hier, const mci_request* request, mci_plan_cost* out);
meshcclResult_t mci_hier_all_to_all_build(const mci_hier* hier, const mci_request* request, uint32_t rank,
                                          mci_program** out);

#endif
