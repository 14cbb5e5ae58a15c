/* Communicators made from communicators: by colour, and along the axes of the topology. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/comm.h"

typedef struct {
  int32_t color, key;
  uint32_t rank, unused;
} member;

static int by_key(const void* a, const void* b) {
  const member *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* The members of my colour, ordered; returns how many, and my place among them. */
static uint32_t select_mine(member* all, uint32_t n, const member* mine, uint32_t* place_out) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < n; i++)
    if (all[i].color == mine->color) all[kept++] = all[i];
  qsort(all, kept, sizeof *all, by_key);
  for (uint32_t i = 0; i < kept; i++)
    if (all[i].rank == mine->rank) *place_out = i;
  return kept;
}

static meshcclResult_t child_topology(meshcclComm_t comm, const member* members, uint32_t n, mci_topo** out) {
  uint32_t* ranks = mci_alloc(n * sizeof *ranks);
  if (!ranks) return mci_oom(n * sizeof *ranks);
  for (uint32_t i = 0; i < n; i++) ranks[i] = members[i].rank;
  meshcclResult_t result = mci_topo_subset(comm->topo, ranks, n, out);
  mci_free(ranks);
  return result;
}

static meshcclResult_t start_child(meshcclComm_t comm, const mci_id* id, const member* members, uint32_t n,
                                   uint32_t place, const meshcclConfig_t* config, meshcclComm_t* newcomm) {
  char name[64];
  mci_start start = {.id = *id, .rank = place, .nranks = n, .config = *config};
  if (!start.config.name) {
    snprintf(name, sizeof name, "%.40s/%d", comm->name, members[0].color);
    start.config.name = name;
  }
  if (!start.config.device) start.config.device = comm->device->name;
  if (start.config.progressThread < 0) start.config.progressThread = !comm->threadless;
  if (start.config.initTimeout <= 0) start.config.initTimeout = (double)comm->init_timeout_ns / 1e9;
  if (start.config.opTimeout <= 0) start.config.opTimeout = (double)comm->op_timeout_ns / 1e9;
  if (!start.config.topology) MCI_TRY(child_topology(comm, members, n, &start.topo));
  return mci_comm_start(&start, true, newcomm);
}

/* On several hosts the first rank of each child listens, and all are told where. A rank without a colour only helps. */
static meshcclResult_t make_id(meshcclComm_t comm, const member* members, uint32_t n, uint32_t place, mci_id* out) {
  unsigned char mine[MCI_ID_MEETING_BYTES] = {0};
  if (n > 0) mci_id_derive(&comm->id, comm->splits, (uint64_t)(int64_t)members[0].color, out);
  if (!mci_boot_spans(comm->boot)) return meshcclSuccess;
  unsigned char* all = mci_alloc((size_t)comm->nranks * sizeof mine);
  if (!all) return mci_oom((size_t)comm->nranks * sizeof mine);
  if (n > 1 && place == 0 && mci_id_publish(out) == meshcclSuccess) mci_id_copy_meeting(out, mine);
  meshcclResult_t result = mci_boot_allgather(comm->boot, mine, sizeof mine, all, comm->init_timeout_ns);
  if (result == meshcclSuccess && n > 1) mci_id_paste_meeting(out, all + (size_t)members[0].rank * sizeof mine);
  mci_free(all);
  return result;
}

static meshcclResult_t split(meshcclComm_t comm, int color, int key, meshcclComm_t* newcomm,
                             const meshcclConfig_t* given) {
  meshcclConfig_t config;
  if (!newcomm) MCI_FAIL(meshcclInvalidArgument, "meshcclCommSplit: newcomm is NULL");
  MCI_TRY(mci_config_check(given, &config));
  member mine = {.color = color < 0 ? -1 : color, .key = key, .rank = comm->rank};
  member* all = mci_alloc(comm->nranks * sizeof *all);
  if (!all) return mci_oom(comm->nranks * sizeof *all);
  comm->splits++;
  meshcclResult_t result = mci_boot_allgather(comm->boot, &mine, sizeof mine, all, comm->init_timeout_ns);
  meshcclComm_t made = NULL;
  mci_id id = {{0}};
  uint32_t place = 0, n = 0;
  if (result == meshcclSuccess && color >= 0) n = select_mine(all, comm->nranks, &mine, &place);
  if (result == meshcclSuccess) result = make_id(comm, all, n, place, &id);
  if (result == meshcclSuccess && color >= 0) result = start_child(comm, &id, all, n, place, &config, &made);
  mci_free(all);
  if (result == meshcclSuccess) *newcomm = made;
  return result;
}

meshcclResult_t meshcclCommSplit(meshcclComm_t comm, int color, int key, meshcclComm_t* newcomm,
                                 meshcclConfig_t* config) {
  MCI_TRY(mci_comm_enter(comm, "meshcclCommSplit"));
  meshcclResult_t result = split(comm, color, key, newcomm, config);
  mci_comm_leave(comm);
  return result;
}

/* Which dimensions (slowest first) the letters name: x is the last one. */
static meshcclResult_t parse_axes(meshcclComm_t comm, const char* axes, bool chosen[MCI_MAX_DIMS]) {
  static const char letters[] = "xyzw";
  uint32_t ndims = mci_topo_ndims(comm->topo);
  if (!axes || !*axes)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommSplitAxes: axes is empty; write \"x\", \"y\", \"xy\", ...");
  for (const char* p = axes; *p; p++) {
    const char* letter = strchr(letters, *p);
    if (!letter || (uint32_t)(letter - letters) >= ndims)
      MCI_FAIL(meshcclInvalidArgument,
               "meshcclCommSplitAxes: axis \"%c\" does not exist; the topology has %u dimensions (%.*s)", *p, ndims,
               (int)ndims, letters);
    chosen[ndims - 1 - (uint32_t)(letter - letters)] = true;
  }
  return meshcclSuccess;
}

static meshcclResult_t split_axes(meshcclComm_t comm, const char* axes, meshcclComm_t* newcomm) {
  bool chosen[MCI_MAX_DIMS] = {false};
  MCI_TRY(parse_axes(comm, axes, chosen));
  uint32_t coords[MCI_MAX_DIMS], color = 0, key = 0;
  mci_topo_coords(comm->topo, comm->rank, coords);
  for (uint32_t d = 0; d < mci_topo_ndims(comm->topo); d++) {
    uint32_t* number = chosen[d] ? &key : &color;
    *number = *number * mci_topo_side(comm->topo, d) + coords[d];
  }
  return split(comm, (int)color, (int)key, newcomm, NULL);
}

meshcclResult_t meshcclCommSplitAxes(meshcclComm_t comm, const char* axes, meshcclComm_t* newcomm) {
  MCI_TRY(mci_comm_enter(comm, "meshcclCommSplitAxes"));
  meshcclResult_t result = split_axes(comm, axes, newcomm);
  mci_comm_leave(comm);
  return result;
}
