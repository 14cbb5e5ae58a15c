/* Single messages: made from random pieces, scribbled over as soon as their memory is free, checked on arrival. */
#include "party_messages.h"

#define MAGIC 0x6d736731u

static uint64_t payload_seed(const suite_header* h) {
  return test_seed() ^ ((uint64_t)h->from << 56) ^ ((uint64_t)h->to << 48) ^ h->number;
}

void suite_message_accept(suite_link* link, const suite_header* h, size_t bytes) {
  suite_party* party = link->party;
  suite_check(party->world, h->magic == MAGIC && h->from == link->peer && h->to == party->rank,
              "rank %d: the header of message %llu from %d is damaged or of another link (from %d to %d)", party->rank,
              (unsigned long long)link->received, link->peer, h->from, h->to);
  suite_check(party->world, h->number == link->received, "rank %d: message %llu from %d came as the %llu-th",
              party->rank, (unsigned long long)h->number, link->peer, (unsigned long long)link->received);
  suite_check(party->world, h->bytes == bytes, "rank %d: message %llu from %d has %zu bytes, %llu were sent",
              party->rank, (unsigned long long)h->number, link->peer, bytes, (unsigned long long)h->bytes);
  link->received++;
  if (h->kind == KIND_DATA) {
    link->dataReceived++;
  } else {
    suite_check(party->world, h->count >= link->dataAcked && h->count <= link->dataSent,
                "rank %d: acknowledgement of %llu from %d", party->rank, (unsigned long long)h->count, link->peer);
    link->dataAcked = h->count;
  }
}

static void content_check(suite_link* link, const suite_header* h, const void* data) {
  size_t at = suite_pattern_check(data, h->bytes, payload_seed(h));
  suite_check(link->party->world, at == h->bytes, "rank %d: message %llu from %d (%llu bytes) is wrong at byte %zu",
              link->party->rank, (unsigned long long)h->number, link->peer, (unsigned long long)h->bytes, at);
  if (h->kind == KIND_DATA) link->dataComplete++;
}

void suite_payload_check(suite_link* link, const suite_header* h, const void* data) { content_check(link, h, data); }

/* Places: 1 to 5 blocks of their own, at odd addresses. */
struct suite_incoming* suite_places_make(suite_link* link, const suite_header* h, meshcclPlace_t* places,
                                         int* nplaces) {
  suite_party* party = link->party;
  struct suite_incoming* in = calloc(1, sizeof *in);
  in->link = link;
  in->header = *h;
  size_t left = h->bytes;
  int want = 1 + (int)(test_random(&party->random) % 5);
  while (left > 0) {
    size_t bytes = in->nplaces + 1 == want ? left : 1 + test_random(&party->random) % left;
    unsigned char* block = malloc(bytes + 1);
    in->places[in->nplaces++] = (meshcclPlace_t){block + 1, bytes};
    left -= bytes;
  }
  memcpy(places, in->places, sizeof in->places[0] * (size_t)in->nplaces);
  *nplaces = in->nplaces;
  in->next = party->incoming;
  party->incoming = in;
  link->filling++;
  return in;
}

static void incoming_free(struct suite_incoming* in) {
  for (int i = 0; i < in->nplaces; i++) free((unsigned char*)in->places[i].base - 1);
  free(in);
}

void suite_places_full(suite_party* party, void* token, meshcclResult_t result) {
  struct suite_incoming** at = &party->incoming;
  while (*at && *at != token) at = &(*at)->next;
  suite_check(party->world, *at, "rank %d: received() with a token that is not in use (twice?)", party->rank);
  struct suite_incoming* in = *at;
  suite_check(party->world, in->link->ep, "rank %d: received() for rank %d after disconnect", party->rank,
              in->link->peer);
  *at = in->next;
  in->link->filling--;
  suite_check(party->world, result == meshcclSuccess || party->mayBreak, "rank %d: received(%s)", party->rank,
              mci_result_text(result));
  if (result == meshcclSuccess) {
    unsigned char* whole = malloc(in->header.bytes);
    size_t bytes = 0;
    for (int i = 0; i < in->nplaces; bytes += in->places[i++].bytes)
      memcpy(whole + bytes, in->places[i].base, in->places[i].bytes);
    content_check(in->link, &in->header, whole);
    free(whole);
  }
  incoming_free(in);
}

/* 0..maxPieces pieces, each a block of its own at an odd address, some of them empty. */
static void pieces_make(suite_link* link, struct suite_outgoing* out, suite_pieces kind) {
  uint64_t* random = &link->party->random;
  size_t bytes = out->header.bytes, at = 0;
  int n = kind == PIECES_ONE ? bytes > 0 : 1 + (int)(test_random(random) % (uint64_t)link->figures.maxPieces);
  for (int i = 0; i < n; i++) {
    size_t size = i + 1 == n ? bytes - at : (test_random(random) & 3) ? test_random(random) % (bytes - at + 1) : 0;
    size_t shift = kind == PIECES_ONE ? 0 : test_random(random) % 8;
    out->blocks[i] = malloc(size + shift + 1);
    out->pieces[i] = (meshcclPiece_t){out->blocks[i] + shift, size};
    suite_pattern_fill(out->blocks[i] + shift, size, payload_seed(&out->header), at);
    at += size;
  }
  out->npieces = n;
}

static void outgoing_free(struct suite_outgoing* out) {
  for (int i = 0; i < out->npieces; i++) {
    memset((void*)(uintptr_t)out->pieces[i].base, 0xee, out->pieces[i].bytes);
    free(out->blocks[i]);
  }
  free(out);
}

/* Takes the token out of the books; NULL when it is not there. */
static struct suite_outgoing* outgoing_take(suite_party* party, void* token) {
  struct suite_outgoing** at = &party->outgoing;
  while (*at && *at != token) at = &(*at)->next;
  struct suite_outgoing* out = *at;
  if (!out) return NULL;
  *at = out->next;
  out->link->inFlight--;
  return out;
}

static void outgoing_book(struct suite_outgoing* out) {
  out->next = out->link->party->outgoing;
  out->link->party->outgoing = out;
  out->link->inFlight++;
}

void* party_expect_sent(suite_link* link) {
  struct suite_outgoing* out = calloc(1, sizeof *out);
  out->link = link;
  outgoing_book(out);
  return out;
}

void party_expect_no_sent(suite_link* link, void* token) {
  struct suite_outgoing* out = outgoing_take(link->party, token);
  suite_check(link->party->world, out, "rank %d: sent() although the call did not return InProgress",
              link->party->rank);
  outgoing_free(out);
}

static bool outgoing_send(suite_link* link, struct suite_outgoing* out) {
  suite_party* party = link->party;
  unsigned char header[MESHCCL_HEADER_BYTES];
  memcpy(header, &out->header, sizeof header);
  outgoing_book(out); /* before the call: sent() may come inside of it */
  party->inSend++;
  int fails = party->fails;
  meshcclResult_t result =
      party->transport->send(link->ep, header, out->npieces ? out->pieces : NULL, out->npieces, out);
  party->inSend--;
  memset(header, 0xee, sizeof header);
  if (result == meshcclSuccess || result == meshcclInProgress) {
    link->sent++;
    party->events++;
  }
  if (result == meshcclInProgress) return true;
  party_expect_no_sent(link, out);
  if (result == meshcclSuccess) return true;
  if (result == meshcclBusy) {
    link->busy++;
    return false;
  }
  suite_check(party->world, party->mayBreak, "rank %d: send to %d: %s: %s", party->rank, link->peer,
              mci_result_text(result), party->cause);
  suite_check(party->world, party->fails == fails + 1, "rank %d: a failed send called host->fail %d times", party->rank,
              party->fails - fails);
  return false;
}

static bool message_send(suite_link* link, int kind, uint64_t count, size_t bytes, suite_pieces pieces) {
  struct suite_outgoing* out = calloc(1, sizeof *out);
  out->link = link;
  out->header = (suite_header){.magic = MAGIC,
                               .from = (uint8_t)link->party->rank,
                               .to = (uint8_t)link->peer,
                               .kind = (uint16_t)kind,
                               .number = link->sent,
                               .bytes = bytes,
                               .count = count};
  pieces_make(link, out, pieces);
  return outgoing_send(link, out);
}

bool party_send_data(suite_link* link, size_t bytes, suite_pieces pieces) {
  /* Booked first: to itself, the acknowledgement could come inside of send(). */
  uint64_t count = link->dataSent++;
  if (message_send(link, KIND_DATA, count, bytes, pieces)) return true;
  link->dataSent--;
  return false;
}

bool party_send_ack(suite_link* link) {
  uint64_t before = link->ackedToPeer;
  link->ackedToPeer = link->dataReceived;
  if (message_send(link, KIND_ACK, link->ackedToPeer, 0, PIECES_ONE)) return true;
  link->ackedToPeer = before;
  return false;
}

void suite_outgoing_over(suite_party* party, void* token, meshcclResult_t result) {
  struct suite_outgoing* out = outgoing_take(party, token);
  suite_check(party->world, out, "rank %d: sent() with a token that is not in use (twice?)", party->rank);
  suite_check(party->world, out->link->ep, "rank %d: sent() for rank %d after disconnect", party->rank,
              out->link->peer);
  suite_check(party->world, result == meshcclSuccess || party->mayBreak, "rank %d: sent(%s)", party->rank,
              mci_result_text(result));
  outgoing_free(out);
}

void suite_messages_forget(suite_party* party) {
  while (party->outgoing) {
    struct suite_outgoing* out = party->outgoing;
    party->outgoing = out->next;
    outgoing_free(out);
  }
  while (party->incoming) {
    struct suite_incoming* in = party->incoming;
    party->incoming = in->next;
    incoming_free(in);
  }
}
