/* Four rings through all ranks of a torus, which share no link direction: two Hamiltonian cycles without a common link
 * (ham_cycles.c), both ways round each. A quarter of the vector goes round each ring, as in ring.c. All links carry
 * alike, so the bytes are optimal on any rectangle, at the price of 2 (p - 1) steps: for few ranks and large vectors.
 *
 *      3 x 3, the first cycle:   o==o  o=   the second one has all other links
 *                                   ‖  ‖
 *                                o  o==o
 *                                ‖
 *                               =o==o==o=   (what leaves at an edge comes in at the other)
 *
 * Rings are channels and parts. On a ring that goes ahead, sums for the rank at position x start at x + 1:
 *
 *      >next <- in[x - 1]                     then, for k = 2 .. p - 1:  >next <- <before + in[x - k]
 *      out[x] <- <before + in[x]              and the blocks go round once more
 *
 * Ends: the k-th message of a ring depends only on the k-1 ones behind it, back to a rank that starts with its own
 * data. Sources: A. Kotzig 1973 and M. F. Foregger 1978 for the cycles; rings as in P. Patarasuk and X. Yuan 2009. */
#include <stdio.h>

#include "base/base.h"
#include "topo/plan/families.h"
#include "topo/plan/ham_cycles.h"
#include "topo/plan/rounds.h"

#define COLLS (MCI_COLL_BIT(MCI_ALL_REDUCE) | MCI_COLL_BIT(MCI_ALL_GATHER) | MCI_COLL_BIT(MCI_REDUCE_SCATTER))
#define RINGS 4
#define MAX_RANKS 65536 /* the cycles are walked once by every rank */
#define PATIENCE 16     /* part of the time that is added: at equal bytes, fewer steps have fewer ranks to wait for */
#define MAX_LISTED 4096 /* ranks whose blocks are listed one by one in every program */

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  const char* why = mci_grid_refuse(topo);
  if (why) return why;
  uint32_t longer = 0, most = request->coll == MCI_ALL_REDUCE ? MAX_RANKS : MAX_LISTED;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    uint32_t n = mci_topo_side(topo, d);
    longer += n > 1;
    if (n > 1 && !mci_topo_wraps(topo, d)) return "a dimension is a line, not a ring";
  }
  if (longer != 2) return "a torus of two dimensions is needed";
  if (mci_topo_nranks(topo) <= most) return NULL;
  snprintf(buffer, size, "every rank would list the positions of more than %u ranks", most);
  return buffer;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_link worst = mci_topo_worst(topo), link = mci_cost_paced(&worst, mci_cost_message(request));
  uint64_t n = mci_topo_nranks(topo), times = request->coll == MCI_ALL_REDUCE ? 2 : 1, steps = times * (n - 1);
  *out = (mci_plan_cost){.steps = (uint32_t)steps, .channels = RINGS, .chunks = 1};
  out->load = (double)steps / (double)(RINGS * n);
  out->cost_ps = mci_rounds(&link, mci_cost_share(request->bytes, 1, RINGS * n), steps, mci_cost_message(request));
  out->cost_ps += out->cost_ps / PATIENCE;
}

/* ---- building ---- */
typedef struct {
  const mci_ham_cycles* cycles;
  mci_build* b;
  mci_coll coll;
  bool wide;
  uint32_t ring, cycle, at; /* position in the cycle */
  bool ahead;
  mci_affine next, before;
} spot;

static bool regular(const spot* p) { return p->coll == MCI_ALL_REDUCE || p->cycle == 0; }

/* Blocks are numbered along the first cycle; those of an all-reduce along the cycle of their ring. */
static uint32_t block_at(const spot* p, uint32_t position) {
  return regular(p) ? position : p->cycles->position[0][p->cycles->rank[1][position]];
}

static uint32_t behind(const spot* p, uint32_t k) {
  uint32_t n = p->cycles->n;
  return p->ahead ? (p->at + n - k) % n : (p->at + k) % n;
}

static mci_shape shape_of(const spot* p, mci_affine block) { return mci_span(block, 1, mci_const((int32_t)p->ring)); }

static mci_shape own(const spot* p) { return shape_of(p, mci_const((int32_t)block_at(p, p->at))); }

/* Writes `step` for the blocks of the positions first .. last behind this one, as loops where numbers allow it. */
static void walk(const spot* p, uint32_t first, uint32_t last, void (*step)(const spot*, mci_affine)) {
  uint32_t n = p->cycles->n;
  int sign = p->ahead ? -1 : 1;
  mci_run runs[2];
  for (uint32_t k = first; k <= last && !regular(p); k++) step(p, mci_const((int32_t)block_at(p, behind(p, k))));
  uint32_t nruns = regular(p) ? mci_axis_runs(n, behind(p, first), last + 1 - first, sign, runs) : 0;
  for (uint32_t i = 0; i < nruns; i++) {
    bool loop = runs[i].count > 1;
    if (loop) mci_build_repeat(p->b, runs[i].count);
    step(p, mci_lin((int32_t)runs[i].first, loop ? sign : 0));
    if (loop) mci_build_end(p->b);
  }
}

static void start_sum(const spot* p, mci_affine block) {
  mci_build_step(p->b, 0);
  mci_build_dst_lane(p->b, 0, p->next);
  mci_build_src(p->b, MCI_IN, shape_of(p, block));
}

static void pass_sum(const spot* p, mci_affine block) {
  mci_build_step(p->b, p->wide ? MCI_WIDE : 0);
  if (p->coll == MCI_ALL_REDUCE) {
    mci_build_dst(p->b, MCI_OUT, MCI_SPILL, shape_of(p, block));
  } else {
    mci_shape place = shape_of(p, block);
    place.skip = block; /* the one sent before may still be under way */
    mci_build_dst_tmp(p->b, MCI_SPILL, mci_const((int32_t)p->ring), place);
  }
  mci_build_dst_lane(p->b, 0, p->next);
  mci_build_src_lane(p->b, p->before);
  mci_build_src(p->b, MCI_IN, shape_of(p, block));
}

static void keep_sum(const spot* p) {
  mci_build_step(p->b, MCI_FINISH | (p->wide ? MCI_WIDE : 0));
  mci_build_dst(p->b, MCI_OUT, 0, own(p));
  if (p->coll == MCI_ALL_REDUCE) mci_build_dst_lane(p->b, 0, p->next);
  mci_build_src_lane(p->b, p->before);
  mci_build_src(p->b, MCI_IN, own(p));
}

static void start_block(const spot* p) {
  mci_build_step(p->b, 0);
  mci_build_dst(p->b, MCI_OUT, 0, own(p));
  mci_build_dst_lane(p->b, 0, p->next);
  mci_build_src(p->b, MCI_IN, own(p));
}

static void pass_block(const spot* p, mci_affine block) {
  mci_build_step(p->b, 0);
  mci_build_dst(p->b, MCI_OUT, 0, shape_of(p, block));
  mci_build_dst_lane(p->b, 0, p->next);
  mci_build_src_lane(p->b, p->before);
}

static void keep_block(const spot* p, mci_affine block) {
  mci_build_step(p->b, 0);
  mci_build_dst(p->b, MCI_OUT, 0, shape_of(p, block));
  mci_build_src_lane(p->b, p->before);
}

static void build_ring(const spot* p) {
  uint32_t n = p->cycles->n;
  mci_build_channel(p->b, (uint16_t)p->ring);
  if (p->coll != MCI_ALL_GATHER) {
    walk(p, 1, 1, start_sum);
    walk(p, 2, n - 1, pass_sum);
    keep_sum(p);
  } else {
    start_block(p);
  }
  if (p->coll == MCI_REDUCE_SCATTER) return;
  walk(p, 1, n - 2, pass_block);
  walk(p, n - 1, n - 1, keep_block);
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_ham_cycles cycles;
  MCI_TRY(mci_ham_cycles_of(topo, &cycles));
  spot p = {.cycles = &cycles, .coll = request->coll, .wide = request->wide};
  p.b = mci_build_begin(request->coll, "ham_rings", cycles.n, rank, 0);
  mci_build_layout(p.b, cycles.n, RINGS, NULL);
  if (request->coll != MCI_ALL_REDUCE) mci_build_order(p.b, cycles.rank[0]);
  if (request->coll == MCI_REDUCE_SCATTER) mci_build_slots(p.b, RINGS);
  for (p.ring = 0; p.ring < RINGS; p.ring++) {
    p.cycle = p.ring / 2;
    p.ahead = p.ring % 2 == 0;
    p.at = cycles.position[p.cycle][rank];
    p.before = mci_const((int32_t)cycles.rank[p.cycle][behind(&p, 1)]);
    p.next = mci_const((int32_t)cycles.rank[p.cycle][behind(&p, cycles.n - 1)]);
    build_ring(&p);
  }
  mci_ham_cycles_fini(&cycles);
  MCI_TRY(mci_build_finish(p.b, out));
  (*out)->steps = cost_of->steps;
  return meshcclSuccess;
}

const mci_family mci_family_ham_rings = {"ham_rings", COLLS, "two Hamiltonian cycles of a torus, both ways round each",
                                         refuse,      cost,  build};
