/* Worlds: what the parties of a case share, how they meet, and how a failure anywhere ends all of them. */
#include <sched.h>
#include <sys/mman.h>

#include "party.h"

static _Thread_local jmp_buf* guard_frame;

void suite_fail(suite_world* world, const char* format, ...) {
  int none = 0;
  if (atomic_compare_exchange_strong(&world->failed, &none, 1)) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(world->failure, sizeof world->failure, format, arguments);
    va_end(arguments);
    atomic_store_explicit(&world->failed, 2, memory_order_release);
  }
  if (!guard_frame) abort();
  longjmp(*guard_frame, 1);
}

void suite_guard(suite_world* world, void (*body)(void*), void* argument) {
  jmp_buf frame;
  jmp_buf* outer = guard_frame;
  guard_frame = &frame;
  if (setjmp(frame) == 0) body(argument);
  guard_frame = outer;
  /* the failing party may still be writing its text */
  while (atomic_load_explicit(&world->failed, memory_order_acquire) == 1) sched_yield();
}

uint64_t suite_patience_ns(const suite_subject* subject) {
  return (subject->patience_ms ? subject->patience_ms : 20000u) * (uint64_t)1000000;
}

suite_world* suite_world_make(suite_mode mode, int n, const suite_launcher* launcher) {
  suite_world* world =
      mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); /* zeroed */
  assert_true(world != MAP_FAILED);
  world->mode = mode;
  world->n = n;
  world->launcher = launcher;
  return world;
}

void suite_world_free(suite_world* world) { munmap(world, sizeof *world); }

/* The k-th barrier of a case ends when all parties arrived k times. */
static void meet(suite_world* world) {
  int mine = atomic_fetch_add(&world->arrivals, 1);
  int target = (mine / world->n + 1) * world->n;
  while (atomic_load(&world->arrivals) < target) {
    suite_check(world, !atomic_load(&world->failed), "another party failed");
    sched_yield();
  }
}

void suite_gather(suite_world* world, int rank, const void* mine, size_t bytes) {
  unsigned char blob[SUITE_BLOB_BYTES] = {0};
  memcpy(blob, mine, bytes);
  if (world->mode == MODE_LAUNCHED) {
    world->launcher->gather(blob, world->blobs, sizeof blob);
    return;
  }
  meet(world); /* everybody has read the last round */
  memcpy(world->blobs[rank], blob, sizeof blob);
  meet(world);
}

/* Word k of the pattern depends on seed and k only, so any part can be checked by itself. */
static uint64_t pattern_word(uint64_t seed, uint64_t k) {
  uint64_t x = seed + (k + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
  return x ^ (x >> 32);
}

void suite_pattern_fill(void* data, size_t bytes, uint64_t seed, size_t at) {
  unsigned char* out = data;
  size_t i = 0;
  while (i < bytes) {
    uint64_t word = pattern_word(seed, (at + i) / 8);
    size_t skip = (at + i) % 8, n = MCI_MIN(8 - skip, bytes - i);
    memcpy(out + i, (unsigned char*)&word + skip, n);
    i += n;
  }
}

size_t suite_pattern_check(const void* data, size_t bytes, uint64_t seed) {
  const unsigned char* in = data;
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t word = pattern_word(seed, i / 8);
    size_t n = MCI_MIN((size_t)8, bytes - i);
    if (memcmp(in + i, &word, n) != 0) {
      while (in[i] == ((unsigned char*)&word)[i % 8]) i++;
      return i;
    }
  }
  return bytes;
}
