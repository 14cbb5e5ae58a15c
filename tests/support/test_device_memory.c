/* Memory of the test device: one range of addresses without access, reserved once per process and never given back, so
 * that a stale handle is still known as one; handed out from front to back, an address comes again only after all
 * others. Each allocation has hidden memory elsewhere. */
#define _GNU_SOURCE
#include "support/test_device_memory.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "support/test_device.h"

#define RANGE_BYTES ((size_t)1 << 36)
#define PAGE_BYTES ((size_t)65536) /* a multiple of every page size */

struct allocation {
  struct allocation* next;
  char *handle, *real;
  size_t bytes, reserved; /* reserved: with a page behind the end that belongs to nobody */
};

static struct {
  pthread_mutex_t lock;
  char* _Atomic base; /* NULL: not reserved yet */
  size_t next;        /* offset where the search for a free place starts */
  struct allocation* first;
  uint64_t count;
} memory = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool test_device_is_handle(const void* ptr) {
  const char* base = memory.base;
  return base && (const char*)ptr >= base && (const char*)ptr < base + RANGE_BYTES;
}

/* The allocation with an address in [from, from + bytes), or NULL; with the lock held. */
static struct allocation* overlapping(const char* from, size_t bytes) {
  struct allocation* a = memory.first;
  while (a && (from + bytes <= a->handle || a->handle + a->reserved <= from)) a = a->next;
  return a;
}

/* An unused place of the range; NULL when there is none. */
static char* place(size_t bytes) {
  if (!memory.base) {
    void* base = mmap(NULL, RANGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NULL;
    memory.base = base;
  }
  bool wrapped = false;
  for (;;) {
    if (bytes > RANGE_BYTES - memory.next) {
      if (wrapped) return NULL;
      wrapped = true;
      memory.next = 0;
    }
    struct allocation* other = overlapping(memory.base + memory.next, bytes);
    if (!other) break;
    memory.next = (size_t)(other->handle + other->reserved - memory.base);
  }
  char* found = memory.base + memory.next;
  memory.next += bytes;
  return found;
}

meshcclResult_t test_memory_alloc(size_t bytes, void** handle) {
  if (bytes > RANGE_BYTES / 2) return mci_oom(bytes);
  struct allocation* a = calloc(1, sizeof *a);
  if (!a) return mci_oom(bytes);
  a->bytes = bytes;
  a->reserved = (bytes / PAGE_BYTES + 2) * PAGE_BYTES;
  a->real = malloc(bytes ? bytes : 1);
  pthread_mutex_lock(&memory.lock);
  a->handle = a->real ? place(a->reserved) : NULL;
  if (a->handle) {
    a->next = memory.first;
    memory.first = a;
    memory.count++;
  }
  pthread_mutex_unlock(&memory.lock);
  if (!a->handle) {
    free(a->real);
    free(a);
    return mci_oom(bytes);
  }
  memset(a->real, 0xdb, bytes);
  *handle = a->handle;
  return meshcclSuccess;
}

void test_memory_free(void* handle) {
  pthread_mutex_lock(&memory.lock);
  struct allocation** link = &memory.first;
  while (*link && (*link)->handle != handle) link = &(*link)->next;
  struct allocation* a = *link;
  if (a) {
    *link = a->next;
    memory.count--;
  }
  pthread_mutex_unlock(&memory.lock);
  if (!a) {
    fprintf(stderr, "test device: %p is freed but not allocated\n", handle);
    abort();
  }
  free(a->real);
  free(a);
}

meshcclResult_t test_memory_translate(const void* ptr, size_t bytes, void** real) {
  if (!test_device_is_handle(ptr)) {
    *real = (void*)(uintptr_t)ptr;
    return meshcclSuccess;
  }
  pthread_mutex_lock(&memory.lock);
  struct allocation* a = overlapping(ptr, 1);
  size_t offset = a ? (size_t)((const char*)ptr - a->handle) : 0;
  char* found = a && offset <= a->bytes && bytes <= a->bytes - offset ? a->real + offset : NULL;
  pthread_mutex_unlock(&memory.lock);
  if (!found)
    MCI_FAIL(meshcclInvalidArgument, "test device: [%p, +%zu) is not inside an allocation of the device", ptr, bytes);
  *real = found;
  return meshcclSuccess;
}

uint64_t test_memory_allocations(void) {
  pthread_mutex_lock(&memory.lock);
  uint64_t count = memory.count;
  pthread_mutex_unlock(&memory.lock);
  return count;
}

void test_device_write(void* handle, const void* from, size_t bytes) {
  void* real = NULL;
  check_ok(test_memory_translate(handle, bytes, &real));
  memcpy(real, from, bytes);
}

void test_device_read(void* to, const void* handle, size_t bytes) {
  void* real = NULL;
  check_ok(test_memory_translate(handle, bytes, &real));
  memcpy(to, real, bytes);
}
