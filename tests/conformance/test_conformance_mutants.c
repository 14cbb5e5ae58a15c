/* The suite rejects transports that break one rule each: the in-memory transport with a fault put in between, here for
 * faults that break the contract, by MESHCCL_FAULT for those of a wire. Every
 * mutant runs as a process of its own, because a suite run is a whole CMocka program. */
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite/suite.h"
#include "support/test.h"
#include "support/transport_memory.h"

typedef enum {
  NOTHING,
  DROP,
  DROP_LAST,
  REPEAT,
  SWAP,
  DAMAGE_PAYLOAD,
  DAMAGE_HEADER,
  CUT,
  WRONG_PEER,
  LATE_COPY,
  SENT_TWICE,
  SENT_NEVER,
  SENT_AFTER_DISCONNECT,
  RECEIVED_TWICE,
  RECEIVED_EARLY,
  CALLBACK_IN_SEND,
  BUSY_MEANS_DROPPED,
  SLEEP_TOO_DEEP,
  SLEEP_NEVER,
  LEAK,
  SILENT_ERROR,
  REACH_ANYBODY,
  FALSE_GET,
} mutation;

typedef struct {
  const char* name;
  mutation fault;
  const char* memory; /* MESHCCL_TEST_MEMORY */
  const char* rule;   /* the case that must notice */
  const char* hook;   /* MESHCCL_FAULT; NULL: none */
} mutant;

static const mutant mutants[] = {
    {"nothing", NOTHING, "places", "*order (one thread)*", NULL},
    {"hook-delay", NOTHING, "places", "*order (one thread)*", "*:delay=0us..50us"},
    {"drop", DROP, "", "*in order (one thread)*", NULL},
    {"drop-last", DROP_LAST, "", "*disconnect delivers what*(one thread)*", NULL},
    {"repeat", REPEAT, "", "*in order (one thread)*", NULL},
    {"swap", SWAP, "", "*in order (one thread)*", NULL},
    {"damage-payload", DAMAGE_PAYLOAD, "", "*in order (one thread)*", NULL},
    {"damage-header", DAMAGE_HEADER, "", "*empty*(one thread)*", NULL},
    {"cut", CUT, "", "*in order (one thread)*", NULL},
    {"wrong-peer", WRONG_PEER, "", "*in order (one thread)*", NULL},
    {"late-copy", LATE_COPY, "lend", "*in order (one thread)*", NULL},
    {"sent-twice", SENT_TWICE, "lend", "*in order (one thread)*", NULL},
    {"sent-never", SENT_NEVER, "lend", "*in order (one thread)*", NULL},
    {"sent-after-disconnect", SENT_AFTER_DISCONNECT, "lend", "*disconnect*(one thread)*", NULL},
    {"received-twice", RECEIVED_TWICE, "places", "*in order (one thread)*", NULL},
    {"received-early", RECEIVED_EARLY, "places", "*in order (one thread)*", NULL},
    {"callback-in-send", CALLBACK_IN_SEND, "", "*in order (one thread)*", NULL},
    {"busy-means-dropped", BUSY_MEANS_DROPPED, "", "*deaf peer*(one thread)*", NULL},
    {"sleep-too-deep", SLEEP_TOO_DEEP, "", "*armed handle*", NULL},
    {"sleep-too-deep-racing", SLEEP_TOO_DEEP, "", "*no wake-up is lost between*(threads)*", NULL},
    {"sleep-never", SLEEP_NEVER, "", "*idle handle*", NULL},
    {"leak", LEAK, "", "*leave nothing*", NULL},
    {"silent-error", SILENT_ERROR, "", "*one cause*", NULL},
    {"reach-anybody", REACH_ANYBODY, "", "*reach knows*", NULL},
    {"false-get", FALSE_GET, "", "*get reads*", NULL},
    {"hook-drop", NOTHING, "", "*in order (one thread)*", "*:drop=100"},
    {"hook-stall", NOTHING, "", "*in order (one thread)*", "*:stall=100"},
    {"hook-reset", NOTHING, "places", "*in order (one thread)*", "*:reset=100"},
};

/* ---- the fault, between a host and the in-memory transport ---- */

typedef struct between {
  const meshcclTransportHost_t* host; /* the suite's */
  meshcclTransportHost_t shown;       /* to the inner transport */
  void* inner;
  int arrivals, fd;
  unsigned char held[MESHCCL_HEADER_BYTES + 65536]; /* SWAP: a message that waits for the next */
  size_t heldBytes;
  bool holding;
  void* kept[16]; /* SENT_AFTER_DISCONNECT: endpoints that are given back at close */
  int nkept;
  void* tokens[64]; /* RECEIVED_EARLY */
  int ntokens;
} between;

/* The endpoint is the inner one; its context is the one that connected last, found again by address. */
typedef struct {
  between* ctx;
  void* inner;
} link_between;

static mutation fault;
static const meshcclTransport_t* const inner = &mci_test_transport_memory;

static meshcclResult_t pass(between* b, void* peer, const void* header, size_t bytes, const void* data,
                            meshcclPlace_t* places, int* nplaces, void** token) {
  return b->host->arrive(b->host->self, peer, header, bytes, data, places, nplaces, token);
}

static meshcclResult_t pass_changed(between* b, void* peer, const void* header, size_t bytes, const void* data) {
  unsigned char h[MESHCCL_HEADER_BYTES], *payload = malloc(bytes + 1);
  memcpy(h, header, sizeof h);
  if (bytes) memcpy(payload, data, bytes);
  if (fault == DAMAGE_HEADER) h[9] ^= 1;
  if (fault == DAMAGE_PAYLOAD && bytes) payload[bytes / 2] ^= 1;
  if (fault == CUT && bytes) bytes--;
  meshcclPlace_t places[MESHCCL_MAX_PIECES];
  int nplaces = 0;
  void* token = NULL;
  meshcclResult_t result = pass(b, peer, h, bytes, payload, places, &nplaces, &token);
  free(payload);
  return result;
}

static meshcclResult_t swap(between* b, void* peer, const void* header, size_t bytes, const void* data) {
  if (b->arrivals == 100) {
    memcpy(b->held, header, MESHCCL_HEADER_BYTES);
    if (bytes) memcpy(b->held + MESHCCL_HEADER_BYTES, data, bytes);
    b->heldBytes = bytes;
    b->holding = true;
    return meshcclSuccess;
  }
  pass_changed(b, peer, header, bytes, data);
  if (b->holding) pass_changed(b, peer, b->held, b->heldBytes, b->held + MESHCCL_HEADER_BYTES);
  b->holding = false;
  return meshcclSuccess;
}

static meshcclResult_t on_arrive(void* self, void* peer, const void* header, size_t bytes, const void* data,
                                 meshcclPlace_t* places, int* nplaces, void** token) {
  between* b = self;
  int number = b->arrivals++;
  if (fault == DROP && number == 100) return meshcclInternalError;
  if (fault == DROP_LAST && number == 299) return meshcclInternalError;
  if (fault == REPEAT && number == 100) pass(b, peer, header, bytes, data, places, nplaces, token);
  if (fault == SWAP) return swap(b, peer, header, bytes, data);
  if (fault == WRONG_PEER && number == 100) peer = b;
  bool change = fault == DAMAGE_PAYLOAD || fault == DAMAGE_HEADER || fault == CUT;
  if (change && number > 100) return pass_changed(b, peer, header, bytes, data);
  meshcclResult_t result = pass(b, peer, header, bytes, data, places, nplaces, token);
  if (fault == RECEIVED_EARLY && !data && bytes && result == meshcclSuccess && b->ntokens < 64) {
    b->host->received(b->host->self, *token, meshcclSuccess);
    b->tokens[b->ntokens++] = *token;
    /* what the transport fills later is the suite's memory no more */
    static unsigned char elsewhere[65536];
    places[0] = (meshcclPlace_t){elsewhere, bytes};
    *nplaces = 1;
  }
  return result;
}

static void on_received(void* self, void* token, meshcclResult_t result) {
  between* b = self;
  if (fault == RECEIVED_EARLY && b->ntokens) return;
  b->host->received(b->host->self, token, result);
  if (fault == RECEIVED_TWICE) b->host->received(b->host->self, token, result);
}

static void on_sent(void* self, void* token, meshcclResult_t result) {
  between* b = self;
  if (fault == LATE_COPY || fault == SENT_NEVER) return;
  b->host->sent(b->host->self, token, result);
  if (fault == SENT_TWICE) b->host->sent(b->host->self, token, result);
}

static meshcclResult_t on_fail(void* self, meshcclResult_t result, const char* text) {
  between* b = self;
  return fault == SILENT_ERROR ? result : (b->host->fail)(b->host->self, result, text);
}

static const char* on_parameter(void* self, const char* name) {
  between* b = self;
  return b->host->parameter(b->host->self, name);
}

static void on_broken(void* self, void* peer, meshcclResult_t result, const char* why) {
  between* b = self;
  b->host->broken(b->host->self, peer, result, why);
}

static meshcclResult_t faulty_open(const meshcclTransportHost_t* host, void** out) {
  between* b = calloc(1, sizeof *b);
  b->host = host;
  b->shown = *host;
  b->shown.self = b;
  b->shown.arrive = on_arrive;
  b->shown.received = on_received;
  b->shown.sent = on_sent;
  b->shown.fail = on_fail;
  b->shown.parameter = on_parameter;
  b->shown.broken = on_broken;
  b->fd = eventfd(fault == SLEEP_NEVER, EFD_NONBLOCK);
  *out = b;
  return inner->open(&b->shown, &b->inner);
}

static void faulty_close(void* ctx) {
  between* b = ctx;
  while (b->nkept) inner->disconnect(b->kept[--b->nkept]);
  inner->close(b->inner);
  if (fault != LEAK) close(b->fd);
  free(b);
}

static meshcclResult_t faulty_address(void* ctx, void* address, size_t* bytes) {
  return inner->address(((between*)ctx)->inner, address, bytes);
}

static meshcclResult_t faulty_reach(void* ctx, const void* address, size_t bytes, meshcclTransportFigures_t* figures) {
  meshcclResult_t result = inner->reach(((between*)ctx)->inner, address, bytes, figures);
  return fault == REACH_ANYBODY ? meshcclSuccess : result;
}

static meshcclResult_t faulty_connect(void* ctx, void* peer, int peerRank, const void* address, size_t bytes,
                                      void** out) {
  link_between* link = calloc(1, sizeof *link);
  link->ctx = ctx;
  meshcclResult_t result = inner->connect(link->ctx->inner, peer, peerRank, address, bytes, &link->inner);
  if (result == meshcclSuccess)
    *out = link;
  else
    free(link);
  return result;
}

static void faulty_disconnect(void* ep) {
  link_between* link = ep;
  if (fault == SENT_AFTER_DISCONNECT)
    link->ctx->kept[link->ctx->nkept++] = link->inner;
  else
    inner->disconnect(link->inner);
  free(link);
}

static meshcclResult_t faulty_send(void* ep, const void* header, const meshcclPiece_t* pieces, int npieces,
                                   void* token) {
  link_between* link = ep;
  meshcclResult_t result = inner->send(link->inner, header, pieces, npieces, token);
  if (fault == CALLBACK_IN_SEND) inner->progress(link->ctx->inner);
  if (fault == LATE_COPY && result == meshcclInProgress) return meshcclSuccess;
  if (fault == BUSY_MEANS_DROPPED && result == meshcclBusy) return meshcclSuccess;
  return result;
}

static int faulty_progress(void* ctx) { return inner->progress(((between*)ctx)->inner); }

static meshcclResult_t faulty_wait_handle(void* ctx, int* fd, uint32_t* poll_us) {
  between* b = ctx;
  if (fault != SLEEP_TOO_DEEP && fault != SLEEP_NEVER) return inner->waitHandle(b->inner, fd, poll_us);
  *fd = b->fd;
  *poll_us = 0;
  return meshcclSuccess;
}

static meshcclResult_t faulty_arm(void* ctx) { return inner->arm(((between*)ctx)->inner); }

static meshcclResult_t false_get(void* ep, uint64_t remote, void* local, size_t bytes, void* token) {
  (void)ep, (void)remote, (void)local, (void)bytes, (void)token;
  return meshcclSuccess;
}

/* ---- running ---- */

static int run_mutant(const mutant* m) {
  fault = m->fault;
  meshcclTransport_t table = {.abi = MESHCCL_TRANSPORT_ABI,
                              .size = sizeof table,
                              .name = m->name,
                              .open = faulty_open,
                              .close = faulty_close,
                              .address = faulty_address,
                              .reach = faulty_reach,
                              .connect = faulty_connect,
                              .disconnect = faulty_disconnect,
                              .send = faulty_send,
                              .progress = faulty_progress,
                              .waitHandle = faulty_wait_handle,
                              .arm = faulty_arm,
                              .get = fault == FALSE_GET ? false_get : NULL};
  suite_subject subject = {
      .transport = &table, .parameter = "TEST_MEMORY", .value = m->memory, .traits = SUITE_THREADS, .patience_ms = 300};
  setenv("MESHCCL_TESTS_ONLY", m->rule, 1);
  if (m->hook) setenv("MESHCCL_FAULT", m->hook, 1);
  return suite_run(&subject);
}

/* Exit status of this program with the mutant's name; its output goes nowhere. */
static int run_apart(const char* name) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(99);
    execl("/proc/self/exe", "mutant", name, (char*)NULL);
    _exit(99);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* The first rows keep the contract. */
#define HARMLESS 2

static void the_wrapper_and_a_delay_pass(void** state) {
  (void)state;
  for (size_t i = 0; i < HARMLESS; i++) assert_int_equal(run_apart(mutants[i].name), 0);
}

static void every_mutant_is_rejected(void** state) {
  (void)state;
  int survivors = 0;
  for (size_t i = HARMLESS; i < MCI_COUNT(mutants); i++) {
    int status = run_apart(mutants[i].name);
    if (status >= 1 && status < 99) continue;
    print_error("%s: exit status %d although \"%s\" should fail\n", mutants[i].name, status, mutants[i].rule);
    survivors++;
  }
  assert_int_equal(survivors, 0);
}

int main(int argc, char** argv) {
  for (size_t i = 0; argc == 2 && i < MCI_COUNT(mutants); i++)
    if (strcmp(mutants[i].name, argv[1]) == 0) return run_mutant(&mutants[i]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_wrapper_and_a_delay_pass),
      cmocka_unit_test(every_mutant_is_rejected),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
