/* The portable kernels: the definition of every fold, one element at a time, in plain C. All types are folded in one of
 * three families: integers as uint64_t cut to their width, double, and every other float as float. */
#include <math.h>
#include <string.h>

#include "kernels/sets.h"

#define INLINE static inline __attribute__((always_inline))

/* ---- integers ---- */

INLINE uint64_t round_integer(const meshcclFold_t* fold, meshcclDataType_t type, uint64_t value) {
  (void)fold;
  switch (type) {
    case meshcclInt8:
      return (uint64_t)(int8_t)value;
    case meshcclUint8:
      return (uint8_t)value;
    case meshcclInt32:
      return (uint64_t)(int32_t)value;
    case meshcclUint32:
      return (uint32_t)value;
    default:
      return value;
  }
}

INLINE uint64_t load_integer(meshcclDataType_t type, const void* from) {
  uint8_t byte;
  uint32_t word;
  uint64_t value;
  switch (type) {
    case meshcclInt8:
    case meshcclUint8:
      memcpy(&byte, from, sizeof byte);
      return round_integer(NULL, type, byte);
    case meshcclInt32:
    case meshcclUint32:
      memcpy(&word, from, sizeof word);
      return round_integer(NULL, type, word);
    default:
      memcpy(&value, from, sizeof value);
      return value;
  }
}

INLINE void store_integer(meshcclDataType_t type, void* to, uint64_t value) {
  uint8_t byte = (uint8_t)value;
  uint32_t word = (uint32_t)value;
  switch (type) {
    case meshcclInt8:
    case meshcclUint8:
      memcpy(to, &byte, sizeof byte);
      break;
    case meshcclInt32:
    case meshcclUint32:
      memcpy(to, &word, sizeof word);
      break;
    default:
      memcpy(to, &value, sizeof value);
  }
}

INLINE bool is_signed(meshcclDataType_t type) {
  return type == meshcclInt8 || type == meshcclInt32 || type == meshcclInt64;
}

INLINE uint64_t join_integer(meshcclDataType_t type, meshcclRedOp_t op, uint64_t a, uint64_t b) {
  bool less = is_signed(type) ? (int64_t)a < (int64_t)b : a < b;
  switch (op) {
    case meshcclProd:
      return a * b;
    case meshcclMax:
      return less ? b : a;
    case meshcclMin:
      return less ? a : b;
    default:
      return a + b;
  }
}

INLINE uint64_t divide_integer(meshcclDataType_t type, uint64_t a, uint32_t divisor) {
  return is_signed(type) ? (uint64_t)((int64_t)a / (int64_t)divisor) : a / divisor;
}

/* ---- floats ---- */

#define FLOAT_JOIN(family, real)                                                         \
  INLINE real max_##family(real a, real b) {                                             \
    if (a != a || b != b) return (real)NAN;                                              \
    if (a == b) return signbit(a) ? b : a;                                               \
    return a > b ? a : b;                                                                \
  }                                                                                      \
  INLINE real join_##family(meshcclDataType_t type, meshcclRedOp_t op, real a, real b) { \
    (void)type;                                                                          \
    switch (op) {                                                                        \
      case meshcclProd:                                                                  \
        return a * b;                                                                    \
      case meshcclMax:                                                                   \
        return max_##family(a, b);                                                       \
      case meshcclMin:                                                                   \
        return -max_##family(-a, -b);                                                    \
      default:                                                                           \
        return a + b;                                                                    \
    }                                                                                    \
  }                                                                                      \
  INLINE real divide_##family(meshcclDataType_t type, real a, uint32_t divisor) {        \
    (void)type;                                                                          \
    return a / (real)divisor;                                                            \
  }
FLOAT_JOIN(float, float)
FLOAT_JOIN(double, double)

INLINE double load_double(meshcclDataType_t type, const void* from) {
  (void)type;
  double value;
  memcpy(&value, from, sizeof value);
  return value;
}

INLINE void store_double(meshcclDataType_t type, void* to, double value) {
  (void)type;
  uint64_t bits = UINT64_C(0x7ff8000000000000);
  if (value == value) memcpy(&bits, &value, sizeof bits);
  memcpy(to, &bits, sizeof bits);
}

INLINE double round_double(const meshcclFold_t* fold, meshcclDataType_t type, double value) {
  (void)fold;
  (void)type;
  return value;
}

INLINE float load_float(meshcclDataType_t type, const void* from) {
  float value;
  uint16_t half;
  uint8_t byte;
  switch (type) {
    case meshcclFloat16:
      memcpy(&half, from, sizeof half);
      return mci_half_to_float(half);
    case meshcclBfloat16:
      memcpy(&half, from, sizeof half);
      return mci_bfloat16_to_float(half);
    case meshcclFloat8e4m3:
      memcpy(&byte, from, sizeof byte);
      return mci_f8e4m3_to_float(byte);
    case meshcclFloat8e5m2:
      memcpy(&byte, from, sizeof byte);
      return mci_f8e5m2_to_float(byte);
    default:
      memcpy(&value, from, sizeof value);
      return value;
  }
}

INLINE void store_float(meshcclDataType_t type, void* to, float value) {
  uint32_t bits = 0x7fc00000u;
  uint16_t half;
  uint8_t byte;
  switch (type) {
    case meshcclFloat16:
    case meshcclBfloat16:
      half = type == meshcclFloat16 ? mci_float_to_half(value) : mci_float_to_bfloat16(value);
      memcpy(to, &half, sizeof half);
      break;
    case meshcclFloat8e4m3:
    case meshcclFloat8e5m2:
      byte = type == meshcclFloat8e4m3 ? mci_float_to_f8e4m3(value) : mci_float_to_f8e5m2(value);
      memcpy(to, &byte, sizeof byte);
      break;
    default:
      if (value == value) memcpy(&bits, &value, sizeof bits);
      memcpy(to, &bits, sizeof bits);
  }
}

/* Rounds an intermediate result to the type, unless the fold is wide. */
INLINE float round_float(const meshcclFold_t* fold, meshcclDataType_t type, float value) {
  if (type == meshcclFloat32 || (fold->flags & MESHCCL_FOLD_WIDE)) return value;
  char element[sizeof value];
  store_float(type, element, value);
  return load_float(type, element);
}

float mci_element_to_float(meshcclDataType_t type, const void* element) { return load_float(type, element); }

/* ---- the fold ---- */

/* pair: two sources and one destination, all as they are. What is done often is done so. */
#define FAMILY(family, number)                                                                                    \
  INLINE void pair_##family(const meshcclFold_t* fold, meshcclDataType_t type, size_t size, meshcclRedOp_t op) {  \
    const char *a = fold->sources[0], *b = fold->sources[1];                                                      \
    char* to = fold->destinations[0];                                                                             \
    for (size_t at = 0, end = fold->count * size; at < end; at += size) {                                         \
      number sum = join_##family(type, op, load_##family(type, a + at), load_##family(type, b + at));             \
      store_##family(type, to + at, round_##family(fold, type, sum));                                             \
    }                                                                                                             \
  }                                                                                                               \
  INLINE void fold_##family(const meshcclFold_t* fold, meshcclDataType_t type, size_t size, meshcclRedOp_t op) {  \
    if (fold->nsources == 2 && fold->ndestinations == 1 && !fold->scaled && op != meshcclAvg) {                   \
      pair_##family(fold, type, size, op);                                                                        \
      return;                                                                                                     \
    }                                                                                                             \
    const number scale = fold->scaled ? load_##family(type, fold->scale) : 0;                                     \
    for (size_t at = 0; at < fold->count * size; at += size) {                                                    \
      number sum = 0;                                                                                             \
      for (int k = 0; k < fold->nsources; k++) {                                                                  \
        number x = load_##family(type, (const char*)fold->sources[k] + at);                                       \
        if (fold->scaled >> k & 1) x = round_##family(fold, type, x * scale);                                     \
        sum = k == 0 ? x : round_##family(fold, type, join_##family(type, op, sum, x));                           \
      }                                                                                                           \
      if (op == meshcclAvg && mci_fold_divides(fold)) sum = divide_##family(type, sum, fold->divisor);            \
      for (int k = 0; k < fold->ndestinations; k++) store_##family(type, (char*)fold->destinations[k] + at, sum); \
    }                                                                                                             \
  }
FAMILY(integer, uint64_t)
FAMILY(float, float)
FAMILY(double, double)

#define FOLD(family, type, size, op) \
  static void type##_##op(const meshcclFold_t* fold) { fold_##family(fold, meshccl##type, size, meshccl##op); }
#define FOLDS(family, type, size) \
  FOLD(family, type, size, Sum)   \
  FOLD(family, type, size, Prod)  \
  FOLD(family, type, size, Max)   \
  FOLD(family, type, size, Min)   \
  FOLD(family, type, size, Avg)
FOLDS(integer, Int8, 1)
FOLDS(integer, Uint8, 1)
FOLDS(integer, Int32, 4)
FOLDS(integer, Uint32, 4)
FOLDS(integer, Int64, 8)
FOLDS(integer, Uint64, 8)
FOLDS(float, Float16, 2)
FOLDS(float, Float32, 4)
FOLDS(double, Float64, 8)
FOLDS(float, Bfloat16, 2)
FOLDS(float, Float8e4m3, 1)
FOLDS(float, Float8e5m2, 1)

static bool everywhere(void) { return true; }

#define ROW(type) [meshccl##type] = {type##_Sum, type##_Prod, type##_Max, type##_Min, type##_Avg}
const mci_kernel_set mci_kernels_scalar = {
    .name = "scalar",
    .runs_here = everywhere,
    .kernels = {ROW(Int8), ROW(Uint8), ROW(Int32), ROW(Uint32), ROW(Int64), ROW(Uint64), ROW(Float16), ROW(Float32),
                ROW(Float64), ROW(Bfloat16), ROW(Float8e4m3), ROW(Float8e5m2)},
};
