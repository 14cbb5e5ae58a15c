/* Direct access to a peer's memory: mapping memory made for sharing, and reading any other with process_vm_readv where
 * the system allows it as it is set. Who may read what and until when is the caller's protocol. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "shm.h"

#define PUT_LIMIT_NS 1000000000ll

struct key {
  uint64_t id, bytes, base, device, inode;
  int32_t pid, fd;
};
_Static_assert(sizeof(struct key) <= MESHCCL_KEY_BYTES, "a key fits its place");

meshcclResult_t mci_shm_memory_key(void* opaque, const meshcclMemory_t* memory, void* out) {
  const struct mci_shm_ctx* ctx = opaque;
  struct stat status;
  if (fstat(memory->fd, &status) != 0 || memory->bytes == 0 || (uint64_t)status.st_size < memory->bytes)
    return mci_shm_fail(ctx, meshcclInvalidArgument, "shm: %zu bytes at %p are not the memory of descriptor %d",
                        memory->bytes, memory->base, memory->fd);
  struct key key = {.id = memory->id,
                    .bytes = memory->bytes,
                    .base = (uintptr_t)memory->base,
                    .device = status.st_dev,
                    .inode = status.st_ino,
                    .pid = ctx->self.pid,
                    .fd = memory->fd};
  memset(out, 0, MESHCCL_KEY_BYTES);
  memcpy(out, &key, sizeof key);
  return meshcclSuccess;
}

/* Memory that could shrink under us would end the process; memory of another inode is what the number means by now. */
static bool is_described(int fd, const struct key* key) {
  struct stat status;
  int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &status) == 0 && status.st_ino == key->inode &&
         status.st_dev == key->device && (uint64_t)status.st_size >= key->bytes;
}

static meshcclResult_t map_file(const struct mci_shm_ep* ep, const struct key* key, void** base) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", key->pid, key->fd);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0)
    return mci_shm_fail(ep->ctx, meshcclRemoteError, "shm: memory of rank %d (%s) cannot be opened: %s", ep->peer_rank,
                        path, strerror(errno));
  if (!is_described(fd, key)) {
    close(fd);
    return mci_shm_fail(ep->ctx, meshcclRemoteError,
                        "shm: memory of rank %d (%s) was freed, or is not sealed against shrinking", ep->peer_rank,
                        path);
  }
  void* mapped = mmap(NULL, key->bytes, PROT_READ, MAP_SHARED, fd, 0);
  int cause = errno;
  close(fd);
  if (mapped == MAP_FAILED)
    return mci_shm_fail(ep->ctx, meshcclSystemError, "shm: %llu bytes of rank %d cannot be mapped: %s",
                        (unsigned long long)key->bytes, ep->peer_rank, strerror(cause));
  *base = mapped;
  return meshcclSuccess;
}

/* A mapping of its own also for a peer in this process: it outlives the owner's, who may fail and free at any moment.
 */
meshcclResult_t mci_shm_map(void* opaque, const void* bytes, void** base) {
  const struct mci_shm_ep* ep = opaque;
  struct key key;
  memcpy(&key, bytes, sizeof key);
  if (key.pid != ep->address.pid || key.id == 0 || key.bytes == 0)
    return mci_shm_fail(ep->ctx, meshcclInvalidArgument, "shm: the key does not describe memory of rank %d",
                        ep->peer_rank);
  return map_file(ep, &key, base);
}

void mci_shm_unmap(void* opaque, const void* bytes, void* base) {
  (void)opaque;
  struct key key;
  memcpy(&key, bytes, sizeof key);
  munmap(base, key.bytes);
}

/* Yama, capabilities or a filter of system calls may forbid it; the peer's own token is what we try to read. */
bool mci_shm_get_works(const struct mci_shm_address* peer) {
  uint64_t token = 0;
  struct iovec here = {&token, sizeof token}, there = {(void*)(uintptr_t)peer->base, sizeof token};
  return process_vm_readv(peer->pid, &here, 1, &there, 1, 0) == sizeof token && token == peer->token;
}

static meshcclResult_t get_failed(const struct mci_shm_ep* ep, uint64_t remote, size_t bytes, int cause) {
  bool forbidden = cause == EPERM || cause == ENOSYS;
  return mci_shm_fail(ep->ctx, forbidden ? meshcclNotSupported : meshcclRemoteError,
                      "shm: %zu bytes at %#llx of rank %d (process %d) cannot be read: %s", bytes,
                      (unsigned long long)remote, ep->peer_rank, ep->address.pid, strerror(cause));
}

/* Within a process, too: a rank that is aborted frees its memory at once, and who reads it then gets an error. */
meshcclResult_t mci_shm_get(void* opaque, uint64_t remote, void* local, size_t bytes, void* token) {
  const struct mci_shm_ep* ep = opaque;
  (void)token;
  for (size_t done = 0; done < bytes;) {
    struct iovec here = {(char*)local + done, bytes - done};
    struct iovec there = {(void*)(uintptr_t)(remote + done), bytes - done};
    ssize_t n = process_vm_readv(ep->address.pid, &here, 1, &there, 1, 0);
    if (n <= 0) return get_failed(ep, remote + done, bytes - done, n < 0 ? errno : EFAULT);
    done += (size_t)n;
  }
  return meshcclSuccess;
}

/* What is read from a stranger who got the number of a dead process is dropped; what is written to him is not. */
int mci_shm_process(const struct mci_shm_address* peer) {
  int fd = pidfd_open(peer->pid, 0);
  if (fd >= 0 && mci_shm_get_works(peer)) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

static bool still_there(struct mci_shm_ep* ep) {
  if (ep->same_process) return true;
  if (ep->process < 0) ep->process = mci_shm_process(&ep->address);
  return ep->process >= 0 && poll(&(struct pollfd){.fd = ep->process, .events = POLLIN}, 1, 0) == 0;
}

static meshcclResult_t write_there(const struct mci_shm_ep* ep, uint64_t remote, const void* local, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    struct iovec here = {(char*)(uintptr_t)local + done, bytes - done};
    struct iovec there = {(void*)(uintptr_t)(remote + done), bytes - done};
    ssize_t n = process_vm_writev(ep->address.pid, &here, 1, &there, 1, 0);
    if (n <= 0)
      return mci_shm_fail(ep->ctx, meshcclRemoteError,
                          "shm: %zu bytes at %#llx of rank %d (process %d) cannot be written: %s", bytes - done,
                          (unsigned long long)(remote + done), ep->peer_rank, ep->address.pid,
                          strerror(n < 0 ? errno : EFAULT));
    done += (size_t)n;
  }
  return meshcclSuccess;
}

/* Either we see that the peer refuses, or it sees that we write and waits. */
meshcclResult_t mci_shm_put(void* opaque, uint64_t remote, const void* local, size_t bytes) {
  struct mci_shm_ep* ep = opaque;
  struct mci_shm_ring* ring = ep->tx.ring;
  if (!ring) return meshcclBusy;
  atomic_store_explicit(&ring->putting, 1, memory_order_seq_cst);
  meshcclResult_t result = meshcclBusy;
  if (!atomic_load_explicit(&ring->refuses, memory_order_seq_cst)) {
    result = still_there(ep) ? write_there(ep, remote, local, bytes)
                             : mci_shm_fail(ep->ctx, meshcclRemoteError, "shm: rank %d (process %d) has ended",
                                            ep->peer_rank, ep->address.pid);
  }
  atomic_store_explicit(&ring->putting, 0, memory_order_release);
  return result;
}

/* The limit is for a peer that has died or was stopped in between. */
void mci_shm_refuse_puts(void* opaque) {
  struct mci_shm_ep* ep = opaque;
  struct mci_shm_ring* ring = ep->rx.ring;
  struct timespec start, now;
  atomic_store_explicit(&ring->refuses, 1, memory_order_seq_cst);
  clock_gettime(CLOCK_MONOTONIC, &start);
  while (atomic_load_explicit(&ring->putting, memory_order_seq_cst)) {
    sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &now);
    if ((now.tv_sec - start.tv_sec) * 1000000000ll + now.tv_nsec - start.tv_nsec > PUT_LIMIT_NS) break;
  }
}
