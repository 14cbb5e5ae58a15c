/* Rates and times as text. */
#ifndef MCI_UNITS_H
#define MCI_UNITS_H

#include "base/base.h"

typedef enum { MCI_UNIT_RATE, MCI_UNIT_TIME } mci_unit_kind;
/* A decimal with unit: bytes per second or picoseconds, exactly. NULL, or what is wrong and how to mend it. */
const char* mci_unit_parse(const char* text, size_t length, mci_unit_kind* kind, uint64_t* value);
void mci_unit_print(mci_unit_kind kind, uint64_t value, mci_str* out);
#endif
