/* The engine's own memory: slots cut from shared arenas, scratch and joined parts of the running collective, bounce
 * rooms. The pages of all are touched first by this rank, which writes them, so they lie at its memory. */
#include "exec/engine.h"

#define ARENA_BYTES ((size_t)2 << 20)
#define SLOT_ALIGN ((size_t)4096)
#define FEWEST_SLOTS 4

static meshcclResult_t make_slot(mci_engine* engine, mci_slot* slot) {
  size_t bytes = (engine->options.slice_bytes + SLOT_ALIGN - 1) / SLOT_ALIGN * SLOT_ALIGN;
  mci_arena* arena = engine->narenas ? &engine->arenas[engine->narenas - 1] : NULL;
  if (!arena || arena->region.bytes - arena->used < bytes) {
    MCI_TRY(mci_grow(&engine->arenas, sizeof *engine->arenas, &engine->cap_arenas, (size_t)engine->narenas + 1));
    arena = &engine->arenas[engine->narenas];
    MCI_TRY(mci_shared_alloc(MCI_MAX(bytes, ARENA_BYTES), &arena->region));
    arena->used = 0;
    engine->narenas++;
  }
  slot->at = (char*)arena->region.base + arena->used;
  slot->region = arena->region;
  arena->used += bytes;
  engine->stats.memory_bytes += bytes;
  return meshcclSuccess;
}

/* In turn: to write what a peer has just read takes longer than to write what it read some time ago. */
meshcclResult_t mci_slot_take(mci_engine* engine, mci_slot** out) {
  mci_slot* slot = engine->free_slots;
  if (slot && engine->nslots >= FEWEST_SLOTS) {
    engine->free_slots = slot->next;
    if (!engine->free_slots) engine->last_free_slot = NULL;
  } else {
    slot = mci_alloc(sizeof *slot);
    if (!slot) return mci_oom(sizeof *slot);
    meshcclResult_t result = make_slot(engine, slot);
    if (result != meshcclSuccess) {
      mci_free(slot);
      return result;
    }
    slot->next_made = engine->slots;
    engine->slots = slot;
    engine->nslots++;
  }
  slot->users = 1;
  *out = slot;
  return meshcclSuccess;
}

void mci_slot_release(mci_engine* engine, mci_slot* slot) {
  if (--slot->users > 0) return;
  slot->next = NULL;
  if (engine->last_free_slot) {
    engine->last_free_slot->next = slot;
  } else {
    engine->free_slots = slot;
  }
  engine->last_free_slot = slot;
}

meshcclResult_t mci_region_reserve(mci_engine* engine, struct mci_shared_region* region, size_t bytes) {
  if (region->id && region->bytes >= bytes) return meshcclSuccess;
  struct mci_shared_region larger;
  MCI_TRY(mci_shared_alloc(bytes, &larger));
  if (region->id) {
    engine->stats.memory_bytes -= region->bytes;
    mci_shared_free(region->base);
  }
  *region = larger;
  engine->stats.memory_bytes += larger.bytes;
  return meshcclSuccess;
}

typedef struct bounce {
  struct bounce* next;
  uint64_t align;
} bounce;

meshcclResult_t mci_bounce_alloc(mci_op* op, size_t bytes, void** out) {
  bounce* room = mci_realloc(NULL, sizeof *room + bytes); /* written before it is read: not zeroed */
  if (!room) return mci_oom(sizeof *room + bytes);
  room->next = op->bounces;
  op->bounces = room;
  *out = room + 1;
  return meshcclSuccess;
}

void mci_bounce_free_all(mci_op* op) {
  for (bounce* room = op->bounces; room;) {
    bounce* next = room->next;
    mci_free(room);
    room = next;
  }
  op->bounces = NULL;
}

void mci_memory_fini(mci_engine* engine) {
  for (mci_slot* slot = engine->slots; slot;) {
    mci_slot* next = slot->next_made;
    mci_free(slot);
    slot = next;
  }
  for (uint32_t i = 0; i < engine->narenas; i++) mci_shared_free(engine->arenas[i].region.base);
  mci_free(engine->arenas);
  if (engine->scratch.id) mci_shared_free(engine->scratch.base);
  if (engine->joined.id) mci_shared_free(engine->joined.base);
}
