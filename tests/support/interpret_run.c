/* Runs the steps: actors are the channels (run the next slice of a step) and the lanes (let the next slice depart); one
 * actor moves at a time, chosen by the order asked for. Everything a move needs is looked up anew: slow and plain. */
#include "support/interpret_run.h"

#include <math.h>

#include "support/test.h"

typedef struct {
  double** at;    /* the elements where they stand (lent), or NULL */
  double* values; /* or their values */
  uint64_t n;
  uint64_t ready, sent, nslices;
} departure;

typedef struct {
  double** at;
  double* values;
  uint64_t n;
} arrival;

typedef struct {
  uint32_t target_rank;
  uint32_t next; /* lane of the same channel, + 1; 0: none */
  departure* departures;
  uint64_t ndepartures, first;
  arrival* arrivals;
  uint64_t narrivals, taken;
} lane;

typedef struct {
  uint32_t rank;
  const mci_channel* channel;
  mci_cursor cursor;
  const mci_instr* step;
  uint64_t done, slice, nslices, n;
  double*** at;   /* per operand: its elements; NULL for lanes */
  uint32_t* on;   /* per operand: its lane */
  uint32_t lanes; /* that leave from it, + 1 */
  bool direct;    /* this step folds straight into departing slots */
} chan;

typedef struct {
  const mci_schedule* schedule;
  const test_interpret_options* options;
  test_memory* memory;
  chan* chans;
  uint32_t nchans;
  uint32_t* by_id; /* channel by rank and id */
  lane* lanes;
  uint32_t nlanes;
  uint64_t random;
  uint32_t victim;
} run;

static uint32_t find_chan(const run* r, uint32_t rank, uint32_t id) { return r->by_id[rank * MCI_MAX_CHANNELS + id]; }

static uint32_t find_lane(run* r, uint32_t source, uint32_t target_rank) {
  for (uint32_t i = r->chans[source].lanes; i; i = r->lanes[i - 1].next)
    if (r->lanes[i - 1].target_rank == target_rank) return i - 1;
  r->lanes = realloc(r->lanes, (r->nlanes + 1) * sizeof *r->lanes);
  r->lanes[r->nlanes++] = (lane){.target_rank = target_rank, .next = r->chans[source].lanes};
  r->chans[source].lanes = r->nlanes;
  return r->nlanes - 1;
}

static bool one_in(run* r, uint64_t n) { return test_random(&r->random) % n == 0; }

static uint64_t slices_of(const run* r, uint64_t n) {
  uint64_t slice = r->options->slice ? r->options->slice : UINT64_MAX;
  return n == 0 || slice >= n ? 1 : (n + slice - 1) / slice;
}

static uint64_t slice_begin(const run* r, uint64_t n, uint64_t s) {
  return r->options->slice ? MCI_MIN(n, s * r->options->slice) : s ? n : 0;
}

/* ---- steps ---- */

/* The elements of a local operand, in order. */
static double** elements(const run* r, const chan* c, const mci_arg* arg, uint64_t n) {
  const mci_program* p = r->schedule->programs[c->rank];
  const test_memory* m = &r->memory[c->rank];
  double** at = calloc(n + 1, sizeof *at);
  bool in = arg->kind == MCI_IN, tmp = arg->kind == MCI_TMP;
  double* base = tmp ? m->slots + arg->slot * m->slot_elements : in ? m->in : m->out;
  bool one_block = !tmp && (in ? m->buffers.in_one_block : m->buffers.out_one_block);
  mci_pieces pieces;
  mci_pieces_start(&pieces, &p->layout, r->options->count, arg, one_block ? (int64_t)c->rank : -1);
  uint64_t k = 0;
  for (uint64_t offset, length; mci_pieces_next(&pieces, &offset, &length);)
    for (uint64_t i = 0; i < length; i++) at[k++] = base + offset + i;
  assert_int_equal(k, n);
  return at;
}

static uint32_t noperands(const chan* c) { return (uint32_t)c->step->ndst + c->step->nsrc; }

static void load_step(run* r, chan* c) {
  bool spill = false;
  c->step = mci_cursor_next(&c->cursor);
  c->slice = 0;
  if (!c->step) return;
  c->at = calloc(noperands(c), sizeof *c->at);
  c->on = calloc(noperands(c), sizeof *c->on);
  for (uint32_t k = 0; k < noperands(c); k++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, c->step, k);
    if (arg.kind == MCI_LANE) {
      uint32_t self = find_chan(r, c->rank, c->channel->id), peer = find_chan(r, arg.peer, c->channel->id);
      c->on[k] = k < c->step->ndst ? find_lane(r, self, arg.peer) : find_lane(r, peer, c->rank);
      continue;
    }
    c->n = mci_layout_elements(&r->schedule->programs[c->rank]->layout, r->options->count, &arg);
    c->at[k] = elements(r, c, &arg, c->n);
    spill = spill || (arg.flags & MCI_SPILL);
  }
  c->nslices = slices_of(r, c->n);
  c->direct = spill && one_in(r, 2);
}

static bool chan_can(run* r, uint32_t index) {
  const chan* c = &r->chans[index];
  if (!c->step) return false;
  for (uint32_t k = 0; k < c->step->nafter; k++) {
    uint16_t id;
    uint64_t count = mci_cursor_after(&c->cursor, c->step, k, &id);
    if (r->chans[find_chan(r, c->rank, id)].done < count) return false;
  }
  for (uint32_t k = c->step->ndst; k < noperands(c); k++)
    if (!c->at[k] && r->lanes[c->on[k]].narrivals == r->lanes[c->on[k]].taken) return false;
  return true;
}

/* The departure of this step on the lane of destination k; made with its first slice. */
static departure* departure_of(run* r, chan* c, uint32_t k) {
  lane* l = &r->lanes[c->on[k]];
  if (c->slice) return &l->departures[l->ndepartures - 1];
  l->departures = realloc(l->departures, (l->ndepartures + 1) * sizeof *l->departures);
  departure* d = &l->departures[l->ndepartures++];
  *d = (departure){.n = c->n, .nslices = c->nslices};
  if ((mci_cursor_arg(&c->cursor, c->step, k).flags & MCI_COPY) || c->direct) {
    d->values = calloc(c->n + 1, sizeof *d->values);
    return d;
  }
  uint32_t from = c->step->ndst; /* the single source, unless there is a local destination */
  for (uint32_t i = c->step->ndst; i-- > 0;)
    if (c->at[i]) from = i;
  d->at = calloc(c->n + 1, sizeof *d->at);
  memcpy(d->at, c->at[from], c->n * sizeof *d->at);
  return d;
}

static void fold_element(run* r, chan* c, arrival** arrivals, uint64_t e, uint64_t in_slice, double** departing) {
  bool wide = c->step->flags & MCI_WIDE;
  double x = 0;
  for (uint32_t k = 0; k < c->step->nsrc; k++) {
    const arrival* a = arrivals[k];
    double y = !a ? *c->at[c->step->ndst + k][e] : a->at ? *a->at[in_slice] : a->values[in_slice];
    x = k ? test_fold(r->options, x, y, wide) : y;
  }
  if (c->step->flags & MCI_FINISH) x = test_finish(r->options, x, r->schedule->nranks);
  x = test_round(r->options->type, x);
  for (uint32_t k = 0; k < c->step->ndst; k++) {
    if (c->at[k]) *c->at[k][e] = c->direct && (mci_cursor_arg(&c->cursor, c->step, k).flags & MCI_SPILL) ? NAN : x;
    if (departing[k]) departing[k][e] = x;
  }
}

static void end_step(run* r, chan* c) {
  for (uint32_t k = 0; k < noperands(c); k++) free(c->at[k]);
  free(c->at);
  free(c->on);
  c->at = NULL;
  c->on = NULL;
  c->done++;
  load_step(r, c);
}

static void chan_move(run* r, uint32_t index) {
  chan* c = &r->chans[index];
  arrival** arrivals = calloc(c->step->nsrc, sizeof *arrivals);
  double** departing = calloc(c->step->ndst, sizeof *departing);
  for (uint32_t k = 0; k < c->step->nsrc; k++) {
    if (c->at[c->step->ndst + k]) continue;
    lane* l = &r->lanes[c->on[c->step->ndst + k]];
    arrivals[k] = &l->arrivals[l->taken++];
  }
  for (uint32_t k = 0; k < c->step->ndst; k++) {
    if (c->at[k]) continue;
    departure* d = departure_of(r, c, k);
    d->ready++;
    departing[k] = d->values;
  }
  uint64_t begin = slice_begin(r, c->n, c->slice), end = slice_begin(r, c->n, c->slice + 1);
  for (uint64_t e = begin; e < end; e++) fold_element(r, c, arrivals, e, e - begin, departing);
  free(arrivals);
  free(departing);
  if (++c->slice == c->nslices) end_step(r, c);
}

/* ---- lanes ---- */

static bool lane_can(run* r, uint32_t index) {
  const lane* l = &r->lanes[index];
  uint32_t credits = r->options->credits ? r->options->credits : 1;
  return l->first < l->ndepartures && l->departures[l->first].sent < l->departures[l->first].ready &&
         l->narrivals - l->taken < credits;
}

static void lane_move(run* r, uint32_t index) {
  lane* l = &r->lanes[index];
  departure* d = &l->departures[l->first];
  uint64_t begin = slice_begin(r, d->n, d->sent), end = slice_begin(r, d->n, d->sent + 1);
  bool lend = d->at && r->options->lend != TEST_LEND_NEVER && (r->options->lend == TEST_LEND_ALWAYS || one_in(r, 2));
  arrival a = {.n = end - begin};
  if (lend) {
    a.at = d->at + begin;
  } else {
    a.values = calloc(a.n + 1, sizeof *a.values);
    for (uint64_t i = 0; i < a.n; i++) a.values[i] = d->at ? *d->at[begin + i] : d->values[begin + i];
  }
  l->arrivals = realloc(l->arrivals, (l->narrivals + 1) * sizeof *l->arrivals);
  l->arrivals[l->narrivals++] = a;
  if (++d->sent == d->nslices) l->first++;
}

/* ---- who goes next ---- */

static bool can(run* r, uint32_t actor) {
  return actor < r->nchans ? chan_can(r, actor) : lane_can(r, actor - r->nchans);
}

/* The first that can, of [begin, end), beginning anywhere; -1 if none. */
static int64_t pick(run* r, uint32_t begin, uint32_t end, uint32_t except) {
  uint32_t n = end - begin, start = n ? (uint32_t)(test_random(&r->random) % n) : 0;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t actor = begin + (start + i) % n;
    if (actor != except && can(r, actor)) return actor;
  }
  return -1;
}

static int64_t next_actor(run* r) {
  uint32_t all = r->nchans + r->nlanes;
  int64_t actor = -1;
  switch (r->options->order) {
    case TEST_ORDER_STEPS_FIRST:
      actor = pick(r, 0, r->nchans, UINT32_MAX);
      return actor >= 0 ? actor : pick(r, r->nchans, all, UINT32_MAX);
    case TEST_ORDER_LANES_FIRST:
      actor = pick(r, r->nchans, all, UINT32_MAX);
      return actor >= 0 ? actor : pick(r, 0, r->nchans, UINT32_MAX);
    case TEST_ORDER_ONE_BY_ONE:
      if (r->victim < all && can(r, r->victim)) return r->victim;
      actor = pick(r, 0, all, UINT32_MAX);
      r->victim = (uint32_t)actor;
      return actor;
    case TEST_ORDER_STARVE:
      actor = pick(r, 0, all, r->victim);
      if (actor >= 0) return actor;
      actor = pick(r, 0, all, UINT32_MAX);
      r->victim = all ? (uint32_t)(test_random(&r->random) % all) : 0;
      return actor;
    default:
      return pick(r, 0, all, UINT32_MAX);
  }
}

static meshcclResult_t finished(const run* r) {
  for (uint32_t i = 0; i < r->nchans; i++)
    if (r->chans[i].step)
      MCI_FAIL(meshcclInternalError, "rank %u channel %u stands at step %llu for ever", r->chans[i].rank,
               r->chans[i].channel->id, (unsigned long long)r->chans[i].done + 1);
  for (uint32_t i = 0; i < r->nlanes; i++)
    if (r->lanes[i].first < r->lanes[i].ndepartures || r->lanes[i].taken < r->lanes[i].narrivals)
      MCI_FAIL(meshcclInternalError, "messages to rank %u are left over", r->lanes[i].target_rank);
  return meshcclSuccess;
}

static void release(run* r) {
  for (uint32_t i = 0; i < r->nlanes; i++) {
    lane* l = &r->lanes[i];
    for (uint64_t k = 0; k < l->narrivals; k++) free(l->arrivals[k].values);
    for (uint64_t k = 0; k < l->ndepartures; k++) {
      free(l->departures[k].at);
      free(l->departures[k].values);
    }
    free(l->arrivals);
    free(l->departures);
  }
  for (uint32_t i = 0; i < r->nchans; i++) {
    for (uint32_t k = 0; r->chans[i].step && k < noperands(&r->chans[i]); k++) free(r->chans[i].at[k]);
    free(r->chans[i].at);
    free(r->chans[i].on);
  }
  free(r->by_id);
  free(r->lanes);
  free(r->chans);
}

meshcclResult_t test_interpret_run(const mci_schedule* schedule, const test_interpret_options* options,
                                   test_memory* memory) {
  run r = {.schedule = schedule, .options = options, .memory = memory, .random = options->seed, .victim = UINT32_MAX};
  r.by_id = calloc((size_t)schedule->nranks * MCI_MAX_CHANNELS, sizeof *r.by_id);
  for (uint32_t i = 0; i < schedule->nranks; i++) {
    const mci_program* p = schedule->programs[i];
    r.chans = realloc(r.chans, (r.nchans + p->nchannels + 1) * sizeof *r.chans);
    for (uint32_t c = 0; c < p->nchannels; c++) {
      r.by_id[i * MCI_MAX_CHANNELS + p->channels[c].id] = r.nchans;
      r.chans[r.nchans++] = (chan){.rank = i, .channel = &p->channels[c]};
    }
  }
  for (uint32_t i = 0; i < r.nchans; i++) {
    mci_cursor_start(&r.chans[i].cursor, r.chans[i].channel);
    load_step(&r, &r.chans[i]);
  }
  for (int64_t actor; (actor = next_actor(&r)) >= 0;) {
    if (actor < r.nchans) {
      chan_move(&r, (uint32_t)actor);
    } else {
      lane_move(&r, (uint32_t)actor - r.nchans);
    }
  }
  meshcclResult_t result = finished(&r);
  release(&r);
  return result;
}
