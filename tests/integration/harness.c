/* Ranks as processes and threads, with a limit on their life. */
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_RANKS 64
#define LIMIT_SECONDS 100

const char* run_mode_name(run_mode mode) {
  static const char* const names[] = {"processes", "threads", "mixed"};
  return names[mode];
}

double now_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static meshcclUniqueId new_id(void) {
  meshcclUniqueId id;
  if (meshcclGetUniqueId(&id) != meshcclSuccess) {
    fprintf(stderr, "meshcclGetUniqueId: %s\n", meshcclGetLastError(NULL));
    exit(2);
  }
  return id;
}

meshcclResult_t open_comm(rank_env* env, const char* topology, meshcclComm_t* comm) {
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.topology = topology;
  config.initTimeout = 60;
  config.opTimeout = 60;
  return meshcclCommInitRankConfig(comm, env->nranks, env->id, env->rank, &config);
}

typedef struct {
  rank_env env;
  rank_main fn;
  int result;
} thread_rank;

static void* thread_main(void* arg) {
  thread_rank* rank = arg;
  rank->result = rank->fn(&rank->env);
  return NULL;
}

/* Ranks first .. first+count-1 as threads of this process; returns how many failed. */
static int run_threads(int first, int count, int n, meshcclUniqueId id, rank_main fn, void* arg) {
  pthread_t threads[MAX_RANKS];
  thread_rank ranks[MAX_RANKS];
  int failed = 0;
  for (int i = 0; i < count; i++) {
    ranks[i] = (thread_rank){.env = {.rank = first + i, .nranks = n, .id = id, .arg = arg}, .fn = fn};
    pthread_create(&threads[i], NULL, thread_main, &ranks[i]);
  }
  for (int i = 0; i < count; i++) {
    pthread_join(threads[i], NULL);
    failed += ranks[i].result != 0;
  }
  return failed;
}

static pid_t start_process(int first, int count, int n, meshcclUniqueId id, rank_main fn, void* arg) {
  pid_t parent = getpid(), pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  alarm(LIMIT_SECONDS);
  int failed = run_threads(first, count, n, id, fn, arg);
  fflush(NULL);
  exit(failed);
}

void start_processes(int n, rank_main fn, void* arg, pid_t* pids) {
  meshcclUniqueId id = new_id();
  fflush(NULL);
  for (int r = 0; r < n; r++) pids[r] = start_process(r, 1, n, id, fn, arg);
}

int wait_process(pid_t pid, double seconds) {
  double until = now_seconds() + seconds;
  for (;;) {
    int status;
    pid_t done = waitpid(pid, &status, WNOHANG);
    if (done == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    if (now_seconds() > until) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      return -1000;
    }
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
}

/* ---- one rank of a job that a script has started, on several hosts perhaps ---- */

typedef struct {
  int rank, nranks;
  const char* folder; /* that all ranks see */
} job;

static bool in_job(job* out) {
  const char* text = getenv("MESHCCL_TESTS_JOB");
  int used = 0;
  if (!text) return false;
  if (sscanf(text, "%d/%d/%n", &out->rank, &out->nranks, &used) != 2 || !used) {
    fprintf(stderr, "MESHCCL_TESTS_JOB=%s is not RANK/RANKS/FOLDER\n", text);
    exit(2);
  }
  out->folder = text + used;
  return true;
}

/* Rank 0 puts the id of the round where the others find it whole. */
static bool share_id(const job* j, int round, meshcclUniqueId* id) {
  char path[512], next[520];
  snprintf(path, sizeof path, "%s/id.%d", j->folder, round);
  snprintf(next, sizeof next, "%s.next", path);
  double until = now_seconds() + LIMIT_SECONDS;
  if (j->rank == 0) {
    *id = new_id();
    FILE* file = fopen(next, "wb");
    bool written = file && fwrite(id, sizeof *id, 1, file) == 1;
    return file && fclose(file) == 0 && written && rename(next, path) == 0;
  }
  for (;;) {
    FILE* file = fopen(path, "rb");
    bool got = file && fread(id, sizeof *id, 1, file) == 1;
    if (file) fclose(file);
    if (got || now_seconds() > until) return got;
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
  }
}

/* All ranks come here in the same order, so the rounds number the calls. Threads are not for jobs: their rounds pass. */
static int run_in_job(const job* j, run_mode mode, int n, rank_main fn, void* arg) {
  static int rounds;
  int round = rounds++;
  rank_env env = {.rank = j->rank, .nranks = n, .arg = arg};
  if (mode == AS_THREADS || n > j->nranks || j->rank >= n) return 0;
  if (!share_id(j, round, &env.id)) {
    fprintf(stderr, "rank %d: no id for round %d in %s\n", j->rank, round, j->folder);
    return 1;
  }
  return fn(&env) != 0;
}

int run_ranks(run_mode mode, int n, rank_main fn, void* arg) {
  job j;
  if (in_job(&j)) return run_in_job(&j, mode, n, fn, arg);
  meshcclUniqueId id = new_id();
  int per_process = mode == AS_PROCESSES ? 1 : mode == AS_THREADS ? n : 2, nprocesses = 0, failed = 0;
  pid_t pids[MAX_RANKS];
  fflush(NULL);
  for (int first = 0; first < n; first += per_process) {
    int count = n - first < per_process ? n - first : per_process;
    pids[nprocesses++] = start_process(first, count, n, id, fn, arg);
  }
  for (int i = 0; i < nprocesses; i++) {
    int status = wait_process(pids[i], LIMIT_SECONDS);
    if (status == 0) continue;
    fprintf(stderr, "process %d of %d (%s): %s %d\n", i, nprocesses, run_mode_name(mode),
            status < 0 ? "signal" : "failed ranks:", status < 0 ? -status : status);
    failed++;
  }
  return failed;
}
