/* The engine over the in-memory transport: all ranks driven by one thread in a random order, every kind of step, host
 * memory and a device that the host cannot touch, one credit and many, slices and none. */
#include "device/device.h"
#include "exec/exec.h"
#include "kernels/kernels.h"
#include "support/net_host.h"
#include "support/programs.h"
#include "support/test.h"
#include "support/test_device.h"
#include "support/transport_memory.h"

#define MAX_RANKS 9

typedef struct {
  const char* name;
  mci_coll coll;
  meshcclResult_t (*build)(uint32_t, uint32_t, mci_program**);
} collective;

static meshcclResult_t chain_from_0(uint32_t n, uint32_t rank, mci_program** out) {
  return test_program_chain_broadcast(n, rank, 0, out);
}

static const collective collectives[] = {
    {"ring all-reduce", MCI_ALL_REDUCE, test_program_ring_all_reduce},
    {"direct all-reduce", MCI_ALL_REDUCE, test_program_direct_all_reduce},
    {"exchange all-reduce", MCI_ALL_REDUCE, test_program_exchange_all_reduce},
    {"ring all-gather", MCI_ALL_GATHER, test_program_ring_all_gather},
    {"chain broadcast", MCI_BROADCAST, chain_from_0},
    {"ring reduce-scatter", MCI_REDUCE_SCATTER, test_program_scratch_reduce_scatter},
};

typedef struct world {
  uint32_t n;
  mci_engine* engines[MAX_RANKS];
  mci_op ops[MAX_RANKS];
  int32_t *in[MAX_RANKS], *out[MAX_RANKS]; /* device memory when device != host */
  const meshcclDevice_t* device;
  void* device_ctx;
  struct {
    struct world* world;
    uint32_t rank;
  } ends[MAX_RANKS];
  int reports;
  char report[512];
} world;

static meshcclResult_t introduce(void* self, uint32_t peer, const void* blob, size_t bytes) {
  const uint32_t* rank = (const uint32_t*)((char*)self + sizeof(world*));
  world* w = *(world**)self;
  return mci_engine_meet(w->engines[peer], *rank, blob, bytes);
}

/* Every other engine learns of it, as over the control tree. */
static void report(void* self, meshcclResult_t result, const char* text) {
  world* w = *(world**)self;
  uint32_t from = *(const uint32_t*)((char*)self + sizeof(world*));
  for (uint32_t r = 0; r < w->n; r++)
    if (r != from) mci_engine_fail(w->engines[r], result, text);
  if (w->reports++ == 0) snprintf(w->report, sizeof w->report, "%s", text);
}

static void keyed_hash(void* self, const char* purpose, const void* data, size_t bytes,
                       unsigned char out[MESHCCL_MAC_BYTES]) {
  (void)self;
  test_net_mac("engine", purpose, data, bytes, out);
}

static void world_open(world* w, uint32_t n, const meshcclDevice_t* device, uint64_t slice, uint32_t credits) {
  memset(w, 0, sizeof *w);
  w->n = n;
  w->device = device;
  check_ok(device->open(&w->device_ctx));
  for (uint32_t r = 0; r < n; r++) {
    w->ends[r].world = w;
    w->ends[r].rank = r;
    mci_engine_options options = {.rank = r,
                                  .nranks = n,
                                  .name = "test",
                                  .device = device,
                                  .transports = {&mci_test_transport_memory},
                                  .ntransports = 1,
                                  .slice_bytes = slice,
                                  .credits = credits,
                                  .stall_ns = 100000000000ull,
                                  .host = {&w->ends[r], introduce, report, keyed_hash, false}};
    check_ok(mci_engine_create(&options, &w->engines[r]));
  }
}

static void world_close(world* w) {
  for (uint32_t r = 0; r < w->n; r++) mci_engine_destroy(w->engines[r]);
  w->device->close(w->device_ctx);
}

static void finished(mci_op* op) { (void)op; }
static void describe(const mci_op* op, char* out, size_t size) {
  snprintf(out, size, "%s", mci_run_program(op->run)->algorithm);
}

static void put(world* w, void* to, const void* from, size_t bytes) {
  if (w->device == &test_device) {
    test_device_write(to, from, bytes);
  } else {
    memcpy(to, from, bytes);
  }
}

static void get(world* w, void* to, const void* from, size_t bytes) {
  if (w->device == &test_device) {
    test_device_read(to, from, bytes);
  } else {
    memcpy(to, from, bytes);
  }
}

/* What rank r contributes at place i. */
static int32_t value(uint32_t r, uint64_t i) { return (int32_t)((r + 1) * 1000003u + i * 7919u); }

static uint64_t in_elements(mci_coll coll, uint32_t n, uint64_t count) {
  return coll == MCI_REDUCE_SCATTER ? n * count : count;
}
static uint64_t out_elements(mci_coll coll, uint32_t n, uint64_t count) {
  return coll == MCI_ALL_GATHER ? n * count : count;
}

static int32_t expected(mci_coll coll, uint32_t n, uint32_t rank, uint64_t count, uint64_t i) {
  if (coll == MCI_ALL_GATHER) return value((uint32_t)(i / count), i % count);
  if (coll == MCI_BROADCAST) return value(0, i);
  uint32_t sum = 0;
  uint64_t at = coll == MCI_REDUCE_SCATTER ? rank * count + i : i;
  for (uint32_t r = 0; r < n; r++) sum += (uint32_t)value(r, at);
  return (int32_t)sum;
}

static void drive(world* w, uint64_t* random) {
  uint64_t until = mci_now_ns() + 100000000000ull;
  for (uint32_t done = 0; done < w->n;) {
    mci_engine_progress(w->engines[test_random(random) % w->n]);
    done = 0;
    for (uint32_t r = 0; r < w->n; r++) done += (uint32_t)atomic_load(&w->ops[r].done);
    if (mci_now_ns() > until) {
      mci_str text = {0};
      for (uint32_t r = 0; r < w->n; r++) {
        mci_engine_explain(w->engines[r], &text);
        mci_str_add(&text, "\n");
      }
      fail_msg("the engines are stuck:\n%s", text.text);
    }
  }
}

/* Runs one collective on fresh buffers and checks every element. `in_place`: out is in. */
static void run_once(world* w, const collective* c, mci_run** runs, uint64_t count, bool in_place, uint64_t* random) {
  uint64_t ins = in_elements(c->coll, w->n, count), outs = out_elements(c->coll, w->n, count);
  int32_t* host = malloc((MCI_MAX(ins, outs) + 1) * sizeof *host);
  for (uint32_t r = 0; r < w->n; r++) {
    check_ok(w->device->alloc(w->device_ctx, (ins + 1) * sizeof(int32_t), (void**)&w->in[r]));
    if (!in_place) check_ok(w->device->alloc(w->device_ctx, (outs + 1) * sizeof(int32_t), (void**)&w->out[r]));
    if (in_place) w->out[r] = w->in[r];
    for (uint64_t i = 0; i < ins; i++) host[i] = value(r, i);
    put(w, w->in[r], host, ins * sizeof *host);
    w->ops[r] = (mci_op){.run = runs[r],
                         .in = w->in[r],
                         .out = w->out[r],
                         .count = count,
                         .type = meshcclInt32,
                         .type_size = 4,
                         .op = meshcclSum,
                         .fingerprint = 77,
                         .describe = describe,
                         .finished = finished,
                         .ready = true};
    mci_engine_submit(w->engines[r], &w->ops[r]);
  }
  drive(w, random);
  for (uint32_t r = 0; r < w->n; r++) {
    assert_int_equal(w->ops[r].result, meshcclSuccess);
    get(w, host, w->out[r], outs * sizeof *host);
    for (uint64_t i = 0; i < outs; i++)
      if (host[i] != expected(c->coll, w->n, r, count, i))
        fail_msg("%s of %llu on %u ranks%s: rank %u element %llu is %d, not %d", c->name, (unsigned long long)count,
                 w->n, in_place ? " in place" : "", r, (unsigned long long)i, host[i],
                 expected(c->coll, w->n, r, count, i));
    w->device->free(w->device_ctx, w->in[r]);
    if (!in_place) w->device->free(w->device_ctx, w->out[r]);
  }
  free(host);
}

static void run_all(const meshcclDevice_t* device, uint64_t slice, uint32_t credits, const uint64_t* counts,
                    size_t ncounts) {
  uint64_t random = test_seed();
  static const uint32_t sizes[] = {1, 2, 3, 5, 8};
  for (size_t s = 0; s < MCI_COUNT(sizes); s++) {
    world w;
    world_open(&w, sizes[s], device, slice, credits);
    mci_run* runs[MCI_COUNT(collectives)][MAX_RANKS];
    for (size_t c = 0; c < MCI_COUNT(collectives); c++) {
      for (uint32_t r = 0; r < w.n; r++) {
        mci_program* program;
        check_ok(collectives[c].build(w.n, r, &program));
        check_ok(mci_run_create(program, &runs[c][r]));
      }
      for (size_t k = 0; k < ncounts; k++) {
        run_once(&w, &collectives[c], runs[c], counts[k], false, &random);
        if (collectives[c].coll == MCI_ALL_REDUCE) run_once(&w, &collectives[c], runs[c], counts[k], true, &random);
      }
    }
    world_close(&w);
    for (size_t c = 0; c < MCI_COUNT(collectives); c++)
      for (uint32_t r = 0; r < w.n; r++) mci_run_destroy(runs[c][r]);
  }
}

static const uint64_t small_counts[] = {0, 1, 2, 7, 64, 1009, 4096, 20011};

static void host_memory_many_credits(void** state) {
  (void)state;
  run_all(&mci_device_host, 4096, 8, small_counts, MCI_COUNT(small_counts));
}

static void host_memory_one_credit(void** state) {
  (void)state;
  run_all(&mci_device_host, 4096, 1, small_counts, MCI_COUNT(small_counts));
}

static void host_memory_large_slices(void** state) {
  (void)state;
  static const uint64_t counts[] = {3, 100003, 700001};
  run_all(&mci_device_host, 131072, 4, counts, MCI_COUNT(counts));
}

static void device_memory(void** state) {
  (void)state;
  static const uint64_t counts[] = {0, 1, 7, 1009, 9001};
  run_all(&test_device, 4096, 3, counts, MCI_COUNT(counts));
}

static void places_and_late_completions(void** state) {
  (void)state;
  setenv("MESHCCL_TEST_MEMORY", "places lend depth=2", 1);
  run_all(&mci_device_host, 4096, 2, small_counts, MCI_COUNT(small_counts));
  run_all(&test_device, 4096, 2, small_counts, 6);
  unsetenv("MESHCCL_TEST_MEMORY");
}

/* Rank 1 calls with another fingerprint: both must fail, with a text that names the rank. */
static void a_call_that_differs_is_named(void** state) {
  (void)state;
  world w;
  uint64_t random = test_seed();
  world_open(&w, 2, &mci_device_host, 4096, 4);
  mci_run* runs[2];
  int32_t buffers[2][8] = {{0}};
  for (uint32_t r = 0; r < 2; r++) {
    mci_program* program;
    check_ok(test_program_ring_all_reduce(2, r, &program));
    check_ok(mci_run_create(program, &runs[r]));
    w.ops[r] = (mci_op){.run = runs[r],
                        .in = buffers[r],
                        .out = buffers[r],
                        .count = 8,
                        .type = meshcclInt32,
                        .type_size = 4,
                        .fingerprint = 1 + r,
                        .describe = describe,
                        .finished = finished,
                        .ready = true};
    mci_engine_submit(w.engines[r], &w.ops[r]);
  }
  drive(&w, &random);
  for (uint32_t r = 0; r < 2; r++) assert_int_equal(w.ops[r].result, meshcclInvalidUsage);
  assert_true(w.reports >= 1);
  assert_non_null(strstr(w.report, "test-ring"));
  assert_non_null(strstr(w.report, "rank 1"));
  world_close(&w);
  for (uint32_t r = 0; r < 2; r++) mci_run_destroy(runs[r]);
}

int main(void) {
  test_device_register();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(host_memory_many_credits),    cmocka_unit_test(host_memory_one_credit),
      cmocka_unit_test(host_memory_large_slices),    cmocka_unit_test(device_memory),
      cmocka_unit_test(places_and_late_completions), cmocka_unit_test(a_call_that_differs_is_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
