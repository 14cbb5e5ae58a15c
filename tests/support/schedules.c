/* One schedule per technique: ring, direct, tree, scratch, copies, several channels, several parts. */
#include "support/schedules.h"

#include "support/test.h"

static mci_shape blk(uint32_t block, uint32_t part) {
  return mci_span(mci_const((int32_t)block), 1, mci_const((int32_t)part));
}

/* Reduce-scatter around the ring, then all-gather, partial sums spilled into the output; one part. */
static void ring_all_reduce_on(mci_build* b, uint32_t n, uint32_t rank, uint32_t part, bool up) {
  mci_affine next = mci_const((int32_t)((up ? rank + 1 : rank + n - 1) % n)),
             prev = mci_const((int32_t)((up ? rank + n - 1 : rank + 1) % n));
  for (uint32_t k = 0; k <= 2 * (n - 1); k++) {
    mci_shape chunk = blk((up ? rank + 2 * n - k : rank + k) % n, part);
    bool folds = k > 0 && k < n, finish = k == n - 1 || n == 1, last = k == 2 * (n - 1);
    mci_build_step(b, finish ? MCI_FINISH : 0);
    if (k || n == 1) mci_build_dst(b, MCI_OUT, folds && !finish ? MCI_SPILL : 0, chunk);
    if (!last) mci_build_dst_lane(b, 0, next);
    if (k) mci_build_src_lane(b, prev);
    if (k < n) mci_build_src(b, MCI_IN, chunk);
  }
}

static void ring_all_reduce(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  (void)root;
  mci_build_layout(b, n, 1, NULL);
  mci_build_channel(b, 0);
  ring_all_reduce_on(b, n, rank, 0, true);
}

static void two_way_ring_all_reduce(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  (void)root;
  mci_build_layout(b, n, 2, (const uint32_t[]){3, 2});
  for (uint16_t c = 0; c < 2; c++) {
    mci_build_channel(b, (uint16_t)(c * 3));
    ring_all_reduce_on(b, n, rank, c, c == 0);
  }
}

/* Everybody sends block d to rank d, which folds all n in rank order and sends the result to everybody. */
static void direct_all_reduce(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  (void)root;
  mci_build_layout(b, n, 1, NULL);
  mci_build_channel(b, 2);
  for (uint32_t d = 0; d < n; d++) {
    if (d == rank) continue;
    mci_build_step(b, 0);
    mci_build_dst_lane(b, 0, mci_const((int32_t)d));
    mci_build_src(b, MCI_IN, blk(d, 0));
  }
  mci_build_step(b, MCI_FINISH | MCI_WIDE);
  mci_build_dst(b, MCI_OUT, 0, blk(rank, 0));
  for (uint32_t d = 0; d < n; d++)
    if (d != rank) mci_build_dst_lane(b, 0, mci_const((int32_t)d));
  for (uint32_t s = 0; s < n; s++) {
    if (s == rank) {
      mci_build_src(b, MCI_IN, blk(rank, 0));
    } else {
      mci_build_src_lane(b, mci_const((int32_t)s));
    }
  }
  for (uint32_t s = 0; s < n; s++) {
    if (s == rank) continue;
    mci_build_step(b, 0);
    mci_build_dst(b, MCI_OUT, 0, blk(s, 0));
    mci_build_src_lane(b, mci_const((int32_t)s));
  }
}

/* Two halves in two channels; the second channel gathers what the first has reduced, held back by `after`. */
static void handed_over_all_reduce(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  (void)root;
  mci_affine next = mci_const((int32_t)((rank + 1) % n)), prev = mci_const((int32_t)((rank + n - 1) % n));
  mci_build_layout(b, n, 1, NULL);
  mci_build_channel(b, 0);
  for (uint32_t k = 0; k < n; k++) {
    mci_shape chunk = blk((rank + n - k) % n, 0);
    mci_build_step(b, k == n - 1 ? MCI_FINISH : 0);
    if (k) mci_build_dst(b, MCI_OUT, k < n - 1 ? MCI_SPILL : 0, chunk);
    if (k == 0 && n == 1) mci_build_dst(b, MCI_OUT, 0, chunk);
    if (k < n - 1) mci_build_dst_lane(b, 0, next);
    if (k) mci_build_src_lane(b, prev);
    mci_build_src(b, MCI_IN, chunk);
  }
  if (n == 1) return;
  uint64_t reduced = mci_build_count(b);
  mci_build_channel(b, 1);
  mci_build_step(b, 0);
  mci_build_after(b, 0, mci_const((int32_t)reduced));
  mci_build_dst_lane(b, 0, next);
  mci_build_src(b, MCI_OUT, blk((rank + 1) % n, 0));
  for (uint32_t k = 0; k < n - 1; k++) {
    mci_build_step(b, 0);
    mci_build_dst(b, MCI_OUT, 0, blk((rank + n - k) % n, 0));
    if (k < n - 2) mci_build_dst_lane(b, 0, next);
    mci_build_src_lane(b, prev);
  }
}

/* All-gather around the ring, with the wrap cut so that repeats with affine blocks say the rest. */
static void ring_all_gather(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  (void)root;
  mci_affine next = mci_const((int32_t)((rank + 1) % n)), prev = mci_const((int32_t)((rank + n - 1) % n));
  mci_build_layout(b, n, 2, (const uint32_t[]){1, 3});
  mci_shape own = {.block = mci_const((int32_t)rank), .run = 1, .nruns = 1, .part = mci_const(0), .nparts = 2},
            chunk = own;
  mci_build_channel(b, 0);
  mci_build_step(b, 0);
  mci_build_dst(b, MCI_OUT, 0, own);
  if (n > 1) mci_build_dst_lane(b, 0, next);
  mci_build_src(b, MCI_IN, own);
  for (uint32_t half = 0; half < 2 && n > 1;
       half++) { /* blocks rank-1 .. 0, then n-1 .. rank+1; the last is not sent on */
    uint32_t first = half ? n - 1 : rank - 1, count = half ? n - 1 - rank : rank;
    bool ends = half || rank == n - 1;
    if (count == 0) continue;
    mci_build_repeat(b, ends ? count - 1 : count);
    chunk.block = mci_lin((int32_t)first, -1);
    mci_build_step(b, 0);
    mci_build_dst(b, MCI_OUT, 0, chunk);
    mci_build_dst_lane(b, 0, next);
    mci_build_src_lane(b, prev);
    mci_build_end(b);
    if (!ends) continue;
    chunk.block = mci_const((int32_t)(first - count + 1));
    mci_build_step(b, 0);
    mci_build_dst(b, MCI_OUT, 0, chunk);
    mci_build_src_lane(b, prev);
  }
}

/* Reduce-scatter with one scratch slot: what departs from it must be copied, because the next fold overwrites it. */
static void ring_reduce_scatter(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  (void)root;
  mci_affine next = mci_const((int32_t)((rank + 1) % n)), prev = mci_const((int32_t)((rank + n - 1) % n));
  mci_build_layout(b, n, 1, NULL);
  mci_build_slots(b, n > 2);
  mci_build_channel(b, 0);
  for (uint32_t k = 0; k < n; k++) {
    mci_shape chunk = blk((rank + 2 * n - k - 1) % n, 0);
    bool last = k == n - 1;
    mci_build_step(b, last ? MCI_FINISH : 0);
    if (last) mci_build_dst(b, MCI_OUT, 0, chunk);
    if (k && !last) mci_build_dst_tmp(b, MCI_SPILL, mci_const(0), chunk);
    if (!last) mci_build_dst_lane(b, k ? MCI_COPY : 0, next);
    if (k) mci_build_src_lane(b, prev);
    mci_build_src(b, MCI_IN, chunk);
  }
}

/* Binary trees over ranks counted from the root. */
static mci_affine tree_rank(uint32_t node, uint32_t n, uint32_t root) {
  return mci_const((int32_t)((node + root) % n));
}

static void tree_broadcast(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  uint32_t node = (rank + n - root) % n;
  mci_build_layout(b, 3, 1, NULL);
  mci_build_channel(b, 0);
  mci_build_repeat(b, 3);
  mci_build_step(b, 0);
  mci_shape chunk = mci_span(mci_lin(0, 1), 1, mci_const(0));
  mci_build_dst(b, MCI_OUT, 0, chunk);
  for (uint32_t child = 2 * node + 1; child <= 2 * node + 2 && child < n; child++)
    mci_build_dst_lane(b, 0, tree_rank(child, n, root));
  if (node) {
    mci_build_src_lane(b, tree_rank((node - 1) / 2, n, root));
  } else {
    mci_build_src(b, MCI_IN, chunk);
  }
  mci_build_end(b);
}

/* The same tree upwards, two slots in turn per chunk: a slot comes again only two chunks later, by copies. */
static void tree_up(mci_build* b, uint32_t n, uint32_t rank, uint32_t root, uint32_t block) {
  uint32_t node = (rank + n - root) % n;
  mci_shape chunk = blk(block, 0);
  mci_build_step(b, node ? MCI_WIDE : MCI_WIDE | MCI_FINISH);
  if (node == 0) mci_build_dst(b, MCI_OUT, 0, chunk);
  if (node && 2 * node + 1 < n) mci_build_dst_tmp(b, MCI_SPILL, mci_const((int32_t)block % 2), chunk);
  if (node) mci_build_dst_lane(b, MCI_COPY, tree_rank((node - 1) / 2, n, root));
  mci_build_src(b, MCI_IN, chunk);
  for (uint32_t child = 2 * node + 1; child <= 2 * node + 2 && child < n; child++)
    mci_build_src_lane(b, tree_rank(child, n, root));
}

static void tree_reduce(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  mci_build_layout(b, 3, 1, NULL);
  mci_build_slots(b, 2);
  mci_build_channel(b, 1);
  for (uint32_t block = 0; block < 3; block++) tree_up(b, n, rank, root, block);
}

/* Up the tree to rank 0 and down again. */
static void tree_barrier(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  (void)root;
  uint32_t left = 2 * rank + 1;
  mci_build_layout(b, 1, 1, NULL);
  mci_build_slots(b, 1);
  mci_build_channel(b, 0);
  if (rank) {
    tree_up(b, n, rank, 0, 0);
    mci_build_step(b, 0);
  } else {
    mci_build_step(b, MCI_FINISH);
  }
  mci_build_dst(b, MCI_OUT, 0, blk(0, 0));
  for (uint32_t child = left; child <= left + 1 && child < n; child++)
    mci_build_dst_lane(b, 0, mci_const((int32_t)child));
  if (rank) {
    mci_build_src_lane(b, mci_const((int32_t)((rank - 1) / 2)));
    return;
  }
  mci_build_src(b, MCI_IN, blk(0, 0));
  for (uint32_t child = left; child <= left + 1 && child < n; child++) mci_build_src_lane(b, mci_const((int32_t)child));
}

/* Blocks travel up the ring until they are there; between they stand in scratch, one place of the slot per message. */
static void ring_all_to_all(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  (void)root;
  mci_affine next = mci_const((int32_t)((rank + 1) % n)), prev = mci_const((int32_t)((rank + n - 1) % n));
  mci_build_layout(b, n, 1, NULL);
  mci_build_slots(b, n > 2);
  mci_build_channel(b, 0);
  mci_build_step(b, 0);
  mci_build_dst(b, MCI_OUT, 0, blk(rank, 0));
  mci_build_src(b, MCI_IN, blk(rank, 0));
  for (uint32_t d = 1; d < n; d++) {
    mci_build_step(b, 0);
    mci_build_dst_lane(b, 0, next);
    mci_build_src(b, MCI_IN, blk((rank + d) % n, 0));
  }
  int32_t place = 0;
  for (uint32_t hop = 1; hop < n; hop++) {
    mci_build_step(b, 0);
    mci_build_dst(b, MCI_OUT, 0, blk((rank + n - hop) % n, 0));
    mci_build_src_lane(b, prev);
    for (uint32_t d = hop + 1; d < n; d++) {
      mci_shape chunk = blk((rank + n - hop) % n, 0);
      chunk.skip = mci_const(place++);
      mci_build_step(b, 0);
      mci_build_dst_tmp(b, MCI_SPILL, mci_const(0), chunk);
      mci_build_dst_lane(b, 0, next);
      mci_build_src_lane(b, prev);
    }
  }
}

static void star_gather(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  mci_build_layout(b, n, 1, NULL);
  mci_build_channel(b, 0);
  mci_build_step(b, 0);
  if (rank == root) {
    mci_build_dst(b, MCI_OUT, 0, blk(rank, 0));
  } else {
    mci_build_dst_lane(b, 0, mci_const((int32_t)root));
  }
  mci_build_src(b, MCI_IN, blk(rank, 0));
  for (uint32_t s = 0; s < n && rank == root; s++) {
    if (s == root) continue;
    mci_build_step(b, 0);
    mci_build_dst(b, MCI_OUT, 0, blk(s, 0));
    mci_build_src_lane(b, mci_const((int32_t)s));
  }
}

/* Down a chain: the root sends what lies behind in runs of blocks, every rank keeps the first and passes the rest on.
 */
static void chain_scatter(mci_build* b, uint32_t n, uint32_t rank, uint32_t root) {
  uint32_t node = (rank + n - root) % n;
  mci_build_layout(b, n, 1, NULL);
  mci_build_slots(b, n);
  mci_build_channel(b, 0);
  for (uint32_t behind = n - 1; behind >= node && behind > 0;
       behind--) { /* block of the node `behind`, the farthest first */
    mci_shape chunk = blk((behind + root) % n, 0);
    mci_build_step(b, 0);
    if (behind == node) mci_build_dst(b, MCI_OUT, 0, chunk);
    if (behind > node && node) mci_build_dst_tmp(b, MCI_SPILL, mci_const((int32_t)behind), chunk);
    if (behind > node) mci_build_dst_lane(b, 0, tree_rank(node + 1, n, root));
    if (node) {
      mci_build_src_lane(b, tree_rank(node - 1, n, root));
    } else {
      mci_build_src(b, MCI_IN, chunk);
    }
  }
  if (node) return;
  mci_build_step(b, 0);
  mci_build_dst(b, MCI_OUT, 0, blk(root, 0));
  mci_build_src(b, MCI_IN, blk(root, 0));
}

const test_schedule_row test_schedule_rows[] = {
    {"ring", MCI_ALL_REDUCE, ring_all_reduce},     {"two-way ring", MCI_ALL_REDUCE, two_way_ring_all_reduce},
    {"direct", MCI_ALL_REDUCE, direct_all_reduce}, {"handed over", MCI_ALL_REDUCE, handed_over_all_reduce},
    {"ring", MCI_ALL_GATHER, ring_all_gather},     {"ring", MCI_REDUCE_SCATTER, ring_reduce_scatter},
    {"tree", MCI_BROADCAST, tree_broadcast},       {"tree", MCI_REDUCE, tree_reduce},
    {"ring", MCI_ALL_TO_ALL, ring_all_to_all},     {"star", MCI_GATHER, star_gather},
    {"chain", MCI_SCATTER, chain_scatter},         {"tree", MCI_BARRIER, tree_barrier},
};
const size_t test_schedule_nrows = MCI_COUNT(test_schedule_rows);

mci_schedule* test_schedule_build(const test_schedule_row* row, uint32_t nranks, uint32_t root) {
  mci_schedule* schedule = mci_alloc(sizeof *schedule);
  mci_program** programs = mci_alloc(nranks * sizeof *programs);
  assert_non_null(schedule);
  assert_non_null(programs);
  *schedule = (mci_schedule){.nranks = nranks, .programs = programs};
  for (uint32_t r = 0; r < nranks; r++) {
    mci_build* b = mci_build_begin(row->coll, row->name, nranks, r, mci_coll_rooted(row->coll) ? root : 0);
    row->build(b, nranks, r, root);
    check_ok(mci_build_finish(b, &programs[r]));
  }
  return schedule;
}
