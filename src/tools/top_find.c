/* meshccl top: finds the process to ask and the id to prove. Reads /proc; changes this process's environment only. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "tools/top.h"

#define GENERATIONS 16
#define MOST_CANDIDATES 4096

/* ---- processes ---- */

/* One file of /proc/PID, at most size - 1 bytes, ended by NUL; the number of bytes. */
static size_t read_proc(int32_t pid, const char* name, char* out, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  size_t length = 0;
  ssize_t n = 0;
  while (fd >= 0 && length < size - 1 && (n = read(fd, out + length, size - 1 - length)) > 0) length += (size_t)n;
  if (fd >= 0) close(fd);
  out[length] = 0;
  return length;
}

static int32_t parent_of(int32_t pid) {
  char text[512];
  read_proc(pid, "stat", text, sizeof text);
  const char* at = strrchr(text, ')');
  int parent = 0;
  return at && sscanf(at + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

static bool descends(int32_t pid, int32_t from) {
  for (int i = 0; i < GENERATIONS && pid > 1; i++, pid = parent_of(pid))
    if (pid == from) return true;
  return false;
}

/* Processes that listen: the names of their sockets stand in /proc/net/unix. */
static int list_processes(int32_t* out, int most) {
  FILE* file = fopen("/proc/net/unix", "re");
  char line[512], name[64];
  int n = 0;
  snprintf(name, sizeof name, "@meshccl-top-%u-", (unsigned)geteuid());
  while (file && n < most && fgets(line, sizeof line, file)) {
    const char* at = strstr(line, name);
    if (!at) continue;
    int32_t pid = (int32_t)atoi(at + strlen(name));
    bool known = false; /* a connection has the same name as its listener */
    for (int i = 0; i < n && !known; i++) known = out[i] == pid;
    if (!known) out[n++] = pid;
  }
  if (file) fclose(file);
  return n;
}

int32_t mci_top_process(int32_t pid) {
  static int32_t listening[MOST_CANDIDATES];
  int n = list_processes(listening, MOST_CANDIDATES);
  for (int i = 0; i < n; i++)
    if (listening[i] == pid) return pid;
  for (int i = 0; i < n; i++)
    if (descends(listening[i], pid)) return listening[i];
  return pid;
}

void mci_top_candidates(mci_str* out) {
  static int32_t listening[MOST_CANDIDATES];
  int n = list_processes(listening, MOST_CANDIDATES);
  for (int i = 0; i < n; i++) {
    char program[64];
    read_proc(listening[i], "comm", program, sizeof program);
    program[strcspn(program, "\n")] = 0;
    mci_str_add(out, "  %d (%s)\n", listening[i], program[0] ? program : "?");
  }
}

/* ---- the id ---- */

/* Variables by which a job's ranks find each other. */
static bool concerns_jobs(const char* entry) {
  static const char* const prefixes[] = {
      "MESHCCL_", "RANK=", "WORLD_SIZE=", "LOCAL_RANK=", "LOCAL_WORLD_SIZE=", "MASTER_", "OMPI_",
      "PMIX_",    "PMI_",  "MPI_LOCAL",   "SLURM_"};
  for (size_t i = 0; i < MCI_COUNT(prefixes); i++)
    if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0) return true;
  return false;
}

static bool is_secret(const char* name) {
  return strcmp(name, "MESHCCL_SECRET") == 0 || strcmp(name, "MESHCCL_SECRET_FILE") == 0;
}

static void take_variable(char* entry, bool own_secret) {
  char* value = strchr(entry, '=');
  if (!value || !concerns_jobs(entry)) return;
  *value = 0;
  if (!own_secret || !is_secret(entry)) setenv(entry, value + 1, 1);
}

static meshcclResult_t take_environment(int32_t pid) {
  size_t size = 4u << 20;
  char* text = mci_alloc(size);
  if (!text) return mci_oom(size);
  bool own_secret = mci_env("MESHCCL_SECRET") || mci_env("MESHCCL_SECRET_FILE");
  size_t length = read_proc(pid, "environ", text, size);
  for (char* at = text; at < text + length;) {
    char* next = at + strlen(at) + 1;
    take_variable(at, own_secret);
    at = next;
  }
  mci_free(text);
  if (length > 0) return meshcclSuccess;
  MCI_FAIL(meshcclInvalidUsage,
           "the environment of process %d cannot be read (does it run, and is it yours?); set MESHCCL_ID to the id of "
           "the job",
           pid);
}

meshcclResult_t mci_top_id(int32_t pid, mci_id* out) {
  const char* given = mci_env("MESHCCL_ID");
  if (given && mci_id_parse(given, out) == meshcclSuccess) return meshcclSuccess;
  if (given) MCI_FAIL(meshcclInvalidUsage, "MESHCCL_ID is not an id; pass on what meshccl run sets, or unset it");
  MCI_TRY(take_environment(pid));
  mci_boot_env env;
  MCI_TRY(mci_boot_env_read(&env));
  if (strcmp(env.source, "none") == 0)
    MCI_FAIL(meshcclInvalidUsage,
             "no launcher has left its variables in the environment of process %d; set MESHCCL_ID to the id of its "
             "communicator",
             pid);
  *out = env.id;
  return meshcclSuccess;
}
