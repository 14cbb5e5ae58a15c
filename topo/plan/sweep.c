/* The family of sweeps: when they apply, and which way of making them is predicted to be the fastest; see sweep.h. */
#include "topo/plan/sweep.h"

#include "base/base.h"
#include "topo/plan/families.h"

#define MIN_MESSAGE 1024  /* bytes; smaller ones are not worth the steps */
#define MAX_MESSAGE 32768 /* bytes; longer ones come in more slices than credits let pass, and keep others waiting */
#define MAX_RELAYED (UINT64_C(1) << 26) /* bytes of other segments' sums that a rank keeps */

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)request, (void)buffer, (void)size;
  return mci_grid_refuse(topo);
}

/* The index-th width of segments that an axis can have: divisors of its side; a line is one segment. */
static bool width_of(const mci_axis* axis, uint32_t index, uint32_t* width) {
  uint32_t w = axis->ring ? 1 : axis->n;
  for (;; w++) {
    if (w > axis->n) return false;
    if (axis->n % w == 0 && index-- == 0) break;
  }
  *width = w;
  return true;
}

/* Counts through the widths of all axes, equal sides alike: `digit` has one per axis. */
static bool next_widths(const mci_axis* axes, uint32_t naxes, uint32_t digit[MCI_MAX_DIMS], mci_sweep_way* way) {
  for (uint32_t a = 0; a < naxes; a++) {
    uint32_t like = 0;
    while (axes[like].n != axes[a].n || axes[like].ring != axes[a].ring) like++;
    if (like < a) continue;
    bool more = width_of(&axes[a], ++digit[a], &way->width[a]);
    if (!more) width_of(&axes[a], digit[a] = 0, &way->width[a]);
    for (uint32_t b = a + 1; b < naxes; b++)
      if (axes[b].n == axes[a].n && axes[b].ring == axes[a].ring) way->width[b] = way->width[a];
    if (more) return true;
  }
  return false;
}

static bool keeps_much(const mci_axis* axes, uint32_t naxes, const mci_sweep_way* way, uint64_t bytes) {
  uint64_t segments = 0;
  for (uint32_t a = 0; a < naxes; a++) segments += axes[a].n / way->width[a];
  return segments > naxes && bytes > MAX_RELAYED / segments;
}

/* Half as long again, as simulated for messages that outrun their credits. */
static uint64_t predict(const mci_sweep* sweep, uint64_t bytes) {
  uint64_t time = mci_sweep_time(sweep), parts = sweep->naxes * (uint64_t)sweep->way.chunks, least = UINT32_MAX;
  for (uint32_t a = 0; a < sweep->naxes; a++) least = MCI_MIN(least, sweep->axes[a].n);
  if (sweep->way.scattered > 0) parts *= least;
  return bytes / parts > MAX_MESSAGE ? time + time / 2 : time;
}

/* The bytes of the smallest message. */
static uint64_t smallest(const mci_axis* axes, uint32_t naxes, const mci_sweep_way* way, uint64_t bytes) {
  uint64_t parts = (uint64_t)naxes * way->chunks, most = 1;
  for (uint32_t a = 0; a < naxes; a++) most = MCI_MAX(most, axes[a].n);
  for (uint32_t l = 0; l < way->scattered; l++) parts *= most;
  return bytes / parts;
}

/* Raises the best way so far, for a number of chunks. */
static void try_chunks(const mci_topo* topo, const mci_request* request, uint32_t chunks, uint64_t* best_ps,
                       mci_sweep_way* best) {
  mci_axis axes[MCI_MAX_DIMS];
  uint32_t naxes = mci_grid_axes(topo, 0, axes), digit[MCI_MAX_DIMS] = {0};
  mci_sweep_way way = {.chunks = chunks};
  for (uint32_t a = 0; a < naxes; a++) width_of(&axes[a], 0, &way.width[a]);
  do {
    for (way.scattered = 0; way.scattered <= naxes; way.scattered++) {
      bool whole = way.scattered == 0 && chunks == 1;
      if (!whole && smallest(axes, naxes, &way, request->bytes) < MIN_MESSAGE && *best_ps != UINT64_MAX) continue;
      if (keeps_much(axes, naxes, &way, request->bytes) && *best_ps != UINT64_MAX) continue;
      mci_sweep sweep;
      mci_sweep_init(&sweep, topo, request, &way, 0);
      uint64_t time = predict(&sweep, request->bytes);
      /* More chunks, and more steps, must pay. */
      if (*best_ps != UINT64_MAX && time >= *best_ps - *best_ps / 200) continue;
      *best_ps = time;
      *best = way;
    }
  } while (next_widths(axes, naxes, digit, &way));
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  uint64_t best_ps = UINT64_MAX;
  mci_sweep_way best = {0};
  for (uint32_t chunks = 1; chunks <= MCI_SWEEP_MAX_CHUNKS; chunks *= 2) {
    if (chunks > 1 && request->bytes / chunks / 2 < MIN_MESSAGE) break;
    try_chunks(topo, request, chunks, &best_ps, &best);
  }
  mci_sweep sweep;
  mci_sweep_init(&sweep, topo, request, &best, 0);
  *out = (mci_plan_cost){.cost_ps = best_ps,
                         .steps = mci_sweep_hops(&sweep),
                         .channels = mci_sweep_channels(&sweep),
                         .chunks = best.chunks,
                         .load = mci_sweep_load(&sweep)};
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  uint64_t best_ps = UINT64_MAX;
  mci_sweep_way best = {0};
  try_chunks(topo, request, cost_of->chunks, &best_ps, &best);
  mci_sweep sweep;
  mci_sweep_init(&sweep, topo, request, &best, rank);
  MCI_TRY(mci_sweep_build(&sweep, mci_topo_nranks(topo), rank, out));
  (*out)->steps = mci_sweep_hops(&sweep);
  return meshcclSuccess;
}

const mci_family mci_family_sweep = {
    "sweep", MCI_COLL_BIT(MCI_ALL_REDUCE), "running sums along each axis in turn, in the fewest hops", refuse, cost,
    build};
