/* Characters, words and numbers for parse.c. Never reads past `end`; the text needs no NUL. */
#include "sched/scan.h"

#include <stdio.h>
#include <string.h>

void mci_scan_start(mci_scan* scan, const char* text, size_t bytes, const char* name) {
  *scan = (mci_scan){.name = name, .at = text, .end = text + bytes, .line_start = text, .line = 1};
}

meshcclResult_t mci_scan_fail(const mci_scan* scan, const char* format, ...) {
  char message[512];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  MCI_FAIL(meshcclInvalidArgument, "%s:%u:%zu: %s", scan->name, scan->line, (size_t)(scan->at - scan->line_start) + 1,
           message);
}

static bool next_is(const mci_scan* scan, char c) { return scan->at < scan->end && *scan->at == c; }

static bool word_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

void mci_scan_blanks(mci_scan* scan) {
  while (next_is(scan, ' ') || next_is(scan, '\t') || next_is(scan, '\r')) scan->at++;
  if (next_is(scan, '#'))
    while (scan->at < scan->end && *scan->at != '\n') scan->at++;
}

bool mci_scan_text_done(const mci_scan* scan) { return scan->at == scan->end; }

bool mci_scan_line_done(mci_scan* scan) {
  mci_scan_blanks(scan);
  return scan->at == scan->end || *scan->at == '\n';
}

meshcclResult_t mci_scan_next_line(mci_scan* scan) {
  if (!mci_scan_line_done(scan))
    return mci_scan_fail(scan, "more text than the line can have; remove it or begin a new line");
  while (scan->at < scan->end && mci_scan_line_done(scan)) {
    if (scan->at == scan->end) break;
    scan->at++;
    scan->line++;
    scan->line_start = scan->at;
  }
  return meshcclSuccess;
}

bool mci_scan_char(mci_scan* scan, char c) {
  if (!next_is(scan, c)) return false;
  scan->at++;
  return true;
}

bool mci_scan_word(mci_scan* scan, const char* word) {
  mci_scan_blanks(scan);
  size_t length = strlen(word);
  if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, word, length) != 0) return false;
  if (scan->at + length < scan->end && word_char(scan->at[length])) return false;
  scan->at += length;
  return true;
}

meshcclResult_t mci_scan_name(mci_scan* scan, const char* what, char* out, size_t size) {
  mci_scan_blanks(scan);
  size_t length = 0;
  while (scan->at + length < scan->end && (word_char(scan->at[length]) || scan->at[length] == '-')) length++;
  if (length == 0) return mci_scan_fail(scan, "%s is missing here", what);
  if (length >= size)
    return mci_scan_fail(scan, "%s has %zu characters; at most %zu are allowed", what, length, size - 1);
  memcpy(out, scan->at, length);
  out[length] = 0;
  scan->at += length;
  return meshcclSuccess;
}

bool mci_scan_digit(const mci_scan* scan) { return scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9'; }

meshcclResult_t mci_scan_number(mci_scan* scan, const char* what, uint64_t low, uint64_t high, uint64_t* out) {
  mci_scan start = *scan;
  uint64_t value = 0;
  if (!mci_scan_digit(scan)) return mci_scan_fail(scan, "%s is missing here; write a number", what);
  for (; mci_scan_digit(scan); scan->at++) {
    if (value > high / 10) value = high / 10 + 1; /* stays too large, cannot overflow: high fits 32 bits */
    value = value * 10 + (uint64_t)(*scan->at - '0');
  }
  if (value < low || value > high)
    return mci_scan_fail(&start, "%s must be %llu .. %llu", what, (unsigned long long)low, (unsigned long long)high);
  *out = value;
  return meshcclSuccess;
}

meshcclResult_t mci_scan_u32(mci_scan* scan, const char* what, uint32_t low, uint32_t high, uint32_t* out) {
  uint64_t value = 0;
  mci_scan_blanks(scan);
  MCI_TRY(mci_scan_number(scan, what, low, high, &value));
  *out = (uint32_t)value;
  return meshcclSuccess;
}
