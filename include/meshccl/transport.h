/* The table of a transport: moves messages between pairs of ranks, in order, and nothing more.
 *
 * A message is a header of MESHCCL_HEADER_BYTES that the transport never reads, and 0..maxPayload bytes of payload.
 * Credits, lanes, slots and staging are the executor's: it never has more in flight than the receiver has places for, so
 * an arrival is always taken. Per endpoint messages arrive once, whole and in the order sent.
 *
 * Threads: all slots of one context are called by one thread at a time (any thread). Callbacks run inside progress() of
 * the same context, never elsewhere, so that no message overtakes the one whose send() is running; a callback may call
 * send(), never progress() or close().
 * No slot may block on a peer. A slot that returns an error has reported the exact cause with host->fail once. */
#ifndef MESHCCL_TRANSPORT_H
#define MESHCCL_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

#include "meshccl/result.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MESHCCL_TRANSPORT_ABI 2
#define MESHCCL_HEADER_BYTES 32
#define MESHCCL_ADDRESS_BYTES 256
#define MESHCCL_KEY_BYTES 64
#define MESHCCL_MAX_PIECES 16
#define MESHCCL_MAX_NET_ADDRESSES 8
#define MESHCCL_MAC_BYTES 32

typedef struct {
  const void* base;
  size_t bytes;
} meshcclPiece_t; /* a stretch of memory to send */

typedef struct {
  void* base;
  size_t bytes;
} meshcclPlace_t; /* a stretch of memory to receive into */

/* Where an IP listener can be reached. */
typedef struct {
  uint8_t family;    /* 4 or 6 */
  uint8_t prefix;    /* of an own interface: leading bits that its subnet shares; 0: not known, as of all peers' */
  uint16_t port;     /* in host byte order */
  uint32_t scope;    /* IPv6 link-local: index of the interface at its owner, else 0 */
  uint8_t bytes[16]; /* network byte order; IPv4 in the first four */
} meshcclNetAddress_t;

/* Memory that other processes can map: made by meshcclMemAlloc or for the executor's staging. */
typedef struct {
  uint64_t id; /* unique in the process for ever, never 0 */
  int fd;      /* memfd, sealed against shrinking; owned by the host */
  void* base;
  size_t bytes;
} meshcclMemory_t;

enum {
  MESHCCL_CAN_MAP = 1,           /* map() works towards this peer */
  MESHCCL_CAN_GET = 2,           /* get() works towards this peer */
  MESHCCL_SAME_PROCESS = 4,      /* the peer's addresses are valid here */
  MESHCCL_FILLS_IN_PROGRESS = 8, /* places are written inside progress() only, and not after disconnect() or broken() */
  MESHCCL_CAN_PUT = 16           /* put() and refusePuts() work towards this peer */
};

/* What a transport can do towards one peer. Latency and bandwidth are estimates for the choice among transports. */
typedef struct {
  uint64_t lat_ns;
  uint64_t bw_Bps;
  size_t maxPayload; /* largest payload of one message, at least 4096 */
  int maxPieces;     /* most pieces per send, 1..MESHCCL_MAX_PIECES */
  uint32_t flags;
} meshcclTransportFigures_t;

/* Services and callbacks that the host (executor or test) hands to a transport. `self` goes first everywhere. */
typedef struct {
  uint32_t abi, size;
  void* self;
  int rank, nranks; /* of the communicator; contexts that connect to each other have different ranks */
  void (*log)(void* self, int level, const char* text);                          /* 1 error .. 4 trace */
  meshcclResult_t (*fail)(void* self, meshcclResult_t result, const char* text); /* records the cause, returns result */
  const char* (*parameter)(void* self, const char* name); /* value of MESHCCL_<name>, NULL if unset */

  /* A message from `peer` (the tag given to connect) has arrived. When data is not NULL the whole payload stands there
   * until the callback returns, and the host takes it; otherwise the host fills places[0..*nplaces) (capacity
   * MESHCCL_MAX_PIECES) that together hold `bytes`, sets *token, and the transport calls received() when they are full.
   * With bytes == 0, data may be NULL and nothing follows. An error means the host is in a failed state: drop the
   * message. Arrivals come in the order sent; received() may come after later arrivals, and in any order. */
  meshcclResult_t (*arrive)(void* self, void* peer, const void* header, size_t bytes, const void* data,
                            meshcclPlace_t* places, int* nplaces, void** token);
  void (*received)(void* self, void* token, meshcclResult_t result);
  /* The send that returned InProgress is over; its memory is the caller's again. */
  void (*sent)(void* self, void* token, meshcclResult_t result);
  /* The endpoint cannot be used any more. Called at most once per endpoint. */
  void (*broken)(void* self, void* peer, meshcclResult_t result, const char* why);

  /* ---- for transports over IP ---- */
  uint64_t hostId; /* equal: the same host (MESHCCL_HOST_ID, else boot id and network namespace) */
  /* A keyed hash under the communicator's secret, the same on all its ranks; `purpose` keeps uses apart. Peers that a
   * listener accepts must prove with it that they belong here, before anything they say is believed. */
  void (*mac)(void* self, const char* purpose, const void* data, size_t bytes, unsigned char out[MESHCCL_MAC_BYTES]);
  void (*random)(void* self, void* out, size_t bytes); /* unpredictable bytes */
  /* A listening socket, non-blocking, where the user allows it (interfaces, ports, secret): addresses[0..*n) is where
   * peers reach it; *n is the capacity on entry. The transport closes it. Errors are reported already. */
  meshcclResult_t (*listen)(void* self, int* fd, meshcclNetAddress_t* addresses, int* n);
  /* The next connection of that socket, non-blocking; -1: none. Drops what came by an interface that is not allowed. */
  int (*accept)(void* self, int fd, const meshcclNetAddress_t* addresses, int n);
  /* Begins to connect; non-blocking. -1 with errno. */
  int (*dial)(void* self, const meshcclNetAddress_t* to);
} meshcclTransportHost_t;

typedef struct {
  uint32_t abi, size;
  const char* name;

  /* ---- required ---- */
  /* Make a context for one rank of one communicator. `host` outlives it. NotSupported: the machine lacks something. */
  meshcclResult_t (*open)(const meshcclTransportHost_t* host, void** ctx);
  /* Free the context; all endpoints are disconnected before. What a peer has not taken by now may be lost. */
  void (*close)(void* ctx);
  /* Write where peers reach this context; *bytes is MESHCCL_ADDRESS_BYTES on entry, the used length on return. */
  meshcclResult_t (*address)(void* ctx, void* address, size_t* bytes);
  /* Success and figures when a peer with this address can be reached, else NotSupported (not logged). Never blocks. */
  meshcclResult_t (*reach)(void* ctx, const void* address, size_t bytes, meshcclTransportFigures_t* figures);
  /* Make an endpoint; two contexts have at most one at a time. Both sides call connect with the other's address, in any
   * order; sends before the other side is there are kept or answered with Busy. `peer` is handed to the callbacks. Never
   * blocks. */
  meshcclResult_t (*connect)(void* ctx, void* peer, int peerRank, const void* address, size_t bytes, void** ep);
  /* Give the endpoint back; callbacks for it stop. Messages already accepted are delivered if the peer still listens and
   * this context still makes progress. Memory of sends in progress and places not yet full stay in use until close(). */
  void (*disconnect)(void* ep);
  /* Send header and pieces. Success: taken, the memory is free again, no callback. InProgress: memory in use until
   * sent(token). Busy: nothing was taken, try again after progress. */
  meshcclResult_t (*send)(void* ep, const void* header, const meshcclPiece_t* pieces, int npieces, void* token);
  /* Do what can be done now; returns the number of events handled (0: idle). Room for a send that was answered with Busy
   * is an event. */
  int (*progress)(void* ctx);
  /* How to sleep: *fd becomes readable when progress() may find work or room (valid until close), or *fd = -1 and
   * progress() wants to be called every *poll_us. Before sleeping on fd the caller calls arm(). */
  meshcclResult_t (*waitHandle)(void* ctx, int* fd, uint32_t* poll_us);
  /* Success: nothing is pending, fd will wake. Busy: call progress() first. */
  meshcclResult_t (*arm)(void* ctx);

  /* ---- optional: NULL slots are filled with stubs that return NotSupported ---- */
  /* Describe own memory for peers: MESHCCL_KEY_BYTES into key. */
  meshcclResult_t (*memoryKey)(void* ctx, const meshcclMemory_t* memory, void* key);
  /* Map a peer's memory for reading; what the owner writes later shows. Unmap with the same base. */
  meshcclResult_t (*map)(void* ep, const void* key, void** base);
  void (*unmap)(void* ep, const void* key, void* base);
  /* Read a peer's memory at its own address into local memory. Success, InProgress (sent(token) follows) or error. */
  meshcclResult_t (*get)(void* ep, uint64_t remote, void* local, size_t bytes, void* token);
  /* Write a peer's memory at its own address; it stands there on return. Only into memory that the peer has asked to be
   * written. Busy: the peer refuses, nothing was written. */
  meshcclResult_t (*put)(void* ep, uint64_t remote, const void* local, size_t bytes);
  /* From the return on no put() of this peer writes to memory of this process: what was asked for may be freed. Waits for
   * one that is under way, a second at most. For ever. */
  void (*refusePuts)(void* ep);
  /* Where the next send() to this peer writes if it sends as much as the last one, so that who is about to send has the
   * lines fetched meanwhile; 0 bytes: nowhere that would help. Nobody reads or writes there. */
  void (*writesNext)(void* ep, meshcclPlace_t lines[2]);
} meshcclTransport_t;

/* For transports in shared memory, and for lines that writesNext names: has the line brought into this processor's cache to
 * be written. A hint; any address will do. Compilers make a fetch for reading of __builtin_prefetch unless they may assume a
 * processor of the last ten years. */
static inline void meshcclFetchToWrite(const void* line) {
#if defined(__x86_64__)
  __asm__ volatile("prefetchw %0" ::"m"(*(const char*)line));
#else
  __builtin_prefetch(line, 1);
#endif
}

static inline void meshcclFetchAllToWrite(const void* from, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) meshcclFetchToWrite((const char*)from + i);
}

/* A plugin exports one function of this type under the name meshcclTransportPlugin. */
typedef const meshcclTransport_t* (*meshcclTransportPlugin_t)(void);

#ifdef __cplusplus
}
#endif
#endif
