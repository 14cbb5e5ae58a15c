/* The programs of exchanges in pairs; see butterfly.h. One channel per copy, whose part of the vector is its number. */
#include "base/base.h"
#include "topo/plan/butterfly.h"

typedef struct {
  const mci_butterfly* b;
  mci_build* out;
  mci_coll coll;
  bool wide, mirrored;
  uint32_t copy;
  uint32_t at[MCI_MAX_DIMS];
  mci_butterfly_step steps[MCI_BUTTERFLY_MAX_STEPS];
  /* Place in a block's number of the bit of every step; in an all-reduce the first step has the highest bit, elsewhere
   * that is so in the first copy, whose order the blocks have. */
  uint32_t place[MCI_BUTTERFLY_MAX_STEPS];
  uint32_t label; /* of this rank */
  uint32_t extra; /* the rank that is folded in here, or UINT32_MAX */
} spot;

static bool last(const spot* p, uint32_t s) { return s + 1 == p->b->nsteps; }
static unsigned wide(const spot* p) { return p->wide ? MCI_WIDE : 0; }

static mci_affine partner(const spot* p, uint32_t s) {
  return mci_const((int32_t)mci_butterfly_partner(p->b, p->at, p->steps[s], p->mirrored));
}

/* ---- blocks ---- */
/* The blocks whose labels begin, in the order of the copy, with those of this rank up to step s, or of its partner. */
typedef struct {
  uint32_t block, run;            /* the first of them, and how many lie together */
  uint32_t nruns, low, first_bit; /* the runs are those with all values of some bits from `low` on */
} range;

static range range_of(const spot* p, uint32_t s, bool partners) {
  uint32_t fixed = 0;
  for (uint32_t k = 0; k <= s; k++) fixed |= 1u << p->place[k];
  range r = {.block = p->label & fixed, .run = 1, .nruns = 1, .first_bit = p->place[0]};
  if (partners) r.block ^= 1u << p->place[s];
  uint32_t bit = 0;
  for (; !(fixed >> bit & 1); bit++) r.run *= 2;
  for (; bit < p->b->nsteps; bit++) {
    if (fixed >> bit & 1) continue;
    if (r.nruns == 1) r.low = bit;
    r.nruns *= 2; /* free bits above a fixed one follow each other: they are what a round has left out so far */
  }
  return r;
}

static mci_affine part_of(const spot* p) { return mci_const((int32_t)p->copy); }

static mci_shape in_user_memory(const spot* p, range r) {
  mci_shape shape = mci_span(mci_const((int32_t)r.block), r.run, part_of(p));
  shape.nruns = r.nruns;
  shape.stride = r.nruns > 1 ? 1u << r.low : 0;
  return shape;
}

/* Scratch holds the blocks of the first step in their order, so a run of a later step lies together; which one it is
 * says its first block without the bit of the first step. */
static mci_shape in_scratch(const spot* p, range r, uint32_t i) {
  uint32_t block = r.block | (r.nruns > 1 ? i << r.low : 0), below = (1u << r.first_bit) - 1;
  uint32_t place = (block & below) | (block >> 1 & ~below);
  mci_shape shape = mci_span(mci_const((int32_t)block), r.run, part_of(p));
  shape.skip = mci_const((int32_t)(place / r.run));
  return shape;
}

/* ---- reduce-scatter, all-gather, and both ---- */
static mci_kind held(const spot* p, uint32_t s) { return s == 0 && p->extra == UINT32_MAX ? MCI_IN : MCI_OUT; }

/* All-reduce: sums stay in the output. */
static void halve(const spot* p, uint32_t s) {
  range mine = range_of(p, s, false), theirs = range_of(p, s, true);
  mci_build_step(p->out, 0);
  mci_build_dst_lane(p->out, 0, partner(p, s));
  mci_build_src(p->out, held(p, s), in_user_memory(p, theirs));
  mci_build_step(p->out, wide(p) | (last(p, s) ? MCI_FINISH : 0));
  mci_build_dst(p->out, MCI_OUT, 0, in_user_memory(p, mine));
  mci_build_src(p->out, held(p, s), in_user_memory(p, mine));
  mci_build_src_lane(p->out, partner(p, s));
}

static void source(const spot* p, uint32_t s, range r, uint32_t i) {
  if (s == 0) {
    mci_build_src(p->out, MCI_IN, in_user_memory(p, r));
  } else {
    mci_build_src_tmp(p->out, mci_const((int32_t)p->copy), in_scratch(p, r, i));
  }
}

/* Reduce-scatter: sums stay in scratch, where the runs of a step lie apart and travel one by one. */
static void halve_in_scratch(const spot* p, uint32_t s) {
  range mine = range_of(p, s, false), theirs = range_of(p, s, true);
  uint32_t pieces = s == 0 ? 1 : mine.nruns;
  for (uint32_t i = 0; i < pieces; i++) {
    mci_build_step(p->out, 0);
    mci_build_dst_lane(p->out, 0, partner(p, s));
    source(p, s, theirs, i);
  }
  for (uint32_t i = 0; i < pieces; i++) {
    mci_build_step(p->out, wide(p) | (last(p, s) ? MCI_FINISH : 0));
    if (last(p, s)) {
      mci_build_dst(p->out, MCI_OUT, 0, in_user_memory(p, mine));
    } else {
      mci_shape shape = s == 0 ? in_user_memory(p, mine) : in_scratch(p, mine, i);
      mci_build_dst_tmp(p->out, 0, mci_const((int32_t)p->copy), shape);
    }
    source(p, s, mine, i);
    mci_build_src_lane(p->out, partner(p, s));
  }
}

static void gather(const spot* p, uint32_t s) {
  mci_build_step(p->out, 0);
  mci_build_dst_lane(p->out, 0, partner(p, s));
  mci_build_src(p->out, MCI_OUT, in_user_memory(p, range_of(p, s, false)));
  mci_build_step(p->out, 0);
  mci_build_dst(p->out, MCI_OUT, 0, in_user_memory(p, range_of(p, s, true)));
  mci_build_src_lane(p->out, partner(p, s));
}

static void copy_own(const spot* p) {
  mci_shape own = in_user_memory(p, range_of(p, p->b->nsteps - 1, false));
  mci_build_step(p->out, 0);
  mci_build_dst(p->out, MCI_OUT, 0, own);
  mci_build_src(p->out, MCI_IN, own);
}

/* ---- everything in every step ---- */
/* The partners of the last bits first: see butterfly.h. Step 0 is the last. */
static void exchange_all(const spot* p) {
  mci_shape all = mci_span(mci_const(0), 1, part_of(p));
  uint32_t n = p->b->nsteps;
  mci_build_step(p->out, p->extra == UINT32_MAX ? 0 : wide(p));
  if (p->extra != UINT32_MAX) mci_build_dst(p->out, MCI_OUT, 0, all);
  mci_build_dst_lane(p->out, MCI_COPY, partner(p, n - 1));
  mci_build_src(p->out, MCI_IN, all);
  if (p->extra != UINT32_MAX) mci_build_src_lane(p->out, mci_const((int32_t)p->extra));
  for (uint32_t s = n; s-- > 0;) {
    mci_build_step(p->out, wide(p) | (s == 0 ? MCI_FINISH : 0));
    mci_build_dst(p->out, MCI_OUT, 0, all);
    if (s > 0) mci_build_dst_lane(p->out, MCI_COPY, partner(p, s - 1));
    mci_build_src(p->out, s + 1 == n ? held(p, 0) : MCI_OUT, all);
    mci_build_src_lane(p->out, partner(p, s));
  }
}

/* ---- who is folded in ---- */
static mci_shape everything(const spot* p, uint32_t nblocks) { return mci_span(mci_const(0), nblocks, part_of(p)); }

static void hand_over(const spot* p, mci_affine peer, uint32_t nblocks) {
  mci_build_step(p->out, 0);
  mci_build_dst_lane(p->out, 0, peer);
  mci_build_src(p->out, MCI_IN, everything(p, nblocks));
  mci_build_step(p->out, 0);
  mci_build_dst(p->out, MCI_OUT, 0, everything(p, nblocks));
  mci_build_src_lane(p->out, peer);
}

static void take_in(const spot* p, uint32_t nblocks) {
  mci_build_step(p->out, wide(p));
  mci_build_dst(p->out, MCI_OUT, 0, everything(p, nblocks));
  mci_build_src(p->out, MCI_IN, everything(p, nblocks));
  mci_build_src_lane(p->out, mci_const((int32_t)p->extra));
}

static void hand_back(const spot* p, uint32_t nblocks) {
  mci_build_step(p->out, 0);
  mci_build_dst_lane(p->out, 0, mci_const((int32_t)p->extra));
  mci_build_src(p->out, MCI_OUT, everything(p, nblocks));
}

/* ---- a program ---- */
static void set_copy(spot* p, uint32_t copy) {
  const mci_butterfly* b = p->b;
  mci_butterfly_step first[MCI_BUTTERFLY_MAX_STEPS];
  p->copy = copy;
  p->mirrored = mci_butterfly_mirrored(b, copy);
  mci_butterfly_steps(b, copy, p->steps);
  mci_butterfly_steps(b, p->coll == MCI_ALL_REDUCE ? copy : 0, first);
  p->label = 0;
  for (uint32_t s = 0; s < b->nsteps; s++) {
    uint32_t k = 0;
    while (first[k].axis != p->steps[s].axis || first[k].bit != p->steps[s].bit) k++;
    p->place[s] = b->nsteps - 1 - k;
    p->label |= mci_butterfly_label_bit(b, p->at, p->steps[s], p->mirrored) << p->place[s];
  }
}

static void build_blocks(const spot* p, uint32_t nblocks) {
  uint32_t n = p->b->nsteps;
  if (p->coll == MCI_ALL_GATHER) copy_own(p);
  if (p->coll == MCI_ALL_REDUCE && p->extra != UINT32_MAX) take_in(p, nblocks);
  for (uint32_t s = 0; s < n && p->coll == MCI_ALL_REDUCE; s++) halve(p, s);
  for (uint32_t s = 0; s < n && p->coll == MCI_REDUCE_SCATTER; s++) halve_in_scratch(p, s);
  for (uint32_t s = n; s-- > 0 && p->coll != MCI_REDUCE_SCATTER;) gather(p, s);
}

/* Rank of every block: the one whose label it is. */
static meshcclResult_t set_order(mci_build* out, const mci_butterfly* b, uint32_t nranks) {
  uint32_t* order = mci_alloc(nranks * sizeof *order);
  if (!order) return mci_oom(nranks * sizeof *order);
  spot p = {.b = b};
  for (uint32_t rank = 0; rank < nranks; rank++) {
    mci_butterfly_place(b, rank, p.at);
    set_copy(&p, 0);
    order[p.label] = rank;
  }
  mci_build_order(out, order);
  mci_free(order);
  return meshcclSuccess;
}

meshcclResult_t mci_butterfly_build(const mci_butterfly* b, const mci_request* request, const char* name,
                                    mci_butterfly_form form, const mci_plan_cost* cost, uint32_t rank,
                                    mci_program** out) {
  uint32_t n = mci_topo_nranks(b->topo), nblocks = form.whole ? 1 : 1u << b->nsteps;
  spot p = {.b = b, .coll = request->coll, .wide = request->wide, .extra = UINT32_MAX};
  p.out = mci_build_begin(request->coll, name, n, rank, 0);
  mci_build_layout(p.out, nblocks, form.copies, NULL);
  meshcclResult_t result = meshcclSuccess;
  if (mci_coll_block_major(request->coll)) MCI_TRY_OR(set_order(p.out, b, n), err_build);
  if (request->coll == MCI_REDUCE_SCATTER && b->nsteps > 1) mci_build_slots(p.out, form.copies);
  bool takes_part = mci_butterfly_place(b, rank, p.at);
  if (takes_part && rank < 2 * b->extra) p.extra = rank + 1;
  for (uint32_t copy = 0; copy < form.copies; copy++) {
    mci_build_channel(p.out, (uint16_t)copy);
    set_copy(&p, copy);
    if (!takes_part) {
      hand_over(&p, mci_const((int32_t)rank - 1), nblocks);
      continue;
    }
    if (form.whole) {
      exchange_all(&p);
    } else {
      build_blocks(&p, nblocks);
    }
    if (p.extra != UINT32_MAX) hand_back(&p, nblocks);
  }
  MCI_TRY(mci_build_finish(p.out, out));
  (*out)->steps = cost->steps;
  return meshcclSuccess;
err_build:
  mci_build_drop(p.out);
  return result;
}
