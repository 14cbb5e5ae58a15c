/* What the files of the shm transport share: the layout of a context's segment, contexts and endpoints.
 *
 * A context owns one memfd, its segment, sparse and sealed at full size, so that only touched pages cost memory:
 *
 *     0       owner page: only threads of the owner's process map it
 *     64 KiB  bell page: peers look here whether the owner sleeps
 *     128 KiB ring for messages from rank 0, then from rank 1, ...; each peer maps the one that it writes
 *
 * Nothing is negotiated: whoever knows the address knows its ring, and messages that are sent before the owner connects
 * wait there. Each ring is claimed once, by the token of the context that may write to it. */
#ifndef MCI_SHM_H
#define MCI_SHM_H

#include <sys/types.h>

#include "ring.h"

#define MCI_SHM_PAGE ((size_t)65536) /* a multiple of every page size in use */
#define MCI_SHM_RINGS (2 * MCI_SHM_PAGE)
#define MCI_SHM_STRIDE (2 * MCI_SHM_PAGE)
_Static_assert(sizeof(struct mci_shm_ring) <= MCI_SHM_STRIDE, "a ring fits its slot");

/* First page of a segment. Written by the owner's process only. */
struct mci_shm_owner {
  uint64_t token;
  void* base;             /* the segment in the owner's process */
  _Atomic uint32_t users; /* the owner and the peers of its process that use base; the last one unmaps it */
};

struct mci_shm_bell {
  _Alignas(128) _Atomic uint32_t asleep; /* whoever sets it from 1 to 0 writes to the wake pipe */
};

struct mci_shm_address {
  uint32_t magic, uid;
  uint64_t host, pid_namespace; /* of whose /proc we speak */
  int32_t pid, memory_fd, wake_fd;
  uint32_t rank, nranks, flags;
  uint64_t memory_inode, wake_inode;
  uint64_t token; /* random, never 0: names the context */
  uint64_t base;
};
#define MCI_SHM_ADDRESS_BARRIER 1u /* the context sleeps behind a membarrier */

struct mci_shm_ctx {
  const meshcclTransportHost_t* host;
  struct mci_shm_address self;
  unsigned char* base; /* of the own segment */
  size_t bytes;
  int memory_fd, wake_read, wake_write;
  bool armed;              /* arm() was called since the last progress() */
  struct mci_shm_ep** eps; /* connected ones; the first few are polled each time, see progress.c */
  uint32_t neps, cap_eps, cursor, victim, nstarved;
  struct mci_shm_ep* all; /* connected and parked */
};

struct mci_shm_ep {
  struct mci_shm_ctx* ctx;
  void* peer; /* the host's tag */
  struct mci_shm_rx rx;
  struct mci_shm_bell* bell; /* the peer's */
  bool connected, broken, same_process;
  bool starved;    /* send() said Busy and no room was seen since */
  bool asymmetric; /* both sides have membarrier: no fence between a store and the look at a sleeper's flag */
  int wake_fd;     /* the peer's wake pipe */
  int process;     /* that we write to: a pidfd, -1 before the first time */
  int peer_rank;
  struct mci_shm_address address;
  void *owner_page, *map_bell, *map_ring; /* the first: same process; the others: mappings to undo */
  struct mci_shm_ep* next;
  struct mci_shm_hands hands;
  struct mci_shm_tx tx; /* ring NULL: the peer had gone before we connected, and only left messages */
};

/* context.c */
meshcclResult_t mci_shm_fail(const struct mci_shm_ctx* ctx, meshcclResult_t result, const char* format, ...)
    __attribute__((format(printf, 3, 4)));
/* segment.c: own segment, and attaching to those of peers. Nothing here reports; errno says why. */
bool mci_shm_segment_create(struct mci_shm_ctx* ctx, int nranks);
void mci_shm_segment_destroy(struct mci_shm_ctx* ctx);
struct mci_shm_ring* mci_shm_segment_ring(const struct mci_shm_ctx* ctx, uint32_t rank);
/* A descriptor of the peer's segment or wake pipe, checked to be what the address says; -1 with errno otherwise. */
int mci_shm_open_memory(const struct mci_shm_address* peer);
int mci_shm_open_wake(const struct mci_shm_address* peer);
/* Fills ring, bell and what detach undoes. */
bool mci_shm_attach(struct mci_shm_ep* ep);
void mci_shm_detach(struct mci_shm_ep* ep);
/* address.c */
bool mci_shm_address_init(struct mci_shm_ctx* ctx);
bool mci_shm_address_parse(const struct mci_shm_ctx* ctx, const void* address, size_t bytes,
                           struct mci_shm_address* out);
meshcclResult_t mci_shm_address(void* ctx, void* address, size_t* bytes);
meshcclResult_t mci_shm_reach(void* ctx, const void* address, size_t bytes, meshcclTransportFigures_t* figures);
/* endpoint.c */
meshcclResult_t mci_shm_connect(void* ctx, void* peer, int peerRank, const void* address, size_t bytes, void** ep);
void mci_shm_disconnect(void* ep);
void mci_shm_ep_free(struct mci_shm_ep* ep);
meshcclResult_t mci_shm_send(void* ep, const void* header, const meshcclPiece_t* pieces, int npieces, void* token);
void mci_shm_writes_next(void* ep, meshcclPlace_t lines[2]);
/* progress.c */
int mci_shm_progress(void* ctx);
/* sleep.c */
bool mci_shm_barrier_init(void);
void mci_shm_wake(struct mci_shm_ep* ep);
void mci_shm_disarm(struct mci_shm_ctx* ctx);
meshcclResult_t mci_shm_wait_handle(void* ctx, int* fd, uint32_t* poll_us);
meshcclResult_t mci_shm_arm(void* ctx);
/* memory.c */
bool mci_shm_get_works(const struct mci_shm_address* peer);
/* A pidfd of the peer's process, which becomes readable when it ends; -1: it has ended, or the system knows none. */
int mci_shm_process(const struct mci_shm_address* peer);
meshcclResult_t mci_shm_memory_key(void* ctx, const meshcclMemory_t* memory, void* key);
meshcclResult_t mci_shm_map(void* ep, const void* key, void** base);
void mci_shm_unmap(void* ep, const void* key, void* base);
meshcclResult_t mci_shm_get(void* ep, uint64_t remote, void* local, size_t bytes, void* token);
meshcclResult_t mci_shm_put(void* ep, uint64_t remote, const void* local, size_t bytes);
void mci_shm_refuse_puts(void* ep);

/* Reads a flag of the other side after something was published to it, in an order that a sleeper can rely on: it sets
 * the flag, has a barrier run on all processors (membarrier) and then looks at what was published. Without membarrier
 * the read is a read-modify-write, which the sleeper's own orders completely. */
static inline uint32_t mci_shm_flag_after_publish(_Atomic uint32_t* flag, bool asymmetric) {
  if (!asymmetric) return atomic_fetch_or_explicit(flag, 0, memory_order_seq_cst);
  atomic_signal_fence(memory_order_seq_cst);
  return atomic_load_explicit(flag, memory_order_relaxed);
}
#endif
