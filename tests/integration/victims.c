/* Jobs with a victim. Ranks tell what they see in memory that all share with the judge. */
#include "victims.h"

#include <dirent.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

#define MAX_RANKS 64
#define INIT_LIMIT 4.0
#define PATIENCE 30.0

typedef struct {
  _Atomic int begun; /* the moment has come on this rank */
  _Atomic int ended;
  int result, sockets_before, sockets_after;
  double ended_at;
  char text[512];
} witness;

typedef struct {
  _Atomic int id_there;
  meshcclUniqueId id;
  witness ranks[MAX_RANKS];
} board;

static const char* const moments[] = {"init", "calls", "idle", "destroy"};
static const char* const wire_names[] = {"shm", "tcp", "both"};

void print_blow(const blow* b) {
  fprintf(stderr, "  %s rank %d of %d during %s after %u us, over %s, %d hosts%s, seed %llu\n",
          b->stop ? "stop" : "kill", b->victim, b->n, moments[b->when], b->delay_us, wire_names[b->over], b->hosts,
          b->threadless ? ", no thread" : "", (unsigned long long)b->seed);
}

static int count_sockets(void) {
  DIR* dir = opendir("/proc/self/fd");
  int n = 0;
  for (struct dirent* e; dir && (e = readdir(dir));) {
    char path[300], to[64];
    snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
    ssize_t length = readlink(path, to, sizeof to - 1);
    n += length > 7 && memcmp(to, "socket:", 7) == 0;
  }
  if (dir) closedir(dir);
  return n;
}

static void pause_ms(long ms) { nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL); }

/* ---- a rank ---- */

static void set_environment(const blow* b, int rank) {
  char text[64];
  if (b->over == OVER_TCP) setenv("MESHCCL_TRANSPORTS", "tcp,self", 1);
  if (b->over == OVER_BOTH) {
    /* uneven: the last host has what is left */
    int each = b->n / b->hosts > 0 ? b->n / b->hosts : 1, host = rank / each;
    snprintf(text, sizeof text, "victims-%d", host < b->hosts ? host : b->hosts - 1);
    setenv("MESHCCL_HOST_ID", text, 1);
  }
  if (b->threadless) setenv("MESHCCL_PROGRESS_THREAD", "0", 1);
  snprintf(text, sizeof text, "%g", b->silence);
  if (b->silence > 0) setenv("MESHCCL_SILENCE_TIMEOUT", text, 1);
}

static meshcclResult_t call(meshcclComm_t comm, int round, uint64_t seed) {
  static float x[1 << 18];
  static const size_t sizes[] = {1, 1000, 1 << 14, 1 << 18};
  return meshcclAllReduce(x, x, sizes[(seed + (uint64_t)round) % 4], meshcclFloat32, meshcclSum, comm, NULL);
}

static meshcclResult_t wait_for_async_error(meshcclComm_t comm) {
  meshcclResult_t result = meshcclSuccess;
  while (result == meshcclSuccess && meshcclCommGetAsyncError(comm, &result) == meshcclSuccess) pause_ms(2);
  return result;
}

static meshcclResult_t live(const blow* b, witness* w, meshcclComm_t comm) {
  meshcclResult_t result = meshcclSuccess;
  for (int round = 0; round < 3 && result == meshcclSuccess; round++) result = call(comm, round, b->seed);
  atomic_store(&w->begun, 1);
  if (result == meshcclSuccess && b->when == DURING_IDLE) return wait_for_async_error(comm);
  for (int round = 0; result == meshcclSuccess; round++) {
    if (b->when == DURING_DESTROY && round == 3) return meshcclSuccess;
    result = call(comm, round, b->seed);
  }
  return result;
}

static int rank_main_of(const blow* b, board* shared, int rank) {
  witness* w = &shared->ranks[rank];
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  meshcclComm_t comm = NULL;
  set_environment(b, rank);
  w->sockets_before = count_sockets();
  if (rank == 0) {
    if (meshcclGetUniqueId(&shared->id) != meshcclSuccess) return 1;
    atomic_store(&shared->id_there, 1);
  }
  while (!atomic_load(&shared->id_there)) pause_ms(1);
  if (b->when == DURING_INIT) atomic_store(&w->begun, 1);
  config.initTimeout = b->when == DURING_INIT ? INIT_LIMIT : 60;
  config.opTimeout = b->op_limit > 0 ? b->op_limit : 60;
  meshcclResult_t result = meshcclCommInitRankConfig(&comm, b->n, shared->id, rank, &config);
  if (result == meshcclSuccess) result = live(b, w, comm);
  if (result != meshcclSuccess) snprintf(w->text, sizeof w->text, "%s", meshcclGetLastError(comm));
  w->result = result;
  w->ended_at = now_seconds();
  meshcclResult_t destroyed = meshcclCommDestroy(comm);
  if (result == meshcclSuccess) {
    w->result = destroyed;
    w->ended_at = now_seconds();
    if (destroyed != meshcclSuccess) snprintf(w->text, sizeof w->text, "%s", meshcclGetLastError(NULL));
  }
  w->sockets_after = count_sockets();
  atomic_store(&w->ended, 1);
  return 0;
}

static pid_t start_rank(const blow* b, board* shared, int rank) {
  pid_t parent = getpid(), pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  int status = rank_main_of(b, shared, rank);
  fflush(NULL);
  exit(status);
}

/* ---- the judge ---- */

static bool all_begun(const blow* b, board* shared) {
  double until = now_seconds() + PATIENCE * 2;
  int n = b->when == DURING_INIT ? 1 : b->n;
  for (int r = 0; r < n; r++)
    while (!atomic_load(&shared->ranks[r].begun)) {
      if (now_seconds() > until) {
        fprintf(stderr, "rank %d did not begin: \"%s\"\n", r, shared->ranks[r].text);
        return false;
      }
      pause_ms(1);
    }
  return true;
}

/* The first rank that a text names is whom people will look at; -1: none. Of a connection it is the far end. */
static int first_named(const char* text) {
  static const char connection[] = "the connection of rank ";
  int rank = -1;
  const char* begin = strstr(text, connection);
  for (const char* at = begin ? begin + sizeof connection - 1 : text; rank < 0 && (at = strstr(at, "rank ")); at++)
    if (sscanf(at, "rank %d", &rank) != 1) rank = -1;
  return rank;
}

static bool judge_rank(const blow* b, const witness* w, int rank, double struck, double* slowest, int* errors) {
  double took = w->ended_at - struck;
  bool in_time = took < b->allowed, may_succeed = b->when == DURING_DESTROY, fine = true;
  if (w->result == meshcclSuccess) {
    fine = may_succeed && in_time;
  } else {
    ++*errors;
    if (took > *slowest) *slowest = took;
    fine = in_time && first_named(w->text) == b->victim;
  }
  if (!fine)
    fprintf(stderr, "rank %d: %s after %.2f s: \"%s\"\n", rank, meshcclGetErrorString(w->result), took, w->text);
  if (w->sockets_after > w->sockets_before) {
    fprintf(stderr, "rank %d: %d sockets before, %d after\n", rank, w->sockets_before, w->sockets_after);
    fine = false;
  }
  return fine;
}

static bool judge_victim(const blow* b, board* shared, pid_t pid) {
  if (!b->stop) return wait_process(pid, 5) == -SIGKILL;
  kill(pid, SIGCONT);
  int status = wait_process(pid, PATIENCE);
  const witness* w = &shared->ranks[b->victim];
  if (status == 0 && w->result != meshcclSuccess && w->text[0]) return true;
  fprintf(stderr, "the stopped rank, continued, ended with %d: %s: \"%s\"\n", status, meshcclGetErrorString(w->result),
          w->text);
  return false;
}

static bool run_job(const blow* b, board* shared, double* slowest, int* errors) {
  pid_t pids[MAX_RANKS];
  bool fine;
  fflush(NULL);
  for (int r = 0; r < b->n; r++) pids[r] = start_rank(b, shared, r);
  fine = all_begun(b, shared);
  usleep(b->delay_us);
  double struck = now_seconds();
  kill(pids[b->victim], b->stop ? SIGSTOP : SIGKILL);
  for (int r = 0; r < b->n; r++) {
    if (r == b->victim) continue;
    int status = wait_process(pids[r], b->allowed + PATIENCE);
    if (status != 0) {
      fprintf(stderr, "rank %d ended with %d: \"%s\"\n", r, status, shared->ranks[r].text);
      fine = false;
    } else if (!judge_rank(b, &shared->ranks[r], r, struck, slowest, errors)) {
      fine = false;
    }
  }
  if (atomic_load(&shared->ranks[b->victim].ended) && !b->stop) { /* it was over before the blow */
    wait_process(pids[b->victim], 5);
    return fine;
  }
  if (!judge_victim(b, shared, pids[b->victim])) fine = false;
  return fine && waitpid(-1, NULL, WNOHANG) == -1; /* no process is left */
}

static int count_entries(const char* folder) {
  DIR* dir = opendir(folder);
  int n = 0;
  while (dir && readdir(dir)) n++;
  if (dir) closedir(dir);
  return n;
}

bool run_victim(const blow* b, double* slowest_out, int* errors_out) {
  board* shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return false;
  int before = count_entries("/dev/shm");
  bool fine = run_job(b, shared, slowest_out, errors_out);
  double until = now_seconds() + 10;
  while (count_entries("/dev/shm") > before && now_seconds() < until) pause_ms(10); /* of other programs */
  if (count_entries("/dev/shm") > before) {
    fprintf(stderr, "something is left in /dev/shm\n");
    fine = false;
  }
  munmap(shared, sizeof *shared);
  if (!fine) print_blow(b);
  return fine;
}
