/* Topologies as text, for the tests of what may be written. */
#ifndef TEST_SPECS_H
#define TEST_SPECS_H

#include "support/test.h"
#include "topo/graph.h"

static inline mci_topo* parse(const char* spec) {
  mci_topo* topo = NULL;
  if (mci_topo_parse(spec, &topo) != meshcclSuccess) fail_msg("%s: %s", spec, mci_error_last());
  return topo;
}

static inline void expect_text(const char* what, const mci_topo* topo, const char* text) {
  mci_str out = {0};
  check_ok(mci_topo_print(topo, &out));
  if (strcmp(out.text, text) != 0) fail_msg("%s: printed %s, expected %s", what, out.text, text);
  mci_str_fini(&out);
}

/* Rows of a text and its canonical form, which reads back as itself. */
static inline void expect_canonical(const char* const rows[][2], size_t n) {
  for (size_t i = 0; i < n; i++)
    for (unsigned again = 0; again < 2; again++) {
      mci_topo* topo = parse(rows[i][again]);
      expect_text(rows[i][again], topo, rows[i][1]);
      mci_topo_destroy(topo);
    }
}

/* Rows of a wrong text and two parts of what is said about it. */
static inline void expect_mistakes(const char* const rows[][3], size_t n) {
  for (size_t i = 0; i < n; i++) {
    mci_topo* topo = NULL;
    meshcclResult_t result = mci_topo_parse(rows[i][0], &topo);
    if (result != meshcclInvalidArgument || topo) fail_msg("%s: %s", rows[i][0], mci_result_text(result));
    for (int part = 1; part < 3; part++)
      if (!strstr(mci_error_last(), rows[i][part]))
        fail_msg("%s: \"%s\" lacks \"%s\"", rows[i][0], mci_error_last(), rows[i][part]);
  }
}
#endif
