/* The segment that a context owns and its attachment to the segments of peers, through /proc/<pid>/fd/<fd>. Threads of
 * one process share the owner's mapping, so that all see the same addresses; other processes map the bell page and one
 * ring. No policy and no messages here. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static struct mci_shm_owner* owner_of(void* base) { return base; }

struct mci_shm_ring* mci_shm_segment_ring(const struct mci_shm_ctx* ctx, uint32_t rank) {
  return (struct mci_shm_ring*)(ctx->base + MCI_SHM_RINGS + rank * MCI_SHM_STRIDE);
}

/* A size above the limit of file sizes would raise a signal. */
static bool size_allowed(size_t bytes) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || bytes <= limit.rlim_cur) return true;
  errno = EFBIG;
  return false;
}

static bool create_memory(struct mci_shm_ctx* ctx) {
  ctx->memory_fd = memfd_create("meshccl-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (ctx->memory_fd < 0) return false;
  void* base = MAP_FAILED;
  if (size_allowed(ctx->bytes) && ftruncate(ctx->memory_fd, (off_t)ctx->bytes) == 0 &&
      fcntl(ctx->memory_fd, F_ADD_SEALS, SEALS) == 0)
    base = mmap(NULL, ctx->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, ctx->memory_fd, 0);
  if (base != MAP_FAILED) {
    ctx->base = base;
    return true;
  }
  int cause = errno;
  close(ctx->memory_fd);
  errno = cause;
  return false;
}

static bool create_token(uint64_t* token) {
  do {
    if (getrandom(token, sizeof *token, 0) != sizeof *token) return false;
  } while (*token == 0);
  return true;
}

bool mci_shm_segment_create(struct mci_shm_ctx* ctx, int nranks) {
  int wake[2];
  ctx->bytes = MCI_SHM_RINGS + (size_t)nranks * MCI_SHM_STRIDE;
  if (MCI_SHM_PAGE % (size_t)sysconf(_SC_PAGESIZE) != 0) {
    errno = ENOTSUP;
    return false;
  }
  if (!create_token(&ctx->self.token) || pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  ctx->wake_read = wake[0];
  ctx->wake_write = wake[1];
  if (!create_memory(ctx)) {
    int cause = errno;
    close(wake[0]);
    close(wake[1]);
    errno = cause;
    return false;
  }
  struct mci_shm_owner* owner = owner_of(ctx->base);
  owner->token = ctx->self.token;
  owner->base = ctx->base;
  atomic_store(&owner->users, 1);
  return true;
}

/* The last user in the process unmaps; the memory itself lives on while a peer elsewhere maps it. */
static void release_base(void* base, size_t bytes) {
  if (atomic_fetch_sub(&owner_of(base)->users, 1) == 1) munmap(base, bytes);
}

/* In a forked child the segment still belongs to the parent: only the child's copies of the descriptors are closed. */
void mci_shm_segment_destroy(struct mci_shm_ctx* ctx) {
  if (ctx->self.pid == 0 || ctx->self.pid == getpid()) release_base(ctx->base, ctx->bytes);
  close(ctx->memory_fd);
  close(ctx->wake_read);
  close(ctx->wake_write);
}

static bool is_file(const struct stat* status, mode_t type, uint64_t inode) {
  if ((status->st_mode & S_IFMT) == type && status->st_ino == inode) return true;
  errno = ESTALE; /* the number is that of another file now: the peer has closed its context */
  return false;
}

/* Looked at before, because opening a stranger's file may have effects, and after, because it may change in between. */
static int open_of_peer(const struct mci_shm_address* peer, int fd, uint64_t inode, mode_t type, int flags) {
  char path[64];
  struct stat status;
  snprintf(path, sizeof path, "/proc/%d/fd/%d", peer->pid, fd);
  if (stat(path, &status) != 0 || !is_file(&status, type, inode)) return -1;
  int own = open(path, flags | O_RDWR | O_CLOEXEC | O_NOCTTY);
  if (own < 0 || (fstat(own, &status) == 0 && is_file(&status, type, inode))) return own;
  close(own);
  errno = ESTALE;
  return -1;
}

int mci_shm_open_memory(const struct mci_shm_address* peer) {
  uint64_t token = 0;
  int fd = open_of_peer(peer, peer->memory_fd, peer->memory_inode, S_IFREG, 0);
  if (fd < 0) return -1;
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals >= 0 && (seals & SEALS) == SEALS && pread(fd, &token, sizeof token, 0) == sizeof token &&
      token == peer->token)
    return fd;
  close(fd);
  errno = ESTALE;
  return -1;
}

/* Opened for reading too, so that a write never finds a pipe without a reader and raises a signal. */
int mci_shm_open_wake(const struct mci_shm_address* peer) {
  return open_of_peer(peer, peer->wake_fd, peer->wake_inode, S_IFIFO, O_NONBLOCK);
}

static size_t ring_offset(const struct mci_shm_ep* ep) {
  return MCI_SHM_RINGS + (size_t)ep->ctx->self.rank * MCI_SHM_STRIDE;
}

static bool hold(struct mci_shm_owner* owner) {
  uint32_t users = atomic_load(&owner->users);
  while (users > 0)
    if (atomic_compare_exchange_weak(&owner->users, &users, users + 1)) return true;
  errno = ESTALE;
  return false;
}

/* The owner may be closing at this moment, in another thread: its page is mapped anew to count ourselves in, and only
 * then its mapping is trusted. */
static bool attach_in_process(struct mci_shm_ep* ep, int fd) {
  void* page = mmap(NULL, MCI_SHM_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) return false;
  bool held = hold(page);
  unsigned char* base = owner_of(page)->base;
  munmap(page, MCI_SHM_PAGE);
  if (!held) return false;
  ep->owner_page = base;
  ep->bell = (struct mci_shm_bell*)(base + MCI_SHM_PAGE);
  ep->tx.ring = (struct mci_shm_ring*)(base + ring_offset(ep));
  return true;
}

static bool attach_across(struct mci_shm_ep* ep, int fd) {
  int protection = PROT_READ | PROT_WRITE;
  void* bell = mmap(NULL, MCI_SHM_PAGE, protection, MAP_SHARED, fd, (off_t)MCI_SHM_PAGE);
  if (bell == MAP_FAILED) return false;
  void* ring = mmap(NULL, MCI_SHM_STRIDE, protection, MAP_SHARED | MAP_NORESERVE, fd, (off_t)ring_offset(ep));
  if (ring == MAP_FAILED) {
    munmap(bell, MCI_SHM_PAGE);
    return false;
  }
  ep->bell = ep->map_bell = bell;
  ep->tx.ring = ep->map_ring = ring;
  return true;
}

bool mci_shm_attach(struct mci_shm_ep* ep) {
  int fd = mci_shm_open_memory(&ep->address);
  if (fd < 0) return false;
  bool attached = false;
  ep->wake_fd = mci_shm_open_wake(&ep->address);
  if (ep->wake_fd >= 0) {
    attached = ep->same_process ? attach_in_process(ep, fd) : attach_across(ep, fd);
    if (!attached) close(ep->wake_fd);
  }
  int cause = errno;
  close(fd);
  errno = cause;
  return attached;
}

void mci_shm_detach(struct mci_shm_ep* ep) {
  if (!ep->tx.ring) return;
  if (ep->owner_page && ep->ctx->self.pid == getpid())
    release_base(ep->owner_page, MCI_SHM_RINGS + ep->address.nranks * MCI_SHM_STRIDE);
  if (ep->map_bell) munmap(ep->map_bell, MCI_SHM_PAGE);
  if (ep->map_ring) munmap(ep->map_ring, MCI_SHM_STRIDE);
  close(ep->wake_fd);
}
