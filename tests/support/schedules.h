/* Hand-built schedules for tests of the schedule module: small, readable, one per technique. */
#ifndef MCI_TEST_SCHEDULES_H
#define MCI_TEST_SCHEDULES_H

#include "sched/sched.h"

typedef struct {
  const char* name;
  mci_coll coll;
  void (*build)(mci_build* b, uint32_t nranks, uint32_t rank, uint32_t root); /* layout, slots, channels, steps */
} test_schedule_row;

extern const test_schedule_row test_schedule_rows[];
extern const size_t test_schedule_nrows;

/* All ranks' programs of a row; fails the test when they cannot be built. */
mci_schedule* test_schedule_build(const test_schedule_row* row, uint32_t nranks, uint32_t root);
#endif
