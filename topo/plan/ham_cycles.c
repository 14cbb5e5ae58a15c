/* Two Hamiltonian cycles of an r x c torus without a common link, for r <= c, all r >= 3. They exist by A. Kotzig 1973
 * (M. F. Foregger 1978 has a short proof); the form below is derived here and was checked for all sides up to 20.
 *
 * One cycle begins as all links along rows, the other as all links along columns: r and c rings. A flip of a square
 * exchanges its two row links with its two column links, which joins two rings of each kind (or parts one):
 *
 *      o==o        o  o        flip (f(j), j) for the columns j = 0 .. c - 2, with f = 0, 1, .., r - 2,
 *      |  |   ->   ‖  ‖        then r - 1, r - 2, r - 1, ..; if r is even and c odd, also (r - 2, c - 1).
 *      o==o        o  o
 *
 * Squares that share a corner or none do not disturb each other, and those that share a side are flipped in order. */
#include "topo/plan/ham_cycles.h"

#include "base/base.h"

enum { DOWN = 1, RIGHT = 2 }; /* bits of a node: its links to the next row and column are in the other cycle */

typedef struct {
  uint32_t rows, columns, row_dim, column_dim; /* rows <= columns */
  uint8_t* flipped;
} torus;

static uint32_t node_at(const torus* t, uint32_t row, uint32_t column) {
  return row % t->rows * t->columns + column % t->columns;
}

static void flip(torus* t, uint32_t row, uint32_t column) {
  t->flipped[node_at(t, row, column)] ^= DOWN | RIGHT;
  t->flipped[node_at(t, row + 1, column)] ^= RIGHT;
  t->flipped[node_at(t, row, column + 1)] ^= DOWN;
}

static void flip_all(torus* t) {
  uint32_t r = t->rows, c = t->columns;
  for (uint32_t j = 0; j + 1 < c; j++) {
    bool even = (j - (r - 1)) % 2 == 0;
    flip(t, j + 1 < r ? j : even ? r - 1 : r - 2, j);
  }
  if (r % 2 == 0 && c % 2 == 1) flip(t, r - 2, c - 1);
}

/* The nodes one hop away in the cycle. */
static void hops(const torus* t, uint32_t node, uint32_t cycle, uint32_t out[2]) {
  uint32_t row = node / t->columns, column = node % t->columns, n = 0;
  uint32_t left = node_at(t, row, column + t->columns - 1), up = node_at(t, row + t->rows - 1, column);
  if (!(t->flipped[node] & RIGHT) == (cycle == 0)) out[n++] = node_at(t, row, column + 1);
  if (!(t->flipped[left] & RIGHT) == (cycle == 0)) out[n++] = left;
  if (!(t->flipped[node] & DOWN) == (cycle == 1)) out[n++] = node_at(t, row + 1, column);
  if (!(t->flipped[up] & DOWN) == (cycle == 1)) out[n++] = up;
}

static void walk(const mci_topo* topo, const torus* t, uint32_t cycle, mci_ham_cycles* out) {
  for (uint32_t i = 0, node = 0, before = UINT32_MAX; i < out->n; i++) {
    uint32_t at[MCI_MAX_DIMS] = {0}, next[2] = {0, 0};
    at[t->row_dim] = node / t->columns;
    at[t->column_dim] = node % t->columns;
    uint32_t rank = (uint32_t)mci_topo_rank_at(topo, at);
    out->rank[cycle][i] = rank;
    out->position[cycle][rank] = i;
    hops(t, node, cycle, next);
    uint32_t goal = next[0] == before ? next[1] : next[0];
    before = node;
    node = goal;
  }
}

static torus shape_of(const mci_topo* topo) {
  torus t = {.rows = 0};
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    uint32_t n = mci_topo_side(topo, d);
    if (n == 1) continue;
    if (t.rows == 0) {
      t.rows = n, t.row_dim = d;
    } else {
      t.columns = n, t.column_dim = d;
    }
  }
  if (t.rows <= t.columns) return t;
  return (torus){.rows = t.columns, .columns = t.rows, .row_dim = t.column_dim, .column_dim = t.row_dim};
}

meshcclResult_t mci_ham_cycles_of(const mci_topo* topo, mci_ham_cycles* out) {
  torus t = shape_of(topo);
  *out = (mci_ham_cycles){.n = t.rows * t.columns};
  meshcclResult_t result = meshcclSuccess;
  size_t bytes = out->n * sizeof(uint32_t);
  t.flipped = mci_alloc(out->n);
  for (uint32_t i = 0; i < 2; i++) {
    out->rank[i] = mci_alloc(bytes);
    out->position[i] = mci_alloc(bytes);
  }
  if (!t.flipped || !out->rank[0] || !out->rank[1] || !out->position[0] || !out->position[1]) {
    result = mci_oom(bytes);
    goto err_cycles;
  }
  flip_all(&t);
  walk(topo, &t, 0, out);
  walk(topo, &t, 1, out);
  mci_free(t.flipped);
  return meshcclSuccess;
err_cycles:
  mci_free(t.flipped);
  mci_ham_cycles_fini(out);
  return result;
}

void mci_ham_cycles_fini(mci_ham_cycles* cycles) {
  for (uint32_t i = 0; i < 2; i++) {
    mci_free(cycles->rank[i]);
    mci_free(cycles->position[i]);
  }
  *cycles = (mci_ham_cycles){.n = 0};
}
