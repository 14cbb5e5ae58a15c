/* Makes mutants by flattening a program into plain steps, changing one and building it again. */
#include "support/mutate.h"

#include "support/interpret.h"
#include "support/test.h"

const char* const mutant_names[NUM_MUTANTS] = {
    "drop a step",     "swap steps",       "duplicate a step", "redirect a lane", "wrong block",  "wrong blocks",
    "wrong part",      "wrong parts",      "longer run",       "wrong slot",      "wrong place",  "drop an after",
    "early after",     "drop a copy mark", "toggle finish",    "toggle wide",     "toggle spill", "fold order",
    "drop an operand", "wrong buffer",     "other weights"};

typedef struct {
  unsigned flags;
  uint32_t ndst, nsrc, nafter;
  mci_arg* args;
  uint16_t after_channel[MCI_MAX_AFTER];
  uint64_t after_count[MCI_MAX_AFTER];
} flat;

typedef struct {
  flat* steps;
  uint32_t n;
} flat_channel;

/* ---- flattening and building ---- */

static flat flatten_step(const mci_cursor* cursor, const mci_instr* step) {
  uint32_t n = (uint32_t)step->ndst + step->nsrc;
  flat f = {.flags = step->flags, .ndst = step->ndst, .nsrc = step->nsrc, .nafter = step->nafter};
  f.args = calloc(n + 1, sizeof *f.args);
  for (uint32_t k = 0; k < n; k++) f.args[k] = mci_cursor_arg(cursor, step, k);
  for (uint32_t k = 0; k < f.nafter; k++) f.after_count[k] = mci_cursor_after(cursor, step, k, &f.after_channel[k]);
  return f;
}

static flat_channel flatten(const mci_channel* channel) {
  flat_channel c = {.steps = calloc(mci_channel_steps(channel) + 1, sizeof *c.steps)};
  mci_cursor cursor;
  mci_cursor_start(&cursor, channel);
  for (const mci_instr* step; (step = mci_cursor_next(&cursor));) c.steps[c.n++] = flatten_step(&cursor, step);
  return c;
}

static void build_operand(mci_build* b, const mci_arg* arg, bool destination) {
  mci_shape shape = {.block = mci_const((int32_t)arg->block),
                     .run = arg->run,
                     .nruns = arg->nruns,
                     .stride = arg->stride,
                     .part = mci_const((int32_t)arg->part),
                     .nparts = arg->nparts,
                     .skip = mci_const((int32_t)arg->skip)};
  mci_affine peer = mci_const((int32_t)arg->peer), slot = mci_const((int32_t)arg->slot);
  if (arg->kind == MCI_LANE) {
    if (destination) mci_build_dst_lane(b, arg->flags, peer);
    if (!destination) mci_build_src_lane(b, peer);
  } else if (arg->kind == MCI_TMP) {
    if (destination) mci_build_dst_tmp(b, arg->flags, slot, shape);
    if (!destination) mci_build_src_tmp(b, slot, shape);
  } else {
    if (destination) mci_build_dst(b, (mci_kind)arg->kind, arg->flags, shape);
    if (!destination) mci_build_src(b, (mci_kind)arg->kind, shape);
  }
}

static void build_step(mci_build* b, const flat* f) {
  mci_build_step(b, f->flags);
  for (uint32_t k = 0; k < f->nafter; k++)
    mci_build_after(b, f->after_channel[k], mci_const((int32_t)f->after_count[k]));
  for (uint32_t k = 0; k < f->ndst + f->nsrc; k++) build_operand(b, &f->args[k], k < f->ndst);
}

static bool mutate(flat_channel* channel, const mci_program* program, const mutation* m);

/* A copy of the program without repeats; with a mutation, if it applies. */
static mci_program* copy(const mci_program* p, const mutation* m, bool* applied) {
  mci_program* out;
  mci_build* b = mci_build_begin(p->coll, p->algorithm, p->nranks, p->rank, p->root);
  mci_build_layout(b, p->layout.nblocks, p->layout.nparts, p->layout.weights);
  mci_build_order(b, p->layout.order);
  mci_build_slots(b, p->nslots);
  for (uint32_t c = 0; c < p->nchannels; c++) {
    flat_channel channel = flatten(&p->channels[c]);
    if (m && m->channel == c) *applied = mutate(&channel, p, m);
    mci_build_channel(b, p->channels[c].id);
    for (uint32_t i = 0; i < channel.n; i++) {
      build_step(b, &channel.steps[i]);
      free(channel.steps[i].args);
    }
    free(channel.steps);
  }
  check_ok(mci_build_finish(b, &out));
  return out;
}

/* NULL when the mutation does not apply. */
static mci_schedule* copy_all(const mci_schedule* schedule, const mutation* m) {
  bool applied = !m;
  mci_program* mutant = m ? copy(schedule->programs[m->rank], m, &applied) : NULL;
  if (!applied) {
    mci_program_destroy(mutant);
    return NULL;
  }
  mci_schedule* out = mci_alloc(sizeof *out);
  mci_program** programs = mci_alloc(schedule->nranks * sizeof *programs);
  assert_non_null(out);
  assert_non_null(programs);
  *out = *schedule;
  out->programs = programs;
  for (uint32_t r = 0; r < schedule->nranks; r++)
    programs[r] = m && m->rank == r ? mutant : copy(schedule->programs[r], NULL, NULL);
  if (m && m->kind == MUTANT_WEIGHTS) mutant->layout.weights[0]++;
  return out;
}

mci_schedule* test_unroll(const mci_schedule* schedule) { return copy_all(schedule, NULL); }
mci_schedule* test_mutant(const mci_schedule* unrolled, const mutation* m) { return copy_all(unrolled, m); }

/* ---- mutations ---- */

static bool mutate_steps(flat_channel* c, const mutation* m) {
  flat step = c->steps[m->step];
  if (m->kind == MUTANT_SWAP) {
    if (m->step + 1 >= c->n) return false;
    c->steps[m->step] = c->steps[m->step + 1];
    c->steps[m->step + 1] = step;
  } else if (m->kind == MUTANT_DROP) {
    free(step.args);
    memmove(&c->steps[m->step], &c->steps[m->step + 1], (c->n - m->step - 1) * sizeof step);
    c->n--;
  } else {
    uint32_t n = step.ndst + step.nsrc;
    c->steps = realloc(c->steps, (c->n + 1) * sizeof step);
    memmove(&c->steps[m->step + 1], &c->steps[m->step], (c->n - m->step) * sizeof step);
    c->n++;
    c->steps[m->step].args = calloc(n + 1, sizeof *step.args);
    memcpy(c->steps[m->step].args, step.args, n * sizeof *step.args);
  }
  return true;
}

static bool mutate_after(flat* step, const mutation* m) {
  if (m->operand >= step->nafter) return false;
  uint32_t k = m->operand;
  if (m->kind == MUTANT_EARLY_AFTER) {
    if (step->after_count[k] == 0) return false;
    step->after_count[k]--;
    return true;
  }
  step->nafter--;
  for (; k < step->nafter; k++) {
    step->after_channel[k] = step->after_channel[k + 1];
    step->after_count[k] = step->after_count[k + 1];
  }
  return true;
}

static bool mutate_flags(flat* step, mci_arg* arg, const mci_program* p, const mutation* m) {
  bool destination = m->operand < step->ndst, first = m->operand == 0;
  switch (m->kind) {
    case MUTANT_FINISH:
      step->flags ^= MCI_FINISH;
      return first && mci_coll_reduces(p->coll);
    case MUTANT_WIDE:
      step->flags ^= MCI_WIDE;
      return first && mci_coll_reduces(p->coll);
    case MUTANT_DROP_COPY:
      if (!destination || arg->kind != MCI_LANE || !(arg->flags & MCI_COPY)) return false;
      arg->flags = 0;
      return true;
    case MUTANT_SPILL:
      arg->flags ^= MCI_SPILL;
      return destination && arg->kind != MCI_LANE;
    default:
      return false;
  }
}

static bool move_chunk(mci_arg* arg, const mci_program* p, mutant_kind kind) {
  const mci_layout* layout = &p->layout;
  bool blocks = kind == MUTANT_BLOCK || kind == MUTANT_BLOCKS;
  if (blocks && arg->kind == MCI_TMP && layout->block_major) return false; /* only the size counts there */
  uint32_t n = blocks ? layout->nblocks : layout->nparts;
  uint32_t* place = blocks ? &arg->block : &arg->part;
  *place = (*place + 1) % n;
  return n > 1;
}

static bool mutate_operand(flat* step, mci_arg* arg, const mci_program* p, const mutation* m) {
  bool local = arg->kind != MCI_LANE;
  switch (m->kind) {
    case MUTANT_REDIRECT:
      if (local || p->nranks < 3) return false;
      do arg->peer = (arg->peer + 1) % p->nranks;
      while (arg->peer == p->rank);
      return true;
    case MUTANT_BLOCK:
    case MUTANT_PART:
      return local && move_chunk(arg, p, m->kind);
    case MUTANT_BLOCKS:
    case MUTANT_PARTS: {
      bool any = false;
      for (uint32_t k = 0; k < step->ndst + step->nsrc; k++)
        if (step->args[k].kind != MCI_LANE) any = move_chunk(&step->args[k], p, m->kind) || any;
      return any && m->operand == 0;
    }
    case MUTANT_RUN:
      arg->run++;
      return local;
    case MUTANT_SLOT:
      if (arg->kind != MCI_TMP || p->nslots < 2) return false;
      arg->slot = (arg->slot + 1) % p->nslots;
      return true;
    case MUTANT_SKIP:
      arg->skip++;
      return arg->kind == MCI_TMP;
    case MUTANT_BUFFER:
      if (arg->kind != MCI_IN) return false;
      arg->kind = MCI_OUT;
      return true;
    default:
      return false;
  }
}

static bool mutate_fold(flat* step, const mutation* m) {
  uint32_t k = m->operand, last = step->ndst + step->nsrc - 1;
  if (m->kind == MUTANT_FOLD_ORDER) {
    if (k < step->ndst || k >= last) return false;
    mci_arg first = step->args[k];
    step->args[k] = step->args[k + 1];
    step->args[k + 1] = first;
    return true;
  }
  if (k < step->ndst) {
    step->ndst--;
  } else {
    step->nsrc--;
  }
  memmove(&step->args[k], &step->args[k + 1], (last - k) * sizeof *step->args);
  return true;
}

static bool mutate(flat_channel* c, const mci_program* p, const mutation* m) {
  if (m->kind == MUTANT_WEIGHTS) return p->layout.nparts > 1 && m->step == 0 && m->channel == 0 && m->operand == 0;
  if (m->step >= c->n) return false;
  flat* step = &c->steps[m->step];
  if (m->kind <= MUTANT_DUPLICATE) return m->operand == 0 && mutate_steps(c, m);
  if (m->kind == MUTANT_DROP_AFTER || m->kind == MUTANT_EARLY_AFTER) return mutate_after(step, m);
  if (m->operand >= step->ndst + step->nsrc) return false;
  mci_arg* arg = &step->args[m->operand];
  if (m->kind >= MUTANT_DROP_COPY && m->kind <= MUTANT_SPILL) return mutate_flags(step, arg, p, m);
  if (m->kind == MUTANT_FOLD_ORDER || m->kind == MUTANT_DROP_OPERAND) return mutate_fold(step, m);
  return mutate_operand(step, arg, p, m);
}

/* ---- judging ---- */

static bool has_lane(const flat* step) {
  for (uint32_t k = 0; k < step->ndst + step->nsrc; k++)
    if (step->args[k].kind == MCI_LANE) return true;
  return false;
}

static bool share_lane(const flat* a, const flat* b) {
  for (uint32_t i = 0; i < a->ndst + a->nsrc; i++)
    for (uint32_t k = 0; k < b->ndst + b->nsrc; k++)
      if (a->args[i].kind == MCI_LANE && b->args[k].kind == MCI_LANE && a->args[i].peer == b->args[k].peer &&
          (i < a->ndst) == (k < b->ndst))
        return true;
  return false;
}

/* Whether two steps differ in nothing but where their spills stand. */
static bool same_but_for_spills(const flat* a, const flat* b) {
  if (a->flags != b->flags || a->ndst != b->ndst || a->nsrc != b->nsrc || a->nafter || b->nafter) return false;
  for (uint32_t k = 0; k < a->ndst + a->nsrc; k++) {
    mci_arg x = a->args[k], y = b->args[k];
    if (x.kind != MCI_LANE && (x.flags & y.flags & MCI_SPILL)) {
      x.slot = y.slot;
      x.skip = y.skip;
      x.block = y.block;
    }
    if (memcmp(&x, &y, sizeof x) != 0) return false;
  }
  return true;
}

/* Whether a mutant of this kind can be as good as the original. All others must be rejected without exception. */
static bool can_be_harmless(const mci_schedule* schedule, const mutation* m) {
  const mci_program* p = schedule->programs[m->rank];
  flat_channel c = flatten(&p->channels[m->channel]);
  const flat* step = &c.steps[m->step];
  const mci_arg* arg = m->operand < step->ndst + step->nsrc ? &step->args[m->operand] : NULL;
  bool spill = arg && m->operand < step->ndst && arg->kind != MCI_LANE && (arg->flags & MCI_SPILL), harmless = false;
  switch (m->kind) {
    case MUTANT_SWAP: /* steps without a lane in common may be independent; twins may be exchanged */
      harmless = m->step + 1 < c.n && (!share_lane(step, step + 1) || same_but_for_spills(step, step + 1));
      break;
    case MUTANT_DUPLICATE: /* a step between local places only can be repeated, as long as its sources stand */
      harmless = !has_lane(step);
      break;
    case MUTANT_BLOCK:
    case MUTANT_SLOT:
    case MUTANT_SKIP: /* a spill may stand anywhere that is free */
      harmless = spill;
      break;
    case MUTANT_SPILL: /* a spill whose content is kept; or the mark on a place that is overwritten unread */
      harmless = true;
      break;
    case MUTANT_DROP_OPERAND: /* the spill of a step that could send from its source */
      harmless = spill && step->nsrc == 1;
      break;
    case MUTANT_DROP_AFTER:
    case MUTANT_EARLY_AFTER: /* what is ordered by other events, too */
    case MUTANT_DROP_COPY:   /* memory that nobody overwrites before it is free */
      harmless = true;
      break;
    case MUTANT_WIDE: /* a copy is as wide as its source */
      harmless = step->nsrc == 1 && !(step->flags & MCI_FINISH);
      break;
    default:
      break;
  }
  for (uint32_t i = 0; i < c.n; i++) free(c.steps[i].args);
  free(c.steps);
  return harmless;
}

static bool accepted(const mci_schedule* schedule) {
  for (int in_place = 0; in_place < 2; in_place++) {
    mci_verify_options options = {.in_place = in_place};
    meshcclResult_t result = mci_schedule_verify(schedule, &options, NULL);
    if (result == meshcclInvalidUsage) return false;
    check_ok(result);
  }
  return true;
}

static void check_on_data(const char* what, const mci_schedule* schedule, const mutation* m, unsigned rounds) {
  for (unsigned round = 0; round < rounds; round++) {
    test_interpret_options options = {.type = meshcclInt32,
                                      .op = round % 2 ? meshcclAvg : meshcclSum,
                                      .count = 7,
                                      .in_place = round % 4 / 2,
                                      .slice = round % 3,
                                      .credits = 1 + round % 2,
                                      .seed = round + 1,
                                      .order = (test_order)(round % TEST_NUM_ORDERS),
                                      .lend = (test_lend)(round % TEST_NUM_LENDS)};
    uint64_t bits;
    if (test_interpret(schedule, &options, &bits) != meshcclSuccess)
      fail_msg("%s: %s of rank %u channel %u step %u operand %u was accepted, but %s", what, mutant_names[m->kind],
               m->rank, m->channel, m->step + 1, m->operand, mci_error_last());
  }
}

static void try_mutant(const char* what, const mci_schedule* schedule, const mutation* m, unsigned rounds,
                       mutant_tally* tally) {
  mci_schedule* mutant = test_mutant(schedule, m);
  if (!mutant) return;
  tally->tried[m->kind]++;
  if (accepted(mutant)) {
    tally->accepted[m->kind]++;
    if (!can_be_harmless(schedule, m))
      fail_msg("%s: %s of rank %u channel %u step %u operand %u was accepted", what, mutant_names[m->kind], m->rank,
               m->channel, m->step + 1, m->operand);
    check_on_data(what, mutant, m, rounds);
  }
  mci_schedule_destroy(mutant);
}

static uint32_t most_operands(const mci_channel* channel) {
  uint32_t most = MCI_MAX_AFTER;
  for (uint32_t i = 0; i < channel->ninstrs; i++)
    most = MCI_MAX(most, (uint32_t)channel->instrs[i].ndst + channel->instrs[i].nsrc);
  return most;
}

static void try_all(const char* what, const mci_schedule* schedule, mutant_tally* tally) {
  for (mutation m = {0}; m.rank < schedule->nranks; m.rank++) {
    const mci_program* p = schedule->programs[m.rank];
    for (m.channel = 0; m.channel < p->nchannels; m.channel++) {
      uint64_t steps = mci_channel_steps(&p->channels[m.channel]);
      uint32_t operands = most_operands(&p->channels[m.channel]);
      for (m.step = 0; m.step < steps; m.step++)
        for (m.kind = 0; m.kind < NUM_MUTANTS; m.kind++)
          for (m.operand = 0; m.operand < operands; m.operand++)
            try_mutant(what, schedule, &m, TEST_NUM_ORDERS * TEST_NUM_LENDS, tally);
    }
  }
}

static void try_some(const char* what, const mci_schedule* schedule, uint64_t sample, mutant_tally* tally) {
  static uint64_t random;
  if (random == 0) random = test_seed();
  for (uint64_t i = 0; i < sample; i++) {
    mutation m = {.kind = (mutant_kind)(i % NUM_MUTANTS), .rank = (uint32_t)(test_random(&random) % schedule->nranks)};
    const mci_program* p = schedule->programs[m.rank];
    if (p->nchannels == 0) continue;
    m.channel = (uint32_t)(test_random(&random) % p->nchannels);
    uint64_t steps = mci_channel_steps(&p->channels[m.channel]);
    if (steps == 0) continue;
    m.step = (uint32_t)(test_random(&random) % steps);
    if (m.kind > MUTANT_DUPLICATE) m.operand = (uint32_t)(test_random(&random) % 4);
    if (m.kind == MUTANT_WEIGHTS) m.channel = m.step = m.operand = 0;
    try_mutant(what, schedule, &m, TEST_NUM_ORDERS, tally);
  }
}

void test_all_mutants(const char* what, mci_schedule* schedule, uint64_t sample, mutant_tally* tally) {
  mci_verify_report report;
  mci_schedule* unrolled = test_unroll(schedule);
  if (!accepted(unrolled)) fail_msg("%s: %s", what, mci_error_last());
  check_ok(mci_schedule_verify(unrolled, NULL, &report));
  memcpy(unrolled->bits, report.bits, sizeof report.bits);
  if (sample) {
    try_some(what, unrolled, sample, tally);
  } else {
    try_all(what, unrolled, tally);
  }
  mci_schedule_destroy(unrolled);
}
