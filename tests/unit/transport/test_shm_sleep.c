/* shm: ranks that sleep on their wait handle are woken for every message and for every place that comes free, among
 * threads, processes and both, with membarrier and without. */
#include <pthread.h>
#include <sched.h>

#include "rig.h"

#define ROUNDS 5000
#define FLOOD 3000

/* What peers are told of a context without membarrier, and what the context itself does. */
static void without_barrier(struct rig* rig) {
  struct mci_shm_ctx* ctx = rig->ctx;
  ctx->self.flags = 0;
  rig->bytes = sizeof rig->address;
  check_ok(SHM->address(rig->ctx, rig->address, &rig->bytes));
}

/* One message each way, asleep in between: every lost wake-up is a timeout. */
static int ping_pong(struct rig* rig, void* ep, bool first) {
  for (int i = 1; i <= ROUNDS; i++) {
    if (first && rig_send(ep, (uint32_t)i, &i, sizeof i) != meshcclSuccess) return 1;
    if (!sleep_until(rig, &rig->host.arrivals, i)) return 2;
    if (!first && rig_send(ep, (uint32_t)i, &i, sizeof i) != meshcclSuccess) return 3;
  }
  return 0;
}

/* Sends when there is room, and sleeps when there is neither room nor an arrival. Both sides do, each full of the
 * other's messages again and again. */
static int flood(struct rig* rig, void* ep, bool first) {
  static const unsigned char payload[MCI_SHM_MAX_PAYLOAD];
  int sent = 0;
  uint64_t seed = first ? 1 : 2;
  while (sent < FLOOD || rig->host.arrivals < FLOOD) {
    size_t bytes = test_random(&seed) % sizeof payload;
    while (sent < FLOOD && rig_send(ep, 0, payload, bytes) == meshcclSuccess) sent++;
    if (test_random(&seed) % 8 == 0) sched_yield();
    if (SHM->progress(rig->ctx) > 0 || (sent == FLOOD && rig->host.arrivals == FLOOD)) continue;
    meshcclResult_t armed = SHM->arm(rig->ctx);
    if (armed == meshcclBusy) continue;
    struct pollfd waiting = {.fd = ((struct mci_shm_ctx*)rig->ctx)->wake_read, .events = POLLIN};
    if (armed != meshcclSuccess || poll(&waiting, 1, 20000) == 0) return 4;
  }
  return 0;
}

typedef int (*game)(struct rig* rig, void* ep, bool first);

struct partner {
  struct rig own;
  struct rig* peer;
  game play;
  int result;
};

static void* partner_thread(void* arg) {
  struct partner* partner = arg;
  void* ep = rig_connect(&partner->own, partner->peer);
  partner->result = partner->play(&partner->own, ep, false);
  SHM->disconnect(ep);
  return NULL;
}

static void between_threads(game play, bool barrier) {
  struct rig own;
  struct partner partner = {.play = play, .peer = &own};
  pthread_t thread;
  rig_open(&own, 0, 2);
  rig_open(&partner.own, 1, 2);
  if (!barrier) without_barrier(&own);
  if (!barrier) without_barrier(&partner.own);
  void* ep = rig_connect(&own, &partner.own);
  assert_int_equal(pthread_create(&thread, NULL, partner_thread, &partner), 0);
  int result = play(&own, ep, true);
  pthread_join(thread, NULL);
  assert_int_equal(result, 0);
  assert_int_equal(partner.result, 0);
  SHM->disconnect(ep);
  SHM->close(own.ctx);
  SHM->close(partner.own.ctx);
}

struct script {
  game play;
  bool barrier;
};

static int partner_process(int fd, void* arg) {
  const struct script* script = arg;
  struct rig own, peer;
  char over;
  rig_open(&own, 1, 2);
  if (!script->barrier) without_barrier(&own);
  rig_exchange(fd, &own, &peer, 0);
  void* ep = rig_connect(&own, &peer);
  int result = script->play(&own, ep, false);
  tell(fd, "x", 1);
  hear(fd, &over, 1);
  SHM->disconnect(ep);
  SHM->close(own.ctx);
  return result;
}

static void between_processes(game play, bool barrier) {
  struct script script = {play, barrier};
  struct rig own, peer;
  char over;
  int fd;
  pid_t pid = spawn(partner_process, &script, &fd);
  rig_open(&own, 0, 2);
  if (!barrier) without_barrier(&own);
  rig_exchange(fd, &own, &peer, 1);
  void* ep = rig_connect(&own, &peer);
  int result = play(&own, ep, true);
  tell(fd, "x", 1);
  hear(fd, &over, 1);
  assert_int_equal(join_child(pid, fd), 0);
  assert_int_equal(result, 0);
  SHM->disconnect(ep);
  SHM->close(own.ctx);
}

static void a_message_wakes_a_sleeping_thread(void** state) {
  (void)state;
  between_threads(ping_pong, true);
  between_threads(ping_pong, false);
}

static void a_message_wakes_a_sleeping_process(void** state) {
  (void)state;
  between_processes(ping_pong, true);
  between_processes(ping_pong, false);
}

static void room_wakes_a_sleeping_thread(void** state) {
  (void)state;
  between_threads(flood, true);
  between_threads(flood, false);
}

static void room_wakes_a_sleeping_process(void** state) {
  (void)state;
  between_processes(flood, true);
  between_processes(flood, false);
}

static void arming_says_busy_while_something_waits(void** state) {
  (void)state;
  struct rig a;
  rig_open(&a, 0, 1);
  void* ep = rig_connect(&a, &a);
  assert_int_equal(SHM->arm(a.ctx), meshcclSuccess);
  check_ok(rig_send(ep, 0, NULL, 0));
  assert_int_equal(SHM->arm(a.ctx), meshcclBusy);
  assert_int_equal(SHM->progress(a.ctx), 1);
  assert_int_equal(SHM->arm(a.ctx), meshcclSuccess);
  SHM->disconnect(ep);
  SHM->close(a.ctx);
}

/* An idle rank burns nothing: the handle is silent until there is work, and silent again once that is done. */
static void the_handle_is_readable_only_when_there_is_work(void** state) {
  (void)state;
  struct rig a, b;
  rig_open(&a, 0, 2);
  rig_open(&b, 1, 2);
  void *ab = rig_connect(&a, &b), *ba = rig_connect(&b, &a);
  struct pollfd waiting = {.fd = ((struct mci_shm_ctx*)b.ctx)->wake_read, .events = POLLIN};
  check_ok(rig_send(ab, 0, NULL, 0)); /* nobody sleeps: no system call, nothing to read */
  assert_int_equal(poll(&waiting, 1, 0), 0);
  assert_int_equal(SHM->progress(b.ctx), 1);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(SHM->arm(b.ctx), meshcclSuccess);
    assert_int_equal(poll(&waiting, 1, 0), 0);
    check_ok(rig_send(ab, 0, NULL, 0));
    check_ok(rig_send(ab, 0, NULL, 0));
    assert_int_equal(poll(&waiting, 1, 0), 1);
    assert_int_equal(SHM->progress(b.ctx), 1);
    assert_int_equal(SHM->arm(b.ctx), meshcclBusy); /* one message at a time: nobody sleeps over the second */
    assert_int_equal(SHM->progress(b.ctx), 1);
    assert_int_equal(SHM->progress(b.ctx), 0);
    assert_int_equal(poll(&waiting, 1, 0), 0);
  }
  SHM->disconnect(ab);
  SHM->disconnect(ba);
  SHM->close(a.ctx);
  SHM->close(b.ctx);
}

/* The narrowest race: one sends at the very moment at which the other arms. Whoever is told that it may sleep must find
 * the handle readable, without any other event. */
struct race {
  struct rig own, peer;
  atomic_int round;
};

#define RACES 150000

static void spin_for(uint64_t turns) {
  for (volatile uint64_t i = 0; i < turns; i++) continue;
}

/* Spins, so that both move within nanoseconds of each other; yields where the other has no processor. */
static void await_round(struct race* race, int round) {
  for (int turn = 1; atomic_load_explicit(&race->round, memory_order_acquire) < round; turn++)
    if (turn % 4096 == 0) sched_yield();
}

static void* racing_sender(void* arg) {
  struct race* race = arg;
  uint64_t seed = 3;
  void* ep = rig_connect(&race->peer, &race->own);
  for (int i = 1; i <= RACES; i++) {
    await_round(race, i);
    spin_for(test_random(&seed) % 16);
    if (rig_send(ep, 0, NULL, 0) != meshcclSuccess) break;
  }
  SHM->disconnect(ep);
  return NULL;
}

static void race_with(bool barrier) {
  struct race race = {.round = 0};
  pthread_t thread;
  uint64_t seed = test_seed();
  int fd, slept = 0, lost = 0;
  uint32_t poll_us;
  rig_open(&race.own, 0, 2);
  rig_open(&race.peer, 1, 2);
  if (!barrier) without_barrier(&race.own);
  if (!barrier) without_barrier(&race.peer);
  void* ep = rig_connect(&race.own, &race.peer);
  check_ok(SHM->waitHandle(race.own.ctx, &fd, &poll_us));
  assert_int_equal(pthread_create(&thread, NULL, racing_sender, &race), 0);
  for (int i = 1; i <= RACES && !lost; i++) {
    atomic_store(&race.round, i);
    spin_for(test_random(&seed) % 16);
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    while (race.own.host.arrivals < i && !lost) {
      bool may_sleep = SHM->arm(race.own.ctx) == meshcclSuccess;
      slept += may_sleep;
      lost = may_sleep && poll(&waiting, 1, 5000) == 0;
      SHM->progress(race.own.ctx);
    }
  }
  atomic_store(&race.round, RACES);
  pthread_join(thread, NULL);
  assert_int_equal(lost, 0);
  assert_true(slept > 0);
  SHM->disconnect(ep);
  SHM->close(race.own.ctx);
  SHM->close(race.peer.ctx);
}

static void arming_and_sending_at_once_loses_nothing(void** state) {
  (void)state;
  race_with(true);
  race_with(false);
}

/* Three ranks of two processes, two of them threads of one: a token goes round while everybody else sleeps. */
static int pass_round(struct rig* own, void* next, int first) {
  for (int i = 1; i <= ROUNDS / 5; i++) {
    if (first && rig_send(next, 0, NULL, 0) != meshcclSuccess) return 1;
    if (!sleep_until(own, &own->host.arrivals, i)) return 2;
    if (!first && rig_send(next, 0, NULL, 0) != meshcclSuccess) return 3;
  }
  return 0;
}

struct member {
  struct rig own, next, previous;
  int result;
};

static void* member_thread(void* arg) {
  struct member* m = arg;
  void *next = rig_connect(&m->own, &m->next), *previous = rig_connect(&m->own, &m->previous);
  m->result = pass_round(&m->own, next, m->own.host.table.rank == 0);
  SHM->disconnect(next);
  SHM->disconnect(previous);
  return NULL;
}

static int lone_member(int fd, void* arg) {
  struct member* m = arg;
  rig_open(&m->own, 2, 3);
  rig_exchange(fd, &m->own, &m->next, 0);
  rig_exchange(fd, &m->own, &m->previous, 1);
  member_thread(m);
  char over;
  hear(fd, &over, 1);
  SHM->close(m->own.ctx);
  return m->result;
}

static void threads_and_processes_mix(void** state) {
  (void)state;
  static struct member members[3];
  int fd;
  pid_t pid = spawn(lone_member, &members[2], &fd);
  for (int i = 0; i < 2; i++) rig_open(&members[i].own, i, 3);
  rig_exchange(fd, &members[0].own, &members[0].previous, 2);
  rig_exchange(fd, &members[1].own, &members[1].next, 2);
  members[0].next = members[1].own;
  members[1].previous = members[0].own;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, member_thread, &members[1]), 0);
  member_thread(&members[0]);
  pthread_join(thread, NULL);
  tell(fd, "x", 1);
  assert_int_equal(join_child(pid, fd), 0);
  assert_int_equal(members[0].result, 0);
  assert_int_equal(members[1].result, 0);
  for (int i = 0; i < 2; i++) SHM->close(members[i].own.ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(arming_says_busy_while_something_waits),
      cmocka_unit_test(the_handle_is_readable_only_when_there_is_work),
      cmocka_unit_test(a_message_wakes_a_sleeping_process),
      cmocka_unit_test(room_wakes_a_sleeping_process),
      cmocka_unit_test(threads_and_processes_mix),
      cmocka_unit_test(a_message_wakes_a_sleeping_thread),
      cmocka_unit_test(room_wakes_a_sleeping_thread),
      cmocka_unit_test(arming_and_sending_at_once_loses_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
