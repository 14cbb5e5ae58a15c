/* An axis is a line or a ring of positions that blocks travel along, both ways at once: a dimension of a grid or a
 * cycle through all ranks. Here is the arithmetic of who hears of whom, which builders (phases.c) and costs
 * (phases_cost.c) share; ranks, sizes and steps are theirs. */
#ifndef MCI_PLAN_AXIS_H
#define MCI_PLAN_AXIS_H

#include <stdbool.h>
#include <stdint.h>

enum { MCI_AHEAD, MCI_BEHIND }; /* towards ascending and descending positions */

typedef struct {
  uint32_t n, at;
  bool ring;
  bool one_way;     /* a ring on which everything travels ahead */
  uint32_t peer[2]; /* ranks ahead and behind; meaningless beyond the ends of a line */
} mci_axis;

/* What passes a position in one direction: blocks for, or of, `out` positions leave it and those of `in` positions
 * arrive; a position that has both passes on `through` of them. */
typedef struct {
  uint32_t out, in;
  uint32_t scatter_through; /* of `out`: partial sums that come from behind */
  uint32_t gather_through;  /* of `in`: blocks that go on */
} mci_flow;

/* How far a block travels on a ring. The two ways add up to n - 1: an even ring has one position that is reached one
 * way only, which is ahead, or behind when mirrored. */
uint32_t mci_axis_reach(const mci_axis* axis, unsigned dir, bool mirror);
mci_flow mci_axis_flow(const mci_axis* axis, unsigned dir, bool mirror);
/* Longest chain of messages along the axis. */
uint32_t mci_axis_depth(const mci_axis* axis);

/* `count` positions first, first + step, .. (step +1 or -1, round the ring) as at most two runs that do not wrap. */
typedef struct {
  uint32_t first, count;
} mci_run;
uint32_t mci_axis_runs(uint32_t n, uint32_t first, uint32_t count, int step, mci_run out[2]);

#endif
