/* What #wrong counts. The test plays the library: it writes right results where they belong, then damages one thing,
 * for every shape of collective, in place and out of place, aligned and not. Also the sizes and counts of lines. */
#include "perf/engine/perf.h"
#include "support/test.h"

enum { RANKS = 3, COUNT = 1000, ROOT = 1 };

/* The services of the library that buffers use; the test wants no communicator. */
meshcclResult_t meshcclMemAlloc(void** ptr, size_t size) {
  *ptr = malloc(size);
  return *ptr ? meshcclSuccess : meshcclSystemError;
}
meshcclResult_t meshcclMemFree(void* ptr) {
  free(ptr);
  return meshcclSuccess;
}
meshcclResult_t meshcclCommRegister(meshcclComm_t comm, void* buffer, size_t size, void** handle) {
  (void)comm;
  (void)size;
  *handle = buffer;
  return meshcclSuccess;
}
meshcclResult_t meshcclCommDeregister(meshcclComm_t comm, void* handle) {
  (void)comm;
  (void)handle;
  return meshcclSuccess;
}
meshcclResult_t perf_check(const perf_world* world, const char* what, meshcclResult_t result) {
  (void)world;
  (void)what;
  return result;
}

static perf_piece input(const perf_view* v, int block) { return (perf_piece){PERF_INPUT, 0, (size_t)block * v->count}; }
static perf_piece result(const perf_view* v, int block) {
  (void)block;
  return (perf_piece){PERF_RESULT, 0, (size_t)v->rank * v->count};
}
static perf_piece sum_on_root(const perf_view* v, int block) {
  (void)block;
  return (perf_piece){v->rank == v->root ? PERF_RESULT : PERF_NONE, 0, 0};
}
static perf_piece own(const perf_view* v, int block) {
  (void)block;
  return (perf_piece){PERF_DATA, (uint64_t)v->rank, 0};
}
static perf_piece of_block(const perf_view* v, int block) {
  (void)v;
  return (perf_piece){PERF_DATA, (uint64_t)block, 0};
}
static perf_piece of_block_on_root(const perf_view* v, int block) {
  return (perf_piece){v->rank == v->root ? PERF_DATA : PERF_NONE, (uint64_t)block, 0};
}

static const perf_program shapes[] = {
    {.name = "reduce", .send_blocks = PERF_ONE, .recv_blocks = PERF_ONE, .send = input, .recv = sum_on_root},
    {.name = "reduce_scatter", .send_blocks = PERF_PER_RANK, .recv_blocks = PERF_ONE, .send = input, .recv = result},
    {.name = "all_gather", .send_blocks = PERF_ONE, .recv_blocks = PERF_PER_RANK, .send = own, .recv = of_block},
    {.name = "gather", .send_blocks = PERF_ONE, .recv_blocks = PERF_PER_RANK, .send = own, .recv = of_block_on_root},
    {.name = "scatter", .send_blocks = PERF_PER_RANK, .recv_blocks = PERF_ONE, .send = of_block_on_root, .recv = own},
};
enum { NSHAPES = sizeof(shapes) / sizeof(shapes[0]) };

typedef struct {
  perf_world world;
  perf_rank rank;
  perf_line line;
  bool in_place;
  size_t send_bytes, recv_bytes;
  bool receives;
} scene;

static scene open_scene(int shape, int rank, bool in_place, size_t unalign, int memory) {
  const perf_program* p = &shapes[shape];
  scene s = {.world = {.program = p}, .in_place = in_place};
  s.world.options.unalign = unalign;
  s.world.options.local_register = memory;
  s.rank = (perf_rank){.rank = rank, .nranks = RANKS, .group_rank = rank, .group_size = RANKS, .phase = 11};
  s.line = (perf_line){.type = meshcclFloat16, .root = ROOT, .count = COUNT};
  perf_view view = {rank, RANKS, ROOT, COUNT};
  s.receives = p->recv(&view, 0).kind != PERF_NONE;
  s.send_bytes = COUNT * 2 * (p->send_blocks == PERF_PER_RANK ? RANKS : 1);
  s.recv_bytes = COUNT * 2 * (p->recv_blocks == PERF_PER_RANK ? RANKS : 1);
  assert_true(perf_pattern_create(&s.rank.pattern, s.line.type, meshcclSum, rank, RANKS));
  return s;
}

/* After the copy, the rank must know its world. */
static void settle(scene* s) {
  s->rank.world = &s->world;
  assert_int_equal(perf_buffers_open(&s->rank, COUNT * 2 * RANKS), meshcclSuccess);
}

static void close_scene(scene* s) {
  perf_buffers_close(&s->rank);
  perf_pattern_destroy(&s->rank.pattern);
}

/* One flawless operation, by hand; returns its call. */
static perf_call operate(scene* s) {
  const perf_program* p = s->world.program;
  perf_view view = {s->rank.rank, RANKS, ROOT, COUNT};
  perf_buffers_prepare(&s->rank, &s->line, s->in_place);
  perf_call call = perf_buffers_call(&s->rank, &s->line, s->in_place);
  for (int b = 0; s->receives && b < (p->recv_blocks == PERF_PER_RANK ? RANKS : 1); b++)
    perf_pattern_fill(&s->rank.pattern, p->recv(&view, b), s->rank.phase, false, (uint8_t*)call.recv + b * COUNT * 2,
                      COUNT);
  return call;
}

static size_t wrong(scene* s) { return perf_buffers_wrong(&s->rank, &s->line, s->in_place); }

static void fail_scene(const scene* s, const char* what, size_t found) {
  fail_msg("%s, rank %d, %s, first element %zu: %s: %zu wrong", s->world.program->name, s->rank.rank,
           s->in_place ? "in place" : "out of place", s->world.options.unalign, what, found);
}

static void check_damage(scene* s) {
  perf_call call = operate(s);
  uint8_t *recv = call.recv, *send = (uint8_t*)call.send;
  bool first = s->in_place && s->rank.rank == 0; /* whose block begins where the shared area begins */
  size_t larger = s->send_bytes > s->recv_bytes ? s->send_bytes : s->recv_bytes;
  const struct {
    const char* what;
    uint8_t* at;
    bool applies;
  } damage[] = {
      {"first byte received", recv, s->receives || !s->in_place},
      {"last byte received", recv + s->recv_bytes - 1, s->receives || !s->in_place},
      {"first byte sent", send, !s->in_place || !s->receives},
      {"last byte sent", send + s->send_bytes - 1, !s->in_place || !s->receives},
      {"byte before the receive buffer", recv - 1, !s->in_place},
      {"byte behind the receive buffer", recv + s->recv_bytes, !s->in_place},
      {"byte before the send buffer", send - 1, !s->in_place},
      {"byte behind the send buffer", send + s->send_bytes, !s->in_place},
      {"byte before the shared area", recv - 1, first},
      {"byte behind the shared area", recv + larger, first},
  };
  if (wrong(s) != 0) fail_scene(s, "nothing", wrong(s));
  for (size_t k = 0; k < sizeof(damage) / sizeof(damage[0]); k++) {
    if (!damage[k].applies) continue;
    *damage[k].at ^= 0x10;
    if (wrong(s) != 1) fail_scene(s, damage[k].what, wrong(s));
    *damage[k].at ^= 0x10;
  }
}

static void every_damage_counts_once(void** state) {
  (void)state;
  for (int k = 0; k < NSHAPES * RANKS * 2 * 3; k++) {
    scene s = open_scene(k % NSHAPES, k / NSHAPES % RANKS, k / NSHAPES / RANKS % 2, (size_t)k % 2 * 3,
                         k / NSHAPES / RANKS / 2);
    settle(&s);
    check_damage(&s);
    close_scene(&s);
  }
}

/* A library that does nothing at all must not look right: all elements are wrong, in place all but the own block. */
static void a_result_that_was_not_written_is_wrong(void** state) {
  (void)state;
  for (int k = 0; k < NSHAPES * RANKS * 2; k++) {
    scene s = open_scene(k % NSHAPES, k / NSHAPES % RANKS, k / NSHAPES / RANKS, 0, 0);
    settle(&s);
    perf_buffers_prepare(&s.rank, &s.line, s.in_place);
    bool gathers = s.world.program->recv_blocks == PERF_PER_RANK, scatters = !strcmp(s.world.program->name, "scatter");
    size_t missing = s.recv_bytes / 2, found = wrong(&s);
    if (s.in_place && gathers) missing -= COUNT;
    if (s.in_place && scatters && s.rank.rank == ROOT) missing = 0; /* its block is already there */
    if (!s.receives) missing = 0;
    bool reduced_in_place = s.in_place && s.world.program->send == input; /* inputs may equal results here and there */
    if (reduced_in_place ? found > missing || found < missing / 2 : found != missing) fail_scene(&s, "no write", found);
    close_scene(&s);
  }
}

/* The table of nccl-tests' formulas: size column and count for a size in bytes. */
static void lines_have_the_sizes_of_nccl_tests(void** state) {
  (void)state;
  static const struct {
    int send, recv, nranks;
    meshcclDataType_t type;
    size_t bytes, count, size;
  } rows[] = {
      {1, 1, 4, meshcclFloat, 8, 2, 8},           {1, 1, 4, meshcclFloat, 7, 1, 4},
      {1, -1, 4, meshcclFloat, 8, 0, 0},          {1, -1, 4, meshcclFloat, 64, 4, 64},
      {-1, 1, 4, meshcclFloat, 127, 4, 64},       {-1, -1, 3, meshcclInt8, 1024, 336, 1008},
      {-1, -1, 3, meshcclDouble, 1024, 42, 1008}, {-1, 1, 5, meshcclHalf, 1 << 20, 104856, 1048560},
      {0, 0, 4, meshcclInt8, 1 << 20, 0, 0},
  };
  for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
    perf_program p = {.send_blocks = rows[k].send, .recv_blocks = rows[k].recv};
    perf_line line = perf_line_of(&p, rows[k].type, -1, -1, rows[k].bytes, rows[k].nranks);
    if (line.count != rows[k].count || line.bytes != rows[k].size)
      fail_msg("row %zu: count %zu, size %zu", k, line.count, line.bytes);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_damage_counts_once),
      cmocka_unit_test(a_result_that_was_not_written_is_wrong),
      cmocka_unit_test(lines_have_the_sizes_of_nccl_tests),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
