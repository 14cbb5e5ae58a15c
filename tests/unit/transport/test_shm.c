/* shm: connecting in any order, in one process and across processes; what is full, gone, closed or broken; nothing left
 * behind. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>

#include "rig.h"

static void count_in_order(struct test_host* host, void* peer, const void* header, size_t bytes, const void* data) {
  uint32_t number;
  (void)peer;
  memcpy(&number, header, sizeof number);
  int* wrong = host->user;
  *wrong += number != (uint32_t)(host->arrivals - 1);
  for (size_t i = 0; i < bytes; i++) *wrong += ((const unsigned char*)data)[i] != (unsigned char)(number + i);
}

static void fill(unsigned char* payload, size_t bytes, uint32_t number) {
  for (size_t i = 0; i < bytes; i++) payload[i] = (unsigned char)(number + i);
}

static void sends_before_the_peer_connects_are_kept(void** state) {
  (void)state;
  struct rig a, b;
  unsigned char payload[1000];
  int wrong = 0;
  rig_open(&a, 0, 2);
  rig_open(&b, 1, 2);
  void* ab = rig_connect(&a, &b);
  for (uint32_t i = 0; i < 50; i++) {
    fill(payload, i * 20, i);
    check_ok(rig_send(ab, i, payload, i * 20));
  }
  assert_int_equal(SHM->progress(b.ctx), 0);
  b.host.on_arrive = count_in_order;
  b.host.user = &wrong;
  void* ba = rig_connect(&b, &a);
  while (SHM->progress(b.ctx) > 0) continue;
  assert_int_equal(b.host.arrivals, 50);
  assert_ptr_equal(b.host.last_peer, &a);
  assert_int_equal(wrong, 0);
  SHM->disconnect(ab);
  SHM->disconnect(ba);
  SHM->close(a.ctx);
  SHM->close(b.ctx);
}

static void a_context_may_talk_to_itself(void** state) {
  (void)state;
  struct rig a;
  rig_open(&a, 0, 1);
  void* ep = rig_connect(&a, &a);
  for (uint32_t i = 0; i < 1000; i++) {
    check_ok(rig_send(ep, i, &i, sizeof i));
    assert_int_equal(SHM->progress(a.ctx), 1);
  }
  assert_int_equal(a.host.arrivals, 1000);
  SHM->disconnect(ep);
  SHM->close(a.ctx);
}

static void a_full_ring_is_busy_and_room_is_an_event(void** state) {
  (void)state;
  static const size_t sizes[] = {0, MCI_SHM_INLINE, MCI_SHM_INLINE + 1, 4096, MCI_SHM_MAX_PAYLOAD};
  static unsigned char payload[MCI_SHM_MAX_PAYLOAD];
  for (size_t s = 0; s < MCI_COUNT(sizes); s++) {
    struct rig a, b;
    rig_open(&a, 0, 2);
    rig_open(&b, 1, 2);
    void *ab = rig_connect(&a, &b), *ba = rig_connect(&b, &a);
    int taken = 0;
    while (rig_send(ab, 0, payload, sizes[s]) == meshcclSuccess) taken++;
    if (taken < 3) fail_msg("only %d messages of %zu bytes fit", taken, sizes[s]);
    for (int i = 0; i < 100; i++) assert_int_equal(rig_send(ab, 0, payload, sizes[s]), meshcclBusy);
    assert_int_equal(SHM->progress(a.ctx), 0);
    assert_int_equal(SHM->arm(a.ctx), meshcclSuccess);
    while (SHM->progress(b.ctx) > 0) continue;
    assert_int_equal(b.host.arrivals, taken);
    assert_int_equal(SHM->arm(a.ctx), meshcclBusy);
    assert_int_equal(SHM->progress(a.ctx), 1);
    assert_int_equal(SHM->progress(a.ctx), 0);
    check_ok(rig_send(ab, 0, payload, sizes[s]));
    assert_int_equal(a.host.failures, 0);
    SHM->disconnect(ab);
    SHM->disconnect(ba);
    SHM->close(a.ctx);
    SHM->close(b.ctx);
  }
}

static void too_large_a_payload_is_refused(void** state) {
  (void)state;
  static unsigned char payload[MCI_SHM_MAX_PAYLOAD + 1];
  struct rig a;
  rig_open(&a, 0, 1);
  void* ep = rig_connect(&a, &a);
  check_fails(rig_send(ep, 0, payload, sizeof payload), meshcclInvalidArgument, "16385");
  SHM->disconnect(ep);
  SHM->close(a.ctx);
}

static void strangers_are_not_reached(void** state) {
  (void)state;
  static const char* const rows[] = {"host", "uid",  "namespace", "magic",        "rank",       "nranks",
                                     "pid",  "file", "token",     "memory inode", "wake inode", "zero token"};
  struct rig a, b;
  meshcclTransportFigures_t figures;
  rig_open(&a, 0, 2);
  rig_open(&b, 1, 2);
  check_ok(SHM->reach(a.ctx, b.address, b.bytes, &figures));
  assert_true(figures.flags & MESHCCL_SAME_PROCESS);
  assert_true(figures.maxPayload >= 4096);
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    struct mci_shm_address bad;
    void* ep;
    memcpy(&bad, b.address, sizeof bad);
    uint64_t* const wide[] = {&bad.host, &bad.pid_namespace, &bad.memory_inode, &bad.wake_inode, &bad.token};
    if (i == 0) *wide[0] ^= 1;
    if (i == 1) bad.uid ^= 1;
    if (i == 2) *wide[1] ^= 1;
    if (i == 3) bad.magic ^= 1;
    if (i == 4) bad.rank = 2;
    if (i == 5) bad.nranks = 0;
    if (i == 6) bad.pid = 1 << 30;
    if (i == 7) bad.memory_fd = bad.wake_fd;
    if (i == 8) *wide[4] ^= 2;
    if (i == 9) *wide[2] ^= 1;
    if (i == 10) *wide[3] ^= 1;
    if (i == 11) *wide[4] = 0;
    if (SHM->reach(a.ctx, &bad, b.bytes, &figures) != meshcclNotSupported) fail_msg("reached: wrong %s", rows[i]);
    assert_int_equal(a.host.failures, (int)i); /* reach is silent, connect is not */
    if (SHM->connect(a.ctx, &b, 1, &bad, b.bytes, &ep) == meshcclSuccess) fail_msg("connected: wrong %s", rows[i]);
    assert_int_equal(a.host.failures, (int)i + 1);
  }
  assert_int_equal(SHM->reach(a.ctx, b.address, b.bytes - 1, &figures), meshcclNotSupported);
  SHM->disconnect(rig_connect(&a, &b)); /* no failed attempt spoiled it */
  SHM->close(b.ctx);
  assert_int_equal(SHM->reach(a.ctx, b.address, b.bytes, &figures), meshcclNotSupported);
  SHM->close(a.ctx);
}

static void hosts_of_different_names_do_not_share_memory(void** state) {
  (void)state;
  struct rig rigs[3];
  static const uint64_t hosts[] = {1, 2, 1};
  meshcclTransportFigures_t figures;
  for (int i = 0; i < 3; i++) {
    memset(&rigs[i], 0, sizeof rigs[i]);
    host_init(&rigs[i].host, i, 3);
    rigs[i].host.table.hostId = hosts[i];
    check_ok(SHM->open(&rigs[i].host.table, &rigs[i].ctx));
    rigs[i].bytes = sizeof rigs[i].address;
    check_ok(SHM->address(rigs[i].ctx, rigs[i].address, &rigs[i].bytes));
  }
  assert_int_equal(SHM->reach(rigs[0].ctx, rigs[1].address, rigs[1].bytes, &figures), meshcclNotSupported);
  check_ok(SHM->reach(rigs[0].ctx, rigs[2].address, rigs[2].bytes, &figures));
  for (int i = 0; i < 3; i++) SHM->close(rigs[i].ctx);
}

static void a_rank_that_exists_twice_is_named(void** state) {
  (void)state;
  struct rig a, b, twin;
  void* ep;
  rig_open(&a, 0, 2);
  rig_open(&b, 1, 2);
  rig_open(&twin, 1, 2);
  void* ba = rig_connect(&b, &a);
  check_fails(SHM->connect(twin.ctx, &a, 0, a.address, a.bytes, &ep), meshcclInvalidUsage, "itself rank 1");
  check_fails(SHM->connect(a.ctx, &twin, 1, twin.address, twin.bytes, &ep), meshcclInvalidUsage, "themselves rank 1");
  void* ab = rig_connect(&a, &b);
  check_fails(SHM->connect(a.ctx, &b, 1, b.address, b.bytes, &ep), meshcclInvalidUsage, "connected already");
  check_ok(rig_send(ab, 0, NULL, 0));
  assert_int_equal(SHM->progress(b.ctx), 1);
  SHM->disconnect(ab);
  SHM->disconnect(ba);
  SHM->close(twin.ctx);
  SHM->close(a.ctx);
  SHM->close(b.ctx);
}

static void messages_outlive_disconnect_and_close(void** state) {
  (void)state;
  struct rig a, b;
  rig_open(&a, 0, 2);
  rig_open(&b, 1, 2);
  void *ab = rig_connect(&a, &b), *ba = rig_connect(&b, &a);
  for (uint32_t i = 0; i < 10; i++) check_ok(rig_send(ab, i, &i, sizeof i));
  SHM->disconnect(ab);
  ab = rig_connect(&a, &b); /* goes on where it was */
  for (uint32_t i = 0; i < 10; i++) check_ok(rig_send(ab, i, &i, sizeof i));
  SHM->disconnect(ab);
  SHM->close(a.ctx);
  while (SHM->progress(b.ctx) > 0) continue;
  assert_int_equal(b.host.arrivals, 20);
  while (rig_send(ba, 0, NULL, 0) == meshcclSuccess)
    continue; /* into the void, and then Busy: never a crash or a wait */
  assert_int_equal(rig_send(ba, 0, NULL, 0), meshcclBusy);
  SHM->disconnect(ba);
  SHM->close(b.ctx);
}

static int leave_messages(int fd, void* arg) {
  (void)arg;
  struct rig own, peer;
  rig_open(&own, 1, 2);
  rig_exchange(fd, &own, &peer, 0);
  void* ep = rig_connect(&own, &peer);
  int wrong = 0;
  for (uint32_t i = 0; i < 10; i++) wrong += rig_send(ep, i, &i, sizeof i) != meshcclSuccess;
  SHM->disconnect(ep);
  SHM->close(own.ctx);
  return wrong;
}

static void what_a_process_left_is_read_after_its_end(void** state) {
  (void)state;
  struct rig own, peer, other;
  int fd;
  rig_open(&own, 0, 3);
  pid_t pid = spawn(leave_messages, NULL, &fd);
  rig_exchange(fd, &own, &peer, 1);
  assert_int_equal(join_child(pid, fd), 0);
  void* ep = rig_connect(&own, &peer);
  while (SHM->progress(own.ctx) > 0) continue;
  assert_int_equal(own.host.arrivals, 10);
  check_fails(rig_send(ep, 0, NULL, 0), meshcclRemoteError, "rank 1 has closed");
  assert_int_equal(SHM->arm(own.ctx), meshcclSuccess);
  SHM->disconnect(ep);
  rig_open(&other, 2, 3); /* whoever left nothing is not there */
  SHM->close(other.ctx);
  check_fails(SHM->connect(own.ctx, &other, 2, other.address, other.bytes, &ep), meshcclRemoteError, "rank 2");
  SHM->close(own.ctx);
}

static int wait_to_be_killed(int fd, void* arg) {
  (void)arg;
  struct rig own, peer;
  rig_open(&own, 1, 2);
  rig_exchange(fd, &own, &peer, 0);
  rig_connect(&own, &peer);
  if (SHM->arm(own.ctx) != meshcclSuccess) return 1;
  tell(fd, "r", 1);
  for (;;) pause();
}

static void a_killed_peer_means_busy_not_a_signal_or_a_wait(void** state) {
  (void)state;
  static unsigned char payload[4096];
  struct rig own, peer;
  char ready;
  int fd;
  rig_open(&own, 0, 2);
  pid_t pid = spawn(wait_to_be_killed, NULL, &fd);
  rig_exchange(fd, &own, &peer, 1);
  hear(fd, &ready, 1);
  void* ep = rig_connect(&own, &peer);
  kill(pid, SIGKILL);
  assert_int_equal(join_child(pid, fd), 1000 + SIGKILL);
  int taken = 0; /* the first of them writes to the wake pipe of the dead */
  while (rig_send(ep, 0, payload, sizeof payload) == meshcclSuccess) taken++;
  assert_in_range(taken, 3, 1000);
  assert_int_equal(rig_send(ep, 0, payload, sizeof payload), meshcclBusy);
  assert_int_equal(SHM->progress(own.ctx), 0);
  assert_int_equal(SHM->arm(own.ctx), meshcclSuccess);
  SHM->disconnect(ep);
  SHM->close(own.ctx);
}

static void garbage_breaks_the_endpoint_once(void** state) {
  (void)state;
  struct rig a, b;
  rig_open(&a, 0, 2);
  rig_open(&b, 1, 2);
  void *ab = rig_connect(&a, &b), *ba = rig_connect(&b, &a);
  check_ok(rig_send(ab, 0, NULL, 0));
  struct mci_shm_ring* ring = ((struct mci_shm_ep*)ab)->tx.ring;
  atomic_store(&ring->cells[1].tag, (uint64_t)2 << 32 | UINT32_MAX);
  for (int i = 0; i < 3; i++) SHM->progress(b.ctx);
  assert_int_equal(b.host.arrivals, 1);
  assert_int_equal(b.host.broken, 1);
  assert_int_equal(SHM->arm(b.ctx), meshcclSuccess);
  check_fails(rig_send(ba, 0, NULL, 0), meshcclRemoteError, "garbage");
  SHM->disconnect(ab);
  SHM->disconnect(ba);
  SHM->close(a.ctx);
  SHM->close(b.ctx);
}

static void* ep_to_drop;

static void drop_endpoint(struct test_host* host, void* peer, const void* header, size_t bytes, const void* data) {
  (void)host, (void)peer, (void)header, (void)bytes, (void)data;
  SHM->disconnect(ep_to_drop);
}

static void callbacks_stop_at_disconnect_inside_one(void** state) {
  (void)state;
  struct rig a;
  rig_open(&a, 0, 1);
  a.host.on_arrive = drop_endpoint;
  ep_to_drop = rig_connect(&a, &a);
  for (uint32_t i = 0; i < 3; i++) check_ok(rig_send(ep_to_drop, i, NULL, 0));
  while (SHM->progress(a.ctx) > 0) continue;
  assert_int_equal(a.host.arrivals, 1);
  a.host.on_arrive = NULL;
  void* ep = rig_connect(&a, &a);
  while (SHM->progress(a.ctx) > 0) continue;
  assert_int_equal(a.host.arrivals, 3); /* the others had waited */
  SHM->disconnect(ep);
  SHM->close(a.ctx);
}

#define MANY 41

static void many_peers_are_all_heard_and_cost_little(void** state) {
  (void)state;
  static struct rig rigs[MANY];
  void *to[MANY] = {0}, *from[MANY] = {0};
  for (int i = 0; i < MANY; i++) rig_open(&rigs[i], i, MANY);
  for (int i = 1; i < MANY; i++) {
    to[i] = rig_connect(&rigs[i], &rigs[0]);
    from[i] = rig_connect(&rigs[0], &rigs[i]);
  }
  for (uint32_t round = 1; round <= 20; round++) {
    for (int i = 1; i < MANY; i++) check_ok(rig_send(to[i], round, NULL, 0));
    int calls = 0;
    while (rigs[0].host.arrivals < (int)round * (MANY - 1) && calls < 1000) calls += SHM->progress(rigs[0].ctx) >= 0;
    assert_int_equal(rigs[0].host.arrivals, (int)round * (MANY - 1));
    assert_in_range(calls, 1, 8);
  }
  struct stat status;
  fstat(((struct mci_shm_ctx*)rigs[1].ctx)->memory_fd, &status);
  assert_in_range(status.st_blocks * 512, 1, 4 * MCI_SHM_PAGE); /* 41 rings of 128 KiB, of which one is touched */
  for (int i = 1; i < MANY; i++) {
    SHM->disconnect(to[i]);
    SHM->disconnect(from[i]);
  }
  for (int i = 0; i < MANY; i++) SHM->close(rigs[i].ctx);
}

static struct rig lively;
static pthread_mutex_t lively_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool lively_over, lively_met;

static void* open_and_close(void* arg) {
  (void)arg;
  for (int i = 0; i < 2000 || (i < 2000000 && !atomic_load(&lively_met)); i++) {
    struct rig rig;
    rig_open(&rig, 1, 2);
    pthread_mutex_lock(&lively_lock);
    memcpy(lively.address, rig.address, sizeof rig.address);
    lively.bytes = rig.bytes;
    pthread_mutex_unlock(&lively_lock);
    sched_yield();
    SHM->close(rig.ctx);
  }
  atomic_store(&lively_over, true);
  return NULL;
}

/* The peer's mapping is used directly within a process: it must not vanish under an endpoint. */
static void a_thread_may_close_while_another_connects(void** state) {
  (void)state;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, open_and_close, NULL), 0);
  while (!atomic_load(&lively_over)) {
    struct rig own;
    void* ep = NULL;
    unsigned char address[MESHCCL_ADDRESS_BYTES];
    pthread_mutex_lock(&lively_lock);
    memcpy(address, lively.address, sizeof address);
    size_t bytes = lively.bytes;
    pthread_mutex_unlock(&lively_lock);
    rig_open(&own, 0, 2);
    if (bytes && SHM->connect(own.ctx, &own, 1, address, bytes, &ep) == meshcclSuccess) {
      atomic_store(&lively_met, true);
      for (uint32_t i = 0; i < 5; i++) check_ok(rig_send(ep, i, &own, 1000));
      SHM->disconnect(ep);
    }
    SHM->close(own.ctx);
  }
  pthread_join(thread, NULL);
  assert_true(lively_met);
}

static int close_what_was_inherited(int fd, void* arg) {
  void** inherited = arg;
  (void)fd;
  SHM->disconnect(inherited[0]);
  SHM->disconnect(inherited[1]);
  SHM->close(inherited[2]);
  SHM->close(inherited[3]);
  return 0;
}

static void a_forked_child_does_not_disturb(void** state) {
  (void)state;
  struct rig a, b;
  int fd;
  rig_open(&a, 0, 2);
  rig_open(&b, 1, 2);
  void* inherited[4] = {rig_connect(&a, &b), rig_connect(&b, &a), a.ctx, b.ctx};
  for (int round = 0; round < 3; round++) {
    check_ok(rig_send(inherited[0], 0, NULL, 0));
    pid_t pid = spawn(close_what_was_inherited, inherited, &fd);
    assert_int_equal(join_child(pid, fd), 0);
    check_ok(rig_send(inherited[0], 1, NULL, 0));
    for (int message = 0; message < 2; message++) assert_int_equal(SHM->progress(b.ctx), 1);
    assert_int_equal(SHM->arm(a.ctx), meshcclSuccess);
    check_ok(rig_send(inherited[1], 0, NULL, 0));
    assert_int_equal(SHM->progress(a.ctx), 1);
  }
  SHM->disconnect(inherited[0]);
  SHM->disconnect(inherited[1]);
  SHM->close(a.ctx);
  SHM->close(b.ctx);
}

static int descriptors_before, mappings_before;

static void nothing_is_left(void** state) {
  (void)state;
  assert_int_equal(count_descriptors(), descriptors_before);
  assert_int_equal(count_mappings(), mappings_before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sends_before_the_peer_connects_are_kept),
      cmocka_unit_test(a_context_may_talk_to_itself),
      cmocka_unit_test(a_full_ring_is_busy_and_room_is_an_event),
      cmocka_unit_test(too_large_a_payload_is_refused),
      cmocka_unit_test(strangers_are_not_reached),
      cmocka_unit_test(hosts_of_different_names_do_not_share_memory),
      cmocka_unit_test(a_rank_that_exists_twice_is_named),
      cmocka_unit_test(messages_outlive_disconnect_and_close),
      cmocka_unit_test(what_a_process_left_is_read_after_its_end),
      cmocka_unit_test(a_killed_peer_means_busy_not_a_signal_or_a_wait),
      cmocka_unit_test(garbage_breaks_the_endpoint_once),
      cmocka_unit_test(callbacks_stop_at_disconnect_inside_one),
      cmocka_unit_test(many_peers_are_all_heard_and_cost_little),
      cmocka_unit_test(a_thread_may_close_while_another_connects),
      cmocka_unit_test(a_forked_child_does_not_disturb),
      cmocka_unit_test(nothing_is_left),
  };
  descriptors_before = count_descriptors();
  mappings_before = count_mappings();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
