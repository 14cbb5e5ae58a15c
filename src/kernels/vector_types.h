/* Part of vector_kernels.h: lanes, tiles and the conversions of narrow floats, in GCC's vector extensions.
 * VECTOR_BYTES is the width of the processor's registers. A tile is four registers that advance together.
 *
 * A register of narrow floats becomes two or four of floats. Arithmetic does not care about the order of elements, as
 * long as all sources and the result have the same. */
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
LANES(u16, uint16_t)
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

/* NaNs are rare: a set defines ANY_NAN(a, b, c, d), true when one of four registers has one, and then only those are
 * made the one NaN that are there. */
INLINE tile_f32 with_one_nan(tile_f32 tile) {
  if (MCI_LIKELY(!ANY_NAN(tile.v[0], tile.v[1], tile.v[2], tile.v[3]))) return tile;
  EACH(j, LANE_VECTORS) tile.v[j] = (vec_f32)CANONICAL_F32(tile.v[j]);
  return tile;
}

/* bfloat16 is float's upper half: rounded in place, in the upper 16 bits of the lane. */
INLINE vec_u32 round_bfloat16(vec_f32 x) {
  vec_u32 bits = (vec_u32)x;
  return bits + 0x7fffu + (bits >> 16 & 1);
}

/* A set defines HALF_WIDEN(from), which gives the floats of half a register of halves, and HALF_NARROW(low, high),
 * which rounds two registers of floats, none of them a NaN but the canonical one. */
INLINE tile_f32 read_half(const char* from) {
  tile_f32 tile;
  EACH(j, LANE_VECTORS) tile.v[j] = (vec_f32)HALF_WIDEN(from + j * VECTOR_BYTES / 2);
  return tile;
}

INLINE tile_u32 pack_half(tile_f32 tile) {
  tile_u32 memory = {0};
  tile = with_one_nan(tile);
  EACH(j, 2) memory.v[j] = (vec_u32)HALF_NARROW(tile.v[2 * j], tile.v[2 * j + 1]);
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

/* The 8-bit formats go through half, whose upper byte f8e5m2 is. f8e4m3 has one more bit of mantissa; moved to where
 * half has its own, it counts from another exponent: 2^8 too small. Its NaN would be 480 there. */
typedef struct {
  int mantissa;
  int32_t least_normal, largest; /* as bits of a float */
} byte_format;
#define FORMAT_F8E4M3 ((byte_format){3, 0x3c800000, 0x43e00000})
#define FORMAT_F8E5M2 ((byte_format){2, 0x38800000, 0x47600000})
#define BIAS_F8E4M3 0x1p8f

/* f8e4m3 one place below the sign, and NaN where all of half's exponent is set: its magnitude + 1 is 128. */
INLINE tile_u16 halves_of_f8e4m3(vec_u16 memory) {
  const vec_u16 nan = (memory & 0x7f7fu) + 0x0101u, high = all_u16(0x4000u);
  const vec_u16 even = (vec_u16)((vec_i16)(memory << 8) >> 1), odd = (vec_u16)((vec_i16)memory >> 1) & 0xff80u;
  return (tile_u16){{SELECT(vec_u16, high, nan << 7, even), SELECT(vec_u16, high, nan >> 1, odd)}};
}

/* Even bytes of the register first, then odd ones: each in the upper half of its 16 bits. */
INLINE tile_f32 read_byte(byte_format f, const char* from) {
  const vec_u16 memory = (vec_u16)read_u32(from, 1).v[0];
  tile_u16 halves = {{memory << 8, memory & 0xff00u}};
  char room[TILE_BYTES / 2];
  if (f.mantissa == 3) halves = halves_of_f8e4m3(memory);
  write_u16(room, halves, 2);
  tile_f32 tile = read_half(room);
  EACH(j, LANE_VECTORS) if (f.mantissa == 3) tile.v[j] *= BIAS_F8E4M3;
  return tile;
}

/* The nearest number of the format, ties to even, the largest one when it is beyond. Adding a power of two whose last
 * place is the one wanted lets the addition round. */
INLINE vec_f32 round_byte(byte_format f, vec_f32 x) {
  const vec_i32 sign = (vec_i32)x & INT32_MIN;
  const vec_i32 size = (vec_i32)MIN_i32((vec_i32)x ^ sign, all_i32(f.largest));
  const vec_i32 exponent = (vec_i32)MAX_i32(size & 0x7f800000, all_i32(f.least_normal));
  const vec_f32 anchor = (vec_f32)(exponent + ((23 - f.mantissa) << 23));
  return (vec_f32)((vec_i32)((vec_f32)size + anchor - anchor) | sign);
}

/* NaNs and f8e5m2's infinities, which are rare. */
INLINE tile_f32 round_special_bytes(byte_format f, tile_f32 exact, tile_f32 tile) {
  EACH(j, LANE_VECTORS) {
    const vec_i32 size = (vec_i32)exact.v[j] & INT32_MAX;
    const vec_f32 special = f.mantissa == 3 ? all_f32(480) : (vec_f32)CANONICAL_F32(exact.v[j]);
    tile.v[j] = SELECT(vec_f32, size > all_i32(f.mantissa == 3 ? 0x7f800000 : 0x7f7fffff), special, tile.v[j]);
  }
  return tile;
}

INLINE bool has_special_bytes(byte_format f, tile_f32 tile) {
  if (f.mantissa == 2) EACH(j, LANE_VECTORS) tile.v[j] -= tile.v[j];
  return ANY_NAN(tile.v[0], tile.v[1], tile.v[2], tile.v[3]);
}

INLINE tile_u32 pack_byte(byte_format f, tile_f32 tile) {
  tile_u32 memory = {0};
  vec_u16 halves[2];
  const tile_f32 exact = tile;
  EACH(j, LANE_VECTORS) tile.v[j] = round_byte(f, exact.v[j]);
  if (MCI_UNLIKELY(has_special_bytes(f, exact))) tile = round_special_bytes(f, exact, tile);
  EACH(j, LANE_VECTORS) if (f.mantissa == 3) tile.v[j] *= 1 / BIAS_F8E4M3;
  EACH(j, 2) {
    halves[j] = (vec_u16)HALF_NARROW(tile.v[2 * j], tile.v[2 * j + 1]);
    if (f.mantissa == 3) halves[j] = (halves[j] & 0x8000u) | (halves[j] << 1 & 0x7f00u);
  }
  memory.v[0] = (vec_u32)(halves[0] >> 8 | halves[1]);
  return memory;
}
