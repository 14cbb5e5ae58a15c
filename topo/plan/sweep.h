/* All-reduce of small and middle vectors on lines and rings, axis by axis, in the fewest hops.
 *
 * The vector is cut by colours (which axis comes first) and each colour into chunks. A colour takes its axes in turn:
 *
 *     scatter   (the first `scattered` axes) every position gets the sum of its block, as in phases.h
 *     all       (the other axes) every position gets the sum of everything that is left
 *     gather    (the scattered axes, backwards) every position gets all blocks
 *
 * On an axis that sums all, a segment of w positions (all of a line; some of a ring) adds with running sums from both
 * ends, which meet in its middle, swap there and go on as totals to the other ends: w - 1 hops, every link direction
 * once.
 *
 *     w = 4     x0 ->  x0+x1  <swap>  x2+x3 <- x3          w = 5: the middle adds both sums and sends the total
 *                   <- total         total ->
 *
 * Then the sums of the segments go round the ring both ways from the ends of their segments, and every position adds
 * them in one order, so that all get the same bits: ceil((n - w) / 2) hops more. Of n = 8 positions:
 *
 *     w = 1    4 hops, every link carries 3.5 vectors        w = 4    5 hops, 1.25 vectors
 *     w = 2    4 hops, 2 vectors                             w = 8    7 hops, 7/8 vector
 *
 * Segments start elsewhere in every chunk, so that links are loaded alike. On a mesh, lines alone reach the diameter in
 * hops and load every link with one vector in all; on a torus two axes with w = 2 reach the diameter with 2 vectors,
 * and scattering lowers the load for more hops. The planner tries all and chooses by predicted time.
 *
 * Every (colour, axis, direction) has channels of its own, whose steps are in the order of the times at which they
 * would run if nothing collided; a rank works this order out for itself. It ends and cannot lock: along a path of
 * messages and of conditions the times never fall, messages of a lane take equally long, and equal times are ordered by
 * chunk and within a chunk alike everywhere.
 *
 * Sources: exchange on both halves of a line is folklore; segments on rings and their order are derived here, for which
 * we found no published source. */
#ifndef MCI_PLAN_SWEEP_H
#define MCI_PLAN_SWEEP_H

#include "topo/plan/axis.h"
#include "topo/plan/plan.h"

#define MCI_SWEEP_MAX_CHUNKS 64
#define MCI_SWEEP_MAX_STAGES (2 * MCI_MAX_DIMS)
#define MCI_SWEEP_MAX_LANES 16
#define MCI_SWEEP_MAX_TURNS 8 /* of a prediction */

typedef enum { MCI_SWEEP_SCATTER, MCI_SWEEP_ALL, MCI_SWEEP_GATHER } mci_sweep_kind;

/* How a program is made: what the planner chooses. */
typedef struct {
  uint32_t chunks;              /* per colour */
  uint32_t scattered;           /* axes */
  uint32_t width[MCI_MAX_DIMS]; /* of segments, per axis; divides its side, a line is one segment */
} mci_sweep_way;

/* One axis in one pass. Times are of one chunk. */
typedef struct {
  mci_sweep_kind kind;
  uint32_t axis;
  uint32_t width, segments; /* ALL */
  uint32_t hops;
  uint64_t hop_ps;  /* one message over one link, with its delay */
  uint64_t busy_ps; /* that a link is occupied */
  uint64_t from_ps; /* since the first pass began */
} mci_sweep_stage;

typedef struct {
  uint8_t order[MCI_MAX_DIMS];
  uint32_t weight; /* of every chunk */
  uint32_t nstages;
  mci_sweep_stage stages[MCI_SWEEP_MAX_STAGES];
} mci_sweep_color;

typedef struct {
  bool wide;
  mci_sweep_way way;
  uint32_t naxes, ncolors;
  uint32_t lanes; /* channels among which the chunks of a stage and direction take turns */
  mci_axis axes[MCI_MAX_DIMS];
  mci_sweep_color colors[MCI_MAX_DIMS];
  uint64_t period_ps; /* from one chunk to the next */
} mci_sweep;

void mci_sweep_init(mci_sweep* sweep, const mci_topo* topo, const mci_request* request, const mci_sweep_way* way,
                    uint32_t rank);
/* Predicted time. */
uint64_t mci_sweep_time(const mci_sweep* sweep);
uint32_t mci_sweep_hops(const mci_sweep* sweep);
double mci_sweep_load(const mci_sweep* sweep); /* bytes over the busiest link direction, in units of the vector */
uint32_t mci_sweep_channels(const mci_sweep* sweep);
/* First position of the segments of a chunk, less than their width. */
uint32_t mci_sweep_offset(const mci_sweep_stage* stage, uint32_t chunk);
/* How far sums of segments go in a direction. */
uint32_t mci_sweep_reach(const mci_sweep_stage* stage, uint32_t n, unsigned dir, bool mirror);
meshcclResult_t mci_sweep_build(const mci_sweep* sweep, uint32_t nranks, uint32_t rank, mci_program** out);

#endif
