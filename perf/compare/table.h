/* What table.c reads and plot.c draws. */
#ifndef COMPARE_TABLE_H
#define COMPARE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { TABLE_NAME = 48, TABLE_COLUMNS = 12 };

typedef struct {
  char label[TABLE_NAME];
  bool ours, limit; /* the machine's limit is no peer */
  bool gloo;
} table_column;

typedef struct {
  char op[TABLE_NAME];
  int np;
  size_t bytes;
  double us[TABLE_COLUMNS]; /* 0: not measured */
  double ours, peer, limit; /* what users get who change nothing, the best peer; 0: none */
  int best_peer;
  bool repeated;
} table_row;

typedef struct {
  const char* ours; /* the label that is compared; longer ones that begin so are shown with a ratio of their own */
  table_column columns[TABLE_COLUMNS];
  int ncolumns;
  table_row* rows; /* by operation, ranks, bytes */
  int nrows;
  long wrong;
} table;

/* One panel per operation and number of ranks: time against size, both logarithmic, and below it our ratio. */
void table_draw(const table* t, FILE* file);

#endif
