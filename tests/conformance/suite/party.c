/* The host's callbacks: every arrival, completion and error is checked against the books of its link. */
#include "party_messages.h"
#include "support/net_host.h"

static void host_log(void* self, int level, const char* text) {
  suite_party* party = self;
  if (level <= 2) fprintf(stderr, "%s: %s\n", party->transport->name, text);
}

static meshcclResult_t host_fail(void* self, meshcclResult_t result, const char* text) {
  suite_party* party = self;
  suite_check(party->world, text && text[0], "host->fail without a cause");
  suite_check(party->world, result != meshcclSuccess && result != meshcclBusy && result != meshcclInProgress,
              "host->fail with %d, which is no failure: %s", result, text);
  party->fails++;
  snprintf(party->cause, sizeof party->cause, "%s", text);
  return result;
}

static const char* host_parameter(void* self, const char* name) {
  const suite_subject* subject = ((suite_party*)self)->subject;
  return subject->parameter && strcmp(subject->parameter, name) == 0 ? subject->value : NULL;
}

/* Only progress() calls back: else a send from arrive() would overtake the one it is in. */
static void callback_allowed(suite_party* party, const char* what) {
  suite_check(party->world, party->inProgress == 1 && party->inSend == 0, "rank %d: %s outside of progress()",
              party->rank, what);
}

/* `peer` is the tag of a connected link of this party. */
static void tag_valid(suite_party* party, suite_link* link) {
  bool known = false;
  for (int i = 0; i < party->n; i++) known |= link == &party->links[i];
  suite_check(party->world, known, "rank %d: a callback with a peer that was never given to connect", party->rank);
  suite_check(party->world, link->ep, "rank %d: a callback for rank %d, which is not connected", party->rank,
              link->peer);
}

static meshcclResult_t host_arrive(void* self, void* peer, const void* header, size_t bytes, const void* data,
                                   meshcclPlace_t* places, int* nplaces, void** token) {
  suite_party* party = self;
  suite_link* link = peer;
  callback_allowed(party, "arrive()");
  tag_valid(party, link);
  suite_header h;
  memcpy(&h, header, sizeof h);
  suite_message_accept(link, &h, bytes);
  party->events++;
  if (data || bytes == 0) {
    suite_payload_check(link, &h, data);
  } else {
    *token = suite_places_make(link, &h, places, nplaces);
  }
  if (party->ackInArrive && h.kind == KIND_DATA) party_send_ack(link);
  return meshcclSuccess;
}

static void host_received(void* self, void* token, meshcclResult_t result) {
  suite_party* party = self;
  callback_allowed(party, "received()");
  party->events++;
  suite_places_full(party, token, result);
}

static void host_sent(void* self, void* token, meshcclResult_t result) {
  suite_party* party = self;
  callback_allowed(party, "sent()");
  party->events++;
  suite_outgoing_over(party, token, result);
}

static void host_broken(void* self, void* peer, meshcclResult_t result, const char* why) {
  suite_party* party = self;
  suite_link* link = peer;
  callback_allowed(party, "broken()");
  tag_valid(party, link);
  suite_check(party->world, party->mayBreak, "rank %d: the link to %d broke: %s (%s)", party->rank, link->peer, why,
              mci_result_text(result));
  suite_check(party->world, link->broken++ == 0, "rank %d: broken() twice for rank %d", party->rank, link->peer);
  party->events++;
}

void party_open(suite_party* party, const suite_subject* subject, suite_world* world, int rank, int n) {
  memset(party, 0, sizeof *party);
  party->subject = subject;
  party->transport = subject->transport;
  party->world = world;
  party->rank = rank;
  party->n = n;
  party->random = test_seed() + (uint64_t)rank;
  party->host = (meshcclTransportHost_t){.abi = MESHCCL_TRANSPORT_ABI,
                                         .size = sizeof party->host,
                                         .self = party,
                                         .rank = rank,
                                         .nranks = n,
                                         .log = host_log,
                                         .fail = host_fail,
                                         .parameter = host_parameter,
                                         .arrive = host_arrive,
                                         .received = host_received,
                                         .sent = host_sent,
                                         .broken = host_broken};
  test_net_host(&party->host);
  meshcclResult_t result = party->transport->open(&party->host, &party->ctx);
  suite_check(world, result == meshcclSuccess, "open: %s: %s", mci_result_text(result), party->cause);
  party->address.length = MESHCCL_ADDRESS_BYTES;
  result = party->transport->address(party->ctx, party->address.bytes, &party->address.length);
  suite_check(world, result == meshcclSuccess, "address: %s: %s", mci_result_text(result), party->cause);
  suite_check(world, party->address.length > 0 && party->address.length <= MESHCCL_ADDRESS_BYTES, "address: %zu bytes",
              party->address.length);
}

void party_connect(suite_party* party, int peer, const suite_address* address) {
  suite_world* world = party->world;
  suite_link* link = &party->links[peer];
  link->party = party;
  link->peer = peer;
  meshcclResult_t result = party->transport->reach(party->ctx, address->bytes, address->length, &link->figures);
  suite_check(world, result == meshcclSuccess, "rank %d cannot reach rank %d: %s", party->rank, peer,
              mci_result_text(result));
  const meshcclTransportFigures_t* f = &link->figures;
  suite_check(world, f->maxPayload >= 4096 && f->maxPieces >= 1 && f->maxPieces <= MESHCCL_MAX_PIECES && f->bw_Bps > 0,
              "figures out of range: payload %zu, pieces %d, bandwidth %llu", f->maxPayload, f->maxPieces,
              (unsigned long long)f->bw_Bps);
  void* ep = NULL;
  result = party->transport->connect(party->ctx, link, peer, address->bytes, address->length, &ep);
  bool dead = party->mayBreak && result == meshcclRemoteError;
  suite_check(world, (result == meshcclSuccess && ep) || dead, "connect: %s: %s", mci_result_text(result),
              party->cause);
  link->broken = dead;
  link->ep = ep;
}

void party_disconnect(suite_party* party, int peer) {
  suite_link* link = &party->links[peer];
  void* ep = link->ep;
  link->ep = NULL; /* from here on a callback for it is an error */
  party->transport->disconnect(ep);
}

void party_close(suite_party* party) {
  for (int i = 0; i < party->n; i++)
    if (party->links[i].ep) party_disconnect(party, i);
  party->transport->close(party->ctx);
  party->ctx = NULL;
  suite_messages_forget(party);
}

int party_progress(suite_party* party) {
  party->inProgress++;
  int events = party->transport->progress(party->ctx);
  party->inProgress--;
  suite_check(party->world, events >= 0, "progress() returned %d", events);
  return events;
}

bool party_idle(const suite_party* party) { return !party->outgoing && !party->incoming; }

size_t party_max_payload(const suite_link* link) { return MCI_MIN(link->figures.maxPayload, (size_t)1 << 20); }

void parties_until(suite_party* parties, int n, bool (*ready)(void*), void* argument, const char* what) {
  uint64_t limit = mci_now_ns() + suite_patience_ns(parties[0].subject);
  while (!ready(argument)) {
    for (int i = 0; i < n; i++) party_progress(&parties[i]);
    suite_check(parties[0].world, mci_now_ns() < limit, "waited too long until %s", what);
  }
}
