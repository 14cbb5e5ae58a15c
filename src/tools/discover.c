/* `meshccl topo --discover`: what this machine, or a list of hosts, looks like as a machine file that can be saved,
 * edited and given back, with comments on what was found. Reaches no other host. */
#include "boot/discover.h"

#include <stdio.h>
#include <string.h>

#include "base/net.h"
#include "tools/run_hosts.h"
#include "tools/tools.h"
#include "topo/machine.h"

static const char usage[] =
    "usage: meshccl topo --discover [--hosts LIST | --hostfile FILE | --hwloc DESCRIPTION]\n"
    "  prints a machine file with one rank per core of this machine, with levels for its caches, NUMA nodes and "
    "packages\n"
    "  --hosts LIST         of hosts and their ranks instead, such as a:4,b:2; as of meshccl run, nothing is asked "
    "there\n"
    "  --hostfile FILE      the same from a file\n"
    "  --hwloc DESCRIPTION  a described machine instead of this one, such as \"package:2 l3:2 core:4 pu:1\"\n"
    "The figures of links are not measured: edit them, or let meshccl tune measure them.\n";

typedef struct {
  const char *hosts, *hostfile, *machine;
} discover_options;

static int read_options(int argc, char** argv, discover_options* o) {
  for (int i = 1; i < argc; i++) {
    const char** value = strcmp(argv[i], "--hosts") == 0      ? &o->hosts
                         : strcmp(argv[i], "--hostfile") == 0 ? &o->hostfile
                         : strcmp(argv[i], "--hwloc") == 0    ? &o->machine
                                                              : NULL;
    if (strcmp(argv[i], "--discover") == 0) continue;
    if (!value || i + 1 == argc) {
      fprintf(stderr, "meshccl topo --discover: %s \"%s\"\n%s",
              value ? "a value is missing after" : "unexpected argument", argv[i], usage);
      return 2;
    }
    *value = argv[++i];
  }
  return 0;
}

static void describe(const mci_local* local, bool here, mci_str* out) {
  char name[256] = "a described machine";
  if (here) mci_host_name(name, sizeof name);
  mci_str_add(out, "# %s: packages %u, NUMA nodes %u, L3 caches %u", name, local->packages, local->numa, local->caches);
  if (local->cache_bytes) mci_str_add(out, " of %.3g MB", (double)local->cache_bytes / 1e6);
  mci_str_add(out, ", cores %u, threads %u, memory %.3g GB\n", local->cores, local->threads,
              (double)local->memory / 1e9);
  if (!local->whole) mci_str_add(out, "# a part of the machine is closed to this process and not counted\n");
  mci_str_add(out, "# one rank per core; the figures of links are not measured, edit them\n");
}

static meshcclResult_t print_both(const mci_topo* topo, mci_str* out) {
  mci_str_add(out, "# the same in one line: ");
  MCI_TRY(mci_topo_print(topo, out));
  mci_str_add(out, "\n");
  return mci_machine_print(topo, out);
}

static meshcclResult_t discover_machine(const char* machine, mci_str* out) {
  mci_local local;
  MCI_TRY(mci_discover_local(machine, &local));
  describe(&local, !machine, out);
  mci_str spec = {0};
  mci_topo* topo = NULL;
  meshcclResult_t result = mci_local_spec(&local, &spec);
  if (result == meshcclSuccess) result = mci_topo_parse(spec.text, &topo);
  if (result == meshcclSuccess) result = print_both(topo, out);
  mci_topo_destroy(topo);
  mci_str_fini(&spec);
  mci_local_free(&local);
  return result;
}

static meshcclResult_t discover_hosts(const mci_run_hosts* hosts, int nranks, mci_str* out) {
  uint64_t* host_of = mci_alloc((size_t)nranks * sizeof *host_of);
  if (!host_of) return mci_oom((size_t)nranks * sizeof *host_of);
  for (uint32_t i = 0; i < hosts->n; i++) {
    const mci_run_host* host = &hosts->list[i];
    mci_str_add(out, "# %s: ranks %d to %d\n", host->name, host->first, host->first + host->nranks - 1);
    for (int r = 0; r < host->nranks; r++) host_of[host->first + r] = i;
  }
  mci_str_add(out, "# the figures of links are not measured, edit them\n");
  mci_topo* topo = NULL;
  meshcclResult_t result = mci_discover_hosts(host_of, (uint32_t)nranks, false, &topo);
  if (result == meshcclSuccess) result = print_both(topo, out);
  mci_topo_destroy(topo);
  mci_free(host_of);
  return result;
}

int mci_tool_discover(int argc, char** argv) {
  discover_options o = {NULL, NULL, NULL};
  mci_run_hosts hosts = {0};
  mci_str out = {0};
  int nranks = 0, status = read_options(argc, argv, &o);
  if (!status && (o.hosts || o.hostfile)) status = mci_run_hosts_read(o.hosts, o.hostfile, &hosts);
  if (!status && hosts.n > 0) status = mci_run_hosts_place(&hosts, &nranks);
  if (!status) {
    meshcclResult_t result = hosts.n > 0 ? discover_hosts(&hosts, nranks, &out) : discover_machine(o.machine, &out);
    if (result == meshcclSuccess) result = mci_str_result(&out);
    if (result == meshcclSuccess)
      fputs(out.text, stdout);
    else
      fprintf(stderr, "meshccl topo --discover: %s\n", mci_error_last());
    status = result == meshcclSuccess ? 0 : result == meshcclInvalidArgument ? 2 : 1;
  }
  mci_run_hosts_free(&hosts);
  mci_str_fini(&out);
  return status;
}
