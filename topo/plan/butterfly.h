/* Exchanges in pairs, log2 p steps: what recursive doubling, recursive halving and Swing share (halving.c, swing.c).
 *
 * On every axis of 2^k positions a rank has k partners, one per bit. An orbit of the bits from b on is what these
 * partners lead to: 2^(k-b) positions, and the partner of bit b leads from one half of it to the other. So each rank
 * has a label, one bit per step, that says which half it lies in, and the ranks of one orbit have a common beginning.
 *
 *      doubling:  v -> v ^ 2^b              label bit b: bit b of v
 *      swing:     even v -> v + rho(b)      rho = 1, -1, 3, -5, 11 ..; label bit b: bit b + 1 of the even rank of the
 *                 odd v  -> v - rho(b)      orbit that the next partner leads to, at last odd or even
 *
 *      step 0            step 1               reduce-scatter of 4: everybody keeps the half of what he has whose
 *      [0 . 1 . 2 . 3]   [0 1]   -> [0]       labels begin like his, and gets the partner's share of it; an
 *      [0 1] <-> [2 3]   [0] <-> [1]          all-gather is the reverse
 *
 * A form for small vectors sends all that is known in every step, last bit first, so that both halves of an orbit hold
 * the same sums: p ranks then have the same bits, because two operands commute.
 *
 * Copies: the vector is cut into parts that take the axes in another cyclic order, or run mirrored (partners at the
 * other side, or even and odd exchanged), so that links of all axes and both directions are busy. Messages to partners
 * farther away take routes: costs count what shares a link, and every hop.
 *
 * Ranks of a full graph that exceed a power of two are folded in: they hand their vector to a neighbour in rank order
 * first and get the result last.
 *
 * Ends: a step sends before it waits, and waits for what the partner sends in the same step of the same channel. What
 * is lent is not written before the partner's answer, which was computed from it, has come; where there is no answer,
 * messages are copied. */
#ifndef MCI_PLAN_BUTTERFLY_H
#define MCI_PLAN_BUTTERFLY_H

#include "topo/plan/plan.h"

#define MCI_BUTTERFLY_MAX_STEPS 32

typedef struct {
  uint8_t axis, bit;
} mci_butterfly_step;

typedef struct {
  const mci_topo* topo;
  bool swing;
  uint32_t naxes; /* 0 bits in all: a single rank */
  uint32_t dim[MCI_MAX_DIMS], bits[MCI_MAX_DIMS];
  bool ring[MCI_MAX_DIMS];
  uint32_t extra; /* ranks that are folded in; full graphs only */
  uint32_t nsteps;
} mci_butterfly;

/* How a plan does it: all but chunks. */
typedef struct {
  bool whole; /* everything in every step */
  uint32_t copies;
} mci_butterfly_form;

/* NULL and *out, or why the ranks do not pair up. */
const char* mci_butterfly_refuse(const mci_topo* topo, bool swing, bool folds_in, char* buffer, size_t size);
void mci_butterfly_of(const mci_topo* topo, bool swing, mci_butterfly* out);

/* The steps of a copy in the order of reducing. */
void mci_butterfly_steps(const mci_butterfly* b, uint32_t copy, mci_butterfly_step out[MCI_BUTTERFLY_MAX_STEPS]);
bool mci_butterfly_mirrored(const mci_butterfly* b, uint32_t copy);
/* Distance of the partner along the axis; negative: against the direction that even, or low, positions take else. */
int64_t mci_butterfly_distance(const mci_butterfly* b, mci_butterfly_step step);
/* Where a rank stands; on a full graph false for one that is folded in. */
bool mci_butterfly_place(const mci_butterfly* b, uint32_t rank, uint32_t at[MCI_MAX_DIMS]);
uint32_t mci_butterfly_rank(const mci_butterfly* b, const uint32_t at[MCI_MAX_DIMS]);
uint32_t mci_butterfly_partner(const mci_butterfly* b, const uint32_t at[MCI_MAX_DIMS], mci_butterfly_step step,
                               bool mirrored);
uint32_t mci_butterfly_label_bit(const mci_butterfly* b, const uint32_t at[MCI_MAX_DIMS], mci_butterfly_step step,
                                 bool mirrored);

/* With the best number of copies that the builder can do, which is the cost's number of channels. */
void mci_butterfly_cost(const mci_butterfly* b, const mci_request* request, bool whole, mci_plan_cost* out);
/* All-reduce, barrier (whole), all-gather and reduce-scatter. */
meshcclResult_t mci_butterfly_build(const mci_butterfly* b, const mci_request* request, const char* name,
                                    mci_butterfly_form form, const mci_plan_cost* cost, uint32_t rank,
                                    mci_program** out);

#endif
