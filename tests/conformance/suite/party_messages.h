/* Inside the suite: the books about single messages, between party.c (callbacks) and party_messages.c. */
#ifndef MCI_CONFORMANCE_MESSAGES_H
#define MCI_CONFORMANCE_MESSAGES_H

#include "party.h"

enum { KIND_DATA = 0x11, KIND_ACK = 0x22 };

typedef struct {
  uint32_t magic;
  uint8_t from, to;
  uint16_t kind;
  uint64_t number; /* of all messages of the link */
  uint64_t bytes;
  uint64_t count; /* KIND_DATA: number among the data; KIND_ACK: data messages received so far */
} suite_header;
_Static_assert(sizeof(suite_header) == MESHCCL_HEADER_BYTES, "the suite's header is the transport's");

struct suite_outgoing {
  suite_link* link;
  struct suite_outgoing* next;
  suite_header header;
  int npieces;
  meshcclPiece_t pieces[MESHCCL_MAX_PIECES];
  unsigned char* blocks[MESHCCL_MAX_PIECES]; /* what was allocated for the pieces */
};

struct suite_incoming {
  suite_link* link;
  struct suite_incoming* next;
  suite_header header;
  int nplaces;
  meshcclPlace_t places[MESHCCL_MAX_PIECES];
};

/* An arrival must be the next of its link and whole; acknowledgements are booked. */
void suite_message_accept(suite_link* link, const suite_header* header, size_t bytes);
void suite_payload_check(suite_link* link, const suite_header* header, const void* data);
struct suite_incoming* suite_places_make(suite_link* link, const suite_header* header, meshcclPlace_t* places,
                                         int* nplaces);
void suite_places_full(suite_party* party, void* token, meshcclResult_t result);
void suite_outgoing_over(suite_party* party, void* token, meshcclResult_t result);
/* After close: the memory of sends and arrivals that were never finished is free. */
void suite_messages_forget(suite_party* party);
#endif
