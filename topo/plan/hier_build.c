/* Steps of the family hier (hier.c): what one rank sends, folds and receives at every stage. A phase is a stage on the
 * way up (reducing) or down (gathering); phase f of the chunks 0, 2, 4, .. runs on channel 2f, of 1, 3, .. on 2f + 1,
 * so that a phase waits for the arrivals of one chunk while the next one is sent.
 *
 *     up      >owner's rail <- piece        for every piece that another unit of the group takes
 *             sum <- piece + <rail + ..     for those that the rank's own unit takes, in the order of the units
 *     down    >rail >rail .. <- piece       what this rank has, to the item's rails in the other units
 *             piece <- <owner's rail
 *     across  >rail copy .. <- piece        the last stage of an exchange: everybody folds all, in the same order
 *             sum <- piece + <rail + ..
 *
 * The first step of a phase waits until the phase before has run for this chunk. */
#include "base/base.h"
#include "topo/plan/hier.h"

#define MAX_PHASES (2 * MCI_HIER_MAX_STAGES)
#define MAX_LANES 16 /* that one step sends to */

typedef enum { UP, ACROSS, DOWN } way;

typedef struct {
  const mci_hier* h;
  const mci_hier_shape* shape;
  mci_build* b;
  uint32_t rank;
  mci_hier_place place[MCI_HIER_MAX_STAGES];
  uint32_t nphases;
  uint32_t steps[MAX_PHASES]; /* of one chunk, by phase */
  /* the phase under way */
  uint32_t phase, stage, turn, period;
  bool looped, waited;
  mci_hier_piece* pieces;
  uint32_t npieces, nown;
} plan;

static bool scattered(const plan* p) { return p->shape->coll == MCI_REDUCE_SCATTER; }
static bool last_stage(const plan* p) { return p->stage + 1 == p->h->nstages; }

static uint32_t period_of(const plan* p) { return p->shape->chunks > 1 ? 2 : 1; }

/* Chunks that the turn's channels run. */
static uint32_t chunks_of(const plan* p, uint32_t turn) {
  return (p->shape->chunks + period_of(p) - 1 - turn) / period_of(p);
}

static mci_affine part(const plan* p) { return mci_lin((int32_t)p->turn, p->looped ? (int32_t)p->period : 0); }

/* Opens a step; the first of a chunk waits for the phase before. */
static void open_step(plan* p, unsigned flags) {
  mci_build_step(p->b, flags);
  if (p->waited) return;
  p->waited = true;
  uint32_t before = p->phase;
  while (before > 0 && p->steps[before - 1] == 0) before--;
  if (before-- == 0) return;
  int32_t steps = (int32_t)p->steps[before];
  mci_build_after(p->b, (uint16_t)(2 * before + p->turn), mci_lin(steps, p->looped ? steps : 0));
}

static mci_shape shape_of(const plan* p, const mci_hier_piece* piece, mci_kind kind) {
  mci_shape shape = mci_span(mci_const((int32_t)piece->block), piece->run, part(p));
  if (kind == MCI_TMP) shape.skip = mci_const((int32_t)piece->skip);
  return shape;
}

static void from(const plan* p, const mci_hier_piece* piece, mci_kind kind) {
  if (kind == MCI_TMP) {
    mci_build_src_tmp(p->b, part(p), shape_of(p, piece, kind));
  } else {
    mci_build_src(p->b, kind, shape_of(p, piece, kind));
  }
}

static void to(const plan* p, const mci_hier_piece* piece, mci_kind kind) {
  if (kind == MCI_TMP) {
    mci_build_dst_tmp(p->b, 0, part(p), shape_of(p, piece, kind));
  } else {
    mci_build_dst(p->b, kind, 0, shape_of(p, piece, kind));
  }
}

/* The rank that stands for the piece in unit i of the stage's group. */
static mci_affine rail(const plan* p, const mci_hier_piece* piece, uint32_t i) {
  uint32_t unit = mci_hier_unit(p->h, p->stage, p->place[p->stage].group, i);
  return mci_const((int32_t)mci_hier_rail(p->h, p->stage, unit, &piece->item));
}

static mci_kind addend(const plan* p) { return p->stage == 0 ? MCI_IN : scattered(p) ? MCI_TMP : MCI_OUT; }

static void fold(plan* p, const mci_hier_piece* piece) {
  const mci_hier_place* place = &p->place[p->stage];
  open_step(p, (last_stage(p) ? MCI_FINISH : 0) | (p->shape->wide && place->count > 1 ? MCI_WIDE : 0));
  to(p, piece, scattered(p) && !last_stage(p) ? MCI_TMP : MCI_OUT);
  for (uint32_t i = 0; i < place->count; i++) {
    if (i == place->index) {
      from(p, piece, addend(p));
    } else {
      mci_build_src_lane(p->b, rail(p, piece, i));
    }
  }
}

static void send_to_owner(plan* p, const mci_hier_piece* piece) {
  open_step(p, 0);
  mci_build_dst_lane(p->b, 0, rail(p, piece, piece->owner));
  from(p, piece, addend(p));
}

/* To the item's rails in all other units, beginning with the next one. */
static void send_to_rails(plan* p, const mci_hier_piece* piece, unsigned flags) {
  const mci_hier_place* place = &p->place[p->stage];
  for (uint32_t k = 1; k < place->count; k += MAX_LANES) {
    open_step(p, 0);
    for (uint32_t d = k; d < place->count && d < k + MAX_LANES; d++)
      mci_build_dst_lane(p->b, flags, rail(p, piece, (place->index + d) % place->count));
    from(p, piece, MCI_OUT);
  }
}

static void receive(plan* p, const mci_hier_piece* piece) {
  open_step(p, 0);
  to(p, piece, MCI_OUT);
  mci_build_src_lane(p->b, rail(p, piece, piece->owner));
}

static void copy_own(plan* p, const mci_hier_piece* piece) {
  open_step(p, 0);
  to(p, piece, MCI_OUT);
  from(p, piece, MCI_IN);
}

static void chunk(plan* p, way w) {
  const mci_hier_piece *own = p->pieces, *end = own + p->npieces, *others = own + p->nown;
  switch (w) {
    case UP:
      for (const mci_hier_piece* piece = others; piece < end; piece++) send_to_owner(p, piece);
      for (const mci_hier_piece* piece = own; piece < others; piece++) fold(p, piece);
      return;
    case ACROSS:
      for (const mci_hier_piece* piece = own; piece < end; piece++) send_to_rails(p, piece, MCI_COPY);
      for (const mci_hier_piece* piece = own; piece < end; piece++) fold(p, piece);
      return;
    default:
      for (const mci_hier_piece* piece = own; piece < others; piece++) {
        if (p->shape->coll == MCI_ALL_GATHER && last_stage(p)) copy_own(p, piece);
        send_to_rails(p, piece, 0);
      }
      while (end > others) { /* the nearest unit behind first: it sends here first */
        const mci_hier_piece* first = end - 1;
        while (first > others && first[-1].owner == first->owner) first--;
        for (const mci_hier_piece* piece = first; piece < end; piece++) receive(p, piece);
        end = first;
      }
  }
}

static meshcclResult_t build_phase(plan* p, uint32_t stage, way w) {
  const mci_hier_place* place = &p->place[stage];
  p->phase = p->nphases++;
  p->stage = stage;
  if (place->count == 1 && (stage > 0 || w != UP)) return meshcclSuccess;
  MCI_TRY(mci_hier_pieces(p->h, p->shape, p->rank, p->place, stage, &p->pieces, &p->npieces));
  p->nown = 0;
  while (p->nown < p->npieces && p->pieces[p->nown].owner == place->index) p->nown++;
  p->period = period_of(p);
  for (p->turn = 0; p->turn < p->period && p->npieces > 0; p->turn++) {
    uint32_t chunks = chunks_of(p, p->turn);
    p->looped = chunks > 1;
    p->waited = false;
    mci_build_channel(p->b, (uint16_t)(2 * p->phase + p->turn));
    if (p->looped) mci_build_repeat(p->b, chunks);
    uint64_t before = mci_build_count(p->b);
    chunk(p, w);
    p->steps[p->phase] = (uint32_t)(mci_build_count(p->b) - before);
    if (p->looped) mci_build_end(p->b);
  }
  mci_free(p->pieces);
  return meshcclSuccess;
}

static meshcclResult_t build_phases(plan* p) {
  uint32_t top = p->h->nstages - 1;
  bool up = p->shape->coll != MCI_ALL_GATHER, down = !scattered(p);
  for (uint32_t s = 0; s <= top && up; s++) MCI_TRY(build_phase(p, s, s == top && p->shape->exchange ? ACROSS : UP));
  for (uint32_t s = top + 1; s-- > 0 && down;)
    if (s < top || !p->shape->exchange) MCI_TRY(build_phase(p, s, DOWN));
  return meshcclSuccess;
}

meshcclResult_t mci_hier_build(const mci_hier* h, const mci_hier_shape* shape, uint32_t rank, mci_program** out) {
  plan p = {.h = h, .shape = shape, .rank = rank};
  uint32_t* order = NULL;
  if (mci_coll_block_major(shape->coll)) MCI_TRY(mci_hier_order(h, shape, &order));
  p.b = mci_build_begin(shape->coll, "hier", mci_topo_nranks(h->topo), rank, 0);
  mci_build_layout(p.b, mci_hier_blocks(h, shape), shape->chunks, NULL);
  mci_build_order(p.b, order);
  mci_free(order);
  if (scattered(&p)) mci_build_slots(p.b, shape->chunks);
  mci_hier_place_of(h, rank, p.place);
  meshcclResult_t result = build_phases(&p);
  if (result != meshcclSuccess) {
    mci_build_drop(p.b);
    return result;
  }
  return mci_build_finish(p.b, out);
}
