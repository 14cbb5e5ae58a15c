/* The scanner below the schedule parser: characters, words and numbers of a line-oriented text, with positions for
 * errors. It knows no schedule. */
#ifndef MCI_SCHED_SCAN_H
#define MCI_SCHED_SCAN_H

#include "base/base.h"

typedef struct {
  const char* name; /* of the text, for messages */
  const char *at, *end;
  const char* line_start;
  uint32_t line;
} mci_scan;

void mci_scan_start(mci_scan* scan, const char* text, size_t bytes, const char* name);
/* An error at the current place: "name:line:column: ...". InvalidArgument. */
meshcclResult_t mci_scan_fail(const mci_scan* scan, const char* format, ...) MCI_PRINTF(2, 3);
void mci_scan_blanks(mci_scan* scan);    /* blanks and a comment, not the end of the line */
bool mci_scan_line_done(mci_scan* scan); /* only blanks and a comment are left */
meshcclResult_t mci_scan_next_line(
    mci_scan* scan); /* the line must be done; moves to the next one with something on it */
bool mci_scan_text_done(const mci_scan* scan);
bool mci_scan_char(mci_scan* scan, char c); /* takes c if it is next; takes no blanks */
/* Takes the word if it is next and no letter, digit or '_' follows. Leading blanks are taken in any case. */
bool mci_scan_word(mci_scan* scan, const char* word);
/* Takes a word of letters, digits, '_' and '-' that must fit `size` with its NUL; leading blanks are taken. */
meshcclResult_t mci_scan_name(mci_scan* scan, const char* what, char* out, size_t size);
bool mci_scan_digit(const mci_scan* scan);
/* Decimal digits right here, low <= value <= high. */
meshcclResult_t mci_scan_number(mci_scan* scan, const char* what, uint64_t low, uint64_t high, uint64_t* out);
/* Blanks, then a number that fits 32 bits. */
meshcclResult_t mci_scan_u32(mci_scan* scan, const char* what, uint32_t low, uint32_t high, uint32_t* out);
#endif
