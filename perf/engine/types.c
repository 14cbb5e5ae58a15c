/* Names, sizes and conversions of the element types. Every small float format goes through one pair of functions that
 * work from the widths of its fields; speed does not matter here, the tables that use them are short. */
#include "perf/engine/types.h"

#include <math.h>
#include <string.h>

typedef struct {
  const char* name;
  size_t size;
  bool real, negative;          /* a float; has a sign */
  int exponent_bits, precision; /* of floats */
  double largest;               /* of formats that saturate, else 0 */
} type_row;

static const type_row types[meshcclNumTypes] = {
    [meshcclInt8] = {"int8", 1, false, true, 0, 0, 0},
    [meshcclUint8] = {"uint8", 1, false, false, 0, 0, 0},
    [meshcclInt32] = {"int32", 4, false, true, 0, 0, 0},
    [meshcclUint32] = {"uint32", 4, false, false, 0, 0, 0},
    [meshcclInt64] = {"int64", 8, false, true, 0, 0, 0},
    [meshcclUint64] = {"uint64", 8, false, false, 0, 0, 0},
    [meshcclFloat16] = {"half", 2, true, true, 5, 11, 0},
    [meshcclFloat32] = {"float", 4, true, true, 8, 24, 0},
    [meshcclFloat64] = {"double", 8, true, true, 11, 53, 0},
    [meshcclBfloat16] = {"bfloat16", 2, true, true, 8, 8, 0},
    [meshcclFloat8e4m3] = {"f8e4m3", 1, true, true, 4, 4, 448},
    [meshcclFloat8e5m2] = {"f8e5m2", 1, true, true, 5, 3, 57344},
};
static const char* const ops[PERF_NUM_OPS] = {"sum", "prod", "max", "min", "avg", "mulsum"};

const char* perf_type_name(meshcclDataType_t type) { return types[type].name; }
const char* perf_op_name(int op) { return ops[op]; }
size_t perf_type_size(meshcclDataType_t type) { return types[type].size; }
bool perf_type_is_float(meshcclDataType_t type) { return types[type].real; }
bool perf_type_is_signed(meshcclDataType_t type) { return types[type].negative; }
int perf_type_precision(meshcclDataType_t type) { return types[type].precision; }

int perf_type_find(const char* name) {
  for (int k = 0; k < meshcclNumTypes; k++)
    if (!strcmp(types[k].name, name)) return k;
  return -1;
}

int perf_op_find(const char* name) {
  for (int k = 0; k < PERF_NUM_OPS; k++)
    if (!strcmp(ops[k], name)) return k;
  return -1;
}

uint64_t perf_decode_integer(meshcclDataType_t type, const void* element) {
  union {
    int8_t i8;
    uint8_t u8;
    int16_t i16;
    uint16_t u16;
    int32_t i32;
    uint32_t u32;
    uint64_t u64;
  } v;
  memcpy(&v, element, types[type].size);
  bool extend = types[type].negative && !types[type].real;
  switch (types[type].size) {
    case 1:
      return extend ? (uint64_t)(int64_t)v.i8 : v.u8;
    case 2:
      return v.u16;
    case 4:
      return extend ? (uint64_t)(int64_t)v.i32 : v.u32;
    default:
      return v.u64;
  }
}

void perf_encode_integer(meshcclDataType_t type, uint64_t value, void* element) {
  uint8_t v8 = (uint8_t)value;
  uint16_t v16 = (uint16_t)value;
  uint32_t v32 = (uint32_t)value;
  const void* from[] = {NULL, &v8, &v16, NULL, &v32, NULL, NULL, NULL, &value};
  memcpy(element, from[types[type].size], types[type].size);
}

static double decode_small(const type_row* t, unsigned bits) {
  int fraction_bits = t->precision - 1, bias = (1 << (t->exponent_bits - 1)) - 1;
  unsigned top = (1u << t->exponent_bits) - 1, fraction_mask = (1u << fraction_bits) - 1;
  unsigned fraction = bits & fraction_mask, exponent = bits >> fraction_bits & top;
  double sign = bits >> (8 * t->size - 1) ? -1 : 1;
  bool e4m3 = t->exponent_bits == 4; /* its top exponent holds numbers and one NaN */
  if (exponent == top && (!e4m3 || fraction == fraction_mask)) return fraction ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * ldexp(fraction, 1 - bias - fraction_bits);
  return sign * ldexp(fraction | 1u << fraction_bits, (int)exponent - bias - fraction_bits);
}

static unsigned encode_small(const type_row* t, double value) {
  int fraction_bits = t->precision - 1, bias = (1 << (t->exponent_bits - 1)) - 1;
  unsigned sign = signbit(value) ? 1u << (8 * t->size - 1) : 0;
  unsigned infinity = ((1u << t->exponent_bits) - 1) << fraction_bits;
  if (isnan(value)) return sign | infinity | ((1u << fraction_bits) - 1);
  double magnitude = fabs(value);
  if (t->largest && magnitude > t->largest) magnitude = t->largest;
  if (isinf(magnitude)) return sign | infinity;
  int exponent;
  frexp(magnitude, &exponent);
  exponent = magnitude == 0 || exponent - 1 < 1 - bias ? 1 - bias : exponent - 1;
  /* A significand below 2^fraction_bits is subnormal; one that rounds up to the next power carries into the exponent.
   */
  unsigned significand = (unsigned)nearbyint(ldexp(magnitude, fraction_bits - exponent));
  unsigned bits = significand + ((unsigned)(exponent + bias - 1) << fraction_bits);
  return sign | (!t->largest && bits > infinity ? infinity : bits);
}

double perf_decode(meshcclDataType_t type, const void* element) {
  if (type == meshcclFloat32) {
    float value;
    memcpy(&value, element, sizeof(value));
    return value;
  }
  if (type == meshcclFloat64) {
    double value;
    memcpy(&value, element, sizeof(value));
    return value;
  }
  return decode_small(&types[type], (unsigned)perf_decode_integer(type, element));
}

void perf_encode(meshcclDataType_t type, double value, void* element) {
  if (type == meshcclFloat64) {
    memcpy(element, &value, sizeof(value));
  } else if (type == meshcclFloat32) {
    float narrow = (float)value;
    memcpy(element, &narrow, sizeof(narrow));
  } else {
    perf_encode_integer(type, encode_small(&types[type], value), element);
  }
}
