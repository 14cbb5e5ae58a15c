/* getopt_long driven by the table of flags. */
#include "perf/engine/flags.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FLAGS = 64 };

bool perf_parse_size(const char* text, size_t* out) {
  char* end;
  errno = 0;
  double value = strtod(text, &end);
  if (end == text || errno || !(value >= 0)) return false;
  static const char units[] = "KMGT";
  const char* unit = *end ? strchr(units, *end & ~0x20) : NULL;
  if (unit) {
    value = ldexp(value, 10 * (int)(unit - units + 1));
    end++;
  }
  if (*end || value >= 9e18) return false;
  *out = (size_t)value;
  return true;
}

static bool in_range(const perf_flag* f, double value) { return value >= f->low && (f->high == 0 || value <= f->high); }

static bool set_number(const perf_flag* f, const char* text, void* field) {
  if (f->kind == PERF_FLAG_SIZE) {
    size_t size;
    if (!perf_parse_size(text, &size) || !in_range(f, (double)size)) return false;
    *(size_t*)field = size;
    return true;
  }
  char* end;
  double value = strtod(text, &end);
  if (end == text || *end || !in_range(f, value)) return false;
  if (f->kind == PERF_FLAG_REAL) *(double*)field = value;
  if (f->kind == PERF_FLAG_INT && value != floor(value)) return false;
  if (f->kind != PERF_FLAG_REAL) *(int*)field = (int)value;
  return true;
}

/* What stands after "is not": the values that the flag takes. */
enum { RANGE = 64 };
static const char* allowed(const perf_flag* f, char text[RANGE]) {
  if (f->kind == PERF_FLAG_SIZE) return "a size such as 8, 64K or 32M";
  if (f->kind == PERF_FLAG_RANK) return "a rank or \"all\"";
  snprintf(text, RANGE, "a number from %g to %g", f->low, f->high);
  return text;
}

static perf_parse_result apply(const perf_flag* f, const char* text, void* out, char message[PERF_MESSAGE]) {
  void* field = (char*)out + f->offset;
  char range[RANGE];
  switch (f->kind) {
    case PERF_FLAG_HELP:
      return PERF_HELP;
    case PERF_FLAG_TEXT:
      *(const char**)field = text;
      return PERF_PARSED;
    case PERF_FLAG_ON:
      *(bool*)field = true;
      return PERF_PARSED;
    case PERF_FLAG_ZERO:
      *(int*)field = 0;
      return PERF_PARSED;
    case PERF_FLAG_REFUSED:
      snprintf(message, PERF_MESSAGE,
               "-%c (--%s) is about %s, a feature of CUDA that meshccl does not have; leave the flag out", f->letter,
               f->name, f->help);
      return PERF_BAD;
    case PERF_FLAG_RANK:
      if (!strcmp(text, "all")) {
        *(int*)field = -1;
        return PERF_PARSED;
      }
      break;
    default:
      break;
  }
  if (set_number(f, text, field)) return PERF_PARSED;
  snprintf(message, PERF_MESSAGE, "--%s: \"%.200s\" is not %s", f->name, text, allowed(f, range));
  return PERF_BAD;
}

static bool takes_text(const perf_flag* f) {
  return f->kind != PERF_FLAG_ON && f->kind != PERF_FLAG_ZERO && f->kind != PERF_FLAG_HELP;
}

static void set_defaults(const perf_flag* flags, int nflags, void* out, size_t size) {
  char ignored[PERF_MESSAGE];
  memset(out, 0, size);
  for (int k = 0; k < nflags; k++) {
    perf_flag loose = flags[k];
    loose.low = 0; /* "off" may lie below what a user may ask for */
    if (loose.standard) apply(&loose, loose.standard, out, ignored);
  }
}

/* getopt's two descriptions of the table. */
static void describe(const perf_flag* flags, int nflags, struct option* longs, char* shorts) {
  *shorts++ = ':';
  for (int k = 0; k < nflags; k++) {
    longs[k] = (struct option){flags[k].name, takes_text(&flags[k]), NULL, flags[k].letter};
    if (flags[k].letter > PERF_ONLY_LONG) continue;
    *shorts++ = (char)flags[k].letter;
    if (takes_text(&flags[k])) *shorts++ = ':';
  }
  *shorts = 0;
  longs[nflags] = (struct option){0};
}

static const perf_flag* find(const perf_flag* flags, int nflags, int letter) {
  for (int k = 0; k < nflags; k++)
    if (flags[k].letter == letter) return &flags[k];
  return NULL;
}

perf_parse_result perf_flags_parse(const perf_flag* flags, int nflags, int argc, char** argv, void* out, size_t size,
                                   char message[PERF_MESSAGE]) {
  struct option longs[MOST_FLAGS + 1];
  char shorts[2 * MOST_FLAGS + 2];
  assert(nflags <= MOST_FLAGS);
  describe(flags, nflags, longs, shorts);
  set_defaults(flags, nflags, out, size);
  opterr = 0;
  optind = 0; /* start afresh: tests parse many lines */
  for (int letter; (letter = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
    const perf_flag* f = find(flags, nflags, letter);
    if (!f) {
      snprintf(message, PERF_MESSAGE, letter == ':' ? "%s needs a value" : "%s: no such flag, see --help",
               argv[optind - 1]);
      return PERF_BAD;
    }
    perf_parse_result result = apply(f, optarg, out, message);
    if (result != PERF_PARSED) return result;
  }
  if (optind == argc) return PERF_PARSED;
  snprintf(message, PERF_MESSAGE, "\"%s\" is left over; values follow their flag, see --help", argv[optind]);
  return PERF_BAD;
}

void perf_flags_help(const perf_flag* flags, int nflags) {
  for (int k = 0; k < nflags; k++) {
    const perf_flag* f = &flags[k];
    if (f->kind == PERF_FLAG_REFUSED) continue;
    if (f->letter < PERF_ONLY_LONG)
      printf("  -%c, ", f->letter);
    else
      printf("      ");
    printf("--%-18s %s", f->name, f->help);
    printf(f->standard ? " [%s]\n" : "\n", f->standard);
  }
}
