/* Text form: what is printed parses to the same and prints the same; errors say where and what to do; nothing that is
 * fed to the parser, and from it to the verifier, does harm. */
#include "support/schedules.h"
#include "support/test.h"

#define HEAD \
  "meshccl-schedule 1\ncollective broadcast\nalgorithm x\nranks 2\nroot 1\nlayout part-major blocks 4 parts 2\n"

static bool same_affine(mci_affine a, mci_affine b) { return memcmp(&a, &b, sizeof a) == 0; }

static bool same_operand(const mci_operand* a, const mci_operand* b) {
  if (a->kind != b->kind || a->flags != b->flags) return false;
  if (a->kind == MCI_LANE) return same_affine(a->peer, b->peer);
  return same_affine(a->slot, b->slot) && same_affine(a->shape.block, b->shape.block) &&
         same_affine(a->shape.part, b->shape.part) && same_affine(a->shape.skip, b->shape.skip) &&
         a->shape.run == b->shape.run && a->shape.nruns == b->shape.nruns && a->shape.stride == b->shape.stride &&
         a->shape.nparts == b->shape.nparts;
}

static bool same_channel(const mci_channel* a, const mci_channel* b) {
  if (a->id != b->id || a->ninstrs != b->ninstrs || a->noperands != b->noperands || a->nafters != b->nafters)
    return false;
  if (memcmp(a->instrs, b->instrs, a->ninstrs * sizeof *a->instrs) != 0) return false;
  for (uint32_t i = 0; i < a->noperands; i++)
    if (!same_operand(&a->operands[i], &b->operands[i])) return false;
  for (uint32_t i = 0; i < a->nafters; i++)
    if (a->afters[i].channel != b->afters[i].channel || !same_affine(a->afters[i].count, b->afters[i].count))
      return false;
  return true;
}

static bool same_program(const mci_program* a, const mci_program* b) {
  if (a->coll != b->coll || strcmp(a->algorithm, b->algorithm) != 0 || a->nranks != b->nranks || a->rank != b->rank ||
      a->root != b->root)
    return false;
  if (a->nslots != b->nslots || a->steps != b->steps || a->nchannels != b->nchannels) return false;
  if (a->layout.nblocks != b->layout.nblocks || a->layout.nparts != b->layout.nparts ||
      !a->layout.order != !b->layout.order)
    return false;
  if (memcmp(a->layout.weights, b->layout.weights, a->layout.nparts * sizeof(uint32_t)) != 0) return false;
  if (a->layout.order && memcmp(a->layout.order, b->layout.order, a->layout.nblocks * sizeof(uint32_t)) != 0)
    return false;
  for (uint32_t c = 0; c < a->nchannels; c++)
    if (!same_channel(&a->channels[c], &b->channels[c])) return false;
  return true;
}

static void check_round_trip(const char* what, const mci_schedule* schedule) {
  mci_schedule* back = NULL;
  mci_str first = {0}, second = {0};
  check_ok(mci_schedule_print(schedule, &first));
  if (mci_schedule_parse(first.text, first.length, what, &back) != meshcclSuccess)
    fail_msg("%s\n%s", mci_error_last(), first.text);
  check_ok(mci_schedule_print(back, &second));
  assert_string_equal(first.text, second.text);
  assert_string_equal(schedule->bits, back->bits);
  for (uint32_t r = 0; r < schedule->nranks; r++)
    if (!same_program(schedule->programs[r], back->programs[r]))
      fail_msg("%s: rank %u changed:\n%s", what, r, first.text);
  mci_schedule_destroy(back);
  mci_str_fini(&first);
  mci_str_fini(&second);
}

static void printed_text_parses_to_the_same(void** state) {
  (void)state;
  for (size_t i = 0; i < test_schedule_nrows; i++) {
    for (uint32_t n = 1; n <= 5; n++) {
      mci_schedule* schedule = test_schedule_build(&test_schedule_rows[i], n, n - 1);
      for (uint32_t r = 0; r < n; r++) schedule->programs[r]->steps = r * 7;
      snprintf(schedule->bits, sizeof schedule->bits, "%032x", 0xabcu + (unsigned)i);
      check_round_trip(test_schedule_rows[i].name, schedule);
      mci_schedule_destroy(schedule);
    }
  }
}

static mci_affine random_affine(uint64_t* random, uint32_t depth) {
  mci_affine a = {(int32_t)(test_random(random) % 9) - 4, {0, 0}};
  if (test_random(random) % 8 == 0) a.base = test_random(random) % 2 ? INT32_MAX : -INT32_MAX;
  for (uint32_t i = 0; i < depth; i++) a.step[i] = (int32_t)(test_random(random) % 7) - 3;
  return a;
}

static void random_operand(mci_build* b, uint64_t* random, uint32_t depth, bool destination) {
  mci_kind kind = (mci_kind)(test_random(random) % 4);
  uint32_t several = test_random(random) % 3 == 0;
  mci_affine place = random_affine(random, depth);
  mci_shape shape = {.block = random_affine(random, depth),
                     .run = 1 + (uint32_t)(test_random(random) % 2),
                     .nruns = 1 + several,
                     .stride = several * 5,
                     .part = random_affine(random, depth),
                     .nparts = 1 + (uint32_t)(test_random(random) % 2)};
  if (kind == MCI_TMP && test_random(random) % 2) shape.skip = random_affine(random, depth);
  unsigned flags = destination && test_random(random) % 2 ? kind == MCI_LANE ? MCI_COPY : MCI_SPILL : 0;
  if (kind == MCI_LANE && destination) mci_build_dst_lane(b, flags, place);
  if (kind == MCI_LANE && !destination) mci_build_src_lane(b, place);
  if (kind == MCI_TMP && destination) mci_build_dst_tmp(b, flags, place, shape);
  if (kind == MCI_TMP && !destination) mci_build_src_tmp(b, place, shape);
  if (kind < MCI_TMP && destination) mci_build_dst(b, kind, flags, shape);
  if (kind < MCI_TMP && !destination) mci_build_src(b, kind, shape);
}

static void random_steps(mci_build* b, uint64_t* random) {
  uint32_t depth = 0;
  for (int i = 0; i < 12; i++) {
    uint64_t what = test_random(random) % 6;
    if (what == 0 && depth < MCI_MAX_LOOPS) {
      mci_build_repeat(b, (uint32_t)(test_random(random) % 4));
      depth++;
    } else if (what == 1 && depth) {
      mci_build_end(b);
      depth--;
    } else {
      mci_build_step(b, (unsigned)(test_random(random) % 4));
      for (uint64_t k = test_random(random) % 4; k > 2; k--)
        mci_build_after(b, (uint16_t)(test_random(random) % 9), random_affine(random, depth));
      for (uint64_t k = 0; k <= test_random(random) % 2; k++) random_operand(b, random, depth, true);
      for (uint64_t k = 0; k <= test_random(random) % 3; k++) random_operand(b, random, depth, false);
    }
  }
  for (; depth; depth--) mci_build_end(b);
}

/* The form alone counts: these schedules make no sense. */
static void any_program_survives_print_and_parse(void** state) {
  (void)state;
  uint64_t random = test_seed();
  for (int round = 0; round < 200; round++) {
    mci_program* program;
    mci_coll coll = (mci_coll)(test_random(&random) % MCI_SEND_RECV);
    mci_build* b = mci_build_begin(coll, "any thing (1:2)", 1, 0, 0);
    mci_build_layout(b, 1 + (uint32_t)(test_random(&random) % 3), 4,
                     (const uint32_t[]){(uint32_t)(test_random(&random) % 2), 1, 1, 9});
    if (mci_coll_block_major(coll)) mci_build_order(b, (const uint32_t[]){2, 0, 1});
    mci_build_slots(b, (uint32_t)(test_random(&random) % 3));
    for (uint16_t c = 0; c < test_random(&random) % 3; c++) {
      mci_build_channel(b, (uint16_t)(c * 100));
      random_steps(b, &random);
    }
    check_ok(mci_build_finish(b, &program));
    check_round_trip("random", &(mci_schedule){.nranks = 1, .programs = &program});
    mci_program_destroy(program);
  }
}

static void text_is_read_as_written(void** state) {
  (void)state;
  static const char text[] =
      "\n  # comment\n\tmeshccl-schedule 1 # first\r\n"
      "root 0\ncollective allgather\n";
  static const char good[] =
      "\n  # about\n\tmeshccl-schedule 1 # first\r\ncollective all_gather\nalgorithm  some name # not this\nranks 1\n"
      "layout block-major blocks 1 parts 3 weights 5 7*2\norder 0\n\nrank 0\n slots 3\nchannel 7\nrepeat 3\n"
      "tmp(1+i).2[0-2i+2i/0:3]?,copy>(i+5-5) <- out[-1+i+1:1*1@0/0:3]+<3 finish wide after 1:2+i , 2:0\nend\n\n";
  static const char canonical[] =
      "meshccl-schedule 1\ncollective all_gather\nalgorithm some name\nranks 1\nlayout block-major blocks 1 parts 3 "
      "weights 5 7*2\n"
      "order 0\nrank 0\n slots 3\n channel 7\n  repeat 3\n   tmp(1+i).2[0/0:3]?, copy>(i) <- out[i/0:3] + <3 finish "
      "wide after 1:2+i, 2:0\n  end\n";
  mci_schedule* schedule;
  mci_str str = {0};
  check_ok(mci_schedule_parse(good, sizeof good - 1, "good", &schedule));
  check_ok(mci_schedule_print(schedule, &str));
  assert_string_equal(str.text, canonical);
  mci_schedule_destroy(schedule);
  mci_str_fini(&str);
  check_fails(mci_schedule_parse(text, sizeof text - 1, "text", &schedule), meshcclInvalidArgument,
              "text:6:1: the line \"algorithm ...\" is missing");
}

static void mistakes_are_shown_with_place_and_remedy(void** state) {
  (void)state;
  static const struct {
    const char *text, *message;
  } rows[] = {
      {"", ":1:1: this is not a schedule: the first line must be \"meshccl-schedule 1\""},
      {"meshccl-schedule 2\n", ":1:18: the version of the format must be 1 .. 1"},
      {"meshccl-schedule 1\ncollective alreduce\n", ":2:12: \"alreduce\" is not a collective; known: all_reduce"},
      {"meshccl-schedule 1\nranks 0\n", ":2:7: the number of ranks must be 1 .. 1048576"},
      {"meshccl-schedule 1\nranks 99999999999999999999999\n", ":2:7: the number of ranks must be"},
      {"meshccl-schedule 1\nranks 2 3\n", ":2:9: more text than the line can have"},
      {"meshccl-schedule 1\nranks 2\nranks 2\n", ":3:1: expected collective, algorithm, ranks"},
      {"meshccl-schedule 1\nlayout part-major blocks 4 parts 2\n",
       ":2:8: the collective must be named before the layout"},
      {"meshccl-schedule 1\ncollective gather\nlayout part-major blocks 4 parts 2\n",
       ":3:8: the layout of gather is block-major"},
      {"meshccl-schedule 1\ncollective reduce\nlayout part-major blocks 4 parts 2 weights 1\n",
       ":3:45: a weight is missing here"},
      {"meshccl-schedule 1\ncollective reduce\nlayout part-major blocks 4 parts 2 weights 1*3\n",
       "how many numbers are alike must be 1 .. 2"},
      {"meshccl-schedule 1\ncollective reduce\nlayout part-major blocks 4 parts 2 weights 0 0\n", "must add up to"},
      {"meshccl-schedule 1\nalgorithm \n", "the algorithm needs a name"},
      {"meshccl-schedule 1\nbits 12\n", "the digest needs 32 hexadecimal digits"},
      {HEAD "rank 1\n", ":7:6: the next rank, in order, must be 0 .. 0"},
      {HEAD "rank 0\n", "rank 1 is missing"},
      {HEAD "rank 0\nrank 1\nrank 2\n", "more than 2 ranks"},
      {HEAD "rank 0\n in[0]\n", ":8:2: expected slots, steps, channel"},
      {HEAD "rank 0\n channel 256\n", "a channel number must be 0 .. 255"},
      {HEAD "rank 0\n channel 3\n channel 3\n", "a channel number must be 4 .. 255"},
      {HEAD "rank 0\n channel 0\n repeat 1\n repeat 1\n repeat 1\n", ":11:8: repeats nest at most 2 deep"},
      {HEAD "rank 0\n channel 0\n end\n", "this end has no repeat"},
      {HEAD "rank 0\n channel 0\n repeat 2\nrank 1\n", "a repeat of channel 0 is not closed"},
      {HEAD "rank 0\n channel 0\n out[0]\n", ":9:8: \"<-\" is missing here"},
      {HEAD "rank 0\n channel 0\n out[0] <-\n", "an operand is missing here"},
      {HEAD "rank 0\n channel 0\n out[0 <- <1\n", ":9:7: \"]\" is missing here"},
      {HEAD "rank 0\n channel 0\n out <- <1\n", "\"[\" is missing here"},
      {HEAD "rank 0\n channel 0\n out[] <- <1\n", "a block is missing here"},
      {HEAD "rank 0\n channel 0\n out[i] <- <1\n", "i counts the iterations of the outer repeat"},
      {HEAD "rank 0\n channel 0\n repeat 2\n out[j] <- <1\n", "j counts the iterations of the inner repeat"},
      {HEAD "rank 0\n channel 0\n out[3000000000] <- <1\n", "a block must be 0 .. 2147483647"},
      {HEAD "rank 0\n channel 0\n out[2000000000+2000000000] <- <1\n", "a block does not fit 32 bits"},
      {HEAD "rank 0\n channel 0\n out[0:0] <- <1\n", "a number of blocks must be 1 .."},
      {HEAD "rank 0\n channel 0\n out[0:1*2] <- <1\n", "\"@\" is missing here"},
      {HEAD "rank 0\n channel 0\n copy out[0] <- <1\n", "\"copy\" marks a departure"},
      {HEAD "rank 0\n channel 0\n tmp[0] <- <1\n", "a scratch slot is missing here"},
      {HEAD "rank 0\n channel 0\n out[0] <- <(1\n", "\")\" is missing here"},
      {HEAD "rank 0\n channel 0\n out[0] <- <1 wide finish\n", "only finish, wide and after, in this order"},
      {HEAD "rank 0\n channel 0\n out[0] <- <1 after 3\n", "\":\" is missing here; write after CHANNEL:STEPS"},
      {HEAD "rank 0\n channel 0\n out[0] <- <1 after 1:1,1:1,1:1,1:1,1:1,1:1,1:1,1:1,1:1\n",
       "at most 8 after conditions"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_schedule* schedule = NULL;
    meshcclResult_t result = mci_schedule_parse(rows[i].text, strlen(rows[i].text), "file", &schedule);
    if (result != meshcclInvalidArgument || strncmp(mci_error_last(), "file:", 5) != 0 ||
        !strstr(mci_error_last(), rows[i].message))
      fail_msg("%s: %s: \"%s\", expected \"%s\"", rows[i].text, mci_result_text(result), mci_error_last(),
               rows[i].message);
    assert_null(schedule);
  }
}

static void what_one_text_cannot_hold_is_not_printed(void** state) {
  (void)state;
  mci_schedule* schedule = test_schedule_build(&test_schedule_rows[1], 3, 0);
  mci_str str = {0};
  schedule->programs[1]->layout.weights[0]++;
  check_fails(mci_schedule_print(schedule, &str), meshcclInvalidUsage, "ranks 0 and 1 differ");
  schedule->programs[1]->layout.weights[0]--;
  schedule->programs[0]->algorithm[0] = '#';
  check_fails(mci_schedule_print(schedule, &str), meshcclInvalidUsage, "cannot be printed");
  mci_schedule_destroy(schedule);
  mci_str_fini(&str);
}

/* Cut, overwritten and doubled text: an error or a schedule, never harm. */
static void damaged_text_does_no_harm(void** state) {
  (void)state;
  uint64_t random = test_seed();
  for (size_t i = 0; i < test_schedule_nrows; i++) {
    mci_schedule* schedule = test_schedule_build(&test_schedule_rows[i], 4, 1);
    mci_str str = {0};
    check_ok(mci_schedule_print(schedule, &str));
    mci_schedule_destroy(schedule);
    for (int round = 0; round < 200; round++) {
      size_t n = str.length;
      char* text = malloc(n); /* no NUL: reading past the end shows */
      memcpy(text, str.text, n);
      for (uint64_t k = test_random(&random) % 4; k > 0; k--) {
        size_t from = test_random(&random) % n, to = test_random(&random) % n, length = test_random(&random) % 6;
        memmove(text + to, text + from, MCI_MIN(length, n - MCI_MAX(from, to)));
      }
      if (round % 4 == 0) n = test_random(&random) % n;
      if (mci_schedule_parse(text, n, "damaged", &schedule) == meshcclSuccess) {
        mci_schedule_verify(schedule, NULL, NULL);
        mci_schedule_destroy(schedule);
      }
      free(text);
    }
    mci_str_fini(&str);
  }
}

static void every_failing_allocation_is_reported(void** state) {
  (void)state;
  for (size_t i = 0; i < test_schedule_nrows; i++) {
    mci_schedule* original = test_schedule_build(&test_schedule_rows[i], 3, 0);
    bool done = false;
    for (int64_t nth = 1; !done; nth++) {
      mci_schedule* schedule = NULL;
      mci_str str = {0};
      mci_alloc_fail_after(nth);
      meshcclResult_t result = mci_schedule_print(original, &str);
      if (result == meshcclSuccess) result = mci_schedule_parse(str.text, str.length, "text", &schedule);
      if (result == meshcclSuccess) result = mci_schedule_verify(schedule, NULL, NULL);
      mci_alloc_fail_after(-1);
      done = result == meshcclSuccess;
      if (!done && (result != meshcclSystemError || !strstr(mci_error_last(), "out of memory")))
        fail_msg("allocation %d: %s: %s", (int)nth, mci_result_text(result), mci_error_last());
      mci_schedule_destroy(schedule);
      mci_str_fini(&str);
    }
    mci_schedule_destroy(original);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(printed_text_parses_to_the_same),
      cmocka_unit_test(any_program_survives_print_and_parse),
      cmocka_unit_test(text_is_read_as_written),
      cmocka_unit_test(mistakes_are_shown_with_place_and_remedy),
      cmocka_unit_test(what_one_text_cannot_hold_is_not_printed),
      cmocka_unit_test(damaged_text_does_no_harm),
      cmocka_unit_test(every_failing_allocation_is_reported),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
