/* The order of messages of packed trees, and their programs; see packing.h and packing_build.h. */
#include "topo/plan/packing_build.h"

#include <stdlib.h>

/* ---- where this rank stands ---- */

static uint8_t port_to(const mci_topo* topo, uint32_t from, uint32_t to) {
  uint32_t peers[MCI_PACKING_PORTS];
  uint32_t n = mci_topo_neighbors(topo, from, peers, MCI_PACKING_PORTS);
  for (uint8_t p = 0; p < n; p++)
    if (peers[p] == to) return p;
  mci_assert(false);
  return 0;
}

static void find_spots(mci_packed_builder* w) {
  const mci_packing* trees = w->packed->trees;
  uint8_t back[MCI_PACKING_PORTS];
  for (uint32_t p = 0; p < w->nports; p++) back[p] = port_to(w->topo, w->peers[p], w->rank);
  for (uint32_t t = 0; t < trees->ntrees; t++) {
    mci_packed_spot* s = &w->spots[t];
    s->depth = mci_packing_depth(trees, t, w->rank);
    s->parent = mci_packing_port(trees, t, w->rank);
    s->swaps = trees->swaps[t];
    for (uint32_t p = 0; p < w->nports; p++)
      if (mci_packing_port(trees, t, w->peers[p]) == back[p] && mci_packing_depth(trees, t, w->peers[p]) > 0)
        s->children[s->nchildren++] = (uint8_t)p;
    if (s->nchildren > 0 && !mci_packed_is_root(s)) s->slot = w->nslots++;
  }
}

/* ---- lists ---- */

/* The channel of messages from rank `from` to `to`: dimension and direction, and which of its links. */
static uint16_t channel_of(const mci_topo* topo, uint32_t from, uint32_t to) {
  uint32_t a[MCI_MAX_DIMS], b[MCI_MAX_DIMS], dim = 0;
  mci_topo_coords(topo, from, a);
  mci_topo_coords(topo, to, b);
  while (a[dim] == b[dim]) dim++;
  uint32_t side = mci_topo_side(topo, dim);
  bool up = a[dim] + 1 == b[dim] || (a[dim] == side - 1 && b[dim] == 0 && mci_topo_wraps(topo, dim));
  uint32_t low = up ? a[dim] : b[dim];
  uint32_t color = low + 1 == side && side % 2 ? 2 : low % 2;
  return (uint16_t)((dim * 2 + up) * 3 + color);
}

static meshcclResult_t open_list(mci_packed_builder* w, uint32_t number) {
  uint32_t ntrees = w->packed->trees->ntrees, peer = w->peers[number / 2];
  mci_packed_list* l = &w->lists[number];
  bool departs = number % 2;
  l->channel = channel_of(w->topo, departs ? w->rank : peer, departs ? peer : w->rank);
  l->events = mci_alloc(ntrees * sizeof *l->events);
  l->place = mci_alloc(ntrees * sizeof *l->place);
  return l->events && l->place ? meshcclSuccess : mci_oom(ntrees * sizeof *l->events);
}

static void add(mci_packed_builder* w, mci_packed_kind what, uint32_t port, uint32_t tree, int64_t hops) {
  mci_packed_list* l = mci_packed_list_of(w, what, port);
  int64_t period = (int64_t)w->packed->trees->ntrees * MCI_PACKED_SLOT;
  int64_t time = (int64_t)tree * MCI_PACKED_SLOT + hops * w->packed->hop;
  int64_t lag = time >= 0 ? time / period : -((period - 1 - time) / period);
  l->events[l->n++] = (mci_packed_event){time - lag * period, (int32_t)lag, tree, what};
}

static void list_tree(mci_packed_builder* w, uint32_t tree) {
  const mci_packed_spot* s = &w->spots[tree];
  bool sums = w->packed->coll != MCI_ALL_GATHER, totals = w->packed->coll != MCI_REDUCE_SCATTER;
  int64_t depth = s->depth, back = s->swaps; /* totals leave a hop later where the middle swaps first */
  for (uint32_t i = 0; i < s->nchildren; i++) {
    if (sums) add(w, MCI_SUM_IN, s->children[i], tree, -(depth + 1));
    if (totals) add(w, MCI_TOTAL_OUT, s->children[i], tree, depth + back);
  }
  if (mci_packed_is_root(s)) return;
  if (sums) add(w, MCI_SUM_OUT, s->parent, tree, -depth);
  if (mci_packed_swaps_here(s)) {
    add(w, MCI_SUM_IN, s->parent, tree, 0);
  } else if (totals) {
    add(w, MCI_TOTAL_IN, s->parent, tree, depth - 1 + back);
  }
}

static int compare(const void* a, const void* b) {
  const mci_packed_event *x = a, *y = b;
  if (x->within != y->within) return x->within < y->within ? -1 : 1;
  return x->tree < y->tree ? -1 : x->tree > y->tree;
}

static uint32_t chunk_in(const mci_packed_event* e, int32_t period) { /* or at least `chunks`: none */
  return (uint32_t)(period - e->lag);
}

/* Counts the steps of a list, in the order in which they run. */
static meshcclResult_t count_turns(mci_packed_builder* w, mci_packed_list* l) {
  uint32_t chunks = w->packed->chunks, turn = 0;
  l->turn = mci_alloc((size_t)l->n * chunks * sizeof *l->turn);
  if (!l->turn) return mci_oom((size_t)l->n * chunks * sizeof *l->turn);
  for (int32_t period = w->first; period < w->last; period++) {
    for (uint32_t i = 0; i < l->n; i++) {
      uint32_t k = chunk_in(&l->events[i], period);
      if (k < chunks) l->turn[(size_t)i * chunks + k] = ++turn;
    }
  }
  return meshcclSuccess;
}

/* Periods in which every message has a chunk, and so have all messages that they wait for, are alike. Scratch is free
 * when the chunk before has left it. */
static void find_loop(mci_packed_builder* w) {
  int32_t least = INT32_MAX, most = INT32_MIN, chunks = (int32_t)w->packed->chunks;
  for (uint32_t i = 0; i < MCI_PACKED_LISTS; i++) {
    for (uint32_t k = 0; k < w->lists[i].n; k++) {
      least = MCI_MIN(least, w->lists[i].events[k].lag);
      most = MCI_MAX(most, w->lists[i].events[k].lag);
    }
  }
  w->first = least;
  w->last = most + chunks;
  w->loop = most + (most - least) + (w->packed->coll == MCI_REDUCE_SCATTER);
  w->loop_end = least + chunks;
  if (w->loop_end < w->loop + 2) w->loop = w->loop_end = w->last;
}

static meshcclResult_t list_all(mci_packed_builder* w) {
  for (uint32_t i = 0; i < 2 * w->nports; i++) MCI_TRY(open_list(w, i));
  for (uint32_t t = 0; t < w->packed->trees->ntrees; t++) list_tree(w, t);
  find_loop(w);
  for (uint32_t i = 0; i < MCI_PACKED_LISTS; i++) {
    mci_packed_list* l = &w->lists[i];
    if (l->n == 0) continue;
    qsort(l->events, l->n, sizeof *l->events, compare);
    for (uint32_t k = 0; k < l->n; k++) l->place[l->events[k].tree] = k;
    MCI_TRY(count_turns(w, l));
  }
  return meshcclSuccess;
}

static void write_period(mci_packed_builder* w, uint32_t number, int32_t period, bool loops) {
  const mci_packed_list* l = &w->lists[number];
  uint32_t port = number / 2;
  for (uint32_t i = 0; i < l->n; i++) {
    mci_packed_part p = {l->events[i].tree, chunk_in(&l->events[i], period), loops};
    if (p.chunk < w->packed->chunks) mci_packed_step(w, p, (mci_packed_kind)l->events[i].what, port);
  }
}

static void write_list(mci_packed_builder* w, uint32_t number) {
  mci_build_channel(w->b, w->lists[number].channel);
  for (int32_t period = w->first; period < w->last; period++) {
    if (period != w->loop) {
      write_period(w, number, period, false);
      continue;
    }
    mci_build_repeat(w->b, (uint32_t)(w->loop_end - w->loop));
    write_period(w, number, period, true);
    mci_build_end(w->b);
    period = w->loop_end - 1;
  }
}

/* By ascending channel. */
static void write_all(mci_packed_builder* w) {
  for (int32_t done = -1;;) {
    uint32_t next = MCI_PACKED_LISTS;
    for (uint32_t i = 0; i < MCI_PACKED_LISTS; i++) {
      const mci_packed_list* l = &w->lists[i];
      if (l->n == 0 || l->channel <= done) continue;
      if (next == MCI_PACKED_LISTS || l->channel < w->lists[next].channel) next = i;
    }
    if (next == MCI_PACKED_LISTS) return;
    write_list(w, next);
    done = w->lists[next].channel;
  }
}

/* Part-major: a part per tree and chunk. Block-major: the trees of an owner share out its block. */
static void write_program(mci_packed_builder* w) {
  const mci_packing* trees = w->packed->trees;
  if (!trees->owned) {
    mci_build_layout(w->b, 1, trees->ntrees * w->packed->chunks, NULL);
  } else {
    mci_build_layout(w->b, trees->nranks, trees->rounds * w->packed->chunks, NULL);
  }
  if (w->packed->coll == MCI_REDUCE_SCATTER) mci_build_slots(w->b, w->nslots);
  write_all(w);
  if (w->packed->coll == MCI_ALL_GATHER) mci_packed_keep_own(w);
}

meshcclResult_t mci_packed_build(const mci_topo* topo, const mci_packed* packed, uint32_t rank, mci_program** out) {
  mci_packed_builder w = {.topo = topo, .packed = packed, .rank = rank};
  uint32_t ntrees = packed->trees->ntrees;
  meshcclResult_t result = meshcclSuccess;
  w.nports = mci_topo_neighbors(topo, rank, w.peers, MCI_PACKING_PORTS);
  w.spots = mci_alloc(ntrees * sizeof *w.spots);
  if (!w.spots) return mci_oom(ntrees * sizeof *w.spots);
  find_spots(&w);
  MCI_TRY_OR(list_all(&w), err_lists);
  w.b = mci_build_begin(packed->coll, "packing", packed->trees->nranks, rank, 0);
  write_program(&w);
  result = mci_build_finish(w.b, out);
err_lists:
  for (uint32_t i = 0; i < MCI_PACKED_LISTS; i++) {
    mci_free(w.lists[i].events);
    mci_free(w.lists[i].place);
    mci_free(w.lists[i].turn);
  }
  mci_free(w.spots);
  return result;
}
