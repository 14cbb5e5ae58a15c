/* The programs of combs; see comb.h. All messages of a channel are listed with their times and sorted. What a message
 * does follows from where this rank stands on its tree; what it must wait for on other channels is looked up. */
#include <stdlib.h>

#include "base/base.h"
#include "topo/plan/comb.h"

#define MAX_ORDERS ((2 * MCI_MAX_DIMS - 1) * 2 * MCI_MAX_DIMS)

typedef enum {
  SUM_PASS, /* out?, > <- x + <   a partial sum on its way; x: what this rank has of it */
  SUM_KEEP, /* out <- x + <       the end of a line, at the spine */
  SWAP,     /* out, > <- x + <    the middle of an even spine gives its sum to the other middle */
  TOTAL,    /* out, > <- x + <    the last addition */
  PASS,     /* out, > <- <        a total on its way */
  SEND      /* > <- out           a total that begins to travel along another axis, or the other way */
} role;

typedef struct {
  int64_t ps;
  uint32_t part;
  uint8_t role;
  bool arrives, departs, own_input; /* own_input: x is the rank's input, else what stands in its output */
  uint8_t class, level, lane;
  uint32_t tree;
  uint32_t place; /* among those of its lane */
} event;

typedef struct {
  const mci_combs* combs;
  mci_build* b;
  uint32_t norders; /* link directions, times kinds of lanes */
  event* events[MAX_ORDERS];
  uint32_t nevents[MAX_ORDERS], cap[MAX_ORDERS];
  uint32_t* index[MAX_ORDERS]; /* per part: the place of its event that is not SEND */
  meshcclResult_t result;
} builder;

/* Where this rank stands on a tree's level, seen in one direction of travel. */
typedef struct {
  const mci_comb_class* class;
  uint32_t tree, level;
  uint32_t part, first, count; /* of its chunks: number of the first part */
  unsigned dir;
  uint32_t n, x;   /* axis, and position on it */
  uint32_t y;      /* position in the order of travel */
  uint32_t middle; /* the spine's middle, or its first middle, in the order of travel; on a line the spine */
  bool last, even; /* even: a spine with two middles */
} spot;

static spot spot_of(const mci_combs* combs, const mci_comb_class* class, uint32_t tree, uint32_t level, unsigned dir) {
  const mci_axis* axis = &combs->axes[class->order[level]];
  spot s = {.class = class, .tree = tree, .level = level, .dir = dir, .n = axis->n, .x = axis->at};
  s.last = level + 1 == combs->naxes;
  s.even = s.last && s.n % 2 == 0;
  uint32_t middle = s.last ? (s.n - 1) / 2 : mci_comb_spine(combs, class, tree, level);
  bool ahead = dir == MCI_AHEAD;
  s.y = ahead ? s.x : s.n - 1 - s.x;
  s.middle = ahead || s.last ? middle : s.n - 1 - middle;
  return s;
}

/* What a link direction sends in one order: all, or on squares only one kind (see comb.h). On other sides the periods
 * differ, and only one common order keeps the kinds apart. */
static uint32_t order_of(const mci_combs* combs, const mci_comb_class* class, uint32_t level, unsigned dir, role what) {
  uint32_t kind = 0;
  if (combs->apart && level + 1 < combs->naxes) kind = 1 + 2 * level + (what == PASS || what == SEND);
  return (kind * combs->naxes + class->order[level]) * 2 + dir;
}

static uint16_t channel_of(const mci_combs* combs, uint32_t order, uint32_t lane) {
  return (uint16_t)(order * combs->lanes + lane);
}

/* ---- listing ---- */

static void list(builder* w, const spot* s, event* e, int64_t ps) {
  const mci_combs* combs = w->combs;
  e->class = (uint8_t)(s->class - combs->classes);
  e->level = (uint8_t)s->level;
  e->tree = s->tree;
  uint32_t order = order_of(combs, s->class, s->level, s->dir, (role)e->role);
  w->result = mci_grow(&w->events[order], sizeof(event), &w->cap[order], (size_t)w->nevents[order] + s->count);
  for (uint32_t k = 0; k < s->count && w->result == meshcclSuccess; k++) {
    e->lane = (uint8_t)((s->first + k) % combs->lanes);
    e->ps = ps + (int64_t)((s->first + k) * s->class->period_ps);
    e->part = s->part + k;
    w->events[order][w->nevents[order]++] = *e;
  }
}

/* Whether the sum that this rank holds before the role's addition is still its own input. */
static bool holds_input(const spot* s, role what) {
  if (s->level > 0) return false;
  if (what == SUM_PASS || what == SWAP) return true;
  if (s->even) return s->middle == 0;      /* TOTAL: nothing came to the swap */
  return s->dir == MCI_AHEAD || s->x == 0; /* KEEP, or TOTAL behind: the way ahead adds first */
}

static role role_of(const spot* s) {
  if (s->y < s->middle) return SUM_PASS;
  if (s->even && s->y == s->middle) return SWAP;
  if (s->even && s->y == s->middle + 1) return TOTAL;
  if (s->y > s->middle) return PASS;
  return s->last && s->dir == MCI_BEHIND ? TOTAL : SUM_KEEP;
}

static void list_spot(builder* w, const spot* s) {
  const mci_combs* combs = w->combs;
  int64_t leaves = 0, comes = 0;
  bool departs = mci_comb_leaves(combs, s->class, s->tree, s->level, s->x, s->dir, &leaves);
  uint32_t behind = s->dir == MCI_AHEAD ? s->x - 1 : s->x + 1;
  bool arrives = s->y > 0 && mci_comb_leaves(combs, s->class, s->tree, s->level, behind, s->dir, &comes);
  role what = role_of(s);
  bool turns = what == SUM_KEEP; /* what departs here is a total, later */
  event e = {
      .role = (uint8_t)what, .arrives = arrives, .departs = departs && !turns, .own_input = holds_input(s, what)};
  if (arrives || e.departs)
    list(w, s, &e, e.departs ? leaves : comes + (int64_t)combs->step_ps[s->class->order[s->level]]);
  event send = {.role = SEND, .departs = true};
  if (turns && departs) list(w, s, &send, leaves);
}

static int compare(const void* a, const void* b) {
  const event *x = a, *y = b;
  if (x->ps != y->ps) return x->ps < y->ps ? -1 : 1;
  if (x->part != y->part) return x->part < y->part ? -1 : 1;
  return (x->role == SEND) - (y->role == SEND);
}

static meshcclResult_t sort(builder* w, uint32_t order) {
  uint32_t places[UINT8_MAX] = {0};
  w->index[order] = mci_alloc(w->combs->nparts * sizeof(uint32_t));
  if (!w->index[order]) return mci_oom(w->combs->nparts * sizeof(uint32_t));
  if (w->nevents[order]) qsort(w->events[order], w->nevents[order], sizeof(event), compare);
  for (uint32_t i = 0; i < w->nevents[order]; i++) {
    event* e = &w->events[order][i];
    e->place = places[e->lane]++;
    if (e->role != SEND) w->index[order][e->part] = e->place;
  }
  return meshcclSuccess;
}

static meshcclResult_t list_all(builder* w) {
  const mci_combs* combs = w->combs;
  for (uint32_t c = 0; c < combs->naxes; c++) {
    const mci_comb_class* class = &combs->classes[c];
    for (uint32_t tree = 0, part = class->part, first, count; tree < class->trees; tree++, part += count) {
      count = mci_comb_chunks(combs, class, tree, &first);
      for (uint32_t level = 0; level < combs->naxes && mci_comb_reaches(combs, class, tree, level); level++)
        for (unsigned dir = MCI_AHEAD; dir <= MCI_BEHIND; dir++) {
          spot s = spot_of(combs, class, tree, level, dir);
          s.part = part, s.first = first, s.count = count;
          list_spot(w, &s);
        }
    }
  }
  MCI_TRY(w->result);
  for (uint32_t order = 0; order < w->norders; order++) MCI_TRY(sort(w, order));
  return meshcclSuccess;
}

/* ---- conditions ---- */

static void after(builder* w, const event* e, uint32_t level, unsigned dir, role what) {
  uint32_t order = order_of(w->combs, &w->combs->classes[e->class], level, dir, what);
  mci_build_after(w->b, channel_of(w->combs, order, e->lane), mci_const((int32_t)w->index[order][e->part] + 1));
}

/* The sum along the level before is complete. */
static void after_lines(builder* w, const event* e) {
  if (e->level == 0) return;
  spot s = spot_of(w->combs, &w->combs->classes[e->class], e->tree, e->level - 1, MCI_BEHIND);
  after(w, e, e->level - 1, s.x + 1 < s.n ? MCI_BEHIND : MCI_AHEAD, SUM_KEEP);
}

/* The total has come to this rank, along the first level from `level` on where it does not stand on the spine. */
static void after_total(builder* w, const event* e, uint32_t level) {
  const mci_comb_class* class = &w->combs->classes[e->class];
  for (; level < w->combs->naxes; level++) {
    for (unsigned dir = MCI_AHEAD; dir <= MCI_BEHIND; dir++) {
      spot s = spot_of(w->combs, class, e->tree, level, dir);
      role what = role_of(&s);
      if (what != TOTAL && what != PASS) continue;
      after(w, e, level, dir, what);
      return;
    }
  }
}

static void conditions(builder* w, const event* e, unsigned dir) {
  spot s = spot_of(w->combs, &w->combs->classes[e->class], e->tree, e->level, dir);
  switch ((role)e->role) {
    case SUM_PASS:
    case SWAP:
      after_lines(w, e);
      break;
    case SUM_KEEP:
      if (dir == MCI_BEHIND && s.x > 0) {
        after(w, e, e->level, MCI_AHEAD, SUM_KEEP);
      } else {
        after_lines(w, e);
      }
      break;
    case TOTAL: /* the other direction has brought its sum, or swapped it */
      after(w, e, e->level, !dir, SWAP);
      break;
    case SEND:
      after_total(w, e, s.last ? e->level : e->level + 1);
      break;
    default:
      break;
  }
}

/* ---- steps ---- */

static void write_step(builder* w, uint32_t order, const event* e) {
  unsigned dir = order % 2;
  const mci_combs* combs = w->combs;
  const mci_axis* axis = &combs->axes[combs->classes[e->class].order[e->level]];
  mci_shape part = mci_span(mci_const(0), 1, mci_const((int32_t)e->part));
  bool adds = e->arrives && e->role != PASS;
  mci_build_step(w->b, (adds && combs->wide ? MCI_WIDE : 0) | (e->role == TOTAL ? MCI_FINISH : 0));
  conditions(w, e, dir);
  if (e->arrives) mci_build_dst(w->b, MCI_OUT, e->role == SUM_PASS ? MCI_SPILL : 0, part);
  if (e->departs) mci_build_dst_lane(w->b, e->role == SWAP ? MCI_COPY : 0, mci_const((int32_t)axis->peer[dir]));
  if (e->role != PASS) mci_build_src(w->b, e->own_input ? MCI_IN : MCI_OUT, part);
  if (e->arrives) mci_build_src_lane(w->b, mci_const((int32_t)axis->peer[!dir]));
}

static void write_channel(builder* w, uint32_t order, uint32_t lane) {
  bool begun = false;
  for (uint32_t i = 0; i < w->nevents[order]; i++) {
    const event* e = &w->events[order][i];
    if (e->lane != lane) continue;
    if (!begun) mci_build_channel(w->b, channel_of(w->combs, order, lane));
    begun = true;
    write_step(w, order, e);
  }
}

meshcclResult_t mci_combs_build(const mci_combs* combs, uint32_t nranks, uint32_t rank, mci_program** out) {
  uint32_t kinds = combs->apart ? 2 * combs->naxes - 1 : 1;
  builder w = {.combs = combs, .norders = kinds * 2 * combs->naxes};
  meshcclResult_t result = list_all(&w);
  if (result != meshcclSuccess) goto done;
  w.b = mci_build_begin(MCI_ALL_REDUCE, "comb", nranks, rank, 0);
  mci_build_layout(w.b, 1, combs->nparts, NULL);
  for (uint32_t order = 0; order < w.norders; order++)
    for (uint32_t lane = 0; lane < combs->lanes; lane++) write_channel(&w, order, lane);
  result = mci_build_finish(w.b, out);
done:
  for (uint32_t order = 0; order < w.norders; order++) {
    mci_free(w.events[order]);
    mci_free(w.index[order]);
  }
  return result;
}
