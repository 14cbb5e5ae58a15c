/* See balance.h. */
#include "topo/plan/balance.h"

#include <string.h>

#include "base/base.h"

#define ENTRY_BITS 24 /* loads are cut to this, so that determinants of four rows fit */

static void shorten(mci_loads load, uint32_t n) {
  int64_t largest = 0;
  for (uint32_t d = 0; d < n; d++)
    for (uint32_t c = 0; c < n; c++) largest = MCI_MAX(largest, load[d][c]);
  unsigned shift = 0;
  while (largest >> shift >= INT64_C(1) << ENTRY_BITS) shift++;
  for (uint32_t d = 0; d < n; d++)
    for (uint32_t c = 0; c < n; c++) load[d][c] >>= shift;
}

/* Determinant of the rows from `row` on, over the columns not yet used. */
static __int128 determinant(mci_loads m, uint32_t n, uint32_t row, unsigned used) {
  if (row == n) return 1;
  __int128 sum = 0;
  int sign = 1;
  for (uint32_t c = 0; c < n; c++) {
    if (used >> c & 1) continue;
    sum += sign * m[row][c] * determinant(m, n, row + 1, used | 1u << c);
    sign = -sign;
  }
  return sum;
}

void mci_balance(mci_loads load, uint32_t n, uint32_t sum, uint32_t* share_out) {
  mci_loads replaced;
  __int128 share[MCI_MAX_DIMS], total = 0, balance = 0;
  shorten(load, n);
  for (uint32_t c = 0; c < n; c++) {
    memcpy(replaced, load, sizeof replaced);
    for (uint32_t d = 0; d < n; d++) replaced[d][c] = 1;
    balance += share[c] = determinant(replaced, n, 0, 0);
  }
  for (uint32_t c = 0; c < n; c++) {
    if (balance < 0) share[c] = -share[c];
    if (share[c] < 0) share[c] = 0;
    total += share[c];
  }
  for (uint32_t c = 0; c < n; c++) share_out[c] = total == 0 ? sum / n : (uint32_t)(share[c] * sum / total);
}
