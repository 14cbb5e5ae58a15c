/* Included by every CMocka test: the headers that CMocka wants before it, and small helpers. */
#ifndef MCI_TEST_H
#define MCI_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the others */
#include <cmocka.h>

#include "base/base.h"

/* Fails with the library's message when the call does not succeed. */
#define check_ok(call)                                                                 \
  do {                                                                                 \
    meshcclResult_t check_result_ = (call);                                            \
    if (check_result_ != meshcclSuccess)                                               \
      fail_msg("%s: %s: %s", #call, mci_result_text(check_result_), mci_error_last()); \
  } while (0)

/* The call must fail with `code` and a message that contains `part`. */
#define check_fails(call, code, part)                                                                \
  do {                                                                                               \
    meshcclResult_t check_result_ = (call);                                                          \
    if (check_result_ != (code))                                                                     \
      fail_msg("%s: %s, expected %s", #call, mci_result_text(check_result_), mci_result_text(code)); \
    if (!strstr(mci_error_last(), (part)))                                                           \
      fail_msg("%s: the message \"%s\" does not contain \"%s\"", #call, mci_error_last(), (part));   \
  } while (0)

/* Seed of random tests: MESHCCL_TESTS_SEED or the clock; printed once. */
uint64_t test_seed(void);
/* A small generator, good enough for tests. */
uint64_t test_random(uint64_t* state);
/* Whether tests may take minutes: MESHCCL_TESTS_LONG is set. They cover less, but of every kind, when it is not. */
bool test_long(void);
#endif
