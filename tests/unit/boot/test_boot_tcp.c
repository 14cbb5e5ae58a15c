/* The TCP listeners of the tree: strangers of every kind while ranks join and afterwards, and joins over TCP that must be
 * refused with the cause and its remedy. Loopback only. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "boot/control.h"
#include "ranks.h"

typedef struct {
  mci_boot_options options;
  mci_id id;
  meshcclResult_t result;
  char text[900];
  pthread_t thread;
} attempt;

static void* attempt_main(void* argument) {
  attempt* a = argument;
  mci_boot* boot = NULL;
  a->result = mci_boot_join(&a->id, &a->options, &boot);
  snprintf(a->text, sizeof a->text, "%s", mci_error_last());
  mci_boot_leave(boot);
  return NULL;
}

static void begin(attempt* a) { assert_int_equal(pthread_create(&a->thread, NULL, attempt_main, a), 0); }

static void end(attempt* a, meshcclResult_t result, const char* part, const char* part2) {
  pthread_join(a->thread, NULL);
  if (a->result != result || !strstr(a->text, part) || !strstr(a->text, part2))
    fail_msg("rank %d: %s: \"%s\" lacks \"%s\" or \"%s\"", a->options.rank, mci_result_text(a->result), a->text, part,
             part2);
}

/* Each rank on a host of its own. */
static void fill(attempt* attempts, int n, const mci_id* id, uint64_t timeout_ns) {
  for (int i = 0; i < n; i++) {
    attempts[i] = (attempt){.id = *id, .options = rank_options(i, n)};
    attempts[i].options.host = 100 + (uint64_t)i;
    attempts[i].options.timeout_ns = timeout_ns;
    snprintf(attempts[i].text, sizeof attempts[i].text, "none");
  }
}

static void setting(const char* name, const char* value) {
  if (value) {
    setenv(name, value, 1);
  } else {
    unsetenv(name);
  }
  mci_params_reload();
}

static uint16_t free_port(void) {
  int fd;
  mci_net_addresses addresses;
  setting("MESHCCL_SOCKET_IFNAME", "lo");
  check_ok(mci_net_listen(true, 0, &fd, &addresses));
  close(fd);
  return addresses.at[0].port;
}

static void name_loopback(mci_id* id, uint16_t port) {
  const mci_net_addresses loopback = {.n = 1, .at = {{.family = 4, .port = port, .bytes = {127, 0, 0, 1}}}};
  mci_id_set_meeting(id, MEETING_NAMED, port, &loopback);
}

/* ---- strangers ---- */

static int stranger(const mci_id* id) {
  mci_net_addresses addresses;
  mci_id_get_meeting(id, &addresses);
  int fd = mci_net_connect(&addresses.at[0]);
  assert_true(fd >= 0);
  fcntl(fd, F_SETFL, 0);
  return fd;
}

static size_t frame(unsigned char* out, uint16_t type, const void* data, uint32_t bytes) {
  mci_header header = {.type = type, .to = -1, .bytes = bytes};
  memcpy(out, &header, sizeof header);
  if (data) memcpy(out + sizeof header, data, bytes);
  return sizeof header + bytes;
}

/* What one stranger says: random bytes, a promise of too much, a flood, half a hello, a hello that ends there, a hello
 * and a wrong proof, a recorded hello of somebody else's, or nothing. */
static void speak(int fd, int kind, uint64_t* random) {
  unsigned char data[9000];
  mci_hello hello = {.version = MCI_HELLO_VERSION, .rank = 1, .nranks = 3, .place = {.host = 7}};
  for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)test_random(random);
  size_t n = test_random(random) % sizeof data;
  if (kind == 1) frame(data, FRAME_HELLO, NULL, 0xfffffff0u);
  if (kind == 2) n = frame(data, FRAME_HELLO, NULL, 4096) * 2;
  if (kind >= 3) n = frame(data, FRAME_HELLO, &hello, sizeof hello);
  if (kind == 3) n /= 2;
  if (kind == 5) n += frame(data + n, FRAME_PROOF, NULL, 32);
  if (kind == 6) n += frame(data + n, FRAME_ANSWER, NULL, 32);
  if (kind == 7) n = 0;
  if (n > 0 && send(fd, data, n, MSG_NOSIGNAL) < 0) return;
}

static void pester(const mci_id* id, int* open, int nopen) {
  uint64_t random = test_seed();
  for (int i = 0; i < 160; i++) {
    int fd = stranger(id);
    speak(fd, i % 8, &random);
    close(fd);
  }
  for (int i = 0; i < nopen; i++) {
    open[i] = stranger(id);
    if (i % 2) speak(open[i], 3, &random); /* half a hello, and then silence */
  }
}

static void strangers_do_not_disturb_joining(void** state) {
  (void)state;
  enum { OPEN = 30 };
  mci_id id;
  attempt attempts[3];
  int open[OPEN];
  make_published_id(&id);
  fill(attempts, 3, &id, 20 * SECOND);
  begin(&attempts[0]);
  pester(&id, open, OPEN);
  for (int i = 1; i < 3; i++) begin(&attempts[i]);
  for (int i = 0; i < 3; i++) end(&attempts[i], meshcclSuccess, "", "");
  for (int i = 0; i < OPEN; i++) close(open[i]);
}

/* All 64 places are taken by the silent, more wait: ranks come in when the time of those is over. */
static void a_full_house_of_the_silent_only_delays(void** state) {
  (void)state;
  enum { OPEN = MCI_CONTROL_STRANGERS + 40 };
  mci_id id;
  attempt attempts[2];
  int open[OPEN];
  make_published_id(&id);
  fill(attempts, 2, &id, 60 * SECOND);
  begin(&attempts[0]);
  for (int i = 0; i < OPEN; i++) open[i] = stranger(&id);
  begin(&attempts[1]);
  for (int i = 0; i < 2; i++) end(&attempts[i], meshcclSuccess, "", "");
  for (int i = 0; i < OPEN; i++) close(open[i]);
}

/* The listeners stay when the ranks span hosts. */
static void pester_while_it_lives(rank_run* run, mci_boot* boot) {
  uint64_t random = test_seed();
  int open[20];
  expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
  mci_net_addresses addresses;
  mci_place_addresses(&boot->self, &addresses);
  expect(run, addresses.n > 0);
  for (int i = 0; i < 20; i++) {
    open[i] = mci_net_connect(&addresses.at[0]);
    fcntl(open[i], F_SETFL, 0);
    speak(open[i], i % 8, &random);
    if (i % 3) close(open[i]);
  }
  for (int round = 0; round < 20; round++) expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
  for (int i = 0; i < 20; i += 3) close(open[i]);
  char text[512];
  expect(run, mci_boot_status(boot, text, sizeof text) == meshcclSuccess);
}

static void strangers_do_not_disturb_later(void** state) {
  (void)state;
  run_crowd(&(crowd){.nranks = 18, .nhosts = 3, .body = pester_while_it_lives});
}

/* Whoever knows the secret, but comes when all are there, is told so. */
static void come_late(rank_run* run, mci_boot* boot) {
  expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
  if (run->rank == 1) {
    mci_dial dial;
    mci_packet packet;
    mci_net_addresses addresses;
    mci_place_addresses(&boot->above.at[0], &addresses);
    for (int attaches = 0; attaches < 2; attaches++) {
      mci_dial_start(boot, 0, &addresses.at[0], attaches, mci_now_ns() + 10 * SECOND, &dial);
      mci_dial_state state;
      while ((state = mci_dial_progress(boot, &dial, &packet)) == DIAL_BUSY) usleep(1000);
      mci_verdict verdict = {0};
      expect(run, state == DIAL_ANSWERED && packet.header.kind == ANSWER_REFUSE);
      memcpy(&verdict, packet.data, sizeof verdict);
      expect(run, strstr(verdict.text, attaches ? "connected already" : "comes too late"));
      mci_dial_close(&dial);
    }
  }
  expect(run, mci_boot_barrier(boot, 20 * SECOND) == meshcclSuccess);
}

static void who_comes_too_late_is_told_so(void** state) {
  (void)state;
  run_crowd(&(crowd){.nranks = 3, .nhosts = 3, .body = come_late});
}

/* Without descriptors the listener waits and does not spin; ranks come in when there are some again. */
static void want_of_descriptors_only_delays(void** state) {
  (void)state;
  mci_id id;
  attempt attempts[2];
  struct rlimit before, low;
  make_published_id(&id);
  fill(attempts, 2, &id, 20 * SECOND);
  begin(&attempts[0]);
  int probe = stranger(&id), used = 0;
  for (int fd = 0; fd < 4096; fd++)
    if (fcntl(fd, F_GETFD) >= 0) used = fd + 1;
  unsigned char challenge[sizeof(mci_header) + sizeof(mci_challenge)];
  uint64_t random = 1;
  speak(probe, 4, &random);
  assert_int_equal(recv(probe, challenge, sizeof challenge, MSG_WAITALL), sizeof challenge); /* rank 0 is all set up */
  int waiting[4];
  for (int i = 0; i < 4; i++) waiting[i] = stranger(&id);
  getrlimit(RLIMIT_NOFILE, &before);
  low = before;
  low.rlim_cur = (rlim_t)used;
  setrlimit(RLIMIT_NOFILE, &low);
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  double started = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  usleep(500000);
  getrusage(RUSAGE_SELF, &usage);
  double spent = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6 - started;
  setrlimit(RLIMIT_NOFILE, &before);
  assert_true(spent < 0.2);
  begin(&attempts[1]);
  for (int i = 0; i < 2; i++) end(&attempts[i], meshcclSuccess, "", "");
  close(probe);
  for (int i = 0; i < 4; i++) close(waiting[i]);
}

/* ---- joins that must fail ---- */

static void a_wrong_secret_is_refused(void** state) {
  (void)state;
  mci_id right, wrong;
  attempt attempts[3];
  uint16_t port = free_port();
  setenv("MESHCCL_SECRET", "right", 1);
  check_ok(mci_id_from_text("job", &right));
  setenv("MESHCCL_SECRET", "wrong", 1);
  check_ok(mci_id_from_text("job", &wrong));
  unsetenv("MESHCCL_SECRET");
  name_loopback(&right, port);
  name_loopback(&wrong, port);
  fill(attempts, 3, &right, SECOND);
  attempts[2].id = wrong;
  for (int i = 0; i < 3; i++) begin(&attempts[i]);
  end(&attempts[0], meshcclTimeout, "rank 2 has not joined", "");
  end(&attempts[1], meshcclTimeout, "rank 2 has not joined", "");
  end(&attempts[2], meshcclInvalidUsage, "does not know this id's secret", "127.0.0.1");
}

static void a_port_in_use_is_named(void** state) {
  (void)state;
  int fd;
  char part[32];
  mci_id id;
  attempt one[2];
  mci_net_addresses taken;
  setting("MESHCCL_SOCKET_IFNAME", "lo");
  check_ok(mci_net_listen(true, 0, &fd, &taken));
  check_ok(mci_id_create(&id));
  name_loopback(&id, taken.at[0].port);
  fill(one, 2, &id, 5 * SECOND);
  snprintf(part, sizeof part, "port %u is in use", taken.at[0].port);
  begin(&one[0]);
  end(&one[0], meshcclInvalidUsage, part, "MESHCCL_PORT");
  close(fd);
}

static void an_address_where_nobody_listens_is_named(void** state) {
  (void)state;
  mci_id id;
  char part[32];
  attempt two[2];
  uint16_t port = free_port();
  check_ok(mci_id_create(&id));
  name_loopback(&id, port);
  fill(two, 2, &id, SECOND);
  snprintf(part, sizeof part, "127.0.0.1:%u", port);
  begin(&two[1]);
  end(&two[1], meshcclTimeout, part, "Connection refused");
}

static void without_a_secret_only_loopback_is_used(void** state) {
  (void)state;
  static const mci_net_addresses elsewhere = {.n = 1, .at = {{.family = 4, .port = 9, .bytes = {192, 0, 2, 1}}}};
  mci_id id;
  attempt two[2];
  check_ok(mci_id_from_text("job", &id));
  mci_id_set_meeting(&id, MEETING_NAMED, 9, &elsewhere);
  fill(two, 2, &id, SECOND);
  begin(&two[1]);
  end(&two[1], meshcclTimeout, "192.0.2.1:9", "MESHCCL_SECRET_FILE");

  mci_net_addresses local;
  setting("MESHCCL_SOCKET_IFNAME", NULL);
  check_ok(mci_net_local(&local));
  if (mci_net_is_loopback(&local.at[0])) skip();
  name_loopback(&id, free_port());
  setting("MESHCCL_SOCKET_IFNAME", "^lo");
  fill(two, 2, &id, SECOND);
  begin(&two[0]);
  end(&two[0], meshcclInvalidUsage, "secret", "MESHCCL_SECRET_FILE");
  setting("MESHCCL_SOCKET_IFNAME", NULL);
}

static void an_id_without_an_address_says_what_is_missing(void** state) {
  (void)state;
  mci_id id;
  attempt two[2];
  check_ok(mci_id_create(&id));
  fill(two, 2, &id, SECOND);
  for (int i = 0; i < 2; i++) begin(&two[i]);
  end(&two[0], meshcclTimeout, "rank 1 has not joined", "MESHCCL_ROOT");
  end(&two[1], meshcclTimeout, "rank 0 does not answer", "MESHCCL_ROOT");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(strangers_do_not_disturb_joining),
      cmocka_unit_test(strangers_do_not_disturb_later),
      cmocka_unit_test(who_comes_too_late_is_told_so),
      cmocka_unit_test(a_full_house_of_the_silent_only_delays),
      cmocka_unit_test(want_of_descriptors_only_delays),
      cmocka_unit_test(a_wrong_secret_is_refused),
      cmocka_unit_test(a_port_in_use_is_named),
      cmocka_unit_test(an_address_where_nobody_listens_is_named),
      cmocka_unit_test(without_a_secret_only_loopback_is_used),
      cmocka_unit_test(an_id_without_an_address_says_what_is_missing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
