/* Arc-disjoint spanning trees of whole grids in closed form, and who is asked for the others; see branchings.h.
 *
 * Mesh, one tree per dimension. Tree d takes the dimensions in the order d, d + 1, .. (cyclic): from the root along d,
 * from all of these along d + 1, and so on, always away from the root. That serves all ranks that differ from the root
 * in d. Each of the others gets it from its neighbour along d, by a link towards the root's position.
 *
 *      tree 0        tree 1
 *      R  o  o  o    R->o->o->o      R: the root, here in a corner; anywhere alike. Dimension 0 leads downwards.
 *      v  ^  ^  ^       v  v  v
 *      o->o->o->o    o<-o  o  o
 *      v                v  v  v
 *      o->o->o->o    o<-o  o  o
 *
 * Why no link direction serves two trees: a link along e away from the root, on a line whose other coordinates are
 * not all the root's, belongs to the first dimension d after e (cyclic) in which the line differs from the root: the
 * trees of all other dimensions either need the coordinates between to be the root's, or d to differ as well before e
 * is taken. The line through the root belongs to e itself. Links towards the root's position along e are used by tree e
 * only. Depth: the root's distance to the farthest rank, or one more where the nearest border is one step away.
 *
 * Torus, two trees per dimension: the same with every ring taken all the way round, ahead in one of them and behind in
 * the other; the ranks at the root's own position get it from the ring's last step. Depth: the sum of (side - 1), and
 * 1, about twice what a search finds, but it costs nothing and has no limit.
 *
 * Source: that there are as many trees as the least cut is Edmonds 1973 (Edge-disjoint branchings); for this form of
 * them we found no published source. */
#include "topo/branchings.h"

#include <string.h>

#include "topo/grid.h"

#define MAX_SEARCHED_TORUS 1024 /* ranks */
#define MANY_TRIES 16
#define FEW_TRIES 4
#define MANY_RANKS 512
#define KEPT 8 /* roots per topology */

static bool whole(const mci_topo* topo) { return mci_topo_is_regular(topo) && mci_topo_nclasses(topo) == 1; }

/* How many dimensions longer than 1 there are, and how many of them close to rings. */
static uint32_t dims_of(const mci_topo* topo, uint32_t* rings) {
  uint32_t dims = 0;
  *rings = 0;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    dims += mci_topo_side(topo, d) > 1;
    *rings += mci_topo_wraps(topo, d);
  }
  return dims;
}

static bool is_mesh(const mci_topo* topo) {
  uint32_t rings;
  dims_of(topo, &rings);
  return whole(topo) && rings == 0;
}

static bool is_torus(const mci_topo* topo) {
  uint32_t rings;
  return dims_of(topo, &rings) == rings && whole(topo);
}

const char* mci_branchings_refuse(const mci_topo* topo) {
  if (mci_topo_is_full(topo)) return "the ranks are joined pairwise, not as a grid";
  if (mci_topo_nranks(topo) == 1) return "a single rank has no neighbours";
  if (is_mesh(topo) || is_torus(topo) || mci_topo_nranks(topo) <= MCI_BRANCHINGS_MAX_RANKS) return NULL;
  return "more than 4096 ranks, and no whole mesh or torus of equal links: searching trees takes too long";
}

/* ---- closed forms ---- */

typedef struct {
  uint32_t ndims;
  uint32_t dim[MCI_MAX_DIMS]; /* those longer than 1 */
  uint32_t at[MCI_MAX_DIMS], root[MCI_MAX_DIMS];
  bool torus;
} place;

static place place_of(const mci_branchings* b, uint32_t rank) {
  place p = {.torus = is_torus(b->topo)};
  for (uint32_t d = 0; d < mci_topo_ndims(b->topo); d++)
    if (mci_topo_side(b->topo, d) > 1) p.dim[p.ndims++] = d;
  mci_topo_coords(b->topo, rank, p.at);
  mci_topo_coords(b->topo, b->root, p.root);
  return p;
}

/* The neighbour one step ahead or behind along a dimension. */
static uint32_t beside(const mci_branchings* b, const place* p, uint32_t dim, bool ahead) {
  uint32_t at[MCI_MAX_DIMS], n = mci_topo_side(b->topo, dim);
  memcpy(at, p->at, sizeof at);
  at[dim] = (at[dim] + (ahead ? 1 : n - 1)) % n;
  return (uint32_t)mci_topo_rank_at(b->topo, at);
}

/* Trees of a torus come in pairs: dimension, then direction. */
static uint32_t closed_parent(const mci_branchings* b, uint32_t tree, uint32_t rank) {
  place p = place_of(b, rank);
  uint32_t first = p.torus ? tree / 2 : tree;
  bool ahead = p.torus && tree % 2 == 0; /* the way the tree goes round its rings */
  uint32_t own = p.dim[first];
  if (p.at[own] == p.root[own])
    return beside(b, &p, own, p.torus ? !ahead : p.at[own] + 1 < mci_topo_side(b->topo, own));
  for (uint32_t k = p.ndims; k-- > 0;) {
    uint32_t d = p.dim[(first + k) % p.ndims];
    if (p.at[d] != p.root[d]) return beside(b, &p, d, p.torus ? !ahead : p.at[d] < p.root[d]);
  }
  return MCI_BRANCHINGS_NONE;
}

static void close_form(mci_branchings* b) {
  place p = place_of(b, b->root);
  uint32_t farthest = 0, nearest = UINT32_MAX;
  for (uint32_t k = 0; k < p.ndims; k++) {
    uint32_t n = mci_topo_side(b->topo, p.dim[k]), at = p.root[p.dim[k]];
    uint32_t far = p.torus ? n - 1 : MCI_MAX(at, n - 1 - at);
    farthest += far;
    nearest = MCI_MIN(nearest, far);
  }
  b->ntrees = p.ndims * (p.torus ? 2 : 1);
  b->depth = farthest;
  if (p.ndims > 1) b->depth = p.torus ? farthest + 1 : MCI_MAX(farthest, farthest - nearest + 2);
  b->uses = 1;
  b->bw_Bps = mci_topo_link(b->topo).bw_Bps;
}

/* ---- kept with a topology ---- */

static size_t table_bytes(const mci_branchings* b) { return (size_t)b->ntrees * mci_topo_nranks(b->topo); }

static meshcclResult_t copy(const mci_branchings* from, mci_branchings* out) {
  uint8_t* port = mci_alloc(table_bytes(from) + 1);
  if (!port) return mci_oom(table_bytes(from));
  if (from->port) memcpy(port, from->port, table_bytes(from)); /* no trees: no table */
  *out = *from;
  out->port = port;
  out->next = NULL;
  return meshcclSuccess;
}

/* Puts a copy in front of the list and drops what is too old. Without memory nothing is kept, which only costs time. */
static void keep(mci_topo* keeper, const mci_branchings* b) {
  mci_branchings* kept = mci_alloc(sizeof *kept);
  if (!kept) return;
  if (copy(b, kept) != meshcclSuccess) {
    mci_free(kept);
    return;
  }
  kept->next = keeper->branchings;
  keeper->branchings = kept;
  for (uint32_t i = 1; i < KEPT && kept; i++) kept = kept->next;
  if (!kept) return;
  mci_branchings_destroy(kept->next);
  kept->next = NULL;
}

static meshcclResult_t search(const mci_topo* topo, uint32_t root, mci_branchings* out) {
  uint32_t tries = mci_topo_nranks(topo) > MANY_RANKS ? FEW_TRIES : MANY_TRIES;
  if (is_torus(topo)) tries = 1; /* the first one is as good as any */
  return mci_branchings_search(topo, root, tries, out);
}

static meshcclResult_t find(const mci_topo* topo, uint32_t root, mci_branchings* out) {
  mci_topo* keeper = (mci_topo*)topo; /* what is kept changes no answer */
  pthread_mutex_lock(&keeper->packings_lock);
  const mci_branchings* kept = keeper->branchings;
  while (kept && kept->root != root) kept = kept->next;
  meshcclResult_t result = kept ? copy(kept, out) : search(topo, root, out);
  if (!kept && result == meshcclSuccess) keep(keeper, out);
  pthread_mutex_unlock(&keeper->packings_lock);
  return result;
}

meshcclResult_t mci_branchings_of(const mci_topo* topo, uint32_t root, mci_branchings* out) {
  mci_assert(!mci_branchings_refuse(topo));
  mci_branchings found = {.topo = topo, .root = root};
  if (is_mesh(topo) || (is_torus(topo) && mci_topo_nranks(topo) > MAX_SEARCHED_TORUS)) {
    close_form(&found);
  } else {
    MCI_TRY(find(topo, root, &found));
  }
  *out = found;
  return meshcclSuccess;
}

void mci_branchings_fini(mci_branchings* b) { mci_free(b->port); }

void mci_branchings_destroy(mci_branchings* list) {
  while (list) {
    mci_branchings* next = list->next;
    mci_branchings_fini(list);
    mci_free(list);
    list = next;
  }
}

/* ---- queries ---- */

uint32_t mci_branchings_parent(const mci_branchings* b, uint32_t tree, uint32_t rank) {
  if (rank == b->root) return MCI_BRANCHINGS_NONE;
  if (!b->port) return closed_parent(b, tree, rank);
  uint32_t peers[MCI_BRANCHINGS_PORTS];
  mci_topo_neighbors(b->topo, rank, peers, MCI_BRANCHINGS_PORTS);
  return peers[b->port[(size_t)tree * mci_topo_nranks(b->topo) + rank]];
}

uint32_t mci_branchings_children(const mci_branchings* b, uint32_t tree, uint32_t rank,
                                 uint32_t out[MCI_BRANCHINGS_PORTS]) {
  uint32_t peers[MCI_BRANCHINGS_PORTS], n = 0;
  uint32_t npeers = mci_topo_neighbors(b->topo, rank, peers, MCI_BRANCHINGS_PORTS);
  for (uint32_t p = 0; p < npeers; p++)
    if (mci_branchings_parent(b, tree, peers[p]) == rank) out[n++] = peers[p];
  return n;
}
