/* How much of the vector each colour carries, such that the links of all axes carry alike.
 *
 * A colour that takes axis d after axes of sides a, b, .. sends pieces of 1/(a b .. n) of its share over a link of d,
 * and as many of them as the axis needs: (n - 1) / 2 per direction and phase on a ring, n - 1 on a line; an all-reduce
 * on a line needs n for both phases together, because scattering fills one end of a link's positions and gathering the
 * other. The weights w solve  sum_c load(d, c) w_c = 1 for every d  (balance.c). On two axes this is the closed form  w
 * = ((p-1)/(2(r-1)) - 1)/(c-1)  of the two-colour torus and mesh. */
#include "base/base.h"
#include "topo/plan/balance.h"
#include "topo/plan/phases.h"

#define WEIGHT_SUM 65536 /* of all colours */

/* Twice the pieces over a link of the axis, all phases of the collective. */
static int64_t pieces(const mci_phases* phases, const mci_axis* axis) {
  bool twice = phases->coll == MCI_ALL_REDUCE;
  if (axis->ring) return (int64_t)(axis->n - 1) * (twice + 1) * (axis->one_way + 1);
  return 2 * (int64_t)(twice ? axis->n : axis->n - 1);
}

static void set_loads(const mci_phases* phases, mci_loads load) {
  for (uint32_t c = 0; c < phases->naxes; c++) {
    int64_t size = mci_phases_positions(phases);
    for (uint32_t l = 0; l < phases->naxes; l++) {
      uint32_t d = phases->order[c][l];
      size /= phases->axes[d].n;
      load[d][c] = pieces(phases, &phases->axes[d]) * size;
    }
  }
}

/* First the colour's own axis. Then the others: in cyclic order, which balances best; a reduce-scatter over three and
 * more takes them ascending, so that what a fold leaves in scratch is already in the order of the next axis. */
static void set_orders(mci_phases* phases) {
  uint32_t n = phases->naxes;
  for (uint32_t c = 0; c < n; c++) {
    phases->order[c][0] = (uint8_t)c;
    for (uint32_t l = 1; l < n; l++) {
      bool ascending = phases->coll == MCI_REDUCE_SCATTER;
      phases->order[c][l] = (uint8_t)(ascending ? l - (l <= c) : (c + l) % n);
    }
  }
}

void mci_phases_colors(mci_phases* phases) {
  mci_loads load;
  uint32_t share[MCI_MAX_DIMS];
  set_orders(phases);
  set_loads(phases, load);
  mci_balance(load, phases->naxes, WEIGHT_SUM, share);
  phases->ncolors = 0;
  for (uint32_t c = 0; c < phases->naxes; c++) {
    if (share[c] == 0) continue;
    uint32_t k = phases->ncolors++;
    phases->weight[k] = share[c];
    for (uint32_t l = 0; l < phases->naxes; l++) phases->order[k][l] = phases->order[c][l];
  }
}
