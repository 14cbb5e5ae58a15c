/* The table of the MPI transport. Contexts are told apart by tags, endpoints by the ids in the wire header; arrivals
 * are found by matched probes and delivered in the order found. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "mpi_transport.h"

#define MAGIC 0x6d6d7069u
#define POLL_US 50
#define CLOSE_NS 100000000ll

struct endpoint {
  struct endpoint* next;
  struct context* ctx;
  void* peer;
  uint64_t id;
  int rank, tag;                  /* of the peer's context in MPI */
  struct mci_mpi_queue sends;     /* oldest first */
  struct mci_mpi_queue strangers; /* what came before connect */
  bool gone;
};

struct context {
  const meshcclTransportHost_t* host;
  struct mci_mpi_process process;
  uint64_t id;
  int tag;
  struct endpoint* endpoints;
  struct mci_mpi_queue receives, strangers;
};

struct address {
  uint32_t magic;
  int32_t rank, tag, zero;
  uint64_t job, id;
};

static meshcclResult_t fail(const struct context* ctx, meshcclResult_t result, const char* text) {
  return ctx->host->fail(ctx->host->self, result, text);
}

static void queue_free(struct mci_mpi_queue* queue) {
  struct mci_mpi_parcel* parcel;
  while ((parcel = mci_mpi_queue_take(queue)) != NULL) free(parcel);
}

/* ---- contexts ---- */

static meshcclResult_t mpi_open(const meshcclTransportHost_t* host, void** out) {
  struct context* ctx = calloc(1, sizeof *ctx);
  const char* why = "mpi: getrandom gave no number for the context";
  if (!ctx) return host->fail(host->self, meshcclSystemError, "mpi: out of memory for a context");
  ctx->host = host;
  mci_mpi_queue_init(&ctx->receives);
  mci_mpi_queue_init(&ctx->strangers);
  meshcclResult_t result = meshcclSystemError;
  if (getrandom(&ctx->id, sizeof ctx->id, 0) == sizeof ctx->id) result = mci_mpi_join(&ctx->process, &ctx->tag, &why);
  if (result != meshcclSuccess) {
    free(ctx);
    return host->fail(host->self, result, why);
  }
  *out = ctx;
  return meshcclSuccess;
}

static long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* Frees the sends that are through; whether none is left. With the lock. */
static bool finish_sends(struct endpoint* ep) {
  while (ep->sends.first && mci_mpi_complete(ep->sends.first)) free(mci_mpi_queue_take(&ep->sends));
  return !ep->sends.first;
}

static void mpi_close(void* opaque) {
  struct context* ctx = opaque;
  long long limit = now_ns() + CLOSE_NS;
  mci_mpi_lock();
  while (ctx->endpoints) {
    struct endpoint* ep = ctx->endpoints;
    while (!finish_sends(ep) && now_ns() < limit) {
      /* The receiver may be another thread of this process. */
      mci_mpi_unlock();
      sched_yield();
      mci_mpi_lock();
    }
    mci_mpi_adopt(&ep->sends);
    ctx->endpoints = ep->next;
    queue_free(&ep->strangers);
    free(ep);
  }
  mci_mpi_adopt(&ctx->receives);
  mci_mpi_unlock();
  queue_free(&ctx->strangers);
  free(ctx);
}

static meshcclResult_t mpi_address(void* opaque, void* address, size_t* bytes) {
  struct context* ctx = opaque;
  struct address own = {
      .magic = MAGIC, .rank = ctx->process.rank, .tag = ctx->tag, .job = ctx->process.job, .id = ctx->id};
  if (*bytes < sizeof own) return fail(ctx, meshcclInvalidArgument, "mpi: no room for the address");
  memcpy(address, &own, sizeof own);
  *bytes = sizeof own;
  return meshcclSuccess;
}

static bool understood(const struct context* ctx, const void* address, size_t bytes, struct address* out) {
  if (bytes != sizeof *out) return false;
  memcpy(out, address, sizeof *out);
  return out->magic == MAGIC && out->job == ctx->process.job && out->rank >= 0 && out->rank < ctx->process.nranks &&
         out->tag >= 0 && out->tag <= ctx->process.lastTag;
}

static meshcclResult_t mpi_reach(void* ctx, const void* address, size_t bytes, meshcclTransportFigures_t* figures) {
  struct address other;
  if (!understood(ctx, address, bytes, &other)) return meshcclNotSupported;
  *figures = (meshcclTransportFigures_t){
      .lat_ns = 5000, .bw_Bps = 2000000000u, .maxPayload = MCI_MPI_MAX_PAYLOAD, .maxPieces = MESHCCL_MAX_PIECES};
  return meshcclSuccess;
}

/* ---- endpoints ---- */

static meshcclResult_t mpi_connect(void* opaque, void* peer, int peerRank, const void* address, size_t bytes,
                                   void** out) {
  struct context* ctx = opaque;
  struct address other;
  (void)peerRank;
  if (!understood(ctx, address, bytes, &other))
    return fail(ctx, meshcclInvalidArgument, "mpi: the address is not of this MPI job");
  struct endpoint* ep = calloc(1, sizeof *ep);
  if (!ep) return fail(ctx, meshcclSystemError, "mpi: out of memory for an endpoint");
  *ep = (struct endpoint){
      .next = ctx->endpoints, .ctx = ctx, .peer = peer, .id = other.id, .rank = other.rank, .tag = other.tag};
  mci_mpi_queue_init(&ep->sends);
  mci_mpi_queue_init(&ep->strangers);
  ctx->endpoints = ep;
  for (int n = ctx->strangers.length; n > 0; n--) {
    struct mci_mpi_parcel* parcel = mci_mpi_queue_take(&ctx->strangers);
    mci_mpi_queue_add(parcel->wire.from == ep->id ? &ep->strangers : &ctx->strangers, parcel);
  }
  *out = ep;
  return meshcclSuccess;
}

/* Stays in the list until close: sends are under way, and late messages of the peer are known and dropped. */
static void mpi_disconnect(void* ep) { ((struct endpoint*)ep)->gone = true; }

static meshcclResult_t mpi_send(void* opaque, const void* header, const meshcclPiece_t* pieces, int npieces,
                                void* token) {
  struct endpoint* ep = opaque;
  struct context* ctx = ep->ctx;
  (void)token;
  size_t bytes = 0;
  for (int i = 0; i < npieces; i++) bytes += pieces[i].bytes;
  if (bytes > MCI_MPI_MAX_PAYLOAD) return fail(ctx, meshcclInvalidArgument, "mpi: a payload above 256 KiB");
  if (ep->sends.length >= MCI_MPI_MAX_SENDS) return meshcclBusy;
  struct mci_mpi_parcel* parcel = malloc(sizeof *parcel + bytes);
  if (!parcel) return fail(ctx, meshcclSystemError, "mpi: out of memory for a send");
  parcel->bytes = bytes;
  parcel->wire = (struct mci_mpi_wire){.from = ctx->id, .to = ep->id};
  memcpy(parcel->wire.header, header, MESHCCL_HEADER_BYTES);
  unsigned char* to = parcel->payload;
  for (int i = 0; i < npieces; i++) {
    if (pieces[i].bytes) memcpy(to, pieces[i].base, pieces[i].bytes);
    to += pieces[i].bytes;
  }
  mci_mpi_lock();
  bool ready = mci_mpi_ready(&ctx->process);
  int error = MPI_SUCCESS;
  if (ready)
    error = MPI_Isend(&parcel->wire, (int)(sizeof parcel->wire + bytes), MPI_BYTE, ep->rank, ep->tag, ctx->process.comm,
                      &parcel->request);
  mci_mpi_unlock();
  if (ready && error == MPI_SUCCESS) {
    mci_mpi_queue_add(&ep->sends, parcel);
    return meshcclSuccess;
  }
  free(parcel);
  return ready ? fail(ctx, meshcclRemoteError, "mpi: MPI_Isend failed") : meshcclBusy;
}

/* ---- progress ---- */

/* Starts receiving what has been announced. Adds 1 for each; negative: MPI failed. With the lock. */
static int start_receives(struct context* ctx) {
  int events = 0;
  while (ctx->receives.length < MCI_MPI_MAX_RECEIVES) {
    int found = 0, bytes = 0;
    MPI_Message message;
    MPI_Status status;
    if (MPI_Improbe(MPI_ANY_SOURCE, ctx->tag, ctx->process.comm, &found, &message, &status) != MPI_SUCCESS) return -1;
    if (!found) break;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    struct mci_mpi_parcel* parcel = malloc(sizeof *parcel + (size_t)bytes);
    if (!parcel) return -1; /* the message is lost to us: the caller breaks every endpoint */
    parcel->bytes = (size_t)bytes - sizeof parcel->wire;
    MPI_Imrecv(&parcel->wire, bytes, MPI_BYTE, &message, &parcel->request);
    mci_mpi_queue_add(&ctx->receives, parcel);
    events++;
  }
  return events;
}

static struct mci_mpi_parcel* next_received(struct context* ctx) {
  struct mci_mpi_parcel* parcel = NULL;
  mci_mpi_lock();
  if (ctx->receives.first && mci_mpi_complete(ctx->receives.first)) parcel = mci_mpi_queue_take(&ctx->receives);
  mci_mpi_unlock();
  return parcel;
}

static void hand_over(struct endpoint* ep, struct mci_mpi_parcel* parcel) {
  const meshcclTransportHost_t* host = ep->ctx->host;
  meshcclPlace_t unused[MESHCCL_MAX_PIECES];
  int nplaces = 0;
  void* token = NULL;
  if (!ep->gone)
    host->arrive(host->self, ep->peer, parcel->wire.header, parcel->bytes, parcel->payload, unused, &nplaces, &token);
  free(parcel);
}

static int deliver_strangers(struct context* ctx) {
  int events = 0;
  for (struct endpoint* ep = ctx->endpoints; ep; ep = ep->next) {
    for (; ep->strangers.first; events++) hand_over(ep, mci_mpi_queue_take(&ep->strangers));
  }
  return events;
}

static int deliver(struct context* ctx) {
  int events = deliver_strangers(ctx);
  struct mci_mpi_parcel* parcel;
  for (; (parcel = next_received(ctx)) != NULL; events++) {
    struct endpoint* ep = ctx->endpoints;
    while (ep && ep->id != parcel->wire.from) ep = ep->next;
    if (parcel->wire.to != ctx->id)
      free(parcel);
    else if (ep)
      hand_over(ep, parcel);
    else
      mci_mpi_queue_add(&ctx->strangers, parcel);
  }
  return events;
}

static void break_all(struct context* ctx) {
  const meshcclTransportHost_t* host = ctx->host;
  fail(ctx, meshcclSystemError, "mpi: arrivals cannot be received: MPI failed or there is no memory");
  for (struct endpoint* ep = ctx->endpoints; ep; ep = ep->next) {
    if (!ep->gone) host->broken(host->self, ep->peer, meshcclSystemError, "arrivals cannot be received");
    ep->gone = true;
  }
}

static int mpi_progress(void* opaque) {
  struct context* ctx = opaque;
  int events = 0, started = 0;
  mci_mpi_lock();
  if (mci_mpi_ready(&ctx->process)) {
    for (struct endpoint* ep = ctx->endpoints; ep; ep = ep->next) {
      bool full = ep->sends.length >= MCI_MPI_MAX_SENDS;
      finish_sends(ep);
      events += full && ep->sends.length < MCI_MPI_MAX_SENDS;
    }
    mci_mpi_sweep();
    started = start_receives(ctx);
  }
  mci_mpi_unlock();
  if (started < 0) {
    break_all(ctx);
    started = 1;
  }
  return events + started + deliver(ctx);
}

static meshcclResult_t mpi_wait_handle(void* ctx, int* fd, uint32_t* poll_us) {
  (void)ctx;
  *fd = -1;
  *poll_us = POLL_US;
  return meshcclSuccess;
}

/* There is nothing to arm: the caller comes back after the interval. */
static meshcclResult_t mpi_arm(void* ctx) {
  (void)ctx;
  return meshcclSuccess;
}

extern const meshcclTransport_t mci_transport_mpi;
const meshcclTransport_t mci_transport_mpi = {
    .abi = MESHCCL_TRANSPORT_ABI,
    .size = sizeof(meshcclTransport_t),
    .name = "mpi",
    .open = mpi_open,
    .close = mpi_close,
    .address = mpi_address,
    .reach = mpi_reach,
    .connect = mpi_connect,
    .disconnect = mpi_disconnect,
    .send = mpi_send,
    .progress = mpi_progress,
    .waitHandle = mpi_wait_handle,
    .arm = mpi_arm,
};
