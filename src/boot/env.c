/* Rank, size and meeting point from what a launcher put into the environment. One row per launcher; the first row that
 * is present decides, so that an inner launcher (torchrun inside a Slurm step) wins over an outer one. Reads the
 * environment and, for launchers that name no job, /proc; changes nothing. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/globals.h"
#include "boot/control.h"
#include "boot/pmix.h"

typedef struct {
  const char *source, *rank, *size, *local_rank, *local_size;
  const char* needs; /* the row only counts when this is set, too */
  bool size_is_sign; /* the size without the rank is a mistake; else it may be there for other reasons */
  bool serves_pmix;  /* it may have a PMIx server */
  meshcclResult_t (*meet)(mci_id* out);
} launcher;

static meshcclResult_t read_number(const char* name, int fallback, int low, int high, int* out) {
  const char* text = mci_env(name);
  *out = fallback;
  if (!text) return meshcclSuccess;
  char* end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (*end || end == text || errno || value < low || value > high)
    MCI_FAIL(meshcclInvalidUsage, "%s=%s; it must be a whole number from %d to %d", name, text, low, high);
  *out = (int)value;
  return meshcclSuccess;
}

/* Rank 0 of a run over several hosts has the listener that the id names, from the agent that opened it. */
static meshcclResult_t adopt_listener(const mci_id* id) {
  int fd;
  if (!mci_env("MESHCCL_LISTEN_FD") || atomic_exchange(&mci_globals.listener_adopted, 1)) return meshcclSuccess;
  MCI_TRY(read_number("MESHCCL_LISTEN_FD", -1, 0, INT_MAX, &fd));
  return mci_id_adopt_listener(id, fd);
}

static meshcclResult_t meet_by_id(mci_id* out) {
  const char* text = mci_env("MESHCCL_ID");
  if (!text)
    MCI_FAIL(meshcclInvalidUsage,
             "MESHCCL_RANK and MESHCCL_SIZE are set, but MESHCCL_ID is not; start the program with meshccl run");
  if (mci_id_parse(text, out) == meshcclSuccess) return adopt_listener(out);
  MCI_FAIL(meshcclInvalidUsage, "MESHCCL_ID is not an id: it has %zu characters; pass on what meshccl run sets",
           strlen(text));
}

static meshcclResult_t meet_by(const char* launcher_name, const char* a, const char* b, mci_id* out) {
  char text[1024];
  snprintf(text, sizeof text, "%s %s %s", launcher_name, a, b ? b : "");
  return mci_id_from_text(text, out);
}

static meshcclResult_t meet_by_master(mci_id* out) {
  const char *address = mci_env("MASTER_ADDR"), *port = mci_env("MASTER_PORT");
  if (!address || !port)
    MCI_FAIL(meshcclInvalidUsage,
             "RANK and WORLD_SIZE are set, but %s is not; set MASTER_ADDR and MASTER_PORT equally on all ranks",
             address ? "MASTER_PORT" : "MASTER_ADDR");
  return meet_by("torchrun", address, port, out);
}

static meshcclResult_t meet_by_open_mpi(mci_id* out) {
  const char* job = mci_env("PMIX_NAMESPACE");
  if (!job) job = mci_env("OMPI_MCA_ess_base_jobid");
  if (!job)
    MCI_FAIL(meshcclInvalidUsage,
             "OMPI_COMM_WORLD_RANK is set, but neither PMIX_NAMESPACE nor OMPI_MCA_ess_base_jobid; start the program "
             "with mpirun");
  return meet_by("openmpi", job, NULL, out);
}

/* ---- PMI: MPICH's mpirun tells no job, but all ranks of a host descend from one process that is not a rank. Ranks of
 * several hosts share no such process: there rank 0's address, which they need anyway, is the name ---- */

static bool environ_has(pid_t pid, const char* name) {
  char path[64], buffer[4096];
  size_t length = strlen(name), matched = 0;
  bool at_start = true;
  snprintf(path, sizeof path, "/proc/%ld/environ", (long)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  bool found = false;
  for (ssize_t n; !found && (n = read(fd, buffer, sizeof buffer)) > 0;) {
    for (ssize_t i = 0; i < n && !found; i++) {
      if (at_start && matched == length && buffer[i] == '=') found = true;
      at_start = buffer[i] == 0 || (at_start && matched < length && buffer[i] == name[matched]);
      matched = buffer[i] == 0 || !at_start ? 0 : matched + 1;
    }
  }
  close(fd);
  return found;
}

/* Field 4 (parent) and 22 (start time) of /proc/PID/stat; the name in between brackets may contain anything. */
static bool process_stat(pid_t pid, pid_t* parent, unsigned long long* start) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[MCI_MAX(n, 0)] = 0;
  const char* at = strrchr(text, ')');
  int ppid;
  if (!at || sscanf(at + 1, " %*c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &ppid,
                    start) != 2)
    return false;
  *parent = ppid;
  return true;
}

static meshcclResult_t meet_by_pmi(mci_id* out) {
  const char* job = mci_env("PMI_JOBID");
  const char* root = mci_param_text(MCI_P_ROOT);
  if (job) return meet_by("pmi", job, NULL, out);
  if (root && *root) return meet_by("pmi", root, NULL, out);
  char text[64];
  unsigned long long start = 0;
  pid_t pid = getppid(), parent = 0;
  while (process_stat(pid, &parent, &start) && parent > 0 && environ_has(pid, "PMI_RANK")) pid = parent;
  if (start == 0)
    MCI_FAIL(meshcclInvalidUsage,
             "PMI_RANK is set, but not PMI_JOBID, and /proc does not show the launcher; set PMI_JOBID");
  snprintf(text, sizeof text, "%ld.%llu", (long)pid, start);
  return meet_by("pmi", text, NULL, out);
}

static meshcclResult_t meet_by_slurm(mci_id* out) {
  const char *job = mci_env("SLURM_JOB_ID"), *step = mci_env("SLURM_STEP_ID");
  if (!job) MCI_FAIL(meshcclInvalidUsage, "SLURM_PROCID is set, but SLURM_JOB_ID is not; start the program with srun");
  return meet_by("slurm", job, step, out);
}

/* A Slurm batch script has SLURM_PROCID and SLURM_NTASKS, but it is no step: a program in it runs alone. */
static const launcher launchers[] = {
    {"meshccl run", "MESHCCL_RANK", "MESHCCL_SIZE", "MESHCCL_LOCAL_RANK", "MESHCCL_LOCAL_SIZE", NULL, true, false,
     meet_by_id},
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", NULL, true, false, meet_by_master},
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE", NULL, true, true, meet_by_open_mpi},
    {"PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", NULL, true, true, meet_by_pmi},
    {"Slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE", "SLURM_STEP_ID", false, true,
     meet_by_slurm},
};

/* ---- PMIx ---- */

typedef enum { PMIX_AUTO, PMIX_ON, PMIX_OFF } pmix_mode;

/* Without a listener the id serves one host, which may be all there is: a join that waits in vain gives the reason. */
static meshcclResult_t make_root_id(mci_id* out) {
  MCI_TRY(mci_id_create(out));
  if (mci_id_publish(out) != meshcclSuccess) MCI_INFO("%s", mci_error_last());
  return meshcclSuccess;
}

/* On one host the launcher's name for the job is enough, and PMIx is left to the program. All ranks decide alike. */
static bool spans_hosts(const launcher* row, const mci_boot_env* env) {
  const char* nodes = mci_env("SLURM_STEP_NUM_NODES");
  return mci_env(row->local_size) ? env->local_size < env->nranks : nodes && strcmp(nodes, "1") != 0;
}

/* *met: the PMIx server has told everything. */
static meshcclResult_t try_pmix(bool wanted, mci_boot_env* env, bool* met) {
  pmix_mode mode = (pmix_mode)mci_param_int(MCI_P_PMIX);
  *met = false;
  if (mode == PMIX_OFF || !(wanted || mode == PMIX_ON) || !mci_pmix_started()) return meshcclSuccess;
  meshcclResult_t result = mci_pmix_meet(make_root_id, env);
  *met = result == meshcclSuccess;
  if (result != meshcclNotSupported || mode == PMIX_ON) return result;
  MCI_INFO("PMIx is not used: %s", mci_error_last());
  return meshcclSuccess;
}

/* ---- rank 0's address ---- */

/* Hosts that are made up by MESHCCL_HOST_ID look like one to a launcher. */
static bool is_surely_local(const launcher* row, const mci_boot_env* env) {
  const char* made_up = mci_param_text(MCI_P_HOST_ID);
  return mci_env(row->local_size) && env->local_size == env->nranks && !(made_up && *made_up);
}

static meshcclResult_t name_root(const launcher* row, mci_boot_env* env) {
  bool named;
  MCI_TRY(mci_root_from_variable(env->rank, &env->id, &named));
  if (named || row->meet == meet_by_id) return meshcclSuccess;
  bool certain = spans_hosts(row, env);
  if (row->meet == meet_by_master)
    return is_surely_local(row, env) ? meshcclSuccess : mci_root_from_master(env->rank, certain, &env->id);
  if (certain)
    MCI_FAIL(meshcclInvalidUsage,
             "this job of %s has ranks on several hosts and no PMIx that could tell where rank 0 is: set "
             "MESHCCL_ROOT=host:port on all ranks, with the host of rank 0 and a free port there, or start the program "
             "with meshccl run",
             row->source);
  return meshcclSuccess;
}

static meshcclResult_t meet(const launcher* row, mci_boot_env* env) {
  if (env->nranks == 1) return mci_id_create(&env->id);
  bool met = false;
  if (row->serves_pmix) MCI_TRY(try_pmix(spans_hosts(row, env), env, &met));
  if (met) return meshcclSuccess;
  MCI_TRY(row->meet(&env->id));
  return name_root(row, env);
}

/* ---- reading ---- */

static meshcclResult_t read_row(const launcher* row, mci_boot_env* out) {
  mci_boot_env env = {.source = row->source};
  if (!mci_env(row->rank) || !mci_env(row->size))
    MCI_FAIL(meshcclInvalidUsage, "%s is set, but %s is not (%s); set both or none",
             mci_env(row->rank) ? row->rank : row->size, mci_env(row->rank) ? row->size : row->rank, row->source);
  MCI_TRY(read_number(row->rank, 0, 0, INT_MAX, &env.rank));
  MCI_TRY(read_number(row->size, 1, 1, INT_MAX, &env.nranks));
  if (env.rank >= env.nranks)
    MCI_FAIL(meshcclInvalidUsage, "%s=%d and %s=%d contradict each other: ranks are 0 to %d", row->rank, env.rank,
             row->size, env.nranks, env.nranks - 1);
  MCI_TRY(read_number(row->local_size, env.nranks, 1, INT_MAX, &env.local_size));
  MCI_TRY(read_number(row->local_rank, env.rank % env.local_size, 0, INT_MAX, &env.local_rank));
  if (env.local_rank >= env.local_size)
    MCI_FAIL(meshcclInvalidUsage, "%s=%d and %s=%d contradict each other: local ranks are 0 to %d", row->local_rank,
             env.local_rank, row->local_size, env.local_size, env.local_size - 1);
  MCI_TRY(meet(row, &env));
  *out = env;
  return meshcclSuccess;
}

meshcclResult_t mci_boot_env_read(mci_boot_env* out) {
  for (size_t i = 0; i < MCI_COUNT(launchers); i++) {
    const launcher* row = &launchers[i];
    if (row->needs && !mci_env(row->needs)) continue;
    if (mci_env(row->rank) || (row->size_is_sign && mci_env(row->size))) return read_row(row, out);
  }
  mci_boot_env env = {.rank = 0, .nranks = 1, .local_rank = 0, .local_size = 1, .source = "none"};
  bool met;
  MCI_TRY(try_pmix(true, &env, &met));
  if (!met) MCI_TRY(mci_id_create(&env.id));
  *out = env;
  return meshcclSuccess;
}
