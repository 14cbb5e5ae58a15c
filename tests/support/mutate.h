/* Breaks schedules on purpose, one small change at a time, and checks that the verifier objects. */
#ifndef MCI_TEST_MUTATE_H
#define MCI_TEST_MUTATE_H

#include "sched/sched.h"

typedef enum {
  MUTANT_DROP,      /* a step is left out */
  MUTANT_SWAP,      /* two adjacent steps change places */
  MUTANT_DUPLICATE, /* a step runs twice */
  MUTANT_REDIRECT,  /* a lane goes to, or comes from, the next rank */
  MUTANT_BLOCK,     /* one local operand names the next block */
  MUTANT_BLOCKS,    /* all local operands of a step do */
  MUTANT_PART,      /* one local operand names the next part */
  MUTANT_PARTS,     /* all do */
  MUTANT_RUN,       /* one local operand is a block longer */
  MUTANT_SLOT,      /* a scratch operand names the next slot */
  MUTANT_SKIP,      /* ... the next place in its slot */
  MUTANT_DROP_AFTER,
  MUTANT_EARLY_AFTER, /* waits for one step less */
  MUTANT_DROP_COPY,
  MUTANT_FINISH,     /* set where it was not, or the reverse */
  MUTANT_WIDE,       /* likewise */
  MUTANT_SPILL,      /* likewise */
  MUTANT_FOLD_ORDER, /* two adjacent sources change places */
  MUTANT_DROP_OPERAND,
  MUTANT_BUFFER,  /* the output is read instead of the input */
  MUTANT_WEIGHTS, /* one rank cuts its parts by other weights */
  NUM_MUTANTS
} mutant_kind;

typedef struct {
  mutant_kind kind;
  uint32_t rank, channel, step; /* channel by index, step from 0, repeats unrolled */
  uint32_t operand;             /* operand or after condition */
} mutation;

extern const char* const mutant_names[NUM_MUTANTS];

/* The same schedule without repeats. */
mci_schedule* test_unroll(const mci_schedule* schedule);
/* The mutant, or NULL where the mutation does not apply. `unrolled` comes from test_unroll. */
mci_schedule* test_mutant(const mci_schedule* unrolled, const mutation* mutation);

typedef struct {
  uint64_t tried[NUM_MUTANTS], accepted[NUM_MUTANTS];
} mutant_tally;

/* Verifies the schedule in and out of place, then every mutant of it (or `sample` random tries; 0: all). A mutant
 * must be rejected in one of the two. The few that are accepted must be of a kind that can be harmless (see the table
 * of rules in mutate.c), keep the digest, and give right results on real data under adversarial orders. */
void test_all_mutants(const char* what, mci_schedule* schedule, uint64_t sample, mutant_tally* tally);
#endif
