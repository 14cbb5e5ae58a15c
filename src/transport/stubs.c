/* What stands in optional slots that a transport leaves empty: NotSupported, with the slot's name as the cause. Flags
 * in the figures keep callers from coming here at all. */
#include "transport/internal.h"

static meshcclResult_t no_memory_key(void* ctx, const meshcclMemory_t* memory, void* key) {
  (void)ctx, (void)memory, (void)key;
  MCI_FAIL(meshcclNotSupported, "this transport has no memoryKey: it cannot describe memory to peers");
}

static meshcclResult_t no_map(void* ep, const void* key, void** base) {
  (void)ep, (void)key, (void)base;
  MCI_FAIL(meshcclNotSupported, "this transport has no map: it cannot map memory of peers");
}

static void no_unmap(void* ep, const void* key, void* base) { (void)ep, (void)key, (void)base; }

static meshcclResult_t no_get(void* ep, uint64_t remote, void* local, size_t bytes, void* token) {
  (void)ep, (void)remote, (void)local, (void)bytes, (void)token;
  MCI_FAIL(meshcclNotSupported, "this transport has no get: it cannot read memory of peers");
}

static meshcclResult_t no_put(void* ep, uint64_t remote, const void* local, size_t bytes) {
  (void)ep, (void)remote, (void)local, (void)bytes;
  MCI_FAIL(meshcclNotSupported, "this transport has no put: it cannot write memory of peers");
}

static void no_refuse(void* ep) { (void)ep; }

static void writes_nowhere(void* ep, meshcclPlace_t lines[2]) {
  (void)ep;
  lines[0] = lines[1] = (meshcclPlace_t){NULL, 0};
}

void mci_transport_fill_stubs(meshcclTransport_t* table) {
  if (!table->memoryKey) table->memoryKey = no_memory_key;
  if (!table->map) table->map = no_map;
  if (!table->unmap) table->unmap = no_unmap;
  if (!table->get) table->get = no_get;
  if (!table->put) table->put = no_put;
  if (!table->refusePuts) table->refusePuts = no_refuse;
  if (!table->writesNext) table->writesNext = writes_nowhere;
}
