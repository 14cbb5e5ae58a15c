/* Ids as text, derived ids, and rank and size from every launcher's variables. */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "ranks.h"

extern char** environ;

static void an_id_survives_printing_and_parsing(void** state) {
  (void)state;
  mci_id id, again;
  mci_str text = {0};
  check_ok(mci_id_create(&id));
  check_ok(mci_id_check(&id));
  mci_id_print(&id, &text);
  assert_int_equal(text.length, 2 * MCI_ID_BYTES);
  check_ok(mci_id_parse(text.text, &again));
  assert_memory_equal(&id, &again, sizeof id);
  mci_str_fini(&text);
}

static void a_damaged_id_is_refused(void** state) {
  (void)state;
  mci_id id, out;
  mci_str text = {0};
  check_ok(mci_id_create(&id));
  mci_id_print(&id, &text);
  for (size_t i = 0; i < text.length; i += 7) {
    char kept = text.text[i];
    text.text[i] = kept == '0' ? '1' : '0';
    check_fails(mci_id_parse(text.text, &out), meshcclInvalidArgument, "id");
    text.text[i] = kept;
  }
  static const char* const rows[] = {"", "zz", "00", "hello world"};
  for (size_t i = 0; i < MCI_COUNT(rows); i++)
    check_fails(mci_id_parse(rows[i], &out), meshcclInvalidArgument, "256 hexadecimal");
  text.text[text.length - 1] = 0;
  check_fails(mci_id_parse(text.text, &out), meshcclInvalidArgument, "256 hexadecimal");
  mci_str_fini(&text);
  memset(&id, 0, sizeof id);
  check_fails(mci_id_check(&id), meshcclInvalidArgument, "not made by meshccl");
}

static void derived_ids_are_equal_for_equal_input_only(void** state) {
  (void)state;
  mci_id parent, other, a, b;
  check_ok(mci_id_create(&parent));
  check_ok(mci_id_create(&other));
  static const struct {
    bool same_parent;
    uint64_t a, b;
    bool equal;
  } rows[] = {{true, 1, 2, true}, {true, 2, 1, false}, {true, 1, 3, false}, {false, 1, 2, false}};
  mci_id_derive(&parent, 1, 2, &a);
  check_ok(mci_id_check(&a));
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_id_derive(rows[i].same_parent ? &parent : &other, rows[i].a, rows[i].b, &b);
    if ((memcmp(&a, &b, sizeof a) == 0) != rows[i].equal) fail_msg("row %zu", i);
  }
}

static void a_text_and_a_secret_make_the_id(void** state) {
  (void)state;
  char path[] = "/tmp/meshccl-test-XXXXXX";
  int fd = mkstemp(path);
  assert_int_equal(write(fd, "s1\n", 3), 3);
  close(fd);
  mci_id plain, s1, s2, from_file, other;
  check_ok(mci_id_from_text("job 1", &plain));
  check_ok(mci_id_from_text("job 2", &other));
  setenv("MESHCCL_SECRET", "s1", 1);
  check_ok(mci_id_from_text("job 1", &s1));
  setenv("MESHCCL_SECRET", "s2", 1);
  check_ok(mci_id_from_text("job 1", &s2));
  setenv("MESHCCL_SECRET_FILE", path, 1);
  check_ok(mci_id_from_text("job 1", &from_file));
  unlink(path);
  check_fails(mci_id_from_text("job 1", &from_file), meshcclInvalidUsage, path);
  unsetenv("MESHCCL_SECRET_FILE");
  unsetenv("MESHCCL_SECRET");
  assert_memory_equal(&s1, &from_file, sizeof s1);
  assert_memory_not_equal(&s1, &s2, sizeof s1);
  assert_memory_not_equal(&s1, &plain, sizeof s1);
  assert_memory_not_equal(&other, &plain, sizeof s1);
}

/* ---- environment ---- */

typedef struct {
  const char* variables[8]; /* NAME=value */
  const char* source;
  int rank, nranks, local_rank, local_size;
} good_row;

/* Reads with these variables and nothing else in the environment. */
static meshcclResult_t read_with(const char* const* variables, mci_boot_env* out) {
  char **kept = environ, *only[9] = {NULL};
  for (size_t n = 0; n < 8 && variables[n]; n++) only[n] = (char*)(uintptr_t)variables[n];
  environ = only;
  mci_params_reload();
  meshcclResult_t result = mci_boot_env_read(out);
  environ = kept;
  mci_params_reload();
  return result;
}

static void every_launcher_is_understood(void** state) {
  (void)state;
  char id_variable[2 * MCI_ID_BYTES + 16];
  mci_id id;
  mci_str text = {0};
  check_ok(mci_id_create(&id));
  mci_id_print(&id, &text);
  snprintf(id_variable, sizeof id_variable, "MESHCCL_ID=%s", text.text);
  mci_str_fini(&text);
  const good_row rows[] = {
      {{NULL}, "none", 0, 1, 0, 1},
      {{"MESHCCL_RANK=2", "MESHCCL_SIZE=4", "MESHCCL_LOCAL_RANK=0", "MESHCCL_LOCAL_SIZE=2", id_variable},
       "meshccl run",
       2,
       4,
       0,
       2},
      {{"MESHCCL_RANK=0", "MESHCCL_SIZE=1"}, "meshccl run", 0, 1, 0, 1},
      {{"RANK=3", "WORLD_SIZE=8", "LOCAL_RANK=1", "LOCAL_WORLD_SIZE=2", "MASTER_ADDR=::1", "MASTER_PORT=1"},
       "torchrun",
       3,
       8,
       1,
       2},
      {{"RANK=3", "WORLD_SIZE=8", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=1"}, "torchrun", 3, 8, 3, 8},
      {{"OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_RANK=1", "PMIX_NAMESPACE=77"},
       "Open MPI",
       1,
       2,
       1,
       2},
      {{"OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "OMPI_MCA_ess_base_jobid=5", "SLURM_PROCID=0",
        "SLURM_STEP_ID=0"},
       "Open MPI",
       1,
       2,
       1,
       2},
      {{"PMI_RANK=5", "PMI_SIZE=6", "MPI_LOCALRANKID=5", "MPI_LOCALNRANKS=6"}, "PMI", 5, 6, 5, 6},
      {{"PMI_RANK=5", "PMI_SIZE=6", "MPI_LOCALRANKID=1", "MPI_LOCALNRANKS=2", "MESHCCL_ROOT=127.0.0.1:99"},
       "PMI",
       5,
       6,
       1,
       2},
      {{"PMI_RANK=5", "PMI_SIZE=6", "PMI_JOBID=x"}, "PMI", 5, 6, 5, 6},
      {{"SLURM_PROCID=1", "SLURM_NTASKS=4", "SLURM_JOB_ID=9", "SLURM_STEP_ID=0", "SLURM_LOCALID=1"},
       "Slurm",
       1,
       4,
       1,
       4},
      {{"SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_JOB_ID=9"}, "none", 0, 1, 0, 1},
      {{"RANK=0", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=2", "MASTER_ADDR=a", "MASTER_PORT=1", "OMPI_COMM_WORLD_RANK=1",
        "OMPI_COMM_WORLD_SIZE=2"},
       "torchrun",
       0,
       2,
       0,
       2},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_boot_env env;
    meshcclResult_t result = read_with(rows[i].variables, &env);
    if (result != meshcclSuccess) fail_msg("row %zu: %s", i, mci_error_last());
    if (strcmp(env.source, rows[i].source) != 0 || env.rank != rows[i].rank || env.nranks != rows[i].nranks ||
        env.local_rank != rows[i].local_rank || env.local_size != rows[i].local_size)
      fail_msg("row %zu: %s, rank %d of %d, local %d of %d", i, env.source, env.rank, env.nranks, env.local_rank,
               env.local_size);
    check_ok(mci_id_check(&env.id));
  }
}

static void contradictions_name_their_variables(void** state) {
  (void)state;
  static const struct {
    const char* variables[8];
    const char *part, *part2;
  } rows[] = {
      {{"RANK=0"}, "RANK", "WORLD_SIZE"},
      {{"WORLD_SIZE=2"}, "RANK", "WORLD_SIZE"},
      {{"RANK=2", "WORLD_SIZE=2", "MASTER_ADDR=a", "MASTER_PORT=1"}, "RANK=2", "WORLD_SIZE=2"},
      {{"RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=a"}, "MASTER_PORT", "not"},
      {{"RANK=0", "WORLD_SIZE=2", "MASTER_PORT=1"}, "MASTER_ADDR", "not"},
      {{"RANK=x", "WORLD_SIZE=2"}, "RANK=x", "whole number"},
      {{"RANK=-1", "WORLD_SIZE=2"}, "RANK=-1", "whole number"},
      {{"RANK=0", "WORLD_SIZE=0"}, "WORLD_SIZE=0", "whole number"},
      {{"RANK=0", "WORLD_SIZE=2x"}, "WORLD_SIZE=2x", "whole number"},
      {{"RANK=0", "WORLD_SIZE=99999999999"}, "WORLD_SIZE=99999999999", "whole number"},
      {{"RANK=0", "WORLD_SIZE=2", "LOCAL_RANK=2", "LOCAL_WORLD_SIZE=2"}, "LOCAL_RANK=2", "LOCAL_WORLD_SIZE=2"},
      {{"MESHCCL_RANK=0"}, "MESHCCL_RANK", "MESHCCL_SIZE"},
      {{"MESHCCL_RANK=0", "MESHCCL_SIZE=2"}, "MESHCCL_ID", "meshccl run"},
      {{"MESHCCL_RANK=0", "MESHCCL_SIZE=2", "MESHCCL_ID=abc"}, "MESHCCL_ID", "not an id"},
      {{"OMPI_COMM_WORLD_RANK=0"}, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
      {{"OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2"}, "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"},
      {{"PMI_RANK=3"}, "PMI_RANK", "PMI_SIZE"},
      {{"PMI_RANK=5", "PMI_SIZE=6", "PMI_JOBID=1", "MPI_LOCALRANKID=1", "MPI_LOCALNRANKS=2"}, "MESHCCL_ROOT", "PMIx"},
      {{"PMI_RANK=5", "PMI_SIZE=6", "PMI_JOBID=1", "MESHCCL_ROOT=5:"}, "MESHCCL_ROOT=5:", "host:port"},
      {{"PMI_RANK=5", "PMI_SIZE=6", "PMI_JOBID=1", "MESHCCL_ROOT=nowhere.invalid:5"},
       "MESHCCL_ROOT",
       "nowhere.invalid"},
      {{"PMI_RANK=5", "PMI_SIZE=6", "PMI_JOBID=1", "MESHCCL_ROOT=192.0.2.1:5"}, "192.0.2.1", "MESHCCL_SECRET_FILE"},
      {{"RANK=1", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=1", "MASTER_ADDR=192.0.2.1", "MASTER_PORT=5"},
       "MASTER_ADDR=192.0.2.1",
       "MESHCCL_AUTH=none"},
      {{"RANK=1", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=1", "MASTER_ADDR=nowhere.invalid", "MASTER_PORT=5"},
       "MASTER_ADDR",
       "cannot be found"},
      {{"RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=::1", "MASTER_PORT=99999"}, "MASTER_PORT=99999", "65535"},
      {{"SLURM_PROCID=3", "SLURM_STEP_ID=0"}, "SLURM_PROCID", "SLURM_NTASKS"},
      {{"SLURM_PROCID=0", "SLURM_NTASKS=2", "SLURM_STEP_ID=0"}, "SLURM_JOB_ID", "srun"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_boot_env env;
    meshcclResult_t result = read_with(rows[i].variables, &env);
    if (result != meshcclInvalidUsage || !strstr(mci_error_last(), rows[i].part) ||
        !strstr(mci_error_last(), rows[i].part2))
      fail_msg("row %zu: %s: %s", i, mci_result_text(result), mci_error_last());
  }
}

static void ranks_of_one_job_meet_and_of_two_jobs_do_not(void** state) {
  (void)state;
  static const struct {
    const char *a[8], *b[8];
    bool meet;
  } rows[] = {
      {{"RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=1"},
       {"RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=1"},
       true},
      {{"RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=1"},
       {"RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=2"},
       false},
      {{"PMI_RANK=0", "PMI_SIZE=2"}, {"PMI_RANK=1", "PMI_SIZE=2"}, true},
      {{"PMI_RANK=0", "PMI_SIZE=2", "PMI_JOBID=1"}, {"PMI_RANK=1", "PMI_SIZE=2", "PMI_JOBID=2"}, false},
      {{"SLURM_PROCID=0", "SLURM_NTASKS=2", "SLURM_JOB_ID=1", "SLURM_STEP_ID=0"},
       {"SLURM_PROCID=1", "SLURM_NTASKS=2", "SLURM_JOB_ID=1", "SLURM_STEP_ID=1"},
       false},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    mci_boot_env a, b;
    check_ok(read_with(rows[i].a, &a));
    check_ok(read_with(rows[i].b, &b));
    if ((memcmp(&a.id, &b.id, sizeof a.id) == 0) != rows[i].meet) fail_msg("row %zu", i);
  }
}

/* A child has another parent, as a rank under another host's launcher has. */
static void the_id_of_another_launcher(const char* const* variables, mci_id* out) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    mci_boot_env env;
    bool good = read_with(variables, &env) == meshcclSuccess;
    _exit(!good || write(ends[1], &env.id, sizeof env.id) != (ssize_t)sizeof env.id);
  }
  close(ends[1]);
  assert_int_equal(read(ends[0], out, sizeof *out), sizeof *out);
  close(ends[0]);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void pmi_ranks_of_several_hosts_meet_by_the_root(void** state) {
  (void)state;
  static const char* const first[8] = {"PMI_RANK=0", "PMI_SIZE=2", "MESHCCL_ROOT=127.0.0.1:99"};
  static const char* const second[8] = {"PMI_RANK=1", "PMI_SIZE=2", "MESHCCL_ROOT=127.0.0.1:99"};
  mci_boot_env here;
  mci_id there;
  check_ok(read_with(first, &here));
  the_id_of_another_launcher(second, &there);
  assert_memory_equal(&here.id, &there, sizeof there);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_id_survives_printing_and_parsing),
      cmocka_unit_test(a_damaged_id_is_refused),
      cmocka_unit_test(derived_ids_are_equal_for_equal_input_only),
      cmocka_unit_test(a_text_and_a_secret_make_the_id),
      cmocka_unit_test(every_launcher_is_understood),
      cmocka_unit_test(contradictions_name_their_variables),
      cmocka_unit_test(ranks_of_one_job_meet_and_of_two_jobs_do_not),
      cmocka_unit_test(pmi_ranks_of_several_hosts_meet_by_the_root),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
