/* Any bytes: the parser refuses them or gives a schedule that prints, parses back and prints the same; the verifier then
 * accepts or refuses it without harm. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "sched/sched.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

static void require(bool holds) {
  if (!holds) abort();
}

/* Large but legal programs would only cost time here. */
static bool small(const mci_schedule* schedule) {
  uint64_t steps = 0;
  for (uint32_t r = 0; r < schedule->nranks; r++) {
    const mci_program* p = schedule->programs[r];
    if (p->nslots > 1000 || p->layout.nblocks > 1000) return false;
    for (uint32_t c = 0; c < p->nchannels; c++)
      for (uint32_t i = 0; i < p->channels[c].ninstrs; i++) steps += p->channels[c].instrs[i].count;
  }
  return steps < 1000;
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mci_schedule *schedule, *back;
  mci_str first = {0}, second = {0};
  if (mci_schedule_parse((const char*)data, size, "fuzz", &schedule) != meshcclSuccess) return 0;
  require(mci_schedule_print(schedule, &first) == meshcclSuccess);
  require(mci_schedule_parse(first.text, first.length, "printed", &back) == meshcclSuccess);
  require(mci_schedule_print(back, &second) == meshcclSuccess);
  require(first.length == second.length && memcmp(first.text, second.text, first.length) == 0);
  for (int in_place = 0; in_place < 2 && small(schedule); in_place++) {
    mci_verify_options options = {.in_place = in_place};
    mci_verify_report report;
    meshcclResult_t result = mci_schedule_verify(schedule, &options, &report);
    require(result == meshcclSuccess || result == meshcclInvalidUsage);
  }
  mci_str_fini(&first);
  mci_str_fini(&second);
  mci_schedule_destroy(schedule);
  mci_schedule_destroy(back);
  return 0;
}
