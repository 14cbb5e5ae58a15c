/* Finds and reads machine files; what is in them is topo/machine.c. Reads regular files only, and no more than a
 * machine may have. */
#define _GNU_SOURCE /* dladdr */
#include "boot/topology.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "topo/machine.h"

#define BESIDE "../share/meshccl/machines" /* seen from the folder of the library, and of the programs */

static bool ends(const char* text, const char* end) {
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

static meshcclResult_t read_file(int fd, const char* path, char* buffer, size_t size, size_t* length) {
  for (*length = 0; *length < size;) {
    ssize_t n = read(fd, buffer + *length, size - *length);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) MCI_FAIL(meshcclSystemError, "reading the machine file %s: %s", path, strerror(errno));
    if (n == 0) return meshcclSuccess;
    *length += (size_t)n;
  }
  return meshcclSuccess;
}

static meshcclResult_t load_open(int fd, const char* path, mci_topo** out) {
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
    MCI_FAIL(meshcclInvalidArgument, "%s is no regular file; give the path of a machine file", path);
  if (info.st_size > (off_t)MCI_MACHINE_MAX_BYTES)
    MCI_FAIL(meshcclInvalidArgument, "%s has %lld bytes; a machine file has at most %u", path, (long long)info.st_size,
             MCI_MACHINE_MAX_BYTES);
  size_t size = (size_t)info.st_size + 1, length;
  char* text = mci_alloc(size);
  if (!text) return mci_oom(size);
  meshcclResult_t result = read_file(fd, path, text, size, &length);
  if (result == meshcclSuccess) result = mci_machine_parse(text, length, path, out);
  mci_free(text);
  return result;
}

static meshcclResult_t load_file(const char* path, mci_topo** out) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0)
    MCI_FAIL(meshcclInvalidArgument, "machine file %s: %s; give a path that this process can read", path,
             strerror(errno));
  meshcclResult_t result = load_open(fd, path, out);
  close(fd);
  return result;
}

/* ---- machines by name ---- */

/* Folder of the file that this code was loaded from, with a final '/'; "" when that is not known. */
static void own_folder(char out[PATH_MAX]) {
  Dl_info info;
  char path[PATH_MAX];
  out[0] = 0;
  bool named = dladdr((const void*)&mci_topology_load, &info) && info.dli_fname && strchr(info.dli_fname, '/');
  if (!realpath(named ? info.dli_fname : "/proc/self/exe", path)) return;
  char* slash = strrchr(path, '/');
  if (!slash) return;
  slash[1] = 0;
  memcpy(out, path, strlen(path) + 1);
}

static void machines_folder(char out[PATH_MAX]) {
  const char* given = mci_param_text(MCI_P_MACHINES);
  char own[PATH_MAX];
  if (given && *given) {
    snprintf(out, PATH_MAX, "%s", given);
    return;
  }
  own_folder(own);
  out[0] = 0;
  /* A library may lie one folder deeper, as in lib/x86_64-linux-gnu. */
  static const char* const ways[] = {BESIDE, "../" BESIDE};
  for (size_t i = 0; i < MCI_COUNT(ways) && own[0]; i++) {
    struct stat info;
    if (snprintf(out, PATH_MAX, "%s%s", own, ways[i]) < PATH_MAX && stat(out, &info) == 0 && S_ISDIR(info.st_mode))
      return;
  }
}

static void list_machines(const char* folder, mci_str* out) {
  DIR* dir = opendir(folder);
  if (!dir) return;
  for (struct dirent* entry; (entry = readdir(dir));)
    if (ends(entry->d_name, ".yaml"))
      mci_str_add(out, "%s%.*s", out->length ? ", " : "", (int)(strlen(entry->d_name) - strlen(".yaml")),
                  entry->d_name);
  closedir(dir);
}

static meshcclResult_t load_named(const char* name, mci_topo** out) {
  char folder[PATH_MAX];
  mci_str path = {0}, known = {0};
  machines_folder(folder);
  mci_str_add(&path, "%s/%s.yaml", folder, name);
  meshcclResult_t result = mci_str_result(&path);
  if (result == meshcclSuccess && folder[0] && access(path.text, F_OK) == 0) {
    result = load_file(path.text, out);
  } else if (result == meshcclSuccess) {
    list_machines(folder, &known);
    result = mci_fail(meshcclInvalidArgument,
                      "\"%.60s\" is no topology such as torus:4x4, no path of a machine file, and none of the machines "
                      "%.300s; MESHCCL_MACHINES is the folder of machines, now %s",
                      name, known.length ? known.text : "(none is there)", folder[0] ? folder : "none");
  }
  mci_str_fini(&path);
  mci_str_fini(&known);
  return result;
}

/* Words that are the beginning of a spec get the complaint of its reader. */
static bool is_name(const char* text) {
  static const char* const kinds[] = {"ring", "line", "mesh", "torus", "full"};
  if (!*text || *text == '.' || strpbrk(text, ":@,= ")) return false;
  for (size_t i = 0; i < MCI_COUNT(kinds); i++)
    if (strcmp(text, kinds[i]) == 0) return false;
  return true;
}

/* Rates have a '/', too: in a spec a ':' comes first. */
static bool is_path(const char* text) {
  if (strchr(text, ':') && strcspn(text, ":") < strcspn(text, "/.")) return false;
  return strchr(text, '/') || ends(text, ".yaml") || ends(text, ".yml");
}

bool mci_topology_is_spec(const char* text) { return !is_path(text) && !is_name(text); }

meshcclResult_t mci_topology_load(const char* text, mci_topo** out) {
  if (is_path(text)) return load_file(text, out);
  return is_name(text) ? load_named(text, out) : mci_topo_parse(text, out);
}
