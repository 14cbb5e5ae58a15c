/* device: the registry's refusals and the host device. */
#include "device/device.h"
#include "kernels/kernels.h"
#include "support/test.h"

static void the_host_device_is_found_without_a_name(void** state) {
  (void)state;
  const meshcclDevice_t* device = NULL;
  check_ok(mci_device_find(NULL, &device));
  assert_ptr_equal(device, &mci_device_host);
  device = NULL;
  check_ok(mci_device_find("host", &device));
  assert_ptr_equal(device, &mci_device_host);
}

static void bad_tables_are_refused_by_cause(void** state) {
  (void)state;
  meshcclDevice_t table = mci_device_host;
  check_fails(mci_device_register(&table), meshcclInvalidArgument, "\"host\" is registered already");
  table.name = "";
  check_fails(mci_device_register(&table), meshcclInvalidArgument, "no name");
  table.name = "other";
  table.abi = 77;
  check_fails(mci_device_register(&table), meshcclInvalidArgument, "ABI 77, this library has 1");
  table.abi = MESHCCL_DEVICE_ABI;
  table.size = 8;
  check_fails(mci_device_register(&table), meshcclInvalidArgument, "8 bytes");
  table.size = sizeof table;
  /* Each slot in turn: all members from open on are pointers to functions. */
  for (size_t at = offsetof(meshcclDevice_t, open); at < sizeof table; at += sizeof(void (*)(void))) {
    meshcclDevice_t broken = table;
    memset((char*)&broken + at, 0, sizeof(void (*)(void)));
    check_fails(mci_device_register(&broken), meshcclInvalidArgument, "every slot is required");
  }
  const meshcclDevice_t* device = &table;
  check_fails(mci_device_find("other", &device), meshcclNotSupported, "host");
  assert_ptr_equal(device, &table);
}

static void a_name_is_registered_once_until_the_table_is_full(void** state) {
  (void)state;
  static meshcclDevice_t tables[64];
  static char names[64][24];
  int count = 0;
  meshcclResult_t result = meshcclSuccess;
  while (count < 64 && result == meshcclSuccess) {
    snprintf(names[count], sizeof names[count], "device%d", count);
    tables[count] = mci_device_host;
    tables[count].name = names[count];
    result = mci_device_register(&tables[count]);
    if (result == meshcclSuccess) count++;
  }
  assert_int_equal(result, meshcclInvalidArgument);
  assert_in_range(count, 8, 63);
  const meshcclDevice_t* device = NULL;
  for (int i = 0; i < count; i++) {
    check_ok(mci_device_find(names[i], &device));
    assert_ptr_equal(device, &tables[i]);
  }
  check_fails(mci_device_register(&tables[3]), meshcclInvalidArgument, "device3");
  check_fails(mci_device_find("device99", &device), meshcclNotSupported, "host, device0, device1");
}

static void host_work_is_done_at_once_in_memory_that_peers_can_map(void** state) {
  (void)state;
  void *ctx = NULL, *memory = NULL;
  uint64_t token = 0;
  struct mci_shared_region region;
  float source[3] = {1, 2, 3}, sums[3];
  check_ok(mci_device_host.open(&ctx));
  check_ok(mci_device_host.alloc(ctx, sizeof source, &memory));
  assert_true(mci_shared_find(memory, sizeof source, &region));
  assert_true(mci_device_host.hostAccessible(ctx, memory));
  check_ok(mci_device_host.copy(ctx, memory, source, sizeof source, &token));
  assert_memory_equal(memory, source, sizeof source);
  const void* sources[] = {memory, source};
  void* destination = sums;
  meshcclFold_t fold = {.destinations = &destination,
                        .sources = sources,
                        .ndestinations = 1,
                        .nsources = 2,
                        .count = 3,
                        .type = meshcclFloat32,
                        .op = meshcclSum};
  check_ok(mci_device_host.fold(ctx, &fold, &token));
  for (int i = 0; i < 3; i++) assert_true(sums[i] == 2 * source[i]);
  check_fails(mci_device_host.poll(ctx, 5), meshcclInternalError, "no token 5");
  mci_device_host.free(ctx, memory);
  assert_false(mci_shared_alive(region.id));
  mci_device_host.free(ctx, NULL);
  mci_device_host.close(ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_host_device_is_found_without_a_name),
      cmocka_unit_test(bad_tables_are_refused_by_cause),
      cmocka_unit_test(a_name_is_registered_once_until_the_table_is_full),
      cmocka_unit_test(host_work_is_done_at_once_in_memory_that_peers_can_map),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
