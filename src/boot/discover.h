/* A topology where none is described: what hwloc finds on this machine, and hosts from what the ranks report. Its
 * files are the only users of hwloc. */
#ifndef MCI_DISCOVER_H
#define MCI_DISCOVER_H

#include "base/base.h"
#include "topo/graph.h"

/* ---- this machine ---- */
typedef enum { MCI_FOUND_CACHE, MCI_FOUND_NUMA, MCI_FOUND_PACKAGE, MCI_NUM_FOUND } mci_found_level;
typedef struct {
  uint32_t packages, numa, caches, cores, threads; /* caches: of the third level */
  uint64_t memory, cache_bytes;                    /* cache_bytes: of the first such cache, 0: none */
  bool whole;                                      /* no part of it is closed to this process (cpuset, container) */
  uint32_t* group[MCI_NUM_FOUND];                  /* per core, in hwloc's order: number of its group */
} mci_local;
/* synthetic: an hwloc description such as "package:2 l3:2 core:4 pu:1" instead of this machine (tests); else NULL. */
meshcclResult_t mci_discover_local(const char* synthetic, mci_local* out);
void mci_local_free(mci_local* local);
/* A topology of one rank per core: a full graph with a level for each kind of group that divides the one inside it. */
meshcclResult_t mci_local_spec(const mci_local* local, mci_str* out);

/* ---- binding (cores.c) ---- */
/* The cores that this process may use: what a container or cpuset closes to it, or its own affinity, is not among them. */
typedef struct mci_cores mci_cores;
meshcclResult_t mci_cores_find(mci_cores** out);
uint32_t mci_cores_count(const mci_cores* cores);
/* Confines this process to one of them, with all its hardware threads that may be used. */
meshcclResult_t mci_cores_bind(const mci_cores* cores, uint32_t core);
void mci_cores_free(mci_cores* cores); /* takes NULL */

/* ---- hosts (hosts.c) ---- */
/* hosts[rank]: any number that tells hosts apart. A full graph with a level `host`; with a rank map where ranks of hosts
 * are interleaved; flat for one host, and for one rank per host. sockets: ranks of one host have nothing else between
 * them. The same input gives the same topology everywhere. */
meshcclResult_t mci_discover_hosts(const uint64_t* hosts, uint32_t nranks, bool sockets, mci_topo** out);

/* Figures of links that nobody has measured, on the slow side of what is usual. Inside one cache, between caches of one
 * NUMA node, between NUMA nodes, between packages; inside a host as a whole, and over its sockets (a rank takes one
 * message after the other there, too); between hosts. */
#define MCI_LINK_CACHE "20GB/s,200ns"
#define MCI_LINK_CACHES "15GB/s:300ns"
#define MCI_LINK_NUMA "10GB/s:500ns"
#define MCI_LINK_PACKAGES "8GB/s:700ns"
#define MCI_LINK_HOST "20GB/s,500ns,o=135ns,memory"
#define MCI_LINK_SOCKETS "3GB/s,2us,o=3us,memory"
#define MCI_LINK_HOSTS_RATE "1250MB/s"
#define MCI_LINK_HOSTS_DELAY "20us"
#endif
