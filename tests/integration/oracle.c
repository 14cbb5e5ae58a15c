/* The definitions of the collectives, element by element. */
#include "oracle.h"

#include <stdlib.h>
#include <string.h>

#define GUARD 64
#define GUARD_BYTE 0xa5

const char* const oracle_names[NUM_COLLS] = {"all_reduce", "all_gather", "reduce_scatter", "broadcast",
                                             "reduce",     "all_to_all", "gather",         "scatter"};

static void* mem_alloc(size_t bytes) {
  void* ptr = NULL;
  return meshcclMemAlloc(&ptr, bytes) == meshcclSuccess ? ptr : NULL;
}
static void mem_give(void* ptr) { meshcclMemFree(ptr); }
static void copy(void* to, const void* from, size_t bytes) { memcpy(to, from, bytes); }
const oracle_memory oracle_host = {malloc, free, copy, copy};
const oracle_memory oracle_mem_alloc = {mem_alloc, mem_give, copy, copy};

size_t oracle_type_size(meshcclDataType_t type) {
  static const size_t sizes[meshcclNumTypes] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  return sizes[type];
}

bool oracle_rooted(int coll) { return coll == BROADCAST || coll == REDUCE || coll == GATHER || coll == SCATTER; }
bool oracle_can_be_in_place(int coll) { return coll != ALL_TO_ALL; }
static bool in_is_large(int coll) { return coll == REDUCE_SCATTER || coll == ALL_TO_ALL || coll == SCATTER; }
static bool out_is_large(int coll) { return coll == ALL_GATHER || coll == ALL_TO_ALL || coll == GATHER; }

/* 0..12, without a pattern over ranks or elements. */
static int value(int rank, size_t i) {
  uint64_t x = ((uint64_t)(uint32_t)rank << 40) ^ (uint64_t)i;
  x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9ull;
  return (int)((x >> 33) % 13);
}

static int reduced(int n, size_t i, meshcclRedOp_t op) {
  int result = value(0, i);
  for (int r = 1; r < n; r++) {
    int next = value(r, i);
    result = op == meshcclMax   ? (next > result ? next : result)
             : op == meshcclMin ? (next < result ? next : result)
                                : result + next;
  }
  return result;
}

/* Exact for 0..255 in every type that is used with sums; formats with a few bits are written as small whole numbers. */
static void put(void* to, meshcclDataType_t type, int v) {
  float f = (float)v;
  uint32_t bits;
  memcpy(&bits, &f, 4);
  uint16_t half = v == 0 ? 0 : (uint16_t)(((bits >> 23) - 112) << 10 | (bits >> 13 & 0x3ff)),
           brain = (uint16_t)(bits >> 16);
  int8_t byte = (int8_t)v;
  int64_t wide = v;
  double d = v;
  switch (oracle_type_size(type)) {
    case 1:
      memcpy(to, &byte, 1);
      break;
    case 2:
      memcpy(to, type == meshcclFloat16 ? &half : &brain, 2);
      break;
    case 4:
      memcpy(to, type == meshcclFloat32 ? (void*)&f : (void*)&v, 4);
      break;
    default:
      memcpy(to, type == meshcclFloat64 ? (void*)&d : (void*)&wide, 8);
  }
}

static int expected(const oracle_call* c, int n, int rank, size_t i) {
  switch (c->coll) {
    case ALL_REDUCE:
    case REDUCE:
      return reduced(n, i, c->op);
    case REDUCE_SCATTER:
      return reduced(n, (size_t)rank * c->count + i, c->op);
    case ALL_GATHER:
    case GATHER:
      return value((int)(i / c->count), i % c->count);
    case BROADCAST:
      return value(c->root, i);
    case SCATTER:
      return value(c->root, (size_t)rank * c->count + i);
    default:
      return value((int)(i / c->count), (size_t)rank * c->count + i % c->count);
  }
}

meshcclResult_t oracle_issue(const oracle_call* c, const void* in, void* out, meshcclComm_t comm) {
  switch (c->coll) {
    case ALL_REDUCE:
      return meshcclAllReduce(in, out, c->count, c->type, c->op, comm, c->stream);
    case ALL_GATHER:
      return meshcclAllGather(in, out, c->count, c->type, comm, c->stream);
    case REDUCE_SCATTER:
      return meshcclReduceScatter(in, out, c->count, c->type, c->op, comm, c->stream);
    case BROADCAST:
      return meshcclBroadcast(in, out, c->count, c->type, c->root, comm, c->stream);
    case REDUCE:
      return meshcclReduce(in, out, c->count, c->type, c->op, c->root, comm, c->stream);
    case ALL_TO_ALL:
      return meshcclAlltoAll(in, out, c->count, c->type, comm, c->stream);
    case GATHER:
      return meshcclGather(in, out, c->count, c->type, c->root, comm, c->stream);
    default:
      return meshcclScatter(in, out, c->count, c->type, c->root, comm, c->stream);
  }
}

/* Compares a buffer of the call with what it must hold. */
static int check_elements(rank_env* env, const oracle_call* c, const char* got, size_t elements, bool output) {
  size_t size = oracle_type_size(c->type);
  for (size_t i = 0; i < elements; i++) {
    char right[8];
    put(right, c->type, output ? expected(c, env->nranks, env->rank, i) : value(env->rank, i));
    expect(memcmp(right, got + i * size, size) == 0,
           "%s of %zu elements of type %d, root %d%s: %s element %zu of %zu is wrong", oracle_names[c->coll], c->count,
           (int)c->type, c->root, c->in_place ? ", in place" : "", output ? "output" : "input", i, elements);
  }
  return 0;
}

static int check_guard(rank_env* env, const oracle_call* c, const char* behind) {
  for (size_t i = 0; i < GUARD; i++)
    expect((unsigned char)behind[i] == GUARD_BYTE, "%s of %zu wrote behind its output", oracle_names[c->coll],
           c->count);
  return 0;
}

typedef struct {
  char *whole, *other; /* allocations */
  char *in, *out;
  size_t bytes; /* of each allocation */
} buffers;

static int run_on(rank_env* env, meshcclComm_t comm, const oracle_call* c, const oracle_memory* m, buffers* b,
                  char* host) {
  size_t size = oracle_type_size(c->type), large = (size_t)env->nranks * c->count;
  size_t ins = in_is_large(c->coll) ? large : c->count, outs = out_is_large(c->coll) ? large : c->count;
  memset(host, GUARD_BYTE, b->bytes);
  m->write(b->whole, host, b->bytes);
  m->write(b->other, host, b->bytes);
  for (size_t i = 0; i < ins; i++) put(host + i * size, c->type, value(env->rank, i));
  m->write(b->in, host, ins * size);
  need(oracle_issue(c, b->in, b->out, comm));
  if (c->stream) need(meshcclStreamSynchronize(c->stream));
  bool has_output = (c->coll != REDUCE && c->coll != GATHER) || env->rank == c->root;
  if (has_output) {
    m->read(host, b->out, outs * size);
    if (check_elements(env, c, host, outs, true)) return 1;
  }
  if (c->in_place) return 0;
  m->read(host, b->in, ins * size);
  if (check_elements(env, c, host, ins, false)) return 1;
  m->read(host, b->out + (has_output ? outs * size : 0), GUARD);
  return check_guard(env, c, host);
}

int oracle_run(rank_env* env, meshcclComm_t comm, const oracle_call* c) {
  const oracle_memory* m = c->memory ? c->memory : &oracle_host;
  size_t size = oracle_type_size(c->type), large = (size_t)env->nranks * c->count * size;
  buffers b = {.bytes = large + c->offset + GUARD};
  char* host = malloc(b.bytes);
  b.whole = m->alloc(b.bytes);
  b.other = m->alloc(b.bytes);
  b.in = b.whole + c->offset;
  b.out = c->in_place ? b.in : b.other + c->offset;
  size_t own = (size_t)env->rank * c->count * size;
  if (c->in_place && out_is_large(c->coll)) b.in += own;
  if (c->in_place && in_is_large(c->coll)) b.out += own;
  int failed = run_on(env, comm, c, m, &b, host);
  m->give(b.whole);
  m->give(b.other);
  free(host);
  return failed;
}

int oracle_run_all(rank_env* env, meshcclComm_t comm, const oracle_call* like) {
  oracle_call c = *like;
  bool sums = c.type != meshcclFloat8e4m3 && c.type != meshcclFloat8e5m2;
  for (c.coll = 0; c.coll < NUM_COLLS; c.coll++) {
    if (!sums && (c.coll == ALL_REDUCE || c.coll == REDUCE_SCATTER || c.coll == REDUCE)) continue;
    int roots = oracle_rooted(c.coll) ? env->nranks : 1;
    for (c.root = 0; c.root<roots; c.root += env->nranks> 4 ? 3 : 1) {
      c.in_place = false;
      if (oracle_run(env, comm, &c)) return 1;
      c.in_place = oracle_can_be_in_place(c.coll);
      if (c.in_place && oracle_run(env, comm, &c)) return 1;
    }
  }
  return 0;
}

int oracle_exchange(rank_env* env, meshcclComm_t comm, const oracle_call* c) {
  const oracle_memory* m = c->memory ? c->memory : &oracle_host;
  size_t size = oracle_type_size(c->type), bytes = c->count * size + 1;
  int n = env->nranks, to = (env->rank + 1) % n, from = (env->rank + n - 1) % n, wrong = 0;
  char *host = malloc(bytes), *out = m->alloc(bytes), *in = m->alloc(bytes);
  for (size_t i = 0; i < c->count; i++) put(host + i * size, c->type, value(env->rank, i));
  m->write(out, host, bytes - 1);
  need(meshcclGroupStart());
  need(meshcclSend(out, c->count, c->type, to, comm, c->stream));
  need(meshcclRecv(in, c->count, c->type, from, comm, c->stream));
  need(meshcclGroupEnd());
  if (c->stream) need(meshcclStreamSynchronize(c->stream));
  m->read(host, in, bytes - 1);
  for (size_t i = 0; i < c->count && !wrong; i++) {
    char right[8];
    put(right, c->type, value(from, i));
    wrong = memcmp(right, host + i * size, size) != 0;
  }
  m->give(out);
  m->give(in);
  free(host);
  expect(!wrong, "%zu elements of type %d from rank %d are wrong", c->count, (int)c->type, from);
  return 0;
}
