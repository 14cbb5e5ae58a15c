/* Registry: what is refused and how it is named, stubs, selection by MESHCCL_TRANSPORTS, plugins. */
#include "base/globals.h"
#include "support/test.h"
#include "transport/builtin.h"
#include "transport/registry.h"

static const meshcclTransport_t* list[MCI_MAX_PLUGINS];
static char own_abi[16], other_abi[16]; /* "ABI n" of this library and of the plugin that is refused */

static meshcclResult_t list_with(const char* transports, uint32_t* n) {
  if (transports) {
    setenv("MESHCCL_TRANSPORTS", transports, 1);
  } else {
    unsetenv("MESHCCL_TRANSPORTS");
  }
  mci_params_reload();
  return mci_transport_list(list, n, MCI_MAX_PLUGINS);
}

static meshcclResult_t load_with(const char* plugins) {
  if (plugins) {
    setenv("MESHCCL_PLUGIN", plugins, 1);
  } else {
    unsetenv("MESHCCL_PLUGIN");
  }
  mci_params_reload();
  return mci_transport_load();
}

static uint32_t count(void) {
  uint32_t n = 0;
  check_ok(list_with(NULL, &n));
  return n;
}

static void builtins_come_first_and_once(void** state) {
  (void)state;
  check_ok(load_with(NULL));
  check_ok(load_with(NULL));
  assert_true(count() >= 2);
  assert_string_equal(list[0]->name, "self");
  assert_string_equal(list[1]->name, "shm");
  for (uint32_t i = 2; i < count(); i++) assert_string_not_equal(list[i]->name, "self");
}

static void another_abi_is_refused_with_both_numbers(void** state) {
  (void)state;
  meshcclTransport_t table = mci_transport_self;
  table.name = "other";
  table.abi = 77;
  check_fails(mci_transport_register(&table), meshcclInvalidArgument, "ABI 77");
  check_fails(mci_transport_register(&table), meshcclInvalidArgument, own_abi);
}

static void a_missing_required_slot_is_named(void** state) {
  (void)state;
  static const char* const slots[] = {"open",       "close", "address",  "reach",      "connect",
                                      "disconnect", "send",  "progress", "waitHandle", "arm"};
  uint32_t before = count();
  for (size_t i = 0; i < MCI_COUNT(slots); i++) {
    meshcclTransport_t table = mci_transport_self;
    table.name = "holey";
    memset((char*)&table + offsetof(meshcclTransport_t, open) + i * sizeof(void (*)(void)), 0, sizeof(void (*)(void)));
    char expected[64];
    snprintf(expected, sizeof expected, "slot %s", slots[i]);
    check_fails(mci_transport_register(&table), meshcclInvalidArgument, expected);
  }
  assert_int_equal(count(), before);
}

static void bad_sizes_and_names_are_refused(void** state) {
  (void)state;
  static const char* const names[] = {NULL, "", "a b", "a,b", "^a", "a:b"};
  meshcclTransport_t table = mci_transport_self;
  for (size_t i = 0; i < MCI_COUNT(names); i++) {
    table.name = names[i];
    check_fails(mci_transport_register(&table), meshcclInvalidArgument, "name");
  }
  table.name = "short";
  table.size = offsetof(meshcclTransport_t, memoryKey) - 1;
  check_fails(mci_transport_register(&table), meshcclInvalidArgument, "size");
  check_fails(mci_transport_register(NULL), meshcclInvalidArgument, "without a table");
  table = mci_transport_self;
  check_fails(mci_transport_register(&table), meshcclInvalidArgument, "\"self\"");
}

static void empty_optional_slots_become_stubs_that_say_so(void** state) {
  (void)state;
  char name[] = "bare";
  meshcclTransport_t table = mci_transport_self;
  table.name = name;
  table.memoryKey = NULL;
  table.map = NULL;
  table.unmap = NULL;
  table.get = NULL;
  table.put = NULL;
  table.writesNext = NULL;
  check_ok(mci_transport_register(&table));
  name[0] = 'x'; /* the table and its name were copied */
  uint32_t n;
  check_ok(list_with("bare", &n));
  assert_int_equal(n, 1);
  const meshcclTransport_t* bare = list[0];
  check_fails(bare->memoryKey(NULL, NULL, NULL), meshcclNotSupported, "memoryKey");
  check_fails(bare->map(NULL, NULL, NULL), meshcclNotSupported, "map");
  check_fails(bare->get(NULL, 0, NULL, 0, NULL), meshcclNotSupported, "get");
  check_fails(bare->put(NULL, 0, NULL, 0), meshcclNotSupported, "put");
  bare->refusePuts(NULL);
  bare->unmap(NULL, NULL, NULL);
  meshcclPlace_t lines[2];
  bare->writesNext(NULL, lines);
  assert_true(lines[0].bytes == 0 && lines[1].bytes == 0);
  assert_ptr_equal(bare->send, mci_transport_self.send);
}

static void a_failed_allocation_registers_nothing(void** state) {
  (void)state;
  uint32_t before = count();
  meshcclTransport_t table = mci_transport_self;
  table.name = "unlucky";
  mci_alloc_fail_after(1);
  meshcclResult_t result = mci_transport_register(&table);
  mci_alloc_fail_after(-1);
  assert_int_equal(result, meshcclSystemError);
  assert_int_equal(count(), before);
}

static void selection_follows_the_variable(void** state) {
  (void)state;
  static const struct {
    const char* value;
    const char* first; /* NULL: an error */
    uint32_t n;        /* 0: all but one */
    const char* part;
  } rows[] = {{"shm,self", "shm", 2, NULL},
              {"self", "self", 1, NULL},
              {" shm , self,shm ", "shm", 2, NULL},
              {"^self", "shm", 0, NULL},
              {"shm,tcpp", NULL, 0, "\"tcpp\", which is not one of the transports: self, shm"},
              {"^nothing", NULL, 0, "\"nothing\""},
              {",", NULL, 0, "leaves no transport"}};
  uint32_t all = count();
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    uint32_t n = 0;
    meshcclResult_t result = list_with(rows[i].value, &n);
    if ((result == meshcclSuccess) != (rows[i].first != NULL)) fail_msg("row %s: %s", rows[i].value, mci_error_last());
    if (!rows[i].first) {
      check_fails(result, meshcclInvalidArgument, rows[i].part);
      continue;
    }
    if (n != (rows[i].n ? rows[i].n : all - 1)) fail_msg("row %s: %u transports", rows[i].value, n);
    if (strcmp(list[0]->name, rows[i].first) != 0) fail_msg("row %s: first is %s", rows[i].value, list[0]->name);
  }
}

static void too_little_room_is_an_error(void** state) {
  (void)state;
  uint32_t n;
  unsetenv("MESHCCL_TRANSPORTS");
  mci_params_reload();
  check_fails(mci_transport_list(list, &n, 1), meshcclInternalError, "room for 1");
}

static void plugins_are_refused_for_a_reason(void** state) {
  (void)state;
  static const struct {
    const char* path;
    const char* part;
  } rows[] = {{"plugin.so", "not an absolute path"},
              {"/nowhere/plugin.so", "/nowhere/plugin.so"},
              {PLUGIN_NO_SYMBOL, "meshcclTransportPlugin"},
              {PLUGIN_OTHER_ABI, other_abi}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++)
    check_fails(load_with(rows[i].path), meshcclInvalidArgument, rows[i].part);
}

static void a_plugin_is_loaded_once_and_gets_stubs(void** state) {
  (void)state;
  uint32_t before = count(), n;
  check_fails(load_with(PLUGIN_GOOD ":" PLUGIN_OTHER_ABI), meshcclInvalidArgument, other_abi);
  check_ok(load_with(PLUGIN_GOOD)); /* what a failed load had registered is passed over */
  check_ok(load_with("::" PLUGIN_GOOD ":"));
  assert_int_equal(count(), before + 1);
  check_ok(list_with("plugged", &n));
  check_fails(list[0]->get(NULL, 0, NULL, 0, NULL), meshcclNotSupported, "get");
}

static void a_full_table_is_an_error(void** state) {
  (void)state;
  char name[16];
  meshcclTransport_t table = mci_transport_self;
  table.name = name;
  for (uint32_t i = count(); i < MCI_MAX_PLUGINS; i++) {
    snprintf(name, sizeof name, "t%u", i);
    check_ok(mci_transport_register(&table));
  }
  snprintf(name, sizeof name, "last");
  check_fails(mci_transport_register(&table), meshcclInvalidArgument, "32");
}

int main(void) {
  snprintf(own_abi, sizeof own_abi, "ABI %d", MESHCCL_TRANSPORT_ABI);
  snprintf(other_abi, sizeof other_abi, "ABI %d", MESHCCL_TRANSPORT_ABI + 41);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(builtins_come_first_and_once),
      cmocka_unit_test(another_abi_is_refused_with_both_numbers),
      cmocka_unit_test(a_missing_required_slot_is_named),
      cmocka_unit_test(bad_sizes_and_names_are_refused),
      cmocka_unit_test(empty_optional_slots_become_stubs_that_say_so),
      cmocka_unit_test(a_failed_allocation_registers_nothing),
      cmocka_unit_test(selection_follows_the_variable),
      cmocka_unit_test(too_little_room_is_an_error),
      cmocka_unit_test(plugins_are_refused_for_a_reason),
      cmocka_unit_test(a_plugin_is_loaded_once_and_gets_stubs),
      cmocka_unit_test(a_full_table_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
