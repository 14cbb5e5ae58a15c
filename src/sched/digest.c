/* What the outputs hold in the end: every element the right one, with every rank's input once, finished once, folded
 * alike on ranks that share it; and the digest of all their expressions. */
#include <stdio.h>

#include "sched/verify.h"

typedef struct {
  uint64_t a, b;
} digest;

static void add(digest* d, uint64_t value) {
  d->a = mci_hash64_mix(d->a, value);
  d->b = mci_hash64_mix(value, d->b);
}

static void add_header(digest* d, const mci_program* p) {
  add(d, p->coll);
  add(d, p->nranks);
  add(d, mci_coll_rooted(p->coll) ? p->root : 0);
  add(d, p->layout.nblocks);
  add(d, p->layout.nparts);
  for (uint32_t i = 0; i < p->layout.nparts; i++) add(d, p->layout.weights[i]);
  for (uint32_t i = 0; i < p->layout.nblocks && p->layout.order; i++) add(d, p->layout.order[i]);
}

static meshcclResult_t wrong(const mci_verifier* v, uint32_t rank, uint32_t element, const char* what) {
  char text[64];
  MCI_FAIL(meshcclInvalidUsage, "rank %u: in the end, the output of %s %s", rank,
           mci_verify_element_text(v, element, text, sizeof text), what);
}

static meshcclResult_t result_ok(const mci_verifier* v, uint32_t rank, uint32_t element, const mci_value* value) {
  char what[96], text[64];
  if (value->expr == MCI_UNDEFINED) return wrong(v, rank, element, "was never written");
  if (value->expr == MCI_POISON) return wrong(v, rank, element, "is a spill whose content is gone");
  if (value->element != element) {
    snprintf(what, sizeof what, "holds %s", mci_verify_element_text(v, value->element, text, sizeof text));
    return wrong(v, rank, element, what);
  }
  if (!v->reduces) return meshcclSuccess;
  const mci_expr* expr = &v->exprs.nodes[value->expr];
  if (expr->inputs != v->schedule->nranks) {
    snprintf(what, sizeof what, "has the inputs of only %u of %u ranks", expr->inputs, v->schedule->nranks);
    return wrong(v, rank, element, what);
  }
  return expr->finished ? meshcclSuccess
                        : wrong(v, rank, element, "was never finished; mark the step that completes it");
}

/* Rank 0 has the same element: both must have come by the same folds. */
static meshcclResult_t same_bits(const mci_verifier* v, uint32_t rank, uint32_t element, const mci_value* value,
                                 const mci_value* first) {
  if (v->exprs.nodes[value->expr].canonical == v->exprs.nodes[first->expr].canonical) return meshcclSuccess;
  return wrong(v, rank, element, "is folded in another order, grouping or width than on rank 0: bits could differ");
}

static meshcclResult_t rank_results(mci_verifier* v, uint32_t rank, digest* d) {
  const mci_memory* m = &v->memory[rank];
  const mci_layout* layout = &v->first->layout;
  uint32_t begin = m->buffers.out_one_block ? m->own_block : 0;
  uint32_t end = m->buffers.out_one_block ? begin + 1 : layout->nblocks;
  bool shared = v->first->coll == MCI_ALL_REDUCE || v->first->coll == MCI_BARRIER;
  for (uint32_t b = begin; b < end; b++) {
    for (uint32_t p = 0; p < layout->nparts; p++) {
      uint32_t element = mci_verify_output_element(v, rank, b, p);
      const mci_value* value = &v->places[mci_verify_place_of(v, rank, MCI_OUT, b, p)].value;
      MCI_TRY(result_ok(v, rank, element, value));
      if (shared)
        MCI_TRY(same_bits(v, rank, element, value, &v->places[mci_verify_place_of(v, 0, MCI_OUT, b, p)].value));
      add(d, element);
      add(d, v->exprs.nodes[value->expr].hash);
    }
  }
  return meshcclSuccess;
}

meshcclResult_t mci_verify_results(mci_verifier* v, char bits[33]) {
  digest d = {0};
  add_header(&d, v->first);
  for (uint32_t r = 0; r < v->schedule->nranks; r++) {
    if (!v->memory[r].buffers.out_used) continue;
    add(&d, r);
    MCI_TRY(rank_results(v, r, &d));
  }
  snprintf(bits, 33, "%016llx%016llx", (unsigned long long)d.a, (unsigned long long)d.b);
  return meshcclSuccess;
}
