/* The text of MESHCCL_FAULT: rules separated by ';', each TRANSPORT:key=value,key=value. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "transport/fault.h"

#define HELP                                                                                                       \
  "write TRANSPORT:key=value,..., rules apart by ';', with the keys delay=TIME or delay=TIME..TIME (5ms, 200us), " \
  "stall=N, reset=N, drop=N (from the N-th message on), rank=R, peer=R, size=N, seed=N"

typedef struct {
  const char* whole; /* for messages */
  const char* at;
} reader;

static meshcclResult_t bad(const reader* r, const char* what) {
  MCI_FAIL(meshcclInvalidArgument, "MESHCCL_FAULT, character %d (\"%.24s\"): %s; " HELP, (int)(r->at - r->whole) + 1,
           r->at, what);
}

static bool word(reader* r, const char* text) {
  size_t n = strlen(text);
  if (strncmp(r->at, text, n) != 0) return false;
  r->at += n;
  return true;
}

static meshcclResult_t number(reader* r, uint64_t low, uint64_t high, uint64_t* out) {
  char* end;
  if (!isdigit((unsigned char)*r->at)) return bad(r, "a whole number is missing");
  errno = 0;
  unsigned long long value = strtoull(r->at, &end, 10);
  if (errno || value < low || value > high) return bad(r, "this number is out of range");
  r->at = end;
  *out = value;
  return meshcclSuccess;
}

static meshcclResult_t duration(reader* r, uint64_t* out) {
  static const struct {
    const char* unit;
    uint64_t ns;
  } units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
  uint64_t value;
  MCI_TRY(number(r, 0, 1000000000, &value));
  for (size_t i = 0; i < MCI_COUNT(units); i++) {
    if (!word(r, units[i].unit)) continue;
    *out = value * units[i].ns;
    return meshcclSuccess;
  }
  return bad(r, "a time needs a unit: ns, us, ms or s");
}

static meshcclResult_t delay(reader* r, mci_fault_rule* rule) {
  MCI_TRY(duration(r, &rule->delay_ns));
  rule->most_delay_ns = rule->delay_ns;
  if (!word(r, "..")) return meshcclSuccess;
  MCI_TRY(duration(r, &rule->most_delay_ns));
  return rule->most_delay_ns >= rule->delay_ns ? meshcclSuccess : bad(r, "the second time is the shorter one");
}

static meshcclResult_t item(reader* r, mci_fault_rule* rule) {
  const struct {
    const char* key;
    uint64_t* count;
    int* whom;
    uint64_t low;
  } keys[] = {{"stall=", &rule->from[MCI_FAULT_STALL], NULL, 1},
              {"reset=", &rule->from[MCI_FAULT_RESET], NULL, 1},
              {"drop=", &rule->from[MCI_FAULT_DROP], NULL, 1},
              {"seed=", &rule->seed, NULL, 0},
              {"rank=", NULL, &rule->rank, 0},
              {"peer=", NULL, &rule->peer, 0},
              {"size=", NULL, &rule->size, 1}};
  if (word(r, "delay=")) return delay(r, rule);
  for (size_t i = 0; i < MCI_COUNT(keys); i++) {
    if (!word(r, keys[i].key)) continue;
    uint64_t value;
    MCI_TRY(number(r, keys[i].low, keys[i].whom ? INT32_MAX : INT64_MAX, &value));
    if (keys[i].whom) *keys[i].whom = (int)value;
    if (keys[i].count) *keys[i].count = value;
    return meshcclSuccess;
  }
  return bad(r, "this is not a key");
}

static meshcclResult_t rule_text(reader* r, mci_fault_rule* rule) {
  size_t length = strcspn(r->at, ":;,=");
  *rule = (mci_fault_rule){.rank = MCI_FAULT_ANY, .peer = MCI_FAULT_ANY, .size = MCI_FAULT_ANY};
  if (length == 0 || length >= sizeof rule->transport || r->at[length] != ':')
    return bad(r, "a rule begins with a transport's name, or * for all, and a colon");
  memcpy(rule->transport, r->at, length);
  r->at += length;
  do {
    r->at++;
    MCI_TRY(item(r, rule));
  } while (*r->at == ',');
  if (*r->at && *r->at != ';') return bad(r, "a comma or a semicolon is missing");
  bool harmless = rule->most_delay_ns == 0;
  for (int kind = 0; kind < MCI_FAULT_KINDS; kind++) harmless &= rule->from[kind] == 0;
  return harmless ? bad(r, "the rule before this does nothing") : meshcclSuccess;
}

meshcclResult_t mci_fault_parse(const char* text, mci_fault_plan* out) {
  reader r = {text, text};
  mci_fault_plan plan = {0};
  do {
    if (plan.n == MCI_FAULT_RULES) return bad(&r, "there are more than 16 rules");
    MCI_TRY(rule_text(&r, &plan.rules[plan.n++]));
  } while (*r.at++ == ';' && *r.at);
  *out = plan;
  return meshcclSuccess;
}

bool mci_fault_concerns(const mci_fault_plan* plan, const char* transport) {
  for (int i = 0; i < plan->n; i++)
    if (strcmp(plan->rules[i].transport, "*") == 0 || strcmp(plan->rules[i].transport, transport) == 0) return true;
  return false;
}
