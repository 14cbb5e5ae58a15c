/* Chunks as streams of contiguous stretches of memory. */
#include "exec/engine.h"

void mci_view_start(mci_view* view, const mci_layout* layout, uint64_t count, const mci_arg* arg, int64_t one_block,
                    void* base, uint32_t type_size) {
  mci_pieces_start(&view->pieces, layout, count, arg, one_block);
  view->base = base;
  view->at = base;
  view->left = 0;
  view->type_size = type_size;
}

void* mci_view_peek(mci_view* view, uint64_t* contiguous) {
  while (view->left == 0) {
    uint64_t offset, elements;
    bool more = mci_pieces_next(&view->pieces, &offset, &elements);
    mci_assert(more);
    if (!more) break;
    view->at = view->base + offset * view->type_size;
    view->left = elements;
  }
  *contiguous = view->left;
  return view->at;
}

void* mci_view_take(mci_view* view, uint64_t want, uint64_t* got) {
  uint64_t contiguous;
  void* at = mci_view_peek(view, &contiguous);
  *got = MCI_MIN(want, contiguous);
  view->at += *got * view->type_size;
  view->left -= *got;
  return at;
}
