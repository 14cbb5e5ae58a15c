/* A reference interpreter: runs all programs of a schedule on real data in one thread, one slice at a time, with lent
 * messages taken literally (the receiver reads the sender's memory when its own step runs). It shares no code with the
 * executor or the verifier, so that agreement says something. Elements are doubles that are rounded to the chosen type
 * wherever the type would round. */
#ifndef MCI_TEST_INTERPRET_H
#define MCI_TEST_INTERPRET_H

#include "meshccl/result.h"
#include "sched/sched.h"

/* Who goes next among all channels and lanes that could. */
typedef enum {
  TEST_ORDER_RANDOM,
  TEST_ORDER_STEPS_FIRST, /* departures as late as possible */
  TEST_ORDER_LANES_FIRST, /* departures as soon as possible */
  TEST_ORDER_ONE_BY_ONE,  /* each as far as it gets */
  TEST_ORDER_STARVE,      /* one random victim at a time goes only when nobody else can */
  TEST_NUM_ORDERS
} test_order;

typedef enum { TEST_LEND_ALWAYS, TEST_LEND_NEVER, TEST_LEND_SOMETIMES, TEST_NUM_LENDS } test_lend;

typedef struct {
  meshcclDataType_t type; /* Int32, Int64, Float32, Float64, Bfloat16 */
  meshcclRedOp_t op;      /* Sum .. Avg */
  uint64_t count;         /* as in the public call */
  bool in_place;
  bool rough;       /* inputs whose folds round, so that the order of folds shows in the bits; no oracle then */
  uint64_t slice;   /* elements; 0: whole messages */
  uint32_t credits; /* per lane, in slices; 0: 1 */
  uint64_t seed;    /* of who goes next */
  uint64_t data;    /* of the inputs */
  test_order order;
  test_lend lend;
} test_interpret_options;

/* Makes inputs, runs the schedule and compares every output with an oracle (unless `rough`) and, where
 * ranks share a result, with each other. *bits: hash of all outputs. Never fails the test by itself: the result says
 * what went wrong. The schedule must be well-formed. */
meshcclResult_t test_interpret(const mci_schedule* schedule, const test_interpret_options* options, uint64_t* bits);
#endif
