/* What every module may use: errors, log, allocation, strings, clock, parameters. No policy, no threads of its own.
 * The only mutable globals of the library stand in base/globals.c. */
#ifndef MCI_BASE_H
#define MCI_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meshccl/result.h"

#define MCI_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define MCI_MIN(a, b) ((a) < (b) ? (a) : (b))
#define MCI_MAX(a, b) ((a) > (b) ? (a) : (b))
#define MCI_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MCI_LIKELY(x) __builtin_expect(!!(x), 1)
#define MCI_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- errors (error.c) ----
 * Whoever first decides a code reports it with MCI_FAIL, once, with the exact cause; everybody else forwards with
 * MCI_TRY. The message is kept for the thread and logged at level "info": the caller decides whether it is shown. */
meshcclResult_t mci_fail(meshcclResult_t result, const char* format, ...) MCI_PRINTF(2, 3);
#define MCI_FAIL(result, ...) return mci_fail(result, __VA_ARGS__)
#define MCI_TRY(expression)                                                      \
  do {                                                                           \
    meshcclResult_t mci_try_result_ = (expression);                              \
    if (MCI_UNLIKELY(mci_try_result_ != meshcclSuccess)) return mci_try_result_; \
  } while (0)
#define MCI_TRY_OR(expression, label)                       \
  do {                                                      \
    result = (expression);                                  \
    if (MCI_UNLIKELY(result != meshcclSuccess)) goto label; \
  } while (0)
const char* mci_error_last(void);        /* the thread's last message, "" at first */
void mci_error_set(const char* message); /* replaces it without logging (to carry a message to another thread) */
const char* mci_result_text(meshcclResult_t result);

/* Broken invariants, never user mistakes. Stays in release builds only where it is free. */
#ifdef NDEBUG
#define mci_assert(x) ((void)0)
#else
void mci_assert_failed(const char* expression, const char* file, int line) __attribute__((noreturn));
#define mci_assert(x) ((x) ? (void)0 : mci_assert_failed(#x, __FILE__, __LINE__))
#endif

/* ---- log (log.c) ---- MESHCCL_DEBUG = none, error, warn, info, trace; MESHCCL_DEBUG_FILE ("%h" host, "%p" pid). */
typedef enum { MCI_LOG_NONE, MCI_LOG_ERROR, MCI_LOG_WARN, MCI_LOG_INFO, MCI_LOG_TRACE } mci_log_level;
bool mci_log_on(mci_log_level level);
void mci_log_write(mci_log_level level, const char* format, ...) MCI_PRINTF(2, 3);
#define MCI_WARN(...) mci_log_write(MCI_LOG_WARN, __VA_ARGS__)
#define MCI_INFO(...)                                                       \
  do {                                                                      \
    if (mci_log_on(MCI_LOG_INFO)) mci_log_write(MCI_LOG_INFO, __VA_ARGS__); \
  } while (0)
#define MCI_TRACE(...)                                                        \
  do {                                                                        \
    if (mci_log_on(MCI_LOG_TRACE)) mci_log_write(MCI_LOG_TRACE, __VA_ARGS__); \
  } while (0)

/* ---- allocation (alloc.c) ---- all through here, so that a test can make the n-th call fail. Zeroed. */
void* mci_alloc(size_t bytes);
void* mci_realloc(void* old, size_t bytes);          /* the growth is not zeroed */
void* mci_alloc_aligned(size_t align, size_t bytes); /* not zeroed */
void mci_free(void* ptr);
char* mci_strdup(const char* text);
void mci_alloc_fail_after(int64_t calls); /* tests: the calls-th next allocation fails; negative: never */
meshcclResult_t mci_oom(size_t bytes);    /* the uniform out-of-memory error */
/* Grows *array (of `size`-byte items, capacity *cap) so that `need` items fit. */
meshcclResult_t mci_grow(void* array_ptr, size_t size, uint32_t* cap, size_t need);

/* ---- strings (str.c) ---- append-only text; an allocation failure sticks and shows in mci_str_result. */
typedef struct mci_str {
  char* text; /* always NUL-terminated once something was added; may be NULL before */
  size_t length, capacity;
  bool failed;
} mci_str;
void mci_str_add(mci_str* str, const char* format, ...) MCI_PRINTF(2, 3);
void mci_str_json(mci_str* str, const char* text); /* a quoted JSON string; NULL prints null */
meshcclResult_t mci_str_result(const mci_str* str);
void mci_str_fini(mci_str* str);
/* Copies the text to a caller's buffer. *needed (may be NULL): its bytes with the NUL, also when `size` is too small,
 * which is an InvalidArgument in the name of `function`; size 0 with text NULL only asks. */
meshcclResult_t mci_str_hand_out(const mci_str* str, const char* function, char* text, size_t size, size_t* needed);
/* "64K", "1.5M", "2G" (powers of 1024) or a plain number of bytes. InvalidArgument names `what`. */
meshcclResult_t mci_parse_size(const char* text, const char* what, uint64_t* out);
/* Edit distance, for "did you mean". */
unsigned mci_distance(const char* a, const char* b);

/* ---- clock (clock.c) ---- */
uint64_t mci_now_ns(void); /* monotonic */
void mci_cpu_relax(void);
/* Counts at a steady rate, for less than the clock costs. Only differences on one host mean something, and only after
 * they were compared with the clock's. */
static inline uint64_t mci_ticks(void) {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  uint64_t ticks;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
  return mci_now_ns();
#endif
}

/* ---- hash (hash.c) ---- keyed hash of libsodium with a fixed key: stable over machines and runs. */
uint64_t mci_hash64(const void* data, size_t bytes);
uint64_t mci_hash64_mix(uint64_t a, uint64_t b);
void mci_random(void* out, size_t bytes); /* unpredictable bytes */

/* ---- parameters (params.c) ---- every MESHCCL_* variable is one row of base/params.def; docs/environment.md is
 * generated from it. Read once, at first use; a bad value is an error that names variable, value and allowed range. */
typedef enum {
  MCI_PARAM_INT,
  MCI_PARAM_SIZE,
  MCI_PARAM_SECONDS,
  MCI_PARAM_BOOL,
  MCI_PARAM_STRING,
  MCI_PARAM_ENUM
} mci_param_type;
typedef enum {
#define MCI_PARAM(id, ...) MCI_P_##id,
#include "base/params.def"
#undef MCI_PARAM
  MCI_NUM_PARAMS
} mci_param_id;
typedef struct {
  const char* name; /* without MESHCCL_ */
  mci_param_type type;
  const char* fallback; /* default as text; NULL: unset */
  double low, high;     /* numbers: allowed range, both included */
  const char* values;   /* MCI_PARAM_ENUM: "a|b|c" */
  bool shared;          /* must be equal on all ranks of a communicator */
  const char* help;
} mci_param_row;
extern const mci_param_row mci_param_rows[MCI_NUM_PARAMS];
/* The values that a row takes, in words. */
void mci_param_allowed(const mci_param_row* row, char* out, size_t size);
/* Checks all of them and warns of unknown MESHCCL_* names with the nearest known one. Called by init and the tools. */
meshcclResult_t mci_params_check(void);
int64_t mci_param_int(mci_param_id id); /* INT, SIZE, BOOL; ENUM gives the index */
double mci_param_seconds(mci_param_id id);
const char* mci_param_text(mci_param_id id); /* NULL when unset and without default */
bool mci_param_is_set(mci_param_id id);      /* from the environment */
/* One line "NAME=value\n" per shared parameter: what ranks compare at init. */
void mci_params_shared_text(mci_str* out);
/* The only getenv of the library: other launchers' variables. NULL when unset or empty. */
const char* mci_env(const char* name);
void mci_params_reload(void); /* tests and fresh processes: read the environment again */

/* ---- shared memory (shared_memory.c) ---- memfd allocations that peers can map; the process-wide table behind
 * meshcclMemAlloc and the executor's staging. Thread-safe. */
struct mci_shared_region {
  uint64_t id;
  int fd;
  void* base;
  size_t bytes;
};
meshcclResult_t mci_shared_alloc(size_t bytes, struct mci_shared_region* out);
meshcclResult_t mci_shared_free(void* base); /* InvalidArgument when base is not an allocation */
/* Whether [ptr, ptr+bytes) lies in one allocation. */
bool mci_shared_find(const void* ptr, size_t bytes, struct mci_shared_region* out);
uint64_t mci_shared_frees(void); /* counts frees: caches that remember regions look again when it changed */
bool mci_shared_alive(uint64_t id);
#endif
