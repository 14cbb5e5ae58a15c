/* Cases about contexts: nothing is left behind, addresses are judged, errors have causes, threads may change. */
#include <dirent.h>
#include <pthread.h>
#include <unistd.h>

#include "cases.h"

/* ---- pairs ---- */

void pair_open(suite_pair* pair, const suite_subject* subject, suite_world* world) {
  memset(pair, 0, sizeof *pair);
  pair->n = (subject->traits & SUITE_SELF_ONLY) ? 1 : 2;
  int last = pair->n - 1;
  for (int i = 0; i < pair->n; i++) party_open(&pair->parties[i], subject, world, i, pair->n);
  party_connect(&pair->parties[0], last, &pair->parties[last].address);
  if (last) party_connect(&pair->parties[last], 0, &pair->parties[0].address);
  pair->forth = &pair->parties[0].links[last];
  pair->back = &pair->parties[last].links[0];
}

static bool exchanged(void* argument) {
  suite_pair* pair = argument;
  return pair->back->dataComplete == pair->forth->dataSent && pair->forth->inFlight == 0;
}

typedef struct {
  suite_pair* pair;
  size_t bytes;
} attempt;

static bool accepted(void* argument) {
  attempt* a = argument;
  return party_send_data(a->pair->forth, a->bytes, PIECES_ONE);
}

void pair_exchange(suite_pair* pair, size_t bytes) {
  parties_until(pair->parties, pair->n, accepted, &(attempt){pair, bytes}, "a message is accepted");
  parties_until(pair->parties, pair->n, exchanged, pair, "a message is delivered");
}

void pair_close(suite_pair* pair) {
  for (int i = 0; i < pair->n; i++) party_close(&pair->parties[i]);
}

/* ---- cycle_leaves_nothing ---- */

static int count_entries(const char* folder) {
  DIR* dir = opendir(folder);
  assert_non_null(dir);
  int n = 0;
  while (readdir(dir)) n++;
  closedir(dir);
  return n;
}

/* Names of files in /dev/shm that this process has mapped, one per line, without repetition. */
static size_t mapped_names(char* names, size_t cap) {
  FILE* maps = fopen("/proc/self/maps", "r");
  assert_non_null(maps);
  char line[512];
  size_t length = 0;
  names[0] = 0;
  while (fgets(line, sizeof line, maps)) {
    char* path = strstr(line, "/dev/shm/");
    if (!path || strstr(line, "(deleted)") || strstr(names, path) || length + strlen(path) + 1 > cap) continue;
    length += (size_t)snprintf(names + length, cap - length, "%s", path);
  }
  fclose(maps);
  return length;
}

static void names_must_be_gone(suite_world* world, char* names, const char* before) {
  for (char* name = strtok(names, "\n"); name; name = strtok(NULL, "\n"))
    suite_check(world, strstr(before, name) || access(name, F_OK) != 0, "%s is left behind", name);
}

static void cycle(const suite_subject* subject, suite_world* world, const char* before) {
  static char names[16384];
  suite_pair* pair = calloc(1, sizeof *pair);
  pair_open(pair, subject, world);
  for (int i = 0; i < 20; i++) pair_exchange(pair, i % 5 == 4 ? party_max_payload(pair->forth) : (size_t)i * 100);
  mapped_names(names, sizeof names);
  pair_close(pair);
  free(pair);
  if (before) names_must_be_gone(world, names, before);
}

static void cycles(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  (void)rank;
  (void)argument;
  static char before[16384];
  cycle(subject, world, NULL); /* libraries below a transport keep what they open once per process */
  mapped_names(before, sizeof before);
  int fds = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
  for (int i = 0; i < 4; i++) cycle(subject, world, before);
  int fdsAfter = count_entries("/proc/self/fd"), threadsAfter = count_entries("/proc/self/task");
  suite_check(world, fdsAfter == fds, "%d descriptors before 4 cycles, %d after", fds, fdsAfter);
  suite_check(world, threadsAfter == threads, "%d threads before 4 cycles, %d after", threads, threadsAfter);
}

void case_cycle_leaves_nothing(const suite_subject* subject, suite_mode mode) {
  suite_spread(subject, mode, 1, cycles, NULL, -1);
}

/* ---- reach_knows_its_addresses ---- */

static void reach_body(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  (void)rank;
  (void)argument;
  suite_pair* pair = calloc(1, sizeof *pair);
  pair_open(pair, subject, world);
  suite_party* first = &pair->parties[0];
  suite_party* last = &pair->parties[pair->n - 1];
  meshcclTransportFigures_t figures, again;
  for (int i = 0; i < 2; i++) {
    again = figures;
    suite_check(
        world,
        first->transport->reach(first->ctx, last->address.bytes, last->address.length, &figures) == meshcclSuccess,
        "reach: an address that was just connected to is out of reach");
  }
  suite_check(world, again.maxPayload == figures.maxPayload && again.flags == figures.flags, "figures change");
  static const struct {
    const char* what;
    unsigned char fill;
    size_t bytes;
  } rows[] = {{"zeros", 0, MESHCCL_ADDRESS_BYTES},
              {"ones", 0xff, MESHCCL_ADDRESS_BYTES},
              {"one byte", 1, 1},
              {"nothing", 0, 0},
              {"a short text", 'x', 24}};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    unsigned char other[MESHCCL_ADDRESS_BYTES];
    memset(other, rows[i].fill, sizeof other);
    meshcclResult_t result = first->transport->reach(first->ctx, other, rows[i].bytes, &figures);
    suite_check(world, result == meshcclNotSupported, "reach of %s: %s", rows[i].what, mci_result_text(result));
  }
  suite_check(world, first->fails == 0, "reach reported a failure: %s", first->cause);
  pair_close(pair);
  free(pair);
}

void case_reach_knows_its_addresses(const suite_subject* subject, suite_mode mode) {
  suite_spread(subject, mode, 1, reach_body, NULL, -1);
}

/* ---- errors_have_a_cause ---- */

static void errors_body(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  (void)rank;
  (void)argument;
  suite_party* party = calloc(1, sizeof *party);
  party_open(party, subject, world, 0, 1);
  const meshcclTransport_t* transport = party->transport;
  unsigned char other[MESHCCL_ADDRESS_BYTES];
  memset(other, 0xff, sizeof other);
  void* untouched = party;
  meshcclResult_t result = transport->connect(party->ctx, &party->links[0], 0, other, sizeof other, &untouched);
  suite_check(world, result != meshcclSuccess, "connect accepted an address that nobody made");
  suite_check(world, untouched == party, "a failed connect changed its output");
  suite_check(world, party->fails == 1, "a failed connect called host->fail %d times", party->fails);
  unsigned char small[1];
  size_t bytes = 0;
  result = transport->address(party->ctx, small, &bytes);
  suite_check(world, result != meshcclSuccess && party->fails == 2, "address into no room: %s, %d calls of host->fail",
              mci_result_text(result), party->fails);
  party_close(party);
  free(party);
}

void case_errors_have_a_cause(const suite_subject* subject, suite_mode mode) {
  suite_spread(subject, mode, 1, errors_body, NULL, -1);
}

/* ---- any_thread_may_drive ---- */

static void drive(void* argument) {
  for (int i = 0; i < 100; i++) pair_exchange(argument, (size_t)i * 41 % 4097);
}

static void* drive_thread(void* argument) {
  suite_guard(((suite_pair*)argument)->parties[0].world, drive, argument);
  return NULL;
}

static void any_thread_body(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  (void)rank;
  (void)argument;
  suite_pair* pair = calloc(1, sizeof *pair);
  pair_open(pair, subject, world);
  for (int i = 0; i < 3; i++) {
    pthread_t thread;
    suite_check(world, pthread_create(&thread, NULL, drive_thread, pair) == 0, "pthread_create");
    pthread_join(thread, NULL);
    suite_check(world, !atomic_load(&world->failed), "the other thread failed");
    pair_exchange(pair, 100);
  }
  pair_close(pair);
  free(pair);
}

void case_any_thread_may_drive(const suite_subject* subject, suite_mode mode) {
  suite_spread(subject, mode, 1, any_thread_body, NULL, -1);
}
