/* The programs of packed trees; see packing.h. Every neighbour has two lists of messages: what comes from it and
 * what goes to it, one message per tree with a link to it, with the time of its first chunk. A list is sorted
 * once by the time within the period; chunk k of a message then stands `lag` periods after period k. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "topo/plan/packing.h"

typedef enum { SUM_IN, SUM_OUT, TOTAL_IN, TOTAL_OUT } kind; /* odd: it departs */
#define LISTS (2 * MCI_PACKING_PORTS)

typedef struct {
  int64_t within; /* the period */
  int32_t lag;
  uint32_t tree;
  uint32_t what; /* kind */
} event;

typedef struct {
  event* events;
  uint32_t* place; /* per tree: in `events` */
  uint32_t* turn;  /* per place and chunk: steps of the list up to it */
  uint32_t n;
  uint16_t channel;
} list;

/* Where the rank stands in a tree. */
typedef struct {
  uint32_t depth;
  uint8_t parent; /* port; ROOT */
  bool swaps;     /* the tree's middle is a link, to the parent if depth is 0 */
  uint32_t nchildren;
  uint8_t children[MCI_PACKING_PORTS]; /* ports */
} spot;

typedef struct {
  const mci_topo* topo;
  const mci_packed* packed;
  mci_build* b;
  uint32_t rank, nports;
  uint32_t peers[MCI_PACKING_PORTS];
  spot* spots; /* per tree */
  list lists[LISTS];
  int32_t first, last;    /* periods with messages: first .. last - 1 */
  int32_t loop, loop_end; /* those written as a loop */
} builder;

static list* list_of(builder* w, kind what, uint32_t port) { return &w->lists[2 * port + what % 2]; }

/* ---- where this rank stands ---- */

static bool is_root(const spot* s) { return s->parent == MCI_PACKING_ROOT; }
static bool swaps_here(const spot* s) { return s->swaps && s->depth == 0; }

static uint8_t port_to(const mci_topo* topo, uint32_t from, uint32_t to) {
  uint32_t peers[MCI_PACKING_PORTS];
  uint32_t n = mci_topo_neighbors(topo, from, peers, MCI_PACKING_PORTS);
  for (uint8_t p = 0; p < n; p++)
    if (peers[p] == to) return p;
  mci_assert(false);
  return 0;
}

static void find_spots(builder* w) {
  const mci_packing* trees = w->packed->trees;
  uint8_t back[MCI_PACKING_PORTS];
  for (uint32_t p = 0; p < w->nports; p++) back[p] = port_to(w->topo, w->peers[p], w->rank);
  for (uint32_t t = 0; t < trees->ntrees; t++) {
    spot* s = &w->spots[t];
    s->depth = mci_packing_depth(trees, t, w->rank);
    s->parent = mci_packing_port(trees, t, w->rank);
    s->swaps = trees->swaps[t];
    for (uint32_t p = 0; p < w->nports; p++)
      if (mci_packing_port(trees, t, w->peers[p]) == back[p] && mci_packing_depth(trees, t, w->peers[p]) > 0)
        s->children[s->nchildren++] = (uint8_t)p;
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

static meshcclResult_t open_list(builder* w, uint32_t number) {
  uint32_t ntrees = w->packed->trees->ntrees, peer = w->peers[number / 2];
  list* l = &w->lists[number];
  bool departs = number % 2;
  l->channel = channel_of(w->topo, departs ? w->rank : peer, departs ? peer : w->rank);
  l->events = mci_alloc(ntrees * sizeof *l->events);
  l->place = mci_alloc(ntrees * sizeof *l->place);
  return l->events && l->place ? meshcclSuccess : mci_oom(ntrees * sizeof *l->events);
}

static void add(builder* w, kind what, uint32_t port, uint32_t tree, int64_t hops) {
  list* l = list_of(w, what, port);
  int64_t period = (int64_t)w->packed->trees->ntrees * MCI_PACKED_SLOT;
  int64_t time = (int64_t)tree * MCI_PACKED_SLOT + hops * w->packed->hop;
  int64_t lag = time >= 0 ? time / period : -((period - 1 - time) / period);
  l->events[l->n++] = (event){time - lag * period, (int32_t)lag, tree, what};
}

static void list_tree(builder* w, uint32_t tree) {
  const spot* s = &w->spots[tree];
  int64_t depth = s->depth, back = s->swaps; /* totals leave a hop later where the middle swaps first */
  for (uint32_t i = 0; i < s->nchildren; i++) {
    add(w, SUM_IN, s->children[i], tree, -(depth + 1));
    add(w, TOTAL_OUT, s->children[i], tree, depth + back);
  }
  if (is_root(s)) return;
  add(w, SUM_OUT, s->parent, tree, -depth);
  if (swaps_here(s)) {
    add(w, SUM_IN, s->parent, tree, 0);
  } else {
    add(w, TOTAL_IN, s->parent, tree, depth - 1 + back);
  }
}

static int compare(const void* a, const void* b) {
  const event *x = a, *y = b;
  if (x->within != y->within) return x->within < y->within ? -1 : 1;
  return x->tree < y->tree ? -1 : x->tree > y->tree;
}

static uint32_t chunk_in(const event* e, int32_t period) { /* or at least `chunks`: none */
  return (uint32_t)(period - e->lag);
}

/* Counts the steps of a list, in the order in which they run. */
static meshcclResult_t count_turns(builder* w, list* l) {
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

/* Periods in which every message has a chunk, and so have all messages that they wait for, are alike. */
static void find_loop(builder* w) {
  int32_t least = INT32_MAX, most = INT32_MIN, chunks = (int32_t)w->packed->chunks;
  for (uint32_t i = 0; i < LISTS; i++) {
    for (uint32_t k = 0; k < w->lists[i].n; k++) {
      least = MCI_MIN(least, w->lists[i].events[k].lag);
      most = MCI_MAX(most, w->lists[i].events[k].lag);
    }
  }
  w->first = least;
  w->last = most + chunks;
  w->loop = most + (most - least);
  w->loop_end = least + chunks;
  if (w->loop_end < w->loop + 2) w->loop = w->loop_end = w->last;
}

static meshcclResult_t list_all(builder* w) {
  for (uint32_t i = 0; i < 2 * w->nports; i++) MCI_TRY(open_list(w, i));
  for (uint32_t t = 0; t < w->packed->trees->ntrees; t++) list_tree(w, t);
  find_loop(w);
  for (uint32_t i = 0; i < LISTS; i++) {
    list* l = &w->lists[i];
    if (l->n == 0) continue;
    qsort(l->events, l->n, sizeof *l->events, compare);
    for (uint32_t k = 0; k < l->n; k++) l->place[l->events[k].tree] = k;
    MCI_TRY(count_turns(w, l));
  }
  return meshcclSuccess;
}

/* ---- steps ---- */

/* One chunk of a message, or in the loop the same message in every period. */
typedef struct {
  uint32_t tree, chunk;
  bool loops;
} part;

static void after(builder* w, part p, kind what, uint32_t port) {
  const list* l = list_of(w, what, port);
  uint32_t turn = l->turn[(size_t)l->place[p.tree] * w->packed->chunks + p.chunk];
  mci_build_after(w->b, l->channel, mci_lin((int32_t)turn, p.loops ? (int32_t)l->n : 0));
}

/* The children's sums have been added. */
static void after_children(builder* w, part p, const spot* s, uint32_t n) {
  if (n > 0) after(w, p, SUM_IN, s->children[n - 1]);
}

static mci_shape shape_of(const builder* w, part p) {
  return mci_span(mci_const(0), 1, mci_lin((int32_t)(p.tree * w->packed->chunks + p.chunk), p.loops));
}

static void sum_in(builder* w, part p, const spot* s, uint32_t port) {
  uint32_t before = 0;
  while (before < s->nchildren && s->children[before] != port) before++;
  bool total = is_root(s) ? before + 1 == s->nchildren : before == s->nchildren;
  mci_build_step(w->b, (w->packed->wide ? MCI_WIDE : 0) | (total ? MCI_FINISH : 0));
  if (before == s->nchildren) {
    after(w, p, SUM_OUT, port); /* swapped */
  } else {
    after_children(w, p, s, before);
  }
  mci_build_dst(w->b, MCI_OUT, 0, shape_of(w, p));
  mci_build_src(w->b, before > 0 ? MCI_OUT : MCI_IN, shape_of(w, p));
  mci_build_src_lane(w->b, mci_const((int32_t)w->peers[port]));
}

static void sum_out(builder* w, part p, const spot* s, uint32_t port) {
  mci_build_step(w->b, 0);
  after_children(w, p, s, s->nchildren);
  mci_build_dst_lane(w->b, swaps_here(s) ? MCI_COPY : 0, mci_const((int32_t)w->peers[port]));
  mci_build_src(w->b, s->nchildren > 0 ? MCI_OUT : MCI_IN, shape_of(w, p));
}

static void total_in(builder* w, part p, uint32_t port) {
  mci_build_step(w->b, 0);
  mci_build_dst(w->b, MCI_OUT, 0, shape_of(w, p));
  mci_build_src_lane(w->b, mci_const((int32_t)w->peers[port]));
}

static void total_out(builder* w, part p, const spot* s, uint32_t port) {
  mci_build_step(w->b, 0);
  if (is_root(s)) {
    after_children(w, p, s, s->nchildren);
  } else {
    after(w, p, swaps_here(s) ? SUM_IN : TOTAL_IN, s->parent);
  }
  mci_build_dst_lane(w->b, 0, mci_const((int32_t)w->peers[port]));
  mci_build_src(w->b, MCI_OUT, shape_of(w, p));
}

static void write_period(builder* w, uint32_t number, int32_t period, bool loops) {
  const list* l = &w->lists[number];
  uint32_t port = number / 2;
  for (uint32_t i = 0; i < l->n; i++) {
    part p = {l->events[i].tree, chunk_in(&l->events[i], period), loops};
    const spot* s = &w->spots[p.tree];
    if (p.chunk >= w->packed->chunks) continue;
    switch ((kind)l->events[i].what) {
      case SUM_IN:
        sum_in(w, p, s, port);
        break;
      case SUM_OUT:
        sum_out(w, p, s, port);
        break;
      case TOTAL_IN:
        total_in(w, p, port);
        break;
      default:
        total_out(w, p, s, port);
        break;
    }
  }
}

static void write_list(builder* w, uint32_t number) {
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
static void write_all(builder* w) {
  for (int32_t done = -1;;) {
    uint32_t next = LISTS;
    for (uint32_t i = 0; i < LISTS; i++) {
      const list* l = &w->lists[i];
      if (l->n == 0 || l->channel <= done) continue;
      if (next == LISTS || l->channel < w->lists[next].channel) next = i;
    }
    if (next == LISTS) return;
    write_list(w, next);
    done = w->lists[next].channel;
  }
}

meshcclResult_t mci_packed_build(const mci_topo* topo, const mci_packed* packed, uint32_t rank, mci_program** out) {
  builder w = {.topo = topo, .packed = packed, .rank = rank};
  uint32_t ntrees = packed->trees->ntrees;
  meshcclResult_t result = meshcclSuccess;
  w.nports = mci_topo_neighbors(topo, rank, w.peers, MCI_PACKING_PORTS);
  w.spots = mci_alloc(ntrees * sizeof *w.spots);
  if (!w.spots) return mci_oom(ntrees * sizeof *w.spots);
  find_spots(&w);
  MCI_TRY_OR(list_all(&w), err_lists);
  w.b = mci_build_begin(MCI_ALL_REDUCE, "packing", packed->trees->nranks, rank, 0);
  mci_build_layout(w.b, 1, ntrees * packed->chunks, NULL);
  write_all(&w);
  result = mci_build_finish(w.b, out);
err_lists:
  for (uint32_t i = 0; i < LISTS; i++) {
    mci_free(w.lists[i].events);
    mci_free(w.lists[i].place);
    mci_free(w.lists[i].turn);
  }
  mci_free(w.spots);
  return result;
}
