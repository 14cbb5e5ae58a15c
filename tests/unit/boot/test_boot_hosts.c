/* The tree over several hosts, which are made up: ranks with different host ids meet over TCP on loopback only. Joining,
 * messages, and leaving in every order, where neighbours must find each other anew. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/mman.h>

#include "traffic.h"

static void gather_and_check(rank_run* run, mci_boot* boot) {
  int32_t mine, *all = calloc((size_t)run->nranks, sizeof *all);
  for (int round = 0; round < 3; round++) {
    mine = run->rank * run->rank + round;
    expect(run, mci_boot_allgather(boot, &mine, sizeof mine, all, 20 * SECOND) == meshcclSuccess);
    for (int r = 0; r < run->nranks; r++) expect(run, all[r] == r * r + round);
  }
  free(all);
  expect(run, mci_boot_spans(boot) == *(const bool*)run->argument);
  char text[64];
  expect(run, mci_boot_status(boot, text, sizeof text) == meshcclSuccess);
}

static void any_number_of_ranks_and_hosts_joins(void** state) {
  (void)state;
  static const int sizes[] = {2, 3, 9, 17, 18, 40, 100};
  bool yes = true;
  for (size_t i = 0; i < MCI_COUNT(sizes); i++) {
    for (int variant = 0; variant < 6; variant++) {
      crowd c = {.nranks = sizes[i],
                 .nhosts = 2 + variant % 3,
                 .how = (placing)(variant % 3),
                 .threadless = variant == 4,
                 .backwards = variant & 1,
                 .body = gather_and_check,
                 .argument = &yes};
      if (c.how == UNEVEN && c.nranks < 4) c.how = BLOCKS;
      c.nhosts = MCI_MIN(c.nhosts, c.nranks);
      uint64_t start = mci_now_ns();
      run_crowd(&c);
      uint64_t took = mci_now_ns() - start;
      if (c.nranks == 100) print_message("100 ranks, %d hosts: %.1f ms\n", c.nhosts, (double)took / 1e6);
    }
  }
}

/* An id that could serve many hosts serves one as well, and then nothing listens on TCP any more. */
static void ranks_of_one_host_do_without_tcp(void** state) {
  (void)state;
  bool no = false;
  for (int backwards = 0; backwards < 2; backwards++) {
    mci_id id;
    make_published_id(&id);
    rank_run runs[20];
    for (int i = 0; i < 20; i++) {
      int r = backwards ? 19 - i : i;
      runs[r] = (rank_run){.rank = r, .nranks = 20, .id = &id, .argument = &no, .body = gather_and_check};
      pthread_create(&runs[r].thread, NULL, rank_main, &runs[r]);
    }
    for (int r = 0; r < 20; r++) pthread_join(runs[r].thread, NULL);
    for (int r = 0; r < 20; r++)
      if (runs[r].note[0]) fail_msg("%s", runs[r].note);
  }
}

/* ---- messages ---- */

static void messages_arrive_in_order_whoever_leaves_meanwhile(void** state) {
  (void)state;
  static traffic some = {20, 4096, 500}, few = {4, 300, 1000}, many = {200, 4096, 50};
  const crowd rows[] = {
      {.nranks = 2, .nhosts = 2, .argument = &many},
      {.nranks = 3, .nhosts = 3, .argument = &many, .threadless = true},
      {.nranks = 17, .nhosts = 2, .how = BLOCKS, .argument = &some},
      {.nranks = 20, .nhosts = 4, .argument = &some},
      {.nranks = 20, .nhosts = 3, .how = UNEVEN, .argument = &some, .backwards = true},
      {.nranks = 40, .nhosts = 2, .argument = &few},
      {.nranks = 40, .nhosts = 4, .how = BLOCKS, .argument = &few},
      {.nranks = 40, .nhosts = 3, .argument = &few, .threadless = true},
      {.nranks = 60, .nhosts = 30, .argument = &few},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    crowd c = rows[i];
    c.body = exchange;
    run_crowd(&c);
  }
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
  while (f->nsurvivors < MCI_MIN(3, nranks - 1)) {
    int r = (int)(test_random(&random) % (uint64_t)nranks);
    f->nsurvivors += !f->survivors[r];
    f->survivors[r] = true;
  }
}

static void check_no_failure(rank_run* run, mci_boot* boot) {
  char text[512];
  mci_boot_progress(boot);
  meshcclResult_t result = mci_boot_status(boot, text, sizeof text);
  if (result != meshcclSuccess) mci_error_set(text);
  expect(run, result == meshcclSuccess);
}

/* Survivors still reach each other by way of ranks that they did not know before, and see no failure. */
static void leave_or_survive(rank_run* run, mci_boot* boot) {
  farewell* f = run->argument;
  uint64_t random = f->seed + 1000 + (uint64_t)run->rank;
  if (!f->survivors[run->rank]) {
    usleep((unsigned)(test_random(&random) % 2000));
    check_no_failure(run, boot);
    atomic_fetch_add(&f->left, 1);
    return;
  }
  for (int round = 0; round < 2; round++) {
    for (int r = 0; r < run->nranks; r++)
      if (f->survivors[r] && r != run->rank) expect(run, mci_boot_send(boot, r, 1, "x", 1) == meshcclSuccess);
    for (int k = 1; k < f->nsurvivors; k++) {
      mci_boot_message message;
      bool arrived = await_message(boot, &message, 20 * SECOND);
      if (!arrived) check_no_failure(run, boot);
      expect(run, arrived);
    }
    while (round == 0 && atomic_load(&f->left) < run->nranks - f->nsurvivors) {
      mci_boot_progress(boot);
      usleep(100);
    }
    for (int k = 0; k < 30; k++) {
      mci_boot_progress(boot);
      usleep(100);
    }
  }
  check_no_failure(run, boot);
}

static void threads_leave_in_any_order(void** state) {
  (void)state;
  static farewell f;
  uint64_t seed = test_seed();
  for (int round = 0; round < 120; round++) {
    static const int sizes[] = {40, 20, 5, 18, 3};
    crowd c = {.nranks = sizes[round % 5],
               .nhosts = 2 + round % 3,
               .how = (placing)(round % 3),
               .threadless = round % 4 == 3,
               .body = leave_or_survive,
               .argument = &f};
    c.nhosts = MCI_MIN(c.nhosts, c.nranks);
    f.seed = seed + (uint64_t)round;
    atomic_store(&f.left, 0);
    choose_survivors(&f, c.nranks);
    run_crowd(&c);
  }
}

/* Two trees without a thread, which half of the ranks leave in one order and half in the other: nobody waits for long. */
static void leave_crosswise(rank_run* run, mci_boot* boot) {
  mci_boot_options options = rank_options(run->rank, run->nranks);
  mci_boot* other = NULL;
  options.threadless = true;
  options.host = run->host;
  meshcclResult_t result = mci_boot_join(run->argument, &options, &other);
  expect(run, result == meshcclSuccess);
  if (result != meshcclSuccess) return;
  expect(run, mci_boot_barrier(other, 20 * SECOND) == meshcclSuccess);
  check_no_failure(run, boot);
  uint64_t start = mci_now_ns();
  if (run->rank % 2) {
    mci_boot_leave(other);
    expect(run, mci_now_ns() - start < SECOND);
    return;
  }
  run->argument = other; /* left after the first one */
}

static void* leave_crosswise_main(void* argument) {
  rank_run* run = argument;
  const void* id = run->argument;
  rank_main(run);
  if (run->argument != id) mci_boot_leave(run->argument);
  return NULL;
}

static void two_trees_may_be_left_in_either_order(void** state) {
  (void)state;
  enum { N = 20 };
  for (int round = 0; round < 5; round++) {
    pid_t pids[N];
    mci_id a, b;
    make_published_id(&a);
    make_published_id(&b);
    fflush(NULL);
    for (int r = 0; r < N; r++) {
      if ((pids[r] = fork()) != 0) continue;
      rank_run run = {.rank = r,
                      .nranks = N,
                      .id = &a,
                      .argument = &b,
                      .threadless = true,
                      .host = host_of(r, N, 3, DEALT),
                      .body = leave_crosswise};
      leave_crosswise_main(&run);
      if (run.note[0]) fprintf(stderr, "%s\n", run.note);
      _exit(run.note[0] != 0);
    }
    close(mci_id_take_listener(&a, NULL, NULL, 0));
    close(mci_id_take_listener(&b, NULL, NULL, 0));
    bool fine = true;
    for (int r = 0; r < N; r++) fine = await_child(pids[r]) == 0 && fine;
    assert_true(fine);
  }
}

/* One after the other, each when the one before is gone; the last one still hears the last but one. */
typedef struct {
  const int* order; /* ranks */
  _Atomic int turn;
} procession;

static void leave_in_turn(rank_run* run, mci_boot* boot) {
  procession* p = run->argument;
  int last = p->order[run->nranks - 1], before = p->order[run->nranks - 2];
  while (p->order[atomic_load(&p->turn)] != run->rank) {
    mci_boot_progress(boot);
    usleep(200);
  }
  check_no_failure(run, boot);
  if (run->rank == before) expect(run, mci_boot_send(boot, last, 3, "last", 4) == meshcclSuccess);
  if (run->rank == last) {
    mci_boot_message message;
    expect(run, await_message(boot, &message, 20 * SECOND));
    expect(run, message.from == before);
    check_no_failure(run, boot);
  }
}

static void* leave_in_turn_main(void* argument) {
  rank_run* run = argument;
  procession* p = run->argument;
  rank_main(run);
  if (atomic_load(&p->turn) + 1 < run->nranks) atomic_fetch_add(&p->turn, 1);
  return NULL;
}

static void everybody_leaves_in_turn(int nranks, int nhosts, placing how, bool threadless, const int* order) {
  mci_id id;
  make_published_id(&id);
  procession p = {.order = order};
  rank_run runs[64];
  for (int r = 0; r < nranks; r++) {
    runs[r] = (rank_run){.rank = r,
                         .nranks = nranks,
                         .id = &id,
                         .argument = &p,
                         .threadless = threadless,
                         .host = host_of(r, nranks, nhosts, how),
                         .body = leave_in_turn};
    pthread_create(&runs[r].thread, NULL, leave_in_turn_main, &runs[r]);
  }
  for (int r = 0; r < nranks; r++) pthread_join(runs[r].thread, NULL);
  for (int r = 0; r < nranks; r++)
    if (runs[r].note[0]) fail_msg("%s", runs[r].note);
}

static void the_root_or_the_leaves_may_leave_first(void** state) {
  (void)state;
  enum { RANKS = 24 };
  int order[RANKS];
  uint64_t random = test_seed();
  for (int variant = 0; variant < 8; variant++) {
    for (int i = 0; i < RANKS; i++) order[i] = variant % 4 == 1 ? RANKS - 1 - i : i;
    for (int i = RANKS - 1; i > 0 && variant % 4 >= 2; i--) {
      int k = (int)(test_random(&random) % (uint64_t)(i + 1)), kept = order[i];
      order[i] = order[k];
      order[k] = kept;
    }
    everybody_leaves_in_turn(RANKS, 2 + variant % 3, (placing)(variant % 2), variant >= 6, order);
  }
}

/* The process is over at once after leaving, some by SIGKILL: nothing may depend on it any more. */
static void processes_leave_in_any_order_and_end_at_once(void** state) {
  (void)state;
  enum { RANKS = 20 };
  farewell* f = mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  uint64_t seed = test_seed();
  for (int round = 0; round < 16; round++) {
    mci_id id;
    pid_t pids[RANKS];
    make_published_id(&id);
    f->seed = seed + 500 + (uint64_t)round;
    atomic_store(&f->left, 0);
    choose_survivors(f, RANKS);
    fflush(NULL);
    for (int r = 0; r < RANKS; r++) {
      if ((pids[r] = fork()) != 0) continue;
      rank_run run = {.rank = r,
                      .nranks = RANKS,
                      .id = &id,
                      .body = leave_or_survive,
                      .argument = f,
                      .host = host_of(r, RANKS, 2 + round % 3, (placing)(round % 3)),
                      .threadless = round % 4 == 3};
      rank_main(&run);
      if (run.note[0]) fprintf(stderr, "%s\n", run.note);
      if (run.note[0]) _exit(1);
      if (r % 2) kill(getpid(), SIGKILL);
      _exit(0);
    }
    bool fine = true;
    for (int r = 0; r < RANKS; r++) fine = await_child(pids[r]) == (r % 2 ? 128 + SIGKILL : 0) && fine;
    close(mci_id_take_listener(&id, NULL, NULL, 0));
    if (!fine) fail_msg("round %d, seed %llu", round, (unsigned long long)seed);
  }
  munmap(f, sizeof *f);
}

/* ---- resources ---- */

static void nothing_stays_open(void** state) {
  (void)state;
  int before = open_descriptors();
  run_crowd(&(crowd){.nranks = 40, .nhosts = 3});
  assert_int_equal(open_descriptors(), before);
  for (int i = 0; i < 100; i++) {
    mci_id id;
    make_published_id(&id);
  }
  assert_true(open_descriptors() <= before + 32);
}

/* Per rank: epoll, attention, timer, listener; and a connection has two ends. */
static void count_descriptors(rank_run* run, mci_boot* boot) {
  _Atomic int* most = run->argument;
  expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
  if (run->rank == 0) atomic_store(most, open_descriptors());
  expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
}

static void descriptors_grow_with_neighbours_only(void** state) {
  (void)state;
  _Atomic int most = 0;
  int before = open_descriptors();
  run_crowd(&(crowd){.nranks = 80, .nhosts = 4, .body = count_descriptors, .argument = &most});
  assert_true(most - before <= 80 * (4 + 2) + 8);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(any_number_of_ranks_and_hosts_joins),
      cmocka_unit_test(ranks_of_one_host_do_without_tcp),
      cmocka_unit_test(messages_arrive_in_order_whoever_leaves_meanwhile),
      cmocka_unit_test(threads_leave_in_any_order),
      cmocka_unit_test(two_trees_may_be_left_in_either_order),
      cmocka_unit_test(the_root_or_the_leaves_may_leave_first),
      cmocka_unit_test(processes_leave_in_any_order_and_end_at_once),
      cmocka_unit_test(nothing_stays_open),
      cmocka_unit_test(descriptors_grow_with_neighbours_only),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
