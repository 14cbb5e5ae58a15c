/* tcp: who gets in and who does not, where it listens, what a dead or deaf peer looks like. Only loopback. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host.h"
#include "transport/builtin.h"
#include "transports/tcp/tcp.h"

#define TCP (&mci_transport_tcp)

struct end {
  struct test_host host;
  void* ctx;
  unsigned char address[MESHCCL_ADDRESS_BYTES];
  size_t bytes;
  char why[512]; /* of broken() */
};

static void note_why(void* self, void* peer, meshcclResult_t result, const char* why) {
  struct end* end = self;
  (void)peer, (void)result;
  end->host.broken++;
  snprintf(end->why, sizeof end->why, "%s", why);
}

static void wrong_mac(void* self, const char* purpose, const void* data, size_t bytes,
                      unsigned char out[MESHCCL_MAC_BYTES]) {
  (void)self;
  test_net_mac("another", purpose, data, bytes, out);
}

static void end_open_as(struct end* end, int rank, int nranks, bool wrong_secret) {
  memset(end, 0, sizeof *end);
  host_init(&end->host, rank, nranks);
  end->host.table.broken = note_why;
  if (wrong_secret) end->host.table.mac = wrong_mac;
  check_ok(TCP->open(&end->host.table, &end->ctx));
  end->bytes = sizeof end->address;
  check_ok(TCP->address(end->ctx, end->address, &end->bytes));
}

static void end_open(struct end* end, int rank, int nranks) { end_open_as(end, rank, nranks, false); }

static void* end_connect(struct end* from, struct end* to) {
  void* ep = NULL;
  check_ok(TCP->connect(from->ctx, to, to->host.table.rank, to->address, to->bytes, &ep));
  return ep;
}

static meshcclResult_t say(void* ep, const void* payload, size_t bytes) {
  unsigned char header[MESHCCL_HEADER_BYTES] = {7};
  meshcclPiece_t piece = {payload, bytes};
  return TCP->send(ep, header, &piece, 1, NULL);
}

/* Both make progress until the counter is there; false after 20 s. */
static bool until(struct end* a, struct end* b, const int* counter, int target) {
  uint64_t limit = mci_now_ns() + 20000000000ull;
  while (*counter < target && mci_now_ns() < limit) {
    TCP->progress(a->ctx);
    if (b) TCP->progress(b->ctx);
  }
  return *counter >= target;
}

static void talk(struct end* a, struct end* b, void* ab) {
  int before = b->host.arrivals;
  assert_int_equal(say(ab, "x", 1), meshcclSuccess);
  assert_true(until(a, b, &b->host.arrivals, before + 1));
}

static const meshcclNetAddress_t* first_address(const struct end* end, struct mci_tcp_address* parsed) {
  assert_true(mci_tcp_address_read(end->address, end->bytes, parsed));
  return &parsed->at[0];
}

/* A blocking socket of a stranger. */
static int knock(const struct end* at) {
  struct mci_tcp_address parsed;
  const meshcclNetAddress_t* where = first_address(at, &parsed);
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(where->port)};
  memcpy(&name.sin_addr, where->bytes, 4);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(fd, (struct sockaddr*)&name, sizeof name), 0);
  return fd;
}

/* Whether the context closes the stranger's socket; what it says before is counted. */
static bool is_shown_out(struct end* end, int fd, size_t* heard) {
  char bytes[256];
  uint64_t limit = mci_now_ns() + 20000000000ull;
  *heard = 0;
  while (mci_now_ns() < limit) {
    TCP->progress(end->ctx);
    ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n > 0) *heard += (size_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN)) return true;
  }
  return false;
}

static int count_descriptors(void) {
  int n = 0;
  DIR* dir = opendir("/proc/self/fd");
  while (readdir(dir)) n++;
  closedir(dir);
  return n;
}

static void pair_open(struct end* a, struct end* b, void** ab, void** ba) {
  end_open(a, 0, 2);
  end_open(b, 1, 2);
  *ab = end_connect(a, b);
  *ba = end_connect(b, a);
}

static void pair_close(struct end* a, struct end* b, void* ab, void* ba) {
  TCP->disconnect(ab);
  TCP->disconnect(ba);
  TCP->close(a->ctx);
  TCP->close(b->ctx);
}

/* ---- strangers ---- */

static void garbage_is_shown_out_and_hurts_nobody(void** state) {
  (void)state;
  struct end a, b;
  void *ab, *ba;
  end_open(&a, 0, 2);
  end_open(&b, 1, 2);
  uint64_t random = test_seed();
  for (int i = 0; i < 50; i++) {
    unsigned char junk[300];
    size_t heard;
    for (size_t k = 0; k < sizeof junk; k++) junk[k] = (unsigned char)test_random(&random);
    int fd = knock(&b);
    assert_true(send(fd, junk, MCI_TCP_HELLO + (size_t)i, MSG_NOSIGNAL) > 0);
    assert_true(is_shown_out(&b, fd, &heard));
    assert_int_equal(heard, 0);
    close(fd);
  }
  ab = end_connect(&a, &b);
  ba = end_connect(&b, &a);
  talk(&a, &b, ab);
  assert_int_equal(b.host.broken + b.host.failures, 0);
  pair_close(&a, &b, ab, ba);
}

/* 64 silent strangers fill the places; the peers get in once their time is over. Slow: a stranger's time is 5 s. */
static void silent_strangers_have_places_and_a_time_limit(void** state) {
  (void)state;
  struct end a, b;
  void *ab, *ba;
  int strangers[80];
  end_open(&a, 0, 2);
  end_open(&b, 1, 2);
  for (size_t i = 0; i < MCI_COUNT(strangers); i++) {
    strangers[i] = knock(&b);
    if (i % 2) assert_int_equal(send(strangers[i], "mshtcph", 7, MSG_NOSIGNAL), 7);
  }
  const struct mci_tcp_ctx* inside = b.ctx;
  int before = count_descriptors();
  for (int i = 0; i < 200; i++) TCP->progress(b.ctx);
  assert_int_equal(inside->nstrangers, MCI_TCP_STRANGERS);
  assert_int_equal(count_descriptors() - before, MCI_TCP_STRANGERS);
  int fd;
  uint32_t poll_us;
  check_ok(TCP->waitHandle(b.ctx, &fd, &poll_us));
  check_ok(TCP->arm(b.ctx));
  assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0), 0); /* nobody spins over the others */
  for (size_t i = 0; i < MCI_COUNT(strangers); i++) close(strangers[i]);
  ab = end_connect(&a, &b);
  ba = end_connect(&b, &a);
  talk(&a, &b, ab);
  pair_close(&a, &b, ab, ba);
}

static void a_half_open_stranger_is_forgotten_in_time(void** state) {
  (void)state;
  struct end b;
  size_t heard;
  end_open(&b, 1, 2);
  int fd = knock(&b);
  uint64_t since = mci_now_ns();
  assert_true(is_shown_out(&b, fd, &heard));
  uint64_t took = mci_now_ns() - since;
  assert_true(took >= MCI_TCP_STRANGER_NS - 500000000u);
  close(fd);
  TCP->close(b.ctx);
}

static void a_wrong_secret_is_refused_and_named(void** state) {
  (void)state;
  struct end a, b;
  end_open_as(&a, 0, 2, true);
  end_open(&b, 1, 2);
  void *ab = end_connect(&a, &b), *ba = end_connect(&b, &a);
  assert_int_equal(say(ab, "secret?", 7), meshcclSuccess);
  assert_true(until(&a, &b, &a.host.broken, 1));
  assert_non_null(strstr(a.why, "MESHCCL_SECRET"));
  assert_non_null(strstr(a.why, "rank 1"));
  assert_int_equal(b.host.arrivals + b.host.broken, 0);
  assert_int_equal(((struct mci_tcp_ctx*)b.ctx)->nlive, 0);
  pair_close(&a, &b, ab, ba);
}

/* A relay between the two records what the dialler says; said again, it opens nothing. */
struct relay {
  struct end* end; /* the dialler's */
  int listen_fd, outer, inner;
  struct sockaddr_in name;
  unsigned char said[4096];
  size_t bytes;
};

static void relay_open(struct relay* relay) {
  socklen_t length = sizeof relay->name;
  memset(relay, 0, sizeof *relay);
  relay->outer = relay->inner = -1;
  relay->name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  relay->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  assert_int_equal(bind(relay->listen_fd, (struct sockaddr*)&relay->name, length), 0);
  assert_int_equal(listen(relay->listen_fd, 1), 0);
  assert_int_equal(getsockname(relay->listen_fd, (struct sockaddr*)&relay->name, &length), 0);
}

static void relay_step(struct relay* relay, const struct end* to) {
  unsigned char bytes[1024];
  if (relay->outer < 0) {
    relay->outer = accept4(relay->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (relay->outer >= 0) relay->inner = knock(to);
    return;
  }
  ssize_t n = recv(relay->outer, bytes, sizeof bytes, MSG_DONTWAIT);
  if (n > 0) {
    assert_true(relay->bytes + (size_t)n <= sizeof relay->said);
    memcpy(relay->said + relay->bytes, bytes, (size_t)n);
    relay->bytes += (size_t)n;
    assert_int_equal(send(relay->inner, bytes, (size_t)n, MSG_NOSIGNAL), n);
  }
  n = recv(relay->inner, bytes, sizeof bytes, MSG_DONTWAIT);
  if (n > 0) assert_int_equal(send(relay->outer, bytes, (size_t)n, MSG_NOSIGNAL), n);
}

static void a_replayed_handshake_opens_nothing(void** state) {
  (void)state;
  struct end a, b;
  struct relay relay;
  struct mci_tcp_address shown;
  end_open(&a, 0, 2);
  end_open(&b, 1, 2);
  relay_open(&relay);
  struct end through = b; /* what the dialler believes */
  first_address(&b, &shown);
  shown.at[0].port = ntohs(relay.name.sin_port);
  shown.n = 1;
  through.bytes = mci_tcp_address_write(&shown, through.address);
  void *ab = end_connect(&a, &through), *ba = end_connect(&b, &a);
  assert_int_equal(say(ab, "once", 4), meshcclSuccess);
  for (uint64_t limit = mci_now_ns() + 20000000000ull; b.host.arrivals < 1 && mci_now_ns() < limit;) {
    TCP->progress(a.ctx);
    relay_step(&relay, &b);
    TCP->progress(b.ctx);
  }
  assert_int_equal(b.host.arrivals, 1);
  assert_true(relay.bytes >= MCI_TCP_HELLO + MCI_TCP_PROOF + MCI_TCP_FRAME + 4);
  size_t heard;
  int fd = knock(&b);
  assert_int_equal(send(fd, relay.said, relay.bytes, MSG_NOSIGNAL), relay.bytes);
  assert_true(is_shown_out(&b, fd, &heard));
  assert_true(heard <= MCI_TCP_CHALLENGE);
  assert_int_equal(b.host.arrivals, 1);
  assert_int_equal(b.host.broken, 0);
  close(fd), close(relay.inner), close(relay.outer), close(relay.listen_fd);
  pair_close(&a, &b, ab, ba);
}

/* ---- peers ---- */

static void a_reset_breaks_once_with_the_cause(void** state) {
  (void)state;
  struct end a, b;
  void *ab, *ba;
  pair_open(&a, &b, &ab, &ba);
  talk(&a, &b, ab);
  struct mci_tcp_ep* ep = ba;
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  setsockopt(ep->source.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  mci_tcp_hang_up(ep);
  assert_true(until(&a, NULL, &a.host.broken, 1));
  assert_non_null(strstr(a.why, strerror(ECONNRESET)));
  assert_non_null(strstr(a.why, "rank 1"));
  for (int i = 0; i < 100; i++) TCP->progress(a.ctx);
  assert_int_equal(a.host.broken, 1);
  assert_int_equal(say(ab, "x", 1), meshcclRemoteError);
  pair_close(&a, &b, ab, ba);
}

static void an_orderly_leave_breaks_nothing(void** state) {
  (void)state;
  struct end a, b;
  void *ab, *ba;
  pair_open(&a, &b, &ab, &ba);
  talk(&a, &b, ab);
  assert_int_equal(say(ba, "last", 4), meshcclSuccess);
  TCP->disconnect(ba);
  TCP->close(b.ctx);
  assert_true(until(&a, NULL, &a.host.arrivals, 1));
  for (int i = 0; i < 100; i++) TCP->progress(a.ctx);
  assert_int_equal(say(ab, "nobody", 6), meshcclSuccess);
  for (int i = 0; i < 100; i++) TCP->progress(a.ctx);
  assert_int_equal(a.host.broken, 0);
  TCP->disconnect(ab);
  TCP->close(a.ctx);
}

static void a_peer_that_is_gone_is_named_with_its_address(void** state) {
  (void)state;
  struct end a, b;
  struct mci_tcp_address parsed;
  char where[MCI_TCP_TEXT];
  end_open(&a, 0, 2);
  end_open(&b, 1, 2);
  mci_tcp_print(first_address(&b, &parsed), where);
  TCP->close(b.ctx);
  void* ab = end_connect(&a, &b);
  assert_true(until(&a, NULL, &a.host.broken, 1));
  assert_non_null(strstr(a.why, where));
  assert_non_null(strstr(a.why, strerror(ECONNREFUSED)));
  assert_non_null(strstr(a.why, "MESHCCL_SOCKET_IFNAME"));
  TCP->disconnect(ab);
  TCP->close(a.ctx);
}

/* Addresses where nobody answers come first in the list; 192.0.2.0/24 is set aside for documents. */
static void dead_addresses_cost_a_moment(void** state) {
  (void)state;
  struct end a, b;
  struct mci_tcp_address shown;
  end_open(&a, 0, 2);
  end_open(&b, 1, 2);
  first_address(&b, &shown);
  meshcclNetAddress_t good = shown.at[0];
  shown.host++; /* another host: loopback is its last hope */
  shown.n = 5;
  for (int i = 0; i < 4; i++) shown.at[i] = (meshcclNetAddress_t){.family = 4, .port = 9, .bytes = {192, 0, 2, 1}};
  shown.at[4] = good;
  struct end through = b;
  through.bytes = mci_tcp_address_write(&shown, through.address);
  void *ab = end_connect(&a, &through), *ba = end_connect(&b, &a);
  assert_int_equal(say(ab, "x", 1), meshcclSuccess);
  assert_true(until(&a, &b, &b.host.arrivals, 1));
  pair_close(&a, &b, ab, ba);
}

static meshcclNetAddress_t asked_first;

/* Two interfaces: one end of a link, and an address that is alone in its subnet. */
static meshcclResult_t listen_with_two(void* self, int* fd, meshcclNetAddress_t* addresses, int* n) {
  struct end other;
  memset(&other, 0, sizeof other);
  host_init(&other.host, 0, 2);
  (void)self;
  meshcclResult_t result = other.host.table.listen(&other.host, fd, addresses, n);
  addresses[0] = (meshcclNetAddress_t){.family = 4, .port = 9, .prefix = 32, .bytes = {10, 2, 0, 2}};
  addresses[1] = (meshcclNetAddress_t){.family = 4, .port = 9, .prefix = 30, .bytes = {10, 1, 0, 5}};
  *n = 2;
  return result;
}

static int note_first(void* self, const meshcclNetAddress_t* to) {
  (void)self;
  if (asked_first.family == 0) asked_first = *to;
  errno = ENETUNREACH;
  return -1;
}

/* 10.2.0.3 has more bits in common with one of ours, but no subnet. */
static void the_address_on_the_shared_link_is_dialled_first(void** state) {
  (void)state;
  struct end a, b;
  struct mci_tcp_address shown;
  memset(&a, 0, sizeof a);
  host_init(&a.host, 0, 2);
  a.host.table.broken = note_why;
  a.host.table.listen = listen_with_two;
  a.host.table.dial = note_first;
  check_ok(TCP->open(&a.host.table, &a.ctx));
  a.bytes = sizeof a.address;
  check_ok(TCP->address(a.ctx, a.address, &a.bytes));
  end_open(&b, 1, 2);
  first_address(&b, &shown);
  shown.host++;
  shown.n = 2;
  shown.at[0] = (meshcclNetAddress_t){.family = 4, .port = 9, .bytes = {10, 2, 0, 3}};
  shown.at[1] = (meshcclNetAddress_t){.family = 4, .port = 9, .bytes = {10, 1, 0, 6}};
  struct end through = b;
  through.bytes = mci_tcp_address_write(&shown, through.address);
  void* ab = end_connect(&a, &through);
  assert_true(until(&a, NULL, &a.host.broken, 1));
  assert_memory_equal(asked_first.bytes, shown.at[1].bytes, 16);
  TCP->disconnect(ab);
  TCP->close(a.ctx);
  TCP->close(b.ctx);
}

static void what_waits_for_a_connection_is_not_over(void** state) {
  (void)state;
  struct end a, b;
  void *ab, *ba, *header = (char[MESHCCL_HEADER_BYTES]){7};
  pair_open(&a, &b, &ab, &ba);
  assert_int_equal(TCP->send(ab, header, &(meshcclPiece_t){"x", 1}, 1, &a), meshcclInProgress);
  assert_int_equal(TCP->send(ab, header, NULL, 0, &a), meshcclInProgress);
  assert_true(until(&a, &b, &a.host.sent, 2));
  assert_true(until(&b, NULL, &b.host.arrivals, 2)); /* the sender may never call again */
  pair_close(&a, &b, ab, ba);
}

static void nothing_paces_within_one_system(void** state) {
  (void)state;
  struct end a, b;
  void *ab, *ba;
  char name[16] = "";
  pair_open(&a, &b, &ab, &ba);
  talk(&a, &b, ab);
  int fd = ((struct mci_tcp_ep*)ab)->source.fd;
  assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &(socklen_t){sizeof name}), 0);
  assert_true(strcmp(name, "reno") == 0 || setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) != 0);
  pair_close(&a, &b, ab, ba);
}

/* The queue is short and long payloads are not copied: a peer that does not read costs little memory. */
static void a_deaf_peer_costs_bounded_memory(void** state) {
  (void)state;
  struct end a, b;
  void *ab, *ba;
  static char payload[1 << 16];
  pair_open(&a, &b, &ab, &ba);
  talk(&a, &b, ab);
  int accepted = 0, busy = 0;
  while (busy < 100 && accepted < 100000) {
    meshcclResult_t result = say(ab, payload, sizeof payload);
    assert_true(result == meshcclSuccess || result == meshcclInProgress || result == meshcclBusy);
    if (result == meshcclBusy) {
      busy++;
      TCP->progress(a.ctx);
    } else {
      accepted++;
    }
  }
  assert_int_equal(busy, 100);
  TCP->disconnect(ab);
  TCP->disconnect(ba);
  TCP->close(b.ctx);
  TCP->close(a.ctx);
}

/* ---- listening ---- */

static void ipv6_works_where_it_is(void** state) {
  (void)state;
  struct end a, b;
  struct mci_tcp_address parsed;
  setenv("MESHCCL_SOCKET_FAMILY", "ipv6", 1);
  mci_params_reload();
  struct test_host probe;
  void* ctx;
  host_init(&probe, 0, 2);
  check_ok(TCP->open(&probe.table, &ctx));
  unsigned char address[MESHCCL_ADDRESS_BYTES];
  size_t bytes = sizeof address;
  bool there = TCP->address(ctx, address, &bytes) == meshcclSuccess;
  TCP->close(ctx);
  if (there) {
    void *ab, *ba;
    pair_open(&a, &b, &ab, &ba);
    assert_int_equal(first_address(&b, &parsed)->family, 6);
    talk(&a, &b, ab);
    talk(&b, &a, ba);
    pair_close(&a, &b, ab, ba);
  }
  unsetenv("MESHCCL_SOCKET_FAMILY");
  mci_params_reload();
  if (!there) skip();
}

static void a_used_up_port_range_is_named(void** state) {
  (void)state;
  struct end a;
  struct mci_tcp_address parsed;
  char range[32];
  end_open(&a, 0, 2);
  unsigned port = first_address(&a, &parsed)->port;
  snprintf(range, sizeof range, "%u-%u", port, port);
  setenv("MESHCCL_PORT_RANGE", range, 1);
  mci_params_reload();
  struct test_host host;
  void* ctx;
  unsigned char address[MESHCCL_ADDRESS_BYTES];
  size_t bytes = sizeof address;
  host_init(&host, 1, 2);
  check_ok(TCP->open(&host.table, &ctx));
  check_fails(TCP->address(ctx, address, &bytes), meshcclInvalidUsage, range);
  TCP->close(ctx);
  TCP->close(a.ctx);
  unsetenv("MESHCCL_PORT_RANGE");
  mci_params_reload();
}

#define MANY 24

static void many_contexts_talk_and_leave_nothing(void** state) {
  (void)state;
  static struct end ends[MANY];
  static void* eps[MANY][MANY];
  int before = count_descriptors();
  for (int i = 0; i < MANY; i++) end_open(&ends[i], i, MANY);
  for (int i = 0; i < MANY; i++)
    for (int k = 0; k < MANY; k++)
      if (i != k) eps[i][k] = end_connect(&ends[i], &ends[k]);
  for (int i = 0; i < MANY; i++)
    for (int k = 0; k < MANY; k++)
      if (i != k) assert_int_equal(say(eps[i][k], "hello", 5), meshcclSuccess);
  bool all = false;
  for (uint64_t limit = mci_now_ns() + 60000000000ull; !all && mci_now_ns() < limit;) {
    all = true;
    for (int i = 0; i < MANY; i++) {
      TCP->progress(ends[i].ctx);
      all = all && ends[i].host.arrivals == MANY - 1;
    }
  }
  assert_true(all);
  for (int i = 0; i < MANY; i++)
    for (int k = 0; k < MANY; k++)
      if (i != k) TCP->disconnect(eps[i][k]);
  for (int i = 0; i < MANY; i++) TCP->close(ends[i].ctx);
  assert_int_equal(count_descriptors(), before);
}

static void without_descriptors_the_listener_pauses_and_comes_back(void** state) {
  (void)state;
  struct end a, b;
  void *ab, *ba;
  struct rlimit was, now;
  end_open(&a, 0, 2);
  end_open(&b, 1, 2);
  int stranger = knock(&b), fd;
  uint32_t poll_us;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
  now = was;
  now.rlim_cur = 3;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
  check_ok(TCP->waitHandle(b.ctx, &fd, &poll_us));
  bool calm = false;
  for (int i = 0; i < 50 && !calm; i++) { /* the pause may end between two lines on a slow machine */
    TCP->arm(b.ctx);
    TCP->progress(b.ctx);
    TCP->arm(b.ctx);
    calm = poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 0;
  }
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
  assert_true(calm);
  ab = end_connect(&a, &b);
  ba = end_connect(&b, &a);
  talk(&a, &b, ab);
  close(stranger);
  pair_close(&a, &b, ab, ba);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(garbage_is_shown_out_and_hurts_nobody),
      cmocka_unit_test(silent_strangers_have_places_and_a_time_limit),
      cmocka_unit_test(a_half_open_stranger_is_forgotten_in_time),
      cmocka_unit_test(a_wrong_secret_is_refused_and_named),
      cmocka_unit_test(a_replayed_handshake_opens_nothing),
      cmocka_unit_test(a_reset_breaks_once_with_the_cause),
      cmocka_unit_test(an_orderly_leave_breaks_nothing),
      cmocka_unit_test(a_peer_that_is_gone_is_named_with_its_address),
      cmocka_unit_test(dead_addresses_cost_a_moment),
      cmocka_unit_test(the_address_on_the_shared_link_is_dialled_first),
      cmocka_unit_test(what_waits_for_a_connection_is_not_over),
      cmocka_unit_test(nothing_paces_within_one_system),
      cmocka_unit_test(a_deaf_peer_costs_bounded_memory),
      cmocka_unit_test(ipv6_works_where_it_is),
      cmocka_unit_test(a_used_up_port_range_is_named),
      cmocka_unit_test(many_contexts_talk_and_leave_nothing),
      cmocka_unit_test(without_descriptors_the_listener_pauses_and_comes_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
