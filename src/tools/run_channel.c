/* Frames between a launcher and its agents, see run_hosts.h. Knows nothing of what they mean, apart from the content of
 * START. Whatever a peer sends, a frame is at most MCI_RUN_FRAME_MAX bytes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/run_hosts.h"

#define HEAD 5

/* ---- bytes ---- */

void mci_run_bytes_add(mci_run_bytes* bytes, const void* data, size_t n) {
  if (bytes->failed || n == 0) return;
  if (bytes->n + n > bytes->cap) {
    size_t cap = MCI_MAX(bytes->n + n, 2 * bytes->cap);
    char* grown = mci_realloc(bytes->data, cap);
    if (!grown) {
      bytes->failed = true;
      return;
    }
    bytes->data = grown;
    bytes->cap = cap;
  }
  memcpy(bytes->data + bytes->n, data, n);
  bytes->n += n;
}

void mci_run_bytes_text(mci_run_bytes* bytes, const char* text) { mci_run_bytes_add(bytes, text, strlen(text) + 1); }

void mci_run_bytes_number(mci_run_bytes* bytes, int number) {
  char text[16];
  snprintf(text, sizeof text, "%d", number);
  mci_run_bytes_text(bytes, text);
}

void mci_run_bytes_drop(mci_run_bytes* bytes, size_t n) {
  if (n == 0) return;
  memmove(bytes->data, bytes->data + n, bytes->n - n);
  bytes->n -= n;
}

void mci_run_bytes_free(mci_run_bytes* bytes) {
  mci_free(bytes->data);
  *bytes = (mci_run_bytes){0};
}

/* ---- the channel ---- */

void mci_run_channel_flush(mci_run_channel* channel) {
  mci_run_bytes* due = &channel->due;
  size_t sent = 0;
  while (channel->out >= 0 && sent < due->n) {
    ssize_t n = write(channel->out, due->data + sent, due->n - sent);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) { /* nobody reads any more; the end of the other direction tells why */
      close(channel->out);
      channel->out = -1;
      break;
    }
    sent += (size_t)n;
  }
  mci_run_bytes_drop(due, channel->out < 0 ? due->n : sent);
}

void mci_run_channel_send(mci_run_channel* channel, mci_run_frame_type type, const void* data, size_t n) {
  if (channel->out < 0) return;
  unsigned char head[HEAD] = {(unsigned char)(n >> 24), (unsigned char)(n >> 16), (unsigned char)(n >> 8),
                              (unsigned char)n, (unsigned char)type};
  mci_run_bytes_add(&channel->due, head, sizeof head);
  mci_run_bytes_add(&channel->due, data, n);
  channel->broken |= channel->due.failed;
  mci_run_channel_flush(channel);
}

void mci_run_channel_read(mci_run_channel* channel) {
  char data[65536];
  ssize_t n = read(channel->in, data, sizeof data);
  if (n > 0) mci_run_bytes_add(&channel->got, data, (size_t)n);
  channel->broken |= channel->got.failed;
  channel->ended |= n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

bool mci_run_channel_next(mci_run_channel* channel, mci_run_frame* out) {
  mci_run_bytes* got = &channel->got;
  if (got->n < HEAD || channel->broken) return false;
  const unsigned char* head = (const unsigned char*)got->data;
  size_t n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
  if (n > MCI_RUN_FRAME_MAX) {
    channel->broken = true;
    return false;
  }
  if (got->n < HEAD + n) return false;
  char* copy = mci_alloc(n + 1);
  if (!copy) {
    channel->broken = true;
    return false;
  }
  memcpy(copy, got->data + HEAD, n);
  *out = (mci_run_frame){.type = (mci_run_frame_type)head[4], .data = copy, .base = copy, .n = n};
  mci_run_bytes_drop(got, HEAD + n);
  return true;
}

void mci_run_frame_free(mci_run_frame* frame) {
  mci_free(frame->base);
  *frame = (mci_run_frame){0};
}

void mci_run_channel_close(mci_run_channel* channel) {
  if (channel->in >= 0) close(channel->in);
  if (channel->out >= 0) close(channel->out);
  mci_run_bytes_free(&channel->got);
  mci_run_bytes_free(&channel->due);
  channel->in = channel->out = -1;
}

/* ---- texts in frames ---- */

char* mci_run_take_text(mci_run_frame* frame) {
  if (frame->n == 0) return NULL;
  char* text = frame->data;
  size_t n = strlen(text) + 1; /* ends at the zero byte behind the frame at the latest */
  n = MCI_MIN(n, frame->n);
  frame->data += n;
  frame->n -= n;
  return text;
}

int mci_run_take_number(mci_run_frame* frame) {
  const char* text = mci_run_take_text(frame);
  return text ? atoi(text) : 0;
}

/* ---- START ---- */

void mci_run_job_pack(const mci_run_job* job, mci_run_bytes* out) {
  const int numbers[] = {job->folder_wanted, job->first, job->nlocal, job->nranks, job->label, job->listens, job->bind};
  mci_run_bytes_text(out, job->folder);
  for (size_t i = 0; i < MCI_COUNT(numbers); i++) mci_run_bytes_number(out, numbers[i]);
  mci_run_bytes_text(out, job->topo);
  mci_run_bytes_number(out, job->nexports);
  for (int i = 0; i < job->nexports; i++) mci_run_bytes_text(out, job->exports[i]);
  mci_run_bytes_number(out, job->nwords);
  for (int i = 0; i < job->nwords; i++) mci_run_bytes_text(out, job->words[i]);
}

/* A list of texts behind its length. Each takes a byte at least, so that a length from nowhere asks for no memory. */
static bool take_list(mci_run_frame* frame, int* n_out, char*** out) {
  int n = mci_run_take_number(frame);
  if (n < 0 || (size_t)n > frame->n) return false;
  char** list = mci_alloc(((size_t)n + 1) * sizeof *list);
  if (!list) return false;
  *out = list;
  *n_out = n;
  for (int i = 0; i < n; i++)
    if (!(list[i] = mci_run_take_text(frame))) return false;
  return true;
}

bool mci_run_job_unpack(mci_run_frame* frame, mci_run_job* out) {
  mci_run_job job = {.folder = mci_run_take_text(frame)};
  int* const numbers[] = {&job.folder_wanted, &job.first,   &job.nlocal, &job.nranks,
                          &job.label,         &job.listens, &job.bind};
  for (size_t i = 0; i < MCI_COUNT(numbers); i++) *numbers[i] = mci_run_take_number(frame);
  job.topo = mci_run_take_text(frame);
  bool good = job.folder && job.topo && take_list(frame, &job.nexports, &job.exports) &&
              take_list(frame, &job.nwords, &job.words) && job.nwords > 0 && job.first >= 0 && job.nlocal > 0 &&
              job.nranks <= MCI_RUN_MAX_RANKS && job.first <= job.nranks - job.nlocal;
  if (good)
    *out = job;
  else
    mci_run_job_free(&job);
  return good;
}

void mci_run_job_free(mci_run_job* job) {
  mci_free(job->exports);
  mci_free(job->words);
  *job = (mci_run_job){0};
}
