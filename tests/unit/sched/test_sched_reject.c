/* What the verifier refuses, and how it says so: one small text per rule, next to texts that just keep the rule. */
#include "support/schedules.h"
#include "support/test.h"

typedef struct {
  const char* rule;
  const char* head;     /* collective, ranks, layout and more */
  const char* ranks[3]; /* the lines of each rank, "|" between them */
  const char* message;  /* NULL: accepted */
  bool in_place;
} row;

#define ALL_REDUCE "collective all_reduce|ranks 2|layout part-major blocks 2 parts 1"
#define ALL_REDUCE_3 "collective all_reduce|ranks 3|layout part-major blocks 1 parts 1"
#define REDUCE_SCATTER "collective reduce_scatter|ranks 2|layout block-major blocks 2 parts 1"
#define ALL_GATHER "collective all_gather|ranks 2|layout block-major blocks 2 parts 1"
#define ALL_GATHER_3 "collective all_gather|ranks 3|layout block-major blocks 3 parts 1"
#define ALL_TO_ALL "collective all_to_all|ranks 2|layout block-major blocks 2 parts 2"
#define BROADCAST "collective broadcast|ranks 2|root 1|layout part-major blocks 2 parts 2"
#define RANK_1 "channel 0|>0 <- in[0]|out[1], >0 <- <0 + in[1] finish|out[0] <- <0"
#define ECHO_1 "slots 1|channel 0|>0 <- in[1]|out[1] <- in[1]|tmp0[0:2]?, >0 <- <0|out[0] <- <0|out[2] <- <0"
#define ECHO_2 "channel 0|>0 <- in[2]|out[2] <- in[2]|out[0:2] <- <0"

static const row rows[] = {
    {"two operands commute",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0], >1 <- <1 + in[0] finish|out[1] <- <1", RANK_1},
     NULL,
     0},
    /* order of events */
    {"no cycle of messages",
     ALL_REDUCE,
     {"channel 0|out[1] <- <1|>1 <- in[1]", "channel 0|out[0] <- <0|>0 <- in[0]"},
     "deadlock: a cycle of 2 channels",
     0},
    {"no cycle of after conditions",
     ALL_REDUCE,
     {"channel 0|out[0] <- in[0] after 1:1|channel 1|out[1] <- in[1] after 0:1", RANK_1},
     "to run 1 steps",
     0},
    {"every awaited message is sent",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0], >1 <- in[0] + <1 finish|out[1] <- <1|out[1] <- <1", RANK_1},
     "sends only 2",
     0},
    {"every message is taken",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0], >1, >1 <- in[0] + <1 finish|out[1] <- <1", RANK_1},
     "sends to rank 1 twice",
     0},
    {"no message is left over",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0], >1 <- in[0] + <1 finish|out[1] <- <1|>1 <- in[0]", RANK_1},
     "first left over is of step 4",
     0},
    {"sizes of a message agree",
     ALL_REDUCE,
     {"channel 0|>1 <- in[0]|out[0], >1 <- in[0] + <1 finish|out[1] <- <1", RANK_1},
     "sizes differ",
     0},
    {"after counts exist",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0] <- in[0] after 1:3|channel 1|out[1] <- in[1]", RANK_1},
     "which has only 1",
     0},
    {"a step waits for other channels", ALL_REDUCE, {"channel 0|>1 <- in[1] after 0:0", RANK_1}, "its own channel", 0},
    {"a step waits for channels that exist",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1] after 7:0", RANK_1},
     "does not have",
     0},
    {"one credit is enough",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0] <- <1 + <1", RANK_1},
     "2 messages of rank 1 at once",
     0},
    /* data */
    {"only written places are read", ALL_REDUCE, {"channel 0|>1 <- out[1]", RANK_1}, "where nothing was written", 0},
    {"a spill is not read",
     ALL_REDUCE,
     {"channel 0|out[1]?, >1 <- in[1]|out[1] <- out[1]", RANK_1},
     "a spill whose content is gone",
     0},
    {"a spill is no result",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0]?, >1 <- in[0] + <1 finish|out[1] <- <1", RANK_1},
     "is a spill",
     0},
    {"no input counts twice",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0], >1 <- in[0] + <1 + in[0] finish|out[1] <- <1", RANK_1},
     "the input of rank 0 twice",
     0},
    {"only whole results are finished",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0] <- in[0] finish", RANK_1},
     "only 1 of 2",
     0},
    {"results are finished",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0], >1 <- in[0] + <1|out[1] <- <1", RANK_1},
     "was never finished",
     0},
    {"results are finished once",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0], >1 <- in[0] + <1 finish|out[1] <- <1 finish", RANK_1},
     "finished result already",
     0},
    {"results are whole",
     ALL_REDUCE,
     {"channel 0|>1 <- in[1]|out[0], >1 <- in[0] + <1 finish|out[1] <- in[1]|out[1] <- <1|out[1] <- in[1]", RANK_1},
     "only 1 of 2 ranks",
     0},
    {"results are written",
     ALL_REDUCE,
     {"slots 1|channel 0|>1 <- in[1]|out[0], >1 <- in[0] + <1 finish|tmp0[1] <- <1", RANK_1},
     "was never written",
     0},
    {"results are the right ones",
     ALL_GATHER,
     {"channel 0|out[1], >1 <- in[0]|out[0] <- <1", "channel 0|out[1], >0 <- in[1]|out[0] <- <0"},
     "block 0 part 0 holds block 1 part 0",
     0},

    {"only equal elements are folded",
     REDUCE_SCATTER,
     {"channel 0|>1 <- in[0]|out[0] <- in[0] + <1 finish", "channel 0|>0 <- in[0]|out[1] <- in[1] + <0 finish"},
     "different elements: block 1",
     0},
    {"ranks that share a result fold alike",
     ALL_REDUCE_3,
     {"channel 0|>1 <- in[0]|>2 <- in[0]|out[0] <- in[0] + <1 + <2 finish",
      "channel 0|>0 <- in[0]|>2 <- in[0]|out[0] <- <0 + in[0] + <2 finish",
      "channel 0|>0 <- in[0]|>1 <- in[0]|out[0] <- in[0] + <0 + <1 finish"},
     "rank 2: in the end",
     0},
    {"a nested fold is another fold",
     ALL_REDUCE_3,
     {"channel 0|>1 <- in[0]|>2 <- in[0]|out[0] <- in[0] + <1 + <2 finish",
      "channel 0|>0 <- in[0]|>2 <- in[0]|out[0] <- <0 + in[0] + <2 finish",
      "slots 1|channel 0|>0 <- in[0]|>1 <- in[0]|tmp0[0] <- <0 + <1|out[0] <- tmp0[0] + in[0] finish"},
     "another order, grouping or width",
     0},
    {"the first two of three commute",
     ALL_REDUCE_3,
     {"channel 0|>1 <- in[0]|>2 <- in[0]|out[0] <- in[0] + <1 + <2 finish",
      "channel 0|>0 <- in[0]|>2 <- in[0]|out[0] <- in[0] + <0 + <2 finish",
      "channel 0|>0 <- in[0]|>1 <- in[0]|out[0] <- <1 + <0 + in[0] finish"},
     NULL,
     0},
    {"width is part of the fold",
     ALL_REDUCE_3,
     {"channel 0|>1 <- in[0]|>2 <- in[0]|out[0] <- in[0] + <1 + <2 finish",
      "channel 0|>0 <- in[0]|>2 <- in[0]|out[0] <- <0 + in[0] + <2 finish wide",
      "channel 0|>0 <- in[0]|>1 <- in[0]|out[0] <- <0 + <1 + in[0] finish"},
     "rank 1: in the end",
     0},
    {"in place the input may be gone",
     ALL_REDUCE,
     {"channel 0|out[0], >1 <- in[1]|out[0] <- in[0]", RANK_1},
     "another block",
     0},
    {"in place the input is read before it is overwritten",
     ALL_REDUCE_3,
     {"channel 0|>1 <- in[0]|out[0] <- in[0] + <1|out[0] <- in[0] + <1", "channel 0|out[0] <- <0|>0 <- in[0]",
      "channel 0"},
     "no longer holds the input",
     1},
    {"declared bits are the folds'",
     ALL_REDUCE "|bits 00000000000000000000000000000000",
     {"channel 0|>1 <- in[1]|out[0], >1 <- in[0] + <1 finish|out[1] <- <1", RANK_1},
     "the order of a fold was changed",
     0},
    /* memory in use */
    {"writes are ordered",
     ALL_GATHER,
     {"channel 0|out[0], >1 <- in[0]|out[1] <- <1|channel 1|out[0] <- in[0]",
      "channel 0|out[1], >0 <- in[1]|out[0] <- <0|channel 1"},
     "nothing orders the two",
     0},
    {"writes are ordered by after",
     ALL_GATHER,
     {"channel 0|out[0], >1 <- in[0]|out[1] <- <1|channel 1|out[0] <- in[0] after 0:2",
      "channel 0|out[1], >0 <- in[1]|out[0] <- <0|channel 1"},
     "may still be lent to rank 1",
     0},
    {"copied departures are free at once",
     ALL_GATHER,
     {"channel 0|out[0], copy>1 <- in[0]|out[1] <- <1|channel 1|out[0] <- in[0] after 0:2",
      "channel 0|out[1], >0 <- in[1]|out[0] <- <0|channel 1"},
     NULL,
     0},
    {"what was taken is free",
     ALL_GATHER,
     {"channel 0|out[0], >1 <- in[0]|out[1] <- <1|out[0] <- in[0]", "channel 0|out[0] <- <0|out[1], >0 <- in[1]"},
     NULL,
     0},
    {"reads are ordered with writes",
     ALL_GATHER,
     {"slots 1|channel 0|tmp0[0] <- in[0]|out[0], >1 <- in[0]|out[1] <- <1|channel 1|out[0] <- tmp0[0]",
      "channel 0|out[1], >0 <- in[1]|out[0] <- <0|channel 1"},
     "may still write it",
     0},
    {"scratch is written before it is read",
     ALL_GATHER,
     {"slots 1|channel 0|out[0] <- tmp0[0]", "channel 0"},
     "holds nothing yet",
     0},
    {"a message alone orders slice by slice: the same place again",
     ALL_GATHER_3,
     {"channel 0|out[0] <- in[0]|out[1] <- <1|out[2] <- <2|>1 <- out[0:2]|out[0:2] <- <1|>1 <- out[0]|>1 <- out[2]|>2 "
      "<- out[0:2]",
      ECHO_1, ECHO_2},
     NULL,
     0},
    {"a message alone orders slice by slice: a later cell",
     ALL_GATHER_3,
     {"channel 0|out[0] <- in[0]|out[1] <- <1|out[2] <- <2|>1 <- out[1:2]|out[0:2] <- <1|>1 <- out[0]|>1 <- out[2]|>2 "
      "<- out[0:2]",
      ECHO_1, ECHO_2},
     "in the end, the output of block 0 part 0 holds block 1",
     0},
    {"a message alone orders slice by slice: not an earlier cell",
     ALL_GATHER_3,
     {"channel 0|out[0] <- in[0]|out[1] <- <1|out[2] <- <2|>1 <- out[0:2]|out[1:2] <- <1|>1 <- out[0]|>1 <- out[2]|>2 "
      "<- out[0:2]",
      ECHO_1, ECHO_2},
     "may still be lent to rank 1",
     0},
    {"a slot is not cut anew while it is lent",
     ALL_TO_ALL,
     {"slots 1|channel 0|tmp0[0/0]?, >1 <- in[1/0]|tmp0[0/1]?, >1 <- in[1/1]",
      "channel 0|out[0/0] <- <0|out[0/1] <- <0"},
     "may still be lent",
     0},
    {"a slot is read as it was cut",
     ALL_TO_ALL,
     {"slots 1|channel 0|tmp0[0/0] <- in[0/0]|out[0/1] <- tmp0[0/1]", "channel 0"},
     "cut in another way",
     0},
    {"operands of a step do not overlap",
     ALL_GATHER_3,
     {"channel 0|out[0] <- in[0]|out[1] <- <1|out[0:2] <- out[1:2]", "channel 0|>0 <- in[1]", "channel 0"},
     "where nothing was written",
     0},
    {"a chunk is not moved onto itself aside",
     ALL_GATHER_3,
     {"channel 0|out[0] <- in[0]|out[1] <- <1|out[2] <- <2|out[0:2] <- out[1:2]", "channel 0|>0 <- in[1]",
      "channel 0|>0 <- in[2]"},
     "overlaps another operand",
     0},
    {"destinations differ", ALL_GATHER, {"channel 0|out[0], out[0] <- in[0]", "channel 0"}, "another destination", 0},
    /* steps by themselves */
    {"the peer exists", ALL_GATHER, {"channel 0|>2 <- in[0]", "channel 0"}, "there are only 2", 0},
    {"no message to itself", ALL_GATHER, {"channel 0|>0 <- in[0]", "channel 0"}, "to itself", 0},
    {"the peer has the channel", ALL_GATHER, {"channel 5|>1 <- in[0]", "channel 0"}, "has no channel 5", 0},
    {"the input is not written", ALL_GATHER, {"channel 0|in[0] <- out[0]", "channel 0"}, "the input is not written", 0},
    {"a buffer of one block has one", ALL_GATHER, {"channel 0|>1 <- in[1]", "channel 0"}, "holds block 0 only", 0},
    {"absent buffers are not used",
     BROADCAST,
     {"channel 0|>1 <- in[0/0]", "channel 0"},
     "has no input in broadcast",
     0},
    {"blocks exist", BROADCAST, {"channel 0|out[2/0] <- <1", "channel 0"}, "outside the layout", 0},
    {"blocks are not negative",
     BROADCAST,
     {"channel 0|repeat 2|out[-i/0] <- <1|end", "channel 0|>0 <- in[0/0]"},
     "outside the layout",
     0},
    {"parts exist", BROADCAST, {"channel 0|out[0/1:2] <- <1", "channel 0"}, "part 1 and following is outside", 0},
    {"several parts are whole", BROADCAST, {"channel 0|out[0/0:2] <- <1", "channel 0"}, "must cover whole parts", 0},
    {"part-major chunks are one run",
     BROADCAST,
     {"channel 0|out[0:1*2@1/0] <- <1", "channel 0"},
     "only block-major",
     0},
    {"runs do not overlap", ALL_GATHER, {"channel 0|out[0:2*2@1] <- <1", "channel 0"}, "overlap at a stride", 0},
    {"slots exist", ALL_GATHER, {"slots 2|channel 0|tmp2[0] <- in[0]", "channel 0"}, "the program has 2", 0},
    {"equal sizes for every count", ALL_TO_ALL, {"channel 0|out[0/1] <- in[0/0]", "channel 0"}, "not equal in size", 0},
    {"something is local", ALL_GATHER, {"channel 0|>1 <- <1", "channel 0"}, "needs a local operand", 0},
    {"what departs stands somewhere",
     ALL_REDUCE,
     {"channel 0|>1 <- in[0] + <1", RANK_1},
     "what departs must stand somewhere",
     0},
    {"what is finished stands somewhere",
     ALL_REDUCE,
     {"channel 0|>1 <- in[0] finish", RANK_1},
     "what departs must stand somewhere",
     0},
    {"a spill departs", ALL_REDUCE, {"channel 0|out[0]? <- in[0]", RANK_1}, "a spill without a departure", 0},
    {"copying collectives do not fold",
     ALL_TO_ALL,
     {"channel 0|out[0/0] <- in[0/0] + in[1/0]", "channel 0"},
     "does not reduce",
     0},
    {"copying collectives do not finish",
     ALL_TO_ALL,
     {"channel 0|out[0/0] <- in[0/0] finish", "channel 0"},
     "no finish",
     0},
    /* absurd input */
    {"steps are not too many",
     ALL_TO_ALL,
     {"channel 0|repeat 2000000000|repeat 2000000000|out[0/0] <- in[0/0]|end|end", "channel 0"},
     "too many to verify",
     0},
    {"nor empty iterations",
     ALL_TO_ALL,
     {"channel 0|repeat 2000000000|repeat 0|out[0/0] <- in[0/0]|end|end", "channel 0"},
     "too many to verify",
     0},
    {"places are not too many",
     "collective broadcast|ranks 1|root 0|layout part-major blocks 2000000000 parts 9",
     {"channel 0|out[0/0] <- in[0/0]"},
     "too many to verify",
     0},
    {"scratch is not too much",
     ALL_TO_ALL,
     {"slots 2000000000|channel 0|tmp0.9[0/0] <- in[0/0]", "channel 0"},
     "too many to verify",
     0},
    {"a place in a slot is near",
     ALL_TO_ALL,
     {"slots 2|channel 0|tmp0.2000000000[0/0] <- in[0/0]", "channel 0"},
     "too far",
     0},
    {"one block per rank",
     "collective all_gather|ranks 2|layout block-major blocks 3 parts 1",
     {"channel 0", "channel 0"},
     "one block per rank",
     0},
    {"an order is a permutation", ALL_GATHER "|order 1 1", {"channel 0", "channel 0"}, "every place below 2 once", 0},
    {"blocks lie where the order says",
     ALL_GATHER "|order 1 0",
     {"channel 0|out[1], >1 <- in[1]|out[0] <- <1", "channel 0|out[0], >0 <- in[0]|out[1] <- <0"},
     NULL,
     1},
};

static mci_schedule* parse_row(const row* r) {
  mci_str text = {0};
  mci_schedule* schedule = NULL;
  mci_str_add(&text, "meshccl-schedule 1\nalgorithm x\n%s\n", r->head);
  for (int i = 0; i < 3 && r->ranks[i]; i++) mci_str_add(&text, "rank %d\n%s\n", i, r->ranks[i]);
  for (char* p = text.text; *p; p++)
    if (*p == '|') *p = '\n';
  if (mci_schedule_parse(text.text, text.length, r->rule, &schedule) != meshcclSuccess)
    fail_msg("%s", mci_error_last());
  mci_str_fini(&text);
  return schedule;
}

static void each_rule_is_enforced_with_a_clear_message(void** state) {
  (void)state;
  int failures = 0;
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    const row* r = &rows[i];
    mci_schedule* schedule = parse_row(r);
    mci_verify_options options = {.in_place = r->in_place};
    mci_error_set("");
    meshcclResult_t result = mci_schedule_verify(schedule, &options, NULL);
    bool as_expected = result == meshcclSuccess;
    if (r->message) as_expected = result == meshcclInvalidUsage && strstr(mci_error_last(), r->message);
    if (!as_expected) {
      failures++;
      print_error("%s: %s: \"%s\", expected \"%s\"\n", r->rule, mci_result_text(result), mci_error_last(),
                  r->message ? r->message : "success");
    }
    mci_schedule_destroy(schedule);
  }
  assert_int_equal(failures, 0);
}

static void errors_name_rank_channel_step_and_iteration(void** state) {
  (void)state;
  row r = {"names",
           BROADCAST,
           {"channel 0|repeat 2|repeat 3|out[i+j/0] <- <1|end|end", "channel 0|repeat 6|>0 <- in[0/0]|end"},
           NULL,
           0};
  mci_schedule* schedule = parse_row(&r);
  check_fails(mci_schedule_verify(schedule, NULL, NULL), meshcclInvalidUsage,
              "rank 0 channel 0 step 3 (out[i+j/0] <- <1, i=0, j=2): ");
  mci_schedule_destroy(schedule);
}

static void more_credits_allow_more_messages_at_once(void** state) {
  (void)state;
  row r = {
      "credits",
      ALL_REDUCE_3,
      {"channel 0|out[0], >1, >2 <- in[0] + <1 + <1 finish",
       "slots 1|channel 0|tmp0[0], >0 <- in[0]|tmp0[0]?, >0 <- <2|out[0] <- <0", "channel 0|>1 <- in[0]|out[0] <- <0"},
      NULL,
      0};
  mci_schedule* schedule = parse_row(&r);
  mci_verify_options options = {.credits = 2};
  mci_verify_report report;
  check_fails(mci_schedule_verify(schedule, NULL, NULL), meshcclInvalidUsage,
              "2 messages of rank 1 at once, with 1 credit");
  check_fails(mci_schedule_verify(schedule, &options, &report), meshcclInvalidUsage, "may still be lent");
  mci_schedule_destroy(schedule);
}

static void ranks_must_agree_on_what_they_run(void** state) {
  (void)state;
  for (int k = 0; k < 4; k++) {
    static const char* const messages[] = {"layouts of ranks 0 and 2 differ", "takes rank 0 for the root",
                                           "rank 2 broadcast", "says that it is rank 1"};
    mci_schedule* schedule = test_schedule_build(&test_schedule_rows[7], 3, 1);
    mci_program* p = schedule->programs[2];
    if (k == 0) p->layout.weights[0] = 2;
    if (k == 1) p->root = 0;
    if (k == 2) p->coll = MCI_BROADCAST;
    if (k == 3) p->rank = 1;
    check_fails(mci_schedule_verify(schedule, NULL, NULL), meshcclInvalidUsage, messages[k]);
    mci_schedule_destroy(schedule);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_rule_is_enforced_with_a_clear_message),
      cmocka_unit_test(errors_name_rank_channel_step_and_iteration),
      cmocka_unit_test(more_credits_allow_more_messages_at_once),
      cmocka_unit_test(ranks_must_agree_on_what_they_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
