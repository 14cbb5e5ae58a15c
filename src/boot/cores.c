/* The cores that processes of this host can be bound to, and binding; see discover.h. */
#include <errno.h>
#include <hwloc.h>
#include <string.h>

#include "boot/discover.h"

struct mci_cores {
  hwloc_topology_t machine;
  uint32_t n;
  hwloc_bitmap_t* sets; /* of processors, one per core */
};

static hwloc_obj_type_t kind_of_core(hwloc_topology_t machine) {
  /* some virtual machines tell of processors only */
  return hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
}

static meshcclResult_t note_cores(mci_cores* cores, hwloc_const_bitmap_t allowed) {
  hwloc_obj_type_t kind = kind_of_core(cores->machine);
  int most = hwloc_get_nbobjs_by_type(cores->machine, kind);
  if (most <= 0) MCI_FAIL(meshcclSystemError, "hwloc finds no processor on this machine");
  cores->sets = mci_alloc((size_t)most * sizeof(hwloc_bitmap_t));
  if (!cores->sets) return mci_oom((size_t)most * sizeof(hwloc_bitmap_t));
  for (hwloc_obj_t core = NULL; (core = hwloc_get_next_obj_by_type(cores->machine, kind, core));) {
    if (!hwloc_bitmap_intersects(core->cpuset, allowed)) continue;
    hwloc_bitmap_t set = hwloc_bitmap_dup(core->cpuset);
    if (!set) return mci_oom(sizeof set);
    hwloc_bitmap_and(set, set, allowed);
    cores->sets[cores->n++] = set;
  }
  if (cores->n == 0) MCI_FAIL(meshcclSystemError, "this process may use no core that hwloc knows");
  return meshcclSuccess;
}

static meshcclResult_t look_at(mci_cores* cores) {
  if (hwloc_topology_load(cores->machine) != 0) MCI_FAIL(meshcclSystemError, "hwloc cannot look at this machine");
  hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
  if (!allowed) return mci_oom(sizeof allowed);
  meshcclResult_t result =
      hwloc_get_cpubind(cores->machine, allowed, HWLOC_CPUBIND_PROCESS) == 0
          ? note_cores(cores, allowed)
          : mci_fail(meshcclSystemError, "hwloc cannot tell which processors this process may use: %s",
                     strerror(errno));
  hwloc_bitmap_free(allowed);
  return result;
}

meshcclResult_t mci_cores_find(mci_cores** out) {
  mci_cores* cores = mci_alloc(sizeof *cores);
  if (!cores) return mci_oom(sizeof *cores);
  if (hwloc_topology_init(&cores->machine) != 0) {
    mci_free(cores);
    MCI_FAIL(meshcclSystemError, "hwloc does not start");
  }
  meshcclResult_t result = look_at(cores);
  if (result == meshcclSuccess)
    *out = cores;
  else
    mci_cores_free(cores);
  return result;
}

uint32_t mci_cores_count(const mci_cores* cores) { return cores->n; }

meshcclResult_t mci_cores_bind(const mci_cores* cores, uint32_t core) {
  if (hwloc_set_cpubind(cores->machine, cores->sets[core], HWLOC_CPUBIND_PROCESS) != 0)
    MCI_FAIL(meshcclSystemError, "cannot be bound to core %u: %s", core, strerror(errno));
  return meshcclSuccess;
}

void mci_cores_free(mci_cores* cores) {
  if (!cores) return;
  for (uint32_t i = 0; i < cores->n; i++) hwloc_bitmap_free(cores->sets[i]);
  mci_free(cores->sets);
  hwloc_topology_destroy(cores->machine);
  mci_free(cores);
}
