/* shm: mapping a peer's memory by key, reading and writing its memory by address. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>

#include "rig.h"

struct offer {
  unsigned char key[MESHCCL_KEY_BYTES];
  uint64_t address;
};

#define BYTES 100000

static void fill(unsigned char* memory, size_t bytes, unsigned salt) {
  for (size_t i = 0; i < bytes; i++) memory[i] = (unsigned char)(i * 31 + salt);
}

static int differing(const unsigned char* memory, size_t bytes, unsigned salt) {
  int n = 0;
  for (size_t i = 0; i < bytes; i++) n += memory[i] != (unsigned char)(i * 31 + salt);
  return n;
}

static meshcclMemory_t describe(const struct mci_shared_region* region) {
  return (meshcclMemory_t){.id = region->id, .fd = region->fd, .base = region->base, .bytes = region->bytes};
}

/* Whether the mapping that starts at base is shared and read-only. */
static bool is_read_only(const void* base) {
  char line[4096], start[32];
  bool found = false;
  snprintf(start, sizeof start, "%llx-", (unsigned long long)(uintptr_t)base);
  FILE* file = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, file))
    if (strncmp(line, start, strlen(start)) == 0) found = strstr(line, " r--s ") != NULL;
  fclose(file);
  return found;
}

static int map_and_get(int fd, void* arg) {
  (void)arg;
  struct rig own, peer;
  struct offer offer;
  char step;
  void* base;
  static unsigned char copy[BYTES];
  meshcclTransportFigures_t figures;
  rig_open(&own, 1, 2);
  rig_exchange(fd, &own, &peer, 0);
  hear(fd, &offer, sizeof offer);
  if (SHM->reach(own.ctx, peer.address, peer.bytes, &figures) != meshcclSuccess) return 1;
  if (!(figures.flags & MESHCCL_CAN_MAP) || (figures.flags & MESHCCL_SAME_PROCESS)) return 2;
  void* ep = rig_connect(&own, &peer);
  if (SHM->map(ep, offer.key, &base) != meshcclSuccess) return 3;
  if (differing(base, BYTES, 1) != 0 || !is_read_only(base)) return 4;
  tell(fd, "x", 1);
  hear(fd, &step, 1); /* the owner has written */
  if (differing(base, BYTES, 2) != 0) return 5;
  meshcclResult_t got = SHM->get(ep, offer.address, copy, BYTES, NULL);
  if ((got == meshcclSuccess) != ((figures.flags & MESHCCL_CAN_GET) != 0)) return 6;
  if (got == meshcclSuccess && differing(copy, BYTES, 3) != 0) return 7;
  if (SHM->get(ep, 16, copy, 8, NULL) != (got == meshcclSuccess ? meshcclRemoteError : meshcclNotSupported)) return 8;
  bool puts = figures.flags & MESHCCL_CAN_PUT;
  fill(copy, BYTES, 7);
  if (puts && SHM->put(ep, offer.address, copy, BYTES) != meshcclSuccess) return 11;
  if (puts && SHM->put(ep, 16, copy, 8) != meshcclRemoteError) return 12;
  tell(fd, puts ? "p" : "x", 1);
  hear(fd, &step, 1); /* the owner has freed and refuses */
  if (SHM->put(ep, offer.address, copy, BYTES) != meshcclBusy) return 13;
  if (differing(base, BYTES, 2) != 0) return 9;
  SHM->unmap(ep, offer.key, base);
  if (SHM->map(ep, offer.key, &base) != meshcclRemoteError) return 10;
  SHM->disconnect(ep);
  SHM->close(own.ctx);
  return count_mappings() != 0;
}

static void another_process_maps_and_reads(void** state) {
  (void)state;
  static unsigned char private[BYTES];
  struct rig own, peer;
  struct offer offer;
  struct mci_shared_region region;
  char step;
  int fd;
  pid_t pid = spawn(map_and_get, NULL, &fd);
  rig_open(&own, 0, 2);
  rig_exchange(fd, &own, &peer, 1);
  check_ok(mci_shared_alloc(BYTES, &region));
  meshcclMemory_t memory = describe(&region);
  fill(region.base, BYTES, 1);
  fill(private, BYTES, 3);
  check_ok(SHM->memoryKey(own.ctx, &memory, offer.key));
  offer.address = (uintptr_t) private;
  tell(fd, &offer, sizeof offer);
  hear(fd, &step, 1);
  fill(region.base, BYTES, 2);
  tell(fd, "x", 1);
  hear(fd, &step, 1);
  assert_int_equal(differing(private, BYTES, step == 'p' ? 7 : 3), 0);
  check_ok(mci_shared_free(region.base));
  void* ep = rig_connect(&own, &peer);
  SHM->refusePuts(ep);
  tell(fd, "x", 1);
  assert_int_equal(join_child(pid, fd), 0);
  SHM->disconnect(ep);
  SHM->close(own.ctx);
}

static int lend_and_leave(int fd, void* arg) {
  (void)arg;
  static unsigned char mine[64];
  struct rig own, peer;
  char step;
  uint64_t address = (uintptr_t)mine;
  rig_open(&own, 1, 2);
  rig_exchange(fd, &own, &peer, 0);
  tell(fd, &address, sizeof address);
  hear(fd, &step, 1);
  bool written = mine[0] == 5;
  SHM->close(own.ctx);
  return step == 'p' && !written;
}

/* Whoever gets the number of its process next must not be written to. */
static void a_process_that_has_ended_is_not_written_to(void** state) {
  (void)state;
  struct rig own, peer;
  meshcclTransportFigures_t figures;
  uint64_t address;
  unsigned char byte = 5;
  int fd;
  pid_t pid = spawn(lend_and_leave, NULL, &fd);
  rig_open(&own, 0, 2);
  rig_exchange(fd, &own, &peer, 1);
  hear(fd, &address, sizeof address);
  check_ok(SHM->reach(own.ctx, peer.address, peer.bytes, &figures));
  void* ep = rig_connect(&own, &peer);
  bool puts = figures.flags & MESHCCL_CAN_PUT;
  if (puts) check_ok(SHM->put(ep, address, &byte, 1));
  tell(fd, puts ? "p" : "x", 1);
  assert_int_equal(join_child(pid, fd), 0);
  assert_int_equal(SHM->put(ep, address, &byte, 1), meshcclRemoteError);
  if (puts) assert_non_null(strstr(mci_error_last(), "has ended"));
  SHM->disconnect(ep);
  SHM->close(own.ctx);
}

static void within_a_process_a_map_outlives_the_owners(void** state) {
  (void)state;
  struct rig a, b;
  struct mci_shared_region region;
  unsigned char key[MESHCCL_KEY_BYTES];
  void* base;
  rig_open(&a, 0, 2);
  rig_open(&b, 1, 2);
  void* ab = rig_connect(&a, &b);
  check_ok(mci_shared_alloc(BYTES, &region));
  meshcclMemory_t memory = describe(&region);
  check_ok(SHM->memoryKey(b.ctx, &memory, key));
  check_ok(SHM->map(ab, key, &base));
  fill(region.base, BYTES, 4);
  assert_int_equal(differing(base, BYTES, 4), 0);
  static unsigned char copy[BYTES];
  check_ok(SHM->get(ab, (uintptr_t)region.base, copy, BYTES, NULL));
  assert_int_equal(differing(copy, BYTES, 4), 0);
  fill(copy, BYTES, 5);
  check_ok(SHM->put(ab, (uintptr_t)region.base, copy, BYTES));
  assert_int_equal(differing(region.base, BYTES, 5), 0);
  void* ba = rig_connect(&b, &a);
  SHM->refusePuts(ba);
  fill(copy, BYTES, 6);
  assert_int_equal(SHM->put(ab, (uintptr_t)region.base, copy, BYTES), meshcclBusy);
  assert_int_equal(differing(region.base, BYTES, 5), 0);
  SHM->disconnect(ba);
  fill(region.base, BYTES, 4);
  check_ok(mci_shared_free(region.base));
  assert_int_equal(differing(base, BYTES, 4), 0); /* an owner that fails does not take its peers along */
  SHM->unmap(ab, key, base);
  SHM->disconnect(ab);
  SHM->close(a.ctx);
  SHM->close(b.ctx);
}

static void keys_of_what_is_not_there_are_refused(void** state) {
  (void)state;
  struct rig a;
  struct mci_shared_region region;
  unsigned char key[MESHCCL_KEY_BYTES] = {0};
  void* base;
  rig_open(&a, 0, 1);
  void* ep = rig_connect(&a, &a);
  check_fails(SHM->map(ep, key, &base), meshcclInvalidArgument, "does not describe");
  check_ok(mci_shared_alloc(BYTES, &region));
  meshcclMemory_t memory = describe(&region);
  memory.bytes = region.bytes + 1;
  check_fails(SHM->memoryKey(a.ctx, &memory, key), meshcclInvalidArgument, "not the memory");
  memory.bytes = region.bytes;
  memory.fd = -1;
  check_fails(SHM->memoryKey(a.ctx, &memory, key), meshcclInvalidArgument, "not the memory");
  check_ok(mci_shared_free(region.base));
  SHM->disconnect(ep);
  SHM->close(a.ctx);
}

static int map_unsealed(int fd, void* arg) {
  (void)arg;
  struct rig own, peer;
  struct offer offer;
  void* base;
  rig_open(&own, 1, 2);
  rig_exchange(fd, &own, &peer, 0);
  hear(fd, &offer, sizeof offer);
  void* ep = rig_connect(&own, &peer);
  meshcclResult_t result = SHM->map(ep, offer.key, &base);
  SHM->disconnect(ep);
  SHM->close(own.ctx);
  return result == meshcclRemoteError && strstr(own.host.error, "sealed") ? 0 : 1;
}

static void memory_that_could_shrink_is_not_mapped(void** state) {
  (void)state;
  struct rig own, peer;
  struct offer offer;
  int fd, memfd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  assert_int_equal(ftruncate(memfd, BYTES), 0);
  pid_t pid = spawn(map_unsealed, NULL, &fd);
  rig_open(&own, 0, 2);
  rig_exchange(fd, &own, &peer, 1);
  meshcclMemory_t memory = {.id = 1, .fd = memfd, .base = &own, .bytes = BYTES};
  check_ok(SHM->memoryKey(own.ctx, &memory, offer.key));
  tell(fd, &offer, sizeof offer);
  assert_int_equal(join_child(pid, fd), 0);
  close(memfd);
  SHM->close(own.ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(another_process_maps_and_reads),
      cmocka_unit_test(a_process_that_has_ended_is_not_written_to),
      cmocka_unit_test(within_a_process_a_map_outlives_the_owners),
      cmocka_unit_test(keys_of_what_is_not_there_are_refused),
      cmocka_unit_test(memory_that_could_shrink_is_not_mapped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
