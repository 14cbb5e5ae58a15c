/* Advice on damaged grids, see advice.h. Groups that may be worth leaving out: the smaller side of every bridge, and
 * every connected set of ranks with two links or fewer, such as what surrounds a hole next to a corner. Each is tried:
 * the strength of what remains, exactly, says what it gains. The best is left out, and all is looked at again, as long
 * as that pays: what leaves must gain more than its share of the ranks.
 *
 *      o  x  o-          the corner hangs on one link: the strength is 1, the factor of all-reduce 1;
 *      |     |           without it as well the factor of a 5x5 mesh is 0.611
 *      o--o--o-
 *
 * Tries are limited, so that large grids take no longer than a few seconds. */
#include "topo/advice.h"

#include <string.h>

#include "topo/cuts.h"
#include "topo/grid.h"
#include "topo/net.h"

#define NONE UINT32_MAX
#define MAX_RANKS 4096
#define FEW_RANKS 512
#define MAX_ROUNDS 4
#define WORK 30000 /* tries times ranks, in all */

typedef struct {
  const mci_net* net;
  uint64_t base; /* capacity of a link of the finest level */
  uint32_t n, left, tries;
  bool *out, *group, *best; /* per rank; best: of the group that gained most */
  bool* hanging;            /* behind bridges, all of them */
  uint32_t *queue, *mark, *degree;
  double factor, gained; /* now; with the best group left out as well */
} state;

static void destroy(state* s) {
  mci_free(s->out), mci_free(s->group), mci_free(s->best), mci_free(s->hanging), mci_free(s->queue), mci_free(s->mark),
      mci_free(s->degree);
}

static meshcclResult_t create(const mci_net* net, uint64_t base, state* s) {
  size_t n = net->nnodes;
  *s = (state){.net = net, .base = base, .n = net->nnodes, .left = net->nnodes};
  s->tries = MCI_MAX(WORK / s->n, 4u);
  s->out = mci_alloc(n), s->group = mci_alloc(n), s->best = mci_alloc(n), s->hanging = mci_alloc(n);
  s->queue = mci_alloc(n * sizeof *s->queue);
  s->mark = mci_alloc(n * sizeof *s->mark);
  s->degree = mci_alloc(n * sizeof *s->degree);
  if (s->out && s->group && s->best && s->hanging && s->queue && s->mark && s->degree) return meshcclSuccess;
  destroy(s);
  return mci_oom(n * 3 * sizeof *s->queue);
}

static bool works(const state* s, uint32_t link) {
  return !s->out[s->net->link[link][0]] && !s->out[s->net->link[link][1]];
}

/* All-reduce's factor on the ranks that are in neither set; 0: they are in pieces. */
static meshcclResult_t factor_without(const state* s, const bool* group, double* factor) {
  mci_net part = {0};
  uint32_t* number = s->mark;
  meshcclResult_t result = meshcclSuccess;
  for (uint32_t v = 0; v < s->n; v++) number[v] = s->out[v] || (group && group[v]) ? NONE : part.nnodes++;
  *factor = 0;
  if (part.nnodes < 2) return meshcclSuccess;
  part.link = mci_alloc(s->net->nlinks * sizeof *part.link);
  part.cap = mci_alloc(s->net->nlinks * sizeof *part.cap);
  uint32_t* joined = mci_alloc(part.nnodes * sizeof *joined);
  if (!part.link || !part.cap || !joined) {
    result = mci_oom(s->net->nlinks * sizeof *part.link);
    goto err_part;
  }
  uint32_t pieces = part.nnodes;
  for (uint32_t v = 0; v < part.nnodes; v++) joined[v] = v;
  for (uint32_t i = 0; i < s->net->nlinks; i++) {
    uint32_t a = number[s->net->link[i][0]], b = number[s->net->link[i][1]];
    if (a == NONE || b == NONE) continue;
    part.link[part.nlinks][0] = a;
    part.link[part.nlinks][1] = b;
    part.cap[part.nlinks++] = s->net->cap[i];
    while (joined[a] != a) a = joined[a] = joined[joined[a]];
    while (joined[b] != b) b = joined[b] = joined[joined[b]];
    if (a != b) joined[a] = b, pieces--;
  }
  mci_ratio strength;
  if (pieces > 1) goto err_part;
  MCI_TRY_OR(mci_net_strength(&part, &strength), err_part);
  *factor = (double)s->base * (double)strength.den / (double)strength.num;
err_part:
  mci_free(joined);
  mci_net_destroy(&part);
  return result;
}

/* The group is worth its ranks when the time falls by more than the share of them that leaves. */
static meshcclResult_t try_group(state* s, uint32_t size) {
  if (size == 0 || 8 * (s->n - s->left + size) > s->n || s->tries == 0) return meshcclSuccess;
  double factor;
  s->tries--;
  MCI_TRY(factor_without(s, s->group, &factor));
  if (factor == 0 || factor >= s->gained || factor > s->factor * (1 - (double)size / s->left)) return meshcclSuccess;
  s->gained = factor;
  memcpy(s->best, s->group, s->n * sizeof *s->best);
  return meshcclSuccess;
}

/* ---- groups ---- */

/* Marks in `group` what `from` reaches without one link, or over ranks of few links only; returns how many. */
static uint32_t reach(state* s, uint32_t from, uint32_t without, bool few) {
  uint32_t tail = 0;
  memset(s->group, 0, s->n * sizeof *s->group);
  s->group[from] = true;
  s->queue[tail++] = from;
  for (bool more = true; more;) {
    more = false;
    for (uint32_t i = 0; i < s->net->nlinks; i++) {
      uint32_t a = s->net->link[i][0], b = s->net->link[i][1];
      if (i == without || !works(s, i) || s->group[a] == s->group[b]) continue;
      uint32_t next = s->group[a] ? b : a;
      if (few && s->degree[next] > 2) continue;
      s->group[next] = true;
      tail++;
      more = true;
      if (8 * tail > s->n) return 0;
    }
  }
  return tail;
}

static void count_degrees(state* s) {
  memset(s->degree, 0, s->n * sizeof *s->degree);
  for (uint32_t i = 0; i < s->net->nlinks; i++)
    if (works(s, i)) s->degree[s->net->link[i][0]]++, s->degree[s->net->link[i][1]]++;
}

/* On large grids only bridges from a rank of two links are looked for. */
static bool may_be_bridge(const state* s, uint32_t link) {
  uint32_t least = MCI_MIN(s->degree[s->net->link[link][0]], s->degree[s->net->link[link][1]]);
  return works(s, link) && (s->n <= FEW_RANKS || least <= 2);
}

static meshcclResult_t try_bridges(state* s) {
  uint32_t hanging = 0;
  memset(s->hanging, 0, s->n * sizeof *s->hanging);
  for (uint32_t i = 0; i < s->net->nlinks; i++) {
    if (!may_be_bridge(s, i)) continue;
    for (int end = 0; end < 2; end++) {
      uint32_t size = reach(s, s->net->link[i][end], i, false);
      if (size == 0 || s->group[s->net->link[i][1 - end]]) continue;
      for (uint32_t v = 0; v < s->n; v++) s->hanging[v] = s->hanging[v] || s->group[v];
      MCI_TRY(try_group(s, size));
    }
  }
  for (uint32_t v = 0; v < s->n; v++) hanging += s->hanging[v];
  memcpy(s->group, s->hanging, s->n * sizeof *s->group);
  return try_group(s, hanging);
}

static meshcclResult_t try_all(state* s) {
  count_degrees(s);
  MCI_TRY(try_bridges(s));
  for (uint32_t v = 0; v < s->n && s->tries > 0; v++) {
    if (s->out[v] || s->degree[v] > 2) continue;
    MCI_TRY(try_group(s, reach(s, v, NONE, true)));
  }
  return meshcclSuccess;
}

static meshcclResult_t search(state* s, double* before) {
  MCI_TRY(factor_without(s, NULL, &s->factor));
  *before = s->factor;
  for (int round = 0; round < MAX_ROUNDS && s->factor > 0; round++) {
    s->gained = s->factor;
    MCI_TRY(try_all(s));
    if (s->gained >= s->factor) break;
    s->factor = s->gained;
    for (uint32_t v = 0; v < s->n; v++) {
      s->left -= s->best[v] && !s->out[v];
      s->out[v] = s->out[v] || s->best[v];
    }
  }
  return meshcclSuccess;
}

static void print(const mci_topo* topo, const state* s, double before, mci_str* out) {
  uint32_t count = s->n - s->left, printed = 0;
  mci_str_add(out, "advice      without %u more rank%s all-reduce has the factor %.4g instead of %.4g: dead=", count,
              count > 1 ? "s" : "", s->factor, before);
  for (uint32_t i = 0; i < topo->ndead; i++) {
    mci_str_add(out, "%s", printed++ ? "+" : "");
    mci_grid_print_node(topo, topo->dead[i], out);
  }
  for (uint32_t v = 0; v < s->n; v++) {
    if (!s->out[v]) continue;
    mci_str_add(out, "%s", printed++ ? "+" : "");
    mci_grid_print_node(topo, mci_grid_node(topo, v), out);
  }
  mci_str_add(out, "\n");
}

meshcclResult_t mci_topo_advice(const mci_topo* topo, mci_str* out) {
  if (topo->full || topo->nplanes > 0 || topo->pick || topo->map || topo->ndead + topo->ncut == 0)
    return meshcclSuccess;
  if (topo->nranks > MAX_RANKS || !topo->connected) return meshcclSuccess;
  mci_capacities cap;
  mci_net net;
  state s;
  double before;
  mci_capacities_of(topo, &cap);
  MCI_TRY(mci_net_create(topo, cap.of_class, &net));
  meshcclResult_t result = create(&net, cap.base, &s);
  if (result == meshcclSuccess) {
    result = search(&s, &before);
    if (result == meshcclSuccess && s.left < s.n) print(topo, &s, before, out);
    destroy(&s);
  }
  mci_net_destroy(&net);
  return result;
}
