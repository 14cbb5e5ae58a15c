/* What exchanges in pairs cost: step after step, with what shares the busiest link and the hops of the longest way. All
 * lines of an axis are alike, so closed forms serve on grids; on full graphs the ways out of groups are counted. */
#include "base/base.h"
#include "topo/plan/butterfly.h"
#include "topo/plan/cost.h"

typedef struct {
  const mci_butterfly* b;
  const mci_request* request;
  mci_butterfly_form form;
  uint64_t message;
  uint64_t delay;              /* of all steps */
  double load[MCI_MAX_DIMS];   /* bytes over the busiest link of an axis */
  uint64_t busy[MCI_MAX_DIMS]; /* the time that takes */
} question;

/* Time of a step whose messages share links `load` at a time, delays apart. While they do, they move on: only where
 * ways are longer than that does passing on take time, too. */
static uint64_t transfer(const question* q, const mci_link* link, uint64_t load, uint64_t hops, uint64_t bytes) {
  uint64_t all = mci_cost_busy(link, bytes, q->message),
           one = mci_cost_busy(link, MCI_MIN(bytes, q->message), q->message);
  uint64_t time = MCI_MAX(load * all, all + (hops - 1) * one);
  return MCI_MAX(time, mci_cost_lane(link, bytes, q->message, hops));
}

static uint64_t hops_of(const mci_butterfly* b, mci_butterfly_step step) {
  int64_t distance = mci_butterfly_distance(b, step);
  return (uint64_t)(distance < 0 ? -distance : distance);
}

/* Messages over the busiest link of an axis when all its ranks send to their partners; `both` with the mirrored copy.
 */
static uint64_t sharing(const mci_butterfly* b, mci_butterfly_step step, bool both) {
  uint64_t hops = hops_of(b, step), n = UINT64_C(1) << b->bits[step.axis];
  if (n == 2) return both ? 2 : 1;
  if (b->swing) return both ? hops : (hops + 1) / 2;
  return both && hops == n / 2 ? n : hops; /* half way round, both copies take the same way */
}

/* Counts what a copy, or a mirrored pair of copies, does in a step; returns its time alone. */
static uint64_t grid_step(question* q, uint32_t copy, uint32_t s, uint64_t bytes) {
  const mci_butterfly* b = q->b;
  mci_butterfly_step steps[MCI_BUTTERFLY_MAX_STEPS];
  mci_butterfly_steps(b, copy, steps);
  uint32_t axis = steps[s].axis;
  mci_link link = mci_topo_axis_worst(b->topo, b->dim[axis]);
  uint64_t hops = hops_of(b, steps[s]), load = sharing(b, steps[s], q->form.copies > b->naxes);
  q->load[axis] += (double)load * (double)bytes;
  q->busy[axis] += load * mci_cost_busy(&link, bytes, q->message);
  if (copy == 0) q->delay += hops * link.lat_ps;
  return transfer(q, &link, MCI_MIN(load, hops), hops, bytes);
}

/* The same for full graphs: of all ranks that have a partner, the busiest way out of a group, and the longest delay. */
static uint64_t full_step(question* q, uint32_t (*partner)(const mci_butterfly*, uint32_t, uint32_t), uint32_t s,
                          uint64_t bytes) {
  const mci_topo* topo = q->b->topo;
  mci_link link = mci_topo_link(topo);
  uint64_t worst = transfer(q, &link, 1, 1, bytes), most = 1, delay = link.lat_ps;
  for (uint32_t l = 0; l < mci_topo_nlevels(topo); l++) {
    uint64_t leaving = 0;
    for (uint32_t g = 0; g < mci_topo_ngroups(topo, l); g++) {
      uint64_t count = 0;
      for (uint32_t i = 0; i < mci_topo_group_size(topo, l, g); i++) {
        uint32_t rank = mci_topo_group_rank(topo, l, g, i), other = partner(q->b, rank, s);
        count += other != UINT32_MAX && mci_topo_group(topo, l, other) != g;
      }
      leaving = MCI_MAX(leaving, count);
    }
    link = mci_topo_class(topo, l + 1);
    if (leaving == 0) continue;
    uint64_t time = transfer(q, &link, leaving, 1, bytes);
    if (time > worst) most = leaving;
    worst = MCI_MAX(worst, time);
    delay = MCI_MAX(delay, link.lat_ps);
  }
  q->delay += delay;
  q->load[0] += (double)most * (double)bytes;
  return worst;
}

static uint32_t partner_at(const mci_butterfly* b, uint32_t rank, uint32_t s) {
  uint32_t at[MCI_MAX_DIMS];
  if (!mci_butterfly_place(b, rank, at)) return UINT32_MAX;
  return mci_butterfly_partner(b, at, (mci_butterfly_step){0, (uint8_t)s}, false);
}

/* Who hands its vector to whom before the first step. */
static uint32_t folded_into(const mci_butterfly* b, uint32_t rank, uint32_t s) {
  (void)s;
  return rank < 2 * b->extra && rank % 2 ? rank - 1 : UINT32_MAX;
}

static uint64_t bytes_of(const question* q, uint32_t s) {
  uint64_t part = mci_cost_share(q->request->bytes, 1, q->form.copies);
  return q->form.whole ? part : mci_cost_share(part, 1, UINT64_C(2) << s);
}

static bool has_pair(const mci_butterfly* b) {
  for (uint32_t a = 0; a < b->naxes; a++)
    if (b->bits[a] == 1) return true;
  return false;
}

static bool equal_sides(const mci_butterfly* b) {
  for (uint32_t a = 1; a < b->naxes; a++)
    if (b->bits[a] != b->bits[0]) return false;
  return true;
}

/* Copies run side by side. Each needs its time alone; or links have more to carry than that, and then delays of one
 * copy, half of them as simulated, are hidden by the messages of others. Where sides differ, copies meet on the axis
 * that is left in the end, and wait for each other; those of Swing, which keep step, all the more. */
static uint64_t predict_grid(question* q) {
  const mci_butterfly* b = q->b;
  uint32_t orders = MCI_MIN(q->form.copies, b->naxes);
  uint64_t alone[MCI_MAX_DIMS] = {0}, longest = 0, busy = 0, together = 0;
  for (uint32_t s = 0; s < b->nsteps; s++) {
    uint64_t before[MCI_MAX_DIMS], most = 0;
    for (uint32_t a = 0; a < b->naxes; a++) before[a] = q->busy[a];
    for (uint32_t copy = 0; copy < orders; copy++) alone[copy] += grid_step(q, copy, s, bytes_of(q, s));
    for (uint32_t a = 0; a < b->naxes; a++) most = MCI_MAX(most, q->busy[a] - before[a]);
    together += most;
  }
  for (uint32_t copy = 0; copy < orders; copy++) longest = MCI_MAX(longest, alone[copy]);
  for (uint32_t a = 0; a < b->naxes; a++) busy = MCI_MAX(busy, q->busy[a]);
  if (equal_sides(b)) return MCI_MAX(longest + q->delay, busy + q->delay / 2);
  return MCI_MAX(longest + q->delay, together + (!b->swing ? q->delay / 2 : has_pair(b) ? q->delay : q->delay * 3 / 4));
}

static uint64_t predict_full(question* q) {
  uint64_t time = 0;
  for (uint32_t s = 0; s < q->b->nsteps; s++) time += full_step(q, partner_at, s, bytes_of(q, s));
  return time + q->delay;
}

static bool twice(const question* q) { return q->request->coll == MCI_ALL_REDUCE && !q->form.whole; }

static uint64_t predict(question* q) {
  q->delay = 0;
  for (uint32_t a = 0; a < MCI_MAX_DIMS; a++) q->load[a] = 0, q->busy[a] = 0;
  uint64_t time = mci_topo_is_full(q->b->topo) ? predict_full(q) : predict_grid(q);
  if (twice(q)) time *= 2;
  for (uint32_t a = 0; a < MCI_MAX_DIMS; a++) q->load[a] *= 1 + twice(q);
  if (q->b->extra == 0) return time;
  q->delay = 0;
  uint64_t fold = full_step(q, folded_into, 0, q->request->bytes);
  return time + 2 * (fold + q->delay);
}

#define CACHED 16384 /* bytes; this much is copied and folded in caches, for nothing */

/* In shared memory every step copies what it sends and folds as much, which takes as long as reading. */
static uint64_t memory_work(const question* q) {
  mci_link link = mci_topo_link(q->b->topo);
  if (!q->form.whole || !mci_topo_is_memory(q->b->topo) || q->request->bytes <= CACHED) return 0;
  return 2 * q->b->nsteps * mci_cost_wire(&link, q->request->bytes - CACHED);
}

/* Copies that the builder knows: rotated axes, and mirrored ones where all axes are rings. Blocks of a mirrored Swing
 * have another order than those of the first copy, which user memory cannot have at the same time; nor can scratch. */
static bool can(const mci_butterfly* b, const mci_request* request, mci_butterfly_form form) {
  bool blocks = request->coll == MCI_ALL_GATHER || request->coll == MCI_REDUCE_SCATTER;
  for (uint32_t a = 0; a < b->naxes && form.copies > b->naxes; a++)
    if (!b->ring[a]) return false;
  if (b->swing && blocks && form.copies > b->naxes) return false;
  return request->coll != MCI_BARRIER || form.copies == 1;
}

static void consider(question* q, mci_plan_cost* best) {
  uint64_t time = predict(q) + memory_work(q);
  if (best->chunks && time >= best->cost_ps - best->cost_ps / 200) return;
  uint32_t n = q->b->nsteps, extra = q->b->extra;
  /* A vector that is handed in passes all partners to the farthest rank; that one hands it on only if it has whom. */
  uint32_t steps = q->form.whole ? n + (extra > 0) + (extra > 1u << n >> 1) : n * (twice(q) + 1u) + 2 * (extra > 0);
  *best = (mci_plan_cost){.cost_ps = time, .steps = steps, .channels = q->form.copies, .chunks = 1};
  for (uint32_t a = 0; a < q->b->naxes && q->request->bytes; a++)
    best->load = MCI_MAX(best->load, q->load[a] / (double)q->request->bytes);
}

void mci_butterfly_cost(const mci_butterfly* b, const mci_request* request, bool whole, mci_plan_cost* out) {
  question q = {.b = b, .request = request, .message = mci_cost_message(request)};
  const uint32_t copies[] = {1, b->naxes, 2 * b->naxes};
  mci_plan_cost best = {0};
  for (size_t i = 0; i < MCI_COUNT(copies); i++) {
    q.form = (mci_butterfly_form){whole, copies[i]};
    if ((i == 0 || copies[i] > copies[i - 1]) && can(b, request, q.form)) consider(&q, &best);
  }
  *out = best;
}
