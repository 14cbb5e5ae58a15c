/* The steps of packed trees; see packing.h. Partial sums stand in the output, or for a reduce-scatter in scratch, one
 * slot for each tree in which the rank passes sums on. */
#include "topo/plan/packing_build.h"

/* ---- conditions ---- */

static void after_chunk(mci_packed_builder* w, mci_packed_part p, mci_packed_kind what, uint32_t port, uint32_t chunk) {
  const mci_packed_list* l = mci_packed_list_of(w, what, port);
  uint32_t turn = l->turn[(size_t)l->place[p.tree] * w->packed->chunks + chunk];
  mci_build_after(w->b, l->channel, mci_lin((int32_t)turn, p.loops ? (int32_t)l->n : 0));
}

static void after(mci_packed_builder* w, mci_packed_part p, mci_packed_kind what, uint32_t port) {
  after_chunk(w, p, what, port, p.chunk);
}

/* The children's sums have been added. */
static void after_children(mci_packed_builder* w, mci_packed_part p, const mci_packed_spot* s, uint32_t n) {
  if (n > 0) after(w, p, MCI_SUM_IN, s->children[n - 1]);
}

/* ---- places ---- */

static mci_shape shape_of(const mci_packed_builder* w, mci_packed_part p) {
  const mci_packing* trees = w->packed->trees;
  uint32_t block = trees->owned ? trees->owner[p.tree] : 0, tree = trees->owned ? p.tree / trees->nranks : p.tree;
  return mci_span(mci_const((int32_t)block), 1, mci_lin((int32_t)(tree * w->packed->chunks + p.chunk), p.loops));
}

/* Sums that are passed on have no place in a reduce-scatter's output. */
static bool in_scratch(const mci_packed_builder* w, const mci_packed_spot* s) {
  return w->packed->coll == MCI_REDUCE_SCATTER && !mci_packed_is_root(s);
}

static void sum_source(mci_packed_builder* w, mci_packed_part p, const mci_packed_spot* s, uint32_t added) {
  if (added > 0 && in_scratch(w, s)) {
    mci_build_src_tmp(w->b, mci_const((int32_t)s->slot), shape_of(w, p));
  } else {
    mci_build_src(w->b, added > 0 ? MCI_OUT : MCI_IN, shape_of(w, p));
  }
}

/* ---- steps ---- */

static void sum_in(mci_packed_builder* w, mci_packed_part p, const mci_packed_spot* s, uint32_t port) {
  uint32_t before = 0;
  while (before < s->nchildren && s->children[before] != port) before++;
  bool total = mci_packed_is_root(s) ? before + 1 == s->nchildren : before == s->nchildren;
  mci_build_step(w->b, (w->packed->wide ? MCI_WIDE : 0) | (total ? MCI_FINISH : 0));
  if (before == s->nchildren) {
    after(w, p, MCI_SUM_OUT, port); /* swapped */
  } else if (before == 0 && in_scratch(w, s) && p.chunk > 0) {
    after_chunk(w, p, MCI_SUM_OUT, s->parent, p.chunk - 1);
  } else {
    after_children(w, p, s, before);
  }
  if (in_scratch(w, s)) {
    mci_build_dst_tmp(w->b, 0, mci_const((int32_t)s->slot), shape_of(w, p));
  } else {
    mci_build_dst(w->b, MCI_OUT, 0, shape_of(w, p));
  }
  sum_source(w, p, s, before);
  mci_build_src_lane(w->b, mci_const((int32_t)w->peers[port]));
}

static void sum_out(mci_packed_builder* w, mci_packed_part p, const mci_packed_spot* s, uint32_t port) {
  bool overwritten = mci_packed_swaps_here(s) || (in_scratch(w, s) && s->nchildren > 0);
  mci_build_step(w->b, 0);
  after_children(w, p, s, s->nchildren);
  mci_build_dst_lane(w->b, overwritten ? MCI_COPY : 0, mci_const((int32_t)w->peers[port]));
  sum_source(w, p, s, s->nchildren);
}

static void total_in(mci_packed_builder* w, mci_packed_part p, uint32_t port) {
  mci_build_step(w->b, 0);
  mci_build_dst(w->b, MCI_OUT, 0, shape_of(w, p));
  mci_build_src_lane(w->b, mci_const((int32_t)w->peers[port]));
}

static void total_out(mci_packed_builder* w, mci_packed_part p, const mci_packed_spot* s, uint32_t port) {
  bool input = w->packed->coll == MCI_ALL_GATHER && mci_packed_is_root(s);
  mci_build_step(w->b, 0);
  if (input) {
    ; /* always there */
  } else if (mci_packed_is_root(s)) {
    after_children(w, p, s, s->nchildren);
  } else {
    after(w, p, mci_packed_swaps_here(s) ? MCI_SUM_IN : MCI_TOTAL_IN, s->parent);
  }
  mci_build_dst_lane(w->b, 0, mci_const((int32_t)w->peers[port]));
  mci_build_src(w->b, input ? MCI_IN : MCI_OUT, shape_of(w, p));
}

void mci_packed_step(mci_packed_builder* w, mci_packed_part part, mci_packed_kind what, uint32_t port) {
  const mci_packed_spot* s = &w->spots[part.tree];
  switch (what) {
    case MCI_SUM_IN:
      sum_in(w, part, s, port);
      break;
    case MCI_SUM_OUT:
      sum_out(w, part, s, port);
      break;
    case MCI_TOTAL_IN:
      total_in(w, part, port);
      break;
    default:
      total_out(w, part, s, port);
      break;
  }
}

void mci_packed_keep_own(mci_packed_builder* w) {
  mci_shape own = mci_span(mci_const((int32_t)w->rank), 1, mci_const(0));
  own.nparts = w->packed->trees->rounds * w->packed->chunks;
  mci_build_channel(w->b, MCI_PACKED_OWN);
  mci_build_step(w->b, 0);
  mci_build_dst(w->b, MCI_OUT, 0, own);
  mci_build_src(w->b, MCI_IN, own);
}
