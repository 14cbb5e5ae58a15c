/* What hwloc finds on this machine, as a topology with one rank per core. See discover.h. */
#include "boot/discover.h"

#include <hwloc.h>

static uint32_t count(hwloc_topology_t machine, hwloc_obj_type_t type) {
  int n = hwloc_get_nbobjs_by_type(machine, type);
  return n > 0 ? (uint32_t)n : 0;
}

/* Number of the group of this kind that the core lies in; 0 when there is none of the kind. */
static uint32_t group_of(hwloc_topology_t machine, hwloc_obj_t core, mci_found_level kind) {
  if (kind == MCI_FOUND_NUMA) { /* memory hangs beside the tree of cores */
    int node = hwloc_bitmap_first(core->nodeset);
    return node < 0 ? 0 : (uint32_t)node;
  }
  hwloc_obj_type_t type = kind == MCI_FOUND_CACHE ? HWLOC_OBJ_L3CACHE : HWLOC_OBJ_PACKAGE;
  hwloc_obj_t above = hwloc_get_ancestor_obj_by_type(machine, type, core);
  return above ? above->logical_index : 0;
}

static meshcclResult_t note_groups(hwloc_topology_t machine, mci_local* local) {
  for (int kind = 0; kind < MCI_NUM_FOUND; kind++) {
    local->group[kind] = mci_alloc(local->cores * sizeof(uint32_t));
    if (!local->group[kind]) return mci_oom(local->cores * sizeof(uint32_t));
  }
  for (uint32_t c = 0; c < local->cores; c++) {
    hwloc_obj_t core = hwloc_get_obj_by_type(machine, HWLOC_OBJ_CORE, c);
    if (!core) core = hwloc_get_obj_by_type(machine, HWLOC_OBJ_PU, c);
    for (int kind = 0; kind < MCI_NUM_FOUND && core; kind++)
      local->group[kind][c] = group_of(machine, core, (mci_found_level)kind);
  }
  return meshcclSuccess;
}

static meshcclResult_t look_at(hwloc_topology_t machine, mci_local* local) {
  hwloc_obj_t root = hwloc_get_root_obj(machine), cache = hwloc_get_obj_by_type(machine, HWLOC_OBJ_L3CACHE, 0);
  *local = (mci_local){.packages = count(machine, HWLOC_OBJ_PACKAGE),
                       .numa = count(machine, HWLOC_OBJ_NUMANODE),
                       .caches = count(machine, HWLOC_OBJ_L3CACHE),
                       .cores = count(machine, HWLOC_OBJ_CORE),
                       .threads = count(machine, HWLOC_OBJ_PU),
                       .memory = root->total_memory,
                       .cache_bytes = cache && cache->attr ? cache->attr->cache.size : 0,
                       .whole = hwloc_bitmap_isequal(root->cpuset, root->complete_cpuset)};
  if (local->cores == 0) local->cores = local->threads; /* some virtual machines tell of processors only */
  if (local->cores == 0) MCI_FAIL(meshcclSystemError, "hwloc finds no processor on this machine");
  return note_groups(machine, local);
}

meshcclResult_t mci_discover_local(const char* synthetic, mci_local* out) {
  hwloc_topology_t machine;
  mci_local local = {0};
  if (hwloc_topology_init(&machine) != 0) MCI_FAIL(meshcclSystemError, "hwloc does not start");
  if (synthetic && hwloc_topology_set_synthetic(machine, synthetic) != 0) {
    hwloc_topology_destroy(machine);
    MCI_FAIL(meshcclInvalidArgument, "hwloc does not understand the machine \"%s\"", synthetic);
  }
  meshcclResult_t result = hwloc_topology_load(machine) == 0
                               ? look_at(machine, &local)
                               : mci_fail(meshcclSystemError, "hwloc cannot look at this machine");
  hwloc_topology_destroy(machine);
  if (result == meshcclSuccess)
    *out = local;
  else
    mci_local_free(&local);
  return result;
}

void mci_local_free(mci_local* local) {
  for (int kind = 0; kind < MCI_NUM_FOUND; kind++) mci_free(local->group[kind]);
  *local = (mci_local){0};
}

/* ---- as a topology ---- */

/* Whether a group of `outer` begins inside one of `inner`, or an outer group comes back after another one. */
static bool nests(const mci_local* local, const uint32_t* inner, const uint32_t* outer) {
  for (uint32_t c = 1; c < local->cores; c++) {
    if (outer[c] < outer[c - 1]) return false;
    if (outer[c] != outer[c - 1] && inner && inner[c] == inner[c - 1]) return false;
  }
  return true;
}

static uint32_t ngroups(const mci_local* local, const uint32_t* group) {
  uint32_t n = 1;
  for (uint32_t c = 1; c < local->cores; c++) n += group[c] != group[c - 1];
  return n;
}

static void print_level(const mci_local* local, const uint32_t* group, const char* name, const char* figures,
                        mci_str* out) {
  mci_str_add(out, ",level=%s:", name);
  for (uint32_t c = 0, size = 1; c < local->cores; c++, size++) {
    if (c + 1 < local->cores && group[c + 1] == group[c]) continue;
    mci_str_add(out, "%u%s", size, c + 1 < local->cores ? "+" : "");
    size = 0;
  }
  mci_str_add(out, ":%s", figures);
}

/* A kind that has one group, or the same groups as the kind inside, says nothing and is left out; its figures are those
 * of the next. */
meshcclResult_t mci_local_spec(const mci_local* local, mci_str* out) {
  static const struct {
    const char *name, *figures; /* of links between two groups */
  } kinds[MCI_NUM_FOUND] = {{"cache", MCI_LINK_CACHES}, {"numa", MCI_LINK_NUMA}, {"package", MCI_LINK_PACKAGES}};
  const uint32_t* inner = NULL;
  int taken = -1;
  mci_str_add(out, "full:%u@" MCI_LINK_CACHE, local->cores);
  for (int kind = 0; kind < MCI_NUM_FOUND; kind++) {
    const uint32_t* group = local->group[kind];
    if (ngroups(local, group) < 2 || !nests(local, inner, group)) continue;
    if (inner && ngroups(local, inner) == ngroups(local, group)) { /* each package has one NUMA node */
      taken = kind;
      continue;
    }
    if (inner) print_level(local, inner, kinds[taken].name, kinds[taken].figures, out);
    inner = group;
    taken = kind;
  }
  if (inner) print_level(local, inner, kinds[taken].name, kinds[taken].figures, out);
  return mci_str_result(out);
}
