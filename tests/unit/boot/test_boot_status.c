/* Who waits for whom, with ranks that only pretend to wait: chains end at the rank that waits for nobody, a rank that
 * has left is reported by whoever is in its place, circles have no end, and verdicts by way of the root are one text.
 */
#include <stdatomic.h>

#include "ranks.h"

#define LIMIT (20 * SECOND)

/* What each rank says of itself: whom it waits for. -1: nobody; -2: no status yet; -3: it leaves at once. */
typedef struct {
  const int* waits_for;
  int first; /* who asks */
  mci_blame_kind kind;
  int rank, waiter;
  unsigned depth;
  uint64_t still_ns; /* the chain's */
  atomic_int done, away;
} scene;

typedef struct {
  int rank, waits_for;
} role;

#define STILL(rank) (((uint64_t)(rank) + 1) * 1000 * SECOND)

static void status(void* self, mci_rank_status* out) {
  const role* r = self;
  *out = (mci_rank_status){.waits_for = r->waits_for,
                           .busy = r->waits_for >= 0,
                           .operation = 7,
                           .waits_operation = 7,
                           .still_ns = STILL(r->rank)};
}

static bool as_expected(const scene* s, const mci_blame* blame) {
  return blame->kind == s->kind && blame->rank == s->rank && blame->waiter == s->waiter && blame->depth == s->depth &&
         blame->still_ns == s->still_ns;
}

static void play(rank_run* run, mci_boot* boot) {
  scene* s = run->argument;
  role mine = {.rank = run->rank, .waits_for = s->waits_for[run->rank]};
  if (mine.waits_for == -3) return;
  if (mine.waits_for != -2) mci_boot_set_status(boot, status, &mine);
  uint64_t until = mci_now_ns() + LIMIT;
  mci_blame blame = {.kind = MCI_BLAME_UNKNOWN};
  while (run->rank == s->first && mci_now_ns() < until) {
    mci_boot_ask(boot, mine.waits_for, 7, &blame);
    mci_boot_progress(boot);
    if (as_expected(s, &blame)) break;
    usleep(1000);
  }
  if (run->rank == s->first) {
    if (!as_expected(s, &blame) && !run->note[0])
      snprintf(run->note, sizeof run->note, "kind %d rank %d waiter %d depth %u still %llu", (int)blame.kind,
               blame.rank, blame.waiter, blame.depth, (unsigned long long)blame.still_ns);
    if (blame.kind == MCI_BLAME_END) expect(run, blame.operation == 7 && blame.status.rank == s->rank);
    atomic_store(&s->done, 1);
  }
  while (!atomic_load(&s->done) && mci_now_ns() < until) {
    mci_boot_progress(boot);
    usleep(1000);
  }
  if (mine.waits_for != -2) mci_boot_set_status(boot, NULL, NULL);
}

static void the_end_of_a_chain_is_found(void** state) {
  (void)state;
  static const int pair[] = {1, -1}, chain[] = {1, 2, 3, -1}, starting[] = {1, 2, -2}, left[] = {1, 2, -3};
  int wide[40], leaves[40];
  for (int r = 0; r < 40; r++) {
    wide[r] = r == 0 ? 39 : r - 1; /* 39 -> 38 -> ... -> 20, which waits for nobody */
    leaves[r] = r == 17 ? 35 : r == 35 ? -3 : -1;
  }
  wide[20] = -1;
  const struct {
    int n;
    const int* waits_for;
    int first;
    mci_blame_kind kind;
    int rank, waiter, depth;
    uint64_t still_ns;
  } rows[] = {
      {2, pair, 0, MCI_BLAME_END, 1, 0, 0, STILL(1)},          {4, chain, 0, MCI_BLAME_END, 3, 2, 2, STILL(1)},
      {3, starting, 0, MCI_BLAME_STARTING, 2, 1, 1, STILL(1)}, {3, left, 0, MCI_BLAME_GONE, 2, 1, 1, STILL(1)},
      {40, wide, 0, MCI_BLAME_END, 20, 21, 19, STILL(20)},     {40, leaves, 17, MCI_BLAME_GONE, 35, 17, 0, UINT64_MAX},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    for (int threadless = 0; threadless < 2; threadless++) {
      print_message("row %zu%s\n", i, threadless ? ", without threads" : "");
      scene s = {.waits_for = rows[i].waits_for,
                 .first = rows[i].first,
                 .kind = rows[i].kind,
                 .rank = rows[i].rank,
                 .waiter = rows[i].waiter,
                 .depth = (unsigned)rows[i].depth,
                 .still_ns = rows[i].still_ns};
      run_threads(rows[i].n, threadless, play, &s);
    }
  }
}

/* In a circle nobody is the end; each rank still learns that the next one is alive and waits. */
static void a_circle_has_no_end(void** state) {
  (void)state;
  static const int circle[] = {1, 2, 0}, two[] = {1, 0};
  scene s = {.waits_for = circle, .first = 0, .kind = MCI_BLAME_WAITS, .rank = 1, .waiter = 0, .still_ns = STILL(1)};
  run_threads(3, false, play, &s);
  s = (scene){.waits_for = two, .first = 0, .kind = MCI_BLAME_WAITS, .rank = 1, .waiter = 0, .still_ns = STILL(1)};
  run_threads(2, true, play, &s);
}

/* ---- silence ---- */

/* Rank 1 is not driven while rank 0 asks. */
static void ask_the_silent(rank_run* run, mci_boot* boot) {
  scene* s = run->argument;
  role mine = {.rank = run->rank, .waits_for = -1};
  mci_boot_set_status(boot, status, &mine);
  mci_blame blame = {.kind = MCI_BLAME_UNKNOWN};
  atomic_fetch_add(&s->away, 1); /* no longer inside of join, where it would answer */
  while (atomic_load(&s->away) < 2) usleep(100);
  for (uint64_t until = mci_now_ns() + LIMIT; run->rank == 0 && mci_now_ns() < until;) {
    mci_boot_ask(boot, 1, 3, &blame);
    mci_boot_progress(boot);
    if (blame.kind != MCI_BLAME_UNKNOWN) break;
    usleep(1000);
  }
  if (run->rank == 0) {
    expect(run, blame.kind == MCI_BLAME_SILENT && blame.rank == 1 && blame.waiter == 0 && blame.operation == 3);
    atomic_store(&s->done, 1);
  }
  while (!atomic_load(&s->done)) usleep(1000);
  mci_boot_set_status(boot, NULL, NULL);
}

static void silence_is_an_answer_too(void** state) {
  (void)state;
  scene s = {.first = 0};
  run_threads(2, true, ask_the_silent, &s);
}

/* ---- verdicts ---- */

static void accuse_all_at_once(rank_run* run, mci_boot* boot) {
  char(*texts)[512] = run->argument;
  char text[64];
  snprintf(text, sizeof text, "rank %d says so", run->rank);
  mci_boot_accuse(boot, 3, meshcclTimeout, text);
  meshcclResult_t result;
  expect(run, await_failure(boot, LIMIT, texts[run->rank], sizeof texts[0], &result));
  expect(run, result == meshcclTimeout);
}

static void of_many_accusations_all_ranks_hear_one(void** state) {
  (void)state;
  for (int threadless = 0; threadless < 2; threadless++) {
    static char texts[40][512];
    memset(texts, 0, sizeof texts);
    run_threads(40, threadless, accuse_all_at_once, texts);
    for (int r = 1; r < 40; r++) assert_string_equal(texts[r], texts[0]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_end_of_a_chain_is_found),
      cmocka_unit_test(a_circle_has_no_end),
      cmocka_unit_test(silence_is_an_answer_too),
      cmocka_unit_test(of_many_accusations_all_ranks_hear_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
