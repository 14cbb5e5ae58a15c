/* One party's part in a traffic, as a step that never blocks, so that one thread can be all parties. */
#include "traffic.h"

#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define LATE_STEPS 300

static bool has(const suite_actor* actor, uint32_t flag) { return (actor->traffic->flags & flag) != 0; }

/* To itself when it is alone. */
static bool linked(const suite_actor* actor, int peer) { return peer != actor->party.rank || actor->party.n == 1; }

static bool dies(const suite_actor* actor) {
  return has(actor, TRAFFIC_KILL) && actor->party.rank == actor->party.n - 1;
}

static bool sends_data(const suite_actor* actor) { return !has(actor, TRAFFIC_ONE_WAY) || actor->party.rank == 0; }
static bool gets_data(const suite_actor* actor, int peer) {
  return !has(actor, TRAFFIC_ONE_WAY) || (peer == 0 && (actor->party.rank != 0 || actor->party.n == 1));
}

void actor_open(suite_actor* actor, const suite_subject* subject, const suite_traffic* traffic, suite_world* world,
                int rank, int n) {
  memset(actor, 0, sizeof *actor);
  actor->traffic = traffic;
  party_open(&actor->party, subject, world, rank, n);
  actor->party.ackInArrive = has(actor, TRAFFIC_ACK_IN_ARRIVE);
  actor->party.mayBreak = has(actor, TRAFFIC_KILL);
}

static size_t pick_size(suite_actor* actor, const suite_link* link) {
  size_t most = party_max_payload(link);
  uint64_t dice = test_random(&actor->party.random);
  static const size_t tiny[] = {0, 1, 31}, mixed[] = {0, 1, 31, 4095, 4096, 64};
  switch (actor->traffic->sizes) {
    case SIZES_EMPTY:
      return 0;
    case SIZES_TINY:
      return tiny[dice % 3];
    case SIZES_PAGE:
      return 4096;
    case SIZES_LARGEST:
      return most - (dice % 4 == 0 ? dice / 4 % 64 : 0);
    case SIZES_MIXED:
      break;
  }
  if (dice % 64 == 0) return most;
  if (dice % 16 == 1) return (dice >> 8) % (most / 4 + 1);
  return mixed[(dice >> 8) % MCI_COUNT(mixed)];
}

static void connect_step(suite_actor* actor) {
  suite_party* party = &actor->party;
  bool late = has(actor, TRAFFIC_LATE_CONNECT) && party->rank % 2 == 1;
  if (actor->steps != (late ? LATE_STEPS : 1)) return;
  /* In different orders on different ranks. */
  for (int i = 0; i < party->n; i++) {
    int peer = party->rank % 2 ? party->n - 1 - i : i;
    if (linked(actor, peer)) party_connect(party, peer, &actor->addresses[peer]);
  }
}

static void send_step(suite_actor* actor, suite_link* link) {
  const suite_traffic* traffic = actor->traffic;
  suite_pieces pieces = has(actor, TRAFFIC_PIECES) ? PIECES_MANY : PIECES_ONE;
  for (int burst = 0; burst < 64 && link->dataSent < traffic->messages; burst++) {
    if (traffic->window && link->dataSent - link->dataAcked >= traffic->window) break;
    if (!party_send_data(link, pick_size(actor, link), pieces)) break;
  }
  if (traffic->window && link->ackedToPeer < link->dataReceived) party_send_ack(link);
  suite_world* world = actor->party.world;
  if (has(actor, TRAFFIC_DEAF) && (link->busy > 1000 || link->dataSent == traffic->messages))
    atomic_store(&world->released, 1);
}

static bool link_complete(const suite_actor* actor, const suite_link* link) {
  const suite_traffic* traffic = actor->traffic;
  if (has(actor, TRAFFIC_KILL)) return !dies(actor) && (actor->steps > 3000 || link->broken);
  if (has(actor, TRAFFIC_DISCONNECT) && actor->party.rank == 0) return link->dataSent == traffic->messages && !link->ep;
  if (sends_data(actor) && link->dataSent < traffic->messages) return false;
  if (sends_data(actor) && traffic->window && link->dataAcked < traffic->messages) return false;
  if (gets_data(actor, link->peer) && link->dataComplete < traffic->messages) return false;
  if (gets_data(actor, link->peer) && traffic->window && link->ackedToPeer < traffic->messages) return false;
  return link->inFlight == 0 && link->filling == 0;
}

/* In the middle: when all have connected, which a message from each proves; nobody needs to reach the dead. */
static bool time_to_die(const suite_actor* actor) {
  const suite_party* party = &actor->party;
  if (!dies(actor) || actor->steps <= 50) return false;
  for (int peer = 0; peer < party->n; peer++)
    if (linked(actor, peer) && party->links[peer].dataReceived == 0) return false;
  return true;
}

bool actor_step(suite_actor* actor) {
  suite_party* party = &actor->party;
  uint64_t before = party->events;
  actor->steps++;
  connect_step(actor);
  bool all = true;
  for (int peer = 0; peer < party->n; peer++) {
    suite_link* link = &party->links[peer];
    if (!linked(actor, peer)) continue;
    if (link->ep && !link->broken && sends_data(actor)) send_step(actor, link);
    if (link->ep && !sends_data(actor) && actor->traffic->window && link->ackedToPeer < link->dataReceived)
      party_send_ack(link);
    if (has(actor, TRAFFIC_DISCONNECT) && party->rank == 0 && link->ep && link->dataSent == actor->traffic->messages)
      party_disconnect(party, peer);
    all = all && link->party && link_complete(actor, link);
  }
  if (time_to_die(actor)) raise(SIGKILL);
  bool deaf = has(actor, TRAFFIC_DEAF) && (party->rank != 0 || party->n == 1) && !atomic_load(&party->world->released);
  /* An event of progress() may be room for a send that was answered with Busy. */
  int handled = deaf ? 0 : party_progress(party);
  actor->complete = all;
  return party->events != before || handled > 0;
}

void actor_stuck(suite_actor* actor) {
  suite_party* party = &actor->party;
  char text[700];
  int length = 0;
  for (int i = 0; i < party->n && length < 600; i++) {
    suite_link* link = &party->links[i];
    if (!linked(actor, i)) continue;
    length += snprintf(text + length, sizeof text - (size_t)length,
                       " [%d: sent %llu busy %llu in flight %d received %llu acked %llu filling %d]", i,
                       (unsigned long long)link->dataSent, (unsigned long long)link->busy, link->inFlight,
                       (unsigned long long)link->dataComplete, (unsigned long long)link->dataAcked, link->filling);
  }
  suite_fail(party->world, "rank %d: nothing happens any more:%s", party->rank, text);
}

/* Never while a party is deaf, not yet connected or already complete: those have other reasons to stay awake. */
static bool may_sleep(const suite_actor* actor) { return actor->steps > LATE_STEPS && !actor->complete; }

void actors_sleep(suite_actor* actors, int n) {
  struct pollfd fds[SUITE_MAX_PARTIES];
  uint32_t poll_us = 0, shortest = UINT32_MAX;
  suite_world* world = actors[0].party.world;
  for (int i = 0; i < n; i++) {
    suite_party* party = &actors[i].party;
    if (!may_sleep(&actors[i])) return;
    meshcclResult_t result = party->transport->waitHandle(party->ctx, &fds[i].fd, &poll_us);
    suite_check(world, result == meshcclSuccess, "waitHandle: %s", party->cause);
    suite_check(world, fds[i].fd >= 0 || poll_us > 0, "waitHandle gave neither a descriptor nor an interval");
    fds[i].events = POLLIN;
    if (fds[i].fd < 0) shortest = MCI_MIN(shortest, poll_us);
    result = party->transport->arm(party->ctx);
    if (result == meshcclBusy) return;
    suite_check(world, result == meshcclSuccess, "arm: %s: %s", mci_result_text(result), party->cause);
  }
  if (shortest != UINT32_MAX) {
    struct timespec pause = {shortest / 1000000, (long)(shortest % 1000000) * 1000};
    nanosleep(&pause, NULL);
    return;
  }
  /* A fifth of the patience: a lost wake-up is told before the case counts as stuck. */
  uint64_t patience_ns = suite_patience_ns(actors[0].party.subject);
  if (poll(fds, (nfds_t)n, (int)(patience_ns / 5000000)) > 0) return;
  for (int i = 0; i < n; i++)
    suite_check(world, party_progress(&actors[i].party) == 0, "rank %d: slept for long although progress() had work",
                actors[i].party.rank);
}
