/* Observers: who knows the id's secret sees the status of every rank, nobody else sees anything, and neither strangers
 * nor observers that do not read can hold the tree up. */
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "boot/control.h"
#include "boot/watch.h"
#include "ranks.h"

#define LIMIT (20 * SECOND)

typedef struct {
  void (*observe)(rank_run* run); /* what rank 0 does meanwhile */
  int mute;                       /* a rank without a status; -1: none */
  atomic_int set, done;
} scene;

static void status(void* self, mci_rank_status* out) {
  const rank_run* run = self;
  *out = (mci_rank_status){.waits_for = run->rank - 1, .busy = 1, .operation = 11, .npeers = 1};
  out->peers[0] = (mci_peer_bytes){.rank = 3, .sent_bytes = (uint64_t)run->rank * 100};
}

static void be_observed(rank_run* run, mci_boot* boot) {
  scene* s = run->argument;
  if (run->rank != s->mute) mci_boot_set_status(boot, status, run);
  atomic_fetch_add(&s->set, 1);
  while (atomic_load(&s->set) < run->nranks) usleep(200);
  if (run->rank == 0) {
    s->observe(run);
    atomic_store(&s->done, 1);
  }
  while (!atomic_load(&s->done)) usleep(200);
  char text[64];
  expect(run, mci_boot_status(boot, text, sizeof text) == meshcclSuccess);
  mci_boot_set_status(boot, NULL, NULL);
}

static void look(rank_run* run, mci_watch* watch, int mute, uint64_t timeout_ns) {
  mci_rank_status* all = calloc((size_t)run->nranks, sizeof *all);
  bool* answered = calloc((size_t)run->nranks, sizeof *answered);
  expect(run, mci_watch_nranks(watch) == run->nranks);
  expect(run, mci_watch_ask(watch, timeout_ns, all, answered) == meshcclSuccess);
  for (int r = 0; r < run->nranks; r++) {
    expect(run, answered[r] == (r != mute));
    if (!answered[r]) continue;
    expect(run, all[r].rank == r && all[r].waits_for == r - 1 && all[r].operation == 11);
    expect(run, all[r].npeers == 1 && all[r].peers[0].sent_bytes == (uint64_t)r * 100);
  }
  free(all);
  free(answered);
}

static void play(int nranks, int mute, void (*observe)(rank_run*)) {
  scene s = {.observe = observe, .mute = mute};
  run_threads(nranks, false, be_observed, &s);
}

/* ---- what is seen ---- */

static void watch_all(rank_run* run) {
  const scene* s = run->argument;
  mci_watch* watch = NULL;
  expect(run, mci_watch_open(getpid(), run->id, &watch) == meshcclSuccess);
  if (!watch) return;
  /* A mute rank costs the whole limit; the others have answered long before. */
  for (int i = 0; i < 3; i++) {
    look(run, watch, s->mute, s->mute < 0 ? LIMIT : SECOND);
    usleep(110000); /* more often it is not answered */
  }
  mci_watch_close(watch);
}

static void every_rank_is_seen(void** state) {
  (void)state;
  play(1, -1, watch_all);
  play(40, -1, watch_all);
  play(20, 17, watch_all);
}

/* ---- who may look ---- */

static void set_secret(const char* secret) {
  if (secret)
    setenv("MESHCCL_SECRET", secret, 1);
  else
    unsetenv("MESHCCL_SECRET");
}

static void secrets_are_asked_for(void** state) {
  (void)state;
  mci_id right, wrong, other;
  set_secret("one");
  check_ok(mci_id_from_text("127.0.0.1:1", &right));
  check_ok(mci_id_from_text("127.0.0.1:2", &other));
  set_secret("two");
  check_ok(mci_id_from_text("127.0.0.1:1", &wrong));
  set_secret(NULL);
  mci_boot* boot;
  mci_watch* watch;
  mci_boot_options options = rank_options(0, 1);
  check_ok(mci_boot_join(&right, &options, &boot));
  check_fails(mci_watch_open(getpid(), &wrong, &watch), meshcclInvalidUsage, "MESHCCL_SECRET_FILE");
  check_fails(mci_watch_open(getpid(), &other, &watch), meshcclInvalidUsage, "no communicator with the id");
  check_fails(mci_watch_open(1, &right, &watch), meshcclInvalidUsage, "cannot be observed");
  check_ok(mci_watch_open(getpid(), &right, &watch));
  mci_watch* more[MCI_OBSERVERS];
  for (int i = 1; i < MCI_OBSERVERS; i++) check_ok(mci_watch_open(getpid(), &right, &more[i]));
  check_fails(mci_watch_open(getpid(), &right, &more[0]), meshcclInvalidUsage, "end one of them");
  for (int i = 1; i < MCI_OBSERVERS; i++) mci_watch_close(more[i]);
  mci_rank_status one;
  bool answered;
  mci_boot_leave(boot);
  check_fails(mci_watch_ask(watch, LIMIT, &one, &answered), meshcclRemoteError, "has ended");
  mci_watch_close(watch);
  check_fails(mci_watch_open(getpid(), &right, &watch), meshcclInvalidUsage, "cannot be observed");
}

/* ---- strangers ---- */

static int connect_raw(void) {
  struct sockaddr_un address;
  socklen_t length;
  mci_observe_address(getpid(), &address, &length);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (connect(fd, (struct sockaddr*)&address, length) == 0) return fd;
  close(fd);
  return -1;
}

/* The other end has hung up: what is to be read ends. */
static bool hung_up(int fd, uint64_t limit_ns) {
  char data[8192];
  for (uint64_t until = mci_now_ns() + limit_ns; mci_now_ns() < until;) {
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (poll(&ready, 1, 100) == 1 && recv(fd, data, sizeof data, MSG_DONTWAIT) <= 0) return true;
  }
  return false;
}

static bool send_frame(int fd, uint16_t type, uint32_t says_bytes, size_t bytes) {
  unsigned char data[sizeof(mci_header) + 5000] = {0};
  mci_header header = {.type = type, .from = -1, .to = -1, .bytes = says_bytes};
  memcpy(data, &header, sizeof header);
  return send(fd, data, sizeof header + bytes, MSG_NOSIGNAL) >= 0;
}

static void garbage(rank_run* run) {
  static const struct {
    uint16_t type;
    uint32_t says;
    size_t bytes;
  } rows[] = {{0, 0, 0},
              {FRAME_QUERY, 0, 0},
              {FRAME_PROOF, 32, 32},
              {FRAME_HELLO, sizeof(mci_observer_hello), sizeof(mci_observer_hello)}, /* version 0 */
              {FRAME_HELLO, UINT32_MAX, 100},
              {FRAME_HELLO, 4096, 4096},
              {FRAME_STATUS, sizeof(mci_rank_status), sizeof(mci_rank_status)},
              {FRAME_FAIL, sizeof(mci_verdict), sizeof(mci_verdict)},
              {999, 5000, 5000}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    int fd = connect_raw();
    expect(run, fd >= 0 && send_frame(fd, rows[i].type, rows[i].says, rows[i].bytes));
    if (!hung_up(fd, LIMIT) && !run->note[0]) snprintf(run->note, sizeof run->note, "row %zu is still connected", i);
    close(fd);
  }
  watch_all(run);
}

static void garbage_is_hung_up_on(void** state) {
  (void)state;
  play(3, -1, garbage);
}

/* All places taken by strangers who say nothing: later ones are turned away, and when the time of the first is over the
 * places are free again. */
static void say_nothing(rank_run* run) {
  int fds[MCI_CONTROL_STRANGERS + 20];
  for (size_t i = 0; i < MCI_COUNT(fds); i++) expect(run, (fds[i] = connect_raw()) >= 0);
  for (size_t i = 0; i < MCI_COUNT(fds); i++) {
    expect(run, hung_up(fds[i], LIMIT));
    close(fds[i]);
  }
  watch_all(run);
}

static void strangers_have_few_places_and_little_time(void** state) {
  (void)state;
  play(2, -1, say_nothing);
}

/* ---- an observer that does not read ---- */

static void never_read(rank_run* run) {
  int fd = connect_raw();
  mci_observer_hello hello = {.version = MCI_HELLO_VERSION};
  memcpy(hello.name, mci_id_name(run->id), sizeof hello.name);
  mci_auth_nonce(hello.nonce);
  struct {
    mci_header header;
    mci_observer_hello hello;
  } first = {{.type = FRAME_HELLO, .bytes = sizeof hello}, hello};
  struct {
    mci_header header;
    mci_challenge challenge;
  } second;
  struct {
    mci_header header;
    unsigned char proof[32];
  } third = {.header = {.type = FRAME_PROOF, .bytes = 32}};
  expect(run, send(fd, &first, sizeof first, MSG_NOSIGNAL) == (ssize_t)sizeof first);
  expect(run, recv(fd, &second, sizeof second, 0) == (ssize_t)sizeof second);
  mci_auth_prove(run->id, PROOF_OF_OBSERVER, getpid(), -1, second.challenge.nonce, hello.nonce, third.proof);
  expect(run, send(fd, &third, sizeof third, MSG_NOSIGNAL) == (ssize_t)sizeof third);
  bool dropped = false;
  for (uint64_t until = mci_now_ns() + 60 * SECOND; !dropped && mci_now_ns() < until; usleep(110000))
    dropped = !send_frame(fd, FRAME_QUERY, 0, 0);
  expect(run, dropped);
  close(fd);
  watch_all(run);
}

static void an_observer_that_does_not_read_is_dropped(void** state) {
  (void)state;
  play(40, -1, never_read);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_rank_is_seen),
      cmocka_unit_test(secrets_are_asked_for),
      cmocka_unit_test(garbage_is_hung_up_on),
      cmocka_unit_test(strangers_have_few_places_and_little_time),
      cmocka_unit_test(an_observer_that_does_not_read_is_dropped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
