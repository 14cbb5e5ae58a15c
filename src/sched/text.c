/* Prints programs and schedules in the canonical text form of docs/schedule-format.md. parse.c reads it back: what is
 * printed here parses to the same structure, and canonical text prints to itself. Called by the tools, the tests and
 * the error messages of the verifier. */
#include "sched/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool mci_text_algorithm_ok(const char* name) {
  size_t length = strlen(name);
  if (length == 0 || length >= sizeof((mci_program*)0)->algorithm) return false;
  if (name[0] == ' ' || name[length - 1] == ' ') return false;
  for (const char* p = name; *p; p++)
    if (*p < ' ' || *p > '~' || *p == '#') return false;
  return true;
}

static bool is_const(mci_affine a, uint32_t depth) {
  for (uint32_t i = 0; i < depth; i++)
    if (a.step[i]) return false;
  return true;
}

static void print_affine(mci_str* out, mci_affine a, uint32_t depth) {
  bool constant = is_const(a, depth);
  if (a.base || constant) mci_str_add(out, "%d", (int)a.base);
  bool first = a.base == 0;
  for (uint32_t i = 0; i < depth; i++) {
    int64_t factor = a.step[i];
    if (factor == 0) continue;
    const char* sign = factor < 0 ? "-" : first ? "" : "+";
    if (factor == 1 || factor == -1) {
      mci_str_add(out, "%s%c", sign, 'i' + (char)i);
    } else {
      mci_str_add(out, "%s%lld%c", sign, (long long)llabs(factor), 'i' + (char)i);
    }
    first = false;
  }
}

/* A number that stands without brackets: in parentheses unless it is a plain one. */
static void print_plain(mci_str* out, mci_affine a, uint32_t depth) {
  bool plain = is_const(a, depth) && a.base >= 0;
  mci_str_add(out, plain ? "" : "(");
  print_affine(out, a, depth);
  mci_str_add(out, plain ? "" : ")");
}

static void print_shape(mci_str* out, const mci_layout* layout, const mci_shape* shape, uint32_t depth) {
  mci_str_add(out, "[");
  print_affine(out, shape->block, depth);
  bool several = shape->nruns != 1 || shape->stride != 0;
  if (shape->run != 1 || several) mci_str_add(out, ":%u", shape->run);
  if (several) mci_str_add(out, "*%u@%u", shape->nruns, shape->stride);
  if (layout->nparts > 1 || shape->part.base || !is_const(shape->part, depth) || shape->nparts != 1) {
    mci_str_add(out, "/");
    print_affine(out, shape->part, depth);
    if (shape->nparts != 1) mci_str_add(out, ":%u", shape->nparts);
  }
  mci_str_add(out, "]");
}

static void print_operand(mci_str* out, const mci_layout* layout, const mci_operand* operand, bool destination,
                          uint32_t depth) {
  static const char* const names[] = {[MCI_IN] = "in", [MCI_OUT] = "out", [MCI_TMP] = "tmp"};
  if (operand->kind == MCI_LANE) {
    mci_str_add(out, "%s%c", operand->flags & MCI_COPY ? "copy" : "", destination ? '>' : '<');
    print_plain(out, operand->peer, depth);
    return;
  }
  mci_str_add(out, "%s", names[operand->kind]);
  if (operand->kind == MCI_TMP) {
    print_plain(out, operand->slot, depth);
    if (operand->shape.skip.base || !is_const(operand->shape.skip, depth)) {
      mci_str_add(out, ".");
      print_plain(out, operand->shape.skip, depth);
    }
  }
  print_shape(out, layout, &operand->shape, depth);
  if (operand->flags & MCI_SPILL) mci_str_add(out, "?");
}

void mci_text_step(mci_str* out, const mci_layout* layout, const mci_channel* channel, const mci_instr* step,
                   uint32_t depth) {
  const mci_operand* operands = &channel->operands[step->operands];
  for (uint32_t k = 0; k < step->ndst; k++) {
    mci_str_add(out, k ? ", " : "");
    print_operand(out, layout, &operands[k], true, depth);
  }
  mci_str_add(out, " <- ");
  for (uint32_t k = 0; k < step->nsrc; k++) {
    mci_str_add(out, k ? " + " : "");
    print_operand(out, layout, &operands[step->ndst + k], false, depth);
  }
  if (step->flags & MCI_FINISH) mci_str_add(out, " finish");
  if (step->flags & MCI_WIDE) mci_str_add(out, " wide");
  for (uint32_t k = 0; k < step->nafter; k++) {
    const mci_after* after = &channel->afters[step->afters + k];
    mci_str_add(out, "%s%u:", k ? ", " : " after ", after->channel);
    print_affine(out, after->count, depth);
  }
}

static void print_channel(mci_str* out, const mci_layout* layout, const mci_channel* channel) {
  mci_str_add(out, " channel %u\n", channel->id);
  uint32_t depth = 0;
  for (uint32_t pc = 0; pc < channel->ninstrs; pc++) {
    const mci_instr* instr = &channel->instrs[pc];
    if (instr->kind == MCI_END && depth) depth--;
    mci_str_add(out, "  %*s", (int)depth, "");
    if (instr->kind == MCI_STEP) {
      mci_text_step(out, layout, channel, instr, depth);
    } else if (instr->kind == MCI_REPEAT) {
      mci_str_add(out, "repeat %u", instr->count);
      depth += depth < MCI_MAX_LOOPS;
    } else {
      mci_str_add(out, "end");
    }
    mci_str_add(out, "\n");
  }
}

/* "3 2*4": equal neighbours are counted. */
static void print_list(mci_str* out, const char* what, const uint32_t* values, uint32_t n) {
  mci_str_add(out, "%s", what);
  for (uint32_t i = 0, run; i < n; i += run) {
    for (run = 1; i + run < n && values[i + run] == values[i];) run++;
    mci_str_add(out, " %u", values[i]);
    if (run > 1) mci_str_add(out, "*%u", run);
  }
}

static void print_layout(mci_str* out, const mci_layout* layout) {
  mci_str_add(out, "layout %s-major blocks %u parts %u", layout->block_major ? "block" : "part", layout->nblocks,
              layout->nparts);
  bool equal = true;
  for (uint32_t i = 0; i < layout->nparts; i++) equal = equal && layout->weights[i] == 1;
  if (!equal) print_list(out, " weights", layout->weights, layout->nparts);
  mci_str_add(out, "\n");
  if (!layout->order) return;
  print_list(out, "order", layout->order, layout->nblocks);
  mci_str_add(out, "\n");
}

static meshcclResult_t print_header(mci_str* out, const mci_program* p, const char* bits) {
  if (!mci_text_algorithm_ok(p->algorithm))
    MCI_FAIL(meshcclInvalidUsage,
             "the algorithm name \"%s\" cannot be printed; use 1 to %zu printable characters without '#'", p->algorithm,
             sizeof p->algorithm - 1);
  mci_str_add(out, "%s %d\ncollective %s\nalgorithm %s\nranks %u\n", MCI_TEXT_MAGIC, MCI_TEXT_VERSION,
              mci_coll_name(p->coll), p->algorithm, p->nranks);
  if (mci_coll_rooted(p->coll)) mci_str_add(out, "root %u\n", p->root);
  print_layout(out, &p->layout);
  if (bits[0]) mci_str_add(out, "bits %s\n", bits);
  return meshcclSuccess;
}

static void print_rank(mci_str* out, const mci_program* p) {
  mci_str_add(out, "rank %u\n", p->rank);
  if (p->nslots) mci_str_add(out, " slots %u\n", p->nslots);
  if (p->steps) mci_str_add(out, " steps %u\n", p->steps);
  for (uint32_t c = 0; c < p->nchannels; c++) print_channel(out, &p->layout, &p->channels[c]);
}

meshcclResult_t mci_program_print(const mci_program* program, mci_str* out) {
  MCI_TRY(print_header(out, program, ""));
  print_rank(out, program);
  return mci_str_result(out);
}

meshcclResult_t mci_schedule_print(const mci_schedule* schedule, mci_str* out) {
  mci_str head = {0}, other = {0};
  meshcclResult_t result = print_header(&head, schedule->programs[0], schedule->bits);
  for (uint32_t r = 1; r < schedule->nranks && result == meshcclSuccess; r++) {
    mci_str_fini(&other);
    result = print_header(&other, schedule->programs[r], schedule->bits);
    if (result == meshcclSuccess && (head.failed || other.failed)) result = mci_oom(head.capacity);
    if (result == meshcclSuccess && strcmp(head.text, other.text) != 0)
      result = mci_fail(meshcclInvalidUsage,
                        "ranks 0 and %u differ in collective, algorithm, root or layout: one text cannot hold both", r);
  }
  if (result == meshcclSuccess) {
    result = mci_str_result(&head);
    if (result == meshcclSuccess) mci_str_add(out, "%s", head.text);
    for (uint32_t r = 0; r < schedule->nranks; r++) print_rank(out, schedule->programs[r]);
    if (result == meshcclSuccess) result = mci_str_result(out);
  }
  mci_str_fini(&head);
  mci_str_fini(&other);
  return result;
}
