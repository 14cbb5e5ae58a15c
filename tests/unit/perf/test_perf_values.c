/* The test data of #wrong: every fold in any order and any tree, rounded to the type after each step, must give the
 * expected bits; and what can go wrong with data must be seen. */
#include <math.h>

#include "perf/engine/pattern.h"
#include "support/test.h"

enum { MOST_RANKS = 64, ELEMENTS = 60, ORDERS = 6 };

typedef struct {
  meshcclDataType_t type;
  int op, nranks;
} combination;

/* a = a op b, the slow and obvious way, with the type's own rounding. */
static void fold(const combination* c, uint8_t* a, const uint8_t* b) {
  bool max = c->op == meshcclMax, min = c->op == meshcclMin, prod = c->op == meshcclProd;
  if (perf_type_is_float(c->type)) {
    double x = perf_decode(c->type, a), y = perf_decode(c->type, b);
    perf_encode(c->type, max ? fmax(x, y) : min ? fmin(x, y) : prod ? x * y : x + y, a);
    return;
  }
  uint64_t x = perf_decode_integer(c->type, a), y = perf_decode_integer(c->type, b);
  bool less = perf_type_is_signed(c->type) ? (int64_t)x < (int64_t)y : x < y;
  perf_encode_integer(c->type, max ? (less ? y : x) : min ? (less ? x : y) : prod ? x * y : x + y, a);
}

static void scale(const combination* c, uint8_t* value, int rank) {
  if (c->op != PERF_MULSUM) return;
  uint64_t s = (uint64_t)perf_mulsum_scalar(rank);
  if (perf_type_is_float(c->type))
    perf_encode(c->type, perf_decode(c->type, value) * (double)s, value);
  else
    perf_encode_integer(c->type, perf_decode_integer(c->type, value) * s, value);
}

static void finish(const combination* c, uint8_t* value) {
  if (c->op != meshcclAvg) return;
  uint64_t sum = perf_decode_integer(c->type, value);
  if (perf_type_is_float(c->type))
    perf_encode(c->type, perf_decode(c->type, value) / c->nranks, value);
  else if (perf_type_is_signed(c->type))
    perf_encode_integer(c->type, (uint64_t)((int64_t)sum / c->nranks), value);
  else
    perf_encode_integer(c->type, sum / (uint64_t)c->nranks, value);
}

/* Joins two random neighbours until one value is left: any order, any tree. */
static void fold_randomly(const combination* c, uint8_t (*values)[8], uint64_t* seed) {
  for (int left = c->nranks; left > 1; left--) {
    int a = (int)(test_random(seed) % (unsigned)left), b = (int)(test_random(seed) % (unsigned)(left - 1));
    if (b >= a) b++;
    fold(c, values[a], values[b]);
    memcpy(values[b], values[left - 1], 8);
    if (a == left - 1) memcpy(values[b], values[a], 8);
  }
}

static void check_combination(const combination* c, uint64_t* seed) {
  size_t size = perf_type_size(c->type);
  for (uint64_t index = 0; index < ELEMENTS; index++) {
    uint8_t packed[MOST_RANKS * 8], expected[8] = {0}, values[MOST_RANKS][8] = {{0}};
    uint64_t at = test_random(seed) % PERF_PERIOD;
    perf_pattern_element(c->type, c->op, c->nranks, at, packed, expected);
    for (int order = 0; order < ORDERS; order++) {
      for (int r = 0; r < c->nranks; r++) {
        memcpy(values[r], packed + (size_t)r * size, size);
        scale(c, values[r], r);
      }
      fold_randomly(c, values, seed);
      finish(c, values[0]);
      if (memcmp(values[0], expected, size) != 0)
        fail_msg("%s %s of %d ranks, element %llu: a fold gives other bits", perf_type_name(c->type),
                 perf_op_name(c->op), c->nranks, (unsigned long long)at);
    }
  }
}

static void every_order_of_every_reduction_gives_the_expected_bits(void** state) {
  (void)state;
  uint64_t seed = test_seed();
  for (int type = 0; type < meshcclNumTypes; type++)
    for (int op = 0; op < PERF_NUM_OPS; op++)
      for (int nranks = 1; nranks <= MOST_RANKS; nranks += nranks < 10 ? 1 : 9) {
        combination c = {(meshcclDataType_t)type, op, nranks};
        check_combination(&c, &seed);
      }
}

/* Tables that were constant, or whose result did not depend on every rank, would find nothing. */
static void results_vary_and_every_rank_matters(void** state) {
  (void)state;
  for (int type = 0; type < meshcclNumTypes; type++)
    for (int op = 0; op < PERF_NUM_OPS; op++) {
      enum { RANKS = 8, SAMPLES = 2000 };
      uint8_t first[8], packed[RANKS * 8], result[8];
      size_t size = perf_type_size((meshcclDataType_t)type), different = 0, matters[RANKS] = {0};
      perf_pattern_element((meshcclDataType_t)type, op, RANKS, 0, packed, first);
      for (uint64_t k = 1; k <= SAMPLES; k++) {
        perf_pattern_element((meshcclDataType_t)type, op, RANKS, k, packed, result);
        different += memcmp(first, result, size) != 0;
        for (int r = 0; r < RANKS; r++) { /* without rank r the result would differ */
          combination c = {(meshcclDataType_t)type, op, RANKS};
          uint8_t rest[8] = {0}, value[8] = {0};
          for (int q = 0, started = 0; q < RANKS; q++) {
            if (q == r) continue;
            memcpy(value, packed + (size_t)q * size, size);
            scale(&c, value, q);
            if (started++)
              fold(&c, rest, value);
            else
              memcpy(rest, value, size);
          }
          finish(&c, rest);
          matters[r] += memcmp(rest, result, size) != 0;
        }
      }
      if (different < SAMPLES / 2)
        fail_msg("%s %s: %zu of %d results differ", perf_type_name(type), perf_op_name(op), different, SAMPLES);
      for (int r = 0; r < RANKS; r++)
        if (matters[r] < SAMPLES / 20)
          fail_msg("%s %s: rank %d matters in %zu of %d elements", perf_type_name(type), perf_op_name(op), r,
                   matters[r], SAMPLES);
    }
}

static void small_floats_survive_decoding_and_encoding(void** state) {
  (void)state;
  static const meshcclDataType_t types[] = {meshcclFloat16, meshcclBfloat16, meshcclFloat8e4m3, meshcclFloat8e5m2};
  for (size_t t = 0; t < 4; t++)
    for (uint32_t bits = 0; bits < 1u << 8 * perf_type_size(types[t]); bits++) {
      uint8_t in[8], out[8];
      perf_encode_integer(types[t], bits, in);
      double value = perf_decode(types[t], in);
      if (isnan(value) || (isinf(value) && types[t] == meshcclFloat8e5m2)) continue; /* e5m2 saturates */
      perf_encode(types[t], value, out);
      if (memcmp(in, out, perf_type_size(types[t])) != 0) fail_msg("%s %x: %g", perf_type_name(types[t]), bits, value);
    }
}

static void encoding_rounds_to_nearest_even_and_saturates(void** state) {
  (void)state;
  static const struct {
    meshcclDataType_t type;
    double value;
    uint64_t bits;
  } rows[] = {
      {meshcclFloat16, 1, 0x3c00},           {meshcclFloat16, 65504, 0x7bff},
      {meshcclFloat16, 65519.9, 0x7bff},     {meshcclFloat16, 65520, 0x7c00},
      {meshcclFloat16, 0x1p-24, 0x0001},     {meshcclFloat16, 0x1p-25, 0x0000},
      {meshcclFloat16, 0x1.8p-24, 0x0002},   {meshcclFloat16, -2, 0xc000},
      {meshcclFloat16, 0x1.ff8p-15, 0x03ff}, {meshcclFloat16, 0x1.ffcp-15, 0x0400},
      {meshcclBfloat16, 1.00390625, 0x3f80}, {meshcclBfloat16, 1.01171875, 0x3f82},
      {meshcclBfloat16, 3.4e38, 0x7f80},     {meshcclFloat8e4m3, 448, 0x7e},
      {meshcclFloat8e4m3, 1e9, 0x7e},        {meshcclFloat8e4m3, -1e9, 0xfe},
      {meshcclFloat8e4m3, 17, 0x58},         {meshcclFloat8e4m3, 19, 0x5a},
      {meshcclFloat8e4m3, 0x1p-9, 0x01},     {meshcclFloat8e5m2, 57344, 0x7b},
      {meshcclFloat8e5m2, 1e9, 0x7b},        {meshcclFloat8e5m2, 9, 0x48},
      {meshcclFloat8e5m2, 11, 0x4a},         {meshcclFloat8e5m2, 0x1p-16, 0x01},
      {meshcclFloat8e5m2, 0, 0x00},
  };
  for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
    uint8_t element[8];
    perf_encode(rows[k].type, rows[k].value, element);
    uint64_t bits = perf_decode_integer(rows[k].type, element);
    if (bits != rows[k].bits)
      fail_msg("%s of %g: %llx, expected %llx", perf_type_name(rows[k].type), rows[k].value, (unsigned long long)bits,
               (unsigned long long)rows[k].bits);
  }
}

enum { COUNT = 40000 };

static void each_kind_of_damage_is_counted(void** state) {
  (void)state;
  perf_pattern p;
  assert_true(perf_pattern_create(&p, meshcclInt32, meshcclSum, 1, 4));
  uint8_t* buffer = malloc(COUNT * 4);
  static const perf_piece pieces[] = {
      {PERF_DATA, 0, 0}, {PERF_DATA, 5, 7}, {PERF_INPUT, 0, 0}, {PERF_RESULT, 0, 12345}, {PERF_NONE, 0, 0}};
  for (size_t k = 0; k < sizeof(pieces) / sizeof(pieces[0]); k++) {
    perf_pattern_fill(&p, pieces[k], 3, false, buffer, COUNT);
    assert_int_equal(perf_pattern_wrong(&p, pieces[k], 3, buffer, COUNT), 0);
    buffer[4 * 17 + 1] ^= 1;
    buffer[4 * 17 + 2] ^= 1;
    buffer[4 * (COUNT - 1)] ^= 0x80;
    assert_int_equal(perf_pattern_wrong(&p, pieces[k], 3, buffer, COUNT), 2);
    perf_pattern_fill(&p, pieces[k], 3, true, buffer, COUNT); /* nothing was written */
    assert_int_equal(perf_pattern_wrong(&p, pieces[k], 3, buffer, COUNT), COUNT);
  }
  free(buffer);
  perf_pattern_destroy(&p);
}

/* Data of another rank, another repetition, or from a place that is off by any power of two. */
static void misplaced_data_does_not_look_right(void** state) {
  (void)state;
  perf_pattern p;
  assert_true(perf_pattern_create(&p, meshcclFloat, meshcclSum, 0, 4));
  uint8_t* buffer = malloc(COUNT * 4);
  const perf_piece data = {PERF_DATA, 3, 0}, result = {PERF_RESULT, 0, 0};
  for (size_t shift = 1; shift <= 1u << 30; shift *= 2) {
    const perf_piece moved[] = {{PERF_DATA, 3, shift}, {PERF_RESULT, 0, shift}};
    perf_pattern_fill(&p, moved[0], 0, false, buffer, COUNT);
    if (perf_pattern_wrong(&p, data, 0, buffer, COUNT) < COUNT / 2) fail_msg("data off by %zu", shift);
    perf_pattern_fill(&p, moved[1], 0, false, buffer, COUNT);
    if (perf_pattern_wrong(&p, result, 0, buffer, COUNT) < COUNT / 2) fail_msg("result off by %zu", shift);
  }
  for (uint64_t stream = 0; stream < MOST_RANKS * MOST_RANKS; stream++) {
    const perf_piece other = {PERF_DATA, stream, 0};
    perf_pattern_fill(&p, other, 0, false, buffer, 64);
    if (stream != 3 && perf_pattern_wrong(&p, data, 0, buffer, 64) < 32) fail_msg("stream %d", (int)stream);
  }
  perf_pattern_fill(&p, data, 104729, false, buffer, COUNT);
  assert_true(perf_pattern_wrong(&p, data, 0, buffer, COUNT) > COUNT / 2);
  free(buffer);
  perf_pattern_destroy(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_order_of_every_reduction_gives_the_expected_bits),
      cmocka_unit_test(results_vary_and_every_rank_matters),
      cmocka_unit_test(small_floats_survive_decoding_and_encoding),
      cmocka_unit_test(encoding_rounds_to_nearest_even_and_saturates),
      cmocka_unit_test(each_kind_of_damage_is_counted),
      cmocka_unit_test(misplaced_data_does_not_look_right),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
