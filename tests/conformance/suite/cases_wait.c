/* Cases about sleeping, in one thread so that every moment is known; racing sleepers are rows of the traffic table. */
#include <poll.h>
#include <time.h>

#include "cases.h"

#define ROUNDS 3000

static int handle(suite_party* party, uint32_t* poll_us) {
  int fd = -2;
  meshcclResult_t result = party->transport->waitHandle(party->ctx, &fd, poll_us);
  suite_check(party->world, result == meshcclSuccess && fd >= -1, "waitHandle: %s, descriptor %d", party->cause, fd);
  suite_check(party->world, fd >= 0 || (*poll_us > 0 && *poll_us <= 100000), "poll interval %u us", *poll_us);
  return fd;
}

static bool readable(int fd, int timeout_ms) {
  return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, timeout_ms) > 0;
}

/* Progress until arm() agrees that nothing is pending. */
static bool armed(void* argument) {
  suite_party* party = argument;
  meshcclResult_t result = party->transport->arm(party->ctx);
  suite_check(party->world, result == meshcclSuccess || result == meshcclBusy, "arm: %s", mci_result_text(result));
  return result == meshcclSuccess;
}

/* The last party sleeps, the first sends and then only calls its own progress(): the message must wake the sleeper. */
static void wake_round(suite_pair* pair, int fd, uint32_t poll_us, size_t bytes) {
  suite_party *sender = &pair->parties[0], *sleeper = &pair->parties[pair->n - 1];
  suite_world* world = sender->world;
  parties_until(sleeper, 1, armed, sleeper, "arm() succeeds");
  uint64_t before = pair->back->dataReceived;
  suite_check(world, party_send_data(pair->forth, bytes, PIECES_ONE), "an idle link answers Busy");
  uint64_t limit = mci_now_ns() + suite_patience_ns(sender->subject);
  while (pair->back->dataReceived == before) {
    if (pair->n > 1) party_progress(sender);
    if (fd < 0) {
      nanosleep(&(struct timespec){0, (long)poll_us * 1000}, NULL);
      party_progress(sleeper);
    } else if (readable(fd, 1)) {
      party_progress(sleeper);
      if (pair->back->dataReceived == before) parties_until(sleeper, 1, armed, sleeper, "arm() succeeds");
    }
    suite_check(world, mci_now_ns() < limit, "round %llu: a message of %zu bytes did not wake the sleeper",
                (unsigned long long)before, bytes);
  }
}

static bool quiet(void* argument) {
  suite_pair* pair = argument;
  return pair->back->dataComplete == pair->forth->dataSent && party_idle(&pair->parties[0]) &&
         party_idle(&pair->parties[pair->n - 1]);
}

static void wakes_body(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  (void)rank;
  (void)argument;
  suite_pair* pair = calloc(1, sizeof *pair);
  pair_open(pair, subject, world);
  pair_exchange(pair, 8); /* connections are made in the background */
  suite_party* sleeper = &pair->parties[pair->n - 1];
  uint32_t poll_us = 0;
  int fd = handle(sleeper, &poll_us);
  static const size_t sizes[] = {0, 1, 4096, 31, 100000};
  for (int i = 0; i < ROUNDS; i++) {
    wake_round(pair, fd, poll_us, MCI_MIN(sizes[i % 5], party_max_payload(pair->forth)));
    parties_until(pair->parties, pair->n, quiet, pair, "the message is complete");
    uint32_t ignored;
    suite_check(world, handle(sleeper, &ignored) == fd, "the descriptor changed");
  }
  pair_close(pair);
  free(pair);
}

void case_armed_handle_wakes(const suite_subject* subject, suite_mode mode) {
  suite_spread(subject, mode, 1, wakes_body, NULL, -1);
}

/* After traffic a sleeper really sleeps: arm() succeeds and the descriptor does not stay readable. */
static void calms_body(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  (void)rank;
  (void)argument;
  suite_pair* pair = calloc(1, sizeof *pair);
  pair_open(pair, subject, world);
  for (int i = 0; i < 50; i++) pair_exchange(pair, (size_t)i * 100);
  for (int i = 0; i < pair->n; i++) {
    uint32_t poll_us = 0;
    int fd = handle(&pair->parties[i], &poll_us), wakes = 0;
    if (fd < 0) continue;
    do {
      parties_until(pair->parties, pair->n, armed, &pair->parties[i], "arm() succeeds");
      suite_check(world, ++wakes < 100, "rank %d: idle, but the descriptor stays readable", i);
    } while (readable(fd, 20));
  }
  pair_close(pair);
  free(pair);
}

void case_idle_handle_calms_down(const suite_subject* subject, suite_mode mode) {
  suite_spread(subject, mode, 1, calms_body, NULL, -1);
}
