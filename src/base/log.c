/* The log: one line per message, written with one write so that lines of several processes do not mix. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/globals.h"

static void expand_file_name(const char* pattern, char* out, size_t size) {
  size_t n = 0;
  for (const char* p = pattern; *p && n + 1 < size; p++) {
    if (p[0] == '%' && (p[1] == 'p' || p[1] == 'h')) {
      char host[64] = "";
      if (p[1] == 'h') gethostname(host, sizeof host - 1);
      int k =
          p[1] == 'p' ? snprintf(out + n, size - n, "%ld", (long)getpid()) : snprintf(out + n, size - n, "%s", host);
      n = MCI_MIN(n + (size_t)k, size - 1);
      p++;
    } else {
      out[n++] = *p;
    }
  }
  out[n] = 0;
}

static int sink(void) {
  pthread_mutex_lock(&mci_globals.lock);
  if (mci_globals.log_fd == 0) {
    const char* pattern = mci_globals.params[MCI_P_DEBUG_FILE].text;
    int fd = -1;
    if (pattern) {
      char name[4096];
      expand_file_name(pattern, name, sizeof name);
      fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    }
    mci_globals.log_fd = fd >= 0 ? fd : STDERR_FILENO;
  }
  int fd = mci_globals.log_fd;
  pthread_mutex_unlock(&mci_globals.lock);
  return fd;
}

/* While the parameters are being read only warnings are shown, so that reading them may itself report. */
bool mci_log_on(mci_log_level level) {
  if (!atomic_load_explicit(&mci_globals.params_ready, memory_order_acquire)) return level <= MCI_LOG_WARN;
  return (int64_t)level <= mci_param_int(MCI_P_DEBUG);
}

void mci_log_write(mci_log_level level, const char* format, ...) {
  static const char* const names[] = {"", "error", "warn", "info", "trace"};
  if (!mci_log_on(level)) return;
  char line[2048];
  int n = snprintf(line, sizeof line, "meshccl[%ld] %s: ", (long)getpid(), names[level]);
  va_list args;
  va_start(args, format);
  int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
  va_end(args);
  size_t length = MCI_MIN((size_t)n + (size_t)MCI_MAX(m, 0), sizeof line - 2);
  line[length++] = '\n';
  ssize_t ignored = write(sink(), line, length);
  (void)ignored;
}
