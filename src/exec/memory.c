/* The engine's own memory: staging cut from shared arenas, scratch and joined parts of the running collective, bounce
 * rooms. */
#include "exec/engine.h"

#define ARENA_BYTES ((size_t)2 << 20)
#define STAGING_ALIGN ((size_t)4096)

meshcclResult_t mci_staging_alloc(mci_engine* engine, size_t bytes, char** out, struct mci_shared_region* region) {
  bytes = (bytes + STAGING_ALIGN - 1) / STAGING_ALIGN * STAGING_ALIGN;
  mci_arena* arena = engine->narenas ? &engine->arenas[engine->narenas - 1] : NULL;
  if (!arena || arena->region.bytes - arena->used < bytes) {
    MCI_TRY(mci_grow(&engine->arenas, sizeof *engine->arenas, &engine->cap_arenas, (size_t)engine->narenas + 1));
    arena = &engine->arenas[engine->narenas];
    MCI_TRY(mci_shared_alloc(MCI_MAX(bytes, ARENA_BYTES), &arena->region));
    arena->used = 0;
    engine->narenas++;
  }
  *out = (char*)arena->region.base + arena->used;
  *region = arena->region;
  arena->used += bytes;
  engine->stats.memory_bytes += bytes;
  return meshcclSuccess;
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
  for (uint32_t i = 0; i < engine->narenas; i++) mci_shared_free(engine->arenas[i].region.base);
  mci_free(engine->arenas);
  if (engine->scratch.id) mci_shared_free(engine->scratch.base);
  if (engine->joined.id) mci_shared_free(engine->joined.base);
}
