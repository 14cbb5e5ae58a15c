/* Between phases.c, which opens channels, and phases_step.c, which writes one chunk of a phase into them. */
#ifndef MCI_PLAN_PHASES_STEP_H
#define MCI_PLAN_PHASES_STEP_H

#include "topo/plan/phases.h"

typedef struct {
  const mci_phases* phases;
  mci_build* b;
  uint32_t chunks;
  uint32_t period;       /* chunks per turn of the chunk loop */
  uint32_t turn;         /* which of them: 1 travels mirrored */
  uint32_t number;       /* of the phase */
  uint32_t color, level; /* the axis is order[color][level] */
  unsigned dir;
  bool gather; /* else scatter */
  bool waited; /* the conditions of this chunk have been written */
} mci_phase;

const mci_axis* mci_phase_axis(const mci_phase* phase);
/* Steps of one chunk in direction dir when its place in the turn is `turn`. */
uint32_t mci_phase_steps(const mci_phase* phase, unsigned dir, uint32_t turn);
/* Which chunk of a turn direction dir takes at `place`. */
uint32_t mci_phase_turn(const mci_phase* phase, unsigned dir, uint32_t place);
/* The direction that takes this chunk of a turn before the other does, or whose sum of it comes first. */
unsigned mci_phase_early(const mci_phase* phase, uint32_t turn);
/* Steps that the channel of direction dir has run after this chunk. */
mci_affine mci_phase_done(const mci_phase* phase, unsigned dir);
uint16_t mci_phase_channel(const mci_phase* phase, unsigned dir);
/* Adds the conditions by which links carry one phase after the other. The first gathering needs none: it takes the
 * links of the last scattering wherever they would wait; nor an all-reduce on a line, whose both halves load opposite
 * ends. */
void mci_phase_after_links(const mci_phase* phase);
bool mci_phase_before(const mci_phase* phase, mci_phase* out); /* false: this is the first */

void mci_phase_scatter(mci_phase* phase);
void mci_phase_gather(mci_phase* phase);

#endif
