/* Discovery: recorded machines as topologies, and hosts as a level from what ranks report. */
#include "boot/discover.h"
#include "support/test.h"

typedef struct {
  const char *machine, *spec;
} machine_row;

static void machines_become_levels(void** state) {
  (void)state;
  static const machine_row rows[] = {
      {"core:1 pu:1", "full:1@20GB/s,200ns"},
      {"package:1 core:4 pu:2", "full:4@20GB/s,200ns"},
      {"package:1 l3:1 core:6 pu:1", "full:6@20GB/s,200ns"},
      /* two packages, each with its memory and one cache: one level, of the outermost kind */
      {"package:2 numa:1 l3:1 core:4 pu:1", "full:8@20GB/s,200ns,level=package:4*2:8GB/s:700ns"},
      /* chiplets */
      {"package:1 l3:4 core:4 pu:2", "full:16@20GB/s,200ns,level=cache:4*4:15GB/s:300ns"},
      {"package:2 l3:2 core:3 pu:1", "full:12@20GB/s,200ns,level=cache:3*4:15GB/s:300ns,level=package:6*2:8GB/s:700ns"},
      /* several NUMA nodes per package */
      {"package:2 numa:2 l3:2 core:2 pu:1",
       "full:16@20GB/s,200ns,level=cache:2*8:15GB/s:300ns,level=numa:4*4:10GB/s:500ns,level=package:8*2:8GB/s:700ns"},
      {"package:2 numa:2 core:2 pu:1", "full:8@20GB/s,200ns,level=numa:2*4:10GB/s:500ns,level=package:4*2:8GB/s:700ns"},
      /* processors without cores */
      {"pu:3", "full:3@20GB/s,200ns"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_local local;
    mci_str spec = {0}, printed = {0};
    mci_topo* topo;
    check_ok(mci_discover_local(rows[i].machine, &local));
    check_ok(mci_local_spec(&local, &spec));
    check_ok(mci_topo_parse(spec.text, &topo));
    check_ok(mci_topo_print(topo, &printed));
    if (strcmp(printed.text, rows[i].spec) != 0)
      fail_msg("%s: %s instead of %s", rows[i].machine, printed.text, rows[i].spec);
    assert_int_equal(mci_topo_nranks(topo), local.cores);
    mci_topo_destroy(topo);
    mci_str_fini(&printed);
    mci_str_fini(&spec);
    mci_local_free(&local);
  }
}

static void figures_of_a_machine(void** state) {
  (void)state;
  mci_local local;
  check_ok(mci_discover_local("package:2 [numa(memory=1GB)] l3:2(size=4MB) core:3 pu:2", &local));
  assert_int_equal(local.packages, 2);
  assert_int_equal(local.numa, 2);
  assert_int_equal(local.caches, 4);
  assert_int_equal(local.cores, 12);
  assert_int_equal(local.threads, 24);
  assert_true(local.memory > 0);
  assert_true(local.cache_bytes > 0);
  mci_local_free(&local);
  check_fails(mci_discover_local("package:x", &local), meshcclInvalidArgument, "package:x");
}

static void this_machine_is_found(void** state) {
  (void)state;
  mci_local local;
  mci_str spec = {0};
  mci_topo* topo;
  check_ok(mci_discover_local(NULL, &local));
  assert_true(local.cores >= 1 && local.threads >= local.cores);
  check_ok(mci_local_spec(&local, &spec));
  check_ok(mci_topo_parse(spec.text, &topo));
  assert_int_equal(mci_topo_nranks(topo), local.cores);
  mci_topo_destroy(topo);
  mci_str_fini(&spec);
  mci_local_free(&local);
}

/* One letter per rank. */
static void hosts_become_a_level(void** state) {
  (void)state;
  static const char head[] = "@20GB/s,500ns,o=135ns,level=host:", tail[] = ":1.25GB/s:20us,memory";
  static const struct {
    const char *hosts, *groups, *map;
  } rows[] = {
      {"aabb", "2*2", ""},
      {"aaaabbbbccc", "4*2+3", ""},
      {"abb", "1+2", ""},
      {"bbaacc", "2*3", ""},
      {"abab", "2*2", ",map=0.2.1.3"},
      {"abca", "2+1*2", ",map=0.2.3.1"},
      {"aab", "2+1", ""},
      {"abbbccccaa", "3*2+4", ",map=0.3.4.5.6.7.8.9.1.2"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    uint32_t n = (uint32_t)strlen(rows[i].hosts);
    uint64_t hosts[16];
    for (uint32_t r = 0; r < n; r++) hosts[r] = ~(uint64_t)(unsigned char)rows[i].hosts[r] << 40;
    mci_topo* topo;
    mci_str printed = {0};
    char expected[256];
    check_ok(mci_discover_hosts(hosts, n, false, &topo));
    check_ok(mci_topo_print(topo, &printed));
    snprintf(expected, sizeof expected, "full:%u%s%s%s%s", n, head, rows[i].groups, tail, rows[i].map);
    if (strcmp(printed.text, expected) != 0) fail_msg("%s: %s instead of %s", rows[i].hosts, printed.text, expected);
    for (uint32_t a = 0; a < n; a++)
      for (uint32_t b = 0; b < n; b++)
        if ((mci_topo_group(topo, 0, a) == mci_topo_group(topo, 0, b)) != (hosts[a] == hosts[b]))
          fail_msg("%s: ranks %u and %u", rows[i].hosts, a, b);
    mci_topo_destroy(topo);
    mci_str_fini(&printed);
  }
}

static void one_host_or_one_rank_each_is_flat(void** state) {
  (void)state;
  static const struct {
    uint64_t hosts[3];
    bool sockets;
    const char* spec;
  } rows[] = {{{7, 7, 7}, false, "full:3@20GB/s,500ns,o=135ns,memory"},
              {{7, 7, 7}, true, "full:3@3GB/s,2us,o=3us,memory"},
              {{7, 9, 8}, false, "full:3@1.25GB/s,20us"},
              {{7, 9, 8}, true, "full:3@1.25GB/s,20us"}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_topo* topo;
    mci_str printed = {0};
    check_ok(mci_discover_hosts(rows[i].hosts, 3, rows[i].sockets, &topo));
    check_ok(mci_topo_print(topo, &printed));
    if (strstr(printed.text, rows[i].spec) != printed.text) fail_msg("%s instead of %s", printed.text, rows[i].spec);
    assert_int_equal(mci_topo_nlevels(topo), 0);
    mci_topo_destroy(topo);
    mci_str_fini(&printed);
  }
}

static void memory_that_is_short_is_an_error(void** state) {
  (void)state;
  const uint64_t hosts[] = {1, 2, 1, 2, 3};
  for (int64_t nth = 0;; nth++) {
    mci_topo* topo = NULL;
    mci_alloc_fail_after(nth);
    meshcclResult_t result = mci_discover_hosts(hosts, MCI_COUNT(hosts), false, &topo);
    mci_alloc_fail_after(-1);
    mci_topo_destroy(topo);
    if (result == meshcclSuccess) break;
    assert_null(topo);
    assert_true(nth < 1000);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(machines_become_levels),
      cmocka_unit_test(figures_of_a_machine),
      cmocka_unit_test(this_machine_is_found),
      cmocka_unit_test(hosts_become_a_level),
      cmocka_unit_test(one_host_or_one_rank_each_is_flat),
      cmocka_unit_test(memory_that_is_short_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
