/* One way of timing collectives for every library in perf/lab: bench.c measures, checks and prints; bench_meshccl.c and
 * bench_mpi.c make the calls. */
#ifndef LAB_BENCH_H
#define LAB_BENCH_H

#include <stddef.h>

enum lab_collective { LAB_ALL_REDUCE, LAB_ALL_GATHER, LAB_REDUCE_SCATTER, LAB_COLLECTIVES };

/* Each ends the process with a message when the library fails. */
void lab_open(int* argc, char*** argv, int* rank, int* nranks);
void lab_close(void);
/* `count` floats: the whole vector, a multiple of the number of ranks. Sums; out of place. */
void lab_call(enum lab_collective what, const float* in, float* out, size_t count);
double lab_max(double mine); /* over all ranks; when it returns, all ranks have called it */

#endif
