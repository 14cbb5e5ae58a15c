/* SIGKILL of a random rank at a random moment: every other rank ends with an error that names it, within 5 s, and nothing
 * is left behind. 200 kills with MESHCCL_TESTS_LONG, else 12. MESHCCL_TESTS_SEED repeats a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
/* after the others */
#include <cmocka.h>

#include "victims.h"

static uint64_t next(uint64_t* state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* Moments and wires take turns, the rest is random. */
static blow random_blow(int i, uint64_t* state) {
  static const unsigned longest_us[] = {
      [DURING_INIT] = 30000, [DURING_CALLS] = 60000, [DURING_IDLE] = 30000, [DURING_DESTROY] = 4000};
  blow b = {.n = 2 + (int)(next(state) % 8),
            .when = (moment)(i % MOMENTS),
            .over = (wires)(i / MOMENTS % WIRES),
            .hosts = 2 + (int)(next(state) % 2),
            .allowed = 5,
            .seed = next(state)};
  b.victim = (int)(next(state) % (uint64_t)b.n);
  b.delay_us = (unsigned)(next(state) % longest_us[b.when]);
  return b;
}

static void every_kill_is_named(void** state) {
  (void)state;
  const char* given = getenv("MESHCCL_TESTS_SEED");
  uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
  int kills = getenv("MESHCCL_TESTS_LONG") ? 200 : 12, bad = 0, errors = 0, of_moment[MOMENTS] = {0};
  double slowest[MOMENTS] = {0};
  printf("MESHCCL_TESTS_SEED=%llu\n", (unsigned long long)seed);
  for (int i = 0; i < kills; i++) {
    blow b = random_blow(i, &seed);
    int had = errors;
    if (!run_victim(&b, &slowest[b.when], &errors)) bad++;
    of_moment[b.when] += errors - had;
  }
  printf("%d kills, %d errors (init %d, calls %d, idle %d, destroy %d), slowest %.2f %.2f %.2f %.2f s, %d bad\n", kills,
         errors, of_moment[0], of_moment[1], of_moment[2], of_moment[3], slowest[0], slowest[1], slowest[2], slowest[3],
         bad);
  assert_int_equal(bad, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_kill_is_named)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
