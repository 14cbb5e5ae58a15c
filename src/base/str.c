/* Growing text, sizes with suffixes, and the distance between names. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

void mci_str_add(mci_str* str, const char* format, ...) {
  if (str->failed) return;
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, format, args);
  va_end(args);
  if (n >= 0 && str->length + (size_t)n + 1 > str->capacity) {
    size_t capacity = MCI_MAX(str->capacity * 2, str->length + (size_t)n + 64);
    char* text = mci_realloc(str->text, capacity);
    if (text) {
      str->text = text;
      str->capacity = capacity;
    } else {
      str->failed = true;
    }
  }
  if (n >= 0 && !str->failed) {
    vsnprintf(str->text + str->length, str->capacity - str->length, format, again);
    str->length += (size_t)n;
  }
  va_end(again);
}

void mci_str_json(mci_str* str, const char* text) {
  if (!text) {
    mci_str_add(str, "null");
    return;
  }
  mci_str_add(str, "\"");
  for (const unsigned char* p = (const unsigned char*)text; *p; p++) {
    if (*p == '"' || *p == '\\') {
      mci_str_add(str, "\\%c", *p);
    } else if (*p < 32) {
      mci_str_add(str, "\\u%04x", *p);
    } else {
      mci_str_add(str, "%c", *p);
    }
  }
  mci_str_add(str, "\"");
}

meshcclResult_t mci_str_result(const mci_str* str) { return str->failed ? mci_oom(str->capacity) : meshcclSuccess; }

void mci_str_fini(mci_str* str) {
  mci_free(str->text);
  *str = (mci_str){0};
}

meshcclResult_t mci_str_hand_out(const mci_str* str, const char* function, char* text, size_t size, size_t* needed) {
  if (!text && size > 0) MCI_FAIL(meshcclInvalidArgument, "%s: text is NULL and size is %zu", function, size);
  size_t bytes = str->length + 1;
  if (needed) *needed = bytes;
  if (!text) return meshcclSuccess;
  if (bytes > size)
    MCI_FAIL(meshcclInvalidArgument, "%s: the text takes %zu bytes, size is %zu", function, bytes, size);
  memcpy(text, str->text ? str->text : "", bytes);
  return meshcclSuccess;
}

meshcclResult_t mci_parse_size(const char* text, const char* what, uint64_t* out) {
  char* end;
  double value = strtod(text, &end);
  static const char suffixes[] = "KMGT";
  const char* suffix = *end ? strchr(suffixes, toupper((unsigned char)*end)) : NULL;
  int power = 0;
  if (suffix) {
    power = (int)(suffix - suffixes) + 1;
    end++;
    if (*end == 'i') end++;
  }
  if (*end == 'B' || *end == 'b') end++;
  double bytes = value * (double)(1ull << (10 * power));
  if (end == text || *end || !isdigit((unsigned char)text[0]) || !(bytes >= 0 && bytes < 9e18))
    MCI_FAIL(meshcclInvalidArgument, "%s: \"%s\" is not a size; write a number of bytes such as 4096, 64K, 1.5M or 2G",
             what, text);
  *out = (uint64_t)bytes;
  return meshcclSuccess;
}

unsigned mci_distance(const char* a, const char* b) {
  size_t n = strlen(a), m = strlen(b);
  unsigned row[65];
  if (n > 64 || m > 64) return 64;
  for (size_t j = 0; j <= m; j++) row[j] = (unsigned)j;
  for (size_t i = 1; i <= n; i++) {
    unsigned diagonal = row[0];
    row[0] = (unsigned)i;
    for (size_t j = 1; j <= m; j++) {
      unsigned up = row[j];
      unsigned cost = diagonal + (a[i - 1] != b[j - 1]);
      row[j] = MCI_MIN(MCI_MIN(up, row[j - 1]) + 1, cost);
      diagonal = up;
    }
  }
  return row[m];
}
