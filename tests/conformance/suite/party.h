/* A party is one context with its host, its endpoints and the books about every message: the suite's stand-in for an
 * executor. It keeps the host's side of the contract strictly and fails the case when the transport breaks its own.
 *
 * Every message carries its number on the link and a payload that follows from seed, link and number, so loss,
 * repetition, disorder and damage all show at once. */
#ifndef MCI_CONFORMANCE_PARTY_H
#define MCI_CONFORMANCE_PARTY_H

#include <stdatomic.h>

#include "suite.h"
#include "support/test.h"

#define SUITE_MAX_PARTIES 9
#define SUITE_BLOB_BYTES 512

typedef enum { MODE_ONE_THREAD, MODE_THREADS, MODE_PROCESSES, MODE_LAUNCHED } suite_mode;

/* What the parties of one case share; lies in memory that forked processes share too. */
typedef struct {
  suite_mode mode;
  int n;
  const suite_launcher* launcher;
  atomic_int failed;   /* somebody's case failed, everybody stops */
  char failure[1024];  /* the first failure */
  atomic_int arrivals; /* at the barrier, ever */
  atomic_int ready;    /* parties that have nothing more to do */
  atomic_int released; /* receivers that play dead may go on */
  unsigned char blobs[SUITE_MAX_PARTIES][SUITE_BLOB_BYTES];
} suite_world;

typedef struct {
  unsigned char bytes[MESHCCL_ADDRESS_BYTES];
  size_t length;
} suite_address;

struct suite_party;

typedef struct suite_link {
  struct suite_party* party;
  int peer;
  void* ep;
  meshcclTransportFigures_t figures;
  uint64_t sent, received; /* messages of any kind: their numbers on the wire */
  uint64_t dataSent, dataReceived, dataComplete, dataAcked, ackedToPeer;
  uint64_t busy; /* sends answered with Busy */
  int inFlight;  /* sends that returned InProgress */
  int filling;   /* arrivals whose places are not full yet */
  int broken;
} suite_link;

typedef struct suite_party {
  const suite_subject* subject;
  const meshcclTransport_t* transport;
  suite_world* world;
  meshcclTransportHost_t host;
  void* ctx;
  int rank, n;
  suite_address address;
  suite_link links[SUITE_MAX_PARTIES]; /* by peer */
  int inProgress, inSend;              /* where callbacks are allowed */
  bool ackInArrive;
  bool mayBreak; /* the peer dies on purpose: broken() and errors are not failures of the case */
  int fails;     /* calls of host->fail */
  char cause[256];
  struct suite_outgoing* outgoing; /* sends in progress */
  struct suite_incoming* incoming; /* places being filled */
  uint64_t random, events;         /* events: accepted, arrived, completed; tells whether a step got anywhere */
} suite_party;

/* ---- failing: from any thread or process of a case, never through CMocka directly ---- */
void suite_fail(suite_world* world, const char* format, ...) MCI_PRINTF(2, 3) __attribute__((noreturn));
#define suite_check(world, condition, ...)            \
  do {                                                \
    if (!(condition)) suite_fail(world, __VA_ARGS__); \
  } while (0)
/* Runs body(argument) so that suite_fail ends it. */
void suite_guard(suite_world* world, void (*body)(void*), void* argument);

/* How long a case may stand still. */
uint64_t suite_patience_ns(const suite_subject* subject);

/* ---- world ---- */
suite_world* suite_world_make(suite_mode mode, int n, const suite_launcher* launcher);
void suite_world_free(suite_world* world);
/* Everybody's blob, SUITE_BLOB_BYTES apart in world->blobs; bytes <= SUITE_BLOB_BYTES. Not in MODE_ONE_THREAD. */
void suite_gather(suite_world* world, int rank, const void* mine, size_t bytes);

/* ---- party ---- */
void party_open(suite_party* party, const suite_subject* subject, suite_world* world, int rank, int n);
/* Disconnects what is connected and closes; then no memory may be in use any more. */
void party_close(suite_party* party);
void party_connect(suite_party* party, int peer, const suite_address* address);
void party_disconnect(suite_party* party, int peer);
int party_progress(suite_party* party);

typedef enum { PIECES_ONE, PIECES_MANY } suite_pieces;
/* One attempt; false: Busy (or the link is broken where the case allows it). */
bool party_send_data(suite_link* link, size_t bytes, suite_pieces pieces);
bool party_send_ack(suite_link* link);
/* A token for get(), whose end is reported like that of a send; the second takes it back when sent() will not come. */
void* party_expect_sent(suite_link* link);
void party_expect_no_sent(suite_link* link, void* token);
/* Bytes that the host's rule for one message allows in tests: the figure, at most 1 MiB. */
size_t party_max_payload(const suite_link* link);
/* Nothing of the party is in the transport's hands. */
bool party_idle(const suite_party* party);
/* Pumps all parties until `ready(argument)`; fails the case when that takes too long. */
void parties_until(suite_party* parties, int n, bool (*ready)(void*), void* argument, const char* what);

/* ---- payload ---- */
void suite_pattern_fill(void* data, size_t bytes, uint64_t seed, size_t at);
/* Offset of the first wrong byte; `bytes` when all are right. */
size_t suite_pattern_check(const void* data, size_t bytes, uint64_t seed);
#endif
