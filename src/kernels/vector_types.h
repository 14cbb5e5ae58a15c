/* Part of vector_kernels.h: lanes, tiles and the conversions of narrow floats, in GCC's vector extensions.
 * VECTOR_BYTES is the width of the processor's registers. A tile is four registers that advance together.
 *
 * Narrow floats are widened within their 32-bit lane: two halves or four bytes of a lane become two or four float
 * registers, so that no lane ever crosses. Arithmetic does not care about the order of elements, as long as all
 * sources and the result have the same. */
#define INLINE static inline __attribute__((always_inline))
#define EACH(index, count) _Pragma("GCC unroll 4") for (int index = 0; index < (count); index++)

enum { LANE_VECTORS = 4, TILE_BYTES = LANE_VECTORS * VECTOR_BYTES };

#define LANES(name, type)                                                       \
  typedef type vec_##name __attribute__((vector_size(VECTOR_BYTES)));           \
  typedef struct {                                                              \
    vec_##name v[LANE_VECTORS];                                                 \
  } tile_##name;                                                                \
  /* Subtracted from, because -0 + 0 would lose the sign. */                    \
  INLINE vec_##name all_##name(type x) { return x - (vec_##name){0}; }          \
  INLINE tile_##name read_##name(const char* from, int vectors) {               \
    tile_##name tile = {0};                                                     \
    EACH(j, vectors) memcpy(&tile.v[j], from + j * VECTOR_BYTES, VECTOR_BYTES); \
    return tile;                                                                \
  }                                                                             \
  INLINE void write_##name(char* to, tile_##name tile, int vectors) {           \
    EACH(j, vectors) memcpy(to + j * VECTOR_BYTES, &tile.v[j], VECTOR_BYTES);   \
  }
LANES(i8, int8_t)
LANES(i16, int16_t)
LANES(i32, int32_t)
LANES(i64, int64_t)
LANES(u8, uint8_t)
LANES(u32, uint32_t)
LANES(u64, uint64_t)
LANES(f32, float)
LANES(f64, double)

/* mask ? yes : no, for masks of all ones or all zeros per lane. */
#define SELECT(type, mask, yes, no) ((type)(((vec_u64)(yes) & (vec_u64)(mask)) | ((vec_u64)(no) & ~(vec_u64)(mask))))

/* The larger and the smaller of each lane, where the set has no instruction for it. */
#ifndef MAX_i8
#define MAX_i8(a, b) SELECT(vec_i8, (a) > (b), a, b)
#define MIN_i8(a, b) SELECT(vec_i8, (a) < (b), a, b)
#endif
#ifndef MAX_i16
#define MAX_i16(a, b) SELECT(vec_i16, (a) > (b), a, b)
#define MIN_i16(a, b) SELECT(vec_i16, (a) < (b), a, b)
#endif
#ifndef MAX_i32
#define MAX_i32(a, b) SELECT(vec_i32, (a) > (b), a, b)
#define MIN_i32(a, b) SELECT(vec_i32, (a) < (b), a, b)
#endif
#ifndef MAX_i64
#define MAX_i64(a, b) SELECT(vec_i64, (a) > (b), a, b)
#define MIN_i64(a, b) SELECT(vec_i64, (a) < (b), a, b)
#endif

/* The one NaN that arithmetic gives. */
#ifndef CANONICAL_F32
#define CANONICAL_F32(x) SELECT(vec_f32, (x) == (x), x, all_u32(0x7fc00000u))
#endif
#ifndef CANONICAL_F64
#define CANONICAL_F64(x) SELECT(vec_f64, (x) == (x), x, all_u64(UINT64_C(0x7ff8000000000000)))
#endif

/* The last bytes of a vector, fewer than a tile, into the beginning of a tile of zeros and out of one. */
#ifndef READ_PART
INLINE void read_part(char* tile, const char* from, size_t bytes) {
  memset(tile, 0, TILE_BYTES);
  memcpy(tile, from, bytes);
}
#define READ_PART read_part
#define WRITE_PART memcpy
#endif

/* Stores a register past the caches, at a multiple of its size; FLUSH orders such stores before all that follow. */
#ifndef STREAM
#define STREAM(to, x) memcpy(to, &(x), VECTOR_BYTES)
#define FLUSH() ((void)0)
#endif

/* Formats of 16 or 8 bits with another exponent than float's; see convert.c for the numbers. */
typedef struct {
  int bits, mantissa, bias;
  uint32_t special, largest, infinity, nan;
} narrow_format;
#define FORMAT_HALF ((narrow_format){16, 10, 15, 0x7c00, 0x7c00, 0x7c00, 0x7e00})
#define FORMAT_F8E4M3 ((narrow_format){8, 3, 7, 0x7f, 0x7e, 0x7e, 0x7f})
#define FORMAT_F8E5M2 ((narrow_format){8, 2, 15, 0x7c, 0x7b, 0x7c, 0x7e})

/* x: one element in the low bits of each lane, the rest zero. */
INLINE vec_f32 widen(narrow_format f, vec_u32 x) {
  vec_u32 magnitude = x & ((1u << (f.bits - 1)) - 1);
  vec_u32 sign = (x ^ magnitude) << (32 - f.bits);
  vec_u32 moved = magnitude << (23 - f.mantissa);
  vec_u32 normal = moved + ((127u - (uint32_t)f.bias) << 23);
  /* A subnormal gets an implicit one that is subtracted again. */
  const uint32_t one = (128u - (uint32_t)f.bias) << 23;
  vec_u32 subnormal = (vec_u32)((vec_f32)(moved + one) - (vec_f32)(all_u32(one)));
  vec_u32 value = SELECT(vec_u32, (vec_i32)magnitude < (1 << f.mantissa), subnormal, normal);
  value |= (vec_u32)((vec_i32)magnitude >= (int32_t)f.special) & 0x7f800000u;
  return (vec_f32)(value | sign);
}

/* The nearest element, ties to even, in the low bits of each lane. */
INLINE vec_u32 narrow(narrow_format f, vec_f32 x) {
  vec_u32 bits = (vec_u32)x, magnitude = bits & 0x7fffffffu;
  vec_u32 sign = (bits ^ magnitude) >> (32 - f.bits);
  const int shift = 23 - f.mantissa;
  vec_u32 odd = magnitude >> shift & 1;
  vec_u32 normal = (magnitude + odd + ((1u << (shift - 1)) - 1) - ((127u - (uint32_t)f.bias) << 23)) >> shift;
  /* Adding a number whose last place is the smallest subnormal lets the addition round. */
  const uint32_t anchor = (127u + 24u - (uint32_t)f.bias - (uint32_t)f.mantissa) << 23;
  vec_u32 subnormal = (vec_u32)((vec_f32)magnitude + (vec_f32)(all_u32(anchor))) - anchor;
  vec_i32 size = (vec_i32)magnitude;
  vec_u32 value = SELECT(vec_u32, size < (int32_t)((128u - (uint32_t)f.bias) << 23), subnormal, normal);
  vec_u32 largest = all_u32(f.largest);
  value = SELECT(vec_u32, (vec_i32)value > (vec_i32)largest, largest, value);
  if (f.infinity != f.largest) value = SELECT(vec_u32, size == 0x7f800000, all_u32(f.infinity), value);
  return SELECT(vec_u32, size > 0x7f800000, all_u32(f.nan), value | sign);
}

/* NaNs are rare: a set may define ANY_NAN(a, b, c, d), true when one of four registers has one, and then only those
 * are made the one NaN that are there. */
INLINE tile_f32 with_one_nan(tile_f32 tile) {
#ifdef ANY_NAN
  if (MCI_LIKELY(!ANY_NAN(tile.v[0], tile.v[1], tile.v[2], tile.v[3]))) return tile;
#endif
  EACH(j, LANE_VECTORS) tile.v[j] = (vec_f32)CANONICAL_F32(tile.v[j]);
  return tile;
}

/* bfloat16 is float's upper half: rounded in place, in the upper 16 bits of the lane. */
INLINE vec_u32 round_bfloat16(vec_f32 x) {
  vec_u32 bits = (vec_u32)x;
  return bits + 0x7fffu + (bits >> 16 & 1);
}

/* A set may define HALF_WIDEN(from), which gives the floats of half a register of halves, and HALF_NARROW(low, high),
 * which rounds two registers of floats, none of them a NaN but the canonical one. */
INLINE tile_f32 read_half(const char* from) {
  tile_f32 tile;
#ifdef HALF_WIDEN
  EACH(j, LANE_VECTORS) tile.v[j] = (vec_f32)HALF_WIDEN(from + j * VECTOR_BYTES / 2);
#else
  tile_u32 memory = read_u32(from, 2);
  EACH(j, 2) {
    tile.v[2 * j] = widen(FORMAT_HALF, memory.v[j] & 0xffffu);
    tile.v[2 * j + 1] = widen(FORMAT_HALF, memory.v[j] >> 16);
  }
#endif
  return tile;
}

INLINE tile_u32 pack_half(tile_f32 tile) {
  tile_u32 memory = {0};
#ifdef HALF_NARROW
  tile = with_one_nan(tile);
  EACH(j, 2) memory.v[j] = (vec_u32)HALF_NARROW(tile.v[2 * j], tile.v[2 * j + 1]);
#else
  EACH(j, 2) memory.v[j] = narrow(FORMAT_HALF, tile.v[2 * j]) | narrow(FORMAT_HALF, tile.v[2 * j + 1]) << 16;
#endif
  return memory;
}

INLINE tile_f32 read_bfloat16(const char* from) {
  tile_u32 memory = read_u32(from, 2);
  tile_f32 tile;
  EACH(j, 2) {
    tile.v[2 * j] = (vec_f32)(memory.v[j] << 16);
    tile.v[2 * j + 1] = (vec_f32)(memory.v[j] & 0xffff0000u);
  }
  return tile;
}

/* A set may define BFLOAT16_NARROW(even, odd), which rounds two registers of floats and mixes them again, and
 * BFLOAT16_UNFIT(a, b, c, d), true when one of four registers has what this rounds otherwise. */
INLINE tile_u32 pack_bfloat16(tile_f32 tile) {
  tile_u32 memory = {0};
#ifdef BFLOAT16_NARROW
  if (MCI_LIKELY(!BFLOAT16_UNFIT(tile.v[0], tile.v[1], tile.v[2], tile.v[3]))) {
    EACH(j, 2) memory.v[j] = (vec_u32)BFLOAT16_NARROW(tile.v[2 * j], tile.v[2 * j + 1]);
    return memory;
  }
#endif
  tile = with_one_nan(tile);
  EACH(j, 2) { memory.v[j] = round_bfloat16(tile.v[2 * j]) >> 16 | (round_bfloat16(tile.v[2 * j + 1]) & 0xffff0000u); }
  return memory;
}

INLINE tile_f32 read_byte(narrow_format f, const char* from) {
  vec_u32 memory = read_u32(from, 1).v[0];
  tile_f32 tile;
  EACH(j, 4) tile.v[j] = widen(f, memory >> (8 * j) & 0xffu);
  return tile;
}

INLINE tile_u32 pack_byte(narrow_format f, tile_f32 tile) {
  tile_u32 memory = {0};
  EACH(j, 4) memory.v[0] |= narrow(f, tile.v[j]) << (8 * j);
  return memory;
}
