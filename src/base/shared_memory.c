/* Memory that peers of the host can map: one memfd per allocation, sealed against shrinking, and the process-wide table
 * that answers "does this pointer lie in one of them". */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/globals.h"

/* From here on huge pages are asked for, because first calls on memory that peers map are mostly page faults. Smaller
 * regions, such as arenas, are rarely used in full. */
#define HUGE_FROM ((size_t)4 << 20)

static meshcclResult_t map_new(size_t bytes, struct mci_shared_region* region) {
  int fd = memfd_create("meshccl", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) MCI_FAIL(meshcclSystemError, "memfd_create: %s", strerror(errno));
  void* base = MAP_FAILED;
  if (ftruncate(fd, (off_t)bytes) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
    base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) {
    int cause = errno;
    close(fd);
    MCI_FAIL(meshcclSystemError, "shared memory of %zu bytes: %s", bytes, strerror(cause));
  }
  if (bytes >= HUGE_FROM) madvise(base, bytes, MADV_HUGEPAGE); /* the system decides */
  region->fd = fd;
  region->base = base;
  region->bytes = bytes;
  return meshcclSuccess;
}

/* Index of the first region whose base is above ptr. */
static uint32_t upper(const void* ptr) {
  uint32_t low = 0, high = mci_globals.nregions;
  while (low < high) {
    uint32_t mid = (low + high) / 2;
    if ((uintptr_t)mci_globals.regions[mid].base <= (uintptr_t)ptr) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  return low;
}

meshcclResult_t mci_shared_alloc(size_t bytes, struct mci_shared_region* out) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  if (bytes > SIZE_MAX - page) return mci_oom(bytes);
  struct mci_shared_region region = {0};
  MCI_TRY(map_new(MCI_MAX((bytes + page - 1) / page * page, page), &region));
  region.id = atomic_fetch_add(&mci_globals.next_region, 1) + 1;
  pthread_mutex_lock(&mci_globals.lock);
  meshcclResult_t result =
      mci_grow(&mci_globals.regions, sizeof region, &mci_globals.cap_regions, (size_t)mci_globals.nregions + 1);
  if (result == meshcclSuccess) {
    uint32_t at = upper(region.base);
    memmove(&mci_globals.regions[at + 1], &mci_globals.regions[at], (mci_globals.nregions - at) * sizeof region);
    mci_globals.regions[at] = region;
    mci_globals.nregions++;
  }
  pthread_mutex_unlock(&mci_globals.lock);
  if (result != meshcclSuccess) {
    munmap(region.base, region.bytes);
    close(region.fd);
    return result;
  }
  *out = region;
  return meshcclSuccess;
}

meshcclResult_t mci_shared_free(void* base) {
  struct mci_shared_region region = {0};
  pthread_mutex_lock(&mci_globals.lock);
  uint32_t at = upper(base);
  if (at > 0 && mci_globals.regions[at - 1].base == base) {
    region = mci_globals.regions[at - 1];
    memmove(&mci_globals.regions[at - 1], &mci_globals.regions[at], (mci_globals.nregions - at) * sizeof region);
    if (--mci_globals.nregions == 0) {
      mci_free(mci_globals.regions);
      mci_globals.regions = NULL;
      mci_globals.cap_regions = 0;
    }
  }
  pthread_mutex_unlock(&mci_globals.lock);
  if (!region.base)
    MCI_FAIL(meshcclInvalidArgument, "%p was not returned by meshcclMemAlloc, or was freed before", base);
  atomic_fetch_add(&mci_globals.region_frees, 1);
  munmap(region.base, region.bytes);
  close(region.fd);
  return meshcclSuccess;
}

bool mci_shared_find(const void* ptr, size_t bytes, struct mci_shared_region* out) {
  bool found = false;
  pthread_mutex_lock(&mci_globals.lock);
  uint32_t at = upper(ptr);
  if (at > 0) {
    const struct mci_shared_region* region = &mci_globals.regions[at - 1];
    size_t offset = (size_t)((const char*)ptr - (const char*)region->base);
    found = offset <= region->bytes && bytes <= region->bytes - offset;
    if (found) *out = *region;
  }
  pthread_mutex_unlock(&mci_globals.lock);
  return found;
}

uint64_t mci_shared_frees(void) { return atomic_load_explicit(&mci_globals.region_frees, memory_order_acquire); }

bool mci_shared_alive(uint64_t id) {
  bool alive = false;
  pthread_mutex_lock(&mci_globals.lock);
  for (uint32_t i = 0; i < mci_globals.nregions && !alive; i++) alive = mci_globals.regions[i].id == id;
  pthread_mutex_unlock(&mci_globals.lock);
  return alive;
}
