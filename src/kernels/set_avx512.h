/* What the sets with AVX-512 (F, BW, DQ, VL) have in common: included by them before vector_kernels.h. */
#include <immintrin.h>
#include <string.h>

#define VECTOR_BYTES 64
/* One instruction each: quiet and signalling NaNs (classes 0 and 1 of the table) take the first operand, the rest the
 * second. */
#define CANONICAL_F32(x) \
  ((vec_f32)_mm512_fixupimm_ps((__m512)all_u32(0x7fc00000u), (__m512)(x), _mm512_set1_epi32(0x11111100), 0))
#define CANONICAL_F64(x)                                                                     \
  ((vec_f64)_mm512_fixupimm_pd((__m512d)all_u64(UINT64_C(0x7ff8000000000000)), (__m512d)(x), \
                               _mm512_set1_epi64(0x11111100), 0))
#define UNORDERED(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_UNORD_Q)
#define ANY_NAN(a, b, c, d) (!_kortestz_mask16_u8(UNORDERED(a, b), UNORDERED(c, d)))
#define MAX_i8(a, b) _mm512_max_epi8((__m512i)(a), (__m512i)(b))
#define MIN_i8(a, b) _mm512_min_epi8((__m512i)(a), (__m512i)(b))
#define MAX_i16(a, b) _mm512_max_epi16((__m512i)(a), (__m512i)(b))
#define MIN_i16(a, b) _mm512_min_epi16((__m512i)(a), (__m512i)(b))
#define MAX_i32(a, b) _mm512_max_epi32((__m512i)(a), (__m512i)(b))
#define MIN_i32(a, b) _mm512_min_epi32((__m512i)(a), (__m512i)(b))
#define MAX_i64(a, b) _mm512_max_epi64((__m512i)(a), (__m512i)(b))
#define MIN_i64(a, b) _mm512_min_epi64((__m512i)(a), (__m512i)(b))
#define HALF_WIDEN(from) _mm512_cvtph_ps(_mm256_loadu_si256((const void*)(from)))
#define HALF_NARROW(low, high)                                                                          \
  _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph((__m512)(low), _MM_FROUND_TO_NEAREST_INT)), \
                     _mm512_cvtps_ph((__m512)(high), _MM_FROUND_TO_NEAREST_INT), 1)

#define STREAM(to, x) _mm512_stream_si512((void*)(to), (__m512i)(x))
#define FLUSH() _mm_sfence()

static inline __mmask64 first_bytes(size_t bytes) { return bytes >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << bytes) - 1; }

static inline void read_part(char* tile, const char* from, size_t bytes) {
  for (size_t at = 0; at < 4 * VECTOR_BYTES; at += VECTOR_BYTES) {
    size_t here = bytes > at ? bytes - at : 0;
    _mm512_storeu_si512(tile + at, _mm512_maskz_loadu_epi8(first_bytes(here), from + (here ? at : 0)));
  }
}

static inline void write_part(char* to, const char* tile, size_t bytes) {
  for (size_t at = 0; at < bytes; at += VECTOR_BYTES)
    _mm512_mask_storeu_epi8(to + at, first_bytes(bytes - at), _mm512_loadu_si512(tile + at));
}
#define READ_PART read_part
#define WRITE_PART write_part
