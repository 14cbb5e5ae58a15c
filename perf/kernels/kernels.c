/* kernels_perf: what this processor folds, one thread, without any communication.
 *
 * A row is one fold, repeated on the same memory. `memory` is all that it touches, so that it says which cache answers.
 * GB/s counts every byte read or written once; `of copy` divides that by the same figure of a plain copy that touches
 * as much memory: a fold at the memory rate has 1 or more, since a copy writes a larger share. */
#define _GNU_SOURCE
#include "kernels/kernels.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { BATCHES = 7, MOST = 16, MOST_SETS = 8 };

typedef struct {
  size_t n;
  uint64_t values[MOST];
} list;

typedef struct {
  list sources, memory;
  const char *type, *op, *set;
  int destinations;
  uint32_t flags;
  uint64_t streamed;
  double seconds;
  char* area;
} options;

static const char usage[] =
    "kernels_perf [options]: rates of the reduction kernels on one thread\n"
    "  -d TYPE     a type, or all                               [float, bfloat16, half]\n"
    "  -o OP       sum, prod, max, min, avg, or all             [sum]\n"
    "  -s LIST     numbers of sources, 1 to 64                  [2,4,8]\n"
    "  -n NUMBER   destinations, 1 to 8                         [1]\n"
    "  -b LIST     memory touched, with suffixes K, M, G        [32K,1M,16M,256M]\n"
    "  -k SET      scalar, avx2, avx512, ..., or all            [what the library uses here]\n"
    "  -a 0|1      accumulate 16- and 8-bit floats in float32   [1]\n"
    "  -x NUMBER   so many of the results bypass the caches     [0]\n"
    "  -t SECONDS  per row                                      [0.05]\n";

static int fail(const char* what, const char* value) {
  fprintf(stderr, "kernels_perf: %s: %s\n%s", what, value, usage);
  return 2;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* NULL work: the plain copy of all bytes of the first source. */
static void once(const meshcclFold_t* fold) {
  if (fold->nsources > 0) {
    mci_fold(fold);
  } else {
    mci_copy(fold->destinations[0], fold->sources[0], fold->count);
  }
}

static int ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

/* The median of a few batches: seconds of one run. */
static double measure(const meshcclFold_t* fold, double seconds) {
  double times[BATCHES];
  once(fold);
  uint64_t runs = 1;
  for (;; runs *= 2) {
    double start = now();
    for (uint64_t i = 0; i < runs; i++) once(fold);
    if ((now() - start) * BATCHES * 2 >= seconds) break;
  }
  for (int batch = 0; batch < BATCHES; batch++) {
    double start = now();
    for (uint64_t i = 0; i < runs; i++) once(fold);
    times[batch] = (now() - start) / (double)runs;
  }
  qsort(times, BATCHES, sizeof times[0], ascending);
  return times[BATCHES / 2];
}

/* Vectors follow each other, a line apart, as if from one allocator: not all at the same place in a page. */
static void place(char* area, size_t bytes, void** vectors, int n) {
  for (int k = 0; k < n; k++) vectors[k] = area + (size_t)k * ((bytes + 63) / 64 * 64 + 192);
}

static double copy_rate(const options* o, uint64_t memory) {
  void* vectors[2];
  place(o->area, memory / 2, vectors, 2);
  const void* source = vectors[0];
  meshcclFold_t copy = {.sources = &source, .destinations = &vectors[1], .count = memory / 2};
  return (double)memory / measure(&copy, o->seconds) / 1e9;
}

static void row(const options* o, meshcclDataType_t type, meshcclRedOp_t op, int nsources, uint64_t memory,
                double copy) {
  void* vectors[MESHCCL_MAX_FOLD_SOURCES + MESHCCL_MAX_FOLD_DESTINATIONS];
  const void* sources[MESHCCL_MAX_FOLD_SOURCES];
  int n = nsources + o->destinations;
  size_t size = mci_type_size(type), count = memory / (size_t)n / size;
  place(o->area, count * size, vectors, n);
  for (int k = 0; k < nsources; k++) sources[k] = vectors[k];
  meshcclFold_t fold = {.sources = sources,
                        .destinations = vectors + nsources,
                        .nsources = nsources,
                        .ndestinations = o->destinations,
                        .count = count,
                        .type = type,
                        .op = op,
                        .flags = o->flags | MESHCCL_FOLD_FINISH,
                        .divisor = (uint32_t)nsources,
                        .streamed = o->streamed};
  double seconds = measure(&fold, o->seconds);
  double rate = (double)(count * size * (size_t)n) / seconds / 1e9;
  printf("%-8s %-9s %-5s %7d %7d %10llu %9.3f %9.2f %9.2f\n", mci_kernels_in_use(), mci_type_name(type),
         mci_op_name(op), nsources, o->destinations, (unsigned long long)memory, rate, (double)count / seconds / 1e9,
         rate / copy);
  fflush(stdout);
}

static bool wanted_type(const options* o, meshcclDataType_t type) {
  if (!o->type) return type == meshcclFloat32 || type == meshcclBfloat16 || type == meshcclFloat16;
  return strcmp(o->type, "all") == 0 || strcmp(o->type, mci_type_name(type)) == 0;
}

static bool wanted_op(const options* o, meshcclRedOp_t op) {
  return strcmp(o->op, "all") == 0 || strcmp(o->op, mci_op_name(op)) == 0;
}

static void rows_of_set(const options* o) {
  for (size_t m = 0; m < o->memory.n; m++) {
    uint64_t memory = o->memory.values[m];
    double copy = copy_rate(o, memory);
    printf("# a copy of %llu bytes in all: %.2f GB/s\n", (unsigned long long)memory, copy);
    for (size_t s = 0; s < o->sources.n; s++)
      for (int op = 0; op < meshcclNumOps; op++)
        for (int type = 0; type < meshcclNumTypes; type++)
          if (wanted_type(o, (meshcclDataType_t)type) && wanted_op(o, (meshcclRedOp_t)op))
            row(o, (meshcclDataType_t)type, (meshcclRedOp_t)op, (int)o->sources.values[s], memory, copy);
  }
}

static bool parse_list(const char* text, uint64_t least, uint64_t most, list* out) {
  out->n = 0;
  while (out->n < MOST) {
    char* end;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text) return false;
    static const char suffixes[] = "KMG";
    const char* suffix = *end ? strchr(suffixes, *end) : NULL;
    if (suffix) value <<= 10 * (suffix - suffixes + 1), end++;
    if (value < least || value > most) return false;
    out->values[out->n++] = value;
    if (*end == '\0') return true;
    if (*end != ',') return false;
    text = end + 1;
  }
  return false;
}

static bool known_type(const char* name) {
  meshcclDataType_t type;
  return strcmp(name, "all") == 0 || mci_type_parse(name, &type);
}

static bool known_op(const char* name) {
  bool known = strcmp(name, "all") == 0;
  for (int op = 0; op < meshcclNumOps; op++) known |= strcmp(name, mci_op_name((meshcclRedOp_t)op)) == 0;
  return known;
}

static int parse(int argc, char** argv, options* o) {
  list one;
  int c;
  while ((c = getopt(argc, argv, "d:o:s:n:b:k:a:x:t:h")) != -1) {
    bool good = c != '?';
    if (c == 'h') return fputs(usage, stdout), -1;
    if (c == 'd') good = known_type(o->type = optarg);
    if (c == 'o') good = known_op(o->op = optarg);
    if (c == 's') good = parse_list(optarg, 1, MESHCCL_MAX_FOLD_SOURCES, &o->sources);
    if (c == 'n' && (good = parse_list(optarg, 1, MESHCCL_MAX_FOLD_DESTINATIONS, &one)))
      o->destinations = (int)one.values[0];
    if (c == 'b') good = parse_list(optarg, 64, UINT64_C(1) << 40, &o->memory);
    if (c == 'k') o->set = optarg;
    if (c == 'a' && (good = parse_list(optarg, 0, 1, &one))) o->flags = one.values[0] ? MESHCCL_FOLD_WIDE : 0;
    if (c == 'x' && (good = parse_list(optarg, 0, MESHCCL_MAX_FOLD_DESTINATIONS, &one)))
      o->streamed = (UINT64_C(1) << one.values[0]) - 1;
    if (c == 't') good = (o->seconds = atof(optarg)) > 0;
    if (!good) return fail("not understood", optarg ? optarg : argv[optind - 1]);
  }
  return optind < argc ? fail("not understood", argv[optind]) : 0;
}

/* All positive and near one: no NaN and no overflow, whatever the type and the operator. */
static meshcclResult_t make_area(options* o) {
  size_t bytes = 0;
  for (size_t m = 0; m < o->memory.n; m++) bytes = MCI_MAX(bytes, (size_t)o->memory.values[m]);
  bytes += (MESHCCL_MAX_FOLD_SOURCES + MESHCCL_MAX_FOLD_DESTINATIONS) * 256;
  o->area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (o->area == MAP_FAILED) MCI_FAIL(meshcclSystemError, "no memory of %zu bytes: give -b smaller sizes", bytes);
  madvise(o->area, bytes, MADV_HUGEPAGE);
  memset(o->area, 0x3c, bytes);
  return meshcclSuccess;
}

int main(int argc, char** argv) {
  options o = {.op = "sum", .destinations = 1, .flags = MESHCCL_FOLD_WIDE, .seconds = 0.05};
  parse_list("2,4,8", 1, 64, &o.sources);
  parse_list("32K,1M,16M,256M", 1, UINT64_MAX, &o.memory);
  int bad = parse(argc, argv, &o);
  if (bad) return bad < 0 ? 0 : bad;
  if (make_area(&o) != meshcclSuccess) return 1;
  const char* sets[MOST_SETS];
  uint32_t nsets = mci_kernels_available(sets, MOST_SETS);
  bool all = o.set && strcmp(o.set, "all") == 0;
  printf("%-8s %-9s %-5s %7s %7s %10s %9s %9s %9s\n", "set", "type", "op", "sources", "results", "memory", "GB/s",
         "Gelem/s", "of copy");
  for (uint32_t i = 0; i < (all ? nsets : 1); i++) {
    const char* set = all ? sets[i] : o.set;
    if (set && mci_kernels_force(set) != meshcclSuccess) return 2;
    rows_of_set(&o);
  }
  return 0;
}
