/* Runs a schedule on numbers instead of data: what stands in a block of a part is the number of messages that its
 * content has come through. Steps run as soon as they can; lanes hold any number of messages, because the verifier has
 * shown that credits do not matter for what arrives. */
#include "support/chain.h"

#include "support/test.h"

typedef struct {
  uint32_t *depth, head, tail, size; /* of the messages on the way */
} lane;

typedef struct {
  mci_cursor cursor;
  const mci_instr* step; /* the next one */
  uint64_t done;
} walk;

typedef struct {
  const mci_schedule* schedule;
  uint32_t n;
  uint32_t** memory;             /* per rank: output blocks, then scratch blocks */
  walk** walks;                  /* per rank and channel */
  lane* lanes[MCI_MAX_CHANNELS]; /* per channel: [source][target] */
  uint32_t worst;
} machine;

static lane* lane_of(machine* m, uint16_t channel, uint32_t from, uint32_t to) {
  if (!m->lanes[channel]) m->lanes[channel] = mci_alloc((size_t)m->n * m->n * sizeof(lane));
  return &m->lanes[channel][(size_t)from * m->n + to];
}

static void push(lane* l, uint32_t depth) {
  if (l->tail == l->size) {
    l->size = l->size ? 2 * l->size : 4;
    l->depth = realloc(l->depth, l->size * sizeof *l->depth);
    assert_non_null(l->depth);
  }
  l->depth[l->tail++] = depth;
}

static bool has_run(const machine* m, uint32_t rank, uint16_t id, uint64_t count) {
  const mci_program* p = m->schedule->programs[rank];
  for (uint32_t c = 0; c < p->nchannels; c++)
    if (p->channels[c].id == id) return m->walks[rank][c].done >= count;
  return false;
}

static bool ready(machine* m, uint32_t rank, uint16_t id, const walk* w) {
  for (unsigned k = 0; k < w->step->nafter; k++) {
    uint16_t other;
    uint64_t count = mci_cursor_after(&w->cursor, w->step, k, &other);
    if (!has_run(m, rank, other, count)) return false;
  }
  for (unsigned k = w->step->ndst; k < (unsigned)w->step->ndst + w->step->nsrc; k++) {
    mci_arg arg = mci_cursor_arg(&w->cursor, w->step, k);
    if (arg.kind != MCI_LANE) continue;
    lane* l = lane_of(m, id, arg.peer, rank);
    if (l->head == l->tail) return false;
  }
  return true;
}

/* Largest number in the blocks of a local operand; with `store`, sets them all to it. Input has come through nothing.
 */
static uint32_t touch(machine* m, uint32_t rank, const mci_arg* arg, const uint32_t* store) {
  const mci_layout* layout = &m->schedule->programs[rank]->layout;
  uint32_t worst = 0, blocks = arg->run * arg->nruns;
  size_t cells = (size_t)layout->nblocks * layout->nparts;
  if (arg->kind == MCI_IN) return 0;
  for (uint32_t i = 0; i < blocks * arg->nparts; i++) {
    uint32_t part = arg->part + i / blocks, k = i % blocks;
    size_t at = (size_t)part * layout->nblocks + arg->block + k / arg->run * arg->stride + k % arg->run;
    if (arg->kind == MCI_TMP) at = cells * (1 + arg->slot) + (size_t)arg->skip * blocks * arg->nparts + i;
    if (store) m->memory[rank][at] = *store;
    worst = MCI_MAX(worst, m->memory[rank][at]);
  }
  return worst;
}

static void run(machine* m, uint32_t rank, uint16_t id, walk* w) {
  uint32_t depth = 0;
  for (unsigned k = w->step->ndst; k < (unsigned)w->step->ndst + w->step->nsrc; k++) {
    mci_arg arg = mci_cursor_arg(&w->cursor, w->step, k);
    lane* l = arg.kind == MCI_LANE ? lane_of(m, id, arg.peer, rank) : NULL;
    uint32_t from = l ? l->depth[l->head++] : touch(m, rank, &arg, NULL);
    depth = MCI_MAX(depth, from);
  }
  m->worst = MCI_MAX(m->worst, depth);
  for (unsigned k = 0; k < w->step->ndst; k++) {
    mci_arg arg = mci_cursor_arg(&w->cursor, w->step, k);
    if (arg.kind == MCI_LANE) {
      push(lane_of(m, id, rank, arg.peer), depth + 1);
    } else {
      touch(m, rank, &arg, &depth);
    }
  }
  w->done++;
  w->step = mci_cursor_next(&w->cursor);
}

static void create(machine* m) {
  m->memory = mci_alloc(m->n * sizeof *m->memory);
  m->walks = mci_alloc(m->n * sizeof *m->walks);
  for (uint32_t r = 0; r < m->n; r++) {
    const mci_program* p = m->schedule->programs[r];
    m->memory[r] = mci_alloc((size_t)p->layout.nblocks * p->layout.nparts * (1 + p->nslots) * sizeof(uint32_t));
    m->walks[r] = mci_alloc((p->nchannels + 1) * sizeof(walk));
    for (uint32_t c = 0; c < p->nchannels; c++) {
      mci_cursor_start(&m->walks[r][c].cursor, &p->channels[c]);
      m->walks[r][c].step = mci_cursor_next(&m->walks[r][c].cursor);
    }
  }
}

static void destroy(machine* m) {
  for (uint32_t r = 0; r < m->n; r++) {
    mci_free(m->memory[r]);
    mci_free(m->walks[r]);
  }
  for (uint32_t id = 0; id < MCI_MAX_CHANNELS; id++) {
    for (size_t i = 0; m->lanes[id] && i < (size_t)m->n * m->n; i++) free(m->lanes[id][i].depth);
    mci_free(m->lanes[id]);
  }
  mci_free(m->memory);
  mci_free(m->walks);
}

uint32_t test_data_chain(const mci_schedule* schedule) {
  machine m = {.schedule = schedule, .n = schedule->nranks};
  create(&m);
  for (bool moved = true; moved;) {
    moved = false;
    for (uint32_t r = 0; r < m.n; r++) {
      const mci_program* p = schedule->programs[r];
      for (uint32_t c = 0; c < p->nchannels; c++) {
        for (walk* w = &m.walks[r][c]; w->step && ready(&m, r, p->channels[c].id, w); moved = true)
          run(&m, r, p->channels[c].id, w);
      }
    }
  }
  for (uint32_t r = 0; r < m.n; r++)
    for (uint32_t c = 0; c < schedule->programs[r]->nchannels; c++) assert_null(m.walks[r][c].step);
  destroy(&m);
  return m.worst;
}
