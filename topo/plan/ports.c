/* Gather and scatter that load all of the root's links alike. Every block must pass one of them, so (p - 1)/p of the
 * vector over as many links as the root has is the least there can be; a tree by dimensions sends most of it over one
 * of them. Here every block has a route of its own (ports_routes.c), and small numbers of blocks are cut into parts so
 * that the links' shares come out even.
 *
 *      scatter, root:       >next <- in[block]      farthest first, one channel per link of the root
 *      rank in between:     tmp? >next <- <before   copied when there is no room in a departing message at once
 *      rank of the block:   out <- <before
 *
 * Gather is the same backwards, nearest first. All ranks take the items of a channel in the same order: by length of
 * the route, then by number. Far blocks leave first, or last arrive: while they are under way the root's links are
 * busy with nearer ones.
 *
 * Ends: a step waits for a message of its own item or, by the order in its channel, for an earlier item; orders are the
 * same everywhere, so a chain of waiting ends at the first item, which waits for nobody. Sources: routes by flows, see
 * ports_routes.c; farthest first as in Saad and Schultz 1989 (Data communication in parallel architectures). */
#include "topo/plan/ports.h"

#include <stdlib.h>

#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/families.h"

#define MIN_MESSAGE 4096
#define FEW_RANKS 64 /* with more, whole blocks come out even enough */
#define WORTH 32     /* more parts must save so much of the time: routes of whole blocks share fewer links */

static const char* refuse(const mci_topo* topo, const mci_request* request, char* buffer, size_t size) {
  (void)buffer, (void)size;
  if (mci_topo_is_full(topo)) return "the ranks are joined pairwise, not as a grid";
  if (mci_topo_nranks(topo) == 1) return "a single rank has no neighbours";
  if (mci_topo_nplanes(topo) > 0) return "routes along links leave switches unused";
  if (mci_topo_nranks(topo) > MCI_PORTS_MAX_RANKS)
    return "every rank would work out the routes of more than 2048 ranks";
  if (mci_topo_is_regular(topo)) return NULL;
  mci_ports ports;
  if (mci_ports_find(topo, request->root, 1, &ports) != meshcclSuccess) return "there is no memory for routes";
  bool joined = ports.longest > 0;
  mci_ports_fini(&ports);
  return joined ? NULL : "some ranks are joined only through nodes that are none";
}

/* ---- order ---- */

/* One item in a list of those that pass a rank, or that leave the root by one link. */
typedef struct {
  uint32_t hops, item;
  uint32_t before, after; /* ranks on its route, as seen from the root */
  uint32_t branch;
} pass;

static int nearest_first(const void* a, const void* b) {
  const pass *x = a, *y = b;
  if (x->branch != y->branch) return x->branch < y->branch ? -1 : 1;
  if (x->hops != y->hops) return x->hops < y->hops ? -1 : 1;
  return x->item < y->item ? -1 : x->item > y->item;
}

/* Items that pass `rank` on their way, begin or end there: branch by branch, nearest first. To be freed. */
static meshcclResult_t list_passes(const mci_topo* topo, const mci_ports* ports, uint32_t rank, pass** out,
                                   uint32_t* n_out) {
  uint32_t items = ports->nranks * ports->parts, n = 0;
  pass* list = mci_alloc((items + (size_t)1) * sizeof *list);
  if (!list) return mci_oom(items * sizeof *list);
  for (uint32_t item = 0; item < items; item++) {
    uint32_t before = UINT32_MAX, here = ports->root;
    for (uint32_t i = 0; i <= ports->hops[item]; i++) {
      uint32_t after = i < ports->hops[item] ? ports->way[ports->first[item] + i] : UINT32_MAX;
      if (here == rank && ports->hops[item] > 0)
        list[n++] = (pass){ports->hops[item], item, before, after, mci_ports_branch(topo, ports, item)};
      before = here;
      here = after;
    }
  }
  if (n > 0) qsort(list, n, sizeof *list, nearest_first);
  *out = list;
  *n_out = n;
  return meshcclSuccess;
}

/* ---- cost ---- */

static uint64_t rate_between(const mci_topo* topo, uint32_t a, uint32_t b) {
  return mci_topo_class(topo, mci_topo_pair_class(topo, a, b)).bw_Bps;
}

/* A link of the root sends farthest first; an item is there when it has been sent, and passed on message by message. */
static meshcclResult_t time_of(const mci_topo* topo, const mci_request* request, const mci_ports* ports,
                               mci_plan_cost* out) {
  pass* list;
  uint32_t n;
  MCI_TRY(list_passes(topo, ports, ports->root, &list, &n));
  mci_link link = mci_topo_worst(topo);
  uint64_t block = mci_cost_share(request->bytes, 1, (uint64_t)ports->nranks * ports->parts);
  uint64_t message = MCI_MIN(block, mci_cost_message(request)), messages = (block + message - 1) / MCI_MAX(message, 1u);
  uint64_t pace = mci_cost_pace(&link, message, 1), hop = mci_cost_wire(&link, message) + link.cost_ps + link.lat_ps;
  uint64_t worst = 0, sent = 0, number = 0;
  uint32_t most = 0, count = 0;
  for (uint32_t i = n; i-- > 0;) { /* farthest first */
    if (i + 1 < n && list[i].branch != list[i + 1].branch) sent = number = count = 0;
    mci_link port = link;
    port.bw_Bps = rate_between(topo, ports->root, list[i].after);
    sent += mci_cost_busy(&port, block, MCI_MAX(message, 1u));
    number += messages;
    uint64_t paced = number > MCI_COST_CREDITS ? (number - MCI_COST_CREDITS) * pace : 0;
    worst = MCI_MAX(worst, MCI_MAX(sent, paced) + (list[i].hops - 1) * hop + link.lat_ps);
    most = MCI_MAX(most, ++count);
  }
  mci_free(list);
  link.bw_Bps = ports->bw_Bps; /* links farther on */
  worst = MCI_MAX(worst, ports->most * mci_cost_wire(&link, block));
  /* Routes that cross hold each other up (simulated: mostly less, at times twice as much). */
  if (ports->cross) worst += worst / (mci_topo_nclasses(topo) > 1 ? 2 : 12);
  *out =
      (mci_plan_cost){.cost_ps = worst, .steps = ports->longest, .channels = ports->branches, .chunks = ports->parts};
  out->load = (double)most / ports->parts / ports->nranks;
  return meshcclSuccess;
}

static void cost(const mci_topo* topo, const mci_request* request, mci_plan_cost* out) {
  uint32_t most = mci_topo_nranks(topo) > FEW_RANKS ? 1 : MCI_PORTS_MAX_PARTS;
  *out = (mci_plan_cost){.cost_ps = UINT64_MAX, .chunks = 1};
  for (uint32_t parts = 1; parts <= most; parts++) {
    mci_ports ports;
    mci_plan_cost one;
    if (parts > 1 && request->bytes / mci_topo_nranks(topo) / parts < MIN_MESSAGE) return;
    if (mci_ports_find(topo, request->root, parts, &ports) != meshcclSuccess) return;
    meshcclResult_t result = time_of(topo, request, &ports, &one);
    mci_ports_fini(&ports);
    if (result != meshcclSuccess) return;
    if (out->cost_ps == UINT64_MAX || one.cost_ps < out->cost_ps - out->cost_ps / WORTH) *out = one;
  }
}

/* ---- building ---- */
typedef struct {
  mci_build* b;
  const mci_ports* ports;
  uint32_t rank;
  bool gather;
} builder;

static mci_affine constant(uint32_t value) { return mci_const((int32_t)value); }

static mci_shape shape_of(const builder* w, uint32_t item) {
  return mci_span(constant(item / w->ports->parts), 1, constant(item % w->ports->parts));
}

static void keep_own(const builder* w) {
  mci_shape own = mci_span(constant(w->rank), 1, mci_const(0));
  own.nparts = w->ports->parts;
  mci_build_step(w->b, 0);
  mci_build_dst(w->b, MCI_OUT, 0, own);
  mci_build_src(w->b, MCI_IN, own);
}

static void send(const builder* w, uint32_t to, uint32_t item) {
  mci_build_step(w->b, 0);
  mci_build_dst_lane(w->b, 0, constant(to));
  mci_build_src(w->b, MCI_IN, shape_of(w, item));
}

static void receive(const builder* w, uint32_t from, uint32_t item) {
  mci_build_step(w->b, 0);
  mci_build_dst(w->b, MCI_OUT, 0, shape_of(w, item));
  mci_build_src_lane(w->b, constant(from));
}

static void pass_on(const builder* w, uint32_t from, uint32_t to, const pass* p) {
  mci_build_step(w->b, 0);
  mci_build_dst_tmp(w->b, MCI_SPILL, constant(p->branch), shape_of(w, p->item));
  mci_build_dst_lane(w->b, MCI_COPY, constant(to));
  mci_build_src_lane(w->b, constant(from));
}

static void write_pass(const builder* w, const pass* p) {
  if (p->before == UINT32_MAX && w->gather) {
    receive(w, p->after, p->item);
  } else if (p->before == UINT32_MAX) {
    send(w, p->after, p->item);
  } else if (p->after == UINT32_MAX && w->gather) {
    send(w, p->before, p->item);
  } else if (p->after == UINT32_MAX) {
    receive(w, p->before, p->item);
  } else {
    pass_on(w, w->gather ? p->after : p->before, w->gather ? p->before : p->after, p);
  }
}

static bool between(const pass* p) { return p->before != UINT32_MAX && p->after != UINT32_MAX; }

/* Passes that do the same, one after the other. */
static uint32_t alike(const builder* w, const pass* list, uint32_t n) {
  uint32_t same = 1;
  if (!between(list) || w->ports->parts > 1) return 1;
  while (same < n && between(&list[same]) && list[same].before == list->before && list[same].after == list->after)
    same++;
  return same;
}

static void write_branch(const builder* w, const pass* list, uint32_t n) {
  for (uint32_t i = 0, same; i < n; i += same) {
    same = alike(w, &list[i], n - i);
    if (same > 1) mci_build_repeat(w->b, same);
    write_pass(w, &list[i]);
    if (same > 1) mci_build_end(w->b);
  }
}

static void reverse(pass* list, uint32_t n) {
  for (uint32_t i = 0; i < n / 2; i++) {
    pass swapped = list[i];
    list[i] = list[n - 1 - i];
    list[n - 1 - i] = swapped;
  }
}

static void write_all(const builder* w, pass* list, uint32_t n) {
  for (uint32_t i = 0, end; i < n; i = end) {
    for (end = i + 1; end < n && list[end].branch == list[i].branch; end++) continue;
    if (!w->gather) reverse(&list[i], end - i);
    mci_build_channel(w->b, (uint16_t)list[i].branch);
    if (i == 0 && w->rank == w->ports->root) keep_own(w);
    write_branch(w, &list[i], end - i);
  }
}

static bool passes_any(const pass* list, uint32_t n) {
  while (n > 0 && !between(&list[n - 1])) n--;
  return n > 0;
}

static meshcclResult_t build(const mci_topo* topo, const mci_request* request, const mci_plan_cost* cost_of,
                             uint32_t rank, mci_program** out) {
  mci_ports ports;
  pass* list;
  uint32_t n;
  MCI_TRY(mci_ports_find(topo, request->root, cost_of->chunks, &ports));
  meshcclResult_t result = list_passes(topo, &ports, rank, &list, &n);
  if (result == meshcclSuccess) {
    builder w = {.ports = &ports, .rank = rank, .gather = request->coll == MCI_GATHER};
    w.b = mci_build_begin(request->coll, "ports", ports.nranks, rank, request->root);
    mci_build_layout(w.b, ports.nranks, ports.parts, NULL);
    mci_build_slots(w.b, passes_any(list, n) ? ports.branches : 0);
    write_all(&w, list, n);
    mci_free(list);
    result = mci_build_finish(w.b, out);
  }
  mci_ports_fini(&ports);
  if (result == meshcclSuccess) (*out)->steps = cost_of->steps;
  return result;
}

const mci_family mci_family_ports = {"ports",
                                     MCI_COLL_BIT(MCI_GATHER) | MCI_COLL_BIT(MCI_SCATTER),
                                     "every block on a route of its own, all links of the root alike",
                                     refuse,
                                     cost,
                                     build};
