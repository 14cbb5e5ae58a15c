/* Scalar conversions of the narrow floats, by integer arithmetic alone: exact, and the same whatever the processor's
 * rounding or flush-to-zero mode. The portable kernels use them; the vector kernels do the same in another way and are
 * compared with these bit by bit.
 *
 *              bits  mantissa  bias  infinity  NaN made here  too large becomes
 *   half        16      10      15    0x7c00      0x7e00       infinity
 *   bfloat16    16       7     127    0x7f80      0x7fc0       infinity
 *   f8e4m3       8       3       7    none        0x7f         448 (0x7e), also for infinity
 *   f8e5m2       8       2      15    0x7c        0x7e         57344 (0x7b); infinity stays infinity */
#include <string.h>

#include "kernels/kernels.h"

struct format {
  int bits, mantissa, bias;
  uint32_t special;  /* smallest magnitude that is no finite number */
  uint32_t largest;  /* what finite values too large for the format become */
  uint32_t infinity; /* what infinity becomes */
  uint32_t nan;
};

static const struct format half = {16, 10, 15, 0x7c00, 0x7c00, 0x7c00, 0x7e00};
static const struct format bfloat16 = {16, 7, 127, 0x7f80, 0x7f80, 0x7f80, 0x7fc0};
static const struct format f8e4m3 = {8, 3, 7, 0x7f, 0x7e, 0x7e, 0x7f};
static const struct format f8e5m2 = {8, 2, 15, 0x7c, 0x7b, 0x7c, 0x7e};

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float decode(const struct format* f, uint32_t bits) {
  uint32_t sign = bits >> (f->bits - 1) << 31;
  uint32_t magnitude = bits & ((1u << (f->bits - 1)) - 1);
  if (magnitude >= f->special) return float_of(sign | (magnitude == f->infinity ? 0x7f800000u : 0x7fc00000u));
  if (f->bias == 127) return float_of(sign | magnitude << (23 - f->mantissa));
  uint32_t exponent = magnitude >> f->mantissa;
  uint32_t fraction = magnitude & ((1u << f->mantissa) - 1);
  if (magnitude == 0) return float_of(sign);
  if (exponent == 0) {
    /* A subnormal: shift its leading one to the implicit place. */
    int shift = __builtin_clz(fraction) - (31 - f->mantissa);
    fraction = (fraction << shift) & ((1u << f->mantissa) - 1);
    exponent = 1u - (uint32_t)shift;
  }
  return float_of(sign | ((exponent + 127u - (uint32_t)f->bias) << 23) | fraction << (23 - f->mantissa));
}

static inline uint32_t encode(const struct format* f, float value) {
  uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffffu;
  uint32_t sign = bits >> 31 << (f->bits - 1);
  if (magnitude > 0x7f800000u) return f->nan;
  if (magnitude == 0x7f800000u) return sign | f->infinity;
  int exponent = (int)(magnitude >> 23);
  uint32_t significand = (magnitude & 0x7fffffu) | (exponent ? 0x800000u : 0);
  /* Exponent field in the new format; subnormals share the place of field 1 and lose more bits instead. */
  int field = MCI_MAX(exponent, 1) - 127 + f->bias;
  int shift = 23 - f->mantissa + (field < 1 ? 1 - field : 0);
  if (shift > 25) return sign;
  uint32_t rest = significand & ((1u << shift) - 1), tie = 1u << (shift - 1);
  uint32_t kept = significand >> shift;
  kept += rest > tie || (rest == tie && (kept & 1));
  /* The implicit one of a normal number adds the last unit to the exponent field, a carry of the rounding another. */
  uint32_t result = field < 1 ? kept : kept + ((uint32_t)(field - 1) << f->mantissa);
  return sign | MCI_MIN(result, f->largest);
}

float mci_half_to_float(uint16_t bits) { return decode(&half, bits); }
uint16_t mci_float_to_half(float value) { return (uint16_t)encode(&half, value); }
float mci_bfloat16_to_float(uint16_t bits) { return decode(&bfloat16, bits); }
uint16_t mci_float_to_bfloat16(float value) { return (uint16_t)encode(&bfloat16, value); }
float mci_f8e4m3_to_float(uint8_t bits) { return decode(&f8e4m3, bits); }
uint8_t mci_float_to_f8e4m3(float value) { return (uint8_t)encode(&f8e4m3, value); }
float mci_f8e5m2_to_float(uint8_t bits) { return decode(&f8e5m2, bits); }
uint8_t mci_float_to_f8e5m2(float value) { return (uint8_t)encode(&f8e5m2, value); }
