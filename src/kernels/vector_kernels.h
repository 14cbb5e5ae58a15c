/* The kernels of one set: included once by each set_*.c, which defines VECTOR_BYTES, may define faster conversions
 * (see vector_types.h), is compiled for its processor, and puts KERNELS into its table. Each kernel keeps the running
 * results of a tile in registers while it walks the sources, so that every source is read once and every destination
 * written once. Types and operators are constants here: every switch over them disappears. */
#include <string.h>

#include "kernels/sets.h"
#include "kernels/vector_types.h"

INLINE size_t size_of(meshcclDataType_t type) {
  switch (type) {
    case meshcclInt8:
    case meshcclUint8:
    case meshcclFloat8e4m3:
    case meshcclFloat8e5m2:
      return 1;
    case meshcclFloat16:
    case meshcclBfloat16:
      return 2;
    case meshcclInt64:
    case meshcclUint64:
    case meshcclFloat64:
      return 8;
    default:
      return 4;
  }
}

/* ---- a tile's way from memory into the lanes it is summed in, and back ---- */

/* The lanes are the elements. CANONICAL leaves the one NaN. */
#define PLAIN(lanes, number, CANONICAL)                                                       \
  INLINE size_t stride_##lanes(meshcclDataType_t type) {                                      \
    (void)type;                                                                               \
    return TILE_BYTES;                                                                        \
  }                                                                                           \
  INLINE number scalar_##lanes(meshcclDataType_t type, const void* from) {                    \
    (void)type;                                                                               \
    number value;                                                                             \
    memcpy(&value, from, sizeof value);                                                       \
    return value;                                                                             \
  }                                                                                           \
  INLINE tile_##lanes load_##lanes(meshcclDataType_t type, const char* from) {                \
    (void)type;                                                                               \
    return read_##lanes(from, LANE_VECTORS);                                                  \
  }                                                                                           \
  INLINE tile_##lanes round_##lanes(meshcclDataType_t type, bool narrow, tile_##lanes tile) { \
    (void)type, (void)narrow;                                                                 \
    return tile;                                                                              \
  }                                                                                           \
  INLINE tile_u32 pack_##lanes(meshcclDataType_t type, tile_##lanes tile) {                   \
    (void)type;                                                                               \
    tile_u32 memory;                                                                          \
    EACH(j, LANE_VECTORS) memory.v[j] = (vec_u32)CANONICAL(tile.v[j]);                        \
    return memory;                                                                            \
  }
#define AS_IT_IS(x) (x)
PLAIN(u8, uint8_t, AS_IT_IS)
PLAIN(u32, uint32_t, AS_IT_IS)
PLAIN(u64, uint64_t, AS_IT_IS)
PLAIN(f64, double, CANONICAL_F64)

/* Float, and all narrower floats, are summed in float lanes. */
INLINE size_t stride_f32(meshcclDataType_t type) { return size_of(type) * VECTOR_BYTES; }

INLINE float scalar_f32(meshcclDataType_t type, const void* from) { return mci_element_to_float(type, from); }

INLINE tile_f32 load_f32(meshcclDataType_t type, const char* from) {
  switch (type) {
    case meshcclFloat16:
      return read_half(from);
    case meshcclBfloat16:
      return read_bfloat16(from);
    case meshcclFloat8e4m3:
      return read_byte(FORMAT_F8E4M3, from);
    case meshcclFloat8e5m2:
      return read_byte(FORMAT_F8E5M2, from);
    default:
      return read_f32(from, LANE_VECTORS);
  }
}

INLINE tile_u32 pack_f32(meshcclDataType_t type, tile_f32 tile) {
  tile_u32 memory;
  switch (type) {
    case meshcclFloat16:
      return pack_half(tile);
    case meshcclBfloat16:
      return pack_bfloat16(tile);
    case meshcclFloat8e4m3:
      return pack_byte(FORMAT_F8E4M3, tile);
    case meshcclFloat8e5m2:
      return pack_byte(FORMAT_F8E5M2, tile);
    default:
      tile = with_one_nan(tile);
      EACH(j, LANE_VECTORS) memory.v[j] = (vec_u32)tile.v[j];
      return memory;
  }
}

INLINE tile_f32 round_f32(meshcclDataType_t type, bool narrow, tile_f32 tile) {
  if (!narrow || type == meshcclFloat32) return tile;
  char memory[TILE_BYTES];
  write_u32(memory, pack_f32(type, tile), LANE_VECTORS);
  return load_f32(type, memory);
}

/* ---- a vector's tile: the last one may be short, so it goes through a whole one on the stack ---- */

INLINE const char* tile_of(const void* vector, size_t at, size_t left, size_t stride, char* room) {
  const char* from = (const char*)vector + at;
  if (MCI_LIKELY(left >= stride)) return from;
  READ_PART(room, from, left);
  return room;
}

INLINE void store_part(const meshcclFold_t* fold, size_t at, size_t left, tile_u32 memory, char* room) {
  write_u32(room, memory, LANE_VECTORS);
  for (int k = 0; k < fold->ndestinations; k++) WRITE_PART((char*)fold->destinations[k] + at, room, left);
}

INLINE void store_whole(const meshcclFold_t* fold, size_t at, tile_u32 memory, size_t stride) {
  const int vectors = (int)(stride / VECTOR_BYTES);
  for (int k = 0; k < fold->ndestinations; k++) {
    char* to = (char*)fold->destinations[k] + at;
    if (MCI_UNLIKELY(fold->streamed >> k & 1)) {
      EACH(j, vectors) STREAM(to + j * VECTOR_BYTES, memory.v[j]);
    } else {
      write_u32(to, memory, vectors);
    }
  }
}

INLINE void store(const meshcclFold_t* fold, size_t at, size_t left, tile_u32 memory, size_t stride, char* room) {
  if (MCI_LIKELY(left >= stride)) {
    store_whole(fold, at, memory, stride);
  } else {
    store_part(fold, at, left, memory, room);
  }
}

/* ---- averages ---- a divisor in the form that its lanes divide by, and the division, which truncates toward zero */

typedef struct {
  uint32_t times;    /* 8 bits */
  double inverse;    /* 32 bits */
  uint64_t high, by; /* 64 bits */
} divisor;

INLINE divisor divisor_of(uint32_t by) {
  const divisor none = {0};
  if (by == 0) return none;
  /* 65536 / by, rounded up: what it is too large by is less than `by`, and an element's 255 times that is less than one
   * of 65536 unless the quotient is 0 anyway.
   * 1 / by, rounded up by at most three units: a multiple of `by` does not fall below its quotient, and what is not one
   * is at least 2^-32 of itself away from the next one.
   * 2^64 / by, too small by at most 1: the quotient is too small by at most 1. */
  return (divisor){(65535 + (by < 65536 ? by : 1)) / (by < 65536 ? by : 65536), 1.0 / by * (1 + 0x1p-52),
                   UINT64_MAX / by, by};
}

#define MAGNITUDE(lanes, x, sign) (((x) ^ (sign)) - (sign)) /* and back */

INLINE vec_u8 divide_u8(meshcclDataType_t type, vec_u8 x, divisor d) {
  const vec_u8 sign = type == meshcclInt8 ? (vec_u8)((vec_i8)x < 0) : (vec_u8){0};
  const vec_u32 magnitude = (vec_u32)MAGNITUDE(u8, x, sign);
  vec_u32 quotient = {0};
  EACH(k, 4) quotient |= ((magnitude >> (8 * k) & 0xffu) * d.times >> 16) << (8 * k);
  return MAGNITUDE(u8, (vec_u8)quotient, sign);
}

/* The quotient of an unsigned integer by 2 or more is a positive signed one; nobody divides by 1 here. */
INLINE vec_u32 divide_u32(meshcclDataType_t type, vec_u32 x, divisor d) {
  typedef int32_t half __attribute__((vector_size(VECTOR_BYTES / 2)));
  const uint32_t top = type == meshcclInt32 ? 0 : 0x80000000u;
  half halves[2];
  x ^= top;
  memcpy(halves, &x, sizeof x);
  EACH(k, 2) {
    vec_f64 number = __builtin_convertvector(halves[k], vec_f64);
    if (top) number += (double)top;
    halves[k] = __builtin_convertvector(number * d.inverse, half);
  }
  memcpy(&x, halves, sizeof x);
  return x;
}

INLINE vec_u64 divide_u64(meshcclDataType_t type, vec_u64 x, divisor d) {
  const vec_u64 sign = type == meshcclInt64 ? (vec_u64)((vec_i64)x < 0) : (vec_u64){0};
  uint64_t numbers[VECTOR_BYTES / 8];
  x = MAGNITUDE(u64, x, sign);
  memcpy(numbers, &x, sizeof x);
  for (size_t i = 0; i < VECTOR_BYTES / 8; i++) {
    uint64_t quotient = (uint64_t)((__extension__(unsigned __int128) numbers[i] * d.high) >> 64);
    numbers[i] = quotient + (numbers[i] - quotient * d.by >= d.by);
  }
  memcpy(&x, numbers, sizeof x);
  return MAGNITUDE(u64, x, sign);
}

#define FLOAT_DIVISION(lanes, number)                                                   \
  INLINE vec_##lanes divide_##lanes(meshcclDataType_t type, vec_##lanes x, divisor d) { \
    (void)type;                                                                         \
    return x / all_##lanes((number)d.by);                                               \
  }
FLOAT_DIVISION(f32, float)
FLOAT_DIVISION(f64, double)

/* ---- sum, prod, avg ---- integers are unsigned: they wrap, whatever their sign */

/* A set may define HALF_SUM(a, b), which sums a register of halves at a and b, and HALF_NAN(a, b), true when one of two
 * such sums has a NaN. False: not done. */
INLINE bool sum_two_halves(meshcclDataType_t type, meshcclRedOp_t op, int n, const meshcclFold_t* fold, size_t at,
                           tile_u32* out) {
#ifdef HALF_SUM
  if (type != meshcclFloat16 || op != meshcclSum || n != 2) return false;
  const char *a = (const char*)fold->sources[0] + at, *b = (const char*)fold->sources[1] + at;
  EACH(j, 2) out->v[j] = (vec_u32)HALF_SUM(a + j * VECTOR_BYTES, b + j * VECTOR_BYTES);
  return MCI_LIKELY(!HALF_NAN(out->v[0], out->v[1]));
#else
  (void)type, (void)op, (void)n, (void)fold, (void)at, (void)out;
  return false;
#endif
}

/* Asks for what is needed AHEAD bytes later. Where a tile takes many instructions the processor sees too few tiles at
 * once to keep the memory busy; where results are streamed nothing lies in the near caches. Else it would cost more. */
enum { AHEAD = 1024, LINE = 64 };
INLINE void prefetch(bool wanted, const void* source, size_t at, size_t bytes) {
  if (!wanted) return;
  for (size_t i = 0; i < bytes; i += LINE) __builtin_prefetch((const char*)source + at + AHEAD + i);
}

/* plain: whole tiles of sources that enter as they are and are not rounded on the way, n of them; returns how far it
 * came. What is done often is done so. */
#define ARITHMETIC(lanes, number)                                                                                    \
  INLINE size_t plain_##lanes(const meshcclFold_t* shared, meshcclDataType_t type, meshcclRedOp_t op, int n) {       \
    const meshcclFold_t fold = *shared;                                                                              \
    const divisor by = divisor_of(op == meshcclAvg ? fold.divisor : 0);                                              \
    const size_t stride = stride_##lanes(type), bytes = fold.count * size_of(type) / stride * stride;                \
    const bool far = fold.streamed != 0 || size_of(type) < sizeof(number);                                           \
    for (size_t at = 0; at < bytes; at += stride) {                                                                  \
      tile_u32 memory;                                                                                               \
      if (sum_two_halves(type, op, n, &fold, at, &memory)) {                                                         \
        prefetch(fold.streamed != 0, fold.sources[0], at, stride);                                                   \
        prefetch(fold.streamed != 0, fold.sources[1], at, stride);                                                   \
        store_whole(&fold, at, memory, stride);                                                                      \
        continue;                                                                                                    \
      }                                                                                                              \
      tile_##lanes sum = load_##lanes(type, (const char*)fold.sources[0] + at);                                      \
      prefetch(far, fold.sources[0], at, stride);                                                                    \
      for (int k = 1; k < n; k++) {                                                                                  \
        tile_##lanes x = load_##lanes(type, (const char*)fold.sources[k] + at);                                      \
        prefetch(far, fold.sources[k], at, stride);                                                                  \
        EACH(j, LANE_VECTORS) sum.v[j] += x.v[j];                                                                    \
      }                                                                                                              \
      if (op == meshcclAvg) EACH(j, LANE_VECTORS) sum.v[j] = divide_##lanes(type, sum.v[j], by);                     \
      store_whole(&fold, at, pack_##lanes(type, sum), stride);                                                       \
    }                                                                                                                \
    return bytes;                                                                                                    \
  }                                                                                                                  \
  INLINE tile_##lanes source_##lanes(const meshcclFold_t* fold, meshcclDataType_t type, bool narrow,                 \
                                     vec_##lanes scale, int k, const char* from) {                                   \
    tile_##lanes tile = load_##lanes(type, from);                                                                    \
    if (MCI_LIKELY(!(fold->scaled >> k & 1))) return tile;                                                           \
    EACH(j, LANE_VECTORS) tile.v[j] *= scale;                                                                        \
    return round_##lanes(type, narrow, tile);                                                                        \
  }                                                                                                                  \
  INLINE void fold_##lanes(const meshcclFold_t* shared, meshcclDataType_t type, meshcclRedOp_t op) {                 \
    const meshcclFold_t fold = *shared;                                                                              \
    const vec_##lanes scale = all_##lanes(fold.scaled ? scalar_##lanes(type, fold.scale) : (number)1);               \
    const divisor by = divisor_of(op == meshcclAvg ? fold.divisor : 0);                                              \
    const bool narrow = size_of(type) < sizeof(number) && !(fold.flags & MESHCCL_FOLD_WIDE);                         \
    const size_t bytes = fold.count * size_of(type), stride = stride_##lanes(type);                                  \
    _Alignas(VECTOR_BYTES) char room[TILE_BYTES];                                                                    \
    size_t at = 0;                                                                                                   \
    if (op != meshcclProd && !fold.scaled && !narrow)                                                                \
      at = fold.nsources == 2 ? plain_##lanes(shared, type, op, 2) : plain_##lanes(shared, type, op, fold.nsources); \
    for (; at < bytes; at += stride) {                                                                               \
      const size_t left = bytes - at;                                                                                \
      const char* from = tile_of(fold.sources[0], at, left, stride, room);                                           \
      tile_##lanes sum = source_##lanes(&fold, type, narrow, scale, 0, from);                                        \
      for (int k = 1; k < fold.nsources; k++) {                                                                      \
        from = tile_of(fold.sources[k], at, left, stride, room);                                                     \
        tile_##lanes x = source_##lanes(&fold, type, narrow, scale, k, from);                                        \
        EACH(j, LANE_VECTORS) sum.v[j] = op == meshcclProd ? sum.v[j] * x.v[j] : sum.v[j] + x.v[j];                  \
        sum = round_##lanes(type, narrow, sum);                                                                      \
      }                                                                                                              \
      if (op == meshcclAvg) EACH(j, LANE_VECTORS) sum.v[j] = divide_##lanes(type, sum.v[j], by);                     \
      store(&fold, at, left, pack_##lanes(type, sum), stride, room);                                                 \
    }                                                                                                                \
    if (fold.streamed) FLUSH();                                                                                      \
  }
ARITHMETIC(u8, uint8_t)
ARITHMETIC(u32, uint32_t)
ARITHMETIC(u64, uint64_t)
ARITHMETIC(f32, float)
ARITHMETIC(f64, double)

/* ---- max, min ---- on the elements as they lie in memory, made signed integers of the same order
 * Unsigned integers flip their top bit; negative floats flip their magnitude bits; done again, this gives the element
 * back. NaNs lie beyond the infinities, so floats keep track of both ends: one of them beyond its infinity is a NaN. */

typedef enum { SIGNED, UNSIGNED, FLOATING } order;

/* largest: a float's largest magnitude that is no NaN. */
#define ORDERED(lanes, number)                                                                                         \
  INLINE vec_##lanes flip_##lanes(order kind, vec_##lanes x) {                                                         \
    const vec_##lanes top = all_##lanes((number)((uint64_t)1 << (8 * sizeof(number) - 1)));                            \
    if (kind == UNSIGNED) return x ^ top;                                                                              \
    if (kind == FLOATING) return x ^ (x >> (8 * sizeof(number) - 1) & ~top);                                           \
    return x;                                                                                                          \
  }                                                                                                                    \
  INLINE vec_##lanes element_##lanes(order kind, meshcclRedOp_t op, vec_##lanes high, vec_##lanes low, number largest, \
                                     number nan) {                                                                     \
    vec_##lanes best = flip_##lanes(kind, op == meshcclMax ? high : low);                                              \
    if (kind != FLOATING) return best;                                                                                 \
    vec_##lanes beyond = (vec_##lanes)(high > all_##lanes(largest)) | (vec_##lanes)(low < all_##lanes(~largest));      \
    return SELECT(vec_##lanes, beyond, all_##lanes(nan), best);                                                        \
  }                                                                                                                    \
  INLINE void order_##lanes(const meshcclFold_t* shared, order kind, meshcclRedOp_t op, number largest, number nan) {  \
    const meshcclFold_t fold = *shared;                                                                                \
    const size_t bytes = fold.count * sizeof(number);                                                                  \
    _Alignas(VECTOR_BYTES) char room[TILE_BYTES];                                                                      \
    for (size_t at = 0; at < bytes; at += TILE_BYTES) {                                                                \
      const size_t left = bytes - at;                                                                                  \
      const char* from = tile_of(fold.sources[0], at, left, TILE_BYTES, room);                                         \
      tile_##lanes high = read_##lanes(from, LANE_VECTORS), low;                                                       \
      EACH(j, LANE_VECTORS) low.v[j] = high.v[j] = flip_##lanes(kind, high.v[j]);                                      \
      for (int k = 1; k < fold.nsources; k++) {                                                                        \
        tile_##lanes x = read_##lanes(tile_of(fold.sources[k], at, left, TILE_BYTES, room), LANE_VECTORS);             \
        EACH(j, LANE_VECTORS) {                                                                                        \
          x.v[j] = flip_##lanes(kind, x.v[j]);                                                                         \
          if (kind == FLOATING || op == meshcclMax) high.v[j] = (vec_##lanes)MAX_##lanes(high.v[j], x.v[j]);           \
          if (kind == FLOATING || op == meshcclMin) low.v[j] = (vec_##lanes)MIN_##lanes(low.v[j], x.v[j]);             \
        }                                                                                                              \
      }                                                                                                                \
      tile_u32 memory;                                                                                                 \
      EACH(j, LANE_VECTORS)                                                                                            \
      memory.v[j] = (vec_u32)element_##lanes(kind, op, high.v[j], low.v[j], largest, nan);                             \
      store(&fold, at, left, memory, TILE_BYTES, room);                                                                \
    }                                                                                                                  \
    if (fold.streamed) FLUSH();                                                                                        \
  }
ORDERED(i8, int8_t)
ORDERED(i16, int16_t)
ORDERED(i32, int32_t)
ORDERED(i64, int64_t)

/* ---- the table ---- BFLOAT16_ONLY: for a set that differs from another in nothing else */

#define SUMS(type, lanes)                                                                              \
  static void type##_Sum(const meshcclFold_t* fold) { fold_##lanes(fold, meshccl##type, meshcclSum); } \
  static void type##_Prod(const meshcclFold_t* fold) { fold_##lanes(fold, meshccl##type, meshcclProd); }
#define AVERAGE(type, lanes) \
  static void type##_Avg(const meshcclFold_t* fold) { fold_##lanes(fold, meshccl##type, meshcclAvg); }
#define ORDERS(type, lanes, kind, largest, nan)                                                              \
  static void type##_Max(const meshcclFold_t* fold) { order_##lanes(fold, kind, meshcclMax, largest, nan); } \
  static void type##_Min(const meshcclFold_t* fold) { order_##lanes(fold, kind, meshcclMin, largest, nan); }
#define INTEGER(signed_type, unsigned_type, sums, orders) \
  SUMS(unsigned_type, sums)                               \
  AVERAGE(signed_type, sums)                              \
  AVERAGE(unsigned_type, sums)                            \
  ORDERS(signed_type, orders, SIGNED, 0, 0)               \
  ORDERS(unsigned_type, orders, UNSIGNED, 0, 0)
#define FLOAT(type, sums, orders, largest, nan) \
  SUMS(type, sums)                              \
  AVERAGE(type, sums)                           \
  ORDERS(type, orders, FLOATING, largest, nan)

#define INTEGER_ROW(type, sums) [meshccl##type] = {sums##_Sum, sums##_Prod, type##_Max, type##_Min, type##_Avg}
#define FLOAT_ROW(type) [meshccl##type] = {type##_Sum, type##_Prod, type##_Max, type##_Min, type##_Avg}
#if defined(VECTORS_OF_BFLOAT16_ONLY)
FLOAT(Bfloat16, f32, i16, 0x7f80, 0x7fc0)
#define KERNELS \
  { FLOAT_ROW(Bfloat16) }
#elif defined(VECTORS_OF_HALF_ONLY)
FLOAT(Float16, f32, i16, 0x7c00, 0x7e00)
#define KERNELS \
  { FLOAT_ROW(Float16) }
#else
INTEGER(Int8, Uint8, u8, i8)
INTEGER(Int32, Uint32, u32, i32)
INTEGER(Int64, Uint64, u64, i64)
FLOAT(Float16, f32, i16, 0x7c00, 0x7e00)
FLOAT(Float32, f32, i32, 0x7f800000, 0x7fc00000)
FLOAT(Float64, f64, i64, 0x7ff0000000000000, 0x7ff8000000000000)
FLOAT(Bfloat16, f32, i16, 0x7f80, 0x7fc0)
FLOAT(Float8e4m3, f32, i8, 0x7e, 0x7f)
FLOAT(Float8e5m2, f32, i8, 0x7c, 0x7e)
#define KERNELS                                                                                                   \
  {                                                                                                               \
    INTEGER_ROW(Int8, Uint8), INTEGER_ROW(Uint8, Uint8), INTEGER_ROW(Int32, Uint32), INTEGER_ROW(Uint32, Uint32), \
        INTEGER_ROW(Int64, Uint64), INTEGER_ROW(Uint64, Uint64), FLOAT_ROW(Float16), FLOAT_ROW(Float32),          \
        FLOAT_ROW(Float64), FLOAT_ROW(Bfloat16), FLOAT_ROW(Float8e4m3), FLOAT_ROW(Float8e5m2)                     \
  }
#endif
