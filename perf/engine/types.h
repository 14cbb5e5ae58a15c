/* Element types and operators as the perf tools name them, and exact conversion of the small float formats.
 * Knows no communicator. Called by the pattern tables, the loops over -d and -o, and the tests. */
#ifndef PERF_TYPES_H
#define PERF_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meshccl/result.h"

/* The operators of -o: the built-in ones by their number, then the pre-multiplied sum. */
enum { PERF_MULSUM = meshcclNumOps, PERF_NUM_OPS };

const char* perf_type_name(meshcclDataType_t type);
const char* perf_op_name(int op);
/* Index of a name, -1 when there is none. */
int perf_type_find(const char* name);
int perf_op_find(const char* name);

size_t perf_type_size(meshcclDataType_t type);
bool perf_type_is_float(meshcclDataType_t type);
bool perf_type_is_signed(meshcclDataType_t type);
/* Bits of a float's significand, the hidden one included: integers up to 2^bits are exact. */
int perf_type_precision(meshcclDataType_t type);

/* Value of a float element. */
double perf_decode(meshcclDataType_t type, const void* element);
/* Rounds to nearest even. The 8-bit formats saturate, the others overflow to infinity. */
void perf_encode(meshcclDataType_t type, double value, void* element);
/* Integer elements, sign- or zero-extended; encoding keeps the low bits. */
uint64_t perf_decode_integer(meshcclDataType_t type, const void* element);
void perf_encode_integer(meshcclDataType_t type, uint64_t value, void* element);
#endif
