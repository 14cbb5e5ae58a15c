/* Faults on purpose, for tests: MESHCCL_FAULT puts a table of ours in front of a transport's. Without it the registry
 * gives out the transports' own tables and nothing of this runs.
 *
 * A rule says which messages it concerns (transport, own rank, peer, size of the communicator) and what befalls them.
 * Messages are counted per context and rule, in both directions, as they are accepted or arrive. */
#ifndef MCI_TRANSPORT_FAULT_H
#define MCI_TRANSPORT_FAULT_H

#include "base/base.h"
#include "meshccl/transport.h"

#define MCI_FAULT_RULES 16
#define MCI_FAULT_ANY (-1)

/* What a message meets; several may have begun. */
typedef enum { MCI_FAULT_STALL, MCI_FAULT_RESET, MCI_FAULT_DROP, MCI_FAULT_KINDS } mci_fault_kind;

typedef struct {
  char transport[32];               /* "*": all */
  int rank, peer, size;             /* MCI_FAULT_ANY: all */
  uint64_t from[MCI_FAULT_KINDS];   /* number of the first message that it befalls, from 1; 0: never */
  uint64_t delay_ns, most_delay_ns; /* held for a time between both; 0: not at all */
  uint64_t seed;
} mci_fault_rule;

typedef struct {
  int n;
  mci_fault_rule rules[MCI_FAULT_RULES];
} mci_fault_plan;

/* "tcp:delay=1ms..5ms,rank=1,seed=7;shm:drop=300". InvalidArgument names the place and what may stand there. */
meshcclResult_t mci_fault_parse(const char* text, mci_fault_plan* out);
/* Whether a rule concerns the transport at all. */
bool mci_fault_concerns(const mci_fault_plan* plan, const char* transport);

/* The table in front of transport number `index` of the registry; made at first use, lives for ever. Wants plugins_lock. */
meshcclResult_t mci_fault_wrap(int index, const meshcclTransport_t** out);

/* ---- inside: fault.c, fault_link.c, fault_wait.c ---- */

/* Memory of ours that the inner transport reads or writes: a held message, or room for an arrival that is lost. */
typedef struct mci_fault_message {
  struct mci_fault_message* next;
  uint64_t due_ns;
  size_t bytes;
  unsigned char header[MESHCCL_HEADER_BYTES];
  unsigned char payload[];
} mci_fault_message;

typedef struct {
  mci_fault_rule rule;
  uint64_t seen;
} mci_fault_active;

typedef struct {
  const meshcclTransport_t* inner;
  const meshcclTransportHost_t* host; /* the caller's */
  meshcclTransportHost_t shown;       /* to the inner transport */
  void* ctx;                          /* the inner one */
  struct mci_fault_link* links;
  mci_fault_message* lent; /* in the inner transport's hands */
  int epoll, timer;        /* -1: not needed so far */
  uint64_t timer_ns;       /* when the timer goes off; UINT64_MAX: not set */
  bool delays;
  uint64_t random;
  int nactive;
  mci_fault_active active[MCI_FAULT_RULES];
} mci_fault_context;

typedef struct mci_fault_link {
  mci_fault_context* owner;
  struct mci_fault_link* next;
  void* ep;                       /* the inner one */
  void* peer;                     /* the caller's tag */
  int rank;                       /* of the peer */
  mci_fault_message *head, *tail; /* held, in order */
  size_t held_bytes;
  uint32_t held;
  uint64_t last_due_ns;
  bool blocked; /* the inner transport answered Busy to the first of them */
  bool leaving; /* disconnected by the caller; what is held goes out first */
  bool reset, told;
} mci_fault_link;

/* Counts one message of the link; the bits 1 << kind of what has begun for it. take_back: it was not accepted. */
uint32_t mci_fault_count(mci_fault_link* link);
void mci_fault_take_back(mci_fault_link* link);
/* The bits without counting. */
uint32_t mci_fault_state(const mci_fault_link* link);
/* Keeps a copy until its time. Success, Busy or an error that host->fail has. */
meshcclResult_t mci_fault_hold(mci_fault_link* link, const void* header, const meshcclPiece_t* pieces, int npieces);
/* Hands on what is due; returns how many messages moved. */
int mci_fault_flush(mci_fault_link* link, uint64_t now_ns);
void mci_fault_drop_held(mci_fault_link* link);
/* Gives memory back when the token is one of ours; false: it is the caller's. */
bool mci_fault_settle(mci_fault_context* ctx, const void* token);
uint64_t mci_fault_delay(mci_fault_link* link); /* of the next message */

/* Descriptor that follows the inner one and a timer for what is held. */
meshcclResult_t mci_fault_wait_handle(void* ctx, int* fd, uint32_t* poll_us);
meshcclResult_t mci_fault_arm(void* ctx);
void mci_fault_wait_drain(mci_fault_context* ctx);
meshcclResult_t mci_fault_wait_until(mci_fault_context* ctx, uint64_t due_ns); /* nothing when nobody may sleep */
#endif
