/* lab_bench COLLECTIVE[,..] BYTES[,..] SECONDS: times collectives of float32 sums, out of place. BYTES are those of the
 * whole vector (all-gather: received by every rank; reduce-scatter: given by every rank).
 *
 * An iteration is: barrier, clock, collective, clock; its time is that of the slowest rank. After one untimed call, at
 * least 3 and then as many iterations as fit into SECONDS, at most 50. Every result is checked. Rank 0 prints
 *     result COLLECTIVE BYTES MEDIAN_US MINIMUM_US ITERATIONS WRONG */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST 50
#define LEAST 3

static const char* const names[LAB_COLLECTIVES] = {"all_reduce", "all_gather", "reduce_scatter"};
static int rank, nranks;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Small whole numbers that differ by rank and place, so that sums are exact and a block in the wrong place shows. */
static float value(int of, size_t i) { return (float)((of + 1) * (int)(i % 251 + 1)); }

static float expected(enum lab_collective what, size_t i, size_t count) {
  size_t block = count / (size_t)nranks;
  if (what == LAB_ALL_GATHER) return value((int)(i / block), i % block);
  if (what == LAB_REDUCE_SCATTER) i += (size_t)rank * block;
  return (float)(nranks * (nranks + 1) / 2) * (float)(i % 251 + 1);
}

static double wrong(enum lab_collective what, const float* out, size_t count) {
  size_t n = what == LAB_REDUCE_SCATTER ? count / (size_t)nranks : count, bad = 0;
  for (size_t i = 0; i < n; i++) bad += out[i] != expected(what, i, count);
  return (double)bad;
}

static int by_time(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static void measure(enum lab_collective what, size_t bytes, double seconds, float* in, float* out) {
  size_t count = bytes / sizeof(float) / (size_t)nranks * (size_t)nranks;
  double times[MOST], spent = 0, bad = 0;
  int n = 0;
  for (size_t i = 0; i < count; i++) in[i] = value(rank, i);
  for (int round = -1; round < MOST && (n < LEAST || spent < seconds); round++) {
    memset(out, 0, count * sizeof(float));
    lab_max(0);
    double begin = now();
    lab_call(what, in, out, count);
    double time = lab_max(now() - begin);
    bad += wrong(what, out, count);
    if (round < 0) continue;
    times[n++] = time;
    spent += time;
  }
  bad = lab_max(bad);
  qsort(times, (size_t)n, sizeof *times, by_time);
  if (rank != 0) return;
  printf("result %s %zu %.0f %.0f %d %.0f\n", names[what], bytes, 1e6 * times[n / 2], 1e6 * times[0], n, bad);
  fflush(stdout);
}

static int find(const char* name) {
  for (int i = 0; i < LAB_COLLECTIVES; i++)
    if (strcmp(name, names[i]) == 0) return i;
  fprintf(stderr, "lab_bench: %s is not all_reduce, all_gather or reduce_scatter\n", name);
  exit(2);
}

int main(int argc, char** argv) {
  lab_open(&argc, &argv, &rank, &nranks);
  if (argc != 4) {
    fprintf(stderr, "usage: lab_bench COLLECTIVE[,..] BYTES[,..] SECONDS\n");
    return 2;
  }
  char *next_name, *next_size;
  for (char* name = strtok_r(argv[1], ",", &next_name); name; name = strtok_r(NULL, ",", &next_name)) {
    char* sizes = strdup(argv[2]);
    for (char* size = strtok_r(sizes, ",", &next_size); size; size = strtok_r(NULL, ",", &next_size)) {
      size_t bytes = strtoull(size, NULL, 10);
      float *in = malloc(bytes + 64), *out = malloc(bytes + 64);
      if (!in || !out) {
        fprintf(stderr, "lab_bench: out of memory\n");
        return 1;
      }
      measure((enum lab_collective)find(name), bytes, atof(argv[3]), in, out);
      free(in);
      free(out);
    }
    free(sizes);
  }
  lab_close();
  return 0;
}
