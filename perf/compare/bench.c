#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <getopt.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST_CALLS = 4000, FEWEST_CALLS = 5, FEWEST_SLOW_CALLS = 3, WARM_CALLS = 3, VALUES = 61 };

static const char* const op_names[BENCH_NUM_OPS] = {"all_reduce",     "all_reduce_in_place", "all_gather",
                                                    "reduce_scatter", "broadcast",           "all_to_all"};

/* Ranks meet, and whoever waits for more than a few microseconds sleeps: libraries have threads that need processors.
 */
typedef struct {
  _Alignas(64) atomic_uint waiting;
  _Alignas(64) atomic_uint turn;
} place;

/* The file of --meet. */
typedef struct {
  place gather; /* sleeping: everybody has come */
  place start;  /* not sleeping: everybody leaves at once */
  _Alignas(64) atomic_int go_on;
  _Alignas(64) atomic_long wrong;
  struct {
    _Alignas(64) double seconds;
  } ranks[BENCH_MAX_RANKS];
} meeting;

_Static_assert(sizeof(meeting) <= BENCH_MEET_BYTES, "the file of --meet is too small");

typedef struct {
  const bench_library* library;
  const char *name, *ops, *meet_file, *points;
  size_t min, max, factor;
  double seconds, budget; /* for a point, for all */
  int round, rank, np;
  bool crowded; /* more ranks than processors */
  bool fresh;   /* --fresh */
  meeting* meet;
  float *in, *out;
} bench;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void pass(const bench* b, place* p, unsigned spins, bool sleeps) {
  unsigned turn = atomic_load_explicit(&p->turn, memory_order_relaxed);
  if (atomic_fetch_add(&p->waiting, 1) + 1 == (unsigned)b->np) {
    atomic_store(&p->waiting, 0);
    atomic_store(&p->turn, turn + 1);
    if (sleeps) syscall(SYS_futex, &p->turn, FUTEX_WAKE, b->np, NULL, NULL, 0);
    return;
  }
  while (atomic_load_explicit(&p->turn, memory_order_acquire) == turn) {
    if (spins > 0) {
      spins--;
    } else if (sleeps) {
      syscall(SYS_futex, &p->turn, FUTEX_WAIT, turn, NULL, NULL, 0);
    } else {
      sched_yield();
    }
  }
}

/* Those who slept wake at different times, so a second place, where nobody sleeps, lets all go at once. */
static void barrier(bench* b) {
  pass(b, &b->meet->gather, b->crowded ? 0 : 2000, true);
  pass(b, &b->meet->start, b->crowded ? 0 : 100000, false);
}

/* Small integers, so that sums are exact; they differ by rank and place. */
static float value(int rank, size_t i) { return (float)((rank + 1) * (int)(i % VALUES + 1)); }
static float sum_of_values(int np, size_t i) { return (float)(np * (np + 1) / 2 * (int)(i % VALUES + 1)); }

static void fill(const bench* b, bench_op op, size_t count) {
  for (size_t i = 0; i < count; i++) b->in[i] = value(b->rank, i), b->out[i] = -1;
  if (op == BENCH_ALL_REDUCE_IN_PLACE || (op == BENCH_BROADCAST && b->rank == 0))
    memcpy(b->out, b->in, count * sizeof(float));
}

static float expected(const bench* b, bench_op op, size_t i, size_t block) {
  switch (op) {
    case BENCH_ALL_GATHER:
      return value((int)(i / block), i % block);
    case BENCH_REDUCE_SCATTER:
      return sum_of_values(b->np, i + block * (size_t)b->rank);
    case BENCH_BROADCAST:
      return value(0, i);
    case BENCH_ALL_TO_ALL:
      return value((int)(i / block), i % block + block * (size_t)b->rank);
    default:
      return sum_of_values(b->np, i);
  }
}

static void check(bench* b, bench_op op, size_t count) {
  size_t block = count / (size_t)b->np, n = op == BENCH_REDUCE_SCATTER ? block : count;
  long wrong = 0;
  for (size_t i = 0; i < n; i++) wrong += b->out[i] != expected(b, op, i, block);
  atomic_fetch_add(&b->meet->wrong, wrong);
}

/* The lines of what a call reads are its rank's own then, as after a backward pass. */
static void write_input(const bench* b, bench_op op, float* in, size_t count) {
  if (op == BENCH_BROADCAST && b->rank != 0) return;
  memset(op == BENCH_BROADCAST ? b->out : in, 0, count * sizeof(float));
}

/* Seconds of the slowest rank. */
static double timed_call(bench* b, bench_op op, int variant, float* in, size_t count) {
  barrier(b);
  double start = now(), slowest = 0;
  b->library->call(op, variant, in, b->out, count);
  b->meet->ranks[b->rank].seconds = now() - start;
  barrier(b);
  for (int r = 0; r < b->np; r++)
    if (b->meet->ranks[r].seconds > slowest) slowest = b->meet->ranks[r].seconds;
  return slowest;
}

static int ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

/* Rank 0's answer, on all ranks. */
static bool agree(bench* b, bool yes) {
  barrier(b);
  if (b->rank == 0) atomic_store(&b->meet->go_on, yes);
  barrier(b);
  return atomic_load(&b->meet->go_on);
}

static void measure(bench* b, bench_op op, int variant, size_t count) {
  static double times[MOST_CALLS];
  float* in = op == BENCH_ALL_REDUCE_IN_PLACE ? b->out : b->in;
  int calls = 0;
  double used = 0;
  if (b->library->prepare) b->library->prepare(op, variant, in, b->out, count);
  fill(b, op, count);
  atomic_store(&b->meet->wrong, 0);
  double first = timed_call(b, op, variant, in, count);
  check(b, op, count);
  /* Sums in place would grow from call to call. */
  memset(b->in, 0, count * sizeof(float));
  memset(b->out, 0, count * sizeof(float));
  int warm = first > b->seconds ? 1 : WARM_CALLS, fewest = first > b->seconds ? FEWEST_SLOW_CALLS : FEWEST_CALLS;
  for (int i = 0; i < warm; i++) used = timed_call(b, op, variant, in, count);
  /* Crowded ranks spend more time in the barrier than in short calls. */
  double until = now() + 4 * b->seconds;
  for (used = 0; calls < MOST_CALLS; calls++) {
    if (!agree(b, (used < b->seconds && now() < until) || calls < fewest)) break;
    if (b->fresh) write_input(b, op, in, count);
    used += times[calls] = timed_call(b, op, variant, in, count);
  }
  qsort(times, (size_t)calls, sizeof *times, ascending);
  if (b->rank == 0)
    printf("%d,%s,%s,%s,%d,%zu,%.3f,%.3f,%d,%ld\n", b->round, b->name, b->library->variant(op, variant), op_names[op],
           b->np, count * sizeof(float), times[calls / 2] * 1e6, times[0] * 1e6, calls, atomic_load(&b->meet->wrong));
  fflush(stdout);
}

static bool listed(const char* list, const char* name) {
  size_t length = strlen(name);
  for (const char* at = list; (at = strstr(at, name)); at += length)
    if ((at == list || at[-1] == ',') && (at[length] == '\0' || at[length] == ',')) return true;
  return false;
}

/* All sizes, or those that --points names. */
static bool wanted(const bench* b, bench_op op, size_t bytes) {
  char point[64];
  snprintf(point, sizeof point, "%s:%zu", op_names[op], bytes);
  return !b->points || listed(b->points, point);
}

/* The bytes that a line says, which are also those that --points names. */
static size_t vector_bytes(const bench* b, bench_op op, size_t bytes) {
  bool blocks = op != BENCH_ALL_REDUCE && op != BENCH_ALL_REDUCE_IN_PLACE && op != BENCH_BROADCAST;
  size_t count = bytes / sizeof(float);
  return (count - (blocks ? count % (size_t)b->np : 0)) * sizeof(float);
}

static void measure_sizes(bench* b, bench_op op, int variant, double until) {
  for (size_t size = b->min; size <= b->max; size *= b->factor) {
    size_t bytes = vector_bytes(b, op, size);
    if (bytes == 0 || !wanted(b, op, bytes)) continue;
    if (agree(b, b->budget == 0 || now() < until)) {
      measure(b, op, variant, bytes / sizeof(float));
    } else if (b->rank == 0) {
      printf("%d,%s,%s,%s,%d,%zu,time was up,,0,0\n", b->round, b->name, b->library->variant(op, variant), op_names[op],
             b->np, bytes);
    }
  }
}

static void measure_all(bench* b) {
  int parts = 0;
  for (int pass = 0; pass < 2; pass++) {
    for (int op = 0; op < BENCH_NUM_OPS; op++) {
      if (b->ops && !listed(b->ops, op_names[op])) continue;
      for (int variant = 0; b->library->variant((bench_op)op, variant); variant++) {
        if (pass == 0) {
          parts++;
        } else {
          measure_sizes(b, (bench_op)op, variant, now() + b->budget / parts);
        }
      }
    }
  }
}

static size_t number(const char* name, const char* text) {
  char* end;
  unsigned long long n = strtoull(text, &end, 10);
  if (*end || end == text || n == 0) {
    fprintf(stderr, "--%s %s: not a number above 0\n", name, text);
    exit(2);
  }
  return (size_t)n;
}

static void read_options(bench* b, int argc, char** argv) {
  static const struct option known[] = {{"meet", 1, NULL, 'm'},    {"name", 1, NULL, 'n'},  {"ops", 1, NULL, 'o'},
                                        {"min", 1, NULL, 'b'},     {"max", 1, NULL, 'e'},   {"factor", 1, NULL, 'f'},
                                        {"seconds", 1, NULL, 's'}, {"round", 1, NULL, 'r'}, {"budget", 1, NULL, 'u'},
                                        {"points", 1, NULL, 'p'},  {"fresh", 0, NULL, 'w'}, {NULL, 0, NULL, 0}};
  for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    switch (option) {
      case 'm':
        b->meet_file = optarg;
        break;
      case 'n':
        b->name = optarg;
        break;
      case 'o':
        b->ops = optarg;
        break;
      case 'b':
        b->min = number("min", optarg);
        break;
      case 'e':
        b->max = number("max", optarg);
        break;
      case 'f':
        b->factor = number("factor", optarg);
        break;
      case 's':
        b->seconds = atof(optarg);
        break;
      case 'u':
        b->budget = atof(optarg);
        break;
      case 'p':
        b->points = optarg;
        break;
      case 'w':
        b->fresh = true;
        break;
      case 'r':
        b->round = (int)number("round", optarg);
        break;
      default:
        exit(2);
    }
  }
  if (!b->meet_file || b->min < sizeof(float) || b->factor < 2) {
    fprintf(stderr, "needs --meet FILE, --min of at least 4 and --factor of at least 2: see perf/compare/bench.h\n");
    exit(2);
  }
}

static meeting* meet(const char* file) {
  int fd = open(file, O_RDWR | O_CLOEXEC);
  void* map = fd < 0 ? MAP_FAILED : mmap(NULL, BENCH_MEET_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    perror(file);
    exit(2);
  }
  close(fd);
  return map;
}

void* bench_pages(size_t bytes) {
  void* map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return map == MAP_FAILED ? NULL : map;
}

int bench_main(const bench_library* library, int argc, char** argv) {
  bench b = {.library = library, .name = "?", .min = 8, .max = 256u << 20, .factor = 4, .seconds = 0.3, .round = 1};
  read_options(&b, argc, argv);
  int status = library->start(&b.rank, &b.np);
  if (status) return status;
  if (b.np > BENCH_MAX_RANKS) {
    fprintf(stderr, "%d ranks: at most %d\n", b.np, BENCH_MAX_RANKS);
    return 2;
  }
  b.crowded = b.np > (int)sysconf(_SC_NPROCESSORS_ONLN);
  b.meet = meet(b.meet_file);
  b.in = library->memory(b.max);
  b.out = library->memory(b.max);
  if (!b.in || !b.out) {
    fprintf(stderr, "no memory for two vectors of %zu bytes; a smaller --max helps\n", b.max);
    return 2;
  }
  measure_all(&b);
  barrier(&b);
  library->stop();
  return 0;
}
