/* Parameters: the rows of params.def, read once from the environment and checked. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/globals.h"

extern char** environ;

#define PREFIX "MESHCCL_"

const mci_param_row mci_param_rows[MCI_NUM_PARAMS] = {
#define MCI_PARAM(id, type, fallback, low, high, values, shared, help) \
  [MCI_P_##id] = {#id, type, fallback, low, high, values, shared, help},
#include "base/params.def"
#undef MCI_PARAM
};

const char* mci_env(const char* name) {
  const char* value = getenv(name);
  return value && *value ? value : NULL;
}

static void remember_error(const char* format, ...) MCI_PRINTF(1, 2);
static void remember_error(const char* format, ...) {
  if (mci_globals.params_result != meshcclSuccess) return;
  va_list args;
  va_start(args, format);
  vsnprintf(mci_globals.params_error, sizeof mci_globals.params_error, format, args);
  va_end(args);
  mci_globals.params_result = meshcclInvalidArgument;
}

static bool parse_enum(const char* values, const char* text, int64_t* out) {
  size_t length = strlen(text);
  int64_t index = 0;
  for (const char* p = values; *p; index++) {
    size_t n = strcspn(p, "|");
    if (n == length && memcmp(p, text, n) == 0) {
      *out = index;
      return true;
    }
    p += n + (p[n] == '|');
  }
  return false;
}

static bool parse_number(const mci_param_row* row, const char* text, struct mci_param_value* value) {
  char* end;
  uint64_t size;
  switch (row->type) {
    case MCI_PARAM_SIZE:
      if (mci_parse_size(text, row->name, &size) != meshcclSuccess) return false;
      value->real = (double)size;
      break;
    case MCI_PARAM_BOOL:
      if (parse_enum("0|1|no|yes|off|on|false|true", text, &value->integer)) {
        value->real = (double)(value->integer & 1);
        break;
      }
      return false;
    default:
      value->real = strtod(text, &end);
      if (end == text || *end) return false;
      if (row->type == MCI_PARAM_INT && value->real != (double)(int64_t)value->real) return false;
  }
  value->integer = (int64_t)value->real;
  return value->real >= row->low && value->real <= row->high;
}

static bool parse_value(const mci_param_row* row, const char* text, struct mci_param_value* value) {
  switch (row->type) {
    case MCI_PARAM_STRING:
      return true;
    case MCI_PARAM_ENUM:
      return parse_enum(row->values, text, &value->integer);
    default:
      return parse_number(row, text, value);
  }
}

void mci_param_allowed(const mci_param_row* row, char* out, size_t size) {
  if (row->type == MCI_PARAM_ENUM) {
    snprintf(out, size, "one of %s", row->values);
  } else if (row->type == MCI_PARAM_BOOL) {
    snprintf(out, size, "0 or 1");
  } else if (row->type == MCI_PARAM_STRING) {
    snprintf(out, size, "text");
  } else {
    snprintf(out, size, "a %s from %.10g to %.10g",
             row->type == MCI_PARAM_SIZE      ? "size in bytes (suffixes K, M, G)"
             : row->type == MCI_PARAM_SECONDS ? "number of seconds"
                                              : "whole number",
             row->low, row->high);
  }
}

static void read_row(int id) {
  const mci_param_row* row = &mci_param_rows[id];
  struct mci_param_value* value = &mci_globals.params[id];
  char name[64], allowed[160];
  snprintf(name, sizeof name, PREFIX "%s", row->name);
  const char* text = mci_env(name);
  free(value->text);
  *value = (struct mci_param_value){.from_env = text != NULL};
  if (text && !parse_value(row, text, value)) {
    mci_param_allowed(row, allowed, sizeof allowed);
    remember_error("%s=%s is not valid; allowed: %s", name, text, allowed);
    text = NULL;
  }
  if (!text) text = row->fallback;
  if (text) {
    parse_value(row, text, value);
    value->text = strdup(text); /* not counted by the failing-allocation hook: happens once per process */
  }
}

static void ensure_read(void) {
  if (MCI_LIKELY(atomic_load_explicit(&mci_globals.params_ready, memory_order_acquire))) return;
  pthread_mutex_lock(&mci_globals.lock);
  if (!atomic_load(&mci_globals.params_ready)) {
    mci_globals.params_result = meshcclSuccess;
    for (int id = 0; id < MCI_NUM_PARAMS; id++) read_row(id);
    atomic_store_explicit(&mci_globals.params_ready, 1, memory_order_release);
  }
  pthread_mutex_unlock(&mci_globals.lock);
}

void mci_params_reload(void) {
  atomic_store(&mci_globals.params_ready, 0);
  ensure_read();
}

/* Variables that the launcher hands to its ranks; known, but no parameters. */
static bool is_launcher_name(const char* name) {
  static const char* const names[] = {"RANK",   "SIZE",        "LOCAL_RANK", "LOCAL_SIZE", "ID",
                                      "SECRET", "SECRET_FILE", "AUTH",       "LISTEN_FD"};
  for (size_t i = 0; i < MCI_COUNT(names); i++)
    if (strcmp(name, names[i]) == 0) return true;
  return false;
}

static void warn_if_unknown(const char* entry) {
  char name[64];
  size_t n = strcspn(entry, "=");
  if (strncmp(entry, PREFIX, strlen(PREFIX)) != 0 || n - strlen(PREFIX) >= sizeof name) return;
  snprintf(name, sizeof name, "%.*s", (int)(n - strlen(PREFIX)), entry + strlen(PREFIX));
  if (is_launcher_name(name) || strncmp(name, "TESTS_", 6) == 0) return;
  unsigned best = 64;
  const char* nearest = "";
  for (int id = 0; id < MCI_NUM_PARAMS; id++) {
    unsigned distance = mci_distance(name, mci_param_rows[id].name);
    if (distance < best) {
      best = distance;
      nearest = mci_param_rows[id].name;
    }
  }
  if (best > 0) MCI_WARN(PREFIX "%s is not a variable of meshccl; the nearest is " PREFIX "%s", name, nearest);
}

meshcclResult_t mci_params_check(void) {
  ensure_read();
  if (mci_globals.params_result != meshcclSuccess) MCI_FAIL(mci_globals.params_result, "%s", mci_globals.params_error);
  for (char** entry = environ; *entry; entry++) warn_if_unknown(*entry);
  return meshcclSuccess;
}

int64_t mci_param_int(mci_param_id id) {
  ensure_read();
  return mci_globals.params[id].integer;
}

double mci_param_seconds(mci_param_id id) {
  ensure_read();
  return mci_globals.params[id].real;
}

const char* mci_param_text(mci_param_id id) {
  ensure_read();
  return mci_globals.params[id].text;
}

bool mci_param_is_set(mci_param_id id) {
  ensure_read();
  return mci_globals.params[id].from_env;
}

void mci_params_shared_text(mci_str* out) {
  ensure_read();
  for (int id = 0; id < MCI_NUM_PARAMS; id++) {
    if (!mci_param_rows[id].shared) continue;
    const char* text = mci_globals.params[id].text;
    mci_str_add(out, PREFIX "%s=%s\n", mci_param_rows[id].name, text ? text : "");
  }
}
