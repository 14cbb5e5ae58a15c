/* Between the two halves of the reference interpreter. */
#ifndef MCI_TEST_INTERPRET_RUN_H
#define MCI_TEST_INTERPRET_RUN_H

#include "support/interpret.h"

typedef struct {
  mci_coll_buffers_t buffers;
  double *room, *in, *out, *slots;
  uint64_t slot_elements;
} test_memory;

double test_round(meshcclDataType_t type, double x);
double test_fold(const test_interpret_options* options, double a, double b, bool wide);
double test_finish(const test_interpret_options* options, double x, uint32_t nranks);

meshcclResult_t test_interpret_run(const mci_schedule* schedule, const test_interpret_options* options,
                                   test_memory* memory);
#endif
