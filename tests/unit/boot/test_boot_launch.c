/* Ranks that real launchers start find each other by what the launcher puts into their environment. The program starts
 * itself under each launcher that is installed; as a rank it joins and gathers. */
#define _GNU_SOURCE
#include <libgen.h>
#include <limits.h>

#include "ranks.h"

static int be_a_rank(const char* source) {
  mci_boot_env env;
  mci_boot* boot;
  int32_t all[8];
  if (mci_boot_env_read(&env) != meshcclSuccess || strcmp(env.source, source) != 0 || env.nranks != 3) {
    fprintf(stderr, "source %s, %d ranks: %s\n", env.source, env.nranks, mci_error_last());
    return 1;
  }
  mci_boot_options options = rank_options(env.rank, env.nranks);
  int32_t mine = 10 + env.rank;
  if (mci_boot_join(&env.id, &options, &boot) != meshcclSuccess ||
      mci_boot_allgather(boot, &mine, sizeof mine, all, 10 * SECOND) != meshcclSuccess || all[0] != 10 ||
      all[2] != 12) {
    fprintf(stderr, "rank %d: %s\n", env.rank, mci_error_last());
    return 1;
  }
  mci_boot_leave(boot);
  return 0;
}

static void self(char path[PATH_MAX]) {
  ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
  assert_true(n > 0);
  path[n] = 0;
}

/* `before` holds one %s for the folder of programs. */
static void start_under(const char* before, const char* source) {
  char path[PATH_MAX], folder[PATH_MAX], command[4 * PATH_MAX];
  self(path);
  snprintf(folder, sizeof folder, "%s", path);
  char* bin = dirname(folder);
  int n = snprintf(command, sizeof command, before, bin);
  snprintf(command + n, sizeof command - (size_t)n, " '%s' rank '%s'", path, source);
  fflush(NULL);
  int status = system(command);
  if (status != 0) fail_msg("%s: status %d", command, WEXITSTATUS(status));
}

static bool installed(const char* program) {
  char command[256];
  snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
  if (system(command) == 0) return true;
  print_message("SKIPPED: %s is not installed\n", program);
  return false;
}

static void ranks_of_meshccl_run_meet(void** state) {
  (void)state;
  char path[PATH_MAX], tool[PATH_MAX + 16];
  self(path);
  snprintf(tool, sizeof tool, "%s/meshccl", dirname(path));
  if (access(tool, X_OK) != 0) {
    print_message("SKIPPED: %s is not built\n", tool);
    skip();
  }
  start_under("'%s'/meshccl run -n 3 --", "meshccl run");
  start_under("'%s'/meshccl run -n 3 -- sh -c 'exec \"$@\"' sh", "meshccl run");
}

static void ranks_of_mpich_meet(void** state) {
  (void)state;
  if (!installed("mpirun.mpich")) skip();
  start_under("mpirun.mpich -n 3", "PMI");
  start_under("mpirun.mpich -n 3 sh -c '\"$@\"; exit $?' sh", "PMI");
}

static void ranks_of_open_mpi_meet(void** state) {
  (void)state;
  if (!installed("mpirun.openmpi")) skip();
  start_under("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun.openmpi --oversubscribe -n 3",
              "Open MPI");
}

static int free_port(void) {
  int fd;
  mci_net_addresses addresses;
  setenv("MESHCCL_SOCKET_IFNAME", "lo", 1);
  mci_params_reload();
  check_ok(mci_net_listen(true, 0, &fd, &addresses));
  unsetenv("MESHCCL_SOCKET_IFNAME");
  mci_params_reload();
  close(fd);
  return addresses.at[0].port;
}

/* Variables as torchrun and srun set them. */
static void ranks_of_other_launchers_meet(void** state) {
  (void)state;
  static const struct {
    const char *loop, *source;
  } rows[] = {
      {"RANK=$r WORLD_SIZE=3 LOCAL_WORLD_SIZE=3 MASTER_ADDR=nowhere.invalid MASTER_PORT=1", "torchrun"},
      {"RANK=$r WORLD_SIZE=3 MASTER_ADDR=localhost MASTER_PORT=$port", "torchrun"},
      {"RANK=$r WORLD_SIZE=3 MASTER_ADDR=localhost MASTER_PORT=1 MESHCCL_PORT=$port", "torchrun"},
      {"RANK=$r WORLD_SIZE=3 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port MESHCCL_HOST_ID=h$r MESHCCL_SOCKET_IFNAME=lo",
       "torchrun"},
      {"SLURM_PROCID=$r SLURM_NTASKS=3 SLURM_JOB_ID=1 SLURM_STEP_ID=0 SLURM_STEP_NUM_NODES=2 MESHCCL_HOST_ID=h$(($r % "
       "2)) "
       "MESHCCL_SOCKET_IFNAME=lo MESHCCL_ROOT=127.0.0.1:$port",
       "Slurm"},
      {"SLURM_PROCID=$r SLURM_NTASKS=3 SLURM_JOB_ID=$port SLURM_STEP_ID=0", "Slurm"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    char path[PATH_MAX], command[2 * PATH_MAX];
    self(path);
    snprintf(
        command, sizeof command,
        "port=%d; pids=; for r in 0 1 2; do %s '%s' rank '%s' & pids=\"$pids $!\"; done; for p in $pids; do wait $p || "
        "exit 1; done",
        free_port(), rows[i].loop, path, rows[i].source);
    fflush(NULL);
    if (system(command) != 0) fail_msg("%s", command);
  }
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "rank") == 0) return be_a_rank(argv[2]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ranks_of_meshccl_run_meet),
      cmocka_unit_test(ranks_of_mpich_meet),
      cmocka_unit_test(ranks_of_open_mpi_meet),
      cmocka_unit_test(ranks_of_other_launchers_meet),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
