/* Parses the text of a whole schedule (docs/schedule-format.md) into one program per rank, through the builder. Checks
 * the form only: numbers in range, ranks complete, repeats closed. Whether the schedule is right is verify.c's
 * business. Called by `meshccl verify`, by MESHCCL_SCHEDULE and by tests; the input is not trusted. */
#include "sched/parse.h"

static meshcclResult_t channel(mci_parser* p) {
  mci_scan* s = &p->scan;
  uint32_t id;
  MCI_TRY(mci_scan_u32(s, "a channel number", (uint32_t)p->last_channel, MCI_MAX_CHANNELS - 1, &id));
  p->last_channel = (uint64_t)id + 1;
  mci_build_channel(p->build, (uint16_t)id);
  MCI_TRY(mci_scan_next_line(s));
  while (!mci_scan_text_done(s)) {
    if (mci_scan_word(s, "repeat")) {
      uint32_t count;
      if (p->depth == MCI_MAX_LOOPS) return mci_scan_fail(s, "repeats nest at most %d deep", MCI_MAX_LOOPS);
      MCI_TRY(mci_scan_u32(s, "a number of iterations", 0, INT32_MAX, &count));
      mci_build_repeat(p->build, count);
      p->depth++;
    } else if (mci_scan_word(s, "end")) {
      if (p->depth == 0) return mci_scan_fail(s, "this end has no repeat");
      mci_build_end(p->build);
      p->depth--;
    } else if (mci_scan_word(s, "channel") || mci_scan_word(s, "rank")) {
      s->at = s->line_start;
      break;
    } else {
      MCI_TRY(mci_parse_step(p));
    }
    MCI_TRY(mci_scan_next_line(s));
  }
  if (p->depth) return mci_scan_fail(s, "a repeat of channel %u is not closed; add \"end\"", id);
  return meshcclSuccess;
}

static meshcclResult_t rank_body(mci_parser* p, uint32_t* steps) {
  mci_scan* s = &p->scan;
  uint32_t slots = 0;
  p->last_channel = 0;
  MCI_TRY(mci_scan_next_line(s));
  while (!mci_scan_text_done(s)) {
    if (mci_scan_word(s, "slots")) {
      MCI_TRY(mci_scan_u32(s, "a number of scratch slots", 0, INT32_MAX, &slots));
      mci_build_slots(p->build, slots);
      MCI_TRY(mci_scan_next_line(s));
    } else if (mci_scan_word(s, "steps")) {
      MCI_TRY(mci_scan_u32(s, "a number of steps", 0, UINT32_MAX, steps));
      MCI_TRY(mci_scan_next_line(s));
    } else if (mci_scan_word(s, "channel")) {
      MCI_TRY(channel(p));
    } else if (mci_scan_word(s, "rank")) {
      s->at = s->line_start;
      break;
    } else {
      return mci_scan_fail(s, "expected slots, steps, channel or the next rank");
    }
  }
  return meshcclSuccess;
}

static meshcclResult_t rank(mci_parser* p, uint32_t number) {
  mci_scan* s = &p->scan;
  uint32_t given, steps = 0;
  if (!mci_scan_word(s, "rank"))
    return mci_scan_fail(s, "rank %u is missing; all of the %u ranks must be here, in order", number, p->nranks);
  MCI_TRY(mci_scan_u32(s, "the next rank, in order,", number, number, &given));
  p->build = mci_build_begin(p->coll, p->algorithm, p->nranks, number, p->root);
  mci_build_layout(p->build, p->nblocks, p->nparts, p->weights);
  mci_build_order(p->build, p->order);
  meshcclResult_t result = rank_body(p, &steps);
  mci_program* program = NULL;
  if (result == meshcclSuccess) {
    result = mci_build_finish(p->build, &program);
    p->schedule->programs[number] = program;
    if (program) program->steps = steps;
  } else {
    mci_build_drop(p->build);
  }
  return result;
}

static meshcclResult_t schedule(mci_parser* p) {
  MCI_TRY(mci_parse_header(p));
  mci_program** programs = mci_alloc(p->nranks * sizeof *programs);
  if (!programs) return mci_oom(p->nranks * sizeof *programs);
  p->schedule->programs = programs;
  p->schedule->nranks = p->nranks;
  for (uint32_t r = 0; r < p->nranks; r++) MCI_TRY(rank(p, r));
  if (!mci_scan_text_done(&p->scan)) return mci_scan_fail(&p->scan, "more than %u ranks", p->nranks);
  return meshcclSuccess;
}

meshcclResult_t mci_schedule_parse(const char* text, size_t bytes, const char* name, mci_schedule** out) {
  mci_parser p = {.schedule = mci_alloc(sizeof *p.schedule)};
  if (!p.schedule) return mci_oom(sizeof *p.schedule);
  mci_scan_start(&p.scan, text, bytes, name);
  meshcclResult_t result = schedule(&p);
  mci_free(p.weights);
  mci_free(p.order);
  if (result == meshcclSuccess) {
    *out = p.schedule;
  } else {
    mci_schedule_destroy(p.schedule);
  }
  return result;
}
