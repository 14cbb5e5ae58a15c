/* Joining: all sizes, as threads and as processes, and every way in which it must be refused on every rank. */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/un.h>

#include "boot/control.h"
#include "ranks.h"

static void gather_and_check(rank_run* run, mci_boot* boot) {
  struct {
    int32_t rank, square;
  } mine, *all = calloc((size_t)run->nranks, sizeof mine);
  for (int round = 0; round < 3; round++) {
    mine.rank = run->rank;
    mine.square = run->rank * run->rank + round;
    expect(run, mci_boot_allgather(boot, &mine, sizeof mine, all, 20 * SECOND) == meshcclSuccess);
    for (int r = 0; r < run->nranks; r++) expect(run, all[r].rank == r && all[r].square == r * r + round);
    expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
  }
  free(all);
  char text[64];
  expect(run, mci_boot_status(boot, text, sizeof text) == meshcclSuccess);
}

static void any_number_of_threads_joins_and_gathers(void** state) {
  (void)state;
  static const int sizes[] = {1, 2, 9, 17, 18, 40, 100};
  for (size_t i = 0; i < MCI_COUNT(sizes); i++) {
    for (int threadless = 0; threadless < 2; threadless++) {
      uint64_t start = mci_now_ns();
      run_threads(sizes[i], threadless, gather_and_check, NULL);
      print_message("%d ranks%s: %.1f ms\n", sizes[i], threadless ? ", threadless" : "",
                    (double)(mci_now_ns() - start) / 1e6);
    }
  }
}

static void forked_processes_join(void** state) {
  (void)state;
  enum { RANKS = 20 };
  mci_id id;
  check_ok(mci_id_create(&id));
  pid_t pids[RANKS];
  fflush(NULL);
  for (int r = 0; r < RANKS; r++) {
    if ((pids[r] = fork()) == 0) {
      rank_run run = {.rank = r, .nranks = RANKS, .id = &id, .body = gather_and_check};
      rank_main(&run);
      if (run.note[0]) fprintf(stderr, "%s\n", run.note);
      _exit(run.note[0] != 0);
    }
  }
  for (int r = 0; r < RANKS; r++) assert_int_equal(await_child(pids[r]), 0);
}

/* ---- joins that fail ---- */

typedef struct {
  mci_boot_options options;
  mci_id id;
  meshcclResult_t result;
  char text[512];
  uint64_t took_ns;
} attempt;

static void* attempt_main(void* argument) {
  attempt* a = argument;
  mci_boot* boot = NULL;
  uint64_t start = mci_now_ns();
  a->result = mci_boot_join(&a->id, &a->options, &boot);
  snprintf(a->text, sizeof a->text, "%s", mci_error_last());
  a->took_ns = mci_now_ns() - start;
  mci_boot_leave(boot);
  return NULL;
}

static void attempt_all(attempt* attempts, int n) {
  pthread_t threads[64];
  for (int i = 0; i < n; i++) assert_int_equal(pthread_create(&threads[i], NULL, attempt_main, &attempts[i]), 0);
  for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
}

static void expect_all(const attempt* attempts, int n, meshcclResult_t result, const char* const* parts, int nparts) {
  for (int i = 0; i < n; i++) {
    if (attempts[i].result != result)
      fail_msg("attempt %d (rank %d): %s: %s", i, attempts[i].options.rank, mci_result_text(attempts[i].result),
               attempts[i].text);
    for (int k = 0; k < nparts; k++)
      if (!strstr(attempts[i].text, parts[k]))
        fail_msg("attempt %d: \"%s\" lacks \"%s\"", i, attempts[i].text, parts[k]);
  }
}

static void fill(attempt* attempts, int n, int nranks, uint64_t timeout_ns) {
  mci_id id;
  check_ok(mci_id_create(&id));
  for (int i = 0; i < n; i++) {
    attempts[i] = (attempt){.id = id, .options = rank_options(i, nranks)};
    attempts[i].options.timeout_ns = timeout_ns;
  }
}

static void a_wrong_size_is_named_on_every_rank(void** state) {
  (void)state;
  static const int culprits[] = {0, 3, 19};
  for (size_t i = 0; i < MCI_COUNT(culprits); i++) {
    attempt attempts[20];
    fill(attempts, 20, 20, 20 * SECOND);
    attempts[culprits[i]].options.nranks = 21;
    attempt_all(attempts, 20);
    expect_all(attempts, 20, meshcclInvalidUsage, (const char*[]){"nranks = 21", "nranks = 20"}, 2);
  }
}

static void a_duplicate_rank_is_named_on_every_rank(void** state) {
  (void)state;
  static const struct { int missing, twice; } rows[] = {{3, 2}, {19, 18}, {2, 0}, {19, 1}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    attempt attempts[20];
    char part[32];
    fill(attempts, 20, 20, 20 * SECOND);
    attempts[rows[i].missing].options.rank = rows[i].twice;
    attempt_all(attempts, 20);
    snprintf(part, sizeof part, "rank %d", rows[i].twice);
    expect_all(attempts, 20, meshcclInvalidUsage, (const char*[]){part, "own number"}, 2);
  }
}

static void ranks_out_of_range_are_refused(void** state) {
  (void)state;
  static const struct {
    int rank, nranks;
    const char* part;
  } rows[] = {{-1, 4, "rank = -1"}, {4, 4, "rank = 4"}, {0, 0, "nranks = 0"}, {0, -3, "nranks = -3"}};
  mci_id id;
  mci_boot* boot;
  check_ok(mci_id_create(&id));
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_boot_options options = rank_options(rows[i].rank, rows[i].nranks);
    check_fails(mci_boot_join(&id, &options, &boot), meshcclInvalidArgument, rows[i].part);
  }
  mci_boot_options options = rank_options(0, 1);
  id.bytes[50] ^= 1;
  check_fails(mci_boot_join(&id, &options, &boot), meshcclInvalidArgument, "not made by meshccl");
}

static void a_differing_line_is_named_with_both_ranks(void** state) {
  (void)state;
  static char longer[9000];
  memset(longer, 'x', sizeof longer - 2);
  memcpy(longer, "A=1\nB=2\nC=", 10);
  longer[sizeof longer - 2] = '\n';
  static const struct {
    int rank;
    const char *agree, *parts[3];
  } rows[] = {
      {1, "A=1\nB=3\n", {"differ in B", "has B=2", "rank 1 has B=3"}},
      {33, "A=7\nB=2\n", {"differ in A", "has A=1", "rank 33 has A=7"}},
      {0, "A=1\nB=\n", {"differ in B", "rank 0 has B=,", "has B=2"}},
      {5, "A=1\n", {"differ in B", "rank 5 has (no such line)", "has B=2"}},
      {17, longer, {"differ in C", "rank 17 has C=xxx", "(no such line)"}},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    attempt attempts[40];
    fill(attempts, 40, 40, 20 * SECOND);
    attempts[rows[i].rank].options.agree = rows[i].agree;
    attempt_all(attempts, 40);
    expect_all(attempts, 40, meshcclInvalidUsage, rows[i].parts, 3);
  }
}

static void a_timeout_names_who_is_missing(void** state) {
  (void)state;
  static const struct {
    int present, nranks;
    const char* part;
  } rows[] = {{1, 2, "rank 1 has not joined"},
              {5, 8, "ranks 5, 6, 7 have not joined"},
              {30, 32, "ranks 30, 31 have not joined"}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    attempt attempts[32];
    fill(attempts, rows[i].present, rows[i].nranks, SECOND / 2);
    attempt_all(attempts, rows[i].present);
    expect_all(attempts, rows[i].present, meshcclTimeout, &rows[i].part, 1);
    for (int k = 0; k < rows[i].present; k++) assert_true(attempts[k].took_ns < 3 * SECOND);
  }
}

static void a_timeout_without_the_root_says_so(void** state) {
  (void)state;
  attempt attempts[3];
  fill(attempts, 3, 4, SECOND / 4);
  for (int i = 0; i < 3; i++) attempts[i].options.rank = i + 1;
  attempt_all(attempts, 3);
  expect_all(attempts, 3, meshcclTimeout, (const char*[]){"rank 0 does not answer"}, 1);
}

static void a_wrong_secret_is_refused_and_the_others_name_the_rank(void** state) {
  (void)state;
  attempt attempts[3];
  fill(attempts, 3, 3, SECOND);
  setenv("MESHCCL_SECRET", "right", 1);
  check_ok(mci_id_from_text("meeting", &attempts[0].id));
  attempts[1].id = attempts[0].id;
  setenv("MESHCCL_SECRET", "wrong", 1);
  check_ok(mci_id_from_text("meeting", &attempts[2].id));
  unsetenv("MESHCCL_SECRET");
  attempt_all(attempts, 3);
  expect_all(attempts, 2, meshcclTimeout, (const char*[]){"rank 2 has not joined"}, 1);
  expect_all(attempts + 2, 1, meshcclInvalidUsage, (const char*[]){"does not know this id's secret", "MESHCCL_SECRET"},
             2);
}

/* ---- strangers ---- */

static int stranger(const mci_id* id) {
  struct sockaddr_un address;
  socklen_t length;
  mci_auth_address(id, mci_host_id(), 0, &address, &length);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  while (connect(fd, (struct sockaddr*)&address, length) < 0) usleep(1000);
  return fd;
}

/* Silence, garbage, half a handshake with a wrong proof, too much, an empty packet and a quick end. */
static void strangers_do_not_disturb_joining(void** state) {
  (void)state;
  enum { SILENT = 20 };
  attempt attempts[3];
  fill(attempts, 3, 3, 20 * SECOND);
  pthread_t threads[3];
  pthread_create(&threads[0], NULL, attempt_main, &attempts[0]);
  int silent[SILENT];
  for (int i = 0; i < SILENT; i++) silent[i] = stranger(&attempts[0].id);
  uint64_t random = test_seed();
  for (int i = 0; i < 200; i++) {
    unsigned char garbage[6000];
    size_t n = test_random(&random) % sizeof garbage;
    for (size_t k = 0; k < n; k++) garbage[k] = (unsigned char)test_random(&random);
    int fd = stranger(&attempts[0].id);
    if (i % 4 == 0) {
      mci_header header = {.type = FRAME_HELLO, .to = -1, .bytes = sizeof(mci_hello)};
      mci_hello hello = {.version = MCI_HELLO_VERSION, .rank = 1, .nranks = 3};
      memcpy(garbage, &header, sizeof header);
      memcpy(garbage + sizeof header, &hello, sizeof hello);
      n = sizeof header + sizeof hello;
    }
    send(fd, garbage, n, MSG_NOSIGNAL);
    if (i % 4 == 0) {
      mci_header header = {.type = FRAME_PROOF, .to = -1, .bytes = 32};
      memcpy(garbage, &header, sizeof header);
      send(fd, garbage, sizeof header + 32, MSG_NOSIGNAL);
      if (i % 8 == 0) {
        unsigned char answer[4096];
        assert_int_equal(recv(fd, answer, sizeof answer, 0), sizeof(mci_header) + sizeof(mci_challenge));
        assert_true(recv(fd, answer, sizeof answer, 0) <= 0);
      }
    }
    close(fd);
  }
  for (int i = 1; i < 3; i++) pthread_create(&threads[i], NULL, attempt_main, &attempts[i]);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  expect_all(attempts, 3, meshcclSuccess, NULL, 0);
  for (int i = 0; i < SILENT; i++) close(silent[i]);
}

/* Only root can become another user to try it. */
static void another_user_is_refused(void** state) {
  (void)state;
  if (geteuid() != 0) {
    print_message("SKIPPED: needs root\n");
    skip();
  }
  attempt attempts[2];
  fill(attempts, 2, 2, 20 * SECOND);
  pthread_t threads[2];
  pthread_create(&threads[0], NULL, attempt_main, &attempts[0]);
  close(stranger(&attempts[0].id)); /* rank 0 listens from here on */
  struct sockaddr_un address;
  socklen_t length;
  mci_auth_address(&attempts[0].id, mci_host_id(), 0, &address, &length);
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    unsigned char byte;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    bool refused = setresuid(65534, 65534, 65534) == 0 && connect(fd, (struct sockaddr*)&address, length) == 0 &&
                   recv(fd, &byte, 1, 0) <= 0;
    _exit(refused ? 0 : 1);
  }
  assert_int_equal(await_child(pid), 0);
  pthread_create(&threads[1], NULL, attempt_main, &attempts[1]);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  expect_all(attempts, 2, meshcclSuccess, NULL, 0);
}

/* 64 places: while strangers hold them all, ranks wait; a place that falls free is used. */
static void a_full_house_of_strangers_only_delays(void** state) {
  (void)state;
  attempt attempts[2];
  fill(attempts, 2, 2, 20 * SECOND);
  pthread_t threads[2];
  pthread_create(&threads[0], NULL, attempt_main, &attempts[0]);
  int silent[MCI_CONTROL_STRANGERS];
  for (int i = 0; i < MCI_CONTROL_STRANGERS; i++) silent[i] = stranger(&attempts[0].id);
  pthread_create(&threads[1], NULL, attempt_main, &attempts[1]);
  usleep(50000);
  for (int i = 0; i < MCI_CONTROL_STRANGERS; i++) close(silent[i]);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  expect_all(attempts, 2, meshcclSuccess, NULL, 0);
}

static void a_listener_proves_itself_too(void** state) {
  (void)state;
  attempt attempts[2];
  fill(attempts, 2, 2, 5 * SECOND);
  struct sockaddr_un address;
  socklen_t length;
  mci_auth_address(&attempts[0].id, mci_host_id(), 0, &address, &length);
  int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(listener, (struct sockaddr*)&address, length), 0);
  assert_int_equal(listen(listener, 8), 0);
  pthread_t thread;
  pthread_create(&thread, NULL, attempt_main, &attempts[1]);
  int fd = accept(listener, NULL, NULL);
  unsigned char buffer[4096];
  struct {
    mci_header header;
    mci_challenge challenge;
  } fake = {.header = {.type = FRAME_CHALLENGE, .to = -1, .bytes = sizeof(mci_challenge)}};
  assert_int_equal(recv(fd, buffer, sizeof buffer, 0), sizeof(mci_header) + sizeof(mci_hello));
  assert_int_equal(send(fd, &fake, sizeof fake, 0), sizeof fake);
  pthread_join(thread, NULL);
  close(fd);
  close(listener);
  expect_all(attempts + 1, 1, meshcclInvalidUsage, (const char*[]){"does not trust"}, 1);
}

/* ---- resources ---- */

static void an_id_can_serve_again_when_its_tree_is_complete(void** state) {
  (void)state;
  attempt attempts[3];
  fill(attempts, 3, 3, 10 * SECOND);
  for (int round = 0; round < 20; round++) {
    attempt_all(attempts, 3);
    expect_all(attempts, 3, meshcclSuccess, NULL, 0);
  }
}

static void every_allocation_may_fail(void** state) {
  (void)state;
  mci_id id;
  check_ok(mci_id_create(&id));
  mci_boot_options options = rank_options(0, 1);
  bool failed = true;
  for (int64_t nth = 1; failed; nth++) {
    mci_boot* boot = NULL;
    mci_alloc_fail_after(nth);
    meshcclResult_t result = mci_boot_join(&id, &options, &boot);
    mci_alloc_fail_after(-1);
    failed = result != meshcclSuccess;
    if (failed) assert_int_equal(result, meshcclSystemError);
    mci_boot_leave(boot);
    assert_true(nth < 100);
  }
}

/* Whoever lacks memory says so; nobody hangs, crashes or is left with another's memory. */
static void any_rank_may_run_out_of_memory(void** state) {
  (void)state;
  int succeeded = 0;
  for (int64_t nth = 1; nth <= 60; nth++) {
    attempt attempts[3];
    fill(attempts, 3, 3, SECOND / 4);
    mci_alloc_fail_after(nth);
    attempt_all(attempts, 3);
    mci_alloc_fail_after(-1);
    bool all = true;
    for (int i = 0; i < 3; i++) {
      meshcclResult_t result = attempts[i].result;
      all = all && result == meshcclSuccess;
      if (result != meshcclSuccess && result != meshcclSystemError && result != meshcclTimeout)
        fail_msg("allocation %d: rank %d: %s: %s", (int)nth, i, mci_result_text(result), attempts[i].text);
    }
    succeeded += all;
  }
  assert_true(succeeded > 0);
}

static void nothing_stays_open(void** state) {
  (void)state;
  int before = open_descriptors();
  run_threads(40, false, NULL, NULL);
  assert_int_equal(open_descriptors(), before);
  attempt attempts[20];
  fill(attempts, 20, 20, 5 * SECOND);
  attempts[7].options.nranks = 3;
  attempts[7].options.rank = 2;
  attempt_all(attempts, 20);
  assert_int_equal(open_descriptors(), before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(forked_processes_join),
      cmocka_unit_test(any_number_of_threads_joins_and_gathers),
      cmocka_unit_test(a_wrong_size_is_named_on_every_rank),
      cmocka_unit_test(a_duplicate_rank_is_named_on_every_rank),
      cmocka_unit_test(ranks_out_of_range_are_refused),
      cmocka_unit_test(a_differing_line_is_named_with_both_ranks),
      cmocka_unit_test(a_timeout_names_who_is_missing),
      cmocka_unit_test(a_timeout_without_the_root_says_so),
      cmocka_unit_test(a_wrong_secret_is_refused_and_the_others_name_the_rank),
      cmocka_unit_test(strangers_do_not_disturb_joining),
      cmocka_unit_test(another_user_is_refused),
      cmocka_unit_test(a_full_house_of_strangers_only_delays),
      cmocka_unit_test(a_listener_proves_itself_too),
      cmocka_unit_test(an_id_can_serve_again_when_its_tree_is_complete),
      cmocka_unit_test(every_allocation_may_fail),
      cmocka_unit_test(any_rank_may_run_out_of_memory),
      cmocka_unit_test(nothing_stays_open),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
