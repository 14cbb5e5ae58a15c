/* Predicted time of a program of phases, and the number of chunks that gives the best one.
 *
 * On grids whose axes have links of their own: a timeline of units (a chunk, or a pair of chunks). An axis carries the
 * units of a phase one after the other, and phase after phase, as their conditions have it; a unit begins when the
 * phase before has finished it. On two unequal axes, A and B being colours:
 *
 *      rows     A0 A0 A0 A0 | B1     B1     B1     B1        scattering, four chunks: the last B1 waits for the
 *      columns  B0     B0     B0     B0     | A1 A1 A1       last B0, more chunks shorten it
 *
 * Otherwise, where axes share links, and for all-reduces on lines, whose scattering and gathering load opposite ends:
 *
 *   T(K) = latency + pass / K + busy (K - 1) / K
 *
 * latency: the chain of messages of one chunk, each its hops' delay and the cost per message. pass: the bytes of the
 * whole vector when one phase follows the other (in each phase the slowest colour counts). busy: the bytes over the
 * busiest link, which is what remains when the phases of many units overlap. All bytes are over a link's rate. */
#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/phases.h"

typedef struct {
  const mci_phases* phases;
  const mci_axis_links* links;
  uint64_t bytes, message;
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
  return mci_phases_paired(q->phases, q->chunks) ? axis->n - 1 : 2 * (uint64_t)(axis->n / 2);
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
    uint64_t one = mci_cost_share(piece, 1, q->chunks), messages = MCI_MAX(1u, (one + q->message - 1) / q->message);
    time += q->chunks * messages * link->cost_ps * pieces / 2;
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

/* ---- timeline ---- */
static uint32_t units(const question* q) { return mci_phases_paired(q->phases, q->chunks) ? q->chunks / 2 : q->chunks; }

/* A chain of `steps` messages of a chunk, one piece each: none leaves before the first part of the one behind it came.
 */
static uint64_t chain(const question* q, const mci_link* link, uint64_t piece, uint64_t steps) {
  if (steps == 0) return 0;
  uint64_t time = mci_cost_busy(link, piece, q->message);
  uint64_t first = mci_cost_wire(link, MCI_MIN(piece, q->message)) + link->cost_ps + link->lat_ps;
  return (steps - 1) * MCI_MAX(time, first) + time + link->lat_ps;
}

/* How long a unit keeps an axis. Unpaired sums on a ring come both at once: one waits for the other's last piece. */
static uint64_t unit_time(const question* q, uint32_t color, uint32_t level, bool gather) {
  uint32_t a = q->phases->order[color][level];
  const mci_axis* axis = &q->phases->axes[a];
  const mci_link* link = &q->links[a].link;
  uint64_t piece = mci_cost_share(piece_bytes(q, color, level), 1, q->chunks);
  bool paired = units(q) < q->chunks, ways = axis->ring && !axis->one_way;
  if (!ways) return chain(q, link, piece, axis->n - 1) * (paired + 1);
  uint64_t time = chain(q, link, piece, axis->n / 2);
  if (paired) return time + chain(q, link, piece, (axis->n - 1) / 2);
  bool waits = !gather && axis->n > 2 && piece > MCI_COST_CREDITS * q->message;
  return waits ? time + mci_cost_wire(link, piece - MCI_COST_CREDITS * q->message) : time;
}

typedef struct {
  uint64_t free[MCI_PHASES_MAX_AXES];                  /* when an axis has carried what it was given */
  uint64_t ready[MCI_MAX_DIMS][MCI_PHASES_MAX_CHUNKS]; /* when a unit has finished the last phase counted */
} timeline;

/* An axis is free for what comes next when a unit has passed; a line when the rank at its end, which waits for nobody,
 * has sent. Where delays, rather than bytes, fill the time of a step, single units of two colours take turns. */
static uint64_t sent_time(const question* q, uint32_t color, uint32_t level) {
  uint32_t a = q->phases->order[color][level];
  const mci_axis* axis = &q->phases->axes[a];
  const mci_link* link = &q->links[a].link;
  uint64_t piece = mci_cost_share(piece_bytes(q, color, level), 1, q->chunks);
  bool waits = mci_cost_wire(link, piece) < mci_cost_wire(link, MCI_MIN(piece, q->message)) + link->lat_ps;
  uint64_t steps = axis->ring && !axis->one_way ? axis->n / 2 : axis->n - 1;
  if (waits && units(q) == 1) return steps * mci_cost_busy(link, piece, q->message);
  if (axis->ring || waits) return UINT64_MAX / 2;
  return (axis->n - 1) * mci_cost_busy(link, piece, q->message) * (q->chunks / units(q));
}

static void run_phase(const question* q, timeline* t, uint32_t level, bool gather) {
  for (uint32_t k = 0; k < units(q); k++) {
    for (uint32_t c = 0; c < q->phases->ncolors; c++) {
      uint64_t* free = &t->free[q->phases->order[c][level]];
      uint64_t start = MCI_MAX(*free, t->ready[c][k]);
      t->ready[c][k] = start + unit_time(q, c, level, gather);
      *free = MCI_MIN(start + sent_time(q, c, level), t->ready[c][k]);
    }
  }
}

/* The last scattering and the first gathering of a colour share an axis: what is ready first goes first. */
static void run_turn(const question* q, timeline* t, uint32_t color) {
  uint32_t level = q->phases->naxes - 1, n = units(q);
  uint64_t* free = &t->free[q->phases->order[color][level]];
  uint64_t* ready = t->ready[color];
  uint64_t scatter = unit_time(q, color, level, false), gather = unit_time(q, color, level, true);
  for (uint32_t scattered = 0, gathered = 0; gathered < n;) {
    bool next = gathered < scattered && (scattered == n || ready[gathered] <= ready[scattered]);
    uint32_t k = next ? gathered++ : scattered++;
    uint64_t start = MCI_MAX(*free, ready[k]);
    ready[k] = start + (next ? gather : scatter);
    *free = MCI_MIN(start + sent_time(q, color, level), ready[k]);
  }
}

static uint64_t run_all(const question* q) {
  timeline t = {.free = {0}};
  uint32_t naxes = q->phases->naxes;
  bool scatters = q->phases->coll != MCI_ALL_GATHER, gathers = q->phases->coll != MCI_REDUCE_SCATTER;
  bool turns = scatters && gathers;
  for (uint32_t l = 0; scatters && l + turns < naxes; l++) run_phase(q, &t, l, false);
  for (uint32_t c = 0; turns && c < q->phases->ncolors; c++) run_turn(q, &t, c);
  for (uint32_t l = naxes - turns; gathers && l-- > 0;) run_phase(q, &t, l, true);
  uint64_t end = 0;
  for (uint32_t c = 0; c < q->phases->ncolors; c++) end = MCI_MAX(end, t.ready[c][units(q) - 1]);
  return end;
}

static bool has_timeline(const question* q) {
  for (uint32_t a = 0; a < q->phases->naxes; a++) {
    const mci_axis_links* links = &q->links[a];
    if (links->load > 1 || links->detour || links->passes) return false;
    if (!q->phases->axes[a].ring && q->phases->axes[a].n > 2 && q->phases->coll == MCI_ALL_REDUCE) return false;
  }
  return true;
}

/* What few units lose because messages of two phases meet on a link and ends of lines run apart: as simulated, about
 * a sixth of a pass for one unit; a quarter of that for twice as many, on lines alone a 16th. Equal rings keep step.
 * Pieces of more than one message hold each other up where sums come from both ends of a line, and sides of two leave
 * nothing to do in between. */
static uint64_t skew(const question* q) {
  const mci_axis* axes = q->phases->axes;
  bool equal = true, lines = true, pairs = false;
  for (uint32_t a = 0; a < q->phases->naxes; a++) {
    equal = equal && axes[a].ring && axes[a].n == axes[0].n;
    lines = lines && !axes[a].ring;
    pairs = pairs || axes[a].n == 2;
  }
  uint64_t n = units(q);
  bool meets = lines && q->phases->coll == MCI_REDUCE_SCATTER && piece_bytes(q, 0, 0) / q->chunks > q->message;
  if (meets && q->phases->naxes > 1) return pass(q) * (q->phases->naxes - 1) / (n < 4 ? 6 * n : n * n);
  if (pairs && lines && q->phases->naxes == 2 && q->phases->coll == MCI_ALL_GATHER) return pass(q) / (6 * n);
  return equal || q->phases->naxes == 1 ? 0 : pass(q) / (6 * n * n * (lines ? n * n : 1));
}

/* Where a lane has many more messages than credits, and not just one each step, links are as fast as credits come back. */
static void pace_links(question* q, const mci_axis_links* links, mci_axis_links* paced) {
  for (uint32_t a = 0; a < q->phases->naxes; a++) {
    paced[a] = links[a];
    uint64_t most = 0;
    for (uint32_t c = 0; c < q->phases->ncolors; c++)
      for (uint32_t l = 0; l < q->phases->naxes; l++)
        if (q->phases->order[c][l] == a) most = MCI_MAX(most, piece_bytes(q, c, l) / q->chunks);
    uint64_t messages = (most + q->message - 1) / q->message, size = MCI_MIN(most, q->message);
    uint64_t step = messages * q->chunks, all = step * mci_axis_depth(&q->phases->axes[a]);
    if (step > 1 && all > 3 * MCI_COST_CREDITS) paced[a].link = mci_cost_paced(&links[a].link, MCI_MAX(size, 1u));
  }
  q->links = paced;
}

static uint64_t predict(const question* q, uint64_t* bytes_out) {
  uint64_t all = busy(q, bytes_out), n = units(q);
  if (has_timeline(q)) return MCI_MAX(all, run_all(q)) + skew(q);
  return latency(q) + mci_cost_share(pass(q), 1, n) + mci_cost_share(all, n - 1, n);
}

/* Whether `chunks` leave no message of the largest colour too small. */
static bool coarse(const question* q, uint32_t chunks) {
  uint64_t most = 0;
  for (uint32_t c = 0; c < q->phases->ncolors; c++) most = MCI_MAX(most, piece_bytes(q, c, q->phases->naxes - 1));
  return chunks == 1 || most / chunks >= MCI_COST_MIN_MESSAGE;
}

void mci_phases_cost(const mci_phases* phases, const mci_axis_links* links, uint64_t bytes, mci_plan_cost* out) {
  question q = {.phases = phases, .links = links, .bytes = bytes, .message = phases->message_bytes};
  if (q.message == 0) q.message = 131072;
  for (uint32_t c = 0; c < phases->ncolors; c++) q.weights += phases->weight[c];
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX};
  for (uint32_t chunks = 1; chunks <= MCI_PHASES_MAX_CHUNKS && coarse(&q, chunks); chunks *= 2) {
    uint64_t load;
    mci_axis_links paced[MCI_PHASES_MAX_AXES];
    q.chunks = chunks;
    q.links = links;
    pace_links(&q, links, paced);
    uint64_t time = predict(&q, &load);
    /* More chunks must pay: a gain below 0.5 % is not worth twice the messages. */
    if (time >= out->cost_ps - out->cost_ps / 200) continue;
    out->cost_ps = time;
    out->chunks = chunks;
    out->load = bytes ? (double)load / (double)bytes : 0;
  }
  for (uint32_t a = 0; a < phases->naxes; a++) out->steps += mci_axis_depth(&phases->axes[a]) * (uint32_t)times(&q);
  out->channels = (uint32_t)times(&q) * phases->naxes * phases->ncolors * 2;
  if (phases->axes[0].one_way) out->channels /= 2;
}
