/* Expressions over the ranks' inputs, each kept once, so that equality is equality of numbers. An expression says in
 * which order, in which groups and with which flags the inputs of an element were folded: equal expressions give equal
 * bits. Two operands commute bitwise, more are folded left to right: so the first two of a fold may be exchanged, which
 * the canonical form makes visible. */
#include <string.h>

#include "sched/verify.h"

static uint64_t key_of(unsigned flags, const uint32_t* children, uint32_t n) {
  return mci_hash64(children, n * sizeof *children) ^ (flags * UINT64_C(0x9e3779b97f4a7c15));
}

static bool same(const mci_exprs* e, uint32_t node, unsigned flags, const uint32_t* children, uint32_t n) {
  const mci_expr* x = &e->nodes[node];
  return x->nchildren == n && x->flags == flags && memcmp(&e->pool[x->children], children, n * sizeof *children) == 0;
}

static void enter(mci_exprs* e, uint32_t node) {
  const mci_expr* x = &e->nodes[node];
  uint32_t mask = e->table_size - 1;
  uint32_t at = (uint32_t)key_of(x->flags, &e->pool[x->children], x->nchildren) & mask;
  while (e->table[at]) at = (at + 1) & mask;
  e->table[at] = node + 1;
}

static meshcclResult_t grow_table(mci_exprs* e) {
  if ((uint64_t)e->nnodes * 2 < e->table_size) return meshcclSuccess;
  uint32_t size = MCI_MAX(e->table_size * 2, 1024u);
  while (size < e->nnodes * UINT64_C(4)) size *= 2;
  uint32_t* table = mci_alloc(size * sizeof *table);
  if (!table) return mci_oom(size * sizeof *table);
  mci_free(e->table);
  e->table = table;
  e->table_size = size;
  for (uint32_t i = e->nranks; i < e->nnodes; i++) enter(e, i);
  return meshcclSuccess;
}

static meshcclResult_t add_node(mci_exprs* e, mci_expr node, uint32_t* out) {
  MCI_TRY(mci_grow(&e->nodes, sizeof *e->nodes, &e->cap_nodes, (size_t)e->nnodes + 1));
  MCI_TRY(mci_grow(&e->sets, sizeof *e->sets, &e->cap_sets, ((size_t)e->nnodes + 1) * e->words));
  e->nodes[e->nnodes] = node;
  *out = e->nnodes++;
  return meshcclSuccess;
}

meshcclResult_t mci_exprs_init(mci_exprs* e, uint32_t nranks) {
  e->nranks = nranks;
  e->words = (nranks + 63) / 64;
  for (uint32_t r = 0; r < nranks; r++) {
    uint32_t node;
    MCI_TRY(add_node(e, (mci_expr){.children = r, .canonical = r, .inputs = 1, .hash = mci_hash64_mix(1, r)}, &node));
    e->sets[(size_t)node * e->words + r / 64] = UINT64_C(1) << (r % 64);
  }
  return grow_table(e);
}

void mci_exprs_fini(mci_exprs* e) {
  mci_free(e->nodes);
  mci_free(e->sets);
  mci_free(e->pool);
  mci_free(e->table);
  mci_free(e->scratch);
}

/* A rank whose input is in two of the children, or MCI_NONE. */
static uint32_t find_twice(const mci_exprs* e, const uint32_t* children, uint32_t n) {
  for (uint32_t w = 0; w < e->words && n > 1; w++) {
    uint64_t seen = 0;
    for (uint32_t k = 0; k < n; k++) {
      uint64_t set = e->sets[(size_t)children[k] * e->words + w];
      if (seen & set) return w * 64 + (uint32_t)__builtin_ctzll(seen & set);
      seen |= set;
    }
  }
  return MCI_NONE;
}

/* Finds or makes the node; its canonical form is set by the caller. */
static meshcclResult_t intern(mci_exprs* e, unsigned flags, const uint32_t* children, uint32_t n, uint32_t* out,
                              bool* made) {
  MCI_TRY(grow_table(e));
  uint32_t mask = e->table_size - 1;
  *made = false;
  for (uint32_t at = (uint32_t)key_of(flags, children, n) & mask; e->table[at]; at = (at + 1) & mask) {
    *out = e->table[at] - 1;
    if (same(e, *out, flags, children, n)) return meshcclSuccess;
  }
  MCI_TRY(mci_grow(&e->pool, sizeof *e->pool, &e->cap_pool, (size_t)e->npool + n));
  mci_expr node = {
      .children = e->npool, .nchildren = n, .flags = (uint8_t)flags, .finished = (flags & MCI_FINISH) != 0};
  node.hash = mci_hash64_mix(2 + flags, n);
  memcpy(&e->pool[e->npool], children, n * sizeof *children);
  for (uint32_t k = 0; k < n; k++) {
    node.finished = node.finished || e->nodes[children[k]].finished;
    node.inputs += e->nodes[children[k]].inputs;
    node.hash = mci_hash64_mix(node.hash, e->nodes[children[k]].hash);
  }
  MCI_TRY(add_node(e, node, out));
  e->npool += n;
  for (uint32_t k = 0; k < n; k++)
    for (uint32_t w = 0; w < e->words; w++)
      e->sets[(size_t)*out * e->words + w] |= e->sets[(size_t)children[k] * e->words + w];
  enter(e, *out);
  *made = true;
  return meshcclSuccess;
}

meshcclResult_t mci_exprs_fold(mci_exprs* e, unsigned flags, const uint32_t* children, uint32_t n, uint32_t* out,
                               uint32_t* twice) {
  if (n == 1 && !(flags & MCI_FINISH)) { /* a copy, however wide */
    *twice = MCI_NONE;
    *out = children[0];
    return meshcclSuccess;
  }
  *twice = find_twice(e, children, n);
  if (*twice != MCI_NONE) return meshcclSuccess;
  uint32_t node, canonical;
  bool made;
  MCI_TRY(intern(e, flags, children, n, &node, &made));
  *out = node;
  if (!made) return meshcclSuccess;
  MCI_TRY(mci_grow(&e->scratch, sizeof *e->scratch, &e->cap_scratch, n));
  for (uint32_t k = 0; k < n; k++) e->scratch[k] = e->nodes[children[k]].canonical;
  if (n > 1 && e->scratch[0] > e->scratch[1]) {
    uint32_t first = e->scratch[0];
    e->scratch[0] = e->scratch[1];
    e->scratch[1] = first;
  }
  MCI_TRY(intern(e, flags, e->scratch, n, &canonical, &made));
  if (made) e->nodes[canonical].canonical = canonical;
  e->nodes[node].canonical = canonical;
  return meshcclSuccess;
}
