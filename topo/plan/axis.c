/* See axis.h. */
#include "topo/plan/axis.h"

#include "base/base.h"

uint32_t mci_axis_reach(const mci_axis* axis, unsigned dir, bool mirror) {
  if (axis->one_way) return dir == MCI_AHEAD ? axis->n - 1 : 0;
  bool longer = (dir == MCI_AHEAD) != mirror;
  return longer ? axis->n / 2 : (axis->n - 1) / 2;
}

mci_flow mci_axis_flow(const mci_axis* axis, unsigned dir, bool mirror) {
  mci_flow flow;
  if (axis->ring) {
    uint32_t reach = mci_axis_reach(axis, dir, mirror);
    uint32_t through = reach > 0 ? reach - 1 : 0;
    return (mci_flow){.out = reach, .in = reach, .scatter_through = through, .gather_through = through};
  }
  uint32_t above = axis->n - 1 - axis->at;
  flow.out = dir == MCI_AHEAD ? above : axis->at;
  flow.in = dir == MCI_AHEAD ? axis->at : above;
  flow.scatter_through = flow.in > 0 ? flow.out : 0;
  flow.gather_through = flow.out > 0 ? flow.in : 0;
  return flow;
}

uint32_t mci_axis_depth(const mci_axis* axis) {
  return axis->ring ? mci_axis_reach(axis, MCI_AHEAD, false) : axis->n - 1;
}

uint32_t mci_axis_runs(uint32_t n, uint32_t first, uint32_t count, int step, mci_run out[2]) {
  if (count == 0) return 0;
  uint32_t head = step > 0 ? n - first : first + 1;
  if (count <= head) {
    out[0] = (mci_run){first, count};
    return 1;
  }
  out[0] = (mci_run){first, head};
  out[1] = (mci_run){step > 0 ? 0 : n - 1, count - head};
  return 2;
}
