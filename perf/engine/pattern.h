/* Test data whose reduction is known exactly for every type, operator and order of folding.
 *
 * DATA streams are bytes without structure, for operations that only move data. INPUT is what a rank feeds to a
 * reduction and RESULT what comes out; both repeat after PERF_PERIOD elements, a prime, so that data which lands at a
 * wrong place does not look right. Knows no communicator and no buffers of a whole run. */
#ifndef PERF_PATTERN_H
#define PERF_PATTERN_H

#include "perf/engine/types.h"

enum { PERF_PERIOD = 8191 };

typedef enum { PERF_NONE, PERF_DATA, PERF_INPUT, PERF_RESULT } perf_piece_kind;

/* What a run of elements holds. */
typedef struct {
  perf_piece_kind kind; /* NONE: filler that must stay as it is */
  uint64_t stream;      /* of DATA: which stream */
  size_t first;         /* index of the first element in the stream */
} perf_piece;

typedef struct {
  meshcclDataType_t type;
  int op, rank, nranks;
  uint8_t* input; /* PERF_PERIOD elements each; NULL when made without operator */
  uint8_t* result;
  uint8_t* data; /* the bytes of all DATA streams */
} perf_pattern;

/* op < 0: no reduction. False when memory is short; the pattern is then empty. */
bool perf_pattern_create(perf_pattern* out, meshcclDataType_t type, int op, int rank, int nranks);
void perf_pattern_destroy(perf_pattern* pattern);

/* One element's inputs of all ranks, values[nranks] and result, for tests and tables: elements of the type. */
void perf_pattern_element(meshcclDataType_t type, int op, int nranks, uint64_t index, uint8_t* values, void* result);

/* Writes or compares `count` elements. `phase` shifts all streams alike, so that repetitions differ. With `flip` every
 * bit is inverted: what no correct result can be. perf_pattern_wrong returns the number of elements that differ. */
void perf_pattern_fill(const perf_pattern* pattern, perf_piece piece, uint64_t phase, bool flip, void* to,
                       size_t count);
size_t perf_pattern_wrong(const perf_pattern* pattern, perf_piece piece, uint64_t phase, const void* at, size_t count);

/* The scalar of the pre-multiplied sum: 1 on even, 2 on odd ranks. */
int perf_mulsum_scalar(int rank);
#endif
