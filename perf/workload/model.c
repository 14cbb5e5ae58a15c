/* Reads the lines into memory, then walks them with a stack of open repeats. */
#include "perf/workload/model.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEEPEST = 8, LINE = 256, MOST_LINES = 4096, MOST_TENSORS = 1 << 20 };
static const uint64_t most_elements = (uint64_t)1 << 50;

typedef struct {
  char (*lines)[LINE];
  int nlines;
  const char* path;
  char* message;
  size_t size;
  perf_model* model;
  size_t capacity;
} reader;

typedef struct {
  int line;  /* of the `repeat` */
  long left; /* passes still to make after this one */
} loop;

static int fail(const reader* r, int line, const char* what) {
  snprintf(r->message, r->size, "%s:%d: %s", r->path, line + 1, what);
  return -1;
}

/* Product of "1024x4096"; 0 when it is not a shape. */
static uint64_t shape_product(const char* text) {
  uint64_t product = 1;
  for (;; text++) {
    char* end;
    if (!isdigit((unsigned char)*text)) return 0;
    unsigned long long factor = strtoull(text, &end, 10);
    if (factor == 0 || factor > most_elements / product) return 0;
    product *= factor;
    text = end;
    if (*text == 0) return product;
    if (*text != 'x') return 0;
  }
}

static int add_tensor(reader* r, int line, uint64_t elements) {
  perf_model* m = r->model;
  if (m->ntensors == MOST_TENSORS) return fail(r, line, "more than 1048576 tensors");
  if (m->ntensors == r->capacity) {
    r->capacity = r->capacity ? 2 * r->capacity : 256;
    uint64_t* longer = realloc(m->elements, r->capacity * sizeof(*longer));
    if (!longer) return fail(r, line, "out of memory");
    m->elements = longer;
  }
  m->elements[m->ntensors++] = elements;
  m->total += elements;
  return 0;
}

static int open_repeat(const reader* r, int line, const char* text, loop* stack, int* depth) {
  char* end;
  long times = strtol(text, &end, 10);
  if (end == text || *end || times < 1 || times > 100000)
    return fail(r, line, "repeat wants a number from 1 to 100000");
  if (*depth == DEEPEST) return fail(r, line, "repeats are nested more than 8 deep");
  stack[(*depth)++] = (loop){line, times - 1};
  return 0;
}

static int expand(reader* r) {
  loop stack[DEEPEST];
  int depth = 0;
  for (int line = 0; line < r->nlines; line++) {
    char word[LINE], value[LINE], more[LINE];
    int words = sscanf(r->lines[line], "%255s %255s %255s", word, value, more), status = 0;
    if (words < 1) continue;
    if (!strcmp(word, "end") && words == 1) {
      if (depth == 0) return fail(r, line, "`end` without `repeat`");
      if (stack[depth - 1].left-- > 0)
        line = stack[depth - 1].line;
      else
        depth--;
    } else if (words != 2) {
      return fail(r, line, "a line is `name shape`, `repeat number` or `end`");
    } else if (!strcmp(word, "repeat")) {
      status = open_repeat(r, line, value, stack, &depth);
    } else {
      uint64_t elements = shape_product(value);
      if (!elements) return fail(r, line, "a shape is positive numbers joined by x, such as 1024x4096");
      status = add_tensor(r, line, elements);
    }
    if (status) return status;
  }
  if (depth > 0) return fail(r, stack[depth - 1].line, "`repeat` without `end`");
  return r->model->ntensors ? 0 : fail(r, 0, "the file names no tensor");
}

static int read_lines(reader* r, FILE* file) {
  for (; fgets(r->lines[r->nlines], LINE, file); r->nlines++) {
    char* text = r->lines[r->nlines];
    if (!strchr(text, '\n') && !feof(file)) return fail(r, r->nlines, "the line is longer than 254 characters");
    text[strcspn(text, "#\n")] = 0;
    if (r->nlines + 1 == MOST_LINES) return fail(r, r->nlines, "more than 4095 lines");
  }
  return 0;
}

/* A name without folder and ending is a file of the folder PERF_WORKLOADS, which is relative to the program's own. */
static FILE* open_model(const char* name, char* path, size_t size) {
  snprintf(path, size, "%s", name);
  if (strchr(name, '/') || strchr(name, '.')) return fopen(path, "r");
  ssize_t length = readlink("/proc/self/exe", path, size - 1);
  while (length > 0 && path[length - 1] != '/') length--;
  if (length < 0) length = 0;
  snprintf(path + length, size - (size_t)length, "%s/%s.txt", PERF_WORKLOADS, name);
  return fopen(path, "r");
}

static void set_name(perf_model* model, const char* path) {
  const char* base = strrchr(path, '/');
  snprintf(model->name, sizeof(model->name), "%.63s", base ? base + 1 : path);
  char* dot = strrchr(model->name, '.');
  if (dot && !strcmp(dot, ".txt")) *dot = 0;
}

int perf_model_load(const char* name_or_file, perf_model* out, char* message, size_t size) {
  char path[4096];
  perf_model model = {0};
  FILE* file = open_model(name_or_file, path, sizeof(path));
  if (!file) {
    snprintf(message, size, "%s: cannot be read; give a file or one of resnet50, bert-large, gpt2-xl, llama3-8b", path);
    return -1;
  }
  set_name(&model, path);
  reader r = {calloc(MOST_LINES, LINE), 0, path, message, size, &model, 0};
  int status = r.lines ? read_lines(&r, file) : fail(&r, 0, "out of memory");
  if (status == 0) status = expand(&r);
  free(r.lines);
  fclose(file);
  if (status)
    perf_model_free(&model);
  else
    *out = model;
  return status;
}

void perf_model_free(perf_model* model) {
  free(model->elements);
  *model = (perf_model){0};
}
