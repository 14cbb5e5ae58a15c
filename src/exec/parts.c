/* Operations whose vector stands in parts (src/api/fuse.c): gathered into memory of the engine that peers can map, reduced
 * there in place, and scattered when no peer reads it any more. Copies of one operation run side by side on the device. */
#include <string.h>

#include "exec/engine.h"

static meshcclResult_t start_copy(mci_engine* engine, const mci_op* op, mci_part* part, char* at, bool gather) {
  const meshcclDevice_t* device = engine->options.device;
  void* to = gather ? at : part->out;
  const void* from = gather ? part->in : at;
  if (!gather || !op->scaled)
    return device->copy(engine->device_ctx, to, from, part->count * op->type_size, &part->token);
  meshcclFold_t fold = {.destinations = &to,
                        .sources = &from,
                        .ndestinations = 1,
                        .nsources = 1,
                        .count = part->count,
                        .type = op->type,
                        .op = op->op,
                        .scaled = 1,
                        .scale = &part->scale};
  return device->fold(engine->device_ctx, &fold, &part->token);
}

/* Waits for what was started, whatever came of the others: nothing may write to the caller's memory afterwards. */
static meshcclResult_t finish_copies(mci_engine* engine, mci_op* op, meshcclResult_t result) {
  for (uint32_t i = 0; i < op->nparts; i++) {
    meshcclResult_t one = op->parts[i].copying ? meshcclInProgress : meshcclSuccess;
    while (one == meshcclInProgress) one = engine->options.device->poll(engine->device_ctx, op->parts[i].token);
    op->parts[i].copying = false;
    if (result == meshcclSuccess) result = one;
  }
  return result;
}

static meshcclResult_t copy_parts(mci_engine* engine, mci_op* op, bool gather) {
  char* at = engine->joined.base;
  meshcclResult_t result = meshcclSuccess;
  for (uint32_t i = 0; i < op->nparts && result == meshcclSuccess; i++) {
    mci_part* part = &op->parts[i];
    if (part->count > 0) result = start_copy(engine, op, part, at, gather);
    part->copying = result == meshcclInProgress;
    if (part->copying) result = meshcclSuccess;
    at += part->count * op->type_size;
  }
  return finish_copies(engine, op, result);
}

meshcclResult_t mci_parts_gather(mci_engine* engine, mci_op* op) {
  if (op->nparts == 0) return meshcclSuccess;
  MCI_TRY(mci_region_reserve(engine, &engine->joined, MCI_MAX(op->count * op->type_size, 1)));
  op->in = op->out = engine->joined.base;
  return copy_parts(engine, op, true);
}

meshcclResult_t mci_parts_scatter(mci_engine* engine, mci_op* op) { return copy_parts(engine, op, false); }
