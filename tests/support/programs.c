/* Hand-built programs for tests of the executor. */
#include "support/programs.h"

static mci_shape block(mci_affine b) { return mci_span(b, 1, mci_const(0)); }

/* The ring in one direction: partial sums of block (rank - t - 1) travel right, results travel after them. */
meshcclResult_t test_program_ring_all_reduce(uint32_t n, uint32_t rank, mci_program** out) {
  int32_t p = (int32_t)n, r = (int32_t)rank, left = (r + p - 1) % p, right = (r + 1) % p;
  mci_build* b = mci_build_begin(MCI_ALL_REDUCE, "test-ring", n, rank, 0);
  mci_build_layout(b, n, 1, NULL);
  mci_build_channel(b, 0);
  mci_build_step(b, p == 1 ? MCI_FINISH : 0);
  if (p > 1) {
    mci_build_dst_lane(b, 0, mci_const(right));
  } else {
    mci_build_dst(b, MCI_OUT, 0, block(mci_const(0)));
  }
  mci_build_src(b, MCI_IN, block(mci_const(left)));
  for (int32_t t = 1; t < p; t++) {
    int32_t x = (r + 2 * p - t - 1) % p;
    bool last = t == p - 1;
    mci_build_step(b, last ? MCI_FINISH | MCI_WIDE : MCI_WIDE);
    mci_build_dst(b, MCI_OUT, last ? 0 : MCI_SPILL, block(mci_const(x)));
    mci_build_dst_lane(b, 0, mci_const(right));
    mci_build_src_lane(b, mci_const(left));
    mci_build_src(b, MCI_IN, block(mci_const(x)));
  }
  for (int32_t t = 1; t < p; t++) {
    mci_build_step(b, 0);
    mci_build_dst(b, MCI_OUT, 0, block(mci_const((r + p - t) % p)));
    if (t < p - 1) mci_build_dst_lane(b, 0, mci_const(right));
    mci_build_src_lane(b, mci_const(left));
  }
  return mci_build_finish(b, out);
}

static void sum_in_rank_order(mci_build* b, int32_t p, int32_t r, mci_shape mine) {
  for (int32_t k = 0; k < p; k++) {
    if (k == r) {
      mci_build_src(b, MCI_IN, mine);
    } else {
      mci_build_src_lane(b, mci_const(k));
    }
  }
}

/* Everybody reduces its own block from all inputs and gives the result to all. */
meshcclResult_t test_program_direct_all_reduce(uint32_t n, uint32_t rank, mci_program** out) {
  int32_t p = (int32_t)n, r = (int32_t)rank;
  mci_build* b = mci_build_begin(MCI_ALL_REDUCE, "test-direct", n, rank, 0);
  mci_build_layout(b, n, 1, NULL);
  mci_build_channel(b, 0);
  for (int32_t k = 0; k < p; k++) {
    if (k == r) continue;
    mci_build_step(b, 0);
    mci_build_dst_lane(b, 0, mci_const(k));
    mci_build_src(b, MCI_IN, block(mci_const(k)));
  }
  mci_build_step(b, MCI_FINISH | MCI_WIDE);
  mci_build_dst(b, MCI_OUT, 0, block(mci_const(r)));
  for (int32_t k = 0; k < p; k++)
    if (k != r) mci_build_dst_lane(b, 0, mci_const(k));
  sum_in_rank_order(b, p, r, block(mci_const(r)));
  for (int32_t k = 0; k < p; k++) {
    if (k == r) continue;
    mci_build_step(b, 0);
    mci_build_dst(b, MCI_OUT, 0, block(mci_const(k)));
    mci_build_src_lane(b, mci_const(k));
  }
  return mci_build_finish(b, out);
}

/* Everybody gets every vector, copied out because the output may be the input. */
meshcclResult_t test_program_exchange_all_reduce(uint32_t n, uint32_t rank, mci_program** out) {
  int32_t p = (int32_t)n, r = (int32_t)rank;
  mci_build* b = mci_build_begin(MCI_ALL_REDUCE, "test-exchange", n, rank, 0);
  mci_build_channel(b, 3);
  mci_build_step(b, 0);
  for (int32_t k = 0; k < p; k++)
    if (k != r) mci_build_dst_lane(b, MCI_COPY, mci_const(k));
  if (p == 1) mci_build_dst(b, MCI_OUT, 0, block(mci_const(0)));
  mci_build_src(b, MCI_IN, block(mci_const(0)));
  if (p > 1) {
    mci_build_step(b, MCI_FINISH | MCI_WIDE);
    mci_build_dst(b, MCI_OUT, 0, block(mci_const(0)));
    sum_in_rank_order(b, p, r, block(mci_const(0)));
  }
  return mci_build_finish(b, out);
}

/* Two parts on two channels; the second waits for the first. */
meshcclResult_t test_program_ring_all_gather(uint32_t n, uint32_t rank, mci_program** out) {
  int32_t p = (int32_t)n, r = (int32_t)rank, left = (r + p - 1) % p, right = (r + 1) % p;
  static const uint32_t weights[2] = {1, 2};
  mci_build* b = mci_build_begin(MCI_ALL_GATHER, "test-gather", n, rank, 0);
  mci_build_layout(b, n, 2, weights);
  for (int32_t part = 0; part < 2; part++) {
    mci_build_channel(b, (uint16_t)(part * 7));
    mci_build_step(b, 0);
    mci_build_dst(b, MCI_OUT, 0, mci_span(mci_const(r), 1, mci_const(part)));
    if (p > 1) mci_build_dst_lane(b, 0, mci_const(right));
    mci_build_src(b, MCI_IN, mci_span(mci_const(r), 1, mci_const(part)));
    if (part) mci_build_after(b, 0, mci_const(1));
    for (int32_t t = 1; t < p; t++) {
      mci_build_step(b, 0);
      mci_build_dst(b, MCI_OUT, 0, mci_span(mci_const((r + p - t) % p), 1, mci_const(part)));
      if (t < p - 1) mci_build_dst_lane(b, 0, mci_const(right));
      mci_build_src_lane(b, mci_const(left));
    }
  }
  return mci_build_finish(b, out);
}

/* A chain from the root, in four parts, written as a repeat. */
meshcclResult_t test_program_chain_broadcast(uint32_t n, uint32_t rank, uint32_t root, mci_program** out) {
  int32_t p = (int32_t)n, place = ((int32_t)rank - (int32_t)root + p) % p;
  int32_t before = ((int32_t)rank + p - 1) % p, behind = ((int32_t)rank + 1) % p;
  mci_shape part = mci_span(mci_const(0), 1, mci_lin(0, 1));
  mci_build* b = mci_build_begin(MCI_BROADCAST, "test-chain", n, rank, root);
  mci_build_layout(b, 1, 4, NULL);
  mci_build_channel(b, 1);
  mci_build_repeat(b, 4);
  mci_build_step(b, 0);
  mci_build_dst(b, MCI_OUT, 0, part);
  if (place < p - 1) mci_build_dst_lane(b, 0, mci_const(behind));
  if (place == 0) {
    mci_build_src(b, MCI_IN, part);
  } else {
    mci_build_src_lane(b, mci_const(before));
  }
  mci_build_end(b);
  return mci_build_finish(b, out);
}

/* A ring whose partial sums stand in two scratch slots by turns. */
meshcclResult_t test_program_scratch_reduce_scatter(uint32_t n, uint32_t rank, mci_program** out) {
  int32_t p = (int32_t)n, r = (int32_t)rank, left = (r + p - 1) % p, right = (r + 1) % p;
  mci_build* b = mci_build_begin(MCI_REDUCE_SCATTER, "test-scatter", n, rank, 0);
  mci_build_slots(b, n);
  mci_build_channel(b, 0);
  if (p == 1) {
    mci_build_step(b, MCI_FINISH);
    mci_build_dst(b, MCI_OUT, 0, block(mci_const(0)));
    mci_build_src(b, MCI_IN, block(mci_const(0)));
    return mci_build_finish(b, out);
  }
  mci_build_step(b, 0);
  mci_build_dst_lane(b, 0, mci_const(right));
  mci_build_src(b, MCI_IN, block(mci_const(left)));
  for (int32_t t = 1; t < p; t++) {
    int32_t x = (r + 2 * p - t - 1) % p;
    bool last = t == p - 1;
    mci_build_step(b, last ? MCI_FINISH | MCI_WIDE : MCI_WIDE);
    if (last) {
      mci_build_dst(b, MCI_OUT, 0, block(mci_const(x)));
    } else {
      mci_build_dst_tmp(b, MCI_SPILL, mci_const(t), block(mci_const(x)));
      mci_build_dst_lane(b, 0, mci_const(right));
    }
    mci_build_src_lane(b, mci_const(left));
    mci_build_src(b, MCI_IN, block(mci_const(x)));
  }
  return mci_build_finish(b, out);
}
