/* Messages from every rank to every other, with pauses, for trees that change meanwhile. */
#ifndef TEST_TRAFFIC_H
#define TEST_TRAFFIC_H

#include "ranks.h"

typedef struct {
  int each;       /* messages to every other rank */
  size_t longest; /* bytes */
  unsigned pause_us;
} traffic;

typedef struct {
  uint32_t sequence, filler;
} content;

static inline void take_one(rank_run* run, const mci_boot_message* message, uint32_t* next) {
  content got;
  memcpy(&got, message->data, sizeof got);
  expect(run, message->from >= 0 && message->from < run->nranks);
  expect(run, message->kind == 7 + message->from % 3);
  expect(run, got.sequence == next[message->from]);
  for (size_t i = sizeof got; i < message->bytes; i++) expect(run, message->data[i] == (unsigned char)(got.filler + i));
  next[message->from]++;
}

/* Every rank leaves as soon as it has all that is for it: most traffic passes ranks that are leaving or have left. */
static inline void exchange(rank_run* run, mci_boot* boot) {
  const traffic* t = run->argument;
  uint64_t random = test_seed() + (uint64_t)run->rank;
  uint32_t* next = calloc((size_t)run->nranks, sizeof *next);
  mci_boot_message* message = malloc(sizeof *message);
  int expected = t->each * (run->nranks - 1), got = 0;
  for (int round = 0; round < t->each; round++) {
    for (int k = 1; k < run->nranks; k++) {
      unsigned char data[MCI_BOOT_MESSAGE_MAX];
      size_t bytes = sizeof(content) + test_random(&random) % (t->longest - sizeof(content) + 1);
      content mine = {(uint32_t)round, (uint32_t)test_random(&random)};
      memcpy(data, &mine, sizeof mine);
      for (size_t i = sizeof mine; i < bytes; i++) data[i] = (unsigned char)(mine.filler + i);
      int to = (run->rank + k) % run->nranks;
      expect(run, mci_boot_send(boot, to, (uint16_t)(7 + run->rank % 3), data, bytes) == meshcclSuccess);
      if (test_random(&random) % 16 == 0) usleep((unsigned)(test_random(&random) % (t->pause_us + 1)));
    }
  }
  while (got < expected && await_message(boot, message, 30 * SECOND)) {
    take_one(run, message, next);
    got++;
    if (test_random(&random) % 64 == 0) usleep((unsigned)(test_random(&random) % (t->pause_us + 1)));
  }
  expect(run, got == expected);
  char text[512];
  meshcclResult_t result = mci_boot_status(boot, text, sizeof text);
  if (result != meshcclSuccess) mci_error_set(text);
  expect(run, result == meshcclSuccess);
  free(message);
  free(next);
}
#endif
