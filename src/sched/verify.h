/* The verifier's own structures. It runs all ranks' programs together, abstractly: a place of memory holds not bytes
 * but which element it is and by which folds of which ranks' inputs it was made. The parts: verify.c (entry, memory of
 * the run), verify_form.c (every step by itself), verify_order.c (running, clocks), verify_stuck.c (naming a deadlock),
 * verify_data.c (what a step reads and writes), verify_race.c (conflicting accesses), verify_expr.c (folds), digest.c
 * (results). docs/schedule-format.md says what is proved and why it suffices. */
#ifndef MCI_SCHED_VERIFY_H
#define MCI_SCHED_VERIFY_H

#include "base/base.h"
#include "sched/sched.h"

#define MCI_NONE UINT32_MAX
#define MCI_VERIFY_MAX_STEPS UINT64_C(50000000)
#define MCI_VERIFY_MAX_PLACES (UINT64_C(1) << 25)

/* ---- values ---- */

/* An expression: a rank's input, or a fold of expressions. Equal ones have equal numbers. */
typedef struct {
  uint32_t children, nchildren; /* index into the pool; 0 of them: the input of rank `children` */
  uint8_t flags;                /* MCI_FINISH, MCI_WIDE of the fold */
  bool finished;                /* FINISH was applied here or below */
  uint32_t canonical;           /* the same with commuting operands sorted */
  uint32_t inputs;              /* how many ranks' inputs are in it */
  uint64_t hash;                /* of the ordered expression, the same on every run and machine */
} mci_expr;

typedef struct {
  uint32_t nranks, words;
  mci_expr* nodes;
  uint64_t* sets;  /* `words` per node: bit per rank */
  uint32_t* pool;  /* children */
  uint32_t* table; /* open addressing, node + 1 */
  uint32_t nnodes, cap_nodes, cap_sets, npool, cap_pool, table_size;
  uint32_t* scratch; /* children of a canonical form */
  uint32_t cap_scratch;
} mci_exprs;

meshcclResult_t mci_exprs_init(mci_exprs* exprs, uint32_t nranks); /* nodes 0..nranks-1 are the inputs */
void mci_exprs_fini(mci_exprs* exprs);
/* The fold of n expressions with the step's flags. *twice is set to a rank whose input is in two of them, and nothing
 * is made, or to MCI_NONE. */
meshcclResult_t mci_exprs_fold(mci_exprs* exprs, unsigned flags, const uint32_t* children, uint32_t n, uint32_t* out,
                               uint32_t* twice);

/* What a place or a cell of a message holds. */
typedef struct {
  uint32_t element;
  uint32_t expr; /* or one of these: */
} mci_value;
#define MCI_UNDEFINED MCI_NONE
#define MCI_POISON (MCI_NONE - 1) /* a spill that was used up */

/* ---- memory ---- */

typedef struct {
  mci_value value;
  uint32_t writer, written; /* channel and number (from 1) of the step that wrote it last; 0: none */
  uint32_t position;        /* cell of that step's chunk */
  uint32_t reads;           /* list of the reads since, MCI_NONE: none */
} mci_place;

/* A read of a place: until a step has run, or until message number `step` of `lane` is taken. */
typedef struct {
  uint32_t lane;          /* MCI_NONE: until step `step` of `channel` */
  uint32_t channel, step; /* the reading step, number from 1 */
  uint32_t message;
  uint32_t position;
  uint32_t next;
} mci_read;

typedef struct {
  uint32_t used;
  uint32_t part, nparts, block, run; /* what it holds is cut by these; block-major: block and run 0 */
} mci_slot;

/* The memory of one rank, as places. */
typedef struct {
  uint32_t own_block;
  mci_coll_buffers_t buffers;
  bool input_fixed; /* nothing can write the input: its reads need no record */
  uint32_t in, out; /* first places */
  uint32_t slots, slot_cells;
  uint32_t first_slot;
} mci_memory;

/* ---- order ---- */

/* known[c]: steps of channel c (of all ranks, numbered through) that have run. Shared, copied when changed. */
typedef struct mci_clock {
  struct mci_clock* next_free;
  uint32_t refs;
  uint32_t known[];
} mci_clock;

/* The chunk of a step, as sizes are compared. */
typedef struct {
  uint32_t part, nparts, a, b; /* part-major: block, run; block-major: number of blocks, 0 */
} mci_size;

/* What a step sends, shared by its departures. */
typedef struct {
  uint32_t refs;
  mci_value values[];
} mci_load;

typedef struct {
  mci_load* load;
  uint32_t cells;
  mci_size size;
  uint32_t channel; /* that sent it */
  uint32_t step;    /* steps that the sending channel had run before */
  uint32_t depth;
  mci_clock *start, *complete; /* what was known when the sending step began, and when it had run (itself left out) */
} mci_message;

typedef struct {
  uint32_t source, target; /* channels */
  mci_message* messages;   /* ring; capacity a power of two */
  uint32_t cap_messages;
  uint32_t sent, taken;
  uint32_t* taken_by; /* step (from 1) of the target that took message k */
  uint32_t cap_taken;
} mci_verify_lane;

typedef enum { MCI_RUNS, MCI_WAITS_AFTER, MCI_WAITS_LANE, MCI_ENDED } mci_wait;

typedef struct {
  uint32_t rank;
  const mci_channel* channel;
  uint64_t steps; /* in all */
  mci_cursor cursor;
  const mci_instr* step; /* the next, NULL at the end */
  uint32_t done;         /* steps run */
  uint32_t depth;        /* longest chain of messages up to here */
  mci_clock* known;      /* after the last step; its own progress is `done` */
  mci_wait wait;
  uint32_t wait_for; /* a channel or a lane */
  uint32_t wait_count;
  uint32_t waiters, next_waiter;
  uint32_t wanted, wanted_end; /* its marks */
  bool queued;
} mci_verify_channel;

/* A count of steps of a channel that some `after` names: keeps what was known there. */
typedef struct {
  uint32_t channel, count;
  uint32_t uses, depth;
  mci_clock* clock;
} mci_mark;

typedef struct {
  uint32_t place, input; /* input: the element that the input holds there (MCI_IN only) */
} mci_spot;

typedef struct {
  const mci_schedule* schedule;
  const mci_program* first; /* collective, layout and root are the same in all */
  bool in_place;
  uint32_t credits;
  bool reduces;

  mci_verify_channel* channels;
  uint32_t nchannels;
  uint32_t* first_channel; /* per rank, nranks + 1 */
  mci_mark* marks;
  uint32_t nmarks, cap_marks;
  mci_verify_lane* lanes;
  uint32_t nlanes, cap_lanes;
  uint32_t* lane_table; /* open addressing over (source channel, target rank), lane + 1 */
  uint32_t lane_table_size;
  mci_clock* free_clocks;
  uint32_t *queue, queue_head, queue_length;

  mci_memory* memory; /* per rank */
  mci_place* places;
  uint32_t nplaces;
  mci_slot* slots;
  mci_read* reads;
  uint32_t nreads, cap_reads, free_reads;
  mci_exprs exprs;

  /* the step under way */
  mci_verify_channel* now;
  uint32_t now_channel;
  mci_clock *start, *complete;
  mci_message* arrivals;
  uint32_t cap_arrivals, narrivals;
  mci_spot* spots;
  uint32_t cap_spots;
  mci_value* values; /* what each source gives, one after the other; then the result in front */
  uint32_t cap_values;
  uint32_t* children;
  uint32_t cap_children;
  uint32_t* lent; /* lanes that its departures are lent over */
  uint32_t cap_lent, nlent;

  uint64_t steps, messages, depth, work;
} mci_verifier;

/* verify.c */
/* InvalidUsage with "rank R channel C step S (text): " in front; the step is the one the cursor stands on. */
meshcclResult_t mci_verify_fail(const mci_verifier* v, const mci_verify_channel* channel, const char* format, ...)
    MCI_PRINTF(3, 4);
/* Numbered channel of (rank, id), MCI_NONE when the rank has no such channel. */
uint32_t mci_verify_find_channel(const mci_verifier* v, uint32_t rank, uint32_t id);
/* "block 3 part 0" and the like. */
const char* mci_verify_element_text(const mci_verifier* v, uint32_t element, char* buffer, size_t size);

/* verify_form.c */
/* Same collective and layout on all ranks, as the collective wants them. Before anything else. */
meshcclResult_t mci_verify_headers(const mci_schedule* schedule);
/* Steps of a channel with its repeats unrolled. *work grows by them and by the iterations and must stay in bounds. */
meshcclResult_t mci_verify_count(const mci_channel* channel, uint64_t* work, uint64_t* steps);
/* The step that the cursor of `channel` stands on. *cells: places of a slot that it needs, 0 when it uses no scratch.
 */
meshcclResult_t mci_verify_step_form(const mci_verifier* v, const mci_verify_channel* channel, uint64_t* cells);
mci_size mci_verify_size(const mci_verifier* v, const mci_arg* arg);
uint32_t mci_verify_cells(const mci_verifier* v, const mci_arg* arg);

/* verify_clock.c */
/* A clock with one reference; its content is the caller's to fill, zero when the memory is fresh. NULL: no memory. */
mci_clock* mci_clock_new(mci_verifier* v);
mci_clock* mci_clock_hold(mci_clock* clock);
void mci_clock_drop(mci_verifier* v, mci_clock* clock);
/* *clock learns what `other` knows and that `channel` has run `count` steps. Who knows already that step `past` of it
 * has run knows `other`, too. */
meshcclResult_t mci_clock_learn(mci_verifier* v, mci_clock** clock, const mci_clock* other, uint32_t channel,
                                uint32_t count, uint32_t past);
meshcclResult_t mci_verify_mark(mci_verifier* v, uint32_t channel, uint64_t count); /* some `after` names it */
void mci_verify_sort_marks(mci_verifier* v);                                        /* when all are there */
mci_mark* mci_verify_find_mark(mci_verifier* v, uint32_t channel, uint32_t count);

/* verify_lane.c */
/* The lane from a channel to the same channel of a rank; made when new. */
meshcclResult_t mci_verify_lane_of(mci_verifier* v, uint32_t source, uint32_t target_rank, uint32_t* out);
meshcclResult_t mci_message_push(mci_verifier* v, mci_verify_lane* lane, mci_message message);
void mci_message_drop(mci_verifier* v, mci_message* message);

/* verify_order.c */
meshcclResult_t mci_verify_order_init(mci_verifier* v);
void mci_verify_order_fini(mci_verifier* v);
meshcclResult_t mci_verify_run(mci_verifier* v); /* runs everything */

/* verify_stuck.c */
meshcclResult_t mci_verify_stuck(mci_verifier* v);

/* verify_data.c */
meshcclResult_t mci_verify_memory_init(mci_verifier* v);
/* Runs the step of v->now on abstract memory; v->arrivals holds its messages, in the order of its sources. The result
 * is left in v->values; *cells of it. */
meshcclResult_t mci_verify_step(mci_verifier* v, uint32_t* cells, mci_size* size);
uint32_t mci_verify_output_element(const mci_verifier* v, uint32_t rank, uint32_t block, uint32_t part);
uint32_t mci_verify_place_of(const mci_verifier* v, uint32_t rank, mci_kind kind, uint32_t block, uint32_t part);

/* verify_race.c */
/* An access of the step under way to a place, as cell `position` of its chunk. Read before write within a step.
 * lane: MCI_NONE, or lent until `message` of that lane is taken. */
meshcclResult_t mci_verify_read(mci_verifier* v, uint32_t place, uint32_t position, const char* what);
meshcclResult_t mci_verify_note_read(mci_verifier* v, uint32_t place, uint32_t position, uint32_t lane,
                                     uint32_t message);
meshcclResult_t mci_verify_write(mci_verifier* v, uint32_t place, uint32_t position, const char* what);

/* digest.c */
meshcclResult_t mci_verify_results(mci_verifier* v, char bits[33]);
#endif
