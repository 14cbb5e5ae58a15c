/* Drivers: the same bodies in one thread, in a thread each, in a forked process each, or in launched processes. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "traffic.h"

/* ---- one body per rank, in threads or processes ---- */

typedef struct {
  const suite_subject* subject;
  suite_world* world;
  int rank;
  suite_body body;
  const void* argument;
} seat;

static void seat_body(void* argument) {
  seat* s = argument;
  s->body(s->subject, s->world, s->rank, s->argument);
}

static void* seat_thread(void* argument) {
  seat* s = argument;
  suite_guard(s->world, seat_body, s);
  return NULL;
}

static void spread_threads(seat* seats, int n) {
  pthread_t threads[SUITE_MAX_PARTIES];
  for (int i = 0; i < n; i++) assert_int_equal(pthread_create(&threads[i], NULL, seat_thread, &seats[i]), 0);
  for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
}

static void spread_processes(seat* seats, int n, int expectKilled) {
  pid_t children[SUITE_MAX_PARTIES];
  fflush(NULL);
  for (int i = 0; i < n; i++) {
    children[i] = fork();
    assert_true(children[i] >= 0);
    if (children[i] == 0) {
      suite_guard(seats[i].world, seat_body, &seats[i]);
      fflush(NULL);
      _exit(atomic_load(&seats[i].world->failed) != 0);
    }
  }
  /* In the order they end, so that one that dies stops the others. */
  for (int ended = 0; ended < n; ended++) {
    siginfo_t info = {0};
    waitid(P_ALL, 0, &info, WEXITED);
    int rank = 0;
    while (rank < n && children[rank] != info.si_pid) rank++;
    if (rank == n || rank == expectKilled || (info.si_code == CLD_EXITED && info.si_status <= 1)) continue;
    suite_world* world = seats[0].world;
    int none = 0;
    if (!atomic_compare_exchange_strong(&world->failed, &none, 1)) continue;
    snprintf(world->failure, sizeof world->failure, "rank %d ended with %s %d", rank,
             info.si_code == CLD_EXITED ? "status" : "signal", info.si_status);
    atomic_store_explicit(&world->failed, 2, memory_order_release);
  }
}

static void settle(suite_world* world) {
  char failure[sizeof world->failure];
  bool failed = atomic_load(&world->failed) != 0;
  memcpy(failure, world->failure, sizeof failure);
  suite_world_free(world);
  if (failed) fail_msg("%s", failure);
}

void suite_spread(const suite_subject* subject, suite_mode mode, int n, suite_body body, const void* argument,
                  int expectKilled) {
  suite_world* world = suite_world_make(mode, n, subject->launcher);
  seat seats[SUITE_MAX_PARTIES];
  for (int i = 0; i < n; i++) seats[i] = (seat){subject, world, i, body, argument};
  if (mode == MODE_PROCESSES) {
    spread_processes(seats, n, expectKilled);
  } else if (mode == MODE_THREADS) {
    spread_threads(seats, n);
  } else {
    seats[0].rank = subject->launcher ? subject->launcher->rank : 0;
    suite_guard(world, seat_body, &seats[0]);
  }
  settle(world);
}

/* ---- traffic ---- */

/* Counts a party that has become complete; true when all are. */
static bool all_complete(suite_actor* actor) {
  suite_world* world = actor->party.world;
  if (!actor->complete) return false;
  if (world->mode == MODE_LAUNCHED) return world->launcher->everybody();
  if (!actor->counted) {
    actor->counted = true;
    atomic_fetch_add(&world->ready, 1);
  }
  int expected = (actor->traffic->flags & TRAFFIC_KILL) ? world->n - 1 : world->n;
  return atomic_load(&world->ready) >= expected;
}

static void traffic_loop(suite_actor* actors, int n) {
  suite_world* world = actors[0].party.world;
  uint64_t last = mci_now_ns();
  for (;;) {
    bool moved = false, over = true;
    for (int i = 0; i < n; i++) {
      moved |= actor_step(&actors[i]);
      over &= all_complete(&actors[i]);
    }
    if (over) return;
    suite_check(world, !atomic_load(&world->failed), "another party failed");
    if (moved) {
      last = mci_now_ns();
      continue;
    }
    for (int i = 0; i < n && mci_now_ns() - last > suite_patience_ns(actors[i].party.subject); i++)
      if (!actors[i].complete) actor_stuck(&actors[i]);
    if (actors[0].traffic->flags & TRAFFIC_SLEEP) actors_sleep(actors, n);
    sched_yield();
  }
}

static void traffic_seat(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  suite_actor* actor = calloc(1, sizeof *actor);
  actor_open(actor, subject, argument, world, rank, world->n);
  suite_gather(world, rank, &actor->party.address, sizeof actor->party.address);
  for (int i = 0; i < world->n; i++) memcpy(&actor->addresses[i], world->blobs[i], sizeof actor->addresses[i]);
  traffic_loop(actor, 1);
  party_close(&actor->party);
  free(actor);
}

/* Nobody waits for a party that has its turn later: all say goodbye before the first closes. */
static void leave_together(suite_actor* actors, int n) {
  for (int i = 0; i < n; i++)
    for (int peer = 0; peer < n; peer++)
      if (actors[i].party.links[peer].ep) party_disconnect(&actors[i].party, peer);
  for (int round = 0; round < 100; round++)
    for (int i = 0; i < n; i++) party_progress(&actors[i].party);
  for (int i = 0; i < n; i++) party_close(&actors[i].party);
}

static void traffic_together(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  (void)rank;
  const suite_traffic* traffic = argument;
  int n = world->n;
  suite_actor* actors = calloc((size_t)n, sizeof *actors);
  for (int i = 0; i < n; i++) actor_open(&actors[i], subject, traffic, world, i, n);
  for (int i = 0; i < n; i++)
    for (int peer = 0; peer < n; peer++) actors[i].addresses[peer] = actors[peer].party.address;
  traffic_loop(actors, n);
  leave_together(actors, n);
  free(actors);
}

void traffic_run(const suite_subject* subject, const suite_traffic* traffic, suite_mode mode) {
  int n = (subject->traits & SUITE_SELF_ONLY) ? 1 : traffic->parties;
  int killed = (traffic->flags & TRAFFIC_KILL) ? n - 1 : -1;
  if (mode == MODE_ONE_THREAD)
    suite_spread(subject, mode, n, traffic_together, traffic, -1);
  else if (mode == MODE_LAUNCHED)
    suite_spread(subject, mode, subject->launcher->nranks, traffic_seat, traffic, -1);
  else
    suite_spread(subject, mode, n, traffic_seat, traffic, killed);
}
