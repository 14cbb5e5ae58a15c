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
 * Every tree's share is cut into equal chunks, and every link sends the chunks of all trees in one static order: by the
 * time at which each would leave if nothing collided (comb_order.c). A rank works this order out for its own links
 * alone.
 *
 * Lines to a spine at the rim are up to twice as long as those to one in the middle. So the former carry fewer chunks:
 * they begin later and end earlier, and all end together. Where delays are long that saves a third of
 * n hops; short vectors do without the outer spines altogether (`spines`): with the q in the middle the busiest
 * link carries 1/2 + 1/(2q) of the vector, and the longest way is 2n + q - 3 hops instead of 3n - 3.
 *
 * The two middle positions of a spine of even length swap their partial sums and both add them. The messages of a link
 * direction have one channel, or several in turn where the credits of one would not last. On squares there may be one
 * for spines and for each other level one for partial sums and one for totals, so that one that is late holds up only
 * its like. It ends and cannot lock: along a path of messages and of conditions the times never fall, and equal times
 * are ordered by part alike everywhere.
 *
 * Unequal links: all row combs cross the seams between columns, and which spine they have does not matter there. So the
 * shares of row and column combs follow the slowest links of their axes, and that is all that combs can do: where a
 * seam cuts rows, the other links of a row wait for it. Packed trees (packing.h) do better there.
 *
 * Source: the strength bound is Nash-Williams and Tutte 1961; for the packing by combs and its order we found no
 * published source. */
#ifndef MCI_PLAN_COMB_H
#define MCI_PLAN_COMB_H

#include "topo/plan/axis.h"
#include "topo/plan/plan.h"

#define MCI_COMB_MAX_MESSAGES 16384 /* per link: programs list every message */

/* What the planner chooses. */
typedef struct {
  uint32_t chunks;    /* of the trees of class 0 whose spines are in the middle */
  uint32_t spines;    /* at most so many positions per axis, the middle ones; 0: all */
  uint64_t margin_ps; /* the order counts a hop longer by this */
} mci_comb_way;

/* The combs that take the axes in one order. */
typedef struct {
  uint8_t order[MCI_MAX_DIMS];   /* the lines first, the spine last */
  uint32_t trees;                /* positions of the spine; 0: this order is of no use */
  uint32_t chunks;               /* of a tree with its spine in the middle */
  uint32_t part, nparts;         /* parts count trees, then chunks */
  uint64_t period_ps;            /* from one chunk of a tree to the next */
  uint64_t skip_period_ps;       /* the same when first and last chunks were left out */
  int64_t turn_ps;               /* between the sums of the lines and the spine */
  int64_t up_ps[MCI_MAX_DIMS];   /* chunk 0: when the sums along order[level] are complete */
  int64_t down_ps[MCI_MAX_DIMS]; /* chunk 0: when totals begin to travel along order[level] */
} mci_comb_class;

typedef struct {
  bool wide;
  mci_comb_way way;
  uint32_t naxes, nparts;
  bool apart;     /* partial sums, totals and spines have lanes of their own */
  uint32_t lanes; /* of a link, in each direction: chunks take them in turn */
  mci_axis axes[MCI_MAX_DIMS];
  mci_link links[MCI_MAX_DIMS];         /* per axis: the slowest */
  uint32_t spines[MCI_MAX_DIMS];        /* per axis: positions of spines, in the middle */
  mci_comb_class classes[MCI_MAX_DIMS]; /* one per axis */
  uint64_t send_ps[MCI_MAX_DIMS];       /* per axis: how long a chunk occupies a link */
  uint64_t hop_ps[MCI_MAX_DIMS];        /* and until it can go on */
  uint64_t step_ps[MCI_MAX_DIMS];       /* the same as the order counts it */
  uint64_t skip_hop_ps[MCI_MAX_DIMS];   /* hop_ps when first and last chunks were left out */
} mci_combs;

void mci_combs_init(mci_combs* combs, const mci_topo* topo, const mci_request* request, uint32_t rank,
                    const mci_comb_way* way);
/* From the first message to the last arrival. */
uint64_t mci_combs_time(const mci_combs* combs);
/* The same as the order has it, from the first to the last start of a message. */
uint64_t mci_combs_order_time(const mci_combs* combs);
/* Longest chain of messages of one chunk. Lines are passed inwards and outwards, the spine once: sums and totals meet
 * in its middle. */
uint32_t mci_combs_depth(const mci_combs* combs);
uint64_t mci_combs_messages(const mci_combs* combs); /* over a link, the busiest direction */
double mci_combs_load(const mci_combs* combs);       /* bytes over the busiest link direction, in units of N */

/* The chunks of a tree are first, .. of those of its class: trees with spines far from the middle, which take longer,
 * begin later and end earlier. Returns how many they are. */
uint32_t mci_comb_chunks(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t* first);
/* The position of a tree's spine on the axis of a level (not the last), see `trees`. */
uint32_t mci_comb_spine(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level);
/* Whether this rank takes part in a tree's level: it stands on the spine of all levels before. */
bool mci_comb_reaches(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level);
/* When chunk 0 leaves position x of the axis in direction dir; false: this tree sends nothing there. */
bool mci_comb_leaves(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level, uint32_t x,
                     unsigned dir, int64_t* ps_out);

meshcclResult_t mci_combs_build(const mci_combs* combs, uint32_t nranks, uint32_t rank, mci_program** out);

#endif
