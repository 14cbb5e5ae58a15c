/* Result codes as text and the thread's last error message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

static _Thread_local char last_message[1024];

meshcclResult_t mci_fail(meshcclResult_t result, const char* format, ...) {
  char message[sizeof last_message];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  memcpy(last_message, message, sizeof last_message);
  MCI_INFO("%s: %s", mci_result_text(result), last_message);
  return result;
}

const char* mci_error_last(void) { return last_message; }

void mci_error_set(const char* message) { snprintf(last_message, sizeof last_message, "%s", message); }

const char* mci_result_text(meshcclResult_t result) {
  static const char* const texts[meshcclNumResults] = {
      "no error",         "unhandled device error", "system error", "internal error",
      "invalid argument", "invalid usage",          "remote error", "in progress",
      "timeout",          "not supported",          "busy"};
  return result >= 0 && result < meshcclNumResults ? texts[result] : "unknown result code";
}

#ifndef NDEBUG
void mci_assert_failed(const char* expression, const char* file, int line) {
  fprintf(stderr, "meshccl: %s:%d: broken invariant: %s\n", file, line, expression);
  abort();
}
#endif
