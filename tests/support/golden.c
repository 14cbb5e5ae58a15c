#include "golden.h"

#include "test.h"

void check_golden(const char* path, const char* text) {
  FILE* file = fopen(path, "r");
  if (!file) fail_msg("%s cannot be read", path);
  char line[512];
  unsigned number = 0;
  while (fgets(line, sizeof line, file)) {
    number++;
    size_t length = strlen(line);
    if (strncmp(text, line, length) != 0)
      fail_msg("line %u of %s is\n%sbut now it is\n%.*s", number, path, line, (int)strcspn(text, "\n"), text);
    text += length;
  }
  fclose(file);
  if (*text) fail_msg("%s ends at line %u, but there is more: %.*s", path, number, (int)strcspn(text, "\n"), text);
}

int update_golden(const char* path, const char* text) {
  FILE* file = fopen(path, "w");
  if (file && fputs(text, file) >= 0 && fclose(file) == 0) return 0;
  perror(path);
  return 1;
}
