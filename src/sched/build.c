/* Builds one rank's program. Errors stick and come out once, at the end, so that builders read like the schedule. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "sched/sched.h"

struct mci_build {
  mci_program* program;
  uint32_t cap_channels;
  uint32_t open[MCI_MAX_LOOPS];   /* instruction of each open repeat */
  uint64_t before[MCI_MAX_LOOPS]; /* steps of the channel when it was opened */
  uint32_t depth;
  uint64_t steps;
  meshcclResult_t result;
};

static void misuse(mci_build* b, const char* what) {
  if (b->result != meshcclSuccess) return;
  b->result = mci_fail(meshcclInternalError, "schedule builder of %s: %s", b->program->algorithm, what);
}

static bool good(const mci_build* b) { return b && b->result == meshcclSuccess; }

static mci_channel* current(mci_build* b) {
  mci_program* p = b->program;
  if (p->nchannels > 0) return &p->channels[p->nchannels - 1];
  misuse(b, "a step outside a channel");
  return NULL;
}

mci_build* mci_build_begin(mci_coll coll, const char* algorithm, uint32_t nranks, uint32_t rank, uint32_t root) {
  mci_build* b = mci_alloc(sizeof *b);
  if (!b) return NULL;
  b->program = mci_alloc(sizeof *b->program);
  if (!b->program) {
    mci_free(b);
    return NULL;
  }
  mci_program* p = b->program;
  p->coll = coll;
  snprintf(p->algorithm, sizeof p->algorithm, "%s", algorithm);
  p->nranks = nranks;
  p->rank = rank;
  p->root = root;
  p->layout.block_major = mci_coll_block_major(coll);
  p->layout.nblocks = p->layout.block_major ? nranks : 1;
  p->layout.nparts = 1;
  return b;
}

void mci_build_layout(mci_build* b, uint32_t nblocks, uint32_t nparts, const uint32_t* weights) {
  if (!good(b)) return;
  mci_layout* layout = &b->program->layout;
  if (layout->weights || nblocks == 0 || nparts == 0) {
    misuse(b, "a layout needs blocks and parts, once");
    return;
  }
  layout->weights = mci_alloc(nparts * sizeof *layout->weights);
  layout->below = mci_alloc((nparts + (size_t)1) * sizeof *layout->below);
  if (!layout->weights || !layout->below) {
    b->result = mci_oom(nparts * sizeof *layout->weights);
    return;
  }
  uint64_t sum = 0;
  for (uint32_t i = 0; i < nparts; i++) {
    sum += layout->weights[i] = weights ? weights[i] : 1;
    layout->below[i + 1] = (uint32_t)sum;
  }
  if (sum == 0 || sum > UINT32_MAX) misuse(b, "the weights of a layout must add up to 1 .. 2^32-1");
  layout->nblocks = nblocks;
  layout->nparts = nparts;
}

void mci_build_order(mci_build* b, const uint32_t* order) {
  if (!good(b) || !order) return;
  mci_layout* layout = &b->program->layout;
  size_t bytes = layout->nblocks * sizeof *order;
  layout->order = mci_alloc(bytes);
  if (layout->order) {
    memcpy(layout->order, order, bytes);
  } else {
    b->result = mci_oom(bytes);
  }
}

void mci_build_slots(mci_build* b, uint32_t nslots) {
  if (good(b)) b->program->nslots = nslots;
}

void mci_build_channel(mci_build* b, uint16_t id) {
  if (!good(b)) return;
  mci_program* p = b->program;
  if (b->depth) misuse(b, "a channel begins inside a repeat");
  if (id >= MCI_MAX_CHANNELS || (p->nchannels && p->channels[p->nchannels - 1].id >= id))
    misuse(b, "channel numbers must ascend and stay below the limit");
  if (!good(b)) return;
  b->result = mci_grow(&p->channels, sizeof *p->channels, &b->cap_channels, (size_t)p->nchannels + 1);
  if (good(b)) p->channels[p->nchannels++] = (mci_channel){.id = id};
  b->steps = 0;
}

static mci_instr* add_instr(mci_build* b, uint8_t kind) {
  if (!good(b)) return NULL;
  mci_channel* ch = current(b);
  if (!ch) return NULL;
  b->result = mci_grow(&ch->instrs, sizeof *ch->instrs, &ch->cap_instrs, (size_t)ch->ninstrs + 1);
  if (!good(b)) return NULL;
  mci_instr* instr = &ch->instrs[ch->ninstrs++];
  *instr = (mci_instr){.kind = kind, .operands = ch->noperands, .afters = ch->nafters};
  return instr;
}

void mci_build_repeat(mci_build* b, uint32_t count) {
  mci_instr* instr = add_instr(b, MCI_REPEAT);
  if (!instr) return;
  if (b->depth == MCI_MAX_LOOPS) {
    misuse(b, "repeats nest too deeply");
    return;
  }
  instr->count = count;
  b->open[b->depth] = current(b)->ninstrs - 1;
  b->before[b->depth++] = b->steps;
}

void mci_build_end(mci_build* b) {
  if (!add_instr(b, MCI_END)) return;
  if (b->depth == 0) {
    misuse(b, "an end without a repeat");
    return;
  }
  b->depth--;
  const mci_instr* repeat = &current(b)->instrs[b->open[b->depth]];
  b->steps = b->before[b->depth] + (b->steps - b->before[b->depth]) * repeat->count;
}

void mci_build_step(mci_build* b, unsigned flags) {
  mci_instr* instr = add_instr(b, MCI_STEP);
  if (!instr) return;
  instr->flags = (uint8_t)flags;
  b->steps++;
}

/* The step that operands are added to. */
static mci_instr* open_step(mci_build* b) {
  if (!good(b)) return NULL;
  mci_channel* ch = current(b);
  if (!ch) return NULL;
  if (ch->ninstrs && ch->instrs[ch->ninstrs - 1].kind == MCI_STEP) return &ch->instrs[ch->ninstrs - 1];
  misuse(b, "an operand outside a step");
  return NULL;
}

void mci_build_flags(mci_build* b, unsigned flags) {
  mci_instr* step = open_step(b);
  if (step) step->flags |= (uint8_t)flags;
}

void mci_build_after(mci_build* b, uint16_t channel, mci_affine count) {
  mci_instr* step = open_step(b);
  if (!step) return;
  mci_channel* ch = current(b);
  if (step->nafter == MCI_MAX_AFTER) {
    misuse(b, "too many after conditions");
    return;
  }
  b->result = mci_grow(&ch->afters, sizeof *ch->afters, &ch->cap_afters, (size_t)ch->nafters + 1);
  if (!good(b)) return;
  ch->afters[ch->nafters++] = (mci_after){channel, count};
  step->nafter++;
}

static void add_operand(mci_build* b, bool destination, mci_operand operand) {
  mci_instr* step = open_step(b);
  if (!step) return;
  mci_channel* ch = current(b);
  if (destination && step->nsrc) misuse(b, "destinations come before sources");
  b->result =
      good(b) ? mci_grow(&ch->operands, sizeof *ch->operands, &ch->cap_operands, (size_t)ch->noperands + 1) : b->result;
  if (!good(b)) return;
  ch->operands[ch->noperands++] = operand;
  if (destination) {
    step->ndst++;
  } else {
    step->nsrc++;
  }
}

void mci_build_dst(mci_build* b, mci_kind kind, unsigned flags, mci_shape shape) {
  add_operand(b, true, (mci_operand){.kind = (uint8_t)kind, .flags = (uint8_t)flags, .shape = shape});
}

void mci_build_dst_tmp(mci_build* b, unsigned flags, mci_affine slot, mci_shape shape) {
  add_operand(b, true, (mci_operand){.kind = MCI_TMP, .flags = (uint8_t)flags, .slot = slot, .shape = shape});
}

void mci_build_dst_lane(mci_build* b, unsigned flags, mci_affine peer) {
  add_operand(b, true, (mci_operand){.kind = MCI_LANE, .flags = (uint8_t)flags, .peer = peer});
}

void mci_build_src(mci_build* b, mci_kind kind, mci_shape shape) {
  add_operand(b, false, (mci_operand){.kind = (uint8_t)kind, .shape = shape});
}

void mci_build_src_tmp(mci_build* b, mci_affine slot, mci_shape shape) {
  add_operand(b, false, (mci_operand){.kind = MCI_TMP, .slot = slot, .shape = shape});
}

void mci_build_src_lane(mci_build* b, mci_affine peer) {
  add_operand(b, false, (mci_operand){.kind = MCI_LANE, .peer = peer});
}

uint64_t mci_build_count(const mci_build* b) { return b ? b->steps : 0; }

meshcclResult_t mci_build_finish(mci_build* b, mci_program** out) {
  if (!b) return mci_oom(sizeof *b);
  if (good(b) && b->depth) misuse(b, "a repeat is not closed");
  if (good(b) && !b->program->layout.weights) mci_build_layout(b, b->program->layout.nblocks, 1, NULL);
  meshcclResult_t result = b->result;
  if (result == meshcclSuccess) {
    *out = b->program;
  } else {
    mci_program_destroy(b->program);
  }
  mci_free(b);
  return result;
}

void mci_build_drop(mci_build* b) {
  if (!b) return;
  mci_program_destroy(b->program);
  mci_free(b);
}

void mci_program_destroy(mci_program* program) {
  if (!program) return;
  for (uint32_t i = 0; i < program->nchannels; i++) {
    mci_free(program->channels[i].instrs);
    mci_free(program->channels[i].operands);
    mci_free(program->channels[i].afters);
  }
  mci_free(program->channels);
  mci_free(program->layout.weights);
  mci_free(program->layout.below);
  mci_free(program->layout.order);
  mci_free(program);
}

size_t mci_program_bytes(const mci_program* program) {
  size_t bytes = sizeof *program + (2 * program->layout.nparts + (size_t)1) * sizeof(uint32_t);
  if (program->layout.order) bytes += program->layout.nblocks * sizeof(uint32_t);
  for (uint32_t i = 0; i < program->nchannels; i++) {
    const mci_channel* ch = &program->channels[i];
    bytes += sizeof *ch + ch->cap_instrs * sizeof *ch->instrs + ch->cap_operands * sizeof *ch->operands +
             ch->cap_afters * sizeof *ch->afters;
  }
  return bytes;
}

void mci_schedule_destroy(mci_schedule* schedule) {
  if (!schedule) return;
  for (uint32_t r = 0; r < schedule->nranks && schedule->programs; r++) mci_program_destroy(schedule->programs[r]);
  mci_free(schedule->programs);
  mci_free(schedule);
}
