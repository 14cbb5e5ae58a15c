/* kernels: what an accumulation in float32 is worth. Sums of 16- and 8-bit floats are compared with sums in double: wide
 * ones are as near as the type allows (half a unit of the result, and the additions in float32), narrow ones lose with
 * each source. Errors are printed in units of the format's half unit, relative to the exact sum. */
#include <math.h>

#include "kernels/kernels.h"
#include "support/test.h"

enum { COUNT = 20000, MOST_SOURCES = 64 };

static const struct format {
  meshcclDataType_t type;
  int mantissa;
} formats[] = {{meshcclFloat16, 10}, {meshcclBfloat16, 7}, {meshcclFloat8e4m3, 3}, {meshcclFloat8e5m2, 2}};

static float read(meshcclDataType_t type, const uint8_t* at) {
  uint16_t word;
  memcpy(&word, at, sizeof word);
  if (type == meshcclFloat16) return mci_half_to_float(word);
  if (type == meshcclBfloat16) return mci_bfloat16_to_float(word);
  return type == meshcclFloat8e4m3 ? mci_f8e4m3_to_float(*at) : mci_f8e5m2_to_float(*at);
}

static void write(meshcclDataType_t type, uint8_t* to, float value) {
  uint16_t word = type == meshcclFloat16 ? mci_float_to_half(value) : mci_float_to_bfloat16(value);
  uint8_t byte = type == meshcclFloat8e4m3 ? mci_float_to_f8e4m3(value) : mci_float_to_f8e5m2(value);
  if (mci_type_size(type) == 2) {
    memcpy(to, &word, sizeof word);
  } else {
    *to = byte;
  }
}

/* The largest error of a sum of n numbers between 1 and 2, in half units; the mean square's root in *rms. */
static double error_of(const struct format* f, int n, uint32_t flags, double* rms) {
  static uint8_t in[MOST_SOURCES][2 * COUNT + 2], out[2 * COUNT + 2];
  size_t size = mci_type_size(f->type);
  uint64_t random = 1;
  const void* sources[MOST_SOURCES];
  for (int k = 0; k < n; k++) {
    sources[k] = in[k];
    for (size_t i = 0; i < COUNT; i++)
      write(f->type, in[k] + i * size, 1 + (float)(test_random(&random) >> 40) * 0x1p-24f);
  }
  void* destination = out;
  meshcclFold_t fold = {.destinations = &destination,
                        .sources = sources,
                        .ndestinations = 1,
                        .nsources = n,
                        .count = COUNT,
                        .type = f->type,
                        .op = meshcclSum,
                        .flags = flags};
  mci_fold(&fold);
  double worst = 0, squares = 0, half_unit = ldexp(1, -f->mantissa - 1);
  for (size_t i = 0; i < COUNT; i++) {
    double exact = 0;
    for (int k = 0; k < n; k++) exact += (double)read(f->type, in[k] + i * size);
    double error = fabs((double)read(f->type, out + i * size) - exact) / exact / half_unit;
    worst = fmax(worst, error);
    squares += error * error;
  }
  *rms = sqrt(squares / COUNT);
  return worst;
}

static void a_wide_sum_is_rounded_once(void** state) {
  (void)state;
  static const int numbers[] = {2, 4, 8, 16, 64};
  for (size_t i = 0; i < MCI_COUNT(formats); i++) {
    for (size_t j = 0; j < MCI_COUNT(numbers); j++) {
      double wide_rms, narrow_rms;
      double wide = error_of(&formats[i], numbers[j], MESHCCL_FOLD_WIDE, &wide_rms);
      double narrow = error_of(&formats[i], numbers[j], 0, &narrow_rms);
      print_message("%-8s %2d sources: wide %.2f (rms %.2f), narrow %.2f (rms %.2f) half units\n",
                    mci_type_name(formats[i].type), numbers[j], wide, wide_rms, narrow, narrow_rms);
      assert_true(wide <= 1.01);
      assert_true(narrow >= wide);
      if (numbers[j] >= 8) assert_true(narrow > 2 * wide);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_wide_sum_is_rounded_once)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
