/* Output of the ranks: each line goes out whole, behind its rank's label, so that lines of several ranks do not mix. A
 * last line without an end gets one. A line longer than LONGEST is cut into several. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/run.h"

#define LONGEST (64u << 10)

void mci_run_write_all(int fd, const char* data, size_t bytes) {
  while (bytes > 0) {
    ssize_t n = write(fd, data, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN && poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1) >= 0) continue;
    if (n < 0) return;
    data += n;
    bytes -= (size_t)n;
  }
}

static void print_line(mci_run_stream* stream) {
  stream->line[stream->length++] = '\n';
  stream->run->front->write(stream->run, stream->out, stream->line, stream->length);
  stream->length = 0;
}

/* The label stands at the start of the buffer of every line; there is always room for the end of the line. */
static bool add(mci_run_stream* stream, const char* data, size_t bytes) {
  char label[24];
  bool begins = stream->length == 0 && stream->run->label;
  size_t labelled = begins ? (size_t)snprintf(label, sizeof label, "[%d] ", stream->rank) : 0;
  size_t need = stream->length + labelled + bytes + 1;
  if (need > stream->capacity) {
    char* grown = mci_realloc(stream->line, MCI_MAX(need, 2 * stream->capacity));
    if (!grown) return false;
    stream->line = grown;
    stream->capacity = MCI_MAX(need, 2 * stream->capacity);
  }
  memcpy(stream->line + stream->length, label, labelled);
  memcpy(stream->line + stream->length + labelled, data, bytes);
  stream->length += labelled + bytes;
  return true;
}

static void print_lines(mci_run_stream* stream, const char* data, size_t bytes) {
  while (bytes > 0) {
    const char* end = memchr(data, '\n', bytes);
    size_t n = end ? (size_t)(end - data) : bytes;
    if (!add(stream, data, n)) return;
    if (end || stream->length > LONGEST) print_line(stream);
    n += end != NULL;
    data += n;
    bytes -= n;
  }
}

void mci_run_stream_read(mci_run_stream* stream) {
  char data[16384];
  ssize_t n = read(stream->fd, data, sizeof data);
  if (n > 0) print_lines(stream, data, (size_t)n);
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) mci_run_stream_close(stream);
}

void mci_run_stream_close(mci_run_stream* stream) {
  if (stream->fd < 0) return;
  if (stream->length > 0) print_line(stream);
  close(stream->fd);
  mci_free(stream->line);
  *stream = (mci_run_stream){.fd = -1};
}
