/* kernels: what a fold means (small tables with hand-made results), and that every set of this processor gives the
 * portable reference's bits for random bit patterns of all types, operators, flags, counts and misalignments. */
#include <math.h>

#include "base/globals.h"
#include "kernels/kernels.h"
#include "support/test.h"

enum { MAX_SOURCES = 5, MAX_BYTES = 4096, GUARD = 64 };

static void print_fold(const char* set, const meshcclFold_t* fold, size_t shift) {
  print_message("set %s: %s %s, %d sources, %d destinations, count %zu, flags %u, divisor %u, scaled %llx, shift %zu\n",
                set, mci_type_name(fold->type), mci_op_name(fold->op), fold->nsources, fold->ndestinations, fold->count,
                fold->flags, fold->divisor, (unsigned long long)fold->scaled, shift);
}

/* Patterns where floats are interesting: zeros, ones, infinities, NaNs, subnormals and numbers of similar size. */
static void fill(uint8_t* to, size_t bytes, size_t size, uint64_t* random) {
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t word = test_random(random);
    memcpy(to + i, &word, MCI_MIN(bytes - i, (size_t)8));
  }
  for (size_t i = 0; i + size <= bytes; i += size) {
    uint64_t choice = test_random(random);
    uint8_t* top = to + i + size - 1;
    if (choice % 8 == 0) memset(to + i, 0, size - 1);
    if (choice % 8 == 1) memset(to + i, 0xff, size - 1);
    if (choice / 8 % 8 == 0) *top &= 0x80;               /* zeros and subnormals */
    if (choice / 8 % 8 == 1) *top |= 0x7f;               /* infinities and NaNs */
    if (choice / 8 % 8 < 6) *top = (*top & 0x83) | 0x3c; /* close exponents: rounding and cancellation */
    if (choice / 8 % 8 == 6 && size > 1) top[-1] |= 0x80;
  }
}

struct buffers {
  uint8_t sources[MAX_SOURCES][MAX_BYTES + GUARD];
  uint8_t wanted[MAX_BYTES + GUARD], got[3][MAX_BYTES + GUARD];
};

/* Runs one fold with the reference and with the set in use; in place when the first destination is a source. */
static void compare(const char* set, struct buffers* b, meshcclFold_t fold, size_t shift, int in_place) {
  size_t bytes = fold.count * mci_type_size(fold.type);
  const void* sources[MAX_SOURCES];
  for (int k = 0; k < fold.nsources; k++) sources[k] = b->sources[k] + (shift * (size_t)(k + 1)) % 33;
  void* wanted = b->wanted + shift;
  fold.sources = sources;
  fold.destinations = &wanted;
  int ndestinations = fold.ndestinations;
  fold.ndestinations = 1;
  memset(b->wanted, 0xa5, sizeof b->wanted);
  mci_fold_reference(&fold);

  void* destinations[3];
  for (int k = 0; k < 3; k++) {
    destinations[k] = b->got[k] + shift;
    memset(b->got[k], 0xa5, sizeof b->got[k]);
  }
  fold.ndestinations = ndestinations;
  fold.destinations = destinations;
  if (in_place >= 0) {
    memcpy(destinations[0], sources[in_place], bytes);
    sources[in_place] = destinations[0];
  }
  mci_fold(&fold);
  for (int k = 0; k < 3; k++) {
    if (k >= ndestinations) memset(b->wanted, 0xa5, sizeof b->wanted);
    for (size_t i = 0; i < sizeof b->wanted; i++) {
      if (b->got[k][i] == b->wanted[i]) continue;
      print_fold(set, &fold, shift);
      fail_msg("destination %d, byte %td: got %02x, expected %02x", k, (ptrdiff_t)(i - shift), b->got[k][i],
               b->wanted[i]);
    }
  }
}

static void random_folds(const char* set, struct buffers* b, uint64_t* random) {
  static const uint32_t divisors[] = {1, 2, 3, 7, 200, 16777217, 4294967295u};
  for (int round = 0; round < 12; round++) {
    for (unsigned which = 0; which < meshcclNumTypes * meshcclNumOps; which++) {
      meshcclDataType_t type = (meshcclDataType_t)(which % meshcclNumTypes);
      size_t size = mci_type_size(type);
      uint64_t scale, choice = test_random(random);
      fill((uint8_t*)&scale, sizeof scale, size, random);
      int nsources = 1 + round % MAX_SOURCES;
      for (int k = 0; k < nsources; k++) fill(b->sources[k], sizeof b->sources[k], size, random);
      uint64_t scaled = choice & 1 ? (choice >> 1) & ((1u << nsources) - 1) : 0;
      size_t lanes = 64 / size, most = MAX_BYTES / size;
      size_t count =
          choice & 2 ? (choice >> 32) % most : MCI_MIN((choice >> 32) % 10 * lanes + (choice >> 40) % 3, most);
      meshcclFold_t fold = {.nsources = nsources,
                            .ndestinations = 1 + (int)((choice >> 16) % 3),
                            .count = count,
                            .type = type,
                            .op = (meshcclRedOp_t)(which / meshcclNumTypes),
                            .flags = choice >> 8 & 3,
                            .divisor = divisors[(choice >> 24) % MCI_COUNT(divisors)],
                            .scaled = scaled,
                            .scale = scaled ? &scale : NULL};
      int in_place = choice & 4 ? (int)((choice >> 20) % (unsigned)nsources) : -1;
      compare(set, b, fold, choice & 8 ? (choice >> 44) % 32 : 0, in_place);
    }
  }
}

static void every_set_gives_the_bits_of_the_reference(void** state) {
  (void)state;
  uint64_t random = test_seed();
  const char* sets[8];
  uint32_t nsets = mci_kernels_available(sets, MCI_COUNT(sets));
  struct buffers* b = calloc(1, sizeof *b);
  assert_non_null(b);
  for (uint32_t i = 0; i < nsets; i++) {
    check_ok(mci_kernels_force(sets[i]));
    assert_string_equal(mci_kernels_in_use(), sets[i]);
    random_folds(sets[i], b, &random);
  }
  check_ok(mci_kernels_force("auto"));
  free(b);
}

/* Multiples of the divisor and their neighbours, where a quotient that is a little too large or too small shows. */
static void integers_by(const char* set, meshcclDataType_t type, uint32_t divisor, uint64_t* random) {
  enum { COUNT = 600 };
  static uint64_t in[COUNT], wanted[COUNT], got[COUNT];
  size_t size = mci_type_size(type);
  for (size_t i = 0; i < COUNT; i++) {
    uint64_t any = test_random(random) >> test_random(random) % 64, x = any / divisor * divisor + i % 3 - 1;
    if (i < 256) x = i * UINT64_C(0x0101010101010101);
    memcpy((uint8_t*)in + i * size, &x, size);
  }
  const void* source = in;
  void* destination = wanted;
  meshcclFold_t fold = {.destinations = &destination,
                        .sources = &source,
                        .nsources = 1,
                        .ndestinations = 1,
                        .count = COUNT,
                        .type = type,
                        .op = meshcclAvg,
                        .flags = MESHCCL_FOLD_FINISH,
                        .divisor = divisor};
  mci_fold_reference(&fold);
  destination = got;
  mci_fold(&fold);
  if (memcmp(wanted, got, COUNT * size) != 0) fail_msg("%s: %s divided by %u", set, mci_type_name(type), divisor);
}

static void averages_of_integers_are_exact(void** state) {
  (void)state;
  static const uint32_t large[] = {65535, 65536, 65537, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff};
  uint64_t random = test_seed();
  const char* sets[8];
  uint32_t nsets = mci_kernels_available(sets, MCI_COUNT(sets));
  for (uint32_t s = 0; s < nsets; s++) {
    check_ok(mci_kernels_force(sets[s]));
    for (int type = meshcclInt8; type <= meshcclUint64; type++) {
      for (uint32_t divisor = 1; divisor <= 300; divisor++)
        integers_by(sets[s], (meshcclDataType_t)type, divisor, &random);
      for (size_t i = 0; i < MCI_COUNT(large); i++) integers_by(sets[s], (meshcclDataType_t)type, large[i], &random);
      for (int i = 0; i < 100; i++)
        integers_by(sets[s], (meshcclDataType_t)type, (uint32_t)test_random(&random) >> i % 24 | 1, &random);
    }
  }
  check_ok(mci_kernels_force("auto"));
}

/* Long vectors whose destinations may bypass the caches, at any place, beside others that do not; also plain copies. */
static void streamed_folds(const char* set, uint64_t* random) {
  enum { BYTES = 40000, ROOM = BYTES + 2 * GUARD };
  uint8_t *in[3], *out[3], *wanted = malloc(ROOM);
  for (int k = 0; k < 3; k++) {
    in[k] = malloc(ROOM), out[k] = malloc(ROOM);
    assert_true(in[k] && out[k] && wanted);
  }
  for (int type = 0; type < meshcclNumTypes; type++) {
    size_t size = mci_type_size((meshcclDataType_t)type);
    for (int round = 0; round < 8; round++) {
      uint64_t choice = test_random(random);
      size_t shift = 1 + choice % GUARD, apart = round % 2 ? 0 : choice >> 8 & 7;
      const void* sources[3];
      void* destinations[3];
      for (int k = 0; k < 3; k++) {
        fill(in[k], ROOM, size, random);
        memset(out[k], 0xa5, ROOM);
        sources[k] = in[k] + (choice >> 16 & 31) * (unsigned)k;
        destinations[k] = out[k] + shift + apart * (unsigned)k;
      }
      meshcclFold_t fold = {.destinations = destinations,
                            .sources = sources,
                            .nsources = 1 + round % 3,
                            .ndestinations = 1 + (int)(choice >> 24) % 3,
                            .count = (BYTES - (choice >> 32 & 127)) / size,
                            .type = (meshcclDataType_t)type,
                            .op = (meshcclRedOp_t)((choice >> 40) % meshcclNumOps),
                            .flags = MESHCCL_FOLD_WIDE,
                            .streamed = choice >> 48 & 7};
      if (choice >> 56 & 1 && fold.nsources == 1) sources[0] = memcpy(out[0] + shift, sources[0], fold.count * size);
      meshcclFold_t reference = fold;
      void* to = wanted;
      reference.destinations = &to;
      reference.ndestinations = 1;
      mci_fold_reference(&reference);
      mci_fold(&fold);
      for (int k = 0; k < fold.ndestinations; k++) {
        uint8_t* at = destinations[k];
        if (memcmp(at, wanted, fold.count * size) != 0 || at[-1] + at[fold.count * size] != 2 * 0xa5) {
          print_fold(set, &fold, shift);
          fail_msg("streamed %llx: destination %d differs", (unsigned long long)fold.streamed, k);
        }
      }
    }
  }
  for (int k = 0; k < 3; k++) free(in[k]), free(out[k]);
  free(wanted);
}

static void streamed_destinations_get_the_same_bits(void** state) {
  (void)state;
  uint64_t random = test_seed();
  const char* sets[8];
  uint32_t nsets = mci_kernels_available(sets, MCI_COUNT(sets));
  for (uint32_t i = 0; i < nsets; i++) {
    check_ok(mci_kernels_force(sets[i]));
    streamed_folds(sets[i], &random);
  }
  check_ok(mci_kernels_force("auto"));
}

/* All pairs of 8-bit patterns and, with 16 bits, every pattern with chosen partners. */
static void all_pairs_of_small_floats_agree(void** state) {
  (void)state;
  static const struct {
    meshcclDataType_t type;
    size_t size;
  } rows[] = {{meshcclFloat8e4m3, 1}, {meshcclFloat8e5m2, 1}, {meshcclFloat16, 2}, {meshcclBfloat16, 2}};
  static const uint16_t partners[] = {0,      1,      0x8000, 0x8001, 0x3c00, 0x7bff, 0x7c00,
                                      0x7f7f, 0x7f80, 0x7fc1, 0xff81, 0x0080, 0x3f81};
  uint16_t* a = calloc(65536, 2);
  uint16_t *b = calloc(65536, 2), *wanted = calloc(65536, 2), *got = calloc(65536, 2);
  assert_true(a && b && wanted && got);
  const char* sets[8];
  uint32_t nsets = mci_kernels_available(sets, MCI_COUNT(sets));
  for (size_t row = 0; row < MCI_COUNT(rows); row++) {
    for (size_t p = 0; p < (rows[row].size == 1 ? 1 : MCI_COUNT(partners)); p++) {
      for (uint32_t i = 0; i < 65536; i++) {
        if (rows[row].size == 1) {
          ((uint8_t*)a)[i] = (uint8_t)i;
          ((uint8_t*)b)[i] = (uint8_t)(i >> 8);
        } else {
          a[i] = (uint16_t)i;
          b[i] = partners[p];
        }
      }
      const void* sources[] = {a, b};
      for (int op = 0; op < meshcclNumOps; op++) {
        meshcclFold_t fold = {.sources = sources,
                              .nsources = 2,
                              .ndestinations = 1,
                              .count = 65536,
                              .type = rows[row].type,
                              .op = (meshcclRedOp_t)op,
                              .flags = MESHCCL_FOLD_FINISH,
                              .divisor = 3};
        void* destination = wanted;
        fold.destinations = &destination;
        mci_fold_reference(&fold);
        destination = got;
        for (uint32_t s = 0; s < nsets; s++) {
          check_ok(mci_kernels_force(sets[s]));
          mci_fold(&fold);
          for (uint32_t i = 0; i < 65536 * rows[row].size; i++)
            if (((uint8_t*)got)[i] != ((uint8_t*)wanted)[i])
              fail_msg("%s %s %s: byte %u differs", sets[s], mci_type_name(rows[row].type), mci_op_name(fold.op), i);
        }
      }
    }
  }
  check_ok(mci_kernels_force("auto"));
  free(a), free(b), free(wanted), free(got);
}

/* ---- what a fold means ---- */

static uint64_t fold_bits(meshcclDataType_t type, meshcclRedOp_t op, uint32_t flags, uint32_t divisor, int n,
                          const uint64_t* in) {
  uint8_t elements[MAX_SOURCES][8];
  const void* sources[MAX_SOURCES];
  uint64_t out = 0;
  void* destination = &out;
  for (int k = 0; k < n; k++) sources[k] = memcpy(elements[k], &in[k], 8);
  meshcclFold_t fold = {.destinations = &destination,
                        .sources = sources,
                        .ndestinations = 1,
                        .nsources = n,
                        .count = 1,
                        .type = type,
                        .op = op,
                        .flags = flags,
                        .divisor = divisor};
  mci_fold(&fold);
  uint64_t reference = out;
  out = 0;
  mci_fold_reference(&fold);
  assert_int_equal(out, reference);
  return out;
}

static void results_made_by_hand(void** state) {
  (void)state;
  enum { W = MESHCCL_FOLD_WIDE, F = MESHCCL_FOLD_FINISH };
  static const struct {
    const char* rule;
    meshcclDataType_t type;
    meshcclRedOp_t op;
    uint32_t flags, divisor;
    int n;
    uint64_t in[4], out;
  } rows[] = {
      {"int8 sums wrap", meshcclInt8, meshcclSum, 0, 0, 2, {100, 100}, 200},
      {"int32 products wrap", meshcclInt32, meshcclProd, 0, 0, 2, {0x80000000u, 3}, 0x80000000u},
      {"int8 max is signed", meshcclInt8, meshcclMax, 0, 0, 2, {0xff, 1}, 1},
      {"uint8 max is unsigned", meshcclUint8, meshcclMax, 0, 0, 2, {0xff, 1}, 0xff},
      {"uint64 min is unsigned", meshcclUint64, meshcclMin, 0, 0, 2, {UINT64_MAX, 1}, 1},
      {"int averages truncate toward zero", meshcclInt32, meshcclAvg, F, 2, 2, {(uint32_t)-4, 1}, (uint32_t)-1},
      {"int8 averages take divisors beyond the type", meshcclInt8, meshcclAvg, F, 200, 2, {100, 20}, 0},
      {"an unfinished average is a sum", meshcclUint8, meshcclAvg, 0, 2, 3, {1, 2, 4}, 7},
      {"one source is averaged as well", meshcclUint8, meshcclAvg, F, 2, 1, {8}, 4},
      {"a copy keeps a NaN's bits", meshcclFloat32, meshcclSum, 0, 0, 1, {0xffa12345}, 0xffa12345},
      {"a sum has one NaN", meshcclFloat32, meshcclSum, 0, 0, 2, {0xffa12345, 0}, 0x7fc00000},
      {"inf - inf has the same NaN", meshcclFloat32, meshcclSum, 0, 0, 2, {0x7f800000, 0xff800000}, 0x7fc00000},
      {"max propagates a negative NaN", meshcclFloat32, meshcclMax, 0, 0, 3, {0x7f800000, 0xff800001, 0}, 0x7fc00000},
      {"min propagates a positive NaN",
       meshcclFloat64,
       meshcclMin,
       0,
       0,
       2,
       {UINT64_C(0x7ff0000000000001), 0},
       UINT64_C(0x7ff8000000000000)},
      {"max prefers +0", meshcclFloat32, meshcclMax, 0, 0, 2, {0x80000000, 0}, 0},
      {"min prefers -0", meshcclFloat32, meshcclMin, 0, 0, 2, {0, 0x80000000}, 0x80000000},
      {"max of negative halves", meshcclFloat16, meshcclMax, 0, 0, 2, {0xc000, 0xbc00}, 0xbc00},
      {"NaN of f8e4m3", meshcclFloat8e4m3, meshcclMin, 0, 0, 2, {0xff, 0x01}, 0x7f},
      {"f8e4m3 saturates", meshcclFloat8e4m3, meshcclSum, 0, 0, 2, {0x7e, 0x7e}, 0x7e},
      {"f8e5m2 saturates", meshcclFloat8e5m2, meshcclSum, 0, 0, 2, {0xfb, 0xfb}, 0xfb},
      {"infinity of f8e5m2 stays", meshcclFloat8e5m2, meshcclSum, 0, 0, 2, {0x7c, 0xfb}, 0x7c},
      {"half overflows to infinity", meshcclFloat16, meshcclSum, 0, 0, 2, {0x7bff, 0x7bff}, 0x7c00},
      /* 256 + 1 + 1 in bfloat16: 1 is half a unit of 256, ties to even lose it twice; wide keeps both. */
      {"narrow rounds each addition", meshcclBfloat16, meshcclSum, 0, 0, 3, {0x4380, 0x3f80, 0x3f80}, 0x4380},
      {"wide rounds once", meshcclBfloat16, meshcclSum, W, 0, 3, {0x4380, 0x3f80, 0x3f80}, 0x4381},
      /* (256 + 1 + 1) / 2 = 129: divided before it is rounded. */
      {"a wide average divides before it rounds",
       meshcclBfloat16,
       meshcclAvg,
       W | F,
       2,
       3,
       {0x4380, 0x3f80, 0x3f80},
       0x4301},
      {"a narrow average does not", meshcclBfloat16, meshcclAvg, F, 2, 3, {0x4380, 0x3f80, 0x3f80}, 0x4300},
      {"wide saturates only at the end", meshcclFloat8e4m3, meshcclSum, W, 0, 3, {0x7e, 0x7e, 0xfe}, 0x7e},
      {"narrow saturates on the way", meshcclFloat8e4m3, meshcclSum, 0, 0, 3, {0x7e, 0x7e, 0xfe}, 0},
      {"subnormal bfloat16 are not flushed", meshcclBfloat16, meshcclSum, 0, 0, 2, {0x0001, 0x0001}, 0x0002},
  };
  const char* sets[8];
  uint32_t nsets = mci_kernels_available(sets, MCI_COUNT(sets));
  for (uint32_t s = 0; s < nsets; s++) {
    check_ok(mci_kernels_force(sets[s]));
    for (size_t i = 0; i < MCI_COUNT(rows); i++) {
      uint64_t out = fold_bits(rows[i].type, rows[i].op, rows[i].flags, rows[i].divisor, rows[i].n, rows[i].in);
      if (out != rows[i].out) fail_msg("%s: %s: got %llx", sets[s], rows[i].rule, (unsigned long long)out);
    }
  }
  check_ok(mci_kernels_force("auto"));
}

static void scaled_sources_are_multiplied_before_they_enter(void** state) {
  (void)state;
  float a[100], b[100], out[100], scale = 3;
  int32_t ia = -7, ib = 5, iscale = 3, iout = 0;
  for (int i = 0; i < 100; i++) {
    a[i] = (float)i;
    b[i] = 1;
  }
  const void* sources[] = {a, b};
  void* destination = out;
  meshcclFold_t fold = {.destinations = &destination,
                        .sources = sources,
                        .ndestinations = 1,
                        .nsources = 2,
                        .count = 100,
                        .type = meshcclFloat32,
                        .op = meshcclSum,
                        .scaled = 1,
                        .scale = &scale};
  mci_fold(&fold);
  for (int i = 0; i < 100; i++) assert_true(out[i] == 3 * (float)i + 1);
  fold.nsources = 1;
  mci_fold(&fold);
  for (int i = 0; i < 100; i++) assert_true(out[i] == 3 * (float)i);
  scale = -0.0f;
  mci_fold(&fold);
  for (int i = 0; i < 100; i++) assert_true(out[i] == 0 && signbit(out[i]));
  const void* integers[] = {&ia, &ib};
  destination = &iout;
  fold = (meshcclFold_t){.destinations = &destination,
                         .sources = integers,
                         .ndestinations = 1,
                         .nsources = 2,
                         .count = 1,
                         .type = meshcclInt32,
                         .op = meshcclSum,
                         .scaled = 3,
                         .scale = &iscale};
  mci_fold(&fold);
  assert_int_equal(iout, -6);
}

/* Bits of a fold must not depend on which of two operands comes first: ranks of one pair fold in different order. */
static void two_operands_commute(void** state) {
  (void)state;
  uint64_t random = test_seed();
  for (int type = 0; type < meshcclNumTypes; type++) {
    size_t size = mci_type_size((meshcclDataType_t)type);
    for (int op = 0; op < meshcclNumOps; op++) {
      uint8_t a[1024], b[1024], ab[1024], ba[1024];
      fill(a, sizeof a, size, &random);
      fill(b, sizeof b, size, &random);
      const void *forth[] = {a, b}, *back[] = {b, a};
      void* destination = ab;
      meshcclFold_t fold = {.destinations = &destination,
                            .sources = forth,
                            .ndestinations = 1,
                            .nsources = 2,
                            .count = 1024 / size,
                            .type = (meshcclDataType_t)type,
                            .op = (meshcclRedOp_t)op};
      mci_fold(&fold);
      fold.sources = back;
      destination = ba;
      mci_fold(&fold);
      if (memcmp(ab, ba, sizeof ab) != 0) fail_msg("%s %s", mci_type_name(fold.type), mci_op_name(fold.op));
    }
  }
}

#if defined(__x86_64__)
#define FOREIGN_SET "neon"
#else
#define FOREIGN_SET "avx2"
#endif

/* Kernels have ways of their own for one destination. */
static void pairs_give_the_same_to_one_and_to_two(void** state) {
  (void)state;
  uint64_t random = test_seed();
  for (int type = 0; type < meshcclNumTypes; type++)
    for (int op = 0; op < meshcclNumOps; op++)
      for (size_t count = 1; count < 70; count++) {
        size_t size = mci_type_size((meshcclDataType_t)type), bytes = count * size;
        uint8_t a[70 * 8], b[70 * 8], one[70 * 8], two[2][70 * 8];
        fill(a, bytes, size, &random);
        fill(b, bytes, size, &random);
        void *alone = one, *both[] = {two[0], two[1]};
        const void* sources[] = {a, b};
        meshcclFold_t fold = {.destinations = &alone,
                              .sources = sources,
                              .ndestinations = 1,
                              .nsources = 2,
                              .count = count,
                              .type = (meshcclDataType_t)type,
                              .op = (meshcclRedOp_t)op,
                              .flags = count % 2 ? MESHCCL_FOLD_WIDE : 0};
        mci_fold(&fold);
        fold.destinations = both;
        fold.ndestinations = 2;
        mci_fold_reference(&fold);
        if (memcmp(one, two[0], bytes) != 0 || memcmp(one, two[1], bytes) != 0)
          fail_msg("%zu of type %d by operator %d differ", count, type, op);
      }
}

static void a_set_can_be_forced_and_a_missing_one_is_refused(void** state) {
  (void)state;
  check_ok(mci_kernels_force("scalar"));
  assert_string_equal(mci_kernels_in_use(), "scalar");
  check_fails(mci_kernels_force(FOREIGN_SET), meshcclNotSupported, FOREIGN_SET);
  check_fails(mci_kernels_force("abacus"), meshcclNotSupported, "abacus");
  assert_string_equal(mci_kernels_in_use(), "scalar");
  check_ok(mci_kernels_force("auto"));
  const char* names[8];
  uint32_t count = mci_kernels_available(names, MCI_COUNT(names));
  assert_string_equal(mci_kernels_in_use(), names[0]);
  assert_string_equal(names[count - 1], "scalar");
  assert_int_equal(mci_kernels_available(NULL, 0), count);
}

/* As a fresh process with this variable would choose. */
static const char* chosen_by(const char* variable) {
  setenv("MESHCCL_KERNELS", variable, 1);
  setenv("MESHCCL_DEBUG", "none", 1);
  mci_params_reload();
  atomic_store(&mci_globals.kernels, NULL);
  return mci_kernels_in_use();
}

static void the_variable_chooses_and_a_missing_set_gives_the_best(void** state) {
  (void)state;
  const char* names[8];
  uint32_t count = mci_kernels_available(names, MCI_COUNT(names));
  for (uint32_t i = 0; i < count; i++) assert_string_equal(chosen_by(names[i]), names[i]);
  assert_string_equal(chosen_by("auto"), names[0]);
  assert_string_equal(chosen_by(FOREIGN_SET), names[0]);
  unsetenv("MESHCCL_KERNELS");
  unsetenv("MESHCCL_DEBUG");
  mci_params_reload();
}

static void copies_are_exact_at_any_length(void** state) {
  (void)state;
  size_t bytes = 9 << 20;
  uint8_t *from = malloc(bytes), *to = calloc(1, bytes + 2);
  assert_true(from && to);
  uint64_t random = test_seed();
  fill(from, bytes, 8, &random);
  static const size_t lengths[] = {0, 1, 63, 64, 4097, (1 << 20) + 7, (9 << 20) - 3};
  for (size_t i = 0; i < MCI_COUNT(lengths); i++) {
    memset(to, 0, bytes + 2);
    mci_copy(to + 1, from + 3, lengths[i]);
    assert_memory_equal(to + 1, from + 3, lengths[i]);
    assert_int_equal(to[0], 0);
    assert_int_equal(to[lengths[i] + 1], 0);
  }
  free(from), free(to);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(results_made_by_hand),
      cmocka_unit_test(every_set_gives_the_bits_of_the_reference),
      cmocka_unit_test(averages_of_integers_are_exact),
      cmocka_unit_test(streamed_destinations_get_the_same_bits),
      cmocka_unit_test(all_pairs_of_small_floats_agree),
      cmocka_unit_test(scaled_sources_are_multiplied_before_they_enter),
      cmocka_unit_test(two_operands_commute),
      cmocka_unit_test(pairs_give_the_same_to_one_and_to_two),
      cmocka_unit_test(a_set_can_be_forced_and_a_missing_one_is_refused),
      cmocka_unit_test(the_variable_chooses_and_a_missing_set_gives_the_best),
      cmocka_unit_test(copies_are_exact_at_any_length),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
