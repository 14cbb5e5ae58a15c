/* Every rank's header and every step by itself: known flags, peers and chunks in range, operands of one step equal in
 * size for every count, a local place where the model needs one. */
#include <string.h>

#include "sched/verify.h"

/* ---- headers ---- */

static meshcclResult_t layout_ok(const mci_program* p) {
  const mci_layout* layout = &p->layout;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < layout->nparts; i++) sum += layout->weights[i];
  if (layout->nblocks == 0 || layout->nparts == 0 || sum == 0 || sum > UINT32_MAX)
    MCI_FAIL(meshcclInvalidUsage, "rank %u: a layout needs blocks, parts and weights that add up to 1 .. 2^32-1",
             p->rank);
  if (layout->block_major != mci_coll_block_major(p->coll))
    MCI_FAIL(meshcclInvalidUsage, "rank %u: %s needs a %s-major layout", p->rank, mci_coll_name(p->coll),
             layout->block_major ? "part" : "block");
  if (layout->block_major && layout->nblocks != p->nranks)
    MCI_FAIL(meshcclInvalidUsage, "rank %u: %s needs one block per rank, %u, but the layout has %u", p->rank,
             mci_coll_name(p->coll), p->nranks, layout->nblocks);
  if (!layout->order) return meshcclSuccess;
  if (!layout->block_major) MCI_FAIL(meshcclInvalidUsage, "rank %u: only block-major layouts have an order", p->rank);
  uint8_t* seen = mci_alloc(layout->nblocks);
  if (!seen) return mci_oom(layout->nblocks);
  bool permutation = true;
  for (uint32_t b = 0; b < layout->nblocks; b++) {
    uint32_t place = layout->order[b];
    permutation = permutation && place < layout->nblocks && !seen[place];
    if (permutation) seen[place] = 1;
  }
  mci_free(seen);
  if (!permutation)
    MCI_FAIL(meshcclInvalidUsage, "rank %u: the order must name every place below %u once", p->rank, layout->nblocks);
  return meshcclSuccess;
}

static bool same_layout(const mci_layout* a, const mci_layout* b) {
  if (a->block_major != b->block_major || a->nblocks != b->nblocks || a->nparts != b->nparts || !a->order != !b->order)
    return false;
  if (memcmp(a->weights, b->weights, a->nparts * sizeof *a->weights) != 0) return false;
  return !a->order || memcmp(a->order, b->order, a->nblocks * sizeof *a->order) == 0;
}

meshcclResult_t mci_verify_headers(const mci_schedule* schedule) {
  if (schedule->nranks == 0 || !schedule->programs) MCI_FAIL(meshcclInvalidUsage, "a schedule needs at least one rank");
  for (uint32_t r = 0; r < schedule->nranks; r++) {
    const mci_program *p = schedule->programs[r], *first = schedule->programs[0];
    if (!p) MCI_FAIL(meshcclInvalidUsage, "rank %u has no program", r);
    if (p->nranks != schedule->nranks || p->rank != r)
      MCI_FAIL(meshcclInvalidUsage, "the program in place %u of %u says that it is rank %u of %u", r, schedule->nranks,
               p->rank, p->nranks);
    if (p->coll != first->coll)
      MCI_FAIL(meshcclInvalidUsage, "rank 0 runs %s, rank %u %s", mci_coll_name(first->coll), r,
               mci_coll_name(p->coll));
    if (p->coll >= MCI_SEND_RECV)
      MCI_FAIL(meshcclInvalidUsage, "%s is not a planned collective: nothing to verify", mci_coll_name(p->coll));
    if (mci_coll_rooted(p->coll) && (p->root != first->root || p->root >= p->nranks))
      MCI_FAIL(meshcclInvalidUsage, "rank %u takes rank %u for the root, rank 0 takes %u (of %u ranks)", r, p->root,
               first->root, p->nranks);
    if (strcmp(p->algorithm, first->algorithm) != 0)
      MCI_FAIL(meshcclInvalidUsage, "rank 0 runs algorithm %s, rank %u %s", first->algorithm, r, p->algorithm);
    MCI_TRY(layout_ok(p));
    if (!same_layout(&p->layout, &first->layout))
      MCI_FAIL(meshcclInvalidUsage,
               "the layouts of ranks 0 and %u differ: blocks, parts, weights and order must be equal on all ranks", r);
  }
  return meshcclSuccess;
}

meshcclResult_t mci_verify_count(const mci_channel* channel, uint64_t* work, uint64_t* steps) {
  uint64_t factor[MCI_MAX_LOOPS + 1] = {1};
  uint32_t depth = 0;
  *steps = 0;
  for (uint32_t pc = 0; pc < channel->ninstrs; pc++) {
    const mci_instr* instr = &channel->instrs[pc];
    bool bad = instr->kind == MCI_REPEAT ? depth == MCI_MAX_LOOPS : instr->kind == MCI_END ? depth == 0 : false;
    if (bad)
      MCI_FAIL(meshcclInvalidUsage, "channel %u: instruction %u does not fit the nesting of repeats (at most %d deep)",
               channel->id, pc, MCI_MAX_LOOPS);
    if (instr->kind == MCI_STEP) *steps += factor[depth];
    if (instr->kind == MCI_REPEAT) {
      factor[depth + 1] = factor[depth] * instr->count; /* both below 2^32 */
      depth++;
    }
    if (instr->kind == MCI_END) depth--;
    *work += factor[depth];
    if (*work > 2 * MCI_VERIFY_MAX_STEPS || factor[depth] > MCI_VERIFY_MAX_STEPS)
      MCI_FAIL(meshcclInvalidUsage,
               "more than %llu steps in all: too many to verify; verify the same algorithm on fewer ranks or chunks",
               (unsigned long long)MCI_VERIFY_MAX_STEPS);
  }
  if (depth) MCI_FAIL(meshcclInvalidUsage, "channel %u: a repeat is not closed", channel->id);
  return meshcclSuccess;
}

/* ---- steps ---- */

uint32_t mci_verify_cells(const mci_verifier* v, const mci_arg* arg) {
  return (v->first->layout.block_major ? arg->run * arg->nruns : arg->run) * arg->nparts;
}

mci_size mci_verify_size(const mci_verifier* v, const mci_arg* arg) {
  if (v->first->layout.block_major) return (mci_size){arg->part, arg->nparts, arg->run * arg->nruns, 0};
  return (mci_size){arg->part, arg->nparts, arg->block, arg->run};
}

static meshcclResult_t chunk_ok(const mci_verifier* v, const mci_verify_channel* c, const mci_arg* arg) {
  const mci_layout* layout = &v->first->layout;
  if (arg->run == 0 || arg->nruns == 0 || arg->nparts == 0) return mci_verify_fail(v, c, "an empty chunk");
  if ((uint64_t)arg->part + arg->nparts > layout->nparts)
    return mci_verify_fail(v, c, "part %u%s is outside the layout, which has %u", arg->part,
                           arg->nparts > 1 ? " and following" : "", layout->nparts);
  if (arg->nruns > 1 && arg->stride < arg->run)
    return mci_verify_fail(v, c, "runs of %u blocks overlap at a stride of %u", arg->run, arg->stride);
  uint64_t end = arg->block + (uint64_t)(arg->nruns - 1) * arg->stride + arg->run;
  if (arg->block >= layout->nblocks || arg->run > layout->nblocks ||
      (arg->nruns > 1 && (uint64_t)(arg->nruns - 1) * arg->stride >= layout->nblocks) || end > layout->nblocks)
    return mci_verify_fail(v, c, "block %u up to %llu is outside the layout, which has %u", arg->block,
                           (unsigned long long)end, layout->nblocks);
  if (layout->block_major) return meshcclSuccess;
  if (arg->nruns > 1) return mci_verify_fail(v, c, "only block-major layouts have chunks of several runs");
  if (arg->nparts > 1 && (arg->block != 0 || arg->run != layout->nblocks))
    return mci_verify_fail(v, c, "a chunk of several parts must cover whole parts: blocks 0:%u", layout->nblocks);
  return meshcclSuccess;
}

static meshcclResult_t buffer_ok(const mci_verifier* v, const mci_verify_channel* c, const mci_arg* arg,
                                 bool destination) {
  bool in = arg->kind == MCI_IN;
  const mci_coll_buffers_t* buffers = &v->memory[c->rank].buffers;
  if (in && destination) return mci_verify_fail(v, c, "the input is not written");
  if (in ? !buffers->in_used : !buffers->out_used)
    return mci_verify_fail(v, c, "this rank has no %s in %s", in ? "input" : "output", mci_coll_name(v->first->coll));
  uint32_t own = v->memory[c->rank].own_block;
  bool one_block = in ? buffers->in_one_block : buffers->out_one_block;
  if (one_block && (arg->block != own || arg->run != 1 || arg->nruns != 1))
    return mci_verify_fail(v, c, "the %s of this rank holds block %u only", in ? "input" : "output", own);
  return meshcclSuccess;
}

static meshcclResult_t slot_ok(const mci_verifier* v, const mci_verify_channel* c, const mci_arg* arg,
                               uint64_t* cells) {
  uint32_t nslots = v->schedule->programs[c->rank]->nslots;
  if (arg->slot >= nslots) return mci_verify_fail(v, c, "scratch slot %u: the program has %u", arg->slot, nslots);
  if (arg->skip && !v->first->layout.block_major)
    return mci_verify_fail(v, c, "chunks of part-major layouts stand at the beginning of their slot");
  uint64_t need = (uint64_t)mci_verify_cells(v, arg) * (arg->skip + UINT64_C(1));
  if (need > MCI_VERIFY_MAX_PLACES) return mci_verify_fail(v, c, "place %u of a slot is too far", arg->skip);
  *cells = MCI_MAX(*cells, need);
  return meshcclSuccess;
}

static meshcclResult_t lane_ok(const mci_verifier* v, const mci_verify_channel* c, const mci_arg* arg) {
  if (arg->peer >= v->schedule->nranks)
    return mci_verify_fail(v, c, "rank %u: there are only %u", arg->peer, v->schedule->nranks);
  if (arg->peer == c->rank) return mci_verify_fail(v, c, "a message to itself; use a copy");
  if (mci_verify_find_channel(v, arg->peer, c->channel->id) == MCI_NONE)
    return mci_verify_fail(v, c, "rank %u has no channel %u to meet this one", arg->peer, c->channel->id);
  return meshcclSuccess;
}

/* How often the lane of operand k is among the operands [from, k). */
static uint32_t lanes_before(const mci_verify_channel* c, uint32_t from, uint32_t k, uint32_t peer) {
  uint32_t n = 0;
  for (uint32_t i = from; i < k; i++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, c->step, i);
    n += arg.kind == MCI_LANE && arg.peer == peer;
  }
  return n;
}

typedef struct {
  uint32_t local_dst, local_src, lane_dst, lane_src, spills;
} tally;

static meshcclResult_t operand_ok(const mci_verifier* v, const mci_verify_channel* c, uint32_t k, tally* t,
                                  uint64_t* cells) {
  mci_arg arg = mci_cursor_arg(&c->cursor, c->step, k);
  bool destination = k < c->step->ndst, lane = arg.kind == MCI_LANE;
  unsigned allowed = !destination ? 0 : lane ? MCI_COPY : MCI_SPILL;
  if (arg.kind > MCI_LANE || (arg.flags & ~allowed))
    return mci_verify_fail(v, c, "operand %u has a kind or flags that are not allowed there", k + 1);
  *(destination ? lane ? &t->lane_dst : &t->local_dst : lane ? &t->lane_src : &t->local_src) += 1;
  t->spills += (arg.flags & MCI_SPILL) && !lane;
  if (lane) {
    uint32_t from = destination ? 0 : c->step->ndst;
    uint32_t before = lanes_before(c, from, k, arg.peer);
    if (destination && before) return mci_verify_fail(v, c, "the step sends to rank %u twice", arg.peer);
    if (before >= v->credits)
      return mci_verify_fail(v, c, "the step waits for %u messages of rank %u at once, with %u credit%s", before + 1,
                             arg.peer, v->credits, v->credits > 1 ? "s" : "");
    return lane_ok(v, c, &arg);
  }
  MCI_TRY(chunk_ok(v, c, &arg));
  return arg.kind == MCI_TMP ? slot_ok(v, c, &arg, cells) : buffer_ok(v, c, &arg, destination);
}

static meshcclResult_t sizes_ok(const mci_verifier* v, const mci_verify_channel* c) {
  bool have = false;
  mci_size first = {0};
  for (uint32_t k = 0; k < (uint32_t)c->step->ndst + c->step->nsrc; k++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, c->step, k);
    if (arg.kind == MCI_LANE) continue;
    mci_size size = mci_verify_size(v, &arg);
    if (!have) first = size;
    have = true;
    if (memcmp(&size, &first, sizeof size) != 0)
      return mci_verify_fail(
          v, c,
          v->first->layout.block_major
              ? "operand %u differs from the others in parts or number of blocks: not equal in size for every count"
              : "operand %u is another block or part than the others: not equal in size for every count",
          k + 1);
  }
  return meshcclSuccess;
}

static meshcclResult_t afters_ok(const mci_verifier* v, const mci_verify_channel* c) {
  if (c->step->nafter > MCI_MAX_AFTER) return mci_verify_fail(v, c, "more than %d after conditions", MCI_MAX_AFTER);
  for (uint32_t k = 0; k < c->step->nafter; k++) {
    uint16_t id;
    uint64_t count = mci_cursor_after(&c->cursor, c->step, k, &id);
    uint32_t other = mci_verify_find_channel(v, c->rank, id);
    if (other == MCI_NONE) return mci_verify_fail(v, c, "waits for channel %u, which this rank does not have", id);
    if (id == c->channel->id) return mci_verify_fail(v, c, "waits for its own channel");
    if (count > v->channels[other].steps)
      return mci_verify_fail(v, c, "waits for step %llu of channel %u, which has only %llu", (unsigned long long)count,
                             id, (unsigned long long)v->channels[other].steps);
  }
  return meshcclSuccess;
}

meshcclResult_t mci_verify_step_form(const mci_verifier* v, const mci_verify_channel* c, uint64_t* cells) {
  tally t = {0};
  *cells = 0;
  if (c->step->ndst == 0 || c->step->nsrc == 0) return mci_verify_fail(v, c, "a step needs destinations and sources");
  if (c->step->flags & ~(MCI_FINISH | MCI_WIDE)) return mci_verify_fail(v, c, "unknown flags %u", c->step->flags);
  for (uint32_t k = 0; k < (uint32_t)c->step->ndst + c->step->nsrc; k++) MCI_TRY(operand_ok(v, c, k, &t, cells));
  if (!v->reduces && c->step->nsrc > 1)
    return mci_verify_fail(v, c, "%s does not reduce: one source per step", mci_coll_name(v->first->coll));
  if (!v->reduces && c->step->flags)
    return mci_verify_fail(v, c, "%s does not reduce: no finish, no wide", mci_coll_name(v->first->coll));
  if (t.local_dst + t.local_src == 0)
    return mci_verify_fail(v, c, "a step needs a local operand; add a spill such as out[..]? or tmp0[..]?");
  if (t.lane_dst && !t.local_dst && (t.lane_src || t.local_src != 1 || (c->step->flags & MCI_FINISH)))
    return mci_verify_fail(v, c,
                           "what departs must stand somewhere: add a local destination (a spill such as tmp0[..]?)");
  if (t.spills && !t.lane_dst) return mci_verify_fail(v, c, "a spill without a departure");
  MCI_TRY(sizes_ok(v, c));
  return afters_ok(v, c);
}
