/* Between phases.c, which opens channels, and phases_step.c, which writes one chunk of a phase into them. */
#ifndef MCI_PLAN_PHASES_STEP_H
#define MCI_PLAN_PHASES_STEP_H

#include "topo/plan/phases.h"

typedef struct {
  const mci_phases* phases;
  mci_build* b;
  uint32_t chunks;
  uint32_t period;       /* chunks per turn of the chunk loop */
  uint32_t turn;         /* which of them: also whether it travels mirrored */
  uint32_t number;       /* of the phase */
  uint32_t color, level; /* the axis is order[color][level] */
  unsigned dir;
  bool gather; /* else scatter */
  bool waited; /* the conditions of this chunk have been written */
} mci_phase;

const mci_axis* mci_phase_axis(const mci_phase* phase);
/* Steps of one chunk in direction dir when its place in the turn is `turn`. */
uint32_t mci_phase_steps(const mci_phase* phase, unsigned dir, uint32_t turn);
/* Steps that the channel of direction dir has run after this chunk. */
mci_affine mci_phase_done(const mci_phase* phase, unsigned dir);
uint16_t mci_phase_channel(const mci_phase* phase, unsigned dir);
bool mci_phase_before(const mci_phase* phase, mci_phase* out); /* false: this is the first */

void mci_phase_scatter(mci_phase* phase);
void mci_phase_gather(mci_phase* phase);

#endif
