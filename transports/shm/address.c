/* Where a context is and whom it can reach: same machine, same view of /proc, same user, and descriptors that can be
 * opened. A context that has closed, or a process that has died, is told apart by inode and token. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm.h"

#define MAGIC 0x316d6873u /* "shm1" */

static bool inode_of(int fd, uint64_t* out) {
  struct stat status;
  if (fstat(fd, &status) != 0) return false;
  *out = status.st_ino;
  return true;
}

bool mci_shm_address_init(struct mci_shm_ctx* ctx) {
  struct stat names;
  struct mci_shm_address* self = &ctx->self;
  if (stat("/proc/self/ns/pid", &names) != 0) return false;
  if (!inode_of(ctx->memory_fd, &self->memory_inode) || !inode_of(ctx->wake_write, &self->wake_inode)) return false;
  self->magic = MAGIC;
  self->host = ctx->host->hostId;
  self->uid = geteuid();
  self->pid_namespace = names.st_ino;
  self->pid = getpid();
  self->memory_fd = ctx->memory_fd;
  self->wake_fd = ctx->wake_write;
  self->rank = (uint32_t)ctx->host->rank;
  self->nranks = (uint32_t)ctx->host->nranks;
  self->flags = mci_shm_barrier_init() ? MCI_SHM_ADDRESS_BARRIER : 0;
  self->base = (uintptr_t)ctx->base;
  return true;
}

meshcclResult_t mci_shm_address(void* opaque, void* address, size_t* bytes) {
  const struct mci_shm_ctx* ctx = opaque;
  _Static_assert(sizeof ctx->self <= MESHCCL_ADDRESS_BYTES, "an address fits its place");
  if (*bytes < sizeof ctx->self)
    return mci_shm_fail(ctx, meshcclInvalidArgument, "shm: an address needs %zu bytes, the place has %zu",
                        sizeof ctx->self, *bytes);
  memcpy(address, &ctx->self, sizeof ctx->self);
  *bytes = sizeof ctx->self;
  return meshcclSuccess;
}

bool mci_shm_address_parse(const struct mci_shm_ctx* ctx, const void* address, size_t bytes,
                           struct mci_shm_address* out) {
  const struct mci_shm_address* self = &ctx->self;
  if (bytes != sizeof *out) return false;
  memcpy(out, address, sizeof *out);
  return out->magic == MAGIC && out->host == self->host && out->pid_namespace == self->pid_namespace &&
         out->uid == self->uid && out->rank < self->nranks && self->rank < out->nranks && out->token != 0;
}

meshcclResult_t mci_shm_reach(void* opaque, const void* address, size_t bytes, meshcclTransportFigures_t* figures) {
  const struct mci_shm_ctx* ctx = opaque;
  struct mci_shm_address peer;
  if (!mci_shm_address_parse(ctx, address, bytes, &peer)) return meshcclNotSupported;
  int memory = mci_shm_open_memory(&peer);
  if (memory < 0) return meshcclNotSupported;
  close(memory);
  int wake = mci_shm_open_wake(&peer);
  if (wake < 0) return meshcclNotSupported;
  close(wake);
  uint32_t flags = MESHCCL_CAN_MAP;
  if (peer.pid == ctx->self.pid) flags |= MESHCCL_SAME_PROCESS;
  if (mci_shm_get_works(&peer)) {
    flags |= MESHCCL_CAN_GET;
    int process = mci_shm_process(&peer); /* one permission for both */
    if (process >= 0) flags |= MESHCCL_CAN_PUT;
    if (process >= 0) close(process);
  }
  *figures = (meshcclTransportFigures_t){.lat_ns = 150,
                                         .bw_Bps = 10000000000u,
                                         .maxPayload = MCI_SHM_MAX_PAYLOAD,
                                         .maxPieces = MESHCCL_MAX_PIECES,
                                         .flags = flags};
  return meshcclSuccess;
}
