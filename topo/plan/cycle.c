/* A closed way through all ranks, as short as a closed form gives.
 *
 *   even number of ranks: an even side makes the rows, all others together a snake of columns; down in columns 1 and
 *   on, row by row to and fro, and back up in column 0:
 *
 *        o  o--o--o        odd torus: rows along the shortest ring, whole turns. A turn to the left ends one column
 *        |  |     |        further right, a turn to the right one further left; (rows + columns) / 2 turns to the left
 *        o  o--o--o        come out at the first column again, one row below the last, which is the first. The order
 *        |        |        of the rows is such a way through the other dimensions.
 *        o--o--o--o  ...
 *
 *   otherwise (odd, with an open side): the snake, closed over a route. With holes or missing ranks: rank order, over
 *   routes where ranks are not neighbours. Kotzig 1973 and Foregger 1978 show more: two cycles without common links. */
#include "base/base.h"
#include "topo/plan/families.h"

/* The dimensions longer than 1, largest role first: see prepare. */
typedef struct {
  enum { RANK_ORDER, SNAKE, TO_AND_FRO, TURNS } kind;
  uint32_t ndims;
  uint32_t dim[MCI_MAX_DIMS], side[MCI_MAX_DIMS];
} way;

static void move_first(way* w, uint32_t k) {
  for (; k > 0; k--) {
    uint32_t dim = w->dim[k], side = w->side[k];
    w->dim[k] = w->dim[k - 1], w->side[k] = w->side[k - 1];
    w->dim[k - 1] = dim, w->side[k - 1] = side;
  }
}

static way prepare(const mci_topo* topo) {
  way w = {.kind = RANK_ORDER};
  if (mci_topo_is_full(topo) || !mci_topo_is_regular(topo)) return w;
  bool rings = true;
  int even = -1;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    uint32_t side = mci_topo_side(topo, d);
    if (side == 1) continue;
    rings = rings && mci_topo_wraps(topo, d);
    if (side % 2 == 0) even = (int)w.ndims;
    w.dim[w.ndims] = d;
    w.side[w.ndims++] = side;
  }
  if (w.ndims == 1 || (even < 0 && !rings)) {
    w.kind = SNAKE;
  } else if (even >= 0) {
    w.kind = TO_AND_FRO;
    move_first(&w, (uint32_t)even);
  } else {
    w.kind = TURNS;
    for (uint32_t i = 0; i < w.ndims; i++) { /* descending sides */
      uint32_t largest = i;
      for (uint32_t k = i + 1; k < w.ndims; k++)
        if (w.side[k] > w.side[largest]) largest = k;
      uint32_t dim = w.dim[largest], side = w.side[largest];
      w.dim[largest] = w.dim[i], w.side[largest] = w.side[i];
      w.dim[i] = dim, w.side[i] = side;
    }
  }
  return w;
}

/* ---- the snake through dimensions first .. ndims-1 ---- */
static void snake_at(const way* w, uint32_t first, uint32_t position, uint32_t* at) {
  uint32_t rest = 1, before = 0;
  for (uint32_t k = first; k < w->ndims; k++) rest *= w->side[k];
  for (uint32_t k = first; k < w->ndims; k++) {
    rest /= w->side[k];
    uint32_t digit = position / rest % w->side[k];
    at[w->dim[k]] = before % 2 ? w->side[k] - 1 - digit : digit;
    before = before * w->side[k] + digit;
  }
}

static uint32_t snake_position(const way* w, uint32_t first, const uint32_t* at) {
  uint32_t position = 0;
  for (uint32_t k = first; k < w->ndims; k++) {
    uint32_t x = at[w->dim[k]];
    position = position * w->side[k] + (position % 2 ? w->side[k] - 1 - x : x);
  }
  return position;
}

/* ---- to and fro in columns 1 and on, back in column 0 ---- */
static uint32_t columns(const way* w) {
  uint32_t n = 1;
  for (uint32_t k = 1; k < w->ndims; k++) n *= w->side[k];
  return n;
}

static void to_and_fro_at(const way* w, uint32_t position, uint32_t* at) {
  uint32_t width = columns(w) - 1, row = position / width, step = position % width;
  if (row < w->side[0]) {
    snake_at(w, 1, row % 2 ? width - step : 1 + step, at);
  } else {
    row = w->side[0] - 1 - (position - w->side[0] * width);
    snake_at(w, 1, 0, at);
  }
  at[w->dim[0]] = row;
}

static uint32_t to_and_fro_position(const way* w, const uint32_t* at) {
  uint32_t width = columns(w) - 1, row = at[w->dim[0]], column = snake_position(w, 1, at);
  if (column == 0) return w->side[0] * width + w->side[0] - 1 - row;
  return row * width + (row % 2 ? width - column : column - 1);
}

/* ---- whole turns along the last dimension; the way through the `n - 1` others gives the order of the rows ---- */
static uint32_t rows_above(const way* w, uint32_t n) {
  uint32_t rows = 1;
  for (uint32_t k = 0; k + 1 < n; k++) rows *= w->side[k];
  return rows;
}

static uint32_t turn_start(uint32_t row, uint32_t lefts, uint32_t width) {
  return (row <= lefts ? row : 2 * lefts - row) % width;
}

static void turns_at(const way* w, uint32_t position, uint32_t* at) {
  for (uint32_t n = w->ndims; n > 1; n--) {
    uint32_t width = w->side[n - 1], row = position / width, step = position % width;
    uint32_t lefts = (rows_above(w, n) + width) / 2, start = turn_start(row, lefts, width);
    at[w->dim[n - 1]] = (row < lefts ? start + width - step : start + step) % width;
    position = row;
  }
  at[w->dim[0]] = position;
}

static uint32_t turns_position(const way* w, const uint32_t* at) {
  uint32_t position = at[w->dim[0]];
  for (uint32_t n = 2; n <= w->ndims; n++) {
    uint32_t width = w->side[n - 1], x = at[w->dim[n - 1]];
    uint32_t lefts = (rows_above(w, n) + width) / 2, start = turn_start(position, lefts, width);
    position = position * width + (position < lefts ? start + width - x : x + width - start) % width;
  }
  return position;
}

/* ---- */
uint32_t mci_cycle_rank(const mci_topo* topo, uint32_t position) {
  way w = prepare(topo);
  uint32_t at[MCI_MAX_DIMS] = {0};
  switch (w.kind) {
    case RANK_ORDER:
      return position;
    case SNAKE:
      snake_at(&w, 0, position, at);
      break;
    case TO_AND_FRO:
      to_and_fro_at(&w, position, at);
      break;
    case TURNS:
      turns_at(&w, position, at);
      break;
  }
  return (uint32_t)mci_topo_rank_at(topo, at);
}

uint32_t mci_cycle_position(const mci_topo* topo, uint32_t rank) {
  way w = prepare(topo);
  uint32_t at[MCI_MAX_DIMS] = {0};
  if (w.kind == RANK_ORDER) return rank;
  mci_topo_coords(topo, rank, at);
  if (w.kind == SNAKE) return snake_position(&w, 0, at);
  return w.kind == TURNS ? turns_position(&w, at) : to_and_fro_position(&w, at);
}

void mci_cycle_of(const mci_topo* topo, mci_cycle* out) {
  uint32_t n = mci_topo_nranks(topo);
  way w = prepare(topo);
  *out = (mci_cycle){.round = n};
  if (w.kind == TO_AND_FRO || w.kind == TURNS || mci_topo_is_full(topo)) return;
  if (w.kind == SNAKE) {
    out->from = mci_cycle_rank(topo, n - 1);
    out->to = mci_cycle_rank(topo, 0);
    out->round = n - 1 + mci_topo_hops(topo, out->from, out->to);
    return;
  }
  out->round = 0;
  for (uint32_t a = 0; a < n; a++) {
    uint32_t b = (a + 1) % n;
    out->round += mci_topo_hops(topo, a, b);
    if (mci_topo_adjacent(topo, a, b)) continue;
    out->from = a;
    out->to = b;
  }
}
