/* Chunks become pieces of elements: the two kinds of layout, and nothing else, are known here. */
#include "base/base.h"
#include "sched/sched.h"

/* floor(total * numerator / denominator) without overflow. */
static uint64_t share(uint64_t total, uint64_t numerator, uint64_t denominator) {
  uint64_t product; /* mostly fits, and then the division is several times faster */
  if (MCI_LIKELY(!__builtin_mul_overflow(total, numerator, &product))) return product / denominator;
  return (uint64_t)((unsigned __int128)total * numerator / denominator);
}

/* Element at which part `part` begins, of `total` elements. */
static uint64_t part_border(const mci_layout* layout, uint64_t total, uint32_t part) {
  if (layout->nparts == 1) return part ? total : 0;
  if (layout->below) return share(total, layout->below[part], layout->below[layout->nparts]);
  uint64_t below = 0, sum = 0;
  for (uint32_t i = 0; i < layout->nparts; i++) {
    if (i < part) below += layout->weights[i];
    sum += layout->weights[i];
  }
  return share(total, below, sum);
}

/* Part-major: element at which `block` of `part` begins. */
static uint64_t block_border(const mci_layout* layout, uint64_t count, uint32_t part, uint32_t block) {
  uint64_t begin = part_border(layout, count, part);
  uint64_t length = part_border(layout, count, part + 1) - begin;
  return begin + share(length, block, layout->nblocks);
}

static uint64_t part_major_begin(const mci_layout* layout, uint64_t count, const mci_arg* arg) {
  return block_border(layout, count, arg->part, arg->block);
}

static uint64_t part_major_end(const mci_layout* layout, uint64_t count, const mci_arg* arg) {
  return block_border(layout, count, arg->part + arg->nparts - 1, arg->block + arg->run);
}

static uint64_t in_block(const mci_layout* layout, uint64_t count, const mci_arg* arg, uint64_t* begin) {
  *begin = part_border(layout, count, arg->part);
  return part_border(layout, count, arg->part + arg->nparts) - *begin;
}

uint64_t mci_layout_elements(const mci_layout* layout, uint64_t count, const mci_arg* arg) {
  if (!layout->block_major) return part_major_end(layout, count, arg) - part_major_begin(layout, count, arg);
  uint64_t begin;
  return in_block(layout, count, arg, &begin) * arg->run * arg->nruns;
}

void mci_pieces_start(mci_pieces* it, const mci_layout* layout, uint64_t count, const mci_arg* arg, int64_t one_block) {
  *it = (mci_pieces){.layout = layout, .arg = *arg, .count = count, .one_block = one_block};
}

/* Scratch, part-major chunks and buffers of one block are single pieces. */
static bool single_piece(mci_pieces* it, uint64_t* offset_out, uint64_t* elements_out) {
  const mci_layout* layout = it->layout;
  if (it->run++) return false;
  *elements_out = mci_layout_elements(layout, it->count, &it->arg);
  if (it->arg.kind == MCI_TMP) {
    *offset_out = it->arg.skip * *elements_out;
  } else if (layout->block_major) {
    in_block(layout, it->count, &it->arg, offset_out);
  } else {
    *offset_out = part_major_begin(layout, it->count, &it->arg);
  }
  return true;
}

bool mci_pieces_next(mci_pieces* it, uint64_t* offset_out, uint64_t* elements_out) {
  const mci_layout* layout = it->layout;
  const mci_arg* arg = &it->arg;
  if (arg->kind == MCI_TMP || !layout->block_major || it->one_block >= 0)
    return single_piece(it, offset_out, elements_out);
  if (it->run == arg->nruns) return false;
  uint64_t begin, length = in_block(layout, it->count, arg, &begin);
  uint64_t block = arg->block + it->run * arg->stride + it->in_run;
  bool whole_run = arg->nparts == layout->nparts && !layout->order;
  if (whole_run) {
    *offset_out = block * it->count;
    *elements_out = length * arg->run;
    it->run++;
    return true;
  }
  if (layout->order) block = layout->order[block];
  *offset_out = block * it->count + begin;
  *elements_out = length;
  if (++it->in_run == arg->run) {
    it->in_run = 0;
    it->run++;
  }
  return true;
}

uint64_t mci_program_slot_elements(const mci_program* program, uint64_t count) {
  uint64_t largest = 0;
  for (uint32_t c = 0; c < program->nchannels && program->nslots; c++) {
    mci_cursor cursor;
    mci_cursor_start(&cursor, &program->channels[c]);
    for (const mci_instr* step; (step = mci_cursor_next(&cursor));) {
      for (unsigned k = 0; k < (unsigned)step->ndst + step->nsrc; k++) {
        mci_arg arg = mci_cursor_arg(&cursor, step, k);
        if (arg.kind != MCI_TMP) continue;
        uint64_t elements = mci_layout_elements(&program->layout, count, &arg);
        largest = MCI_MAX(largest, (arg.skip + UINT64_C(1)) * elements);
      }
    }
  }
  return largest;
}
