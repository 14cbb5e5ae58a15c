/* Which items a rank of a hierarchical schedule holds at a stage, and which unit takes them; see hier.h. */
#include "base/base.h"
#include "topo/plan/hier.h"

typedef struct {
  const mci_hier* h;
  const mci_hier_shape* shape;
  const mci_hier_place* place;
  uint32_t rank, stage;
  mci_hier_piece* list;
  uint32_t n, cap;
} search;

static meshcclResult_t add(search* s, mci_hier_piece piece) {
  MCI_TRY(mci_grow(&s->list, sizeof *s->list, &s->cap, (size_t)s->n + 1));
  s->list[s->n++] = piece;
  return meshcclSuccess;
}

uint32_t mci_hier_blocks(const mci_hier* h, const mci_hier_shape* shape) {
  if (shape->listed) return mci_topo_nranks(h->topo);
  uint32_t blocks = 1;
  for (uint32_t s = 0; s < h->nstages; s++) blocks *= shape->radix[s];
  return blocks;
}

/* ---- all combinations of digits ---- */
static uint32_t end_of(const search* s, uint32_t stage) {
  const mci_hier_place* place = &s->place[stage];
  return mci_hier_begin(place->index + 1, place->count, s->shape->radix[stage]);
}

static uint32_t begin_of(const search* s, uint32_t stage) {
  const mci_hier_place* place = &s->place[stage];
  return mci_hier_begin(place->index, place->count, s->shape->radix[stage]);
}

/* The items below stage `s` are chosen: cuts what is left by the unit that takes it. */
static meshcclResult_t add_units(search* s, mci_hier_item* item) {
  const mci_hier* h = s->h;
  const uint32_t* radix = s->shape->radix;
  uint32_t below = 0, above = 1, base = begin_of(s, 0), count = s->place[s->stage].count;
  for (uint32_t t = 0; t < s->stage; t++) below = (below + item->digit[t]) * radix[t + 1];
  for (uint32_t t = s->stage + 1; t < h->nstages; t++) above *= radix[t];
  for (uint32_t t = 1; t < h->nstages; t++) base *= radix[t];
  for (uint32_t unit = 0; unit < count; unit++) {
    uint32_t first = mci_hier_begin(unit, count, radix[s->stage]);
    uint32_t end = mci_hier_begin(unit + 1, count, radix[s->stage]);
    if (first == end) continue;
    mci_hier_piece piece = {.block = (below + first) * above, .run = (end - first) * above, .owner = unit};
    piece.skip = s->stage > 0 ? (piece.block - base) / piece.run : 0;
    piece.item = *item;
    MCI_TRY(add(s, piece));
  }
  return meshcclSuccess;
}

static meshcclResult_t add_combinations(search* s) {
  mci_hier_item item = {{0}, {0}};
  for (uint32_t t = 0; t < s->h->nstages; t++) item.of[t] = s->shape->radix[t];
  for (uint32_t t = 0; t < s->stage; t++) {
    item.digit[t] = begin_of(s, t);
    if (item.digit[t] == end_of(s, t)) return meshcclSuccess;
  }
  for (;;) {
    MCI_TRY(add_units(s, &item));
    uint32_t t = s->stage;
    while (t > 0 && ++item.digit[t - 1] == end_of(s, t - 1)) {
      item.digit[t - 1] = begin_of(s, t - 1);
      t--;
    }
    if (t == 0) return meshcclSuccess;
  }
}

/* ---- ranks one by one ---- */
static meshcclResult_t add_rank(search* s, uint32_t group, uint32_t i, const mci_hier_item* above, uint32_t* held) {
  const mci_hier* h = s->h;
  mci_hier_item item = *above;
  item.digit[0] = i;
  uint32_t skip = *held;
  if (mci_hier_rail(h, 1, s->place[0].group, &item) == s->rank) {
    ++*held;
  } else if (s->stage > 0) {
    return meshcclSuccess;
  }
  if (s->stage > 1 && mci_hier_rail(h, s->stage, s->place[s->stage - 1].group, &item) != s->rank) return meshcclSuccess;
  uint32_t owner = (uint32_t)((uint64_t)item.digit[s->stage] * s->place[s->stage].count / item.of[s->stage]);
  return add(s, (mci_hier_piece){mci_hier_unit(h, 0, group, i), 1, owner, skip, item});
}

static meshcclResult_t add_ranks(search* s) {
  const mci_hier* h = s->h;
  uint32_t held = 0;
  for (uint32_t group = 0; group < h->ngroups[0]; group++) {
    mci_hier_place place[MCI_HIER_MAX_STAGES];
    mci_hier_item item = {{0}, {0}};
    mci_hier_place_of(h, mci_hier_unit(h, 0, group, 0), place);
    for (uint32_t t = 0; t < h->nstages; t++) {
      item.digit[t] = place[t].index;
      item.of[t] = place[t].count;
    }
    for (uint32_t i = 0; i < place[0].count; i++) MCI_TRY(add_rank(s, group, i, &item, &held));
  }
  return meshcclSuccess;
}

/* ---- */
/* Stable, by the unit's distance ahead of the rank's own. */
static meshcclResult_t sort(search* s) {
  const mci_hier_place* place = &s->place[s->stage];
  uint32_t* start = mci_alloc((place->count + (size_t)1) * sizeof *start);
  mci_hier_piece* sorted = mci_alloc((s->n + (size_t)1) * sizeof *sorted);
  meshcclResult_t result = meshcclSuccess;
  if (start && sorted) {
    for (uint32_t i = 0; i < s->n; i++) start[(s->list[i].owner + place->count - place->index) % place->count + 1]++;
    for (uint32_t u = 0; u < place->count; u++) start[u + 1] += start[u];
    for (uint32_t i = 0; i < s->n; i++)
      sorted[start[(s->list[i].owner + place->count - place->index) % place->count]++] = s->list[i];
    mci_hier_piece* unsorted = s->list;
    s->list = sorted;
    sorted = unsorted;
  } else {
    result = mci_oom(s->n * sizeof *sorted);
  }
  mci_free(start);
  mci_free(sorted);
  return result;
}

meshcclResult_t mci_hier_pieces(const mci_hier* h, const mci_hier_shape* shape, uint32_t rank,
                                const mci_hier_place* place, uint32_t stage, mci_hier_piece** out, uint32_t* n) {
  search s = {.h = h, .shape = shape, .place = place, .rank = rank, .stage = stage};
  meshcclResult_t result = shape->listed ? add_ranks(&s) : add_combinations(&s);
  if (result == meshcclSuccess) result = sort(&s);
  if (result != meshcclSuccess) {
    mci_free(s.list);
    return result;
  }
  *out = s.list;
  *n = s.n;
  return meshcclSuccess;
}

meshcclResult_t mci_hier_order(const mci_hier* h, const mci_hier_shape* shape, uint32_t** out) {
  *out = NULL;
  if (shape->listed) return meshcclSuccess;
  uint32_t n = mci_hier_blocks(h, shape);
  uint32_t* order = mci_alloc(n * sizeof *order);
  if (!order) return mci_oom(n * sizeof *order);
  bool identity = true;
  mci_hier_item item = {{0}, {0}};
  for (uint32_t t = 0; t < h->nstages; t++) item.of[t] = shape->radix[t];
  for (uint32_t b = 0; b < n; b++) {
    uint32_t rest = b;
    for (uint32_t t = h->nstages; t-- > 0; rest /= shape->radix[t]) item.digit[t] = rest % shape->radix[t];
    order[b] = mci_hier_rail(h, h->nstages, 0, &item);
    identity = identity && order[b] == b;
  }
  if (identity) {
    mci_free(order);
    order = NULL;
  }
  *out = order;
  return meshcclSuccess;
}
