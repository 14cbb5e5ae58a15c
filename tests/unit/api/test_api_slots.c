/* Messages that peers of the host read where they stand: in slots that several peers share, by address in ordinary memory,
 * and past the caches. More slices than credits, a peer that is slow, a connection that breaks midway. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "oracle.h"
#include "setting.h"

typedef struct {
  const char *algorithm, *slice, *credits, *fault;
  int n;
  run_mode mode;
  size_t count; /* float */
  bool use_mem;
  int first, last; /* collectives */
} scene;

static int run_collectives(rank_env* env) {
  const scene* s = env->arg;
  meshcclComm_t comm;
  need(open_comm(env, NULL, &comm));
  for (int coll = s->first; coll <= s->last; coll++)
    for (int in_place = 0; in_place <= oracle_can_be_in_place(coll); in_place++) {
      oracle_call c = {.memory = s->use_mem ? &oracle_mem_alloc : &oracle_host,
                       .type = meshcclFloat32,
                       .op = meshcclSum,
                       .coll = coll,
                       .root = oracle_rooted(coll) ? s->n - 1 : 0,
                       .count = s->count,
                       .in_place = in_place};
      if (oracle_run(env, comm, &c)) return 1;
    }
  need(meshcclCommDestroy(comm));
  return 0;
}

static void set_scene(const scene* s) {
  set("MESHCCL_ALGO", s->algorithm);
  set("MESHCCL_SLICE", s->slice);
  set("MESHCCL_CREDITS", s->credits);
  set("MESHCCL_FAULT", s->fault);
}

static void clear_scene(void) { set_scene(&(scene){0}); }

static void run_scenes(const scene* scenes, size_t n) {
  for (size_t i = 0; i < n; i++) {
    scene s = scenes[i];
    set_scene(&s);
    if (run_ranks(s.mode, s.n, run_collectives, &s))
      fail_msg("row %zu: slices of %s, %s credits, %d ranks as %s", i, s.slice ? s.slice : "the default size",
               s.credits ? s.credits : "the default", s.n, run_mode_name(s.mode));
  }
  clear_scene();
}

/* Slices of 16 KiB are above what goes by value; each rank has more of them than credits. */
static void peers_share_a_slot(void** state) {
  (void)state;
  static const scene rows[] = {
      {"direct", "16K", "1", NULL, 5, AS_PROCESSES, 150001, false, ALL_REDUCE, REDUCE},
      {"direct", "16K", "2", NULL, 4, AS_THREADS, 150001, false, ALL_REDUCE, REDUCE},
      {"direct", "16K", "64", NULL, 3, AS_MIXED, 150001, true, ALL_REDUCE, REDUCE},
      {NULL, "16K", "1", NULL, 4, AS_MIXED, 150001, false, ALL_REDUCE, SCATTER},
      {NULL, NULL, NULL, NULL, 2, AS_PROCESSES, 262144, false, ALL_REDUCE, SCATTER},
      /* Too long to be read by address: the same slices for all peers. */
      {"direct", "64K", "2", NULL, 4, AS_PROCESSES, 400001, false, ALL_GATHER, BROADCAST},
      {"direct", "64K", "8", NULL, 3, AS_PROCESSES, 400001, false, ALL_GATHER, BROADCAST},
  };
  run_scenes(rows, MCI_COUNT(rows));
}

static void a_slow_peer_holds_a_slot_longer(void** state) {
  (void)state;
  static const scene rows[] = {
      {"direct", "16K", "2", "shm:delay=1ms..2ms,rank=1", 4, AS_PROCESSES, 60001, false, ALL_REDUCE, BROADCAST},
      {"direct", "16K", "1", "shm:delay=1ms,rank=0", 3, AS_THREADS, 30001, false, ALL_REDUCE, BROADCAST},
      {"direct", "128K", "4", "shm:delay=1ms,rank=1", 4, AS_PROCESSES, 400001, false, ALL_GATHER, BROADCAST},
  };
  run_scenes(rows, MCI_COUNT(rows));
}

/* Rank 1 takes nothing from the root before it has what rank 0 passes on after the first half, so the root must not keep
 * the first half from rank 0 for as long as rank 1 lags. */
static void who_lags_may_wait_for_who_does_not(void** state) {
  (void)state;
  static const char schedule[] =
      "meshccl-schedule 1\ncollective broadcast\nalgorithm rank 1 waits for rank 0\nranks 3\nroot 2\n"
      "layout part-major blocks 1 parts 2\n"
      "rank 0\n channel 0\n  out[0/0] <- <2\n  out[0/1] <- <2\n  >1 <- out[0/1]\n"
      "rank 1\n channel 0\n  out[0/1] <- <0\n  out[0/0] <- <2\n"
      "rank 2\n channel 0\n  >0 <- in[0/0]\n  >1 <- in[0/0]\n  >0 <- in[0/1]\n  out[0/0:2] <- in[0/0:2]\n";
  scene s = {NULL, "32K", "2", NULL, 3, AS_PROCESSES, 400001, false, BROADCAST, BROADCAST};
  char path[] = "/tmp/meshccl-schedule-XXXXXX", variable[64];
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, schedule, sizeof schedule - 1), sizeof schedule - 1);
  close(fd);
  snprintf(variable, sizeof variable, "broadcast:%s", path);
  set("MESHCCL_SCHEDULE", variable);
  run_scenes(&s, 1);
  s.mode = AS_THREADS;
  run_scenes(&s, 1);
  set("MESHCCL_SCHEDULE", NULL);
  unlink(path);
}

/* 100 MB of vectors in all, with borders that are not aligned. */
static void vectors_beyond_the_caches(void** state) {
  (void)state;
  static const scene rows[] = {
      {NULL, NULL, NULL, NULL, 4, AS_PROCESSES, 3200003, false, ALL_REDUCE, ALL_REDUCE},
      {"direct", NULL, NULL, NULL, 4, AS_PROCESSES, 3200003, true, ALL_REDUCE, ALL_REDUCE},
      {NULL, NULL, NULL, NULL, 2, AS_PROCESSES, 6400001, false, ALL_GATHER, BROADCAST},
  };
  run_scenes(rows, MCI_COUNT(rows));
}

/* Two ranks write sums, and in ordinary memory gathered blocks and half of a broadcast, to each other. */
static void two_ranks_write_to_each_other(void** state) {
  (void)state;
  static const scene rows[] = {
      {"direct", NULL, NULL, NULL, 2, AS_PROCESSES, 400001, false, ALL_REDUCE, REDUCE},
      {"direct", "32K", "1", NULL, 2, AS_THREADS, 150001, false, ALL_REDUCE, REDUCE},
      {"direct", "64K", "2", "shm:delay=1ms..2ms,rank=1", 2, AS_PROCESSES, 100001, false, ALL_REDUCE, BROADCAST},
      {"direct", "64K", "2", "shm:delay=1ms,rank=0", 2, AS_THREADS, 100001, false, ALL_REDUCE, BROADCAST},
      {"direct", "64K", "2", NULL, 2, AS_PROCESSES, 150001, true, ALL_REDUCE, BROADCAST},
      {"direct", "64K", "1", NULL, 2, AS_THREADS, 150001, true, ALL_REDUCE, ALL_REDUCE},
      {"ring", "64K", "4", NULL, 2, AS_PROCESSES, 150001, false, ALL_REDUCE, BROADCAST},
      {"tree", "64K", "4", NULL, 2, AS_PROCESSES, 150001, false, ALL_REDUCE, BROADCAST},
      {"halving_doubling", NULL, NULL, NULL, 2, AS_PROCESSES, 150001, false, ALL_REDUCE, ALL_REDUCE},
  };
  run_scenes(rows, MCI_COUNT(rows));
}

static int call_until_it_fails(rank_env* env) {
  const scene* s = env->arg;
  meshcclComm_t comm;
  need(open_comm(env, NULL, &comm));
  float *in = calloc(s->count, sizeof *in), *out = calloc(s->count, sizeof *out);
  meshcclResult_t result = meshcclSuccess;
  for (int i = 0; in && out && i < 100 && result == meshcclSuccess; i++)
    result = meshcclAllReduce(in, out, s->count, meshcclFloat32, meshcclSum, comm, NULL);
  expect(result != meshcclSuccess, "a call after the connection broke succeeded");
  free(in);
  free(out);
  need(meshcclCommAbort(comm));
  return 0;
}

static void a_connection_that_breaks_midway_ends_all(void** state) {
  (void)state;
  scene rows[] = {
      {"direct", "16K", "2", "shm:reset=40,rank=1,peer=0", 4, AS_PROCESSES, 150001, false, 0, 0},
      {"direct", "16K", "1", "shm:reset=25,rank=2", 3, AS_THREADS, 150001, false, 0, 0},
      {"direct", "32K", "2", "shm:reset=30,rank=0", 2, AS_PROCESSES, 150001, false, 0, 0},
      {"direct", "32K", "2", "shm:reset=31,rank=1", 2, AS_THREADS, 150001, false, 0, 0},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    set_scene(&rows[i]);
    if (run_ranks(rows[i].mode, rows[i].n, call_until_it_fails, &rows[i])) fail_msg("row %zu", i);
  }
  clear_scene();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(peers_share_a_slot),
                                     cmocka_unit_test(a_slow_peer_holds_a_slot_longer),
                                     cmocka_unit_test(who_lags_may_wait_for_who_does_not),
                                     cmocka_unit_test(vectors_beyond_the_caches),
                                     cmocka_unit_test(two_ranks_write_to_each_other),
                                     cmocka_unit_test(a_connection_that_breaks_midway_ends_all)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
