/* Cases about the optional slots: a slot works as the figures say or answers NotSupported, and never half. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cases.h"

#define MEMORY_BYTES 300000

/* What the owner of the memory tells the others; rank 0 owns, the last rank uses. */
typedef struct {
  suite_address address;
  unsigned char key[MESHCCL_KEY_BYTES];
  uint64_t base;
  int32_t keyed; /* result of memoryKey */
} notice;
_Static_assert(sizeof(notice) <= SUITE_BLOB_BYTES, "a notice is a blob");

typedef struct {
  suite_party party;
  suite_world* world;
  meshcclMemory_t memory;
  notice owner;
  int last;
} memory_seat;

static void memory_make(memory_seat* seat) {
  int fd = memfd_create("meshccl-conformance", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  suite_check(seat->world, fd >= 0 && ftruncate(fd, MEMORY_BYTES) == 0, "memfd");
  suite_check(seat->world, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0, "seal");
  void* base = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  suite_check(seat->world, base != MAP_FAILED, "mmap");
  seat->memory = (meshcclMemory_t){.id = 77, .fd = fd, .base = base, .bytes = MEMORY_BYTES};
}

static void seat_open(memory_seat* seat, const suite_subject* subject, suite_world* world, int rank) {
  seat->world = world;
  seat->last = world->n - 1;
  party_open(&seat->party, subject, world, rank, world->n);
  notice mine = {.address = seat->party.address, .keyed = meshcclNotSupported};
  if (rank == 0) {
    memory_make(seat);
    suite_pattern_fill(seat->memory.base, MEMORY_BYTES, 1, 0);
    mine.base = (uint64_t)(uintptr_t)seat->memory.base;
    if (subject->transport->memoryKey)
      mine.keyed = (int32_t)subject->transport->memoryKey(seat->party.ctx, &seat->memory, mine.key);
  }
  suite_gather(world, rank, &mine, sizeof mine);
  memcpy(&seat->owner, world->blobs[0], sizeof seat->owner);
  int peer = rank == 0 ? seat->last : 0;
  suite_address address;
  memcpy(&address, world->blobs[peer], sizeof address);
  party_connect(&seat->party, peer, &address);
}

static void seat_close(memory_seat* seat) {
  party_close(&seat->party);
  if (seat->memory.base) {
    munmap(seat->memory.base, MEMORY_BYTES);
    close(seat->memory.fd);
  }
}

static void sync_all(memory_seat* seat) { suite_gather(seat->world, seat->party.rank, "", 1); }

/* ---- map ---- */

static unsigned char* map_owner(memory_seat* seat) {
  suite_party* party = &seat->party;
  suite_link* link = &party->links[0];
  void* base = NULL;
  meshcclResult_t result = meshcclNotSupported;
  if (party->transport->map) result = party->transport->map(link->ep, seat->owner.key, &base);
  if (!(link->figures.flags & MESHCCL_CAN_MAP)) {
    suite_check(seat->world, result == meshcclNotSupported, "map without the flag: %s", mci_result_text(result));
    return NULL;
  }
  suite_check(seat->world, seat->owner.keyed == meshcclSuccess && result == meshcclSuccess && base,
              "the flag says map: memoryKey %s, map %s: %s", mci_result_text((meshcclResult_t)seat->owner.keyed),
              mci_result_text(result), party->cause);
  return base;
}

static void map_body(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  (void)argument;
  memory_seat* seat = calloc(1, sizeof *seat);
  seat_open(seat, subject, world, rank);
  unsigned char* view = rank == seat->last ? map_owner(seat) : NULL;
  if (view) suite_check(world, suite_pattern_check(view, MEMORY_BYTES, 1) == MEMORY_BYTES, "the map shows other bytes");
  sync_all(seat);
  if (rank == 0) suite_pattern_fill(seat->memory.base, MEMORY_BYTES, 2, 0);
  sync_all(seat);
  if (view) {
    suite_check(world, suite_pattern_check(view, MEMORY_BYTES, 2) == MEMORY_BYTES, "the map misses later writes");
    subject->transport->unmap(seat->party.links[0].ep, seat->owner.key, view);
    view = map_owner(seat); /* again, after unmap */
    suite_check(world, suite_pattern_check(view, MEMORY_BYTES, 2) == MEMORY_BYTES, "the second map is wrong");
    subject->transport->unmap(seat->party.links[0].ep, seat->owner.key, view);
  }
  sync_all(seat);
  seat_close(seat);
  free(seat);
}

static int seats(const suite_subject* subject) { return (subject->traits & SUITE_SELF_ONLY) ? 1 : 2; }

void case_map_shows_writes(const suite_subject* subject, suite_mode mode) {
  suite_spread(subject, mode, seats(subject), map_body, NULL, -1);
}

/* ---- get ---- */

/* A get that is in progress ends with sent(): the books of a send serve it, without a message. */
static meshcclResult_t get_start(memory_seat* seat, size_t at, void* local, size_t bytes, int* pending) {
  suite_party* party = &seat->party;
  suite_link* link = &party->links[0];
  if (!party->transport->get) return meshcclNotSupported;
  void* token = party_expect_sent(link);
  party->inSend++;
  meshcclResult_t result = party->transport->get(link->ep, seat->owner.base + at, local, bytes, token);
  party->inSend--;
  *pending = result == meshcclInProgress;
  if (!*pending) party_expect_no_sent(link, token);
  return result;
}

static bool get_over(void* argument) { return party_idle(argument); }

static void get_all(memory_seat* seat) {
  suite_link* link = &seat->party.links[0];
  bool can = (link->figures.flags & MESHCCL_CAN_GET) != 0;
  static const size_t rows[][2] = {{0, 1}, {0, 4096}, {4095, 2}, {13, 65537}, {0, MEMORY_BYTES}, {MEMORY_BYTES - 1, 1}};
  unsigned char *local = malloc(MEMORY_BYTES + 1), *expected = malloc(MEMORY_BYTES);
  suite_pattern_fill(expected, MEMORY_BYTES, 1, 0);
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    size_t at = rows[i][0], bytes = rows[i][1];
    int pending = 0;
    memset(local, 0xee, MEMORY_BYTES + 1);
    meshcclResult_t result = get_start(seat, at, local, bytes, &pending);
    if (!can) {
      suite_check(seat->world, result == meshcclNotSupported, "get without the flag: %s", mci_result_text(result));
      continue;
    }
    suite_check(seat->world, result == meshcclSuccess || pending, "get of %zu bytes at %zu: %s: %s", bytes, at,
                mci_result_text(result), seat->party.cause);
    parties_until(&seat->party, 1, get_over, &seat->party, "get is over");
    suite_check(seat->world, memcmp(local, expected + at, bytes) == 0 && local[bytes] == 0xee,
                "get of %zu bytes at %zu read other bytes", bytes, at);
  }
  free(local);
  free(expected);
}

static void get_body(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  (void)argument;
  memory_seat* seat = calloc(1, sizeof *seat);
  seat_open(seat, subject, world, rank);
  suite_link* link = &seat->party.links[rank == 0 ? seat->last : 0];
  bool same = world->mode != MODE_PROCESSES;
  suite_check(world, same || !(link->figures.flags & MESHCCL_SAME_PROCESS), "SAME_PROCESS between two processes");
  if (rank == seat->last) {
    get_all(seat);
    atomic_store(&world->released, 1);
  }
  while (!atomic_load(&world->released)) {
    suite_check(world, !atomic_load(&world->failed), "another party failed");
    party_progress(&seat->party); /* a get may need its target's progress() */
    sched_yield();
  }
  sync_all(seat);
  seat_close(seat);
  free(seat);
}

void case_get_reads_the_bytes(const suite_subject* subject, suite_mode mode) {
  suite_spread(subject, mode, seats(subject), get_body, NULL, -1);
}

/* ---- put ---- */

/* The last rank writes into the first one's memory, in two overlapping stretches; then that one refuses. */
static meshcclResult_t put_pattern(memory_seat* seat, unsigned salt) {
  const suite_party* party = &seat->party;
  const suite_link* link = &seat->party.links[0];
  unsigned char* bytes = malloc(MEMORY_BYTES);
  suite_pattern_fill(bytes, MEMORY_BYTES, salt, 0);
  meshcclResult_t result = party->transport->put(link->ep, seat->owner.base, bytes, MEMORY_BYTES - 1);
  if (result == meshcclSuccess)
    result = party->transport->put(link->ep, seat->owner.base + 4095, bytes + 4095, MEMORY_BYTES - 4095);
  free(bytes);
  return result;
}

static void put_body(const suite_subject* subject, suite_world* world, int rank, const void* argument) {
  (void)argument;
  memory_seat* seat = calloc(1, sizeof *seat);
  seat_open(seat, subject, world, rank);
  suite_party* party = &seat->party;
  char can = party->transport->put && (party->links[0].figures.flags & MESHCCL_CAN_PUT) != 0;
  suite_gather(world, rank, &can, 1);
  bool writes = world->blobs[seat->last][0] != 0;
  sync_all(seat); /* the blobs are read */
  if (rank == seat->last && writes) suite_check(world, put_pattern(seat, 3) == meshcclSuccess, "put: %s", party->cause);
  sync_all(seat);
  if (rank == 0 && writes) {
    suite_check(world, suite_pattern_check(seat->memory.base, MEMORY_BYTES, 3) == MEMORY_BYTES,
                "put wrote other bytes");
    party->transport->refusePuts(party->links[seat->last].ep);
  }
  sync_all(seat);
  if (rank == seat->last && writes) suite_check(world, put_pattern(seat, 4) == meshcclBusy, "put after it was refused");
  sync_all(seat);
  if (rank == 0 && writes)
    suite_check(world, suite_pattern_check(seat->memory.base, MEMORY_BYTES, 3) == MEMORY_BYTES,
                "put wrote though refused");
  sync_all(seat);
  seat_close(seat);
  free(seat);
}

void case_put_writes_the_bytes(const suite_subject* subject, suite_mode mode) {
  suite_spread(subject, mode, seats(subject), put_body, NULL, -1);
}
