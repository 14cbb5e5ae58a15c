/* kernels: every bit pattern of the narrow floats, and every border between two of them, against an oracle that
 * computes with ldexp in double. */
#include <math.h>

#include "kernels/kernels.h"
#include "support/test.h"

struct format {
  const char* name;
  int bits, mantissa, bias;
  bool has_infinity, overflows; /* overflows: too large becomes infinity, not the largest */
  uint32_t largest, nan;
  float (*decode)(uint32_t bits);
  uint32_t (*encode)(float value);
};

static float decode_half(uint32_t bits) { return mci_half_to_float((uint16_t)bits); }
static float decode_bfloat16(uint32_t bits) { return mci_bfloat16_to_float((uint16_t)bits); }
static float decode_e4m3(uint32_t bits) { return mci_f8e4m3_to_float((uint8_t)bits); }
static float decode_e5m2(uint32_t bits) { return mci_f8e5m2_to_float((uint8_t)bits); }
static uint32_t encode_half(float value) { return mci_float_to_half(value); }
static uint32_t encode_bfloat16(float value) { return mci_float_to_bfloat16(value); }
static uint32_t encode_e4m3(float value) { return mci_float_to_f8e4m3(value); }
static uint32_t encode_e5m2(float value) { return mci_float_to_f8e5m2(value); }

static const struct format formats[] = {
    {"half", 16, 10, 15, true, true, 0x7bff, 0x7e00, decode_half, encode_half},
    {"bfloat16", 16, 7, 127, true, true, 0x7f7f, 0x7fc0, decode_bfloat16, encode_bfloat16},
    {"f8e4m3", 8, 3, 7, false, false, 0x7e, 0x7f, decode_e4m3, encode_e4m3},
    {"f8e5m2", 8, 2, 15, true, false, 0x7b, 0x7e, decode_e5m2, encode_e5m2},
};

/* The value of a magnitude read as a number, also one step beyond the largest. */
static double value_of(const struct format* f, uint32_t magnitude) {
  int exponent = (int)(magnitude >> f->mantissa);
  int fraction = (int)(magnitude & ((1u << f->mantissa) - 1));
  if (exponent > 0) fraction += 1 << f->mantissa;
  return ldexp(fraction, MCI_MAX(exponent, 1) - f->bias - f->mantissa);
}

static void expect(const struct format* f, float value, uint32_t bits) {
  uint32_t got = f->encode(value);
  if (got != bits) fail_msg("%s: %a became 0x%x, expected 0x%x", f->name, (double)value, got, bits);
}

static void every_pattern_has_its_value_and_comes_back(void** state) {
  (void)state;
  for (size_t i = 0; i < MCI_COUNT(formats); i++) {
    const struct format* f = &formats[i];
    uint32_t sign = 1u << (f->bits - 1);
    for (uint32_t bits = 0; bits < sign * 2; bits++) {
      uint32_t magnitude = bits & (sign - 1);
      float value = f->decode(bits);
      if (magnitude <= f->largest) {
        double wanted = bits & sign ? -value_of(f, magnitude) : value_of(f, magnitude);
        if ((double)value != wanted || !signbit(value) != !(bits & sign))
          fail_msg("%s: 0x%x is %a", f->name, bits, (double)value);
        expect(f, value, bits);
      } else if (f->has_infinity && magnitude == f->largest + 1) {
        if (!isinf(value) || !signbit(value) != !(bits & sign))
          fail_msg("%s: 0x%x is %a", f->name, bits, (double)value);
        expect(f, value, bits);
      } else {
        if (!isnan(value)) fail_msg("%s: 0x%x is %a, expected a NaN", f->name, bits, (double)value);
        expect(f, value, f->nan);
      }
    }
  }
}

/* Between neighbours: the midpoint goes to the even one, a hair beside it to the nearer one; with both signs. */
static void borders_round_to_the_nearest_and_ties_to_even(void** state) {
  (void)state;
  for (size_t i = 0; i < MCI_COUNT(formats); i++) {
    const struct format* f = &formats[i];
    uint32_t sign = 1u << (f->bits - 1);
    for (uint32_t low = 0; low < f->largest; low++) {
      float middle = (float)((value_of(f, low) + value_of(f, low + 1)) / 2);
      assert_true((double)middle * 2 == value_of(f, low) + value_of(f, low + 1));
      expect(f, middle, low + (low & 1));
      expect(f, -middle, sign | (low + (low & 1)));
      expect(f, nextafterf(middle, 0), low);
      expect(f, nextafterf(middle, INFINITY), low + 1);
      expect(f, nextafterf(-middle, -INFINITY), sign | (low + 1));
    }
  }
}

static void too_large_becomes_what_the_format_says(void** state) {
  (void)state;
  for (size_t i = 0; i < MCI_COUNT(formats); i++) {
    const struct format* f = &formats[i];
    uint32_t sign = 1u << (f->bits - 1), beyond = f->overflows ? f->largest + 1 : f->largest;
    double middle = (value_of(f, f->largest) + value_of(f, f->largest + 1)) / 2;
    expect(f, nextafterf((float)middle, 0), f->largest);
    expect(f, (float)middle, beyond);
    expect(f, -(float)middle, sign | beyond);
    expect(f, 3.4e38f, beyond);
    expect(f, INFINITY, f->has_infinity ? f->largest + 1 : f->largest);
    expect(f, -INFINITY, sign | (f->has_infinity ? f->largest + 1 : f->largest));
    expect(f, -NAN, f->nan);
  }
}

static void known_numbers_keep_their_known_patterns(void** state) {
  (void)state;
  assert_int_equal(mci_float_to_half(1.0f), 0x3c00);
  assert_int_equal(mci_float_to_half(65504.0f), 0x7bff);
  assert_int_equal(mci_float_to_half(-0.0f), 0x8000);
  assert_int_equal(mci_float_to_half(5.9604645e-8f), 1);
  assert_int_equal(mci_float_to_bfloat16(3.140625f), 0x4049);
  assert_int_equal(mci_float_to_bfloat16(1e-40f), 0x0001);
  assert_int_equal(mci_float_to_f8e4m3(448.0f), 0x7e);
  assert_int_equal(mci_float_to_f8e4m3(1e9f), 0x7e);
  assert_int_equal(mci_float_to_f8e4m3(0.001953125f), 1);
  assert_int_equal(mci_float_to_f8e5m2(57344.0f), 0x7b);
  assert_int_equal(mci_float_to_f8e5m2(-1e9f), 0xfb);
}

static void names_and_sizes_agree(void** state) {
  (void)state;
  static const size_t sizes[meshcclNumTypes] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  for (int type = 0; type < meshcclNumTypes; type++) {
    meshcclDataType_t parsed = meshcclNumTypes;
    assert_true(mci_type_parse(mci_type_name((meshcclDataType_t)type), &parsed));
    assert_int_equal(parsed, type);
    assert_int_equal(mci_type_size((meshcclDataType_t)type), sizes[type]);
    assert_int_equal(mci_type_is_float((meshcclDataType_t)type), type >= meshcclFloat16);
  }
  meshcclDataType_t parsed = meshcclInt64;
  assert_false(mci_type_parse("int9", &parsed));
  assert_int_equal(parsed, meshcclInt64);
  assert_int_equal(mci_type_size(meshcclNumTypes), 0);
  assert_string_equal(mci_op_name(meshcclAvg), "avg");
  assert_string_equal(mci_op_name(meshcclNumOps), "unknown operator");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_pattern_has_its_value_and_comes_back),
      cmocka_unit_test(borders_round_to_the_nearest_and_ties_to_even),
      cmocka_unit_test(too_large_becomes_what_the_format_says),
      cmocka_unit_test(known_numbers_keep_their_known_patterns),
      cmocka_unit_test(names_and_sizes_agree),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
