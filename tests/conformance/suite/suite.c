/* Makes the CMocka tests of one subject: each rule of the tables in each mode that the subject can. */
#include "suite.h"

#include "base/globals.h"
#include "cases.h"
#include "transport/registry.h"

#define MAX_TESTS 160

typedef struct {
  const suite_subject* subject;
  const suite_traffic* traffic; /* or */
  const suite_case* rule;
  suite_mode mode;
  char name[128];
} plan;

static const char* const mode_names[] = {"one thread", "threads", "processes", "launched"};

/* Forked children inherit what their parent opened: their cases come before those that open contexts here. */
static const suite_mode mode_order[] = {MODE_PROCESSES, MODE_ONE_THREAD, MODE_THREADS, MODE_LAUNCHED};

static bool mode_possible(const suite_subject* subject, suite_mode mode) {
  switch (mode) {
    case MODE_ONE_THREAD:
      return true;
    case MODE_THREADS:
      return (subject->traits & SUITE_THREADS) != 0;
    case MODE_PROCESSES:
      return (subject->traits & SUITE_FORK) && !subject->launcher;
    case MODE_LAUNCHED:
      return subject->launcher != NULL;
  }
  return false;
}

/* A context that reaches only itself has nobody to be late, to leave or to die. */
static bool traffic_possible(const suite_subject* subject, const suite_traffic* traffic) {
  if (!(subject->traits & SUITE_SELF_ONLY)) return true;
  return traffic->parties == 2 && !(traffic->flags & (TRAFFIC_DISCONNECT | TRAFFIC_LATE_CONNECT));
}

static void run_plan(void** state) {
  plan* p = *state;
  if (p->traffic)
    traffic_run(p->subject, p->traffic, p->mode);
  else
    p->rule->run(p->subject, p->mode);
}

static void plan_add(struct CMUnitTest* tests, plan* plans, size_t* n, plan p, const char* rule) {
  const char* variant = p.subject->variant;
  assert_true(*n < MAX_TESTS);
  plans[*n] = p;
  snprintf(plans[*n].name, sizeof plans[*n].name, "%s%s%s: %s (%s)", p.subject->transport->name, variant ? " " : "",
           variant ? variant : "", rule, mode_names[p.mode]);
  tests[*n] = (struct CMUnitTest){.name = plans[*n].name, .test_func = run_plan, .initial_state = &plans[*n]};
  ++*n;
}

/* Launched ranks check each other's payloads, so they take the seed of rank 0. */
static void agree_on_seed(const suite_launcher* launcher) {
  uint64_t mine = mci_now_ns() | 1, all[SUITE_MAX_PARTIES];
  char text[32];
  assert_true(launcher->nranks <= SUITE_MAX_PARTIES);
  launcher->gather(&mine, all, sizeof mine);
  snprintf(text, sizeof text, "%llu", (unsigned long long)all[0]);
  setenv("MESHCCL_TESTS_SEED", text, 0);
}

/* MESHCCL_FAULT: the transport as the registry gives it out, with the faults in front. */
static void put_faults(suite_subject* subject) {
  const meshcclTransport_t* list[MCI_COUNT(((struct mci_globals*)0)->transports)];
  uint32_t n = 0;
  check_ok(mci_transport_register(subject->transport));
  check_ok(mci_transport_list(list, &n, MCI_COUNT(list)));
  assert_int_equal(n, 1);
  subject->transport = list[0];
}

int suite_run(const suite_subject* given) {
  static suite_subject here;
  const suite_subject* subject = &here;
  here = *given;
  if (mci_env("MESHCCL_FAULT")) put_faults(&here);
  static struct CMUnitTest tests[MAX_TESTS];
  static plan plans[MAX_TESTS];
  size_t n = 0;
  for (size_t m = 0; m < MCI_COUNT(mode_order); m++) {
    suite_mode mode = mode_order[m];
    if (!mode_possible(subject, mode)) continue;
    for (size_t i = 0; i < suite_cases_count; i++)
      if ((suite_cases[i].modes >> mode & 1) && (suite_cases[i].traits & ~subject->traits) == 0)
        plan_add(tests, plans, &n, (plan){subject, NULL, &suite_cases[i], mode, ""}, suite_cases[i].rule);
    for (size_t i = 0; i < suite_traffics_count; i++)
      if ((suite_traffics[i].modes >> mode & 1) && traffic_possible(subject, &suite_traffics[i]))
        plan_add(tests, plans, &n, (plan){subject, &suite_traffics[i], NULL, mode, ""}, suite_traffics[i].rule);
  }
  const char* only = mci_env("MESHCCL_TESTS_ONLY");
  if (only) cmocka_set_test_filter(only);
  if (subject->launcher) agree_on_seed(subject->launcher);
  test_seed(); /* before any fork: all processes use one */
  return _cmocka_run_group_tests(subject->transport->name, tests, n, NULL, NULL);
}

int suite_skip(const char* transport, const char* why) {
  printf("SKIPPED: the conformance suite did not run for the transport %s: %s\n", transport, why);
  return 77;
}
