/* Inside the suite: the cases that are not traffic. Each takes the subject and fails through suite_fail or CMocka. */
#ifndef MCI_CONFORMANCE_CASES_H
#define MCI_CONFORMANCE_CASES_H

#include "traffic.h"

typedef struct {
  const char* rule;
  void (*run)(const suite_subject* subject, suite_mode mode);
  uint32_t modes;
  uint32_t traits; /* all of these are needed */
} suite_case;

/* The table of traffic rules and the table of the others. */
extern const suite_traffic suite_traffics[];
extern const size_t suite_traffics_count;
extern const suite_case suite_cases[];
extern const size_t suite_cases_count;

/* cases_life.c */
void case_cycle_leaves_nothing(const suite_subject* subject, suite_mode mode);
void case_reach_knows_its_addresses(const suite_subject* subject, suite_mode mode);
void case_errors_have_a_cause(const suite_subject* subject, suite_mode mode);
void case_any_thread_may_drive(const suite_subject* subject, suite_mode mode);
/* cases_wait.c */
void case_armed_handle_wakes(const suite_subject* subject, suite_mode mode);
void case_idle_handle_calms_down(const suite_subject* subject, suite_mode mode);
/* cases_memory.c */
void case_map_shows_writes(const suite_subject* subject, suite_mode mode);
void case_get_reads_the_bytes(const suite_subject* subject, suite_mode mode);
void case_put_writes_the_bytes(const suite_subject* subject, suite_mode mode);

/* Two connected parties in this process (one, linked to itself, where the subject is SUITE_SELF_ONLY). */
typedef struct {
  suite_party parties[2];
  int n;
  suite_link *forth, *back; /* from the first to the last party and its other end */
} suite_pair;
void pair_open(suite_pair* pair, const suite_subject* subject, suite_world* world);
/* Sends one message of `bytes` from first to last and pumps until it is there and over. */
void pair_exchange(suite_pair* pair, size_t bytes);
void pair_close(suite_pair* pair);
#endif
