/* Signs of life and deaths, on one host and on several made-up ones: who is stopped or killed is named by all others,
 * and nobody else is; who only looks dead to itself, or computes without a control thread, is not. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/mman.h>

#include "ranks.h"

enum { RANKS = 20 };

typedef struct {
  _Atomic int ready;
  _Atomic bool over; /* those without a failure may leave */
  struct {
    int result;
    uint64_t seen_ns;
    char text[512];
  } ranks[RANKS];
} autopsy;

static void wait_for_failure(rank_run* run, mci_boot* boot) {
  autopsy* a = run->argument;
  meshcclResult_t result = meshcclSuccess;
  expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
  atomic_fetch_add(&a->ready, 1);
  while (result == meshcclSuccess && !atomic_load(&a->over)) {
    mci_boot_progress(boot);
    result = mci_boot_status(boot, a->ranks[run->rank].text, sizeof a->ranks->text);
    usleep(1000);
  }
  a->ranks[run->rank].seen_ns = mci_now_ns();
  a->ranks[run->rank].result = result;
}

static autopsy* shared_autopsy(void) {
  autopsy* a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(a != MAP_FAILED);
  return a;
}

/* One process per rank. */
static void start(autopsy* a, int nhosts, placing how, uint64_t silence_ns, pid_t* pids) {
  mci_id id;
  memset(a, 0, sizeof *a);
  make_published_id(&id);
  fflush(NULL);
  for (int r = 0; r < RANKS; r++) {
    if ((pids[r] = fork()) != 0) continue;
    rank_run run = {.rank = r,
                    .nranks = RANKS,
                    .id = &id,
                    .body = wait_for_failure,
                    .argument = a,
                    .host = host_of(r, RANKS, nhosts, how),
                    .silence_ns = silence_ns};
    rank_main(&run);
    if (run.note[0]) fprintf(stderr, "%s\n", run.note);
    _exit(run.note[0] != 0);
  }
  close(mci_id_take_listener(&id, NULL, NULL, 0));
  for (uint64_t until = mci_now_ns() + 30 * SECOND; atomic_load(&a->ready) < RANKS;) {
    if (mci_now_ns() > until) fail_msg("only %d ranks are ready", atomic_load(&a->ready));
    usleep(1000);
  }
}

/* All others say that of the victim. Returns the milliseconds that the last one needed. */
static double strike(autopsy* a, const pid_t* pids, int victim, int signal, const char* said) {
  char part[64];
  double worst = 0;
  uint64_t struck = mci_now_ns();
  kill(pids[victim], signal);
  for (int r = 0; r < RANKS; r++)
    if (r != victim) assert_int_equal(await_child(pids[r]), 0);
  kill(pids[victim], SIGKILL);
  await_child(pids[victim]);
  snprintf(part, sizeof part, "rank %d (process %d)", victim, (int)pids[victim]);
  for (int r = 0; r < RANKS; r++) {
    if (r == victim) continue;
    const char* text = a->ranks[r].text;
    if (a->ranks[r].result != meshcclRemoteError || !strstr(text, part) || !strstr(text, said))
      fail_msg("rank %d on the end of rank %d: %d, \"%s\"", r, victim, a->ranks[r].result, text);
    worst = MCI_MAX(worst, (double)(a->ranks[r].seen_ns - struck) / 1e6);
  }
  return worst;
}

static void a_stopped_rank_is_named_by_all_others(void** state) {
  (void)state;
  static const struct { int nhosts, victim; } rows[] = {{1, 3}, {3, 0}, {3, 1}, {2, 18}, {4, 7}};
  autopsy* a = shared_autopsy();
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    pid_t pids[RANKS];
    start(a, rows[i].nhosts, DEALT, SECOND, pids);
    double worst = strike(a, pids, rows[i].victim, SIGSTOP, "has been silent for");
    print_message("rank %d of %d hosts stopped: all know within %.0f ms\n", rows[i].victim, rows[i].nhosts, worst);
    assert_true(worst > 500 && worst < 10000);
  }
  munmap(a, sizeof *a);
}

static void a_killed_rank_is_named_by_all_others(void** state) {
  (void)state;
  static const int victims[] = {0, 1, 5, 16, 19};
  autopsy* a = shared_autopsy();
  for (size_t i = 0; i < MCI_COUNT(victims); i++) {
    pid_t pids[RANKS];
    start(a, 2 + (int)i % 3, (placing)(i % 3), 30 * SECOND, pids);
    double worst = strike(a, pids, victims[i], SIGKILL, "died");
    print_message("rank %d killed: all know within %.1f ms\n", victims[i], worst);
    assert_true(worst < 2000);
  }
  munmap(a, sizeof *a);
}

/* As when a machine sleeps: all were silent, and none is blamed. */
static void who_was_stopped_itself_forgives(void** state) {
  (void)state;
  autopsy* a = shared_autopsy();
  pid_t pids[RANKS];
  start(a, 2, DEALT, SECOND, pids);
  for (int r = 0; r < RANKS; r++) kill(pids[r], SIGSTOP);
  usleep(2000000);
  for (int r = 0; r < RANKS; r++) kill(pids[r], SIGCONT);
  usleep(1500000);
  atomic_store(&a->over, true);
  for (int r = 0; r < RANKS; r++) assert_int_equal(await_child(pids[r]), 0);
  for (int r = 0; r < RANKS; r++)
    if (a->ranks[r].result != meshcclSuccess) fail_msg("rank %d: %s", r, a->ranks[r].text);
  munmap(a, sizeof *a);
}

/* Rank 1 computes for longer than the limit. */
static void compute_or_wait(rank_run* run, mci_boot* boot) {
  char text[512];
  expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
  if (run->rank == 1) usleep(1800000);
  expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
  meshcclResult_t result = mci_boot_status(boot, text, sizeof text);
  if (result != meshcclSuccess) mci_error_set(text);
  expect(run, result == meshcclSuccess);
}

static void who_computes_without_a_thread_is_not_silent(void** state) {
  (void)state;
  for (int nhosts = 1; nhosts < 3; nhosts++) {
    mci_id id;
    rank_run runs[RANKS];
    make_published_id(&id);
    for (int r = 0; r < RANKS; r++) {
      runs[r] = (rank_run){.rank = r,
                           .nranks = RANKS,
                           .id = &id,
                           .body = compute_or_wait,
                           .threadless = r % 2 == 1,
                           .host = host_of(r, RANKS, nhosts, DEALT),
                           .silence_ns = SECOND / 2};
      pthread_create(&runs[r].thread, NULL, rank_main, &runs[r]);
    }
    for (int r = 0; r < RANKS; r++) pthread_join(runs[r].thread, NULL);
    for (int r = 0; r < RANKS; r++)
      if (runs[r].note[0]) fail_msg("%s", runs[r].note);
  }
}

/* The others are on their way to another neighbour when one of them dies. */
typedef struct {
  autopsy common;
  _Atomic int left;
} turmoil;

static void leave_die_or_wait(rank_run* run, mci_boot* boot) {
  turmoil* t = run->argument;
  expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
  atomic_fetch_add(&t->common.ready, 1);
  if (run->rank == 1 || run->rank == 2) {
    while (atomic_load(&t->common.ready) < RANKS) usleep(200);
    atomic_fetch_add(&t->left, 1);
    return;
  }
  if (run->rank == 17) {
    while (atomic_load(&t->left) < 2) usleep(50);
    kill(getpid(), SIGKILL);
  }
  meshcclResult_t result = meshcclSuccess;
  expect(run, await_failure(boot, 20 * SECOND, t->common.ranks[run->rank].text, 512, &result));
  expect(run, result == meshcclRemoteError && strstr(t->common.ranks[run->rank].text, "rank 17"));
}

static void a_death_among_ranks_that_change_neighbours_is_found(void** state) {
  (void)state;
  turmoil* t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int round = 0; round < (test_long() ? 40 : 10); round++) {
    mci_id id;
    pid_t pids[RANKS];
    memset(t, 0, sizeof *t);
    make_published_id(&id);
    fflush(NULL);
    for (int r = 0; r < RANKS; r++) {
      if ((pids[r] = fork()) != 0) continue;
      rank_run run = {.rank = r,
                      .nranks = RANKS,
                      .id = &id,
                      .body = leave_die_or_wait,
                      .argument = t,
                      .host = host_of(r, RANKS, 3, DEALT),
                      .silence_ns = 2 * SECOND};
      rank_main(&run);
      if (run.note[0]) fprintf(stderr, "%s (%s)\n", run.note, t->common.ranks[r].text);
      _exit(run.note[0] != 0);
    }
    close(mci_id_take_listener(&id, NULL, NULL, 0));
    bool fine = true;
    for (int r = 0; r < RANKS; r++) fine = await_child(pids[r]) == (r == 17 ? 128 + SIGKILL : 0) && fine;
    if (!fine) fail_msg("round %d", round);
  }
  munmap(t, sizeof *t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_stopped_rank_is_named_by_all_others),
      cmocka_unit_test(a_killed_rank_is_named_by_all_others),
      cmocka_unit_test(who_was_stopped_itself_forgives),
      cmocka_unit_test(who_computes_without_a_thread_is_not_silent),
      cmocka_unit_test(a_death_among_ranks_that_change_neighbours_is_found),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
