/* The reference interpreter's data: buffers, inputs, arithmetic by type, the oracle. interpret_run.c runs the steps. */
#include "support/interpret.h"

#include <math.h>

#include "support/interpret_run.h"
#include "support/test.h"

/* ---- arithmetic ---- */

static double to_float(double x) { return (double)(float)x; }

static double to_bfloat16(double x) {
  float f = (float)x;
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  if (isnan(f)) return x;
  u += 0x7fff + (u >> 16 & 1);
  u &= 0xffff0000u;
  memcpy(&f, &u, sizeof f);
  return (double)f;
}

double test_round(meshcclDataType_t type, double x) {
  switch (type) {
    case meshcclFloat32:
      return to_float(x);
    case meshcclBfloat16:
      return to_bfloat16(x);
    default:
      return x;
  }
}

static bool is_integer(meshcclDataType_t type) { return type <= meshcclUint64; }

double test_fold(const test_interpret_options* o, double a, double b, bool wide) {
  double x = o->op == meshcclProd ? a * b : o->op == meshcclMax ? fmax(a, b) : o->op == meshcclMin ? fmin(a, b) : a + b;
  if (isnan(a) || isnan(b)) x = NAN; /* fmax would hide memory that nobody wrote */
  return test_round(wide && o->type == meshcclBfloat16 ? meshcclFloat32 : o->type, x);
}

double test_finish(const test_interpret_options* o, double x, uint32_t nranks) {
  if (o->op != meshcclAvg) return x;
  return is_integer(o->type) ? trunc(x / nranks) : x / nranks;
}

/* ---- buffers ---- */

static uint64_t whole(const mci_program* p, uint64_t count) {
  return p->layout.block_major ? count * p->nranks : count;
}

/* The input of a rank, by its place in the vector. Small integers, or numbers with all bits in use. */
static double input_value(const test_interpret_options* o, uint32_t rank, uint64_t i) {
  uint64_t state = o->data ^ (rank + 1) * UINT64_C(0x100000001b3) ^ i * UINT64_C(0x9e3779b97f4a7c15);
  uint64_t random = test_random(&state);
  if (o->rough) return test_round(o->type, ldexp((double)(random >> 12), -40 - (int)(random % 16)));
  return o->op == meshcclProd ? (double)(1 + random % 2) : (double)(random % 17) - 4;
}

static void open_rank(test_memory* m, const mci_program* p, const test_interpret_options* o) {
  mci_coll_buffers_t b = mci_coll_buffers(p->coll, p->rank, p->root);
  uint64_t all = whole(p, o->count), in = !b.in_used ? 0 : b.in_one_block ? o->count : all;
  uint64_t out = !b.out_used ? 0 : b.out_one_block ? o->count : all, own = p->rank * o->count;
  m->buffers = b;
  m->slot_elements = mci_program_slot_elements(p, o->count);
  uint64_t scratch = m->slot_elements * p->nslots;
  m->room = calloc(in + out + scratch + 1, sizeof *m->room);
  for (uint64_t i = 0; i < in + out + scratch; i++) m->room[i] = NAN;
  m->in = m->room;
  m->out = m->room + in;
  m->slots = m->out + out;
  bool rooted_elsewhere = mci_coll_rooted(p->coll) && p->rank != p->root;
  if (o->in_place && in && out && p->coll != MCI_ALL_TO_ALL && !rooted_elsewhere) {
    if (b.in_one_block) {
      m->in = m->out + own;
    } else {
      m->out = m->in + (b.out_one_block ? own : 0);
    }
  }
  for (uint64_t i = 0; i < in; i++) m->in[i] = input_value(o, p->rank, b.in_one_block ? own + i : i);
}

/* ---- oracle ---- */

static double folded(const test_interpret_options* o, uint32_t nranks, uint64_t i) {
  double x = input_value(o, 0, i);
  for (uint32_t r = 1; r < nranks; r++) x = test_fold(o, x, input_value(o, r, i), true);
  return test_round(o->type, test_finish(o, x, nranks));
}

static double expected(const mci_program* p, const test_interpret_options* o, uint64_t i) {
  uint64_t own = p->rank * o->count, block = i / o->count, inside = i % o->count;
  switch (p->coll) {
    case MCI_REDUCE_SCATTER:
      return folded(o, p->nranks, own + i);
    case MCI_ALL_GATHER:
    case MCI_GATHER:
      return input_value(o, (uint32_t)block, i);
    case MCI_ALL_TO_ALL:
      return input_value(o, (uint32_t)block, own + inside);
    case MCI_SCATTER:
      return input_value(o, p->root, own + i);
    case MCI_BROADCAST:
      return input_value(o, p->root, i);
    default:
      return folded(o, p->nranks, i);
  }
}

static meshcclResult_t judge(const mci_schedule* schedule, const test_interpret_options* o, const test_memory* memory,
                             uint64_t* bits) {
  *bits = 0;
  for (uint32_t r = 0; r < schedule->nranks; r++) {
    const mci_program* p = schedule->programs[r];
    const test_memory* m = &memory[r];
    bool shared = p->coll == MCI_ALL_REDUCE || p->coll == MCI_BARRIER;
    uint64_t n = !m->buffers.out_used ? 0 : m->buffers.out_one_block ? o->count : whole(p, o->count);
    *bits = mci_hash64_mix(*bits, mci_hash64(m->out, n * sizeof *m->out));
    for (uint64_t i = 0; i < n; i++) {
      double want = o->rough ? m->out[i] : expected(p, o, i);
      if (!(m->out[i] == want))
        MCI_FAIL(meshcclInternalError, "rank %u: out[%llu] is %g, expected %g", r, (unsigned long long)i, m->out[i],
                 want);
      if (shared && m->out[i] != memory[0].out[i])
        MCI_FAIL(meshcclInternalError, "out[%llu] is %.17g on rank %u and %.17g on rank 0", (unsigned long long)i,
                 m->out[i], r, memory[0].out[i]);
    }
  }
  return meshcclSuccess;
}

meshcclResult_t test_interpret(const mci_schedule* schedule, const test_interpret_options* options, uint64_t* bits) {
  test_memory* memory = calloc(schedule->nranks, sizeof *memory);
  for (uint32_t r = 0; r < schedule->nranks; r++) open_rank(&memory[r], schedule->programs[r], options);
  meshcclResult_t result = test_interpret_run(schedule, options, memory);
  if (result == meshcclSuccess) result = judge(schedule, options, memory, bits);
  for (uint32_t r = 0; r < schedule->nranks; r++) free(memory[r].room);
  free(memory);
  return result;
}
