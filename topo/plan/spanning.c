/* Trees with a closed form: dimension order on a whole grid, binomial on a full graph; spanning_search.c for the rest.
 *
 * Dimension order: from the root along dimension 0 both ways, from each of those along dimension 1, and so on. A node's
 * own dimension is the last one in which it differs from the root; its parent is one step nearer there.
 *
 *      o-o-o-o       Binomial: v = rank - root (mod n); the parent of v is v without its lowest bit, so that the
 *      o-o-R-o       ranks below v are the run v .. v + lowest bit - 1.
 *      o-o-o-o */
#include "topo/plan/spanning.h"

#include "base/base.h"
#include "topo/plan/spanning_search.h"

static bool closed_form(const mci_topo* topo) { return mci_topo_is_full(topo) || mci_topo_is_regular(topo); }

/* ---- binomial ---- */
static uint32_t relative(const mci_tree* tree, uint32_t rank) {
  uint32_t n = mci_topo_nranks(tree->topo);
  return (uint32_t)(((uint64_t)rank + n - tree->root) % n);
}

static uint32_t absolute(const mci_tree* tree, uint32_t v) {
  return (uint32_t)(((uint64_t)v + tree->root) % mci_topo_nranks(tree->topo));
}

static uint32_t binomial_size(const mci_tree* tree, uint32_t v) {
  uint32_t n = mci_topo_nranks(tree->topo);
  return v == 0 ? n : MCI_MIN(v & -v, n - v);
}

static uint32_t binomial_children(const mci_tree* tree, uint32_t v, uint32_t* out) {
  uint32_t n = 0, size = binomial_size(tree, v);
  for (uint32_t bit = UINT32_C(1) << 31; bit > 0; bit >>= 1)
    if (bit < size) out[n++] = absolute(tree, v + bit);
  return n;
}

/* ---- dimension order ---- */
typedef struct {
  uint32_t at[MCI_MAX_DIMS], root[MCI_MAX_DIMS];
  uint32_t ndims;
  int own; /* the last dimension that differs; -1: the root itself */
} spot;

static spot spot_of(const mci_tree* tree, uint32_t rank) {
  spot s = {.ndims = mci_topo_ndims(tree->topo), .own = -1};
  mci_topo_coords(tree->topo, rank, s.at);
  mci_topo_coords(tree->topo, tree->root, s.root);
  for (uint32_t d = 0; d < s.ndims; d++)
    if (s.at[d] != s.root[d]) s.own = (int)d;
  return s;
}

/* Steps from the root along d, and how many there are on that side at most. */
typedef struct {
  bool up;
  uint32_t steps, limit;
} reach;

static uint32_t limit_of(const mci_topo* topo, const spot* s, uint32_t d, bool up) {
  uint32_t n = mci_topo_side(topo, d);
  if (mci_topo_wraps(topo, d)) return up ? n / 2 : (n - 1) / 2;
  return up ? n - 1 - s->root[d] : s->root[d];
}

static reach reach_of(const mci_topo* topo, const spot* s, uint32_t d) {
  uint32_t n = mci_topo_side(topo, d);
  uint32_t ahead = (s->at[d] + n - s->root[d]) % n;
  bool up = mci_topo_wraps(topo, d) ? ahead <= n / 2 : s->at[d] > s->root[d];
  return (reach){up, up ? ahead : n - ahead, limit_of(topo, s, d, up)};
}

static uint32_t moved(const mci_topo* topo, const spot* s, uint32_t d, bool up) {
  spot t = *s;
  uint32_t n = mci_topo_side(topo, d);
  t.at[d] = (t.at[d] + (up ? 1 : n - 1)) % n;
  return (uint32_t)mci_topo_rank_at(topo, t.at);
}

static uint32_t grid_parent(const mci_tree* tree, uint32_t rank) {
  spot s = spot_of(tree, rank);
  reach r = reach_of(tree->topo, &s, (uint32_t)s.own);
  return moved(tree->topo, &s, (uint32_t)s.own, !r.up);
}

static uint32_t grid_children(const mci_tree* tree, uint32_t rank, uint32_t* out) {
  const mci_topo* topo = tree->topo;
  spot s = spot_of(tree, rank);
  uint32_t n = 0;
  if (s.own >= 0) {
    reach r = reach_of(topo, &s, (uint32_t)s.own);
    if (r.steps < r.limit) out[n++] = moved(topo, &s, (uint32_t)s.own, r.up);
  }
  for (uint32_t d = (uint32_t)(s.own + 1); d < s.ndims; d++) {
    if (limit_of(topo, &s, d, true) > 0) out[n++] = moved(topo, &s, d, true);
    if (limit_of(topo, &s, d, false) > 0) out[n++] = moved(topo, &s, d, false);
  }
  return n;
}

static uint32_t grid_size(const mci_tree* tree, uint32_t rank) {
  spot s = spot_of(tree, rank);
  uint32_t size = 1;
  for (uint32_t d = (uint32_t)(s.own + 1); d < s.ndims; d++) size *= mci_topo_side(tree->topo, d);
  if (s.own < 0) return size;
  reach r = reach_of(tree->topo, &s, (uint32_t)s.own);
  return size * (r.limit - r.steps + 1);
}

static uint32_t closed_depth(const mci_tree* tree) {
  uint32_t depth = 0;
  if (mci_topo_is_full(tree->topo)) {
    for (uint32_t n = mci_topo_nranks(tree->topo); n > 1; n >>= 1) depth++; /* most bits below n */
    return depth;
  }
  spot s = spot_of(tree, tree->root);
  for (uint32_t d = 0; d < s.ndims; d++)
    depth += MCI_MAX(limit_of(tree->topo, &s, d, true), limit_of(tree->topo, &s, d, false));
  return depth;
}

/* ---- */
meshcclResult_t mci_tree_of(const mci_topo* topo, uint32_t root, mci_tree* out) {
  *out = (mci_tree){.topo = topo, .root = root};
  if (!closed_form(topo)) return mci_tree_search(out);
  out->depth = out->hops = closed_depth(out);
  return meshcclSuccess;
}

void mci_tree_fini(mci_tree* tree) {
  mci_free(tree->parent);
  mci_free(tree->size);
  mci_free(tree->child);
  mci_free(tree->sibling);
}

meshcclResult_t mci_tree_center(const mci_topo* topo, uint32_t* out) {
  if (!closed_form(topo)) return mci_tree_search_center(topo, out);
  uint32_t at[MCI_MAX_DIMS] = {0};
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) at[d] = mci_topo_side(topo, d) / 2;
  *out = mci_topo_is_full(topo) ? 0 : (uint32_t)mci_topo_rank_at(topo, at);
  return meshcclSuccess;
}

uint32_t mci_tree_parent(const mci_tree* tree, uint32_t rank) {
  if (rank == tree->root) return MCI_TREE_NONE;
  if (tree->parent) return tree->parent[rank];
  if (!mci_topo_is_full(tree->topo)) return grid_parent(tree, rank);
  uint32_t v = relative(tree, rank);
  return absolute(tree, v & (v - 1));
}

uint32_t mci_tree_children(const mci_tree* tree, uint32_t rank, uint32_t out[MCI_TREE_MAX_CHILDREN]) {
  if (!tree->parent)
    return mci_topo_is_full(tree->topo) ? binomial_children(tree, relative(tree, rank), out)
                                        : grid_children(tree, rank, out);
  uint32_t n = 0;
  for (uint32_t c = tree->child[rank]; c != MCI_TREE_NONE; c = tree->sibling[c]) out[n++] = c;
  return n;
}

uint32_t mci_tree_size(const mci_tree* tree, uint32_t rank) {
  if (tree->size) return tree->size[rank];
  return mci_topo_is_full(tree->topo) ? binomial_size(tree, relative(tree, rank)) : grid_size(tree, rank);
}
