/* Reduce-scatter, all-gather and all-reduce along the axes of a product of lines and rings.
 *
 * The vector is cut by colours (which axis comes first) and each colour into chunks. A colour reduces along its first
 * axis, then within what this rank keeps along its second, and so on; gathering is the mirror image. Every (phase,
 * colour, direction) is one channel that runs over the chunks, and waits for the phase before it chunk by chunk, so
 * that phases of different chunks overlap and a low channel number is an early phase.
 *
 *        phase 0            phase 1           phase 2           phase 3          (all-reduce on two axes)
 *     A: scatter rows   ->  scatter columns -> gather columns -> gather rows
 *     B: scatter columns -> scatter rows    -> gather rows    -> gather columns
 *
 * On an axis of n positions partial sums for x start at the far ends and move towards x from both sides. On a ring they
 * start half way round; when n is even the far position is one hop nearer one way, and odd chunks take the other.
 *
 * The two sums for x are added in a fixed order, and a channel that waits to add the second takes no messages. So on
 * rings chunks come in pairs that the directions take in opposite order: each adds first in the chunk it takes early,
 * and finds the other's sum there in the one it takes late. On a line the sum that comes from nearer is added first.
 *
 *        ahead    c0: first   c1: second   c2: first   ..
 *        behind   c1: first   c0: second   c3: first   ..
 *
 * Links carry phase after phase, not chunk after chunk: the first step of a phase waits until all chunks of the phase
 * before that uses the same links have left. Otherwise early chunks of a late phase slow late chunks of an early one,
 * and links run dry at the end. Between scattering and gathering nothing waits: both use the same links then.
 *
 * It ends and cannot lock: within a phase the k-th message of a lane depends only on the k-th or earlier of the lane
 * behind it, back to a rank that starts with its own data, and what is added second waits for an earlier place of the
 * other direction; phases are ordered. A place that was lent is written again
 * only with a value that was computed from what was lent.
 *
 * Sources: bucket algorithm of Sack and Gropp 2015 and Jain and Sabharwal 2010. Both ways round each ring and weights
 * for unequal sides are derived in phases_colors.c. */
#ifndef MCI_PLAN_PHASES_H
#define MCI_PLAN_PHASES_H

#include "topo/plan/axis.h"
#include "topo/plan/plan.h"

#define MCI_PHASES_MAX_CHUNKS 64
#define MCI_PHASES_MAX_AXES 12 /* dimensions of a grid, at several levels */

typedef struct {
  mci_coll coll; /* all-reduce, all-gather or reduce-scatter */
  bool wide;
  uint64_t message_bytes; /* for the cost: pieces are passed on in messages of at most this; 0: 131072 */
  uint32_t naxes;         /* all longer than 1 */
  mci_axis axes[MCI_PHASES_MAX_AXES];
  uint32_t ncolors;
  uint8_t order[MCI_MAX_DIMS][MCI_PHASES_MAX_AXES]; /* per colour: axes in the order of reducing */
  uint32_t weight[MCI_MAX_DIMS];                    /* per colour, above 0 */
} mci_phases;

/* Figures of the links under an axis. */
typedef struct {
  mci_link link;
  uint64_t detour; /* hops of all its steps beyond one each */
  uint32_t load;   /* steps that share a link direction */
  uint32_t passes; /* bit per axis over whose links these steps travel as well */
} mci_axis_links;

/* At most MCI_MAX_DIMS axes: fills order and weight from axes: one colour per axis, weighted so that all links carry
 * alike; colours that would carry nothing are left out. */
void mci_phases_colors(mci_phases* phases);
/* Time with the best number of chunks, all fields of out. */
void mci_phases_cost(const mci_phases* phases, const mci_axis_links* links, uint64_t bytes, mci_plan_cost* out);
/* `place` maps position (row-major over the axes) to rank, NULL: identity. */
meshcclResult_t mci_phases_build(const mci_phases* phases, const char* name, uint32_t nranks, uint32_t rank,
                                 const mci_plan_cost* cost, const uint32_t* place, mci_program** out);

uint32_t mci_phases_positions(const mci_phases* phases); /* product of the axes */
/* Chunks come in pairs: the second travels mirrored, and the two directions take them in opposite order. */
bool mci_phases_paired(const mci_phases* phases, uint32_t chunks);

#endif
