/* Parses the text of a whole schedule (docs/schedule-format.md) into one program per rank, through the builder. Checks
 * the form only: numbers in range, ranks complete, repeats closed. Whether the schedule is right is verify.c's
 * business. Called by `meshccl verify`, by MESHCCL_SCHEDULE and by tests; the input is not trusted. */
#include <string.h>

#include "sched/scan.h"
#include "sched/text.h"

typedef struct {
  mci_scan scan;
  mci_coll coll;
  char algorithm[48];
  uint32_t nranks, root;
  uint32_t nblocks, nparts;
  uint32_t *weights, *order;
  bool have_coll, have_algorithm, have_ranks, have_root, have_layout, have_order, have_bits;
  mci_schedule* schedule;
  mci_build* build;      /* of the rank being read */
  uint32_t depth;        /* open repeats */
  uint64_t last_channel; /* id + 1 of the channel before, 0: none */
} parser;

/* ---- numbers ---- */

/* [-] (number [i|j] | i | j) { (+|-) ... }: base and one factor per enclosing repeat. */
static meshcclResult_t affine(parser* p, const char* what, mci_affine* out) {
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
static meshcclResult_t plain(parser* p, const char* what, mci_affine* out) {
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

static meshcclResult_t shape_of(parser* p, mci_shape* out) {
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

static meshcclResult_t local(parser* p, mci_operand* out) {
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

static meshcclResult_t destination(parser* p) {
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

static meshcclResult_t source(parser* p) {
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

/* ---- lines of a channel ---- */

static meshcclResult_t afters(parser* p) {
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

static meshcclResult_t step(parser* p) {
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

static meshcclResult_t channel(parser* p) {
  mci_scan* s = &p->scan;
  uint32_t id;
  MCI_TRY(mci_scan_u32(s, "a channel number", (uint32_t)p->last_channel, MCI_MAX_CHANNELS - 1, &id));
  p->last_channel = (uint64_t)id + 1;
  mci_build_channel(p->build, (uint16_t)id);
  MCI_TRY(mci_scan_next_line(s));
  while (!mci_scan_text_done(s)) {
    if (mci_scan_word(s, "repeat")) {
      uint32_t count;
      if (p->depth == MCI_MAX_LOOPS) return mci_scan_fail(s, "repeats nest at most %d deep", MCI_MAX_LOOPS);
      MCI_TRY(mci_scan_u32(s, "a number of iterations", 0, INT32_MAX, &count));
      mci_build_repeat(p->build, count);
      p->depth++;
    } else if (mci_scan_word(s, "end")) {
      if (p->depth == 0) return mci_scan_fail(s, "this end has no repeat");
      mci_build_end(p->build);
      p->depth--;
    } else if (mci_scan_word(s, "channel") || mci_scan_word(s, "rank")) {
      s->at = s->line_start;
      break;
    } else {
      MCI_TRY(step(p));
    }
    MCI_TRY(mci_scan_next_line(s));
  }
  if (p->depth) return mci_scan_fail(s, "a repeat of channel %u is not closed; add \"end\"", id);
  return meshcclSuccess;
}

/* ---- ranks ---- */

static meshcclResult_t rank_body(parser* p, uint32_t* steps) {
  mci_scan* s = &p->scan;
  uint32_t slots = 0;
  p->last_channel = 0;
  MCI_TRY(mci_scan_next_line(s));
  while (!mci_scan_text_done(s)) {
    if (mci_scan_word(s, "slots")) {
      MCI_TRY(mci_scan_u32(s, "a number of scratch slots", 0, INT32_MAX, &slots));
      mci_build_slots(p->build, slots);
      MCI_TRY(mci_scan_next_line(s));
    } else if (mci_scan_word(s, "steps")) {
      MCI_TRY(mci_scan_u32(s, "a number of steps", 0, UINT32_MAX, steps));
      MCI_TRY(mci_scan_next_line(s));
    } else if (mci_scan_word(s, "channel")) {
      MCI_TRY(channel(p));
    } else if (mci_scan_word(s, "rank")) {
      s->at = s->line_start;
      break;
    } else {
      return mci_scan_fail(s, "expected slots, steps, channel or the next rank");
    }
  }
  return meshcclSuccess;
}

static meshcclResult_t rank(parser* p, uint32_t number) {
  mci_scan* s = &p->scan;
  uint32_t given, steps = 0;
  if (!mci_scan_word(s, "rank"))
    return mci_scan_fail(s, "rank %u is missing; all of the %u ranks must be here, in order", number, p->nranks);
  MCI_TRY(mci_scan_u32(s, "the next rank, in order,", number, number, &given));
  p->build = mci_build_begin(p->coll, p->algorithm, p->nranks, number, p->root);
  mci_build_layout(p->build, p->nblocks, p->nparts, p->weights);
  mci_build_order(p->build, p->order);
  meshcclResult_t result = rank_body(p, &steps);
  mci_program* program = NULL;
  if (result == meshcclSuccess) {
    result = mci_build_finish(p->build, &program);
    p->schedule->programs[number] = program;
    if (program) program->steps = steps;
  } else {
    mci_build_drop(p->build);
  }
  return result;
}

/* ---- header ---- */

static meshcclResult_t header_collective(parser* p) {
  char name[32];
  mci_scan start = p->scan;
  MCI_TRY(mci_scan_name(&p->scan, "the collective", name, sizeof name));
  if (mci_coll_parse(name, &p->coll) != meshcclSuccess) {
    char cause[400];
    memcpy(cause, mci_error_last(), sizeof cause - 1);
    cause[sizeof cause - 1] = 0;
    mci_scan_blanks(&start);
    return mci_scan_fail(&start, "%s", cause);
  }
  p->have_coll = true;
  return meshcclSuccess;
}

static meshcclResult_t header_algorithm(parser* p) {
  mci_scan* s = &p->scan;
  mci_scan_blanks(s);
  const char* begin = s->at;
  const char* last = begin;
  for (; s->at < s->end && *s->at != '\n' && *s->at != '#'; s->at++)
    if (*s->at != ' ' && *s->at != '\t' && *s->at != '\r') last = s->at + 1;
  size_t length = (size_t)(last - begin);
  if (length < sizeof p->algorithm) {
    memcpy(p->algorithm, begin, length);
    p->algorithm[length] = 0;
  }
  if (length >= sizeof p->algorithm || strlen(p->algorithm) != length || !mci_text_algorithm_ok(p->algorithm))
    return mci_scan_fail(s, "the algorithm needs a name of 1 to %zu printable characters", sizeof p->algorithm - 1);
  p->have_algorithm = true;
  return meshcclSuccess;
}

static meshcclResult_t list(parser* p, const char* what, uint32_t n, uint32_t low, uint32_t high, uint32_t** out) {
  if ((uint64_t)n > (uint64_t)(p->scan.end - p->scan.at))
    return mci_scan_fail(&p->scan, "%u numbers are needed here (%s)", n, what);
  uint32_t* values = mci_alloc(n * sizeof *values);
  if (!values) return mci_oom(n * sizeof *values);
  mci_free(*out);
  *out = values;
  for (uint32_t i = 0; i < n; i++) MCI_TRY(mci_scan_u32(&p->scan, what, low, high, &values[i]));
  return meshcclSuccess;
}

static meshcclResult_t header_layout(parser* p) {
  mci_scan* s = &p->scan;
  if (!p->have_coll) return mci_scan_fail(s, "the collective must be named before the layout");
  bool block_major = mci_coll_block_major(p->coll);
  if (!mci_scan_word(s, block_major ? "block-major" : "part-major"))
    return mci_scan_fail(s, "the layout of %s is %s", mci_coll_name(p->coll),
                         block_major ? "block-major" : "part-major");
  if (!mci_scan_word(s, "blocks")) return mci_scan_fail(s, "\"blocks\" and their number are missing here");
  MCI_TRY(mci_scan_u32(s, "the number of blocks", 1, INT32_MAX, &p->nblocks));
  if (!mci_scan_word(s, "parts")) return mci_scan_fail(s, "\"parts\" and their number are missing here");
  MCI_TRY(mci_scan_u32(s, "the number of parts", 1, MCI_TEXT_MAX_PARTS, &p->nparts));
  if (mci_scan_word(s, "weights")) {
    MCI_TRY(list(p, "a weight", p->nparts, 0, UINT32_MAX, &p->weights));
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->nparts; i++) sum += p->weights[i];
    if (sum == 0 || sum > UINT32_MAX) return mci_scan_fail(s, "the weights must add up to 1 .. 4294967295");
  }
  p->have_layout = true;
  return meshcclSuccess;
}

static meshcclResult_t header_bits(parser* p) {
  char* bits = p->schedule->bits;
  MCI_TRY(mci_scan_name(&p->scan, "the digest", bits, sizeof p->schedule->bits));
  if (strlen(bits) != 32 || strspn(bits, "0123456789abcdef") != 32)
    return mci_scan_fail(&p->scan,
                         "the digest needs 32 hexadecimal digits in lower case; remove the line to do without");
  p->have_bits = true;
  return meshcclSuccess;
}

static meshcclResult_t header_line(parser* p) {
  mci_scan* s = &p->scan;
  if (!p->have_coll && mci_scan_word(s, "collective")) return header_collective(p);
  if (!p->have_algorithm && mci_scan_word(s, "algorithm")) return header_algorithm(p);
  if (!p->have_ranks && mci_scan_word(s, "ranks")) {
    p->have_ranks = true;
    return mci_scan_u32(s, "the number of ranks", 1, MCI_TEXT_MAX_RANKS, &p->nranks);
  }
  if (!p->have_root && mci_scan_word(s, "root")) {
    p->have_root = true;
    return mci_scan_u32(s, "the root", 0, MCI_TEXT_MAX_RANKS - 1, &p->root);
  }
  if (!p->have_layout && mci_scan_word(s, "layout")) return header_layout(p);
  if (p->have_layout && !p->have_order && mci_scan_word(s, "order")) {
    p->have_order = true;
    return list(p, "a place", p->nblocks, 0, INT32_MAX, &p->order);
  }
  if (!p->have_bits && mci_scan_word(s, "bits")) return header_bits(p);
  return mci_scan_fail(
      s, "expected collective, algorithm, ranks, root, layout, order (after layout) or bits, each once, then rank 0");
}

static meshcclResult_t header(parser* p) {
  mci_scan* s = &p->scan;
  if (mci_scan_line_done(s)) MCI_TRY(mci_scan_next_line(s));
  uint32_t version = 0;
  if (!mci_scan_word(s, MCI_TEXT_MAGIC))
    return mci_scan_fail(s, "this is not a schedule: the first line must be \"%s %d\"", MCI_TEXT_MAGIC,
                         MCI_TEXT_VERSION);
  MCI_TRY(mci_scan_u32(s, "the version of the format", MCI_TEXT_VERSION, MCI_TEXT_VERSION, &version));
  MCI_TRY(mci_scan_next_line(s));
  for (mci_scan ahead = *s; !mci_scan_text_done(s) && !mci_scan_word(&ahead, "rank"); ahead = *s) {
    MCI_TRY(header_line(p));
    MCI_TRY(mci_scan_next_line(s));
  }
  const char* missing = !p->have_coll        ? "collective"
                        : !p->have_algorithm ? "algorithm"
                        : !p->have_ranks     ? "ranks"
                        : !p->have_layout    ? "layout"
                                             : NULL;
  if (missing) return mci_scan_fail(s, "the line \"%s ...\" is missing before the first rank", missing);
  bool rooted = mci_coll_rooted(p->coll);
  if (rooted && !p->have_root) return mci_scan_fail(s, "%s needs a line \"root RANK\"", mci_coll_name(p->coll));
  if (!rooted && p->have_root) return mci_scan_fail(s, "%s has no root; remove the line", mci_coll_name(p->coll));
  if (p->root >= p->nranks) return mci_scan_fail(s, "root %u is not below the number of ranks, %u", p->root, p->nranks);
  uint64_t bytes = (uint64_t)p->nranks * sizeof(uint32_t) * ((uint64_t)p->nparts + (p->order ? p->nblocks : 0));
  if (bytes > MCI_TEXT_MAX_LAYOUT_BYTES)
    return mci_scan_fail(s, "the layout of all ranks would take %llu bytes, too much", (unsigned long long)bytes);
  return meshcclSuccess;
}

static meshcclResult_t schedule(parser* p) {
  MCI_TRY(header(p));
  mci_program** programs = mci_alloc(p->nranks * sizeof *programs);
  if (!programs) return mci_oom(p->nranks * sizeof *programs);
  p->schedule->programs = programs;
  p->schedule->nranks = p->nranks;
  for (uint32_t r = 0; r < p->nranks; r++) MCI_TRY(rank(p, r));
  if (!mci_scan_text_done(&p->scan)) return mci_scan_fail(&p->scan, "more than %u ranks", p->nranks);
  return meshcclSuccess;
}

meshcclResult_t mci_schedule_parse(const char* text, size_t bytes, const char* name, mci_schedule** out) {
  parser p = {.schedule = mci_alloc(sizeof *p.schedule)};
  if (!p.schedule) return mci_oom(sizeof *p.schedule);
  mci_scan_start(&p.scan, text, bytes, name);
  meshcclResult_t result = schedule(&p);
  mci_free(p.weights);
  mci_free(p.order);
  if (result == meshcclSuccess) {
    *out = p.schedule;
  } else {
    mci_schedule_destroy(p.schedule);
  }
  return result;
}
