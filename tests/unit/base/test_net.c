/* base/net: which addresses are handed out, listening and its refusals, text and bytes. Interfaces are made up in a
 * network namespace of a child process; where that is not allowed those tests are skipped. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/net.h"
#include "support/test.h"

#define SKIPPED 77

static void setting(const char* name, const char* value) {
  if (value) {
    setenv(name, value, 1);
  } else {
    unsetenv(name);
  }
  mci_params_reload();
}

static int plain(void** state) {
  (void)state;
  static const char* const names[] = {"MESHCCL_SOCKET_IFNAME", "MESHCCL_SOCKET_FAMILY", "MESHCCL_PORT_RANGE",
                                      "MESHCCL_AUTH", "MESHCCL_HOST_ID"};
  for (size_t i = 0; i < MCI_COUNT(names); i++) unsetenv(names[i]);
  mci_params_reload();
  return 0;
}

/* ---- in a namespace of our own ---- */

#define require(condition)                                                          \
  do {                                                                              \
    if (!(condition)) {                                                             \
      fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, mci_error_last()); \
      _exit(1);                                                                     \
    }                                                                               \
  } while (0)

static void ip(const char* arguments) {
  char command[256];
  snprintf(command, sizeof command, "ip %s >/dev/null 2>&1", arguments);
  if (system(command) != 0) _exit(SKIPPED);
}

static void in_namespace(void (*body)(void)) {
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) _exit(SKIPPED);
    ip("link set lo up");
    body();
    _exit(0);
  }
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  if (WEXITSTATUS(status) == SKIPPED) skip();
  assert_int_equal(WEXITSTATUS(status), 0);
}

static bool has(const mci_net_addresses* list, const char* wanted) {
  char text[80];
  for (int i = 0; i < list->n; i++) {
    mci_net_print(&list->at[i], text, sizeof text);
    if (strcmp(text, wanted) == 0) return true;
  }
  return false;
}

static void loopback_only(void) {
  mci_net_addresses list;
  require(mci_net_local(&list) == meshcclSuccess);
  require(list.n >= 1 && mci_net_is_loopback(&list.at[0]) && list.at[0].family == 4);
  setting("MESHCCL_SOCKET_IFNAME", "^lo");
  require(mci_net_local(&list) == meshcclInvalidUsage && strstr(mci_error_last(), "lo"));
  setting("MESHCCL_SOCKET_IFNAME", "eth9");
  require(mci_net_local(&list) == meshcclInvalidUsage && strstr(mci_error_last(), "eth9"));
}

static void many_interfaces(void) {
  char line[128];
  for (int i = 0; i < 12; i++) { /* one end of each pair stays down: no carrier */
    snprintf(line, sizeof line, "link add dead%d type veth peer name other%d", i, i);
    ip(line);
    snprintf(line, sizeof line, "addr add 10.9.%d.1/24 dev dead%d", i, i);
    ip(line);
    snprintf(line, sizeof line, "link set dead%d up", i);
    ip(line);
  }
  ip("link add net0 type veth peer name net1");
  ip("link set net1 up");
  ip("link set net0 up");
  ip("addr add 192.0.2.7/24 dev net0");
  ip("addr add 10.8.0.2/24 dev net1");
  ip("link add docker0 type veth peer name dockerx");
  ip("link set dockerx up");
  ip("link set docker0 up");
  ip("addr add 198.51.100.1/24 dev docker0");
}

static void selection(void) {
  mci_net_addresses list;
  many_interfaces();
  require(mci_net_local(&list) == meshcclSuccess && list.n == 2);
  require(list.at[0].prefix == 24 && list.at[1].prefix == 24);
  require(has(&list, "192.0.2.7:0") && has(&list, "10.8.0.2:0"));
  require(list.at[0].bytes[0] == 192); /* global before private */
  static const struct {
    const char* spec;
    bool net0, net1, docker, lo;
  } rows[] = {{"net", true, true, false, false},          {"=net0", true, false, false, false},
              {"=net", false, false, false, false},       {"^net", false, false, true, false},
              {"^=net0", false, true, true, false},       {"lo,net1", false, true, false, true},
              {"=docker0,net1", false, true, true, false}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    setting("MESHCCL_SOCKET_IFNAME", rows[i].spec);
    bool any = rows[i].net0 || rows[i].net1 || rows[i].docker || rows[i].lo;
    fprintf(stderr, "row %zu: %s\n", i, rows[i].spec);
    require(mci_net_local(&list) == (any ? meshcclSuccess : meshcclInvalidUsage));
    if (!any) continue;
    require(has(&list, "192.0.2.7:0") == rows[i].net0 && has(&list, "10.8.0.2:0") == rows[i].net1);
    require(has(&list, "198.51.100.1:0") == rows[i].docker && has(&list, "127.0.0.1:0") == rows[i].lo);
  }
}

static void without_secret(void) {
  mci_net_addresses list;
  int fd;
  many_interfaces();
  require(mci_net_listen(false, 0, &fd, &list) == meshcclSuccess);
  require(list.n == 1 && mci_net_is_loopback(&list.at[0]));
  close(fd);
  setting("MESHCCL_SOCKET_IFNAME", "net0");
  require(mci_net_listen(false, 0, &fd, &list) == meshcclInvalidUsage);
  require(strstr(mci_error_last(), "MESHCCL_SECRET_FILE") && strstr(mci_error_last(), "MESHCCL_AUTH=none"));
  setting("MESHCCL_AUTH", "none");
  require(mci_net_listen(false, 0, &fd, &list) == meshcclSuccess && list.n == 1 && list.at[0].bytes[0] == 192);
  close(fd);
}

/* A wildcard socket hears loopback too; what came by it is dropped. */
static void other_interfaces(void) {
  mci_net_addresses list;
  int fd;
  many_interfaces();
  require(mci_net_listen(true, 0, &fd, &list) == meshcclSuccess && list.n == 2);
  meshcclNetAddress_t inner = {.family = 4, .port = list.at[0].port, .bytes = {127, 0, 0, 1}};
  int stranger = mci_net_connect(&inner);
  require(stranger >= 0);
  require(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 10000) == 1);
  require(mci_net_accept(fd, &list) == -1);
  int wanted = mci_net_connect(&list.at[1]);
  require(wanted >= 0 && poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 10000) == 1);
  int got = mci_net_accept(fd, &list);
  require(got >= 0);
  close(got), close(wanted), close(stranger), close(fd);
}

static void a_host_with_loopback_only_works(void** state) {
  (void)state;
  in_namespace(loopback_only);
}
static void interfaces_are_chosen_as_written(void** state) {
  (void)state;
  in_namespace(selection);
}
static void without_a_secret_only_loopback_listens(void** state) {
  (void)state;
  in_namespace(without_secret);
}
static void connections_by_other_addresses_are_dropped(void** state) {
  (void)state;
  in_namespace(other_interfaces);
}

/* ---- on loopback of this host ---- */

static void listeners_hear_at_every_address_they_hand_out(void** state) {
  (void)state;
  static const char* const families[] = {"ipv4", "any", "ipv6"};
  setting("MESHCCL_SOCKET_IFNAME", "lo");
  for (size_t f = 0; f < MCI_COUNT(families); f++) {
    setting("MESHCCL_SOCKET_FAMILY", families[f]);
    mci_net_addresses list;
    int fd = -1;
    if (mci_net_local(&list) != meshcclSuccess) continue; /* a host without IPv6 */
    check_ok(mci_net_listen(true, 0, &fd, &list));
    for (int i = 0; i < list.n; i++) {
      assert_true(list.at[i].port != 0);
      int out = mci_net_connect(&list.at[i]);
      assert_true(out >= 0);
      assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 10000), 1);
      int in = mci_net_accept(fd, &list);
      assert_true(in >= 0);
      close(in);
      close(out);
    }
    assert_int_equal(mci_net_accept(fd, &list), -1);
    assert_int_equal(errno, EAGAIN);
    close(fd);
  }
}

static const char* control_of(int fd, char name[16]) {
  socklen_t length = 15;
  memset(name, 0, 16);
  assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length), 0);
  return name;
}

static int next(int listening, const mci_net_addresses* list) {
  assert_int_equal(poll(&(struct pollfd){.fd = listening, .events = POLLIN}, 1, 10000), 1);
  int fd = mci_net_accept(listening, list);
  assert_true(fd >= 0);
  return fd;
}

/* Both ends at one address take Reno; who comes from another one gets the system's choice. */
static void only_connections_within_the_system_change_their_control(void** state) {
  (void)state;
  char a[16], b[16];
  mci_net_addresses list;
  int listening;
  setting("MESHCCL_SOCKET_IFNAME", "lo");
  setting("MESHCCL_SOCKET_FAMILY", "ipv4");
  check_ok(mci_net_listen(true, 0, &listening, &list));
  int other = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK + 1)}},
                     to = {.sin_family = AF_INET,
                           .sin_addr = {htonl(INADDR_LOOPBACK)},
                           .sin_port = htons(list.at[0].port)};
  const char* usual = control_of(other, a);
  assert_int_equal(bind(other, (struct sockaddr*)&from, sizeof from), 0);
  assert_int_equal(connect(other, (struct sockaddr*)&to, sizeof to), 0);
  int in = next(listening, &list);
  assert_string_equal(control_of(in, b), usual);
  close(in), close(other);

  int out = mci_net_connect(&list.at[0]);
  in = next(listening, &list);
  assert_string_equal(control_of(out, a), "reno");
  assert_string_equal(control_of(in, b), "reno");
  close(in), close(out), close(listening);
}

static void a_used_port_and_a_used_range_are_named(void** state) {
  (void)state;
  mci_net_addresses list, other;
  int fd, second;
  char range[32];
  check_ok(mci_net_listen(false, 0, &fd, &list));
  snprintf(range, sizeof range, "%u", list.at[0].port);
  check_fails(mci_net_listen(false, list.at[0].port, &second, &other), meshcclInvalidUsage, range);
  snprintf(range, sizeof range, "%u-%u", list.at[0].port, list.at[0].port);
  setting("MESHCCL_PORT_RANGE", range);
  check_fails(mci_net_listen(false, 0, &second, &other), meshcclInvalidUsage, range);
  close(fd);
  check_ok(mci_net_listen(false, 0, &fd, &list)); /* the same port again: nothing lingers */
  close(fd);
  static const char* const bad[] = {"x", "5-4", "0-9", "10-70000", "-5", "5-", "5-6-7", "1 - 2"};
  for (size_t i = 0; i < MCI_COUNT(bad); i++) {
    setting("MESHCCL_PORT_RANGE", bad[i]);
    check_fails(mci_net_listen(false, 0, &fd, &list), meshcclInvalidUsage, "MESHCCL_PORT_RANGE");
  }
}

static void addresses_print_and_resolve(void** state) {
  (void)state;
  static const struct {
    const char* text;
    uint16_t apart;
    const char* printed;
  } good[] = {{"127.0.0.1:4711", 0, "127.0.0.1:4711"},
              {"127.0.0.1", 99, "127.0.0.1:99"},
              {"[2001:db8::1]:4711", 0, "[2001:db8::1]:4711"},
              {"2001:db8::1", 7, "[2001:db8::1]:7"},
              {"[::1]", 7, "[::1]:7"}};
  for (size_t i = 0; i < MCI_COUNT(good); i++) {
    mci_net_addresses list;
    char text[80];
    check_ok(mci_net_resolve(good[i].text, good[i].apart, &list));
    mci_net_print(&list.at[0], text, sizeof text);
    assert_string_equal(text, good[i].printed);
  }
  static const char* const bad[] = {"",
                                    ":1",
                                    "127.0.0.1",
                                    "127.0.0.1:",
                                    "127.0.0.1:0",
                                    "127.0.0.1:65536",
                                    "127.0.0.1:1x",
                                    "2001:db8::1:4711",
                                    "[::1]4711",
                                    "[::1"};
  for (size_t i = 0; i < MCI_COUNT(bad); i++) {
    mci_net_addresses list;
    check_fails(mci_net_resolve(bad[i], 0, &list), meshcclInvalidUsage, bad[i]);
  }
}

static void packed_addresses_unpack_and_others_are_refused(void** state) {
  (void)state;
  const meshcclNetAddress_t rows[] = {{.family = 4, .port = 4711, .bytes = {10, 1, 2, 3}},
                                      {.family = 6, .port = 65535, .bytes = {0x20, 1, [15] = 1}},
                                      {.family = 6, .port = 1, .scope = 77, .bytes = {0xfe, 0x80, [15] = 9}}};
  unsigned char bytes[MCI_NET_PACKED_BYTES];
  meshcclNetAddress_t back;
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_net_pack(&rows[i], bytes);
    assert_true(mci_net_unpack(bytes, &back));
    assert_memory_equal(&back, &rows[i], sizeof back);
  }
  static const struct {
    int at;
    unsigned char value;
  } damage[] = {{0, 0}, {0, 5}, {1, 1}, {7, 1}, {12, 1}, {23, 1}};
  for (size_t i = 0; i < MCI_COUNT(damage); i++) {
    mci_net_pack(&rows[0], bytes);
    bytes[damage[i].at] = damage[i].value;
    assert_false(mci_net_unpack(bytes, &back));
  }
}

static void hosts_are_told_apart_by_name(void** state) {
  (void)state;
  char name[64];
  uint64_t here = mci_host_id();
  assert_true(here != 0 && here == mci_host_id());
  setting("MESHCCL_HOST_ID", "left");
  uint64_t left = mci_host_id();
  mci_host_name(name, sizeof name);
  assert_string_equal(name, "left");
  setting("MESHCCL_HOST_ID", "right");
  assert_true(left != here && left != mci_host_id());
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(a_host_with_loopback_only_works, plain),
      cmocka_unit_test_setup(interfaces_are_chosen_as_written, plain),
      cmocka_unit_test_setup(without_a_secret_only_loopback_listens, plain),
      cmocka_unit_test_setup(connections_by_other_addresses_are_dropped, plain),
      cmocka_unit_test_setup(listeners_hear_at_every_address_they_hand_out, plain),
      cmocka_unit_test_setup(only_connections_within_the_system_change_their_control, plain),
      cmocka_unit_test_setup(a_used_port_and_a_used_range_are_named, plain),
      cmocka_unit_test_setup(addresses_print_and_resolve, plain),
      cmocka_unit_test_setup(packed_addresses_unpack_and_others_are_refused, plain),
      cmocka_unit_test_setup(hosts_are_told_apart_by_name, plain),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
