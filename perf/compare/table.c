/* Reads the lines of the programs here (bench.h says what they hold) and prints what they mean.
 *
 *   compare_table [--csv FILE] [--svg FILE] [--ours LABEL] LINES...
 *
 * A figure is the median over the rounds of a variant's medians, the least of them where a library has several
 * variants. "ratio" is the best peer's time by ours (the labels that begin with LABEL, "meshccl" if none is given):
 * above 1 we are faster. Points where a peer is more than 5 % faster are listed at the end. */
#include "table.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 64 };

/* One variant's medians over the rounds. */
typedef struct {
  char label[TABLE_NAME], variant[TABLE_NAME], op[TABLE_NAME];
  int np, rounds;
  size_t bytes;
  long wrong;
  double us[MOST_ROUNDS];
} series;

typedef struct {
  series* list;
  size_t n, room;
} lines;

static void* need(void* memory) {
  if (!memory) {
    fprintf(stderr, "out of memory\n");
    exit(2);
  }
  return memory;
}

static series* series_of(lines* all, const series* key) {
  for (size_t i = 0; i < all->n; i++) {
    series* s = &all->list[i];
    if (s->np == key->np && s->bytes == key->bytes && strcmp(s->op, key->op) == 0 &&
        strcmp(s->label, key->label) == 0 && strcmp(s->variant, key->variant) == 0)
      return s;
  }
  if (all->n == all->room) {
    all->room = all->room ? 2 * all->room : 256;
    all->list = need(realloc(all->list, all->room * sizeof *all->list));
  }
  all->list[all->n] = *key;
  return &all->list[all->n++];
}

static bool read_line(const char* text, series* out, double* us) {
  char copy[512], *fields[10], *rest = copy;
  snprintf(copy, sizeof copy, "%s", text);
  copy[strcspn(copy, "\n")] = '\0';
  int n = 0;
  for (char* field; n < 10 && (field = strsep(&rest, ","));) fields[n++] = field;
  if (n != 10 || rest) return false;
  memset(out, 0, sizeof *out);
  snprintf(out->label, sizeof out->label, "%s", fields[1]);
  snprintf(out->variant, sizeof out->variant, "%s", fields[2]);
  snprintf(out->op, sizeof out->op, "%s", fields[3]);
  out->np = atoi(fields[4]);
  out->bytes = strtoull(fields[5], NULL, 10);
  out->wrong = atol(fields[9]);
  *us = atof(fields[6]);
  return out->np > 0 && out->bytes > 0 && *us > 0;
}

static void read_file(lines* all, const char* path) {
  FILE* file = fopen(path, "r");
  if (!file) {
    perror(path);
    exit(2);
  }
  char text[512];
  while (fgets(text, sizeof text, file)) {
    series key;
    double us;
    if (!read_line(text, &key, &us)) continue; /* what a launcher says */
    series* s = series_of(all, &key);
    s->wrong += s == &all->list[all->n - 1] && s->rounds == 0 ? 0 : key.wrong;
    if (s->rounds < MOST_ROUNDS) s->us[s->rounds++] = us;
  }
  fclose(file);
}

static int ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static table_column* column_of(table* t, const char* label) {
  for (int c = 0; c < t->ncolumns; c++)
    if (strcmp(t->columns[c].label, label) == 0) return &t->columns[c];
  if (t->ncolumns == TABLE_COLUMNS) {
    fprintf(stderr, "more than %d libraries\n", TABLE_COLUMNS);
    exit(2);
  }
  table_column* column = &t->columns[t->ncolumns++];
  snprintf(column->label, sizeof column->label, "%s", label);
  column->limit = strcmp(label, "limit") == 0;
  column->ours = strncmp(label, t->ours, strlen(t->ours)) == 0;
  return column;
}

static table_row* row_of(table* t, const series* s) {
  for (int r = 0; r < t->nrows; r++)
    if (t->rows[r].np == s->np && t->rows[r].bytes == s->bytes && strcmp(t->rows[r].op, s->op) == 0) return &t->rows[r];
  t->rows = need(realloc(t->rows, (size_t)(t->nrows + 1) * sizeof *t->rows));
  table_row* row = &t->rows[t->nrows++];
  memset(row, 0, sizeof *row);
  row->np = s->np;
  row->bytes = s->bytes;
  snprintf(row->op, sizeof row->op, "%s", s->op);
  return row;
}

static int by_place(const void* a, const void* b) {
  const table_row *x = a, *y = b;
  int op = strcmp(x->op, y->op);
  if (op) return op;
  if (x->np != y->np) return x->np < y->np ? -1 : 1;
  return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static void compare(const table* t, table_row* row) {
  for (int c = 0; c < t->ncolumns; c++) {
    double us = row->us[c];
    if (us == 0 || t->columns[c].limit) continue;
    double* best = t->columns[c].ours ? &row->ours : &row->peer;
    if (*best == 0 || us < *best) *best = us;
    if (!t->columns[c].ours && *best == us) row->best_peer = c;
  }
}

static void make(table* t, lines* all) {
  for (size_t i = 0; i < all->n; i++) {
    series* s = &all->list[i];
    qsort(s->us, (size_t)s->rounds, sizeof *s->us, ascending);
    int c = (int)(column_of(t, s->label) - t->columns);
    table_row* row = row_of(t, s);
    double us = s->us[s->rounds / 2];
    if (row->us[c] == 0 || us < row->us[c]) row->us[c] = us;
    t->wrong += s->wrong;
  }
  qsort(t->rows, (size_t)t->nrows, sizeof *t->rows, by_place);
  for (int r = 0; r < t->nrows; r++) compare(t, &t->rows[r]);
}

/* ---- printing ---- */

static bool starts_group(const table* t, int r) {
  return r == 0 || strcmp(t->rows[r].op, t->rows[r - 1].op) != 0 || t->rows[r].np != t->rows[r - 1].np;
}

static void print_row(const table* t, const table_row* row) {
  printf("%12zu", row->bytes);
  for (int c = 0; c < t->ncolumns; c++) {
    if (row->us[c] > 0) {
      printf(" %18.2f", row->us[c]);
    } else {
      printf(" %18s", "-");
    }
  }
  if (row->ours > 0 && row->peer > 0) {
    printf(" %7.2f  %s\n", row->peer / row->ours, t->columns[row->best_peer].label);
  } else {
    printf(" %7s\n", "-");
  }
}

/* Geometric mean of the ratios from row `from` on, to the end of its group. */
static void print_mean(const table* t, int from) {
  double sum = 0;
  int n = 0;
  for (int r = from; r < t->nrows && (r == from || !starts_group(t, r)); r++) {
    const table_row* row = &t->rows[r];
    if (row->ours > 0 && row->peer > 0) sum += log(row->peer / row->ours), n++;
  }
  if (n > 0) printf("  geometric mean of the ratio over %d sizes: %.2f\n", n, exp(sum / n));
}

static void print_tables(const table* t) {
  int first = 0;
  for (int r = 0; r < t->nrows; r++) {
    if (starts_group(t, r)) {
      if (r > 0) print_mean(t, first);
      first = r;
      printf("\n%s, %d ranks: median us\n%12s", t->rows[r].op, t->rows[r].np, "bytes");
      for (int c = 0; c < t->ncolumns; c++) printf(" %18s", t->columns[c].label);
      printf(" %7s  best peer\n", "ratio");
    }
    print_row(t, &t->rows[r]);
  }
  if (t->nrows > 0) print_mean(t, first);
}

static void print_slow(const table* t) {
  int points = 0, slow = 0, very = 0;
  for (int r = 0; r < t->nrows; r++) {
    const table_row* row = &t->rows[r];
    if (row->ours == 0 || row->peer == 0) continue;
    points++;
    if (row->ours <= 1.05 * row->peer) continue;
    if (slow++ == 0) printf("\nslower than the best peer by more than 5 %%:\n");
    very += row->ours > 1.2 * row->peer;
    printf("  %s, %d ranks, %zu bytes: %.2f us, %s %.2f (+%.0f %%)\n", row->op, row->np, row->bytes, row->ours,
           t->columns[row->best_peer].label, row->peer, 100 * (row->ours / row->peer - 1));
  }
  printf("\n%d points, %d slower by more than 5 %%, %d of these by more than 20 %%; %ld wrong elements\n", points, slow,
         very, t->wrong);
}

static FILE* create(const char* path) {
  FILE* file = fopen(path, "w");
  if (file) return file;
  perror(path);
  exit(2);
}

static void write_csv(const table* t, const char* path) {
  FILE* file = create(path);
  fprintf(file, "operation,ranks,bytes");
  for (int c = 0; c < t->ncolumns; c++) fprintf(file, ",%s", t->columns[c].label);
  fprintf(file, ",ratio\n");
  for (int r = 0; r < t->nrows; r++) {
    const table_row* row = &t->rows[r];
    fprintf(file, "%s,%d,%zu", row->op, row->np, row->bytes);
    for (int c = 0; c < t->ncolumns; c++) {
      if (row->us[c] > 0) {
        fprintf(file, ",%.3f", row->us[c]);
      } else {
        fprintf(file, ",");
      }
    }
    if (row->ours > 0 && row->peer > 0)
      fprintf(file, ",%.3f\n", row->peer / row->ours);
    else
      fprintf(file, ",\n");
  }
  fclose(file);
}

int main(int argc, char** argv) {
  static const struct option known[] = {
      {"csv", 1, NULL, 'c'}, {"svg", 1, NULL, 's'}, {"ours", 1, NULL, 'o'}, {NULL, 0, NULL, 0}};
  const char *csv = NULL, *svg = NULL;
  table t = {.ours = "meshccl"};
  for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    switch (option) {
      case 'c':
        csv = optarg;
        break;
      case 's':
        svg = optarg;
        break;
      case 'o':
        t.ours = optarg;
        break;
      default:
        return 2;
    }
  }
  lines all = {0};
  for (int i = optind; i < argc; i++) read_file(&all, argv[i]);
  if (all.n == 0) {
    fprintf(stderr, "no measured lines; usage: compare_table [--csv FILE] [--svg FILE] [--ours LABEL] LINES...\n");
    return 2;
  }
  make(&t, &all);
  print_tables(&t);
  print_slow(&t);
  if (csv) write_csv(&t, csv);
  if (svg) {
    FILE* file = create(svg);
    table_draw(&t, file);
    fclose(file);
  }
  free(all.list);
  free(t.rows);
  if (t.wrong) fprintf(stderr, "%ld elements were wrong\n", t.wrong);
  return t.wrong ? 1 : 0;
}
