/* The tree while it lives: order of messages, floods, deaths named by their rank, leaving at any time without being
 * taken for a death, and forked children of the application. */
#define _GNU_SOURCE
#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "traffic.h"

/* ---- messages ---- */

static void messages_arrive_in_order_whoever_leaves_meanwhile(void** state) {
  (void)state;
  static const struct {
    int nranks;
    bool threadless;
    traffic traffic;
  } rows[] = {
      {2, false, {200, 4096, 100}}, {17, false, {20, 4096, 500}}, {20, true, {20, 4096, 500}},
      {40, false, {10, 200, 1000}}, {40, true, {10, 4096, 2000}}, {3, true, {400, 4096, 50}},
      {100, false, {2, 100, 200}},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++)
    run_threads(rows[i].nranks, rows[i].threadless, exchange, (void*)&rows[i].traffic);
}

static void wrong_messages_are_refused(void** state) {
  (void)state;
  mci_id id;
  mci_boot* boot;
  mci_boot_options options = rank_options(0, 1);
  unsigned char data[MCI_BOOT_MESSAGE_MAX + 1] = {0};
  check_ok(mci_id_create(&id));
  check_ok(mci_boot_join(&id, &options, &boot));
  check_fails(mci_boot_send(boot, 1, 0, data, 1), meshcclInvalidArgument, "rank 1");
  check_fails(mci_boot_send(boot, -1, 0, data, 1), meshcclInvalidArgument, "rank -1");
  check_fails(mci_boot_send(boot, 0, 0, data, sizeof data), meshcclInvalidArgument, "4097");
  mci_boot_leave(boot);
}

static bool readable(int fd) {
  struct pollfd ready = {.fd = fd, .events = POLLIN};
  return poll(&ready, 1, 0) == 1;
}

static void attention_counts_and_shows(void** state) {
  (void)state;
  for (int threadless = 0; threadless < 2; threadless++) {
    mci_id id;
    mci_boot* boot;
    mci_boot_options options = rank_options(0, 1);
    options.threadless = threadless;
    check_ok(mci_id_create(&id));
    check_ok(mci_boot_join(&id, &options, &boot));
    uint32_t before = atomic_load(mci_boot_attention(boot));
    assert_false(readable(mci_boot_fd(boot)));
    check_ok(mci_boot_send(boot, 0, 5, "abc", 3));
    assert_true(atomic_load(mci_boot_attention(boot)) != before);
    assert_true(readable(mci_boot_fd(boot)));
    mci_boot_clear(boot);
    assert_false(readable(mci_boot_fd(boot)));
    mci_boot_message message;
    assert_true(mci_boot_receive(boot, &message));
    assert_int_equal(message.kind, 5);
    assert_int_equal(message.bytes, 3);
    assert_memory_equal(message.data, "abc", 3);
    assert_false(mci_boot_receive(boot, &message));
    mci_boot_report(boot, 0, meshcclTimeout, "first");
    assert_true(readable(mci_boot_fd(boot)));
    mci_boot_report(boot, 0, meshcclRemoteError, "second");
    char text[64];
    assert_int_equal(mci_boot_status(boot, text, sizeof text), meshcclTimeout);
    assert_string_equal(text, "first");
    check_fails(mci_boot_barrier(boot, SECOND), meshcclTimeout, "first");
    mci_boot_leave(boot);
  }
}

/* ---- reports ---- */

static void report_or_wait(rank_run* run, mci_boot* boot) {
  int reporter = *(int*)run->argument;
  char text[512];
  meshcclResult_t result = meshcclSuccess;
  if (run->rank == reporter) mci_boot_report(boot, 3, meshcclInvalidUsage, "counts differ on rank 3");
  expect(run, await_failure(boot, 20 * SECOND, text, sizeof text, &result));
  expect(run, result == meshcclInvalidUsage);
  expect(run, strcmp(text, "counts differ on rank 3") == 0);
}

static void a_report_reaches_every_rank(void** state) {
  (void)state;
  for (int threadless = 0; threadless < 2; threadless++)
    for (int reporter = 0; reporter < 40; reporter += 13) run_threads(40, threadless, report_or_wait, &reporter);
}

/* As an abort does: the reporter does not stay to see it arrive. */
static void report_and_leave(rank_run* run, mci_boot* boot) {
  int reporter = *(int*)run->argument;
  char text[512];
  meshcclResult_t result = meshcclSuccess;
  if (run->rank == reporter) {
    mci_boot_report(boot, reporter, meshcclRemoteError, "aborted");
    return;
  }
  expect(run, await_failure(boot, 20 * SECOND, text, sizeof text, &result));
  expect(run, strcmp(text, "aborted") == 0);
}

static void a_report_outlives_its_reporter(void** state) {
  (void)state;
  for (int round = 0; round < 5; round++)
    for (int reporter = 0; reporter < 40; reporter += 13) run_threads(40, round == 4, report_and_leave, &reporter);
}

static void a_gather_that_a_rank_misses_times_out_everywhere(rank_run* run, mci_boot* boot) {
  char text[512];
  meshcclResult_t result = meshcclSuccess;
  if (run->rank == 18) {
    expect(run, await_failure(boot, 20 * SECOND, text, sizeof text, &result));
    expect(run, result == meshcclTimeout);
  } else {
    expect(run, mci_boot_barrier(boot, SECOND / 4) == meshcclTimeout);
  }
}

static void a_missed_barrier_is_a_timeout(void** state) {
  (void)state;
  run_threads(20, false, a_gather_that_a_rank_misses_times_out_everywhere, NULL);
}

/* ---- leaving ---- */

typedef struct {
  _Atomic int left; /* ranks that have left or are about to */
  uint64_t seed;
  bool survivors[64];
  int nsurvivors;
} farewell;

static void choose_survivors(farewell* f, int nranks) {
  uint64_t random = f->seed;
  f->nsurvivors = 0;
  for (int r = 0; r < nranks; r++) f->survivors[r] = false;
  while (f->nsurvivors < 3) {
    int r = (int)(test_random(&random) % (uint64_t)nranks);
    f->nsurvivors += !f->survivors[r];
    f->survivors[r] = true;
  }
}

/* Survivors still reach each other through what the leavers handed over, and see no failure. */
static void leave_or_survive(rank_run* run, mci_boot* boot) {
  farewell* f = run->argument;
  uint64_t random = f->seed + 1000 + (uint64_t)run->rank;
  char text[512];
  if (!f->survivors[run->rank]) {
    usleep((unsigned)(test_random(&random) % 2000));
    expect(run, mci_boot_status(boot, text, sizeof text) == meshcclSuccess);
    atomic_fetch_add(&f->left, 1);
    return;
  }
  for (int round = 0; round < 2; round++) {
    for (int r = 0; r < run->nranks; r++)
      if (f->survivors[r] && r != run->rank) expect(run, mci_boot_send(boot, r, 1, "x", 1) == meshcclSuccess);
    for (int k = 1; k < f->nsurvivors; k++) {
      mci_boot_message message;
      bool arrived = await_message(boot, &message, 20 * SECOND);
      if (!arrived) mci_boot_status(boot, text, sizeof text), mci_error_set(text);
      expect(run, arrived);
    }
    while (round == 0 && atomic_load(&f->left) < run->nranks - f->nsurvivors) {
      mci_boot_progress(boot);
      usleep(100);
    }
    usleep(3000);
  }
  mci_boot_progress(boot);
  meshcclResult_t result = mci_boot_status(boot, text, sizeof text);
  if (result != meshcclSuccess) mci_error_set(text);
  expect(run, result == meshcclSuccess);
}

static void threads_leave_in_any_order(void** state) {
  (void)state;
  static farewell f;
  uint64_t seed = test_seed();
  for (int round = 0; round < 100; round++) {
    int nranks = round % 3 == 0 ? 40 : 20;
    f.seed = seed + (uint64_t)round;
    atomic_store(&f.left, 0);
    choose_survivors(&f, nranks);
    run_threads(nranks, round % 4 == 3, leave_or_survive, &f);
  }
}

/* Leaving from the root on, each heir inherits more: the last ones hold hundreds of connections. */
static void leave_in_turn(rank_run* run, mci_boot* boot) {
  sem_t* turns = run->argument;
  char text[512];
  sem_wait(&turns[run->rank]);
  expect(run, mci_boot_status(boot, text, sizeof text) == meshcclSuccess);
  if (run->rank == run->nranks - 2) expect(run, mci_boot_send(boot, run->nranks - 1, 3, "last", 4) == meshcclSuccess);
  if (run->rank == run->nranks - 1) {
    mci_boot_message message;
    expect(run, await_message(boot, &message, 20 * SECOND));
    expect(run, message.from == run->nranks - 2);
  }
}

static void* leave_in_turn_main(void* argument) {
  rank_run* run = argument;
  rank_main(run);
  sem_post((sem_t*)run->argument + run->rank + 1);
  return NULL;
}

static void an_heir_may_inherit_hundreds_of_connections(void** state) {
  (void)state;
  enum { RANKS = 300 };
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  rlim_t before = files.rlim_cur;
  files.rlim_cur = MCI_MAX(before, MCI_MIN(files.rlim_max, (rlim_t)4096));
  setrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_cur < 4096) {
    print_message("SKIPPED: needs 4096 descriptors\n");
    skip();
  }
  sem_t turns[RANKS + 1];
  for (int r = 0; r <= RANKS; r++) sem_init(&turns[r], 0, r == 0);
  mci_id id;
  check_ok(mci_id_create(&id));
  rank_run* runs = calloc(RANKS, sizeof *runs);
  for (int r = 0; r < RANKS; r++) {
    runs[r] = (rank_run){.rank = r, .nranks = RANKS, .id = &id, .argument = turns, .body = leave_in_turn};
    assert_int_equal(pthread_create(&runs[r].thread, NULL, leave_in_turn_main, &runs[r]), 0);
  }
  for (int r = 0; r < RANKS; r++) {
    pthread_join(runs[r].thread, NULL);
    if (runs[r].note[0]) fail_msg("%s", runs[r].note);
  }
  free(runs);
  files.rlim_cur = before;
  setrlimit(RLIMIT_NOFILE, &files);
}

/* The process is over at once after leaving, some by SIGKILL: nothing may depend on it any more. */
static void processes_leave_in_any_order_and_end_at_once(void** state) {
  (void)state;
  enum { RANKS = 20 };
  farewell* f = mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  uint64_t seed = test_seed();
  for (int round = 0; round < 25; round++) {
    mci_id id;
    pid_t pids[RANKS];
    check_ok(mci_id_create(&id));
    f->seed = seed + 500 + (uint64_t)round;
    atomic_store(&f->left, 0);
    choose_survivors(f, RANKS);
    fflush(NULL);
    for (int r = 0; r < RANKS; r++) {
      if ((pids[r] = fork()) != 0) continue;
      rank_run run = {
          .rank = r, .nranks = RANKS, .id = &id, .body = leave_or_survive, .argument = f, .threadless = round % 4 == 3};
      rank_main(&run);
      if (run.note[0]) fprintf(stderr, "%s\n", run.note);
      if (run.note[0]) _exit(1);
      if (r % 2) kill(getpid(), SIGKILL);
      _exit(0);
    }
    bool fine = true;
    for (int r = 0; r < RANKS; r++) fine = await_child(pids[r]) == (r % 2 ? 128 + SIGKILL : 0) && fine;
    if (!fine) fail_msg("round %d, seed %llu", round, (unsigned long long)seed);
  }
  munmap(f, sizeof *f);
}

/* ---- death ---- */

typedef struct {
  _Atomic int ready;
  struct {
    int result;
    uint64_t seen_ns;
    char text[512];
  } ranks[64];
} autopsy;

static void wait_for_death(rank_run* run, mci_boot* boot) {
  autopsy* a = run->argument;
  meshcclResult_t result = meshcclSuccess;
  expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
  atomic_fetch_add(&a->ready, 1);
  expect(run, await_failure(boot, 20 * SECOND, a->ranks[run->rank].text, sizeof a->ranks->text, &result));
  a->ranks[run->rank].seen_ns = mci_now_ns();
  a->ranks[run->rank].result = result;
  usleep(20000);
}

static void await_ready(autopsy* a, int n) {
  for (uint64_t until = mci_now_ns() + 30 * SECOND; atomic_load(&a->ready) < n;) {
    if (mci_now_ns() > until) fail_msg("only %d of %d ranks are ready", atomic_load(&a->ready), n);
    usleep(1000);
  }
}

/* Rank r runs in process place[r]; process 0 .. nprocesses-1; one thread per rank. */
static void start_processes(const int* place, int nranks, int nprocesses, autopsy* a, pid_t* pids, const mci_id* id) {
  fflush(NULL);
  for (int p = 0; p < nprocesses; p++) {
    if ((pids[p] = fork()) != 0) continue;
    rank_run runs[64];
    for (int r = 0; r < nranks; r++) {
      runs[r] = (rank_run){.rank = r, .nranks = nranks, .id = id, .body = wait_for_death, .argument = a};
      if (place[r] == p) pthread_create(&runs[r].thread, NULL, rank_main, &runs[r]);
    }
    int bad = 0;
    for (int r = 0; r < nranks; r++) {
      if (place[r] == p) pthread_join(runs[r].thread, NULL);
      if (runs[r].note[0]) fprintf(stderr, "%s\n", runs[r].note);
      bad += runs[r].note[0] != 0;
    }
    _exit(bad != 0);
  }
}

static double kill_and_check(const int* place, int nranks, int nprocesses, int victim, autopsy* a) {
  mci_id id;
  pid_t pids[64];
  double worst = 0;
  check_ok(mci_id_create(&id));
  memset(a, 0, sizeof *a);
  start_processes(place, nranks, nprocesses, a, pids, &id);
  await_ready(a, nranks);
  uint64_t killed = mci_now_ns();
  kill(pids[victim], SIGKILL);
  for (int p = 0; p < nprocesses; p++) assert_int_equal(await_child(pids[p]), p == victim ? 128 + SIGKILL : 0);
  char process[32];
  snprintf(process, sizeof process, "(process %d)", (int)pids[victim]);
  for (int r = 0; r < nranks; r++) {
    if (place[r] == victim) continue;
    assert_int_equal(a->ranks[r].result, meshcclRemoteError);
    if (!strstr(a->ranks[r].text, process)) fail_msg("rank %d: \"%s\" lacks %s", r, a->ranks[r].text, process);
    worst = MCI_MAX(worst, (double)(a->ranks[r].seen_ns - killed) / 1e6);
  }
  assert_true(worst < 2000);
  return worst;
}

static void a_killed_rank_is_named_by_all_others(void** state) {
  (void)state;
  enum { RANKS = 40 };
  autopsy* a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  static const int victims[] = {0, 1, 2, 5, 17, 39};
  int place[RANKS];
  for (int r = 0; r < RANKS; r++) place[r] = r;
  for (size_t i = 0; i < MCI_COUNT(victims); i++) {
    double worst = kill_and_check(place, RANKS, RANKS, victims[i], a);
    char part[32];
    snprintf(part, sizeof part, "rank %d (process", victims[i]);
    for (int r = 0; r < RANKS; r++)
      if (r != victims[i] && !strstr(a->ranks[r].text, part)) fail_msg("rank %d says \"%s\"", r, a->ranks[r].text);
    print_message("rank %d killed: all %d others know within %.1f ms\n", victims[i], RANKS - 1, worst);
  }
  munmap(a, sizeof *a);
}

/* Whichever of its ranks a neighbour sees dying, the text names all of them. */
static void a_killed_process_names_all_its_ranks(void** state) {
  (void)state;
  enum { RANKS = 20 };
  autopsy* a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  static const int victims[][3] = {{0, 1, 2}, {1, 5, 19}, {4, 17, 18}};
  for (size_t i = 0; i < MCI_COUNT(victims); i++) {
    int place[RANKS];
    for (int r = 0; r < RANKS; r++) place[r] = 1 + r % 4;
    for (int k = 0; k < 3; k++) place[victims[i][k]] = 0;
    kill_and_check(place, RANKS, 5, 0, a);
    for (int r = 0; r < RANKS; r++) {
      bool seen[RANKS] = {false};
      if (place[r] == 0) continue;
      for (const char* at = a->ranks[r].text; *at; at++) {
        char* end;
        long number = (at == a->ranks[r].text || at[-1] == ' ') && *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : -1;
        if (number >= 0 && number < RANKS) seen[number] = true;
      }
      for (int k = 0; k < 3; k++)
        if (!seen[victims[i][k]]) fail_msg("rank %d: \"%s\" lacks rank %d", r, a->ranks[r].text, victims[i][k]);
    }
  }
  munmap(a, sizeof *a);
}

static void a_death_while_others_still_join_is_named(void** state) {
  (void)state;
  mci_id id;
  check_ok(mci_id_create(&id));
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    mci_boot* boot;
    mci_boot_options options = rank_options(1, 3);
    mci_boot_join(&id, &options, &boot);
    _exit(0);
  }
  pid_t killer = fork();
  if (killer == 0) {
    usleep(300000);
    kill(pid, SIGKILL);
    _exit(0);
  }
  mci_boot* boot;
  mci_boot_options options = rank_options(0, 3);
  check_fails(mci_boot_join(&id, &options, &boot), meshcclRemoteError, "rank 1 (process");
  await_child(killer);
  await_child(pid);
}

/* ---- fork in the application ---- */

static void use_in_child(rank_run* run, mci_boot* boot) {
  mci_boot_message message;
  char text[64];
  bool fine = mci_boot_status(boot, text, sizeof text) == meshcclInvalidUsage && strstr(mci_error_last(), "fork") &&
              mci_boot_send(boot, 0, 0, "", 0) == meshcclInvalidUsage && !mci_boot_receive(boot, &message) &&
              mci_boot_barrier(boot, SECOND) == meshcclInvalidUsage;
  mci_boot_report(boot, run->rank, meshcclRemoteError, "from the child");
  mci_boot_progress(boot);
  mci_boot_clear(boot);
  mci_boot_leave(boot);
  _exit(fine ? 0 : 1);
}

static void fork_and_go_on(rank_run* run, mci_boot* boot) {
  pid_t pid = fork();
  if (pid == 0) use_in_child(run, boot);
  expect(run, await_child(pid) == 0);
  for (int round = 0; round < 3; round++) {
    unsigned char mine = (unsigned char)run->rank, all[64];
    expect(run, mci_boot_allgather(boot, &mine, 1, all, 20 * SECOND) == meshcclSuccess);
    for (int r = 0; r < run->nranks; r++) expect(run, all[r] == r);
  }
}

static void a_forked_child_does_not_disturb(void** state) {
  (void)state;
  run_threads(9, false, fork_and_go_on, NULL);
  run_threads(9, true, fork_and_go_on, NULL);
}

/* The child keeps copies of all sockets open: only the pidfd tells. */
static void fork_a_keeper_and_wait(rank_run* run, mci_boot* boot) {
  autopsy* a = run->argument;
  if (run->rank == 1) {
    pid_t keeper = fork();
    if (keeper == 0) {
      sleep(4);
      _exit(0);
    }
  }
  wait_for_death(run, boot);
  (void)a;
}

static void a_death_is_noticed_while_a_forked_child_lives(void** state) {
  (void)state;
  enum { RANKS = 4 };
  autopsy* a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  mci_id id;
  pid_t pids[RANKS];
  check_ok(mci_id_create(&id));
  fflush(NULL);
  for (int r = 0; r < RANKS; r++) {
    if ((pids[r] = fork()) != 0) continue;
    rank_run run = {.rank = r, .nranks = RANKS, .id = &id, .body = fork_a_keeper_and_wait, .argument = a};
    rank_main(&run);
    _exit(run.note[0] != 0);
  }
  await_ready(a, RANKS);
  uint64_t killed = mci_now_ns();
  kill(pids[1], SIGKILL);
  for (int r = 0; r < RANKS; r++) assert_int_equal(await_child(pids[r]), r == 1 ? 128 + SIGKILL : 0);
  for (int r = 0; r < RANKS; r++) {
    if (r == 1) continue;
    assert_int_equal(a->ranks[r].result, meshcclRemoteError);
    assert_non_null(strstr(a->ranks[r].text, "rank 1 (process"));
    assert_true(a->ranks[r].seen_ns - killed < 2 * SECOND);
  }
  munmap(a, sizeof *a);
}

/* A child process may make its own tree, also where its parent has one. */
static void a_forked_child_can_join_a_tree_of_its_own(void** state) {
  (void)state;
  mci_id id;
  mci_boot* boot;
  mci_boot_options options = rank_options(0, 1);
  check_ok(mci_id_create(&id));
  check_ok(mci_boot_join(&id, &options, &boot));
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    mci_boot* own = NULL;
    mci_id other;
    options.threadless = true;
    bool fine = mci_id_create(&other) == meshcclSuccess && mci_boot_join(&other, &options, &own) == meshcclSuccess &&
                mci_boot_barrier(own, SECOND) == meshcclSuccess;
    mci_boot_leave(own);
    mci_boot_leave(boot);
    _exit(fine ? 0 : 1);
  }
  assert_int_equal(await_child(pid), 0);
  check_ok(mci_boot_barrier(boot, SECOND));
  mci_boot_leave(boot);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(messages_arrive_in_order_whoever_leaves_meanwhile),
      cmocka_unit_test(wrong_messages_are_refused),
      cmocka_unit_test(attention_counts_and_shows),
      cmocka_unit_test(a_report_reaches_every_rank),
      cmocka_unit_test(a_report_outlives_its_reporter),
      cmocka_unit_test(a_missed_barrier_is_a_timeout),
      cmocka_unit_test(threads_leave_in_any_order),
      cmocka_unit_test(an_heir_may_inherit_hundreds_of_connections),
      cmocka_unit_test(processes_leave_in_any_order_and_end_at_once),
      cmocka_unit_test(a_killed_rank_is_named_by_all_others),
      cmocka_unit_test(a_killed_process_names_all_its_ranks),
      cmocka_unit_test(a_death_while_others_still_join_is_named),
      cmocka_unit_test(a_forked_child_does_not_disturb),
      cmocka_unit_test(a_death_is_noticed_while_a_forked_child_lives),
      cmocka_unit_test(a_forked_child_can_join_a_tree_of_its_own),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
