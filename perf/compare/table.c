/* Reads the lines of the programs here (bench.h says what they hold) and prints what they mean.
 *
 *   compare_table [--csv FILE] [--svg FILE] [--slow FILE] [--repeat LINES] [--ours LABEL] LINES...
 *
 * A figure is the median over the rounds of a variant's medians, the least of them where a library has several
 * variants. "ratio" is the best peer's time by ours: above 1 we are faster. Ours is LABEL ("meshccl": ordinary memory
 * and defaults, as users start); longer labels that begin so have ratios of their own. Points where a peer is more than
 * 5 % faster are listed at the end, and written to the file of --slow for --points of the programs, a line for each
 * number of ranks. Points of --repeat replace the others. */
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
  bool repeat;
  char reason[TABLE_NAME]; /* "": measured */
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
    if (s->np == key->np && s->bytes == key->bytes && s->repeat == key->repeat && strcmp(s->op, key->op) == 0 &&
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
  if (atoi(fields[8]) == 0) snprintf(out->reason, sizeof out->reason, "%s", fields[6]);
  return out->np > 0 && (out->reason[0] || (out->bytes > 0 && *us > 0));
}

static void read_file(lines* all, const char* path, bool repeat) {
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
    key.repeat = repeat;
    size_t known = all->n;
    series* s = series_of(all, &key);
    if (all->n == known) s->wrong += key.wrong;
    if (!key.reason[0] && s->rounds < MOST_ROUNDS) s->us[s->rounds++] = us;
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
  column->gloo = strcmp(label, "gloo") == 0;
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

/* The column that is compared: ours, or what stands for it when that was not measured. */
static bool is_main(const table* t, int c) {
  for (int k = 0; k < t->ncolumns; k++)
    if (strcmp(t->columns[k].label, t->ours) == 0) return k == c;
  for (int k = 0; k < c; k++)
    if (t->columns[k].ours) return false;
  return t->columns[c].ours;
}

static void compare(const table* t, table_row* row) {
  for (int c = 0; c < t->ncolumns; c++) {
    double us = row->us[c];
    if (us == 0) continue;
    if (is_main(t, c)) row->ours = us;
    if (t->columns[c].limit) row->limit = us;
    if (t->columns[c].limit || t->columns[c].ours || (row->peer > 0 && us >= row->peer)) continue;
    row->peer = us;
    row->best_peer = c;
  }
}

static void place(table* t, series* s) {
  if (s->bytes == 0) return;
  qsort(s->us, (size_t)s->rounds, sizeof *s->us, ascending);
  int c = (int)(column_of(t, s->label) - t->columns);
  table_row* row = row_of(t, s);
  if (s->repeat && !row->repeated) {
    row->repeated = true;
    for (int k = 0; k < t->ncolumns; k++)
      if (!t->columns[k].limit) row->us[k] = 0;
  }
  if (s->rounds == 0) return;
  double us = s->us[s->rounds / 2];
  if (row->us[c] == 0 || us < row->us[c]) row->us[c] = us;
}

static void make(table* t, lines* all) {
  for (int repeat = 0; repeat < 2; repeat++) {
    for (size_t i = 0; i < all->n; i++)
      if (all->list[i].repeat == (repeat == 1)) place(t, &all->list[i]);
  }
  for (size_t i = 0; i < all->n; i++) t->wrong += all->list[i].wrong;
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
    printf(" %7.2f  %-12s", row->peer / row->ours, t->columns[row->best_peer].label);
  } else {
    printf(" %7s  %-12s", "-", "");
  }
  for (int c = 0; c < t->ncolumns; c++) {
    if (!t->columns[c].ours || is_main(t, c)) continue;
    printf(row->us[c] > 0 && row->peer > 0 ? " %10.2f" : "          -", row->peer / row->us[c]);
  }
  if (row->limit > 0 && row->ours > 0) printf(" %5.0f %%", 100 * row->limit / row->ours);
  printf("\n");
}

typedef struct {
  double sum;
  int n;
} mean;

static void gain(mean* m, double over, double under) {
  if (over > 0 && under > 0) m->sum += log(over / under), m->n++;
}

static void print_one_mean(const char* what, const char* of, const mean* m) {
  if (m->n > 0) printf("  geometric mean of %s%s over %d sizes: %.2f\n", what, of, m->n, exp(m->sum / m->n));
}

/* Of the rows from `first` on, to the end of their group. */
static void print_means(const table* t, int first) {
  enum { SMALL_BYTES = 64 << 10, LARGE_BYTES = 1 << 20 };
  mean all = {0}, small_gloo = {0}, large_gloo = {0}, limit = {0}, others[TABLE_COLUMNS] = {{0}};
  for (int r = first; r < t->nrows && (r == first || !starts_group(t, r)); r++) {
    const table_row* row = &t->rows[r];
    gain(&all, row->peer, row->ours);
    if (row->bytes >= LARGE_BYTES) gain(&limit, row->limit, row->ours);
    for (int c = 0; c < t->ncolumns; c++) {
      if (t->columns[c].gloo) gain(row->bytes <= SMALL_BYTES ? &small_gloo : &large_gloo, row->us[c], row->ours);
      if (t->columns[c].ours && !is_main(t, c)) gain(&others[c], row->peer, row->us[c]);
    }
  }
  print_one_mean("the ratio", "", &all);
  for (int c = 0; c < t->ncolumns; c++) print_one_mean("the ratio of ", t->columns[c].label, &others[c]);
  print_one_mean("the ratio to gloo", " up to 64 KiB", &small_gloo);
  print_one_mean("the ratio to gloo", " above 64 KiB", &large_gloo);
  print_one_mean("the share of the limit", " from 1 MiB on", &limit);
}

static void print_head(const table* t, const table_row* row) {
  printf("\n%s, %d ranks: median us\n%12s", row->op, row->np, "bytes");
  for (int c = 0; c < t->ncolumns; c++) printf(" %18s", t->columns[c].label);
  printf(" %7s  %-12s", "ratio", "best peer");
  for (int c = 0; c < t->ncolumns; c++)
    if (t->columns[c].ours && !is_main(t, c)) printf(" %10.10s", t->columns[c].label + strlen(t->ours) + 1);
  printf("  limit\n");
}

static void print_tables(const table* t) {
  int first = 0;
  for (int r = 0; r < t->nrows; r++) {
    if (starts_group(t, r)) {
      if (r > 0) print_means(t, first);
      first = r;
      print_head(t, &t->rows[r]);
    }
    print_row(t, &t->rows[r]);
  }
  if (t->nrows > 0) print_means(t, first);
}

static bool is_slow(const table_row* row) { return row->ours > 0 && row->peer > 0 && row->ours > 1.05 * row->peer; }

static void print_slow(const table* t) {
  int points = 0, slow = 0, very = 0;
  for (int r = 0; r < t->nrows; r++) {
    const table_row* row = &t->rows[r];
    points += row->ours > 0 && row->peer > 0;
    if (!is_slow(row)) continue;
    if (slow++ == 0) printf("\nslower than the best peer by more than 5 %%:\n");
    very += row->ours > 1.2 * row->peer;
    printf("  %s, %d ranks, %zu bytes: %.2f us, %s %.2f (+%.0f %%)%s\n", row->op, row->np, row->bytes, row->ours,
           t->columns[row->best_peer].label, row->peer, 100 * (row->ours / row->peer - 1),
           row->repeated ? ", repeated" : "");
  }
  printf("\n%d points, %d slower by more than 5 %%, %d of these by more than 20 %%; %ld wrong elements\n", points, slow,
         very, t->wrong);
}

static bool left_out(const series* s) { return s->reason[0] && s->rounds == 0; }

static bool follows(const series* s, const series* before) {
  return left_out(before) && s->np == before->np && strcmp(s->label, before->label) == 0 &&
         strcmp(s->variant, before->variant) == 0 && strcmp(s->op, before->op) == 0 &&
         strcmp(s->reason, before->reason) == 0;
}

/* The sizes that an operation of a library lacks stand one after the other. */
static void print_missing(const lines* all) {
  int n = 0;
  for (size_t i = 0; i < all->n; i++) {
    const series* s = &all->list[i];
    if (!left_out(s) || (i > 0 && follows(s, s - 1))) continue;
    if (n++ == 0) printf("\nnot measured:\n");
    printf("  %s%s%s, %s, %d ranks", s->label, s->variant[0] ? " " : "", s->variant, s->op, s->np);
    if (s->bytes > 0) printf(", from %zu bytes on", s->bytes);
    printf(": %s\n", s->reason);
  }
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

static void write_slow(const table* t, const char* path) {
  FILE* file = create(path);
  for (int r = 0; r < t->nrows; r++) {
    bool first = is_slow(&t->rows[r]);
    for (int k = 0; first && k < r; k++) first = t->rows[k].np != t->rows[r].np || !is_slow(&t->rows[k]);
    if (!first) continue;
    fprintf(file, "%d ", t->rows[r].np);
    for (int k = r; k < t->nrows; k++)
      if (t->rows[k].np == t->rows[r].np && is_slow(&t->rows[k]))
        fprintf(file, "%s%s:%zu", k > r ? "," : "", t->rows[k].op, t->rows[k].bytes);
    fprintf(file, "\n");
  }
  fclose(file);
}

static void write_svg(const table* t, const char* path) {
  FILE* file = create(path);
  table_draw(t, file);
  fclose(file);
}

int main(int argc, char** argv) {
  static const struct option known[] = {{"csv", 1, NULL, 'c'},  {"svg", 1, NULL, 's'},    {"ours", 1, NULL, 'o'},
                                        {"slow", 1, NULL, 'l'}, {"repeat", 1, NULL, 'r'}, {NULL, 0, NULL, 0}};
  const char *csv = NULL, *svg = NULL, *slow = NULL;
  table t = {.ours = "meshccl"};
  lines all = {0};
  for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    if (option == 'c') csv = optarg;
    if (option == 's') svg = optarg;
    if (option == 'o') t.ours = optarg;
    if (option == 'l') slow = optarg;
    if (option == 'r') read_file(&all, optarg, true);
    if (option == '?') return 2;
  }
  for (int i = optind; i < argc; i++) read_file(&all, argv[i], false);
  if (all.n == 0) {
    fprintf(stderr, "no measured lines; usage: compare_table [--csv FILE] [--svg FILE] [--ours LABEL] LINES...\n");
    return 2;
  }
  make(&t, &all);
  print_tables(&t);
  print_missing(&all);
  print_slow(&t);
  if (csv) write_csv(&t, csv);
  if (svg) write_svg(&t, svg);
  if (slow) write_slow(&t, slow);
  free(all.list);
  free(t.rows);
  if (t.wrong) fprintf(stderr, "%ld elements were wrong\n", t.wrong);
  return t.wrong ? 1 : 0;
}
