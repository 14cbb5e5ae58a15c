/* Inputs of a reduction, chosen so that every partial result in every order is a number of the type.
 *
 * Sums of floats: small integers times one power of two per element. All positive inputs together and all negative ones
 * together stay within 2^precision, so any partial sum is exact. Averages: the same, and the last division rounds once.
 * Products of floats: powers of two whose halvings and doublings are both bounded, and one factor with an odd part that
 * the shortest significand holds. Integers wrap, so anything goes for sum and product; averages of integers must not
 * wrap and get the budget of the floats. Maximum and minimum take any finite number, without the negative zero. */
#include <math.h>
#include <string.h>

#include "perf/engine/pattern.h"
#include "perf/engine/random.h"

typedef struct {
  meshcclDataType_t type;
  int op, nranks;
  size_t size;
  uint64_t* state;
  uint8_t* values;
  void* result;
} element;

int perf_mulsum_scalar(int rank) { return rank % 2 ? 2 : 1; }

static uint8_t* value_of(const element* e, int rank) { return e->values + (size_t)rank * e->size; }

static int64_t divide(int64_t sum, int n) { return sum / n; } /* C truncates toward zero, as meshcclAvg does */

/* Largest sum of one sign that is exact in any order. */
static int64_t budget(meshcclDataType_t type) {
  int bits = (int)(8 * perf_type_size(type));
  if (perf_type_is_float(type)) return (int64_t)1 << perf_type_precision(type);
  if (bits == 64) return INT64_MAX;
  return ((int64_t)1 << (perf_type_is_signed(type) ? bits - 1 : bits)) - 1;
}

/* Sum, average and pre-multiplied sum within the budget. Who comes first changes from element to element: late ranks
 * may find the budget spent. */
static void bounded_sum(const element* e) {
  int64_t most = budget(e->type), sum = 0;
  /* Inputs of one sign often use their budget up; without a random one their sum would be a constant. */
  most -= (int64_t)(perf_random(e->state) % (uint64_t)(most / 2 + 1));
  int64_t room[2] = {most, perf_type_is_signed(e->type) ? most : 0};
  int64_t share = room[0] / e->nranks; /* drawn up to twice the fair share, where that is a number */
  if (share < INT64_MAX / 2) share = 2 * share + 1;
  bool real = perf_type_is_float(e->type);
  int exponent = (int)(perf_random(e->state) % 5) - 2, start = (int)(perf_random(e->state) % (unsigned)e->nranks);
  for (int k = 0; k < e->nranks; k++) {
    int rank = (start + k) % e->nranks;
    int64_t scale = e->op == PERF_MULSUM ? perf_mulsum_scalar(rank) : 1;
    int sign = room[1] > 0 && (perf_random(e->state) & 1);
    int64_t limit = room[sign] / scale, value = (int64_t)(perf_random(e->state) % (uint64_t)(share + 1));
    if (value > limit) value = limit;
    room[sign] -= value * scale;
    sum += sign ? -value * scale : value * scale;
    if (real)
      perf_encode(e->type, ldexp((double)(sign ? -value : value), exponent), value_of(e, rank));
    else
      perf_encode_integer(e->type, (uint64_t)(sign ? -value : value), value_of(e, rank));
  }
  if (real)
    perf_encode(e->type, ldexp((double)sum, exponent) / (e->op == meshcclAvg ? e->nranks : 1), e->result);
  else
    perf_encode_integer(e->type, (uint64_t)(e->op == meshcclAvg ? divide(sum, e->nranks) : sum), e->result);
}

static void wrapping_sum(const element* e) {
  uint64_t sum = 0;
  for (int rank = 0; rank < e->nranks; rank++) {
    uint64_t value = perf_random(e->state);
    sum += e->op == PERF_MULSUM ? value * (uint64_t)perf_mulsum_scalar(rank) : value;
    perf_encode_integer(e->type, value, value_of(e, rank));
  }
  perf_encode_integer(e->type, sum, e->result);
}

/* Odd factors keep the product's low bits alive; one factor may be even. */
static void wrapping_product(const element* e) {
  uint64_t product = 1;
  int any = (int)(perf_random(e->state) % (unsigned)e->nranks);
  for (int rank = 0; rank < e->nranks; rank++) {
    uint64_t value = perf_random(e->state) | (rank != any);
    product *= value;
    perf_encode_integer(e->type, value, value_of(e, rank));
  }
  perf_encode_integer(e->type, product, e->result);
}

static void exact_product(const element* e) {
  static const double odd[] = {1, 1.25, 1.5, 1.75};
  int doublings = 4, halvings = 4, start = (int)(perf_random(e->state) % (unsigned)e->nranks);
  double product = 1;
  for (int k = 0; k < e->nranks; k++) {
    uint64_t dice = perf_random(e->state);
    double value = k == 0 ? odd[dice >> 8 & 3] : 1;
    if ((dice & 3) == 1 && doublings > 0) value *= 2, doublings--;
    if ((dice & 3) == 2 && halvings > 0) value /= 2, halvings--;
    if (dice & 4) value = -value;
    product *= value;
    perf_encode(e->type, value, value_of(e, (start + k) % e->nranks));
  }
  perf_encode(e->type, product, e->result);
}

/* Any bits of an integer; of a float any finite number but the negative zero, which equals the other zero. */
static void any_number(const element* e, void* to) {
  for (;;) {
    perf_encode_integer(e->type, perf_random(e->state), to);
    if (!perf_type_is_float(e->type)) return;
    double value = perf_decode(e->type, to);
    if (isfinite(value) && !(value == 0 && signbit(value))) return;
  }
}

static bool less(const element* e, const void* a, const void* b) {
  if (perf_type_is_float(e->type)) return perf_decode(e->type, a) < perf_decode(e->type, b);
  uint64_t x = perf_decode_integer(e->type, a), y = perf_decode_integer(e->type, b);
  return perf_type_is_signed(e->type) ? (int64_t)x < (int64_t)y : x < y;
}

static void extreme(const element* e) {
  const uint8_t* best = e->values;
  for (int rank = 0; rank < e->nranks; rank++) {
    uint8_t* value = value_of(e, rank);
    any_number(e, value);
    if (e->op == meshcclMax ? less(e, best, value) : less(e, value, best)) best = value;
  }
  memcpy(e->result, best, e->size);
}

void perf_pattern_element(meshcclDataType_t type, int op, int nranks, uint64_t index, uint8_t* values, void* result) {
  uint64_t state = index * 0x100000001b3u + (uint64_t)type * 64 + (uint64_t)op * 8 + (uint64_t)nranks * 4096;
  element e = {type, op, nranks, perf_type_size(type), &state, values, result};
  bool real = perf_type_is_float(type);
  if (op == meshcclMax || op == meshcclMin)
    extreme(&e);
  else if (op == meshcclProd)
    real ? exact_product(&e) : wrapping_product(&e);
  else if (real || op == meshcclAvg)
    bounded_sum(&e);
  else
    wrapping_sum(&e);
}
