/* SIGSTOP of a rank: every other rank has an error that names it soon after MESHCCL_SILENCE_TIMEOUT, and the stopped one,
 * continued, ends with an error. 20 ranks, so that the control tree has an interior rank. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* after the others */
#include <cmocka.h>

#include "victims.h"

#define SILENCE 1.5
#define SLACK 10 /* of a machine under load */

enum { RANKS = 20, ROOT = 0, INTERIOR = 1, LEAF = 19 };

static void stop_one(int victim, wires over, moment when, bool threadless) {
  blow b = {.n = RANKS,
            .victim = victim,
            .hosts = 3,
            .over = over,
            .when = when,
            .stop = true,
            .threadless = threadless,
            .silence = SILENCE,
            .op_limit = threadless ? 2 : 60,
            .allowed = SILENCE + 2 + SLACK,
            .delay_us = 20000};
  double slowest = 0;
  int errors = 0;
  bool fine = run_victim(&b, &slowest, &errors);
  print_blow(&b);
  fprintf(stderr, "    %d errors, slowest %.2f s, silence %.1f s, limit %.0f s\n", errors, slowest, SILENCE,
          b.op_limit);
  assert_true(fine);
  assert_int_equal(errors, RANKS - 1);
}

static const int victims[] = {INTERIOR, ROOT, LEAF};

static void all_victims(moment when, bool threadless) {
  size_t n = getenv("MESHCCL_TESTS_LONG") ? 3 : 1;
  for (size_t i = 0; i < n; i++)
    for (wires over = OVER_SHM; over < WIRES; over++) {
      if (n == 1 && over == OVER_TCP) continue; /* the tree is that of SHM */
      stop_one(victims[i], over, when, threadless);
    }
}

static void a_rank_that_stops_in_calls_is_named(void** state) {
  (void)state;
  all_victims(DURING_CALLS, false);
}

static void a_rank_that_stops_while_all_are_idle_is_named(void** state) {
  (void)state;
  all_victims(DURING_IDLE, false);
}

static void without_threads_the_limit_of_operations_decides(void** state) {
  (void)state;
  all_victims(DURING_CALLS, true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_rank_that_stops_in_calls_is_named),
      cmocka_unit_test(a_rank_that_stops_while_all_are_idle_is_named),
      cmocka_unit_test(without_threads_the_limit_of_operations_decides),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
