/* Our few declarations of the PMIx ABI against the header, where it is installed. */
#include "boot/pmix_abi.h"
#include "support/test.h"

#ifdef MESHCCL_HAVE_PMIX_HEADER
#include <pmix.h> /* declarations only: the library is not linked */

#define SAME(theirs, ours) _Static_assert((theirs) == (ours), #theirs)
SAME(sizeof(pmix_proc_t), sizeof(mci_pmix_proc));
SAME(offsetof(pmix_proc_t, rank), offsetof(mci_pmix_proc, rank));
SAME(sizeof(pmix_value_t), sizeof(mci_pmix_value));
SAME(offsetof(pmix_value_t, data), offsetof(mci_pmix_value, data));
SAME(sizeof(pmix_info_t), sizeof(mci_pmix_info));
SAME(offsetof(pmix_info_t, flags), offsetof(mci_pmix_info, flags));
SAME(offsetof(pmix_info_t, value), offsetof(mci_pmix_info, value));
SAME(PMIX_BOOL, MCI_PMIX_BOOL);
SAME(PMIX_STRING, MCI_PMIX_STRING);
SAME(PMIX_INT, MCI_PMIX_INT);
SAME(PMIX_UINT16, MCI_PMIX_UINT16);
SAME(PMIX_UINT32, MCI_PMIX_UINT32);
SAME(PMIX_GLOBAL, MCI_PMIX_GLOBAL);
SAME((PMIX_RANK_WILDCARD), MCI_PMIX_WILDCARD);

static void the_names_are_the_headers(void** state) {
  (void)state;
  assert_string_equal(PMIX_JOB_SIZE, "pmix.job.size");
  assert_string_equal(PMIX_LOCAL_SIZE, "pmix.local.size");
  assert_string_equal(PMIX_LOCAL_RANK, "pmix.lrank");
  assert_string_equal(PMIX_COLLECT_DATA, "pmix.collect");
  assert_string_equal(PMIX_TIMEOUT, "pmix.timeout");
  assert_int_equal(PMIX_SUCCESS, 0);
}
#else
static void the_names_are_the_headers(void** state) {
  (void)state;
  print_message("pmix.h is not installed: not compared\n");
  skip();
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_names_are_the_headers)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
