/* One measurement for all libraries: what a program of this folder gives is one `bench_library`, everything else
 * (sizes, barrier, clock, check of the data, lines printed) is bench.c's and the same for all.
 *
 *   PROGRAM --meet FILE --name LABEL [--ops LIST] [--min BYTES] [--max BYTES] [--factor N] [--seconds T] [--round N]
 *           [--budget T] [--points LIST] [--fresh]
 *
 * Ranks are processes of one host. FILE is theirs alone, at least BENCH_MEET_BYTES of zeros: it holds the barrier and
 * the clocks' readings, so that no library is timed by its own barrier. Rank 0 prints, for each operation, variant and
 * size,   round,label,variant,operation,ranks,bytes,median_us,best_us,calls,wrong
 * Of --budget, seconds for all, each operation and variant has an equal share; when it is used up, larger sizes are
 * left out, and a line without calls has the reason in place of the median. --points measures op:bytes,op:bytes,...
 * only. --fresh: ranks write what they give before each call, outside its time.
 *
 * A call's time is that of the slowest rank, from leaving the barrier to the call's return. Bytes: the vector of an
 * all-reduce and a broadcast, all that a rank receives in an all-gather, all that it gives to the others. */
#ifndef COMPARE_BENCH_H
#define COMPARE_BENCH_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  BENCH_ALL_REDUCE,
  BENCH_ALL_REDUCE_IN_PLACE,
  BENCH_ALL_GATHER,
  BENCH_REDUCE_SCATTER,
  BENCH_BROADCAST,
  BENCH_ALL_TO_ALL,
  BENCH_NUM_OPS
} bench_op;

enum { BENCH_MEET_BYTES = 65536, BENCH_MAX_RANKS = 256 };

/* `count` is the vector in float32 elements, see "bytes" above; all sums are of float32, the root is rank 0. */
typedef struct {
  /* Joins; 0, or an exit status after a message on stderr. */
  int (*start)(int* rank, int* np);
  /* Name of a way to do it ("" if there is only one), NULL: no such operation or no further variant. */
  const char* (*variant)(bench_op op, int variant);
  /* Room for a vector, to be given back by the end of the process only. */
  void* (*memory)(size_t bytes);
  /* May be NULL. What users do once for many calls. In place: in == out. */
  void (*prepare)(bench_op op, int variant, float* in, float* out, size_t count);
  void (*call)(bench_op op, int variant, float* in, float* out, size_t count);
  void (*stop)(void);
} bench_library;

int bench_main(const bench_library* library, int argc, char** argv);
void* bench_pages(size_t bytes); /* ordinary pages, for bench_library.memory */

#ifdef __cplusplus
}
#endif
#endif
