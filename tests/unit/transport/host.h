/* A host for the tests of transports: remembers what the callbacks were told, and can act inside them. */
#ifndef TEST_TRANSPORT_HOST_H
#define TEST_TRANSPORT_HOST_H

#include "meshccl/transport.h"
#include "support/net_host.h"
#include "support/test.h"

struct test_host {
  meshcclTransportHost_t table;
  char error[512]; /* of the last fail() */
  int failures, arrivals, received, sent, broken;
  void* last_peer;
  void* last_sent;
  /* What to do with an arrival whose payload stands at data; NULL: nothing. */
  void (*on_arrive)(struct test_host* host, void* peer, const void* header, size_t bytes, const void* data);
  void (*on_sent)(struct test_host* host, void* token);
  void* user;
  meshcclPlace_t places[MESHCCL_MAX_PIECES]; /* given for arrivals without data */
  int nplaces;
};

static inline void host_log(void* self, int level, const char* text) { (void)self, (void)level, (void)text; }

static inline meshcclResult_t host_fail(void* self, meshcclResult_t result, const char* text) {
  struct test_host* host = self;
  host->failures++;
  snprintf(host->error, sizeof host->error, "%s", text);
  mci_error_set(text);
  return result;
}

static inline const char* host_parameter(void* self, const char* name) {
  (void)self, (void)name;
  return NULL;
}

static inline meshcclResult_t host_arrive(void* self, void* peer, const void* header, size_t bytes, const void* data,
                                          meshcclPlace_t* places, int* nplaces, void** token) {
  struct test_host* host = self;
  host->arrivals++;
  host->last_peer = peer;
  if (host->on_arrive) host->on_arrive(host, peer, header, bytes, data);
  if (!data && bytes) {
    memcpy(places, host->places, sizeof host->places);
    *nplaces = host->nplaces;
    *token = host;
  }
  return meshcclSuccess;
}

static inline void host_received(void* self, void* token, meshcclResult_t result) {
  struct test_host* host = self;
  if (token == host && result == meshcclSuccess) host->received++;
}

static inline void host_sent(void* self, void* token, meshcclResult_t result) {
  struct test_host* host = self;
  host->sent += result == meshcclSuccess;
  host->last_sent = token;
  if (host->on_sent) host->on_sent(host, token);
}

static inline void host_broken(void* self, void* peer, meshcclResult_t result, const char* why) {
  (void)peer, (void)result, (void)why;
  ((struct test_host*)self)->broken++;
}

static inline void host_init(struct test_host* host, int rank, int nranks) {
  *host = (struct test_host){.table = {.abi = MESHCCL_TRANSPORT_ABI,
                                       .size = sizeof(meshcclTransportHost_t),
                                       .self = host,
                                       .rank = rank,
                                       .nranks = nranks,
                                       .log = host_log,
                                       .fail = host_fail,
                                       .parameter = host_parameter,
                                       .arrive = host_arrive,
                                       .received = host_received,
                                       .sent = host_sent,
                                       .broken = host_broken}};
  test_net_host(&host->table);
}
#endif
