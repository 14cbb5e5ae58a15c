/* Walks a channel with its repeats unrolled, without unrolling it in memory. */
#include "base/base.h"
#include "sched/sched.h"

void mci_cursor_start(mci_cursor* cursor, const mci_channel* channel) { *cursor = (mci_cursor){.channel = channel}; }

/* The instruction after the end that closes the repeat at pc. */
static uint32_t skip_repeat(const mci_channel* channel, uint32_t pc) {
  for (uint32_t depth = 0;; pc++) {
    depth += channel->instrs[pc].kind == MCI_REPEAT;
    depth -= channel->instrs[pc].kind == MCI_END;
    if (depth == 0) return pc + 1;
  }
}

const mci_instr* mci_cursor_next(mci_cursor* cursor) {
  const mci_channel* channel = cursor->channel;
  while (cursor->pc < channel->ninstrs) {
    const mci_instr* instr = &channel->instrs[cursor->pc];
    if (instr->kind == MCI_STEP) {
      cursor->pc++;
      cursor->index++;
      return instr;
    }
    if (instr->kind == MCI_REPEAT && instr->count == 0) {
      cursor->pc = skip_repeat(channel, cursor->pc);
    } else if (instr->kind == MCI_REPEAT) {
      cursor->start[cursor->depth] = ++cursor->pc;
      cursor->limit[cursor->depth] = instr->count;
      cursor->counter[cursor->depth++] = 0;
    } else if (++cursor->counter[cursor->depth - 1] < cursor->limit[cursor->depth - 1]) {
      cursor->pc = cursor->start[cursor->depth - 1];
    } else {
      cursor->counter[--cursor->depth] = 0;
      cursor->pc++;
    }
  }
  return NULL;
}

static int64_t resolve(const mci_cursor* cursor, mci_affine a) {
  int64_t value = a.base;
  for (uint32_t i = 0; i < MCI_MAX_LOOPS; i++) value += (int64_t)a.step[i] * cursor->counter[i];
  return value;
}

mci_arg mci_cursor_arg(const mci_cursor* cursor, const mci_instr* step, unsigned k) {
  const mci_operand* operand = &cursor->channel->operands[step->operands + k];
  return (mci_arg){.kind = operand->kind,
                   .flags = operand->flags,
                   .peer = (uint32_t)resolve(cursor, operand->peer),
                   .slot = (uint32_t)resolve(cursor, operand->slot),
                   .block = (uint32_t)resolve(cursor, operand->shape.block),
                   .run = operand->shape.run,
                   .nruns = operand->shape.nruns,
                   .stride = operand->shape.stride,
                   .part = (uint32_t)resolve(cursor, operand->shape.part),
                   .nparts = operand->shape.nparts,
                   .skip = (uint32_t)resolve(cursor, operand->shape.skip)};
}

uint64_t mci_cursor_after(const mci_cursor* cursor, const mci_instr* step, unsigned k, uint16_t* channel) {
  const mci_after* after = &cursor->channel->afters[step->afters + k];
  *channel = after->channel;
  int64_t count = resolve(cursor, after->count);
  return count > 0 ? (uint64_t)count : 0;
}

uint64_t mci_channel_steps(const mci_channel* channel) {
  uint64_t total = 0, factor[MCI_MAX_LOOPS + 1] = {1};
  uint32_t depth = 0;
  for (uint32_t pc = 0; pc < channel->ninstrs; pc++) {
    const mci_instr* instr = &channel->instrs[pc];
    if (instr->kind == MCI_STEP) total += factor[depth];
    if (instr->kind == MCI_REPEAT) {
      factor[depth + 1] = factor[depth] * instr->count;
      depth++;
    }
    if (instr->kind == MCI_END) depth--;
  }
  return total;
}
