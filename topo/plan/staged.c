/* All-to-all on whole grids that uses links only: dimension by dimension, passed on from neighbour to neighbour.
 *
 * Every rank holds one block per rank, numbered in grid order. A stage works along one axis: slice y (all blocks whose
 * coordinate on that axis is y) goes to the rank at y of this line, and that rank's slice comes back into its place.
 * When all axes are done, block b is what rank b sent. One colour per axis, each a share of every block, takes the axes
 * in another cyclic order, so that all links are busy in every stage; each (stage, colour, direction) is a channel.
 *
 *      own slices, farthest first    >ahead copy <- out[y]
 *      then, from s = at - 1 down:   tmp? >ahead copy <- <behind   for all that goes on
 *                                    out[s] <- <behind             for the one that stays
 *
 * Sends are copied, because arrivals overwrite what they read; an arrival waits until the slices that lie on its side
 * have been sent. Ends: what is passed on was sent before by a rank nearer to its origin. Bytes per link are those of
 * dimension-order routing: floor(n/2) ceil(n/2) / n of the vector on a line, half of that on a ring; the order of
 * slices is derived here. */
#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)request, (void)buffer, (void)size;
  return mci_grid_refuse(topo);
}

#define MAX_CHUNKS 16
#define LEAST_PART 1024 /* bytes of a block's chunk */

/* Slices over the busiest link of an axis. Two chunks share the far position of an even ring between both ways. */
static uint64_t slices(const mci_axis* axis, uint32_t chunks) {
  uint64_t n = axis->n, half = n / 2;
  if (!axis->ring) return half * (n - half);
  uint64_t near = (n - 1) / 2;
  uint64_t ahead = half * (half + 1) / 2, behind = near * (near + 1) / 2;
  return chunks == 1 ? ahead : (ahead + behind + 1) / 2;
}

/* Links are busy in every stage, because every colour takes them in another one, and half of the delays are hidden
 * behind that. Small slices only pass: from end to end of every axis, or, as fast as credits come back, over its middle
 * and on to its end; chunk after chunk on the longest. A slice of more messages than may be under way is held up where
 * its receiver is still in the stage before. */
static uint64_t predict(const mci_topo* topo, const mci_request* request, const mci_axis* axes, uint32_t naxes,
                        uint32_t chunks) {
  uint64_t slowest = 0, delay = 0, chain = 0, longest = 0, held_up = 0;
  for (uint32_t a = 0, d = 0; a < naxes; a++, d++) {
    while (mci_topo_side(topo, d) == 1) d++;
    mci_link link = mci_topo_axis_worst(topo, d);
    uint64_t bytes = mci_cost_share(request->bytes, 1, (uint64_t)axes[a].n * naxes * chunks);
    uint64_t message = mci_cost_message(request), busy = mci_cost_busy(&link, bytes, message);
    uint64_t hop = mci_cost_busy(&link, MCI_MIN(bytes, message), message) + link.lat_ps;
    uint64_t depth = mci_axis_depth(&axes[a]), pace = mci_cost_pace(&link, MCI_MIN(bytes, message), 1);
    uint64_t pass = depth * hop;
    if (pace > hop - link.lat_ps) pass = MCI_MAX(pass, slices(&axes[a], chunks) * pace + depth * hop / 2);
    slowest = MCI_MAX(slowest, slices(&axes[a], chunks) * chunks * busy);
    delay += (depth + 1) * link.lat_ps / 2;
    chain += pass;
    longest = MCI_MAX(longest, pass);
    if (bytes > MCI_COST_CREDITS * message)
      held_up = MCI_MAX(held_up, mci_cost_wire(&link, bytes - MCI_COST_CREDITS * message));
  }
  return MCI_MAX(naxes * slowest + delay + held_up, chain + (chunks - 1) * longest);
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  mci_axis axes[MCI_MAX_DIMS];
  uint32_t naxes = mci_grid_axes(topo, 0, axes);
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .channels = 2 * naxes * naxes, .chunks = 1};
  for (uint32_t chunks = 1; chunks <= MAX_CHUNKS; chunks *= 2) {
    if (chunks > 1 && request->bytes / mci_topo_nranks(topo) < (uint64_t)chunks * LEAST_PART) break;
    uint64_t time = predict(topo, request, axes, naxes, chunks);
    if (chunks > 1 && time >= out->cost_ps - out->cost_ps / 1000) continue;
    out->cost_ps = time;
    out->chunks = chunks;
  }
  for (uint32_t a = 0; a < naxes; a++) {
    out->steps += mci_axis_depth(&axes[a]);
    out->load = MCI_MAX(out->load, (double)slices(&axes[a], out->chunks) / axes[a].n);
  }
}

/* ---- building ---- */
typedef struct {
  mci_build* b;
  mci_axis axes[MCI_MAX_DIMS];
  uint32_t naxes, chunks;
  uint32_t stage, color, chunk;
  unsigned dir;
} place;

static uint32_t axis_number(const place* p) { return (p->color + p->stage) % p->naxes; }
static const mci_axis* axis_of(const place* p) { return &p->axes[axis_number(p)]; }
static mci_flow flow_of(const place* p, unsigned dir) { return mci_axis_flow(axis_of(p), dir, p->chunk % 2); }

static uint16_t channel_of(const place* p, uint32_t stage, unsigned dir) {
  return (uint16_t)((stage * p->naxes + p->color) * 2 + dir);
}

static bool copies(const place* p, unsigned dir) { return p->stage == 0 && dir == MCI_AHEAD; }

/* Steps of this chunk in one direction: all, and those before the first arrival. */
static uint32_t first_steps(const place* p, unsigned dir) { return copies(p, dir) + flow_of(p, dir).out; }

static uint32_t all_steps(const place* p, unsigned dir) {
  mci_flow flow = flow_of(p, dir);
  uint32_t arrivals = axis_of(p)->ring ? flow.in * (flow.in + 1) / 2 : flow.in * (flow.out + 1);
  return first_steps(p, dir) + arrivals;
}

/* Steps that the channel of dir has run before this chunk. */
static uint32_t steps_before(const place* p, unsigned dir) {
  uint32_t steps = 0;
  for (place q = *p; q.chunk > 0;) {
    q.chunk--;
    steps += all_steps(&q, dir);
  }
  return steps;
}

/* Slice x of the stage's axis, or x + step * i in loop `depth`. */
static mci_shape slice(const place* p, uint32_t x, int step, uint32_t depth) {
  uint32_t a = axis_number(p);
  mci_shape shape = {.run = 1, .nruns = 1, .nparts = 1};
  for (uint32_t k = 0; k < a; k++) shape.nruns *= p->axes[k].n;
  for (uint32_t k = a + 1; k < p->naxes; k++) shape.run *= p->axes[k].n;
  shape.stride = shape.nruns > 1 ? shape.run * p->axes[a].n : 0;
  shape.block = mci_const((int32_t)(x * shape.run));
  shape.block.step[depth] = step * (int32_t)shape.run;
  shape.part = mci_const((int32_t)(p->color * p->chunks + p->chunk));
  return shape;
}

static mci_affine to(const place* p) { return mci_const((int32_t)axis_of(p)->peer[p->dir]); }
static mci_affine from(const place* p) { return mci_const((int32_t)axis_of(p)->peer[!p->dir]); }

/* The first step of a chunk waits for the stage before. */
static void wait_for_stage(const place* p) {
  if (p->stage == 0) return;
  place before = *p;
  before.stage--;
  for (unsigned dir = MCI_AHEAD; dir <= MCI_BEHIND; dir++) {
    uint32_t steps = all_steps(&before, dir);
    if (steps == 0) continue;
    mci_build_after(p->b, channel_of(p, before.stage, dir), mci_const((int32_t)(steps_before(&before, dir) + steps)));
  }
}

static void send_own(const place* p) {
  const mci_axis* axis = axis_of(p);
  mci_flow flow = flow_of(p, p->dir);
  int sign = p->dir == MCI_AHEAD ? -1 : 1;
  uint32_t n = axis->n, distance = p->dir == MCI_AHEAD ? flow.out : n - flow.out;
  mci_run runs[2];
  uint32_t nruns = mci_axis_runs(n, (axis->at + distance) % n, flow.out, sign, runs);
  mci_kind kind = p->stage == 0 ? MCI_IN : MCI_OUT;
  for (uint32_t i = 0; i < nruns; i++) {
    bool loop = runs[i].count > 1;
    if (loop) mci_build_repeat(p->b, runs[i].count);
    mci_build_step(p->b, 0);
    wait_for_stage(p);
    mci_build_dst_lane(p->b, MCI_COPY, to(p));
    mci_build_src(p->b, kind, slice(p, runs[i].first, loop ? sign : 0, 0));
    if (loop) mci_build_end(p->b);
  }
}

static void pass_on(const place* p, uint32_t count) {
  if (count > 1) mci_build_repeat(p->b, count);
  if (count > 0) {
    mci_build_step(p->b, 0);
    mci_build_dst_tmp(p->b, MCI_SPILL, mci_const((int32_t)channel_of(p, p->stage, p->dir)), slice(p, 0, 0, 0));
    mci_build_dst_lane(p->b, MCI_COPY, to(p));
    mci_build_src_lane(p->b, from(p));
  }
  if (count > 1) mci_build_end(p->b);
}

static void keep(const place* p, uint32_t x, int step) {
  mci_build_step(p->b, 0);
  wait_for_stage(p);
  uint32_t sent = first_steps(p, !p->dir);
  if (sent > 0)
    mci_build_after(p->b, channel_of(p, p->stage, !p->dir), mci_const((int32_t)(steps_before(p, !p->dir) + sent)));
  mci_build_dst(p->b, MCI_OUT, 0, slice(p, x, step, 0));
  mci_build_src_lane(p->b, from(p));
}

/* On a line every rank behind sends as much; on a ring what is farther behind reaches less far. */
static void receive(const place* p) {
  const mci_axis* axis = axis_of(p);
  mci_flow flow = flow_of(p, p->dir);
  uint32_t n = axis->n, back = p->dir == MCI_AHEAD ? n - 1 : 1;
  if (!axis->ring) {
    if (flow.in > 1) mci_build_repeat(p->b, flow.in);
    if (flow.in > 0) {
      pass_on(p, flow.out);
      keep(p, (axis->at + back) % n, flow.in > 1 ? (p->dir == MCI_AHEAD ? -1 : 1) : 0);
    }
    if (flow.in > 1) mci_build_end(p->b);
    return;
  }
  for (uint32_t k = 1; k <= flow.in; k++) {
    pass_on(p, flow.in - k);
    keep(p, (uint32_t)((axis->at + (uint64_t)k * back) % n), 0);
  }
}

static void copy_own(const place* p) {
  mci_shape own = slice(p, axis_of(p)->at, 0, 0);
  mci_build_step(p->b, 0);
  mci_build_dst(p->b, MCI_OUT, 0, own);
  mci_build_src(p->b, MCI_IN, own);
}

static void build_channel(place* p) {
  p->chunk = 0;
  if (all_steps(p, p->dir) == 0) return;
  mci_build_channel(p->b, channel_of(p, p->stage, p->dir));
  for (; p->chunk < p->chunks; p->chunk++) {
    if (copies(p, p->dir)) copy_own(p);
    send_own(p);
    receive(p);
  }
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  uint32_t* order;
  MCI_TRY(mci_grid_places(topo, &order));
  place p = {.chunks = cost_of->chunks};
  p.naxes = mci_grid_axes(topo, rank, p.axes);
  p.b = mci_build_begin(request->coll, "staged", mci_topo_nranks(topo), rank, 0);
  mci_build_layout(p.b, mci_topo_nranks(topo), p.naxes * p.chunks, NULL);
  mci_build_order(p.b, order);
  mci_free(order);
  mci_build_slots(p.b, 2 * p.naxes * p.naxes);
  for (p.stage = 0; p.stage < p.naxes; p.stage++)
    for (p.color = 0; p.color < p.naxes; p.color++)
      for (p.dir = MCI_AHEAD; p.dir <= MCI_BEHIND; p.dir++) build_channel(&p);
  MCI_TRY(mci_build_finish(p.b, out));
  (*out)->steps = cost_of->steps;
  return meshcclSuccess;
}

const mci_family mci_family_staged = {"staged",
                                      MCI_COLL_BIT(MCI_ALL_TO_ALL),
                                      "dimension by dimension, passed on from neighbour to neighbour",
                                      refuse,
                                      cost,
                                      build};
