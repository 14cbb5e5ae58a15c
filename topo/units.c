/* Rates and times as text: decimals with a unit, converted to whole bytes per second and picoseconds without rounding,
 * and printed so that they read back to the same number. Called by spec.c, print.c and the tools. */
#include <string.h>

#include "topo/grid.h"

#define MAX_DIGITS 18
#define MAX_RATE 1000000000000000000ull /* bytes per second */
#define MAX_TIME 1000000000000000ull    /* picoseconds: 1000 s */

typedef struct {
  const char* name;
  mci_unit_kind kind;
  uint64_t factor;
  uint32_t divisor; /* 8 for bits */
} unit_row;

/* Printing takes the last fitting row with divisor 1, so rows ascend. */
static const unit_row units[] = {
    {"B/s", MCI_UNIT_RATE, 1, 1},
    {"kB/s", MCI_UNIT_RATE, 1000, 1},
    {"KB/s", MCI_UNIT_RATE, 1000, 1},
    {"MB/s", MCI_UNIT_RATE, 1000000, 1},
    {"GB/s", MCI_UNIT_RATE, 1000000000, 1},
    {"TB/s", MCI_UNIT_RATE, 1000000000000, 1},
    {"PB/s", MCI_UNIT_RATE, 1000000000000000, 1},
    {"bit/s", MCI_UNIT_RATE, 1, 8},
    {"kbit/s", MCI_UNIT_RATE, 1000, 8},
    {"Kbit/s", MCI_UNIT_RATE, 1000, 8},
    {"Mbit/s", MCI_UNIT_RATE, 1000000, 8},
    {"Gbit/s", MCI_UNIT_RATE, 1000000000, 8},
    {"Tbit/s", MCI_UNIT_RATE, 1000000000000, 8},
    {"ps", MCI_UNIT_TIME, 1, 1},
    {"ns", MCI_UNIT_TIME, 1000, 1},
    {"us", MCI_UNIT_TIME, 1000000, 1},
    {"ms", MCI_UNIT_TIME, 1000000000, 1},
    {"s", MCI_UNIT_TIME, 1000000000000, 1},
};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Digits with at most one point: value = *mantissa / *scale. Returns the characters taken, 0 when it is no number. */
static size_t decimal(const char* text, size_t length, uint64_t* mantissa, uint64_t* scale, uint32_t* digits) {
  size_t at = 0;
  bool point = false;
  *mantissa = 0;
  *scale = 1;
  *digits = 0;
  for (; at < length && (is_digit(text[at]) || (text[at] == '.' && !point && at > 0)); at++) {
    if (text[at] == '.') {
      point = true;
      continue;
    }
    if (++*digits > MAX_DIGITS) continue;
    *mantissa = *mantissa * 10 + (uint64_t)(text[at] - '0');
    if (point) *scale *= 10;
  }
  return at > 0 && text[at - 1] == '.' ? 0 : at;
}

const char* mci_unit_parse(const char* text, size_t length, mci_unit_kind* kind, uint64_t* value) {
  uint64_t mantissa, scale;
  uint32_t digits;
  size_t at = decimal(text, length, &mantissa, &scale, &digits);
  if (at == 0) return "is not a number with a unit; write a rate such as 50GB/s or a time such as 500ns";
  if (digits > MAX_DIGITS) return "has more than 18 digits; use a larger unit";
  const unit_row* unit = NULL;
  for (size_t i = 0; i < MCI_COUNT(units); i++)
    if (strlen(units[i].name) == length - at && memcmp(units[i].name, text + at, length - at) == 0) unit = &units[i];
  if (!unit)
    return "has no known unit; rates end in B/s, KB/s, MB/s, GB/s, TB/s, PB/s (powers of 1000) or bit/s, Kbit/s, "
           "Mbit/s, "
           "Gbit/s, Tbit/s, times in ps, ns, us, ms, s";
  unsigned __int128 product = (unsigned __int128)mantissa * unit->factor;
  unsigned __int128 divisor = (unsigned __int128)scale * unit->divisor;
  bool rate = unit->kind == MCI_UNIT_RATE;
  if (product % divisor != 0)
    return rate ? "is not a whole number of bytes per second; use fewer decimals"
                : "is not a whole number of picoseconds; use fewer decimals";
  product /= divisor;
  if (rate && product == 0) return "is a rate of zero; a link that carries nothing is written cut=A-B";
  if (product > (rate ? MAX_RATE : MAX_TIME))
    return rate ? "is too fast; rates end at 1000PB/s" : "is too long; times end at 1000s";
  *kind = unit->kind;
  *value = (uint64_t)product;
  return NULL;
}

void mci_unit_print(mci_unit_kind kind, uint64_t value, mci_str* out) {
  const unit_row* unit = NULL;
  for (size_t i = 0; i < MCI_COUNT(units); i++) {
    const unit_row* row = &units[i];
    if (row->kind == kind && row->divisor == 1 && (!unit || row->factor <= value)) unit = row;
  }
  mci_str_add(out, "%llu", (unsigned long long)(value / unit->factor));
  uint64_t rest = value % unit->factor;
  for (uint64_t place = unit->factor / 10; rest > 0; rest %= place, place /= 10) {
    if (place == unit->factor / 10) mci_str_add(out, ".");
    mci_str_add(out, "%llu", (unsigned long long)(rest / place));
  }
  mci_str_add(out, "%s", unit->name);
}
