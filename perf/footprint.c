/* footprint_perf: what a communicator costs besides time: the memory of all ranks of this host together, and how long
 * it takes to come up.
 *
 * Memory is the growth of the proportional set size (Pss of /proc/self/smaps_rollup: shared pages count once in all)
 * from before the communicator was made to after a collective ran once; the buffers of the calls are written before.
 * The time is that of the slowest rank, from a barrier of the processes to the return of meshcclCommInitEnv. The ranks
 * share one page for barrier and figures, which --np makes: no other launcher can start this program. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "meshccl/meshccl.h"
#include "perf/engine/flags.h"
#include "perf/engine/launch.h"
#include "perf/engine/perf.h"

#define MEETING "FOOTPRINT_MEETING" /* number of an inherited descriptor */
enum { MOST_RANKS = 64 };

typedef enum { BEFORE, OPENED, FIRST_CALL } moment; /* then one moment per call */

/* Bytes; the kinds are parts of the whole. */
typedef struct {
  size_t all, anonymous, shared, files;
} footprint;

typedef struct {
  pthread_barrier_t barrier;
  footprint memory[MOST_RANKS];
  size_t told[MOST_RANKS]; /* what the library says that it holds */
  double seconds[MOST_RANKS];
} meeting;

typedef struct {
  int np;
  size_t bytes;
} options;

typedef struct {
  meshcclComm_t comm;
  int rank, np;
  char *in, *out;
  size_t count; /* floats of the vector */
  meeting* meet;
  footprint before; /* of all ranks */
} run;

static const perf_flag flags[] = {
    {PERF_ONLY_LONG + 1, "np", PERF_FLAG_INT, offsetof(options, np), 1, MOST_RANKS, "8",
     "ranks, processes of this host"},
    {'b', "bytes", PERF_FLAG_SIZE, offsetof(options, bytes), 1024, 0, "1M", "the vector of each collective"},
    {'h', "help", PERF_FLAG_HELP, 0, 0, 0, NULL, "this text"},
};
enum { NUM_FLAGS = sizeof flags / sizeof *flags };

/* ---- the calls ---- */

static meshcclResult_t all_reduce(run* r) {
  return meshcclAllReduce(r->in, r->out, r->count, meshcclFloat32, meshcclSum, r->comm, NULL);
}
static meshcclResult_t reduce(run* r) {
  return meshcclReduce(r->in, r->out, r->count, meshcclFloat32, meshcclSum, 0, r->comm, NULL);
}
static meshcclResult_t broadcast(run* r) {
  return meshcclBroadcast(r->in, r->out, r->count, meshcclFloat32, 0, r->comm, NULL);
}
static meshcclResult_t reduce_scatter(run* r) {
  return meshcclReduceScatter(r->in, r->out, r->count / (size_t)r->np, meshcclFloat32, meshcclSum, r->comm, NULL);
}
static meshcclResult_t all_gather(run* r) {
  return meshcclAllGather(r->in, r->out, r->count / (size_t)r->np, meshcclFloat32, r->comm, NULL);
}
static meshcclResult_t all_to_all(run* r) {
  return meshcclAlltoAll(r->in, r->out, r->count / (size_t)r->np, meshcclFloat32, r->comm, NULL);
}
static meshcclResult_t gather(run* r) {
  return meshcclGather(r->in, r->out, r->count / (size_t)r->np, meshcclFloat32, 0, r->comm, NULL);
}
static meshcclResult_t scatter(run* r) {
  return meshcclScatter(r->in, r->out, r->count / (size_t)r->np, meshcclFloat32, 0, r->comm, NULL);
}
static meshcclResult_t barrier(run* r) { return meshcclBarrier(r->comm, NULL); }
static meshcclResult_t around(run* r) {
  meshcclResult_t result = meshcclGroupStart();
  if (result == meshcclSuccess)
    result = meshcclSend(r->in, r->count, meshcclFloat32, (r->rank + 1) % r->np, r->comm, NULL);
  if (result == meshcclSuccess)
    result = meshcclRecv(r->out, r->count, meshcclFloat32, (r->rank + r->np - 1) % r->np, r->comm, NULL);
  meshcclResult_t end = meshcclGroupEnd();
  return result != meshcclSuccess ? result : end;
}

static const struct {
  const char* name;
  meshcclResult_t (*call)(run* r);
} calls[] = {
    {"all_reduce", all_reduce}, {"reduce", reduce},
    {"broadcast", broadcast},   {"reduce_scatter", reduce_scatter},
    {"all_gather", all_gather}, {"all_to_all", all_to_all},
    {"gather", gather},         {"scatter", scatter},
    {"send, receive", around},  {"barrier", barrier},
};

/* ---- figures ---- */

static bool read_memory(footprint* out) {
  FILE* file = fopen("/proc/self/smaps_rollup", "r");
  if (!file) return false;
  const struct {
    const char* name;
    size_t* bytes;
  } fields[] = {
      {"Pss:", &out->all}, {"Pss_Anon:", &out->anonymous}, {"Pss_Shmem:", &out->shared}, {"Pss_File:", &out->files}};
  char line[256], name[64];
  size_t kib;
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "%63s %zu kB", name, &kib) != 2) continue;
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++)
      if (strcmp(name, fields[f].name) == 0) *fields[f].bytes = kib * 1024;
  }
  fclose(file);
  return out->all > 0;
}

static footprint sum_of(const run* r) {
  footprint sum = {0};
  for (int k = 0; k < r->np; k++) {
    const footprint* f = &r->meet->memory[k];
    sum.all += f->all, sum.anonymous += f->anonymous, sum.shared += f->shared, sum.files += f->files;
  }
  return sum;
}

static double mib(size_t now, size_t before) { return ((double)now - (double)before) / (1 << 20); }

/* All ranks read at once, so that no page is counted twice or not at all; rank 0 prints. */
static meshcclResult_t look(run* r, const char* name) {
  meshcclCommStats_t stats = {.size = sizeof stats};
  if (r->comm) PERF_TRY(meshcclCommGetStats(r->comm, &stats));
  r->meet->told[r->rank] = stats.memoryBytes;
  pthread_barrier_wait(&r->meet->barrier);
  bool read = read_memory(&r->meet->memory[r->rank]);
  pthread_barrier_wait(&r->meet->barrier);
  if (!read) {
    fprintf(stderr, "footprint_perf: /proc/self/smaps_rollup has no Pss: Linux 4.14 or later is needed\n");
    return meshcclSystemError;
  }
  footprint now = sum_of(r);
  size_t told = 0;
  for (int k = 0; k < r->np; k++) told += r->meet->told[k];
  if (!r->comm) r->before = now;
  if (r->comm && r->rank == 0)
    printf("%-16s %9.2f %9.2f %9.2f %9.2f %12.2f\n", name, mib(now.all, r->before.all),
           mib(now.anonymous, r->before.anonymous), mib(now.shared, r->before.shared), mib(now.files, r->before.files),
           mib(told, 0));
  pthread_barrier_wait(&r->meet->barrier); /* nobody overwrites what another still sums up */
  return meshcclSuccess;
}

static meshcclResult_t open_comm(run* r) {
  pthread_barrier_wait(&r->meet->barrier);
  double start = perf_seconds();
  PERF_TRY(meshcclCommInitEnv(&r->comm, NULL));
  r->meet->seconds[r->rank] = perf_seconds() - start;
  pthread_barrier_wait(&r->meet->barrier);
  double slowest = 0;
  for (int k = 0; k < r->np; k++) slowest = r->meet->seconds[k] > slowest ? r->meet->seconds[k] : slowest;
  if (r->rank == 0)
    printf("init %.1f ms, the slowest of %d ranks\n\n%-16s %9s %9s %9s %9s %12s\n", 1e3 * slowest, r->np,
           "MiB, all ranks", "growth", "anonymous", "shared", "files", "told");
  return meshcclSuccess;
}

static meshcclResult_t measure(run* r) {
  PERF_TRY(look(r, ""));
  PERF_TRY(open_comm(r));
  PERF_TRY(look(r, "init"));
  for (size_t c = 0; c < sizeof calls / sizeof *calls; c++) {
    PERF_TRY(calls[c].call(r));
    PERF_TRY(look(r, calls[c].name));
  }
  return meshcclCommDestroy(r->comm);
}

/* ---- starting ---- */

static meeting* map_meeting(int fd) {
  void* map = mmap(NULL, sizeof(meeting), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return map == MAP_FAILED ? NULL : map;
}

/* In the process that starts the ranks: they inherit the descriptor. */
static bool offer_meeting(int np) {
  int fd = memfd_create("footprint", 0);
  meeting* meet = fd >= 0 && ftruncate(fd, sizeof(meeting)) == 0 ? map_meeting(fd) : NULL;
  if (!meet) return false;
  pthread_barrierattr_t shared;
  pthread_barrierattr_init(&shared);
  pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&meet->barrier, &shared, (unsigned)np);
  char number[16];
  snprintf(number, sizeof number, "%d", fd);
  return setenv(MEETING, number, 1) == 0;
}

static int be_rank(const options* o) {
  run r = {.rank = atoi(getenv("MESHCCL_RANK")), .np = o->np, .count = o->bytes / sizeof(float)};
  r.meet = map_meeting(atoi(getenv(MEETING)));
  r.in = malloc(o->bytes);
  r.out = malloc(o->bytes);
  if (!r.meet || !r.in || !r.out) {
    perror("footprint_perf: memory for the buffers");
    return 2;
  }
  memset(r.in, 1, o->bytes); /* not 0: the compiler would make it a calloc, which writes nothing */
  memset(r.out, 1, o->bytes);
  meshcclResult_t result = measure(&r);
  if (result != meshcclSuccess) {
    fprintf(stderr, "footprint_perf: rank %d: %s: %s\n", r.rank, meshcclGetErrorString(result),
            meshcclGetLastError(NULL));
    _exit(1); /* the launcher ends the others, who wait in the barrier */
  }
  free(r.in);
  free(r.out);
  return 0;
}

int main(int argc, char** argv) {
  options o;
  char message[PERF_MESSAGE];
  switch (perf_flags_parse(flags, NUM_FLAGS, argc, argv, &o, sizeof o, message)) {
    case PERF_HELP:
      perf_flags_help(flags, NUM_FLAGS);
      return 0;
    case PERF_BAD:
      fprintf(stderr, "footprint_perf: %s\n", message);
      return 2;
    default:
      break;
  }
  bool is_rank = getenv("MESHCCL_RANK") != NULL;
  if (is_rank && !getenv(MEETING)) {
    fprintf(stderr, "footprint_perf: --np starts the ranks; no launcher can\n");
    return 2;
  }
  if (!is_rank && !offer_meeting(o.np)) {
    perror("footprint_perf: a shared page");
    return 2;
  }
  int status;
  return perf_launch(o.np, argv, &status) ? status : be_rank(&o);
}
