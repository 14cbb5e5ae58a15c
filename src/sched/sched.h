/* The schedule: data that says what one rank does in one collective. Built by topo/plan, proved by verify.c, printed
 * and parsed by text.c, run by src/exec. It knows no transport, no topology and no sizes in bytes.
 *
 * A program has channels that advance independently; a channel is an ordered list of steps; a step is
 *     destinations <- source + source + ...          (fold left to right; one source: a copy)
 * where each operand is a local chunk (input, output, scratch slot) or a lane. A lane is (source rank, destination
 * rank, channel): a channel's `>peer` feeds the same channel of the peer, whose `<peer` takes messages in order.
 *
 * What a step means, slice by slice (the executor cuts all messages alike):
 *  - it waits for its `after` conditions and its arrivals; it never waits for credits, because it needs a local place:
 *    a fold with a lane destination also names a local destination (spill) where the result stands until it is sent;
 *    a step with only local sources and only lane destinations sends straight from the source (a "send");
 *  - its arrivals are free once it has run; its departures leave later, in order per lane, as credits allow, from the
 *    (first) local destination if it has one, else from its single local source. That memory is lent: it stays in use until the
 *    receiver's matching step has run, unless the lane destination is marked COPY: then the bytes are copied when the
 *    step runs, into room that the executor provides, and the memory is free once the step has run;
 *  - the next step of the channel starts when this one has run (its departures may still be pending).
 *
 * Chunks name places in a layout. A layout cuts the vector twice: into blocks (equal) and parts (weighted):
 *  - MCI_PART_MAJOR (all-reduce, broadcast, reduce): the vector of `count` elements is cut into parts by weight, each
 *    part into `nblocks` equal blocks. Borders are floor cuts, so blocks differ by at most one element.
 *  - MCI_BLOCK_MAJOR (all-gather, reduce-scatter, all-to-all, gather, scatter): the vector is `nblocks` blocks of exactly
 *    `count` elements (one per rank), each cut into parts by weight. `order` maps block index to place in user memory
 *    (NULL: identity).
 * A buffer may hold one block only (all-gather's input, reduce-scatter's output, ...): see mci_coll_buffers. */
#ifndef MCI_SCHED_H
#define MCI_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meshccl/result.h"

typedef enum {
  MCI_ALL_REDUCE,
  MCI_ALL_GATHER,
  MCI_REDUCE_SCATTER,
  MCI_BROADCAST,
  MCI_REDUCE,
  MCI_ALL_TO_ALL,
  MCI_GATHER,
  MCI_SCATTER,
  MCI_BARRIER,
  MCI_SEND_RECV, /* point to point: one channel, one step; never planned, proved by construction */
  MCI_NUM_COLLS
} mci_coll;

const char* mci_coll_name(mci_coll coll);                        /* "all_reduce", ... */
meshcclResult_t mci_coll_parse(const char* name, mci_coll* out); /* accepts names with and without '_' */
bool mci_coll_reduces(mci_coll coll);
bool mci_coll_rooted(mci_coll coll);
bool mci_coll_block_major(mci_coll coll); /* layout kind of the collective */

#define MCI_MAX_LOOPS 2
#define MCI_MAX_CHANNELS 256

/* base + i*step[0] + j*step[1], where i, j are the counters of the enclosing repeats, outermost first. */
typedef struct {
  int32_t base;
  int32_t step[MCI_MAX_LOOPS];
} mci_affine;

static inline mci_affine mci_const(int32_t base) { return (mci_affine){base, {0, 0}}; }
static inline mci_affine mci_lin(int32_t base, int32_t i) { return (mci_affine){base, {i, 0}}; }

typedef enum { MCI_IN, MCI_OUT, MCI_TMP, MCI_LANE } mci_kind;

enum {
  MCI_COPY = 1, /* lane destination: must not be lent */
  MCI_SPILL = 2 /* local destination: needed only while the step's departures wait; its content is undefined after */
};

/* Blocks block, +1, .. of `run` contiguous blocks, `nruns` times, `stride` blocks apart; parts part .. part+nparts-1.
 * A part-major chunk with nparts > 1 covers whole parts (block 0, run nblocks, nruns 1). */
typedef struct {
  mci_affine block;
  uint32_t run, nruns, stride;
  mci_affine part;
  uint32_t nparts;
  mci_affine skip; /* MCI_TMP in block-major layouts: how many chunks of this shape precede it in the slot; else 0 */
} mci_shape;

typedef struct {
  uint8_t kind; /* mci_kind */
  uint8_t flags;
  mci_affine peer; /* lanes: the other rank */
  mci_affine slot; /* MCI_TMP: scratch slot, as large as the largest chunk of the program that uses scratch */
  mci_shape shape; /* local chunks */
} mci_operand;

typedef enum { MCI_STEP, MCI_REPEAT, MCI_END } mci_instr_kind;

#define MCI_MAX_AFTER 8
/* Starts only when `channel` of the same rank has run `count` steps (repeats unrolled) of this program. */
typedef struct {
  uint16_t channel;
  mci_affine count;
} mci_after;

enum {
  MCI_FINISH = 1, /* the result is complete: the operator's last step (avg) is applied when it is stored */
  MCI_WIDE = 2    /* accumulate 16- and 8-bit floats in float32 within this fold, round once when stored */
};

typedef struct {
  uint8_t kind; /* mci_instr_kind */
  uint8_t flags;
  uint16_t ndst, nsrc, nafter;
  uint32_t operands; /* index into the channel's operands: destinations, then sources */
  uint32_t afters;   /* index into the channel's afters */
  uint32_t count;    /* MCI_REPEAT: iterations (0 allowed) */
} mci_instr;

typedef struct {
  uint16_t id;
  mci_instr* instrs;
  mci_operand* operands;
  mci_after* afters;
  uint32_t ninstrs, noperands, nafters;
  uint32_t cap_instrs, cap_operands, cap_afters;
} mci_channel;

typedef struct {
  bool block_major;
  uint32_t nblocks;
  uint32_t nparts;
  uint32_t* weights; /* nparts values, owned; sum fits 32 bits */
  uint32_t* below; /* nparts + 1 values, owned: the weights before each part, and all of them; NULL: to be summed up */
  uint32_t* order; /* nblocks values or NULL, owned */
} mci_layout;

typedef struct mci_program {
  mci_coll coll;
  char algorithm[48];
  uint32_t nranks, rank, root;
  mci_layout layout;
  uint32_t nslots;    /* scratch slots */
  uint32_t nchannels; /* in ascending id */
  mci_channel* channels;
  uint32_t steps; /* longest dependent chain of messages as the planner predicts it; 0 unknown */
} mci_program;

/* All ranks together: what verify, print and export work on. programs[r] is rank r's. */
typedef struct {
  uint32_t nranks;
  mci_program** programs;
  char bits[33]; /* digest of the fold order declared by the text ("" none) */
} mci_schedule;

/* Elements of every buffer in blocks: 0 = not used on this rank, 1 = one block, nblocks = the whole vector. For
 * part-major collectives the vector is the unit: 0 or 1 whole vector. */
typedef struct {
  bool in_used, out_used;
  bool in_one_block, out_one_block; /* the buffer holds only the rank's own block: the one whose place is `rank` */
} mci_coll_buffers_t;
mci_coll_buffers_t mci_coll_buffers(mci_coll coll, uint32_t rank, uint32_t root);

/* ---- build (build.c) ----------------------------------------------------------------------------------------------- */
/* Builders report out-of-memory and misuse once, at mci_build_finish; calls in between need no check. */
typedef struct mci_build mci_build;

mci_build* mci_build_begin(mci_coll coll, const char* algorithm, uint32_t nranks, uint32_t rank, uint32_t root);
/* weights are copied; NULL: all 1. Called once, before the first channel. */
void mci_build_layout(mci_build* b, uint32_t nblocks, uint32_t nparts, const uint32_t* weights);
void mci_build_order(mci_build* b, const uint32_t* order);
void mci_build_slots(mci_build* b, uint32_t nslots);
void mci_build_channel(mci_build* b, uint16_t id); /* ends the channel before; ids ascend */
void mci_build_repeat(mci_build* b, uint32_t count);
void mci_build_end(mci_build* b);                   /* ends the repeat */
void mci_build_step(mci_build* b, unsigned flags);  /* followed by after, dst, src calls of this step */
void mci_build_flags(mci_build* b, unsigned flags); /* adds to the flags of the current step */
void mci_build_after(mci_build* b, uint16_t channel, mci_affine count);
void mci_build_dst(mci_build* b, mci_kind kind, unsigned flags, mci_shape shape);
void mci_build_dst_tmp(mci_build* b, unsigned flags, mci_affine slot, mci_shape shape);
void mci_build_dst_lane(mci_build* b, unsigned flags, mci_affine peer);
void mci_build_src(mci_build* b, mci_kind kind, mci_shape shape);
void mci_build_src_tmp(mci_build* b, mci_affine slot, mci_shape shape);
void mci_build_src_lane(mci_build* b, mci_affine peer);
uint64_t mci_build_count(const mci_build* b); /* steps of the current channel so far, closed repeats unrolled */
meshcclResult_t mci_build_finish(mci_build* b, mci_program** out); /* frees b in any case */
void mci_build_drop(mci_build* b);                                 /* instead of finish: frees b and what was built */
void mci_program_destroy(mci_program* program);
size_t mci_program_bytes(const mci_program* program);

/* one contiguous run of blocks [block, block+run) of one part */
static inline mci_shape mci_span(mci_affine block, uint32_t run, mci_affine part) {
  return (mci_shape){.block = block, .run = run, .nruns = 1, .part = part, .nparts = 1};
}

/* ---- walk (cursor.c) ------------------------------------------------------------------------------------------------- */
/* An operand with the loop counters filled in. */
typedef struct {
  uint8_t kind, flags;
  uint32_t peer, slot;
  uint32_t block, run, nruns, stride, part, nparts;
  uint32_t skip;
} mci_arg;

typedef struct {
  const mci_channel* channel;
  uint32_t pc;
  uint32_t depth;
  uint32_t counter[MCI_MAX_LOOPS], start[MCI_MAX_LOOPS], limit[MCI_MAX_LOOPS];
  uint64_t index; /* steps returned so far */
} mci_cursor;

void mci_cursor_start(mci_cursor* cursor, const mci_channel* channel);
/* The next step or NULL at the end. The counters stay valid for mci_cursor_arg until the next call. */
const mci_instr* mci_cursor_next(mci_cursor* cursor);
/* Operand k of the step just returned: 0..ndst-1 destinations, ndst.. sources. */
mci_arg mci_cursor_arg(const mci_cursor* cursor, const mci_instr* step, unsigned k);
/* After condition k: channel and the resolved count. */
uint64_t mci_cursor_after(const mci_cursor* cursor, const mci_instr* step, unsigned k, uint16_t* channel);
uint64_t mci_channel_steps(const mci_channel* channel); /* repeats unrolled */

/* ---- layout (layout.c): chunks become pieces of elements ----------------------------------------------------------------- */
/* Elements of a chunk, for `count` (see the layout kinds above). */
uint64_t mci_layout_elements(const mci_layout* layout, uint64_t count, const mci_arg* arg);
/* The largest chunk of any step that uses scratch, what it skips included: the size of one scratch slot, in elements. */
uint64_t mci_program_slot_elements(const mci_program* program, uint64_t count);

/* Walks the contiguous pieces of a chunk in order. A scratch chunk is one piece; its offset counts from the slot's
 * start. `one_block_rank` >= 0: the buffer holds only that block. */
typedef struct {
  const mci_layout* layout;
  mci_arg arg;
  uint64_t count;
  int64_t one_block;
  uint64_t run, in_run;
} mci_pieces;
void mci_pieces_start(mci_pieces* it, const mci_layout* layout, uint64_t count, const mci_arg* arg, int64_t one_block);
bool mci_pieces_next(mci_pieces* it, uint64_t* offset_out, uint64_t* elements_out);

/* ---- text (text.c): prints and parses whole schedules; docs/schedule-format.md --------------------------------------------- */
struct mci_str;
meshcclResult_t mci_schedule_print(const mci_schedule* schedule, struct mci_str* out);
meshcclResult_t mci_program_print(const mci_program* program, struct mci_str* out);
/* InvalidArgument with "name:line:column: ...". The text needs no NUL and is not trusted. */
meshcclResult_t mci_schedule_parse(const char* text, size_t bytes, const char* name, mci_schedule** out);
void mci_schedule_destroy(mci_schedule* schedule);

/* ---- verify (verify.c) ------------------------------------------------------------------------------------------------------ */
typedef struct {
  bool in_place;    /* input and output share memory as the in-place rule of the collective says */
  uint32_t credits; /* per lane, 1 = the proof for every executor; 0 means 1 */
} mci_verify_options;

typedef struct {
  uint64_t steps, messages;
  uint64_t depth; /* longest chain of messages */
  char bits[33];  /* digest of the fold order of every result element */
} mci_verify_report;

/* Proves the schedule or says in the last error what is wrong: rank, channel, step. InvalidUsage: rejected. */
meshcclResult_t mci_schedule_verify(const mci_schedule* schedule, const mci_verify_options* options,
                                    mci_verify_report* report);
#endif
