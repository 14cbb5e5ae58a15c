/* Parses one step: destinations <- sources, then finish, wide, after. The grammar stands in docs/schedule-format.md. */
#include <string.h>

#include "sched/parse.h"

/* ---- numbers ---- */

/* [-] (number [i|j] | i | j) { (+|-) ... }: base and one factor per enclosing repeat. */
static meshcclResult_t affine(mci_parser* p, const char* what, mci_affine* out) {
  mci_scan* s = &p->scan;
  int64_t base = 0, step[MCI_MAX_LOOPS] = {0};
  bool negative = mci_scan_char(s, '-');
  do {
    uint64_t value = 1;
    bool digits = mci_scan_digit(s);
    if (digits) MCI_TRY(mci_scan_number(s, what, 0, INT32_MAX, &value));
    int64_t signed_value = negative ? -(int64_t)value : (int64_t)value;
    bool i = mci_scan_char(s, 'i'), j = !i && mci_scan_char(s, 'j');
    if ((i && p->depth < 1) || (j && p->depth < 2))
      return mci_scan_fail(s, "%c counts the iterations of the %s repeat, but this step is not inside it",
                           i ? 'i' : 'j', i ? "outer" : "inner");
    if (!digits && !i && !j) return mci_scan_fail(s, "%s is missing here; write a number such as 3, i or 3-2i+j", what);
    *(i ? &step[0] : j ? &step[1] : &base) += signed_value;
    negative = s->at < s->end && *s->at == '-';
  } while (mci_scan_char(s, '+') || mci_scan_char(s, '-'));
  if (base < INT32_MIN || base > INT32_MAX || step[0] < INT32_MIN || step[0] > INT32_MAX || step[1] < INT32_MIN ||
      step[1] > INT32_MAX)
    return mci_scan_fail(s, "%s does not fit 32 bits", what);
  *out = (mci_affine){(int32_t)base, {(int32_t)step[0], (int32_t)step[1]}};
  return meshcclSuccess;
}

/* A plain number, or any in parentheses. */
static meshcclResult_t plain(mci_parser* p, const char* what, mci_affine* out) {
  mci_scan* s = &p->scan;
  if (mci_scan_char(s, '(')) {
    MCI_TRY(affine(p, what, out));
    if (!mci_scan_char(s, ')')) return mci_scan_fail(s, "\")\" is missing here");
    return meshcclSuccess;
  }
  uint64_t value;
  MCI_TRY(mci_scan_number(s, what, 0, INT32_MAX, &value));
  *out = mci_const((int32_t)value);
  return meshcclSuccess;
}

/* ---- operands ---- */

static meshcclResult_t shape_of(mci_parser* p, mci_shape* out) {
  mci_scan* s = &p->scan;
  uint64_t run = 1, nruns = 1, stride = 0, nparts = 1;
  if (!mci_scan_char(s, '['))
    return mci_scan_fail(s, "\"[\" is missing here; a chunk is written like out[block:run/part]");
  MCI_TRY(affine(p, "a block", &out->block));
  if (mci_scan_char(s, ':')) {
    MCI_TRY(mci_scan_number(s, "a number of blocks", 1, UINT32_MAX, &run));
    if (mci_scan_char(s, '*')) {
      MCI_TRY(mci_scan_number(s, "a number of runs", 1, UINT32_MAX, &nruns));
      if (!mci_scan_char(s, '@'))
        return mci_scan_fail(s, "\"@\" is missing here; several runs are written run*times@stride");
      MCI_TRY(mci_scan_number(s, "a stride", 0, UINT32_MAX, &stride));
    }
  }
  if (mci_scan_char(s, '/')) {
    MCI_TRY(affine(p, "a part", &out->part));
    if (mci_scan_char(s, ':')) MCI_TRY(mci_scan_number(s, "a number of parts", 1, UINT32_MAX, &nparts));
  }
  if (!mci_scan_char(s, ']'))
    return mci_scan_fail(s, "\"]\" is missing here; a chunk is written like out[block:run/part]");
  out->run = (uint32_t)run;
  out->nruns = (uint32_t)nruns;
  out->stride = (uint32_t)stride;
  out->nparts = (uint32_t)nparts;
  return meshcclSuccess;
}

/* Takes `text` right here, whatever follows: tmp3, in[..], copy>1. */
static bool take(mci_scan* s, const char* text) {
  size_t length = strlen(text);
  if ((size_t)(s->end - s->at) < length || memcmp(s->at, text, length) != 0) return false;
  s->at += length;
  return true;
}

static meshcclResult_t local(mci_parser* p, mci_operand* out) {
  mci_scan* s = &p->scan;
  if (take(s, "in")) {
    out->kind = MCI_IN;
  } else if (take(s, "out")) {
    out->kind = MCI_OUT;
  } else if (take(s, "tmp")) {
    out->kind = MCI_TMP;
    MCI_TRY(plain(p, "a scratch slot", &out->slot));
    if (mci_scan_char(s, '.')) MCI_TRY(plain(p, "a place in the slot", &out->shape.skip));
  } else {
    return mci_scan_fail(s, "an operand is missing here: in[..], out[..], tmpN[..], >RANK (left) or <RANK (right)");
  }
  return shape_of(p, &out->shape);
}

static meshcclResult_t destination(mci_parser* p) {
  mci_scan* s = &p->scan;
  mci_operand operand = {0};
  mci_scan_blanks(s);
  bool copy = take(s, "copy");
  if (mci_scan_char(s, '>')) {
    MCI_TRY(plain(p, "a rank", &operand.peer));
    mci_build_dst_lane(p->build, copy ? MCI_COPY : 0, operand.peer);
    return meshcclSuccess;
  }
  if (copy) return mci_scan_fail(s, "\"copy\" marks a departure; write copy>RANK");
  MCI_TRY(local(p, &operand));
  unsigned flags = mci_scan_char(s, '?') ? MCI_SPILL : 0;
  if (operand.kind == MCI_TMP) {
    mci_build_dst_tmp(p->build, flags, operand.slot, operand.shape);
  } else {
    mci_build_dst(p->build, (mci_kind)operand.kind, flags, operand.shape);
  }
  return meshcclSuccess;
}

static meshcclResult_t source(mci_parser* p) {
  mci_scan* s = &p->scan;
  mci_operand operand = {0};
  mci_scan_blanks(s);
  if (mci_scan_char(s, '<')) {
    MCI_TRY(plain(p, "a rank", &operand.peer));
    mci_build_src_lane(p->build, operand.peer);
    return meshcclSuccess;
  }
  MCI_TRY(local(p, &operand));
  if (operand.kind == MCI_TMP) {
    mci_build_src_tmp(p->build, operand.slot, operand.shape);
  } else {
    mci_build_src(p->build, (mci_kind)operand.kind, operand.shape);
  }
  return meshcclSuccess;
}

/* ---- steps ---- */

static meshcclResult_t afters(mci_parser* p) {
  mci_scan* s = &p->scan;
  for (unsigned n = 0;; n++) {
    uint32_t channel;
    mci_affine count;
    if (n == MCI_MAX_AFTER) return mci_scan_fail(s, "a step has at most %d after conditions; split it", MCI_MAX_AFTER);
    MCI_TRY(mci_scan_u32(s, "a channel", 0, MCI_MAX_CHANNELS - 1, &channel));
    if (!mci_scan_char(s, ':')) return mci_scan_fail(s, "\":\" is missing here; write after CHANNEL:STEPS");
    MCI_TRY(affine(p, "a number of steps", &count));
    mci_build_after(p->build, (uint16_t)channel, count);
    mci_scan_blanks(s);
    if (!mci_scan_char(s, ',')) return meshcclSuccess;
  }
}

meshcclResult_t mci_parse_step(mci_parser* p) {
  mci_scan* s = &p->scan;
  uint32_t operands = 0;
  mci_build_step(p->build, 0);
  do {
    MCI_TRY(destination(p));
    mci_scan_blanks(s);
    if (++operands > UINT16_MAX) return mci_scan_fail(s, "a step has at most %d operands", UINT16_MAX);
  } while (mci_scan_char(s, ','));
  if (!take(s, "<-")) return mci_scan_fail(s, "\"<-\" is missing here; a step is written destinations <- sources");
  do {
    MCI_TRY(source(p));
    mci_scan_blanks(s);
    if (++operands > UINT16_MAX) return mci_scan_fail(s, "a step has at most %d operands", UINT16_MAX);
  } while (mci_scan_char(s, '+'));
  if (mci_scan_word(s, "finish")) mci_build_flags(p->build, MCI_FINISH);
  if (mci_scan_word(s, "wide")) mci_build_flags(p->build, MCI_WIDE);
  if (mci_scan_word(s, "after")) MCI_TRY(afters(p));
  if (!mci_scan_line_done(s))
    return mci_scan_fail(s, "only finish, wide and after, in this order, may follow the sources");
  return meshcclSuccess;
}
