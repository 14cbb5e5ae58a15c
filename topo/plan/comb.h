/* Rotating combs: all-reduce on a mesh of one to four dimensions (no wraparound) that loads every link alike, with
 * exactly 1 / strength of the mesh: no algorithm moves fewer bytes over the busiest link.
 *
 * A comb is a spanning tree: all lines along one axis, and one line across them, the spine. It reduces along the lines
 * to the spine, along the spine to its middle, and broadcasts the same way back.
 *
 *        row comb, spine s = 1              column comb, spine s = 1
 *
 *        o->o<-o<-o<-o                      o  o  o  o  o
 *           v                               v  v  v  v  v
 *        o->o<-o<-o<-o                      o->o->o<-o<-o
 *           ^                               ^  ^  ^  ^  ^
 *        o->o<-o<-o<-o                      o  o  o  o  o
 *
 * Lines carry each byte once in each direction (inwards as partial sums, outwards as totals), and so does the spine.
 * With one comb per possible spine the spines' load spreads over all lines; the shares of row and column combs are such
 * that both axes carry alike (balance.c). In more dimensions a comb takes the axes in a cyclic order, every axis but
 * the last has a position s, and there is one tree for each choice of them.
 *
 * Every tree's share is cut into chunks, and every link sends the chunks of all trees in one static order: by the time
 * at which each would leave if nothing collided (comb_order.c). A rank works this order out for its own links alone.
 *
 * The two middle positions of a spine of even length swap their partial sums and both add them. Each link direction has
 * one channel or, where all sides are equal, one for spines and for each other level one for partial sums and one for
 * totals. It ends and cannot lock:
 * along a path of messages and of conditions the times never fall, and equal times are ordered by part alike
 * everywhere.
 *
 * Source: the strength bound is Nash-Williams and Tutte 1961; for the packing by combs and its order we found no
 * published source. */
#ifndef MCI_PLAN_COMB_H
#define MCI_PLAN_COMB_H

#include "topo/plan/axis.h"
#include "topo/plan/plan.h"

#define MCI_COMB_MAX_MESSAGES 16384 /* per link: programs list every message */

/* The combs that take the axes in one order. */
typedef struct {
  uint8_t order[MCI_MAX_DIMS];   /* the lines first, the spine last */
  uint32_t trees;                /* positions of the spine */
  uint32_t chunks;               /* of every tree */
  uint32_t part;                 /* number of the first part; parts count trees, then chunks */
  uint32_t weight;               /* of every part */
  uint64_t period_ps;            /* from one chunk of a tree to the next */
  int64_t up_ps[MCI_MAX_DIMS];   /* chunk 0: when the sums along order[level] are complete */
  int64_t down_ps[MCI_MAX_DIMS]; /* chunk 0: when totals begin to travel along order[level] */
} mci_comb_class;

typedef struct {
  bool wide;
  bool equal; /* all sides */
  uint32_t naxes, nparts;
  mci_axis axes[MCI_MAX_DIMS];
  mci_comb_class classes[MCI_MAX_DIMS]; /* one per axis */
  uint64_t hop_ps;                      /* time that the order allows for one hop of one chunk */
} mci_combs;

/* Axes, shares, and the order for `chunks` chunks of each tree of class 0. `patience` stretches the hops of the order,
 * in quarters: 4 is what the link figures say. */
void mci_combs_init(mci_combs* combs, const mci_topo* topo, const mci_request* request, uint32_t rank, uint32_t chunks,
                    uint32_t patience);
/* From the first message to the last arrival, when the order is kept. */
uint64_t mci_combs_time(const mci_combs* combs);
uint64_t mci_combs_messages(const mci_combs* combs); /* over a link, the busiest direction */

/* The position of a tree's spine on the axis of a level (not the last), see `trees`. */
uint32_t mci_comb_spine(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level);
/* Whether this rank takes part in a tree's level: it stands on the spine of all levels before. */
bool mci_comb_reaches(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level);
/* When chunk 0 leaves position x of the axis in direction dir; false: this tree sends nothing there. */
bool mci_comb_leaves(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level, uint32_t x,
                     unsigned dir, int64_t* ps_out);

meshcclResult_t mci_combs_build(const mci_combs* combs, uint32_t nranks, uint32_t rank, mci_program** out);

#endif
