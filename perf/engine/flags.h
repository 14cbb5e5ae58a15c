/* Command lines from tables: one row per flag says its letter, long name, kind, range, default and help; parsing and
 * help both walk the table. Parsing neither prints nor exits. Called by the options of the perf programs. */
#ifndef PERF_FLAGS_H
#define PERF_FLAGS_H

#include <stdbool.h>
#include <stddef.h>

enum { PERF_MESSAGE = 512, PERF_ONLY_LONG = 256 };

typedef enum {
  PERF_FLAG_INT,     /* int */
  PERF_FLAG_SIZE,    /* size_t; K, M, G, T are powers of 1024 */
  PERF_FLAG_REAL,    /* double */
  PERF_FLAG_TEXT,    /* const char*, points into argv */
  PERF_FLAG_RANK,    /* int; "all" is -1 */
  PERF_FLAG_ON,      /* bool: no value, sets true */
  PERF_FLAG_ZERO,    /* int: no value, sets 0 */
  PERF_FLAG_REFUSED, /* help names the feature that does not exist here */
  PERF_FLAG_HELP
} perf_flag_kind;

typedef struct {
  int letter; /* above PERF_ONLY_LONG: no short form */
  const char* name;
  perf_flag_kind kind;
  size_t offset;        /* of the field in the options struct */
  double low, high;     /* high 0: no upper limit */
  const char* standard; /* default, as text; it may lie below `low`. NULL: all bits zero */
  const char* help;
} perf_flag;

typedef enum { PERF_PARSED, PERF_HELP, PERF_BAD } perf_parse_result;

/* Fills out (cleared first, `size` bytes) from defaults and arguments. PERF_BAD: message says which flag, what was
 * given and what is allowed. At most 64 flags. */
perf_parse_result perf_flags_parse(const perf_flag* flags, int nflags, int argc, char** argv, void* out, size_t size,
                                   char message[PERF_MESSAGE]);
void perf_flags_help(const perf_flag* flags, int nflags);

/* A byte count such as 8, 1.5K, 32M or 2G. False when text is not one. */
bool perf_parse_size(const char* text, size_t* out);
#endif
