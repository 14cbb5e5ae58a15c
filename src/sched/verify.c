/* The verifier's entry: checks the headers and every step, sets up the abstract run, runs it and judges the results. */
#include "sched/verify.h"

#include <stdio.h>
#include <string.h>

#include "sched/text.h"

meshcclResult_t mci_verify_fail(const mci_verifier* v, const mci_verify_channel* c, const char* format, ...) {
  char message[400];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  mci_str step = {0};
  if (c->step) {
    const mci_cursor* cursor = &c->cursor;
    mci_text_step(&step, &v->first->layout, c->channel, c->step, cursor->depth);
    for (uint32_t i = 0; i < cursor->depth; i++) mci_str_add(&step, ", %c=%u", 'i' + (char)i, cursor->counter[i]);
  }
  mci_fail(meshcclInvalidUsage, "rank %u channel %u step %llu (%.300s): %s", c->rank, c->channel->id,
           (unsigned long long)c->cursor.index, step.text ? step.text : "end", message);
  mci_str_fini(&step);
  return meshcclInvalidUsage;
}

uint32_t mci_verify_find_channel(const mci_verifier* v, uint32_t rank, uint32_t id) {
  uint32_t low = v->first_channel[rank], high = v->first_channel[rank + 1];
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    uint32_t found = v->channels[middle].channel->id;
    if (found == id) return middle;
    if (found < id) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return MCI_NONE;
}

const char* mci_verify_element_text(const mci_verifier* v, uint32_t element, char* buffer, size_t size) {
  const mci_layout* layout = &v->first->layout;
  if (!layout->block_major) {
    snprintf(buffer, size, "block %u part %u", element % layout->nblocks, element / layout->nblocks);
  } else if (v->first->coll == MCI_ALL_TO_ALL) {
    uint32_t block = element / layout->nparts;
    snprintf(buffer, size, "block %u part %u of rank %u", block % layout->nblocks, element % layout->nparts,
             block / layout->nblocks);
  } else {
    snprintf(buffer, size, "block %u part %u", element / layout->nparts, element % layout->nparts);
  }
  return buffer;
}

static meshcclResult_t open_channels(mci_verifier* v) {
  uint32_t nranks = v->schedule->nranks;
  uint64_t total = 0;
  for (uint32_t r = 0; r < nranks; r++) total += v->schedule->programs[r]->nchannels;
  if (total >= MCI_NONE / 2) MCI_FAIL(meshcclInvalidUsage, "%llu channels are too many", (unsigned long long)total);
  v->first_channel = mci_alloc((nranks + 1) * sizeof *v->first_channel);
  v->channels = mci_alloc(total * sizeof *v->channels);
  if (!v->first_channel || !v->channels) return mci_oom(total * sizeof *v->channels);
  for (uint32_t r = 0; r < nranks; r++) {
    const mci_program* p = v->schedule->programs[r];
    v->first_channel[r] = v->nchannels;
    for (uint32_t i = 0; i < p->nchannels; i++) {
      mci_verify_channel* c = &v->channels[v->nchannels++];
      *c = (mci_verify_channel){.rank = r, .channel = &p->channels[i]};
      if (i && p->channels[i - 1].id >= p->channels[i].id)
        MCI_FAIL(meshcclInvalidUsage, "rank %u: channel numbers must ascend", r);
      MCI_TRY(mci_verify_count(c->channel, &v->work, &c->steps));
      v->steps += c->steps;
    }
  }
  v->first_channel[nranks] = v->nchannels;
  return meshcclSuccess;
}

/* What each rank has, as far as the forms of steps need it. */
static meshcclResult_t open_ranks(mci_verifier* v) {
  uint32_t nranks = v->schedule->nranks;
  const uint32_t* order = v->first->layout.order;
  v->memory = mci_alloc(nranks * sizeof *v->memory);
  if (!v->memory) return mci_oom(nranks * sizeof *v->memory);
  for (uint32_t b = 0; b < nranks; b++) v->memory[order ? order[b] : b].own_block = b;
  for (uint32_t r = 0; r < nranks; r++) v->memory[r].buffers = mci_coll_buffers(v->first->coll, r, v->first->root);
  return meshcclSuccess;
}

static meshcclResult_t check_forms(mci_verifier* v) {
  for (uint32_t i = 0; i < v->nchannels; i++) {
    mci_verify_channel* c = &v->channels[i];
    mci_cursor_start(&c->cursor, c->channel);
    while ((c->step = mci_cursor_next(&c->cursor))) {
      uint64_t cells;
      MCI_TRY(mci_verify_step_form(v, c, &cells));
      mci_memory* memory = &v->memory[c->rank];
      memory->slot_cells = MCI_MAX(memory->slot_cells, (uint32_t)cells);
      for (uint32_t k = 0; k < c->step->nafter; k++) {
        uint16_t id;
        uint64_t count = mci_cursor_after(&c->cursor, c->step, k, &id);
        if (count) MCI_TRY(mci_verify_mark(v, mci_verify_find_channel(v, c->rank, id), count));
      }
    }
    mci_cursor_start(&c->cursor, c->channel);
  }
  return meshcclSuccess;
}

static meshcclResult_t prove(mci_verifier* v, char bits[33]) {
  MCI_TRY(open_channels(v));
  MCI_TRY(open_ranks(v));
  MCI_TRY(check_forms(v));
  MCI_TRY(mci_exprs_init(&v->exprs, v->schedule->nranks));
  MCI_TRY(mci_verify_memory_init(v));
  MCI_TRY(mci_verify_order_init(v));
  MCI_TRY(mci_verify_run(v));
  MCI_TRY(mci_verify_results(v, bits));
  if (v->schedule->bits[0] && strcmp(v->schedule->bits, bits) != 0)
    MCI_FAIL(meshcclInvalidUsage,
             "the schedule declares bits %s, but its folds give %s: the order of a fold was changed", v->schedule->bits,
             bits);
  return meshcclSuccess;
}

static void release(mci_verifier* v) {
  mci_verify_order_fini(v);
  mci_exprs_fini(&v->exprs);
  mci_free(v->channels);
  mci_free(v->first_channel);
  mci_free(v->memory);
  mci_free(v->places);
  mci_free(v->slots);
  mci_free(v->reads);
  mci_free(v->arrivals);
  mci_free(v->spots);
  mci_free(v->values);
  mci_free(v->children);
  mci_free(v->lent);
}

meshcclResult_t mci_schedule_verify(const mci_schedule* schedule, const mci_verify_options* options,
                                    mci_verify_report* report) {
  MCI_TRY(mci_verify_headers(schedule));
  mci_verifier v = {.schedule = schedule, .first = schedule->programs[0], .credits = 1, .free_reads = MCI_NONE};
  v.reduces = mci_coll_reduces(v.first->coll);
  if (options) v.in_place = options->in_place;
  if (options && options->credits) v.credits = options->credits;
  char bits[33];
  meshcclResult_t result = prove(&v, bits);
  release(&v);
  if (result != meshcclSuccess || !report) return result;
  *report = (mci_verify_report){.steps = v.steps, .messages = v.messages, .depth = v.depth};
  memcpy(report->bits, bits, sizeof bits);
  return meshcclSuccess;
}
