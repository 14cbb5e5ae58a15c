/* Tries every transport as a communicator of two ranks would: open, own address, reach. Sends nothing. */
#include <stdio.h>
#include <string.h>

#include "base/net.h"
#include "boot/boot.h"
#include "tools/info.h"
#include "transport/registry.h"

static void keep_quiet(void* self, int level, const char* text) { (void)self, (void)level, (void)text; }

static meshcclResult_t keep_reason(void* self, meshcclResult_t result, const char* text) {
  mci_info_transport* t = self;
  snprintf(t->reason, sizeof t->reason, "%s", text);
  return result;
}

static const char* parameter(void* self, const char* name) {
  (void)self;
  for (int id = 0; id < MCI_NUM_PARAMS; id++)
    if (strcmp(mci_param_rows[id].name, name) == 0) return mci_param_text((mci_param_id)id);
  return NULL;
}

static meshcclResult_t no_arrival(void* self, void* peer, const void* header, size_t bytes, const void* data,
                                  meshcclPlace_t* places, int* nplaces, void** token) {
  (void)self, (void)peer, (void)header, (void)bytes, (void)data, (void)places, (void)nplaces, (void)token;
  return meshcclInternalError;
}

static void no_completion(void* self, void* token, meshcclResult_t result) { (void)self, (void)token, (void)result; }

static void no_break(void* self, void* peer, meshcclResult_t result, const char* why) {
  (void)self, (void)peer, (void)result, (void)why;
}

/* Nobody knows the secret that this hash is under, and nobody is accepted: sockets are opened and closed again. */
static void keyed_hash(void* self, const char* purpose, const void* data, size_t bytes,
                       unsigned char out[MESHCCL_MAC_BYTES]) {
  (void)self;
  mci_id id = {{0}};
  mci_random(id.bytes, sizeof id.bytes);
  mci_id_mac(&id, purpose, data, bytes, out);
}

static void random_bytes(void* self, void* out, size_t bytes) {
  (void)self;
  mci_random(out, bytes);
}

static meshcclResult_t listen_here(void* self, int* fd, meshcclNetAddress_t* addresses, int* n) {
  mci_net_addresses list;
  meshcclResult_t result = mci_net_listen(true, 0, fd, &list);
  if (result != meshcclSuccess) return keep_reason(self, result, mci_error_last());
  *n = MCI_MIN(*n, list.n);
  memcpy(addresses, list.at, (size_t)*n * sizeof *addresses);
  return meshcclSuccess;
}

static int accept_nobody(void* self, int fd, const meshcclNetAddress_t* addresses, int n) {
  (void)self, (void)fd, (void)addresses, (void)n;
  return -1;
}

static int dial_nobody(void* self, const meshcclNetAddress_t* to) {
  (void)self, (void)to;
  return -1;
}

static meshcclTransportHost_t host_of(mci_info_transport* t, int rank) {
  return (meshcclTransportHost_t){.abi = MESHCCL_TRANSPORT_ABI,
                                  .size = sizeof(meshcclTransportHost_t),
                                  .self = t,
                                  .rank = rank,
                                  .nranks = 2,
                                  .log = keep_quiet,
                                  .fail = keep_reason,
                                  .parameter = parameter,
                                  .arrive = no_arrival,
                                  .received = no_completion,
                                  .sent = no_completion,
                                  .broken = no_break,
                                  .hostId = mci_host_id(),
                                  .mac = keyed_hash,
                                  .random = random_bytes,
                                  .listen = listen_here,
                                  .accept = accept_nobody,
                                  .dial = dial_nobody};
}

/* Whether the context reaches another one of this process, which it does not unless its transport is for that. */
static meshcclResult_t reach_neighbour(const meshcclTransport_t* table, void* ctx, mci_info_transport* t) {
  const meshcclTransportHost_t host = host_of(t, 1);
  char address[MESHCCL_ADDRESS_BYTES];
  size_t bytes = sizeof address;
  void* other;
  meshcclResult_t result = table->open(&host, &other);
  if (result != meshcclSuccess) return result;
  result = table->address(other, address, &bytes);
  if (result == meshcclSuccess) result = table->reach(ctx, address, bytes, &t->figures);
  table->close(other);
  return result;
}

static void try_it(const meshcclTransport_t* table, mci_info_transport* t) {
  const meshcclTransportHost_t host = host_of(t, 0);
  char address[MESHCCL_ADDRESS_BYTES];
  size_t bytes = sizeof address;
  void* ctx;
  if (table->open(&host, &ctx) != meshcclSuccess) return;
  meshcclResult_t result = table->address(ctx, address, &bytes);
  if (result == meshcclSuccess) {
    result = table->reach(ctx, address, bytes, &t->figures);
    if (result == meshcclNotSupported) result = reach_neighbour(table, ctx, t);
    t->usable = result == meshcclSuccess;
    if (!t->usable && !t->reason[0]) snprintf(t->reason, sizeof t->reason, "it does not reach a rank of this process");
  }
  table->close(ctx);
}

uint32_t mci_info_transports(mci_info_transport out[MCI_MAX_PLUGINS], char* problem, size_t size) {
  const meshcclTransport_t *all[MCI_MAX_PLUGINS], *allowed[MCI_MAX_PLUGINS];
  uint32_t nallowed = 0;
  problem[0] = 0;
  if (mci_transport_load() != meshcclSuccess ||
      mci_transport_list(allowed, &nallowed, MCI_MAX_PLUGINS) != meshcclSuccess)
    snprintf(problem, size, "%s", mci_error_last());
  uint32_t n = mci_transport_all(all, MCI_MAX_PLUGINS);
  for (uint32_t i = 0; i < n; i++) {
    out[i] = (mci_info_transport){.name = all[i]->name, .builtin = mci_transport_is_builtin(all[i])};
    for (uint32_t k = 0; k < nallowed; k++) out[i].allowed |= strcmp(allowed[k]->name, all[i]->name) == 0;
    try_it(all[i], &out[i]);
  }
  return n;
}
