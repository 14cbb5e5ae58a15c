/* Feeds a fuzz target without a fuzzer: every file of the folders given, then cut and damaged copies of each, from a fixed
 * seed. A property that fails aborts. Run by ctest. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#define DAMAGED_COPIES 200

static uint64_t next(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

static void damage(uint8_t* data, size_t* size, uint64_t* state) {
  for (uint64_t k = next(state) % 4; k > 0 && *size > 0; k--) {
    size_t from = next(state) % *size, to = next(state) % *size, most = *size - (from > to ? from : to);
    memmove(data + to, data + from, next(state) % 12 % (most + 1));
    if (next(state) % 2) data[next(state) % *size] = (uint8_t)next(state);
  }
  if (next(state) % 4 == 0) *size = *size ? next(state) % *size : 0;
}

static void replay(const uint8_t* original, size_t length) {
  uint64_t state = 0x9e3779b97f4a7c15u + length;
  for (int copy = 0; copy <= DAMAGED_COPIES; copy++) {
    size_t size = length;
    uint8_t* data = malloc(length + 1);
    if (!data) abort();
    memcpy(data, original, length);
    if (copy) damage(data, &size, &state);
    uint8_t* exact = malloc(size ? size : 1); /* its end is the end of the memory: overruns show */
    if (!exact) abort();
    memcpy(exact, data, size);
    free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
  }
}

static void replay_file(const char* path) {
  FILE* file = fopen(path, "rb");
  static uint8_t data[1 << 16];
  if (!file) {
    perror(path);
    exit(1);
  }
  size_t size = fread(data, 1, sizeof data, file);
  fclose(file);
  replay(data, size);
}

static unsigned replay_folder(const char* folder) {
  unsigned files = 0;
  DIR* dir = opendir(folder);
  if (!dir) {
    perror(folder);
    exit(1);
  }
  for (struct dirent* entry; (entry = readdir(dir));) {
    char path[4096];
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    replay_file(path);
    files++;
  }
  closedir(dir);
  return files;
}

int main(int argc, char** argv) {
  unsigned files = 0;
  for (int i = 1; i < argc; i++) files += replay_folder(argv[i]);
  printf("%u files, %d damaged copies of each\n", files, DAMAGED_COPIES);
  return files ? 0 : 1;
}
