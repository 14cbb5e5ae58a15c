/* Periodic byte sources: fill a buffer from them and count the elements that differ. */
#include "perf/engine/pattern.h"

#include <stdlib.h>
#include <string.h>

#include "perf/engine/random.h"

enum { DATA_PERIOD = 65521, STREAM_STRIDE = 7919, FILLER_PERIOD = 4096, FILLER = 0xC5 };

typedef struct {
  const uint8_t* bytes;
  size_t period, at;
} source;

static const uint8_t* filler(void) {
  static const uint8_t bytes[FILLER_PERIOD] = {[0 ... FILLER_PERIOD - 1] = FILLER};
  return bytes;
}

static source open_source(const perf_pattern* p, perf_piece piece, uint64_t phase) {
  size_t size = perf_type_size(p->type);
  uint64_t first = piece.first + phase;
  switch (piece.kind) {
    case PERF_DATA:
      return (source){p->data, DATA_PERIOD, (first * size + piece.stream * STREAM_STRIDE) % DATA_PERIOD};
    case PERF_INPUT:
      return (source){p->input, PERF_PERIOD * size, first % PERF_PERIOD * size};
    case PERF_RESULT:
      return (source){p->result, PERF_PERIOD * size, first % PERF_PERIOD * size};
    default:
      return (source){filler(), FILLER_PERIOD, 0};
  }
}

/* The next stretch without a wrap, at most `left` bytes; moves the source on. */
static size_t stretch(source* s, size_t left, const uint8_t** bytes) {
  size_t n = s->period - s->at < left ? s->period - s->at : left;
  *bytes = s->bytes + s->at;
  s->at = (s->at + n) % s->period;
  return n;
}

void perf_pattern_fill(const perf_pattern* pattern, perf_piece piece, uint64_t phase, bool flip, void* to,
                       size_t count) {
  source s = open_source(pattern, piece, phase);
  uint8_t *out = to, *end = out + count * perf_type_size(pattern->type);
  const uint8_t* from;
  for (size_t n; out < end; out += n) {
    n = stretch(&s, (size_t)(end - out), &from);
    memcpy(out, from, n);
    for (size_t k = 0; flip && k < n; k++) out[k] = (uint8_t)~out[k];
  }
}

static size_t count_wrong(source s, size_t size, const uint8_t* at, size_t count) {
  size_t wrong = 0;
  for (size_t k = 0; k < count; k++) {
    bool differs = false;
    for (size_t b = 0; b < size; b++, s.at = (s.at + 1) % s.period) differs |= at[k * size + b] != s.bytes[s.at];
    wrong += differs;
  }
  return wrong;
}

size_t perf_pattern_wrong(const perf_pattern* pattern, perf_piece piece, uint64_t phase, const void* at, size_t count) {
  size_t size = perf_type_size(pattern->type);
  source s = open_source(pattern, piece, phase), start = s;
  const uint8_t *in = at, *end = in + count * size, *expected;
  for (size_t n; in < end; in += n) {
    n = stretch(&s, (size_t)(end - in), &expected);
    if (memcmp(in, expected, n) != 0) return count_wrong(start, size, at, count);
  }
  return 0;
}

/* Tables of a reduction: element by element, all ranks' values are made and one of them is kept. */
static bool make_tables(perf_pattern* p) {
  size_t size = perf_type_size(p->type);
  uint8_t* values = malloc((size_t)p->nranks * size);
  p->input = malloc(PERF_PERIOD * size);
  p->result = malloc(PERF_PERIOD * size);
  bool ok = values && p->input && p->result;
  for (size_t k = 0; ok && k < PERF_PERIOD; k++) {
    perf_pattern_element(p->type, p->op, p->nranks, k, values, p->result + k * size);
    memcpy(p->input + k * size, values + (size_t)p->rank * size, size);
  }
  free(values);
  return ok;
}

bool perf_pattern_create(perf_pattern* out, meshcclDataType_t type, int op, int rank, int nranks) {
  *out = (perf_pattern){.type = type, .op = op, .rank = rank, .nranks = nranks, .data = malloc(DATA_PERIOD)};
  bool ok = out->data != NULL;
  uint64_t state = 1;
  for (size_t k = 0; ok && k < DATA_PERIOD; k++) out->data[k] = (uint8_t)(perf_random(&state) >> 32);
  if (ok && op >= 0) ok = make_tables(out);
  if (!ok) perf_pattern_destroy(out);
  return ok;
}

void perf_pattern_destroy(perf_pattern* pattern) {
  free(pattern->input);
  free(pattern->result);
  free(pattern->data);
  *pattern = (perf_pattern){0};
}
