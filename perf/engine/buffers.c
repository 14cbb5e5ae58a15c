/* The send and receive areas of a rank: allocation in three flavours, test data in, comparison out.
 * Every area has guards before its first and behind its last used byte; a broken guard byte counts as a wrong element.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perf/engine/perf.h"

enum { MARGIN = 4096, GUARD = 64 };

static const perf_piece filler = {PERF_NONE, 0, 0};
/* Guards are bytes: one more pattern, whose type is a byte. */
static const perf_pattern bytes_pattern = {.type = meshcclUint8};

static meshcclResult_t allocate(perf_rank* rank, perf_buffer* out, size_t bytes) {
  const perf_options* o = &rank->world->options;
  size_t shift = o->unalign * perf_type_size(meshcclFloat64);
  perf_buffer b = {.bytes = (2 * MARGIN + shift + bytes + MARGIN - 1) / MARGIN * MARGIN};
  if (o->local_register == 2) {
    PERF_CALL(rank->world, meshcclMemAlloc(&b.base, b.bytes));
  } else if (!(b.base = aligned_alloc(MARGIN, b.bytes))) {
    fprintf(stderr, "rank %d: no memory for a buffer of %zu bytes; lower --maxbytes\n", rank->rank, b.bytes);
    return meshcclSystemError;
  }
  *out = b;
  if (o->local_register == 1)
    PERF_CALL(rank->world, meshcclCommRegister(rank->comm, out->base, out->bytes, &out->handle));
  return meshcclSuccess;
}

static void release(perf_rank* rank, perf_buffer* b) {
  if (b->handle) meshcclCommDeregister(rank->comm, b->handle);
  if (rank->world->options.local_register == 2)
    meshcclMemFree(b->base);
  else
    free(b->base);
  *b = (perf_buffer){0};
}

meshcclResult_t perf_buffers_open(perf_rank* rank, size_t bytes) {
  PERF_TRY(allocate(rank, &rank->send, bytes));
  PERF_TRY(allocate(rank, &rank->recv, bytes));
  return meshcclSuccess;
}

void perf_buffers_close(perf_rank* rank) {
  release(rank, &rank->send);
  release(rank, &rank->recv);
}

static int blocks_of(int blocks, int nranks) { return blocks == PERF_PER_RANK ? nranks : blocks; }

static uint8_t* start_of(const perf_rank* rank, const perf_buffer* b) {
  return (uint8_t*)b->base + MARGIN + rank->world->options.unalign * perf_type_size(rank->pattern.type);
}

perf_call perf_buffers_call(perf_rank* rank, const perf_line* line, bool in_place) {
  const perf_program* p = rank->world->program;
  size_t block = line->count * perf_type_size(line->type), own = block * (size_t)rank->group_rank;
  uint8_t *send = start_of(rank, &rank->send), *recv = start_of(rank, &rank->recv);
  if (in_place) { /* both lie in the receive area; the smaller one at its own block of the larger one */
    send = recv + (p->recv_blocks == PERF_PER_RANK && p->send_blocks == PERF_ONE ? own : 0);
    recv += p->send_blocks == PERF_PER_RANK && p->recv_blocks == PERF_ONE ? own : 0;
  }
  return (perf_call){send,       recv,        line->count,      line->type,
                     rank->op,   line->root,  rank->group_rank, rank->group_size,
                     rank->comm, rank->stream};
}

static perf_view view_of(const perf_rank* rank, const perf_line* line) {
  return (perf_view){rank->group_rank, rank->group_size, line->root, line->count};
}

static void fill_blocks(const perf_rank* rank, const perf_line* line, bool output, uint8_t* at) {
  const perf_program* p = rank->world->program;
  perf_view view = view_of(rank, line);
  int blocks = blocks_of(output ? p->recv_blocks : p->send_blocks, rank->group_size);
  for (int b = 0; b < blocks; b++) {
    perf_piece piece = output ? p->recv(&view, b) : p->send(&view, b);
    perf_pattern_fill(&rank->pattern, piece, rank->phase, output && piece.kind != PERF_NONE,
                      at + (size_t)b * line->count * perf_type_size(line->type), line->count);
  }
}

static size_t wrong_blocks(const perf_rank* rank, const perf_line* line, bool output, const uint8_t* at) {
  const perf_program* p = rank->world->program;
  perf_view view = view_of(rank, line);
  int blocks = blocks_of(output ? p->recv_blocks : p->send_blocks, rank->group_size);
  size_t wrong = 0;
  for (int b = 0; b < blocks; b++) {
    perf_piece piece = output ? p->recv(&view, b) : p->send(&view, b);
    wrong += perf_pattern_wrong(&rank->pattern, piece, rank->phase,
                                at + (size_t)b * line->count * perf_type_size(line->type), line->count);
  }
  return wrong;
}

static size_t used_bytes(const perf_rank* rank, const perf_line* line, bool output) {
  const perf_program* p = rank->world->program;
  return (size_t)blocks_of(output ? p->recv_blocks : p->send_blocks, rank->group_size) * line->count *
         perf_type_size(line->type);
}

typedef struct {
  uint8_t *before, *behind;
} guards;

/* In place both buffers share the receive area: its guards stand around the larger one. */
static guards guards_of(const perf_rank* rank, const perf_line* line, bool output, bool in_place) {
  uint8_t* start = start_of(rank, output ? &rank->recv : &rank->send);
  size_t used = used_bytes(rank, line, output), other = used_bytes(rank, line, !output);
  return (guards){start - GUARD, start + (in_place && other > used ? other : used)};
}

static void set_guards(guards g) {
  perf_pattern_fill(&bytes_pattern, filler, 0, false, g.before, GUARD);
  perf_pattern_fill(&bytes_pattern, filler, 0, false, g.behind, GUARD);
}

static size_t broken_guards(guards g) {
  return perf_pattern_wrong(&bytes_pattern, filler, 0, g.before, GUARD) +
         perf_pattern_wrong(&bytes_pattern, filler, 0, g.behind, GUARD);
}

void perf_buffers_prepare(perf_rank* rank, const perf_line* line, bool in_place) {
  perf_call call = perf_buffers_call(rank, line, in_place);
  fill_blocks(rank, line, true, call.recv); /* in place, the input overwrites its part */
  fill_blocks(rank, line, false, (uint8_t*)call.send);
  set_guards(guards_of(rank, line, true, in_place));
  if (!in_place) set_guards(guards_of(rank, line, false, false));
}

/* In place on a rank that gets nothing (not the root of a reduce), the input must still be there. */
static bool gets_nothing(const perf_rank* rank, const perf_line* line) {
  perf_view view = view_of(rank, line);
  return rank->world->program->recv(&view, 0).kind == PERF_NONE;
}

size_t perf_buffers_wrong(perf_rank* rank, const perf_line* line, bool in_place) {
  perf_call call = perf_buffers_call(rank, line, in_place);
  bool idle = gets_nothing(rank, line);
  size_t wrong = broken_guards(guards_of(rank, line, true, in_place));
  if (!in_place) wrong += broken_guards(guards_of(rank, line, false, false));
  if (!in_place || !idle) wrong += wrong_blocks(rank, line, true, call.recv);
  if (!in_place || idle) wrong += wrong_blocks(rank, line, false, call.send);
  return wrong;
}
