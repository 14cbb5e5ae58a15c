/* A topology from whatever a user writes where one is wanted: a spec (torus:4x4), the path of a machine file, or the
 * name of a machine that is installed with the library. Used by api and tools. */
#ifndef MCI_BOOT_TOPOLOGY_H
#define MCI_BOOT_TOPOLOGY_H

#include "topo/graph.h"

/* Texts with a '/' or that end in .yaml or .yml are paths; words without ':' are names of machines, NAME.yaml in
 * MESHCCL_MACHINES or, when that is unset, in share/meshccl/machines beside the folder of the library or program. */
bool mci_topology_is_spec(const char* text); /* neither a path nor a name */
meshcclResult_t mci_topology_load(const char* text, mci_topo** out);
#endif
