#include <math.h>
#include <stdio.h>
#include <string.h>

#include "table.h"

enum { WIDE = 420, TIMES = 240, RATIOS = 90, LEFT = 60, TOP = 34, GAP = 18, BOTTOM = 40, ACROSS = 3, LEGEND = 30 };
enum {
  PANEL_WIDE = WIDE + LEFT + 20,
  PANEL_HIGH = TOP + TIMES + GAP + RATIOS + BOTTOM,
  MARGIN = 20 /* of the last label */
};

static const char* const colors[] = {"#d1495b", "#e09f3e", "#2e86ab", "#6a994e", "#7b5ea7", "#8d6e63",
                                     "#00897b", "#c2185b", "#5c6bc0", "#9e9d24", "#546e7a", "#f4511e"};

typedef struct {
  const table* t;
  FILE* file;
  int first, end;                                  /* rows */
  double x0, y0;                                   /* of the panel */
  double low_x, high_x, low_y, high_y, high_ratio; /* logarithms, but the ratio */
} panel;

static double x_of(const panel* p, size_t bytes) {
  return p->x0 + LEFT + WIDE * (log10((double)bytes) - p->low_x) / (p->high_x - p->low_x);
}

static double y_of(const panel* p, double us) {
  return p->y0 + TOP + TIMES * (p->high_y - log10(us)) / (p->high_y - p->low_y);
}

static double ratio_y_of(const panel* p, double ratio) {
  return p->y0 + TOP + TIMES + GAP + RATIOS * (1 - ratio / p->high_ratio);
}

static void find_range(panel* p) {
  p->low_y = 9, p->high_y = -3, p->high_ratio = 2;
  p->low_x = log10((double)p->t->rows[p->first].bytes);
  p->high_x = log10((double)p->t->rows[p->end - 1].bytes);
  if (p->high_x <= p->low_x) p->high_x = p->low_x + 1;
  for (int r = p->first; r < p->end; r++) {
    const table_row* row = &p->t->rows[r];
    for (int c = 0; c < p->t->ncolumns; c++) {
      if (row->us[c] == 0) continue;
      p->low_y = fmin(p->low_y, floor(log10(row->us[c])));
      p->high_y = fmax(p->high_y, ceil(log10(row->us[c])));
    }
    if (row->ours > 0 && row->peer > 0) p->high_ratio = fmax(p->high_ratio, ceil(row->peer / row->ours));
  }
  if (p->high_y <= p->low_y) p->high_y = p->low_y + 1;
}

static void text(const panel* p, double x, double y, const char* anchor, const char* what) {
  fprintf(p->file, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, what);
}

static void rule(const panel* p, double x1, double y1, double x2, double y2) {
  fprintf(p->file, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#8888\" stroke-width=\"0.7\"/>\n",
          x1, y1, x2, y2);
}

static void size_name(size_t bytes, char out[16]) {
  static const char units[] = " KMG";
  int unit = 0;
  while (bytes >= 1024 && unit < 3) bytes /= 1024, unit++;
  snprintf(out, 16, unit ? "%zu %ciB" : "%zu B", bytes, units[unit]);
}

static void time_name(double exponent, char out[16]) {
  static const char* const units[] = {"us", "ms", "s"};
  int unit = exponent < 3 ? 0 : exponent < 6 ? 1 : 2;
  snprintf(out, 16, "%g %s", pow(10, exponent - 3 * unit), units[unit]);
}

static void draw_axes(const panel* p) {
  char label[64];
  double right = p->x0 + LEFT + WIDE;
  for (double e = p->low_y; e <= p->high_y; e++) {
    double y = y_of(p, pow(10, e));
    rule(p, p->x0 + LEFT, y, right, y);
    time_name(e, label);
    text(p, p->x0 + LEFT - 5, y + 4, "end", label);
  }
  for (int r = p->first; r < p->end; r += 2) {
    double x = x_of(p, p->t->rows[r].bytes);
    size_name(p->t->rows[r].bytes, label);
    rule(p, x, p->y0 + TOP, x, p->y0 + TOP + TIMES + GAP + RATIOS);
    text(p, x, p->y0 + TOP + TIMES + GAP + RATIOS + 16, "middle", label);
  }
  for (int i = 0; i <= 2; i++) {
    double ratio = i == 1 ? 1 : i == 2 ? p->high_ratio : 0, y = ratio_y_of(p, ratio);
    rule(p, p->x0 + LEFT, y, right, y);
    snprintf(label, sizeof label, "%gx", ratio);
    text(p, p->x0 + LEFT - 5, y + 4, "end", label);
  }
  snprintf(label, sizeof label, "%s, %d ranks", p->t->rows[p->first].op, p->t->rows[p->first].np);
  text(p, p->x0 + LEFT, p->y0 + TOP - 10, "start", label);
}

static void begin_line(const panel* p, int column) {
  const table_column* c = &p->t->columns[column];
  fprintf(p->file, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%s\"%s points=\"",
          c->limit ? "#888" : colors[column % 12], c->ours ? "2.6" : "1.3",
          c->limit ? " stroke-dasharray=\"5 4\"" : "");
}

static void draw_lines(const panel* p) {
  for (int c = 0; c < p->t->ncolumns; c++) {
    begin_line(p, c);
    for (int r = p->first; r < p->end; r++)
      if (p->t->rows[r].us[c] > 0)
        fprintf(p->file, "%.1f,%.1f ", x_of(p, p->t->rows[r].bytes), y_of(p, p->t->rows[r].us[c]));
    fprintf(p->file, "\"/>\n");
  }
  fprintf(p->file, "<polyline fill=\"none\" stroke=\"#888\" stroke-width=\"2\" points=\"");
  for (int r = p->first; r < p->end; r++) {
    const table_row* row = &p->t->rows[r];
    if (row->ours > 0 && row->peer > 0)
      fprintf(p->file, "%.1f,%.1f ", x_of(p, row->bytes), ratio_y_of(p, row->peer / row->ours));
  }
  fprintf(p->file, "\"/>\n");
}

static void draw_legend(const table* t, FILE* file) {
  panel p = {.t = t, .file = file};
  double x = 20;
  for (int c = 0; c < t->ncolumns; c++) {
    begin_line(&p, c);
    fprintf(file, "%.1f,16 %.1f,16\"/>\n", x, x + 24);
    text(&p, x + 28, 20, "start", t->columns[c].limit ? "limit of the machine" : t->columns[c].label);
    x += 60 + 7.0 * (double)strlen(t->columns[c].limit ? "limit of the machine" : t->columns[c].label);
  }
  text(&p, x, 20, "start", "lower part: best peer's time by ours");
}

void table_draw(const table* t, FILE* file) {
  int panels = 0;
  panel list[64];
  for (int r = 0; r < t->nrows && panels < 64; panels++) {
    panel p = {.t = t, .file = file, .first = r, .end = r + 1};
    while (p.end < t->nrows && t->rows[p.end].np == t->rows[r].np && strcmp(t->rows[p.end].op, t->rows[r].op) == 0)
      p.end++;
    p.x0 = panels % ACROSS * PANEL_WIDE;
    p.y0 = LEGEND + panels / ACROSS * PANEL_HIGH;
    r = p.end;
    list[panels] = p;
  }
  int across = panels < ACROSS ? panels : ACROSS;
  fprintf(file,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\" "
          "fill=\"#777\">\n",
          (across < 2 ? 2 : across) * PANEL_WIDE + MARGIN, LEGEND + (panels + ACROSS - 1) / ACROSS * PANEL_HIGH);
  draw_legend(t, file);
  for (int i = 0; i < panels; i++) {
    find_range(&list[i]);
    draw_axes(&list[i]);
    draw_lines(&list[i]);
  }
  fprintf(file, "</svg>\n");
}
