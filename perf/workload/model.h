/* The gradient tensors of a model, from a small text file:
 *
 *   # comment
 *   name 1024x4096      one tensor: a name and its shape, whose factors multiply
 *   repeat 24           the lines up to the matching `end`, that often; may nest
 *   end
 *
 * Tensors stand in forward order. Called by workload_perf and its tests. */
#ifndef PERF_MODEL_H
#define PERF_MODEL_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  char name[64];
  uint64_t* elements; /* of each tensor, forward order */
  size_t ntensors;
  uint64_t total;
} perf_model;

/* A file, or the name of one in the folder of shipped models. 0 on success; otherwise message says file, line and what
 * is wrong. */
int perf_model_load(const char* name_or_file, perf_model* out, char* message, size_t size);
void perf_model_free(perf_model* model);
#endif
