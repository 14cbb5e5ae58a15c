/* One pass from the last tensor to the first. */
#include "perf/workload/buckets.h"

#include <math.h>
#include <stdlib.h>

int perf_plan_create(const perf_model* model, double scale, size_t limit, perf_plan* out) {
  perf_plan p = {.ntensors = model->ntensors};
  p.elements = calloc(p.ntensors, sizeof(*p.elements));
  p.buckets = calloc(p.ntensors, sizeof(*p.buckets));
  if (!p.elements || !p.buckets) {
    perf_plan_free(&p);
    return -1;
  }
  perf_bucket* open = NULL;
  for (size_t k = 0; k < p.ntensors; k++) {
    double scaled = ceil((double)model->elements[p.ntensors - 1 - k] * scale);
    size_t n = scaled < 1 ? 1 : (size_t)scaled;
    if (!open || open->count + n > limit) {
      open = &p.buckets[p.nbuckets++];
      *open = (perf_bucket){.first_tensor = k, .first = p.total};
    }
    open->ntensors++;
    open->count += n;
    p.elements[k] = n;
    p.total += n;
  }
  *out = p;
  return 0;
}

void perf_plan_free(perf_plan* plan) {
  free(plan->elements);
  free(plan->buckets);
  *plan = (perf_plan){0};
}
