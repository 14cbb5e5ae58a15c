/* A grid of one or two dimensions as text for people: ranks at their places, links between them, x for dead nodes, o
 * for live nodes that are no rank. Links that close a ring stick out at both ends. */
#include "topo/grid.h"

#define MAX_COLUMNS 40
#define MAX_ROWS 100

static int digits_of(uint32_t value) {
  int digits = 1;
  for (; value >= 10; value /= 10) digits++;
  return digits;
}

static bool works(const mci_topo* topo, uint32_t node, uint32_t dim, bool up) {
  return !mci_grid_is_dead(topo, node) && mci_grid_next(topo, node, dim, up) >= 0;
}

static void draw_node(const mci_topo* topo, uint32_t node, int width, mci_str* out) {
  int64_t rank = mci_grid_rank(topo, node);
  if (rank >= 0) {
    mci_str_add(out, "%*u", width, (uint32_t)rank);
  } else {
    mci_str_add(out, "%*s", width, mci_grid_is_dead(topo, node) ? "x" : "o");
  }
}

static void draw_row(const mci_topo* topo, uint32_t first, int width, mci_str* out) {
  uint32_t across = topo->ndims - 1, columns = topo->side[across];
  bool wraps = mci_topo_wraps(topo, across);
  if (wraps) mci_str_add(out, "%s", works(topo, first, across, false) ? "- " : "  ");
  for (uint32_t c = 0; c < columns; c++) {
    draw_node(topo, first + c, width, out);
    if (c + 1 < columns) mci_str_add(out, "%s", works(topo, first + c, across, true) ? " -- " : "    ");
  }
  mci_str_add(out, "%s\n", wraps && works(topo, first, across, false) ? " -" : "");
}

/* The links from a row upwards or downwards along the first dimension. */
static void draw_pillars(const mci_topo* topo, uint32_t first, bool up, int width, mci_str* out) {
  uint32_t columns = topo->side[1];
  int blanks = (mci_topo_wraps(topo, 1) ? 2 : 0) + width - 1;
  for (uint32_t c = 0; c < columns; c++) {
    if (works(topo, first + c, 0, up)) {
      mci_str_add(out, "%*s|", blanks, "");
      blanks = width + 3;
    } else {
      blanks += width + 4;
    }
  }
  mci_str_add(out, "\n");
}

meshcclResult_t mci_topo_draw(const mci_topo* topo, mci_str* out) {
  mci_str_add(out, "%s", "");
  uint32_t rows = topo->ndims == 2 ? topo->side[0] : 1;
  if (topo->full || topo->ndims > 2 || topo->side[topo->ndims - 1] > MAX_COLUMNS || rows > MAX_ROWS)
    return mci_str_result(out);
  int width = digits_of(topo->nranks - 1);
  uint32_t columns = topo->side[topo->ndims - 1];
  bool wraps = topo->ndims == 2 && mci_topo_wraps(topo, 0);
  if (wraps) draw_pillars(topo, 0, false, width, out);
  for (uint32_t row = 0; row < rows; row++) {
    draw_row(topo, row * columns, width, out);
    if (topo->ndims == 2 && (row + 1 < rows || wraps)) draw_pillars(topo, row * columns, true, width, out);
  }
  return mci_str_result(out);
}
