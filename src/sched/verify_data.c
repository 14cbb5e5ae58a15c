/* What a step reads and writes, on memory whose places hold elements and expressions instead of bytes. A place is one
 * (block, part) of a buffer or a cell of a scratch slot; chunks are lists of places in the order of their bytes. */
#include <stdio.h>
#include <string.h>

#include "sched/verify.h"

/* ---- places ---- */

static uint32_t cell_of(const mci_layout* layout, uint32_t block, uint32_t part) {
  return layout->block_major ? block * layout->nparts + part : part * layout->nblocks + block;
}

uint32_t mci_verify_place_of(const mci_verifier* v, uint32_t rank, mci_kind kind, uint32_t block, uint32_t part) {
  const mci_memory* m = &v->memory[rank];
  bool one_block = kind == MCI_IN ? m->buffers.in_one_block : m->buffers.out_one_block;
  return (kind == MCI_IN ? m->in : m->out) + (one_block ? part : cell_of(&v->first->layout, block, part));
}

static uint32_t input_element(const mci_verifier* v, uint32_t rank, uint32_t block, uint32_t part) {
  if (v->first->coll == MCI_ALL_TO_ALL) block += rank * v->first->layout.nblocks;
  return cell_of(&v->first->layout, block, part);
}

uint32_t mci_verify_output_element(const mci_verifier* v, uint32_t rank, uint32_t block, uint32_t part) {
  const mci_layout* layout = &v->first->layout;
  if (v->first->coll == MCI_ALL_TO_ALL) {
    uint32_t from = layout->order ? layout->order[block] : block;
    block = from * layout->nblocks + v->memory[rank].own_block;
  }
  return cell_of(layout, block, part);
}

/* ---- set-up ---- */

/* In place: the two buffers share memory as the collective's rule says; one inside the other when it is one block. */
static bool shared(const mci_verifier* v, uint32_t rank) {
  const mci_coll_buffers_t* b = &v->memory[rank].buffers;
  return v->in_place && v->first->coll != MCI_ALL_TO_ALL && b->in_used && b->out_used &&
         (!mci_coll_rooted(v->first->coll) || rank == v->first->root);
}

/* Gives a rank its first places; returns the first free one after them. */
static uint64_t place_rank(mci_verifier* v, uint32_t rank, uint64_t next) {
  const mci_layout* layout = &v->first->layout;
  mci_memory* m = &v->memory[rank];
  uint64_t whole = (uint64_t)layout->nblocks * layout->nparts;
  uint64_t in = !m->buffers.in_used ? 0 : m->buffers.in_one_block ? layout->nparts : whole;
  uint64_t out = !m->buffers.out_used ? 0 : m->buffers.out_one_block ? layout->nparts : whole;
  uint32_t own = m->own_block * layout->nparts;
  m->in = m->out = (uint32_t)next;
  if (!shared(v, rank)) {
    m->input_fixed = true;
    m->out = (uint32_t)(next + in);
    next += in + out;
  } else {
    if (m->buffers.in_one_block) m->in += own;
    if (m->buffers.out_one_block) m->out += own;
    next += MCI_MAX(in, out);
  }
  m->slots = (uint32_t)next;
  return next + (uint64_t)v->schedule->programs[rank]->nslots * m->slot_cells;
}

static void fill_input(mci_verifier* v, uint32_t rank) {
  const mci_memory* m = &v->memory[rank];
  const mci_layout* layout = &v->first->layout;
  if (!m->buffers.in_used) return;
  uint32_t begin = m->buffers.in_one_block ? m->own_block : 0;
  uint32_t end = m->buffers.in_one_block ? m->own_block + 1 : layout->nblocks;
  for (uint32_t b = begin; b < end; b++) {
    for (uint32_t p = 0; p < layout->nparts; p++) {
      mci_value value = {input_element(v, rank, b, p), v->reduces ? rank : 0};
      v->places[mci_verify_place_of(v, rank, MCI_IN, b, p)].value = value;
    }
  }
}

meshcclResult_t mci_verify_memory_init(mci_verifier* v) {
  uint64_t next = 0, nslots = 0;
  for (uint32_t r = 0; r < v->schedule->nranks; r++) {
    if (v->memory[r].slot_cells) nslots += v->schedule->programs[r]->nslots;
    v->memory[r].first_slot = (uint32_t)nslots - (v->memory[r].slot_cells ? v->schedule->programs[r]->nslots : 0);
    if (next <= MCI_VERIFY_MAX_PLACES) next = place_rank(v, r, next);
  }
  if (next > MCI_VERIFY_MAX_PLACES)
    MCI_FAIL(meshcclInvalidUsage,
             "more than %llu places (blocks, parts and scratch of all ranks) are too many to verify; verify the same "
             "algorithm on fewer ranks or chunks",
             (unsigned long long)MCI_VERIFY_MAX_PLACES);
  v->nplaces = (uint32_t)next;
  v->places = mci_alloc(next * sizeof *v->places);
  v->slots = mci_alloc(nslots * sizeof *v->slots);
  if (!v->places || !v->slots) return mci_oom(next * sizeof *v->places);
  for (uint64_t i = 0; i < next; i++) v->places[i] = (mci_place){.value = {0, MCI_UNDEFINED}, .reads = MCI_NONE};
  for (uint32_t r = 0; r < v->schedule->nranks; r++) fill_input(v, r);
  return meshcclSuccess;
}

/* ---- chunks as places ---- */

static const char* operand_text(const mci_arg* arg, char* buffer, size_t size) {
  if (arg->kind == MCI_TMP) {
    snprintf(buffer, size, "tmp%u", arg->slot);
  } else {
    snprintf(buffer, size, "%s[%u/%u]", arg->kind == MCI_IN ? "in" : "out", arg->block, arg->part);
  }
  return buffer;
}

static void spots_of_buffer(mci_verifier* v, uint32_t rank, const mci_arg* arg, mci_spot* out) {
  bool block_major = v->first->layout.block_major;
  uint32_t n = arg->run * arg->nruns;
  for (uint32_t i = 0; i < n * arg->nparts; i++) {
    uint32_t b = block_major ? i / arg->nparts : i % n;
    uint32_t part = arg->part + (block_major ? i % arg->nparts : i / n);
    uint32_t block = arg->block + b / arg->run * arg->stride + b % arg->run;
    out[i].place = mci_verify_place_of(v, rank, (mci_kind)arg->kind, block, part);
    out[i].input = input_element(v, rank, block, part);
  }
}

/* A slot that is used with another cut than before: nothing of the old content may be in use, all of it is gone. The
 * cells [first, end) are about to be written; users of the others must come after this step, too. */
static meshcclResult_t recut(mci_verifier* v, const mci_memory* m, uint32_t slot, uint32_t first, uint32_t end) {
  uint32_t begin = m->slots + slot * m->slot_cells;
  for (uint32_t place = begin; place < begin + m->slot_cells; place++) {
    MCI_TRY(mci_verify_write(v, place, 0, "cuts the slot in another way"));
    if (place >= first && place < end) v->places[place].written = 0;
    v->places[place].value.expr = MCI_UNDEFINED;
  }
  return meshcclSuccess;
}

static meshcclResult_t spots_of_slot(mci_verifier* v, uint32_t rank, const mci_arg* arg, bool destination,
                                     mci_spot* out) {
  const mci_memory* m = &v->memory[rank];
  bool block_major = v->first->layout.block_major;
  mci_slot cut = {1, arg->part, arg->nparts, block_major ? 0 : arg->block, block_major ? 0 : arg->run};
  mci_slot* slot = &v->slots[m->first_slot + arg->slot];
  uint32_t cells = mci_verify_cells(v, arg);
  uint32_t first = m->slots + arg->slot * m->slot_cells + arg->skip * cells;
  if (memcmp(slot, &cut, sizeof cut) != 0) {
    if (!destination)
      return mci_verify_fail(v, v->now, "reads scratch slot %u, which holds %s", arg->slot,
                             slot->used ? "a chunk that is cut in another way" : "nothing yet");
    if (slot->used) MCI_TRY(recut(v, m, arg->slot, first, first + cells));
    *slot = cut;
  }
  for (uint32_t i = 0; i < cells; i++) out[i] = (mci_spot){.place = first + i};
  return meshcclSuccess;
}

static meshcclResult_t find_spots(mci_verifier* v, const mci_arg* arg, bool destination, uint32_t cells) {
  MCI_TRY(mci_grow(&v->spots, sizeof *v->spots, &v->cap_spots, cells));
  if (arg->kind == MCI_TMP) return spots_of_slot(v, v->now->rank, arg, destination, v->spots);
  spots_of_buffer(v, v->now->rank, arg, v->spots);
  return meshcclSuccess;
}

/* ---- reading ---- */

/* Collects the lanes over which the step lends what departs. *local: it departs from a local destination. */
static meshcclResult_t find_lent(mci_verifier* v, bool* local) {
  const mci_verify_channel* c = v->now;
  *local = false;
  v->nlent = 0;
  MCI_TRY(mci_grow(&v->lent, sizeof *v->lent, &v->cap_lent, c->step->ndst));
  for (uint32_t k = 0; k < c->step->ndst; k++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, c->step, k);
    *local = *local || arg.kind != MCI_LANE;
    if (arg.kind == MCI_LANE && !(arg.flags & MCI_COPY))
      MCI_TRY(mci_verify_lane_of(v, v->now_channel, arg.peer, &v->lent[v->nlent++]));
  }
  return meshcclSuccess;
}

static meshcclResult_t note_lent(mci_verifier* v, uint32_t place, uint32_t position) {
  for (uint32_t i = 0; i < v->nlent; i++)
    MCI_TRY(mci_verify_note_read(v, place, position, v->lent[i], v->lanes[v->lent[i]].sent));
  return meshcclSuccess;
}

static meshcclResult_t content_ok(mci_verifier* v, const mci_arg* arg, const mci_spot* spot) {
  const mci_value* value = &v->places[spot->place].value;
  char name[48];
  if (value->expr == MCI_UNDEFINED)
    return mci_verify_fail(v, v->now, "reads %s, where nothing was written", operand_text(arg, name, sizeof name));
  if (value->expr == MCI_POISON)
    return mci_verify_fail(v, v->now, "reads %s, a spill whose content is gone", operand_text(arg, name, sizeof name));
  if (arg->kind != MCI_IN) return meshcclSuccess;
  uint32_t expr = v->reduces ? v->now->rank : 0;
  if (value->expr == expr && value->element == spot->input) return meshcclSuccess;
  return mci_verify_fail(v, v->now, "reads %s, which no longer holds the input: in place it was overwritten",
                         operand_text(arg, name, sizeof name));
}

static meshcclResult_t read_local(mci_verifier* v, const mci_arg* arg, uint32_t cells, bool lends, mci_value* out) {
  bool keep = arg->kind != MCI_IN || !v->memory[v->now->rank].input_fixed;
  char name[48], what[64];
  MCI_TRY(find_spots(v, arg, false, cells));
  snprintf(what, sizeof what, "reads %s", operand_text(arg, name, sizeof name));
  for (uint32_t i = 0; i < cells; i++) {
    uint32_t place = v->spots[i].place;
    MCI_TRY(mci_verify_read(v, place, i, what));
    MCI_TRY(content_ok(v, arg, &v->spots[i]));
    out[i] = v->places[place].value;
    if (!keep) continue;
    MCI_TRY(mci_verify_note_read(v, place, i, MCI_NONE, 0));
    if (lends) MCI_TRY(note_lent(v, place, i));
  }
  return meshcclSuccess;
}

static meshcclResult_t size_matches(mci_verifier* v, const mci_message* m, const mci_size* size) {
  if (memcmp(&m->size, size, sizeof *size) == 0) return meshcclSuccess;
  bool block_major = v->first->layout.block_major;
  return mci_verify_fail(
      v, v->now, "takes message %s %u, parts %u:%u, but step %u of rank %u sent %s %u, parts %u:%u: sizes differ",
      block_major ? "of blocks" : "from block", size->a, size->part, size->nparts, m->step + 1,
      v->channels[m->channel].rank, block_major ? "blocks" : "from block", m->size.a, m->size.part, m->size.nparts);
}

/* ---- folding ---- */

static meshcclResult_t fold_cell(mci_verifier* v, uint32_t cell, uint32_t cells, mci_value* out) {
  const mci_verify_channel* c = v->now;
  uint32_t n = c->step->nsrc, twice;
  char a[64], b[64];
  for (uint32_t k = 0; k < n; k++) {
    const mci_value* value = &v->values[(size_t)k * cells + cell];
    if (value->element != v->values[cell].element)
      return mci_verify_fail(v, c, "folds different elements: %s and %s",
                             mci_verify_element_text(v, v->values[cell].element, a, sizeof a),
                             mci_verify_element_text(v, value->element, b, sizeof b));
    v->children[k] = value->expr;
  }
  out->element = v->values[cell].element;
  if (n == 1 && !c->step->flags) {
    out->expr = v->children[0];
    return meshcclSuccess;
  }
  bool finish = c->step->flags & MCI_FINISH;
  for (uint32_t k = 0; k < n; k++)
    if (v->exprs.nodes[v->children[k]].finished && (finish || n > 1))
      return mci_verify_fail(v, c, "source %u holds a finished result already", k + 1);
  MCI_TRY(mci_exprs_fold(&v->exprs, c->step->flags, v->children, n, &out->expr, &twice));
  mci_verify_element_text(v, out->element, a, sizeof a);
  if (twice != MCI_NONE) return mci_verify_fail(v, c, "adds the input of rank %u twice, for %s", twice, a);
  uint32_t inputs = v->exprs.nodes[out->expr].inputs;
  if (finish && inputs != v->schedule->nranks)
    return mci_verify_fail(v, c, "finishes %s with the inputs of only %u of %u ranks", a, inputs, v->schedule->nranks);
  return meshcclSuccess;
}

/* ---- writing ---- */

/* A chunk copied onto itself stays as it is: executors leave it alone. Not so where an input may be scaled on entry. */
static bool onto_itself(const mci_verifier* v, uint32_t place, uint32_t cell) {
  return !v->reduces && v->now->step->nsrc == 1 && v->spots[cell].place == place;
}

static meshcclResult_t write_local(mci_verifier* v, const mci_arg* arg, uint32_t cells, const uint32_t* source,
                                   bool departs) {
  char name[48], what[64];
  MCI_TRY(find_spots(v, arg, true, cells));
  snprintf(what, sizeof what, "writes %s", operand_text(arg, name, sizeof name));
  for (uint32_t i = 0; i < cells; i++) {
    uint32_t place = v->spots[i].place;
    if (!source || !onto_itself(v, source[i], i)) {
      MCI_TRY(mci_verify_write(v, place, i, what));
      v->places[place].value = v->values[i];
    }
    if (arg->flags & MCI_SPILL) v->places[place].value.expr = MCI_POISON;
    if (departs) MCI_TRY(note_lent(v, place, i));
  }
  return meshcclSuccess;
}

/* The places of the only source of a step of a collective that does not reduce, kept in v->children. */
static meshcclResult_t single_source(mci_verifier* v, uint32_t cells, const uint32_t** out) {
  mci_arg arg = mci_cursor_arg(&v->now->cursor, v->now->step, v->now->step->ndst);
  *out = NULL;
  if (v->reduces || arg.kind == MCI_LANE) return meshcclSuccess;
  MCI_TRY(mci_grow(&v->children, sizeof *v->children, &v->cap_children, cells));
  MCI_TRY(find_spots(v, &arg, false, cells));
  for (uint32_t i = 0; i < cells; i++) v->children[i] = v->spots[i].place;
  *out = v->children;
  return meshcclSuccess;
}

static meshcclResult_t write_all(mci_verifier* v, uint32_t cells) {
  const mci_verify_channel* c = v->now;
  const uint32_t* source;
  bool departs = true;
  MCI_TRY(single_source(v, cells, &source));
  for (uint32_t k = 0; k < c->step->ndst; k++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, c->step, k);
    if (arg.kind == MCI_LANE) continue;
    MCI_TRY(write_local(v, &arg, cells, source, departs));
    departs = false; /* they leave from the first one */
  }
  return meshcclSuccess;
}

meshcclResult_t mci_verify_step(mci_verifier* v, uint32_t* cells_out, mci_size* size) {
  const mci_verify_channel* c = v->now;
  uint32_t noperands = (uint32_t)c->step->ndst + c->step->nsrc, cells = 0, arrival = 0;
  for (uint32_t k = 0; k < noperands && cells == 0; k++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, c->step, k);
    if (arg.kind == MCI_LANE) continue;
    *size = mci_verify_size(v, &arg);
    cells = mci_verify_cells(v, &arg);
  }
  if ((uint64_t)cells * c->step->nsrc > MCI_VERIFY_MAX_PLACES)
    return mci_verify_fail(v, c, "too many sources of too many blocks to verify");
  MCI_TRY(mci_grow(&v->values, sizeof *v->values, &v->cap_values, (size_t)cells * c->step->nsrc));
  MCI_TRY(mci_grow(&v->children, sizeof *v->children, &v->cap_children, c->step->nsrc));
  bool local;
  MCI_TRY(find_lent(v, &local));
  for (uint32_t k = 0; k < c->step->nsrc; k++) {
    mci_arg arg = mci_cursor_arg(&c->cursor, c->step, c->step->ndst + k);
    mci_value* out = &v->values[(size_t)k * cells];
    if (arg.kind != MCI_LANE) {
      MCI_TRY(read_local(v, &arg, cells, !local, out));
      continue;
    }
    const mci_message* m = &v->arrivals[arrival++];
    MCI_TRY(size_matches(v, m, size));
    memcpy(out, m->load->values, cells * sizeof *out);
  }
  for (uint32_t i = 0; i < cells; i++) MCI_TRY(fold_cell(v, i, cells, &v->values[i]));
  MCI_TRY(write_all(v, cells));
  *cells_out = cells;
  return meshcclSuccess;
}
