/* Sets MESHCCL_* variables for the processes that a test starts next. */
#ifndef MCI_TESTS_API_SETTING_H
#define MCI_TESTS_API_SETTING_H

#include "support/test.h"

/* NULL: unset. Call while no rank runs. */
static inline void set(const char* name, const char* value) {
  if (value) {
    setenv(name, value, 1);
  } else {
    unsetenv(name);
  }
  mci_params_reload();
}

static inline void set_number(const char* name, long value) {
  char text[32];
  snprintf(text, sizeof text, "%ld", value);
  set(name, text);
}
#endif
