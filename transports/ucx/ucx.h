/* Inside the UCX transport: its context, endpoints and the two records that UCX holds while it works, parcels
 * (arrivals) and orders (sends and receives in progress). */
#ifndef MCI_UCX_H
#define MCI_UCX_H

#include <stdbool.h>
#include <ucp/api/ucp.h>

#include "meshccl/transport.h"

#define MCI_UCX_AM_ID 7
#define MCI_UCX_MAX_PAYLOAD ((size_t)1 << 20)
#define MCI_UCX_MAX_ORDERS 64 /* sends in progress per endpoint: UCX itself would queue without end */

/* BYE is the last message of an endpoint, SEEN the answer of a peer that stays. */
enum { MCI_UCX_MESSAGE = 1, MCI_UCX_BYE = 2, MCI_UCX_SEEN = 3 };

/* The header of the active message. */
struct mci_ucx_wire {
  uint64_t from, to; /* ids of contexts */
  uint32_t sequence; /* per direction: lanes of UCX may overtake each other */
  uint32_t kind;
  unsigned char header[MESHCCL_HEADER_BYTES];
};

/* What arrived and was not given to the host yet. */
struct mci_ucx_parcel {
  struct mci_ucx_parcel* next;
  struct mci_ucx_wire wire;
  void* data; /* held until ucp_am_data_release */
  size_t bytes;
  bool rendezvous; /* data is a descriptor of payload that still lies with the sender */
};

/* A send or a receive that UCX works on. */
struct mci_ucx_order {
  struct mci_ucx_order* next;
  struct mci_ucx_endpoint* ep;
  void* token;
  bool receive;
  ucs_status_t status;
  struct mci_ucx_wire wire;
  ucp_dt_iov_t iov[MESHCCL_MAX_PIECES];
  size_t niov;
};

struct mci_ucx_endpoint {
  struct mci_ucx_endpoint* next;
  struct mci_ucx_context* ctx;
  ucp_ep_h ep; /* NULL: closed */
  void* peer;
  int peerRank;
  uint64_t id; /* the peer's context */
  uint32_t sent, received;
  struct mci_ucx_parcel* parcels; /* by sequence */
  int sends, receives;            /* orders in progress */
  ucs_status_t failure;
  bool failed, told;   /* failed: not usable any more; told: the host knows */
  bool bye;            /* the peer has disconnected in order: its end is no failure */
  bool seen;           /* the peer has seen our last message */
  bool gone;           /* disconnected by the host */
  void *flush, *close; /* requests, NULL when there is none */
};

struct mci_ucx_context {
  const meshcclTransportHost_t* host;
  uint64_t id;
  ucp_context_h context;
  ucp_worker_h worker;
  int fd;
  struct mci_ucx_endpoint* endpoints; /* connected, and disconnected with work left */
  struct mci_ucx_parcel* strangers;   /* from contexts that are not connected yet, in order of arrival */
  struct mci_ucx_order* done;         /* completed, the host does not know yet; oldest first */
  struct mci_ucx_order** doneEnd;
  struct mci_ucx_order* spare;
  bool starved; /* no memory for an arrival: the order is lost */
};

/* messages.c */
meshcclResult_t mci_ucx_send(void* ep, const void* header, const meshcclPiece_t* pieces, int npieces, void* token);
ucs_status_t mci_ucx_arrived(void* ctx, const void* header, size_t headerBytes, void* data, size_t bytes,
                             const ucp_am_recv_param_t* param);
/* Sends BYE or SEEN. */
void mci_ucx_send_note(struct mci_ucx_endpoint* ep, uint32_t kind);
/* Gives the host what can be given; the number of callbacks. */
int mci_ucx_deliver(struct mci_ucx_context* ctx);
bool mci_ucx_deliverable(const struct mci_ucx_context* ctx);
void mci_ucx_parcel_file(struct mci_ucx_endpoint* ep, struct mci_ucx_parcel* parcel);
void mci_ucx_parcel_free(struct mci_ucx_context* ctx, struct mci_ucx_parcel* parcel);

/* endpoint.c */
meshcclResult_t mci_ucx_reach(void* ctx, const void* address, size_t bytes, meshcclTransportFigures_t* figures);
meshcclResult_t mci_ucx_connect(void* ctx, void* peer, int peerRank, const void* address, size_t bytes, void** ep);
void mci_ucx_disconnect(void* ep);
/* Disconnected endpoints: closes those whose messages are out, frees those without work. `force`: closes all. */
void mci_ucx_reap(struct mci_ucx_context* ctx, bool force);

/* context.c */
meshcclResult_t mci_ucx_fail(const struct mci_ucx_context* ctx, meshcclResult_t result, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

/* What peers need: bytes of `worker` that are used follow from the length of the address. */
struct mci_ucx_address {
  uint32_t magic, api;
  uint64_t id;
  unsigned char worker[MESHCCL_ADDRESS_BYTES - 16];
};
#define MCI_UCX_MAGIC 0x6d756378u
#define MCI_UCX_ADDRESS_HEAD 16
#define MCI_UCX_API UCP_VERSION(UCP_API_MAJOR, UCP_API_MINOR)
#endif
