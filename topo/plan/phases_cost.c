/* Predicted time of a program of phases, and the number of chunks that gives the best one.
 *
 *   T(K) = latency + pass / K + busy (K - 1) / K
 *
 * latency: the chain of messages of one chunk, each its hops' delay and the cost per message. pass: the bytes of the
 * whole vector when one phase follows the other (in each phase the slowest colour counts). busy: the bytes over the
 * busiest link, which is what remains when the phases of many chunks overlap. All bytes are over a link's rate. */
#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/phases.h"

typedef struct {
  const mci_phases* phases;
  const mci_axis_links* links;
  uint64_t bytes;
  uint32_t chunks;
  uint64_t weights;
} question;

/* Bytes of all chunks of a colour's piece on axis order[color][level]. */
static uint64_t piece_bytes(const question* q, uint32_t color, uint32_t level) {
  uint64_t parts = 1;
  for (uint32_t l = 0; l <= level; l++) parts *= q->phases->axes[q->phases->order[color][l]].n;
  return mci_cost_share(mci_cost_share(q->bytes, q->phases->weight[color], q->weights), 1, parts);
}

/* Twice the pieces that the busiest link of an axis carries in one phase. */
static uint64_t pieces_twice(const question* q, const mci_axis* axis) {
  if (!axis->ring || axis->one_way) return 2 * (uint64_t)(axis->n - 1);
  return mci_phases_mirrored(q->phases, q->chunks) ? axis->n - 1 : 2 * (uint64_t)(axis->n / 2);
}

static uint64_t piece_time(const question* q, uint32_t axis, uint64_t bytes, uint64_t pieces) {
  const mci_axis_links* links = &q->links[axis];
  return mci_cost_share(mci_cost_wire(&links->link, bytes), pieces * links->load, 2);
}

static uint64_t times(const question* q) { return q->phases->coll == MCI_ALL_REDUCE ? 2 : 1; }

static uint64_t latency(const question* q) {
  uint64_t sum = 0;
  for (uint32_t l = 0; l < q->phases->naxes; l++) {
    uint64_t slowest = 0;
    for (uint32_t c = 0; c < q->phases->ncolors; c++) {
      uint32_t a = q->phases->order[c][l];
      const mci_axis* axis = &q->phases->axes[a];
      const mci_link* link = &q->links[a].link;
      uint64_t chain = mci_axis_depth(axis) * (link->lat_ps + link->cost_ps) + q->links[a].detour * link->lat_ps;
      slowest = MCI_MAX(slowest, chain);
    }
    sum += slowest;
  }
  return sum * times(q);
}

static uint64_t pass(const question* q) {
  uint64_t sum = 0;
  for (uint32_t l = 0; l < q->phases->naxes; l++) {
    uint64_t slowest = 0;
    for (uint32_t c = 0; c < q->phases->ncolors; c++) {
      uint32_t a = q->phases->order[c][l];
      uint64_t pieces = pieces_twice(q, &q->phases->axes[a]);
      slowest = MCI_MAX(slowest, piece_time(q, a, piece_bytes(q, c, l), pieces));
    }
    sum += slowest;
  }
  return sum * times(q);
}

/* What the axis sends in all phases, its bytes per busiest link and the time they take on `links`. */
static uint64_t axis_busy(const question* q, uint32_t a, const mci_link* link, uint64_t* bytes_out) {
  const mci_axis* axis = &q->phases->axes[a];
  /* Scattering and gathering load the links of a line at opposite ends. */
  bool line = !axis->ring && times(q) == 2;
  uint64_t pieces = line ? 2 * (uint64_t)axis->n : pieces_twice(q, axis) * times(q), time = 0;
  for (uint32_t c = 0; c < q->phases->ncolors; c++) {
    uint32_t level = 0;
    while (q->phases->order[c][level] != a) level++;
    uint64_t piece = piece_bytes(q, c, level);
    time += mci_cost_share(mci_cost_wire(link, piece), pieces * q->links[a].load, 2);
    time += q->chunks * link->cost_ps * pieces / 2;
    *bytes_out += mci_cost_share(piece, pieces * q->links[a].load, 2);
  }
  return time;
}

/* Bytes over the busiest link of all axes, and the time they take together with the messages' own cost. */
static uint64_t busy(const question* q, uint64_t* bytes_out) {
  uint64_t worst = 0;
  *bytes_out = 0;
  for (uint32_t a = 0; a < q->phases->naxes; a++) {
    uint64_t bytes = 0, time = axis_busy(q, a, &q->links[a].link, &bytes);
    for (uint32_t b = 0; b < q->phases->naxes; b++)
      if (q->links[b].passes >> a & 1) time += axis_busy(q, b, &q->links[a].link, &bytes);
    worst = MCI_MAX(worst, time);
    *bytes_out = MCI_MAX(*bytes_out, bytes);
  }
  return worst;
}

static uint64_t predict(const question* q, uint64_t* bytes_out) {
  uint64_t all = busy(q, bytes_out);
  return latency(q) + mci_cost_share(pass(q), 1, q->chunks) + mci_cost_share(all, q->chunks - 1, q->chunks);
}

/* Whether `chunks` leave no message too small. */
static bool coarse(const question* q, uint32_t chunks) {
  if (chunks == 1) return true;
  for (uint32_t c = 0; c < q->phases->ncolors; c++)
    if (piece_bytes(q, c, q->phases->naxes - 1) / chunks < MCI_COST_MIN_MESSAGE) return false;
  return true;
}

void mci_phases_cost(const mci_phases* phases, const mci_axis_links* links, uint64_t bytes, mci_plan_cost* out) {
  question q = {.phases = phases, .links = links, .bytes = bytes};
  for (uint32_t c = 0; c < phases->ncolors; c++) q.weights += phases->weight[c];
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX};
  for (uint32_t chunks = 1; chunks <= MCI_PHASES_MAX_CHUNKS && coarse(&q, chunks); chunks *= 2) {
    uint64_t load;
    q.chunks = chunks;
    uint64_t time = predict(&q, &load);
    /* More chunks must pay: a gain below 2 % is not worth twice the messages. */
    if (time >= out->cost_ps - out->cost_ps / 50) continue;
    out->cost_ps = time;
    out->chunks = chunks;
    out->load = bytes ? (double)load / (double)bytes : 0;
  }
  for (uint32_t a = 0; a < phases->naxes; a++) out->steps += mci_axis_depth(&phases->axes[a]) * (uint32_t)times(&q);
  out->channels = (uint32_t)times(&q) * phases->naxes * phases->ncolors * 2;
  if (phases->axes[0].one_way) out->channels /= 2;
}
