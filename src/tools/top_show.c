/* meshccl top: the statuses of all ranks as a table or as JSON, and what follows from them: whom those that wait
 * wait for in the end. Pure functions of what was gathered. */
#include <stdio.h>

#include "base/base.h"
#include "sched/sched.h"
#include "tools/top.h"

#define MOST_FINDINGS 8
#define LINKS_SHOWN 3

/* ---- words and numbers ---- */

static const char* state_of(const mci_rank_status* s) {
  if (s->busy) return s->waits_for >= 0 ? "waits" : "runs";
  return s->calling ? "in a call" : "outside";
}

static bool known_coll(const mci_rank_status* s) { return s->coll < MCI_NUM_COLLS; }

static void add_size(uint64_t bytes, mci_str* out) {
  static const char units[] = " KMGTPE";
  double value = (double)bytes;
  int unit = 0;
  for (; value >= 1000 && units[unit + 1]; unit++) value /= 1024;
  if (unit == 0)
    mci_str_add(out, "%llu", (unsigned long long)bytes);
  else
    mci_str_add(out, value < 10 ? "%.1f%c" : "%.0f%c", value, units[unit]);
}

static void column(mci_str* out, size_t* edge, size_t width, size_t line) {
  *edge += width;
  do mci_str_add(out, " ");
  while (out->length - line < *edge);
}

/* ---- findings ---- */

/* The end of the chain of waits that begins at `rank`; *circle when it comes back to itself. */
static int end_of(const mci_top_view* view, int rank, bool* circle) {
  int at = rank;
  *circle = false;
  for (int hops = 0; hops <= view->nranks; hops++) {
    if (!view->answered[at]) return at;
    const mci_rank_status* s = &view->status[at];
    if (!s->busy || s->waits_for < 0 || s->waits_for >= view->nranks || s->waits_for == at) return at;
    at = s->waits_for;
  }
  *circle = true;
  return at;
}

static void say_end(const mci_top_view* view, int end, bool circle, int waiting, mci_str* out) {
  const mci_rank_status* s = &view->status[end];
  mci_str_add(out, "%d %s, in the end for rank %d, which ", waiting, waiting == 1 ? "rank waits" : "ranks wait", end);
  if (!view->answered[end]) {
    mci_str_add(out, "gives no answer");
  } else if (circle) {
    mci_str_add(out, "is part of a circle of ranks that wait for each other");
  } else if (s->busy) {
    mci_str_add(out, "runs operation %u", s->operation);
  } else {
    mci_str_add(out, "%s meshccl calls after operation %u, for %.1f s",
                s->calling ? "is inside of other" : "is outside of", s->operation, (double)s->still_ns / 1e9);
  }
}

typedef struct {
  int end, waiting;
  bool circle;
} finding;

/* The ends that most ranks wait for; ranks that give no answer are ends even when nobody waits for them. */
static int find(const mci_top_view* view, finding* out) {
  int* waiting = mci_alloc((size_t)view->nranks * sizeof *waiting);
  int n = 0;
  for (int r = 0; waiting && r < view->nranks; r++) {
    bool circle;
    int end = end_of(view, r, &circle);
    waiting[end] += end != r || circle;
  }
  while (waiting && n < MOST_FINDINGS) {
    int best = -1;
    for (int r = 0; r < view->nranks; r++)
      if (waiting[r] > 0 && (best < 0 || waiting[r] > waiting[best])) best = r;
    if (best < 0) break;
    out[n] = (finding){.end = best, .waiting = waiting[best]};
    end_of(view, best, &out[n].circle);
    waiting[best] = 0;
    n++;
  }
  mci_free(waiting);
  return n;
}

/* ---- text ---- */

static void add_operation(const mci_rank_status* s, mci_str* out) {
  if (!s->busy) {
    mci_str_add(out, "%s, after %u", state_of(s), s->operation);
    return;
  }
  if (s->started == s->finished) {
    mci_str_add(out, "leaves");
    return;
  }
  mci_str_add(out, "%u %s ", s->operation, known_coll(s) ? mci_coll_name((mci_coll)s->coll) : "?");
  add_size(s->bytes, out);
}

static void add_row(const mci_rank_status* s, mci_str* out) {
  size_t line = out->length, edge = 0;
  mci_str_add(out, "%d", s->rank);
  column(out, &edge, 6, line);
  mci_str_add(out, "%s/%d", s->host, s->pid);
  column(out, &edge, 24, line);
  add_operation(s, out);
  column(out, &edge, 26, line);
  if (s->busy && s->nsteps) mci_str_add(out, "%u/%u", s->step, s->nsteps);
  column(out, &edge, 9, line);
  if (s->busy && s->waits_for >= 0) mci_str_add(out, "%d over %s", s->waits_for, s->over);
  column(out, &edge, 16, line);
  mci_str_add(out, "%.1f s", (double)s->still_ns / 1e9);
  column(out, &edge, 10, line);
  add_size(s->sent_bytes, out);
  mci_str_add(out, "/");
  add_size(s->received_bytes, out);
  column(out, &edge, 13, line);
  for (uint32_t i = 0; i < s->npeers && i < LINKS_SHOWN; i++) {
    mci_str_add(out, "%s%d: ", i ? "  " : "", s->peers[i].rank);
    add_size(s->peers[i].sent_bytes, out);
    mci_str_add(out, "/");
    add_size(s->peers[i].received_bytes, out);
  }
  mci_str_add(out, "\n");
}

void mci_top_text(const mci_top_view* view, int most_ranks, mci_str* out) {
  finding findings[MOST_FINDINGS];
  int n = find(view, findings);
  mci_str_add(out, "%s: %d ranks, %d answered; seen through rank %d (process %d)\n", view->name, view->nranks,
              view->answered_count, view->through, view->pid);
  for (int i = 0; i < n; i++) {
    say_end(view, findings[i].end, findings[i].circle, findings[i].waiting, out);
    mci_str_add(out, "\n");
  }
  mci_str_add(out,
              "\nrank  host/process            operation                 step     waits for       still     "
              "sent/received links: sent/received\n");
  for (int r = 0; r < view->nranks && r < most_ranks; r++) {
    if (view->answered[r])
      add_row(&view->status[r], out);
    else
      mci_str_add(out, "%-5d no answer\n", r);
  }
  if (most_ranks < view->nranks) mci_str_add(out, "and %d more; --once prints all\n", view->nranks - most_ranks);
}

/* ---- JSON ---- */

static void json_rank(const mci_rank_status* s, mci_str* out) {
  bool waits = s->busy && s->waits_for >= 0;
  mci_str_add(out, "{\"rank\": %d, \"answered\": true, \"host\": ", s->rank);
  mci_str_json(out, s->host);
  mci_str_add(out, ", \"pid\": %d, \"state\": \"%s\", \"operation\": %u, \"collective\": ", s->pid, state_of(s),
              s->operation);
  mci_str_json(out, s->busy && s->started != s->finished && known_coll(s) ? mci_coll_name((mci_coll)s->coll) : NULL);
  mci_str_add(out, ", \"bytes\": %llu, \"step\": %u, \"steps\": %u, \"waits_for\": ", (unsigned long long)s->bytes,
              s->step, s->nsteps);
  if (waits)
    mci_str_add(out, "%d", s->waits_for);
  else
    mci_str_add(out, "null");
  mci_str_add(out, ", \"over\": ");
  mci_str_json(out, waits ? s->over : NULL);
  mci_str_add(out,
              ", \"started\": %llu, \"finished\": %llu, \"queued\": %u, \"still_seconds\": %.3f, \"sent_bytes\": %llu, "
              "\"received_bytes\": %llu, \"links\": [",
              (unsigned long long)s->started, (unsigned long long)s->finished, s->queued, (double)s->still_ns / 1e9,
              (unsigned long long)s->sent_bytes, (unsigned long long)s->received_bytes);
  for (uint32_t i = 0; i < s->npeers; i++)
    mci_str_add(out, "%s{\"peer\": %d, \"sent_bytes\": %llu, \"received_bytes\": %llu}", i ? ", " : "",
                s->peers[i].rank, (unsigned long long)s->peers[i].sent_bytes,
                (unsigned long long)s->peers[i].received_bytes);
  mci_str_add(out, "]}");
}

void mci_top_json(const mci_top_view* view, mci_str* out) {
  finding findings[MOST_FINDINGS];
  int n = find(view, findings);
  mci_str_add(out, "{\"communicator\": ");
  mci_str_json(out, view->name);
  mci_str_add(out, ", \"nranks\": %d, \"answered\": %d, \"through\": %d, \"findings\": [", view->nranks,
              view->answered_count, view->through);
  for (int i = 0; i < n; i++) {
    mci_str text = {0};
    say_end(view, findings[i].end, findings[i].circle, findings[i].waiting, &text);
    if (i) mci_str_add(out, ", ");
    mci_str_json(out, text.text);
    mci_str_fini(&text);
  }
  mci_str_add(out, "], \"ranks\": [\n");
  for (int r = 0; r < view->nranks; r++) {
    if (view->answered[r])
      json_rank(&view->status[r], out);
    else
      mci_str_add(out, "{\"rank\": %d, \"answered\": false}", r);
    mci_str_add(out, r + 1 < view->nranks ? ",\n" : "\n");
  }
  mci_str_add(out, "]}\n");
}
