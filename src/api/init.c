/* Making communicators: by id, with options, from the environment, all ranks in one process; blocking or not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/comm.h"
#include "base/globals.h"
#include "base/net.h"
#include "boot/discover.h"
#include "boot/topology.h"
#include "topo/machine.h"
#include "topo/plan/plan.h"
#include "transport/registry.h"

meshcclResult_t meshcclGetUniqueId(meshcclUniqueId* id) {
  if (!id) MCI_FAIL(meshcclInvalidArgument, "meshcclGetUniqueId: id is NULL");
  _Static_assert(sizeof(mci_id) == sizeof(meshcclUniqueId), "ids are copied as they are");
  mci_id made;
  MCI_TRY(mci_id_create(&made));
  if (mci_id_publish(&made) != meshcclSuccess) MCI_INFO("this id serves ranks of this host only: %s", mci_error_last());
  memcpy(id, &made, sizeof made);
  return meshcclSuccess;
}

meshcclResult_t mci_config_check(const meshcclConfig_t* given, meshcclConfig_t* out) {
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  if (given) {
    if (given->magic != MESHCCL_CONFIG_MAGIC || given->size < offsetof(meshcclConfig_t, topology))
      MCI_FAIL(meshcclInvalidArgument, "the configuration was not set to MESHCCL_CONFIG_INITIALIZER");
    memcpy(&config, given, MCI_MIN(given->size, sizeof config));
    config.size = sizeof config;
  }
  if (config.initTimeout < 0 || config.opTimeout < 0)
    MCI_FAIL(meshcclInvalidArgument, "configuration: initTimeout and opTimeout are seconds, 0 or more");
  if (config.blocking < -1 || config.blocking > 1)
    MCI_FAIL(meshcclInvalidArgument, "configuration: blocking is %d; allowed: 0 or 1", config.blocking);
  if (config.progressThread < -1 || config.progressThread > 1)
    MCI_FAIL(meshcclInvalidArgument, "configuration: progressThread is %d; allowed: 0 or 1", config.progressThread);
  *out = config;
  return meshcclSuccess;
}

/* ---- topology ------------------------------------------------------------------------------------------------------
 */

static meshcclResult_t apply_map(mci_topo* topo, const int* map, uint32_t n) {
  uint32_t* nodes = mci_alloc(n * sizeof *nodes);
  if (!nodes) return mci_oom(n * sizeof *nodes);
  for (uint32_t i = 0; i < n; i++) nodes[i] = (uint32_t)map[i];
  meshcclResult_t result = mci_topo_set_map(topo, nodes, n);
  mci_free(nodes);
  return result;
}

static meshcclResult_t apply_map_text(mci_topo* topo, const char* text, uint32_t nranks) {
  int* map = mci_alloc(nranks * sizeof *map);
  if (!map) return mci_oom(nranks * sizeof *map);
  uint32_t n = 0;
  const char* p = text;
  for (; *p && n < nranks; n++) {
    char* end;
    map[n] = (int)strtol(p, &end, 10);
    if (end == p || (*end && *end != ',')) break;
    p = end + (*end == ',');
  }
  meshcclResult_t result = n == nranks && !*p
                               ? apply_map(topo, map, n)
                               : mci_fail(meshcclInvalidArgument,
                                          "MESHCCL_RANK_MAP=%s is not a comma list of %u node numbers", text, nranks);
  mci_free(map);
  return result;
}

/* Leaves *out NULL when nothing is described: then the ranks find out where they are once they have joined. */
static meshcclResult_t make_topology(mci_start* start, mci_topo** out) {
  if (start->topo) {
    *out = start->topo;
    start->topo = NULL;
    return meshcclSuccess;
  }
  const char* spec = start->topology ? start->topology : mci_param_text(MCI_P_TOPO);
  if (!spec && !start->rank_map && !mci_param_text(MCI_P_RANK_MAP)) return meshcclSuccess;
  mci_topo* topo;
  MCI_TRY(spec ? mci_topology_load(spec, &topo) : mci_topo_full(start->nranks, &topo));
  meshcclResult_t result = meshcclSuccess;
  if (mci_topo_nranks(topo) != start->nranks)
    result = mci_fail(meshcclInvalidArgument,
                      "topology %s has %u nodes, but the communicator has %u ranks; they must be equal", spec,
                      mci_topo_nranks(topo), start->nranks);
  const char* map_text = mci_param_text(MCI_P_RANK_MAP);
  if (result == meshcclSuccess && start->rank_map) {
    result = apply_map(topo, start->rank_map, start->nranks);
  } else if (result == meshcclSuccess && map_text) {
    result = apply_map_text(topo, map_text, start->nranks);
  }
  if (result == meshcclSuccess) {
    *out = topo;
  } else {
    mci_topo_destroy(topo);
  }
  return result;
}

/* Whether MESHCCL_TRANSPORTS, which all ranks share, leaves nothing but sockets between two ranks. */
static meshcclResult_t only_sockets(bool* out) {
  const meshcclTransport_t* transports[MCI_COUNT(((mci_engine_options*)0)->transports)];
  uint32_t n;
  MCI_TRY(mci_transport_load());
  MCI_TRY(mci_transport_list(transports, &n, MCI_COUNT(transports)));
  *out = true;
  for (uint32_t i = 0; i < n; i++)
    *out = *out && (strcmp(transports[i]->name, "self") == 0 || strcmp(transports[i]->name, "tcp") == 0);
  return meshcclSuccess;
}

/* The hosts of all ranks are gathered once, and forgotten when the topology is made from them. */
static meshcclResult_t discover_topology(meshcclComm_t comm) {
  uint64_t mine = mci_host_id(), *hosts = mci_alloc(comm->nranks * sizeof *hosts); /* all alike on one host */
  if (!hosts) return mci_oom(comm->nranks * sizeof *hosts);
  bool sockets;
  meshcclResult_t result = only_sockets(&sockets);
  if (result == meshcclSuccess && mci_boot_spans(comm->boot))
    result = mci_boot_allgather(comm->boot, &mine, sizeof mine, hosts, comm->init_timeout_ns);
  if (result == meshcclSuccess) result = mci_discover_hosts(hosts, comm->nranks, sockets, &comm->topo);
  mci_free(hosts);
  return result;
}

static meshcclResult_t dump_topology(meshcclComm_t comm) {
  const char* path = mci_param_text(MCI_P_TOPO_DUMP);
  if (!path || comm->rank != 0) return meshcclSuccess;
  mci_str text = {0};
  meshcclResult_t result = mci_machine_print(comm->topo, &text);
  if (result == meshcclSuccess) result = mci_str_result(&text);
  FILE* file = result == meshcclSuccess ? fopen(path, "we") : NULL;
  bool written = file && fputs(text.text, file) >= 0;
  if (file) written = fclose(file) == 0 && written;
  if (result == meshcclSuccess && !written) MCI_WARN("MESHCCL_TOPO_DUMP=%s: %s", path, strerror(errno));
  mci_str_fini(&text);
  return result;
}

/* ---- one communicator -------------------------------------------------------------------------------------------- */

static meshcclResult_t introduce(void* self, uint32_t peer, const void* blob, size_t bytes) {
  meshcclComm_t comm = self;
  return mci_boot_send(comm->boot, (int)peer, MCI_BOOT_MEET, blob, bytes);
}

static void report(void* self, meshcclResult_t result, const char* text) {
  meshcclComm_t comm = self;
  mci_boot_report(comm->boot, (int)comm->rank, result, text);
}

static void keyed_hash(void* self, const char* purpose, const void* data, size_t bytes,
                       unsigned char out[MESHCCL_MAC_BYTES]) {
  mci_id_mac(&((meshcclComm_t)self)->id, purpose, data, bytes, out);
}

/* What must be equal on all ranks. */
static void agreement(meshcclComm_t comm, mci_str* text) {
  mci_str_add(text, "version=%d\n", MESHCCL_VERSION_CODE);
  mci_params_shared_text(text);
  mci_str_add(text, "topology=");
  if (comm->topo)
    mci_topo_print(comm->topo, text);
  else
    mci_str_add(text, "discovered");
  mci_str_add(text, "\ndevice=%s\n", comm->device->name);
}

static meshcclResult_t join(meshcclComm_t comm) {
  mci_str text = {0};
  agreement(comm, &text);
  meshcclResult_t result = mci_str_result(&text);
  mci_boot_options options = {.rank = (int)comm->rank,
                              .nranks = (int)comm->nranks,
                              .agree = text.text,
                              .timeout_ns = comm->init_timeout_ns,
                              .threadless = comm->threadless,
                              .name = comm->name,
                              .cancelled = &comm->aborted};
  if (result == meshcclSuccess) result = mci_boot_join(&comm->id, &options, &comm->boot);
  mci_str_fini(&text);
  return result;
}

static meshcclResult_t make_engine(meshcclComm_t comm) {
  mci_engine_options options = {.rank = comm->rank,
                                .nranks = comm->nranks,
                                .name = comm->name,
                                .device = comm->device,
                                .slice_bytes = mci_plan_slice_bytes(comm->nranks),
                                .credits = (uint32_t)mci_param_int(MCI_P_CREDITS),
                                .stall_ns = comm->op_timeout_ns,
                                .grace_ns = MCI_GRACE_NS,
                                .host = {.self = comm,
                                         .introduce = introduce,
                                         .report = report,
                                         .mac = keyed_hash,
                                         .trusted = mci_id_trusted(&comm->id),
                                         .stalled = mci_comm_stalled}};
  MCI_TRY(mci_transport_load());
  MCI_TRY(mci_transport_list(options.transports, &options.ntransports, MCI_COUNT(options.transports)));
  return mci_engine_create(&options, &comm->engine);
}

static uint64_t seconds_or(double seconds, mci_param_id id) {
  return (uint64_t)((seconds > 0 ? seconds : mci_param_seconds(id)) * 1e9);
}

static meshcclResult_t bring_up(meshcclComm_t comm, mci_start* start) {
  MCI_TRY(mci_params_check());
  const meshcclConfig_t* config = &start->config;
  comm->threadless =
      config->progressThread == 0 || (config->progressThread < 0 && !mci_param_int(MCI_P_PROGRESS_THREAD));
  comm->init_timeout_ns = seconds_or(config->initTimeout, MCI_P_INIT_TIMEOUT);
  comm->spin_ns = (uint32_t)mci_param_int(MCI_P_SPIN_US) * 1000;
  comm->op_timeout_ns = seconds_or(config->opTimeout, MCI_P_OP_TIMEOUT);
  MCI_TRY(mci_device_find(start->device, &comm->device));
  bool split = start->topo != NULL;
  MCI_TRY(make_topology(start, &comm->topo));
  MCI_TRY(join(comm));
  meshcclResult_t result = comm->topo ? meshcclSuccess : discover_topology(comm);
  if (result == meshcclSuccess && !split) result = dump_topology(comm);
  if (result == meshcclSuccess) result = make_engine(comm);
  if (result == meshcclSuccess) return result;
  char text[900]; /* the others have joined and count on this rank */
  if (mci_boot_status(comm->boot, text, sizeof text) != meshcclSuccess) return result; /* because of another one */
  snprintf(text, sizeof text, "rank %u could not start %s: %.700s", comm->rank, comm->name, mci_error_last());
  mci_boot_report(comm->boot, (int)comm->rank, meshcclRemoteError, text);
  return mci_fail(result, "%s", text);
}

static void start_free(mci_start* start) {
  if (!start) return;
  mci_topo_destroy(start->topo);
  mci_free(start->topology);
  mci_free(start->device);
  mci_free(start->rank_map);
  mci_free(start);
}

static void finish_start(meshcclComm_t comm) {
  meshcclResult_t result = bring_up(comm, comm->start);
  start_free(comm->start);
  comm->start = NULL;
  if (result != meshcclSuccess) mci_comm_set_error(comm, result, mci_error_last());
  if (result == meshcclSuccess) {
    comm->ready_ns = mci_now_ns();
    comm->ready_ticks = mci_ticks();
    atomic_store(&comm->left_ticks, comm->ready_ticks);
    mci_boot_set_status(comm->boot, mci_comm_status, comm);
    mci_runtime_add_comm(comm);
  }
  atomic_store(&comm->state, result == meshcclSuccess ? MCI_COMM_READY : MCI_COMM_BROKEN);
}

static void* starter(void* argument) {
  finish_start(argument);
  return NULL;
}

static meshcclResult_t copy_text(const char* text, char** out) {
  if (!text) return meshcclSuccess;
  *out = mci_strdup(text);
  return *out ? meshcclSuccess : mci_oom(strlen(text));
}

/* The caller's texts and map may be gone when a non-blocking start reads them. */
static meshcclResult_t copy_start(mci_start* given, mci_start** out) {
  mci_start* start = mci_alloc(sizeof *start);
  if (!start) {
    mci_topo_destroy(given->topo);
    return mci_oom(sizeof *start);
  }
  *start = *given;
  start->topology = start->device = NULL;
  start->rank_map = NULL;
  meshcclResult_t result;
  MCI_TRY_OR(copy_text(given->config.topology, &start->topology), err_start);
  MCI_TRY_OR(copy_text(given->config.device, &start->device), err_start);
  if (given->config.rankMap) {
    size_t bytes = given->nranks * sizeof *start->rank_map;
    start->rank_map = mci_alloc(bytes);
    MCI_TRY_OR(start->rank_map ? meshcclSuccess : mci_oom(bytes), err_start);
    memcpy(start->rank_map, given->config.rankMap, bytes);
  }
  *out = start;
  return meshcclSuccess;

err_start:
  start_free(start);
  return result;
}

static meshcclComm_t new_comm(const mci_start* start) {
  meshcclComm_t comm = mci_alloc(sizeof *comm);
  if (!comm) return NULL;
  comm->magic = MCI_COMM_MAGIC;
  mci_fork_watch();
  comm->fork_generation = mci_fork_generation();
  comm->rank = start->rank;
  comm->nranks = start->nranks;
  comm->id = start->id;
  snprintf(comm->name, sizeof comm->name, "%s", start->config.name ? start->config.name : "communicator");
  pthread_mutex_init(&comm->lock, NULL);
  return comm;
}

meshcclResult_t mci_comm_start(mci_start* given, bool blocking, meshcclComm_t* out) {
  mci_start* start = NULL;
  MCI_TRY(copy_start(given, &start));
  meshcclComm_t comm = new_comm(start);
  if (!comm) {
    start_free(start);
    return mci_oom(sizeof *comm);
  }
  comm->start = start;
  if (blocking) {
    finish_start(comm);
    meshcclResult_t result = comm->async_error;
    if (result != meshcclSuccess) {
      mci_comm_free(comm);
      return result;
    }
  } else if (pthread_create(&comm->starter, NULL, starter, comm) == 0) {
    comm->has_starter = true;
  } else {
    start_free(comm->start);
    comm->start = NULL;
    mci_comm_free(comm);
    MCI_FAIL(meshcclSystemError, "a thread for non-blocking init could not be started");
  }
  *out = comm;
  return blocking ? meshcclSuccess : meshcclInProgress;
}

void mci_comm_free(meshcclComm_t comm) {
  mci_runtime_remove_comm(comm);
  if (comm->boot) mci_boot_set_status(comm->boot, NULL, NULL);
  mci_engine_destroy(comm->engine);
  mci_plans_free(comm);
  mci_boot_leave(comm->boot);
  mci_topo_destroy(comm->topo);
  for (mci_call* call = comm->free_calls; call;) {
    mci_call* next = call->next;
    mci_free(call);
    call = next;
  }
  for (int coll = 0; coll < MCI_NUM_COLLS; coll++) mci_free(comm->kept[coll]);
  mci_free(comm->user_ops);
  pthread_mutex_destroy(&comm->lock);
  comm->magic = 0;
  mci_free(comm);
}

/* ---- public ------------------------------------------------------------------------------------------------------ */

static meshcclResult_t start_rank(meshcclComm_t* comm, int nranks, const mci_id* id, int rank,
                                  const meshcclConfig_t* config) {
  if (!comm) MCI_FAIL(meshcclInvalidArgument, "meshcclCommInitRank: comm is NULL");
  if (nranks < 1) MCI_FAIL(meshcclInvalidArgument, "meshcclCommInitRank: nranks is %d, at least 1 is needed", nranks);
  if (rank < 0 || rank >= nranks)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommInitRank: rank %d is outside 0..%d", rank, nranks - 1);
  MCI_TRY(mci_id_check(id));
  mci_start start = {.id = *id, .rank = (uint32_t)rank, .nranks = (uint32_t)nranks};
  MCI_TRY(mci_config_check(config, &start.config));
  bool blocking = start.config.blocking != 0;
  if (blocking && mci_group_open()) return mci_group_add_start(&start, comm);
  return mci_comm_start(&start, blocking, comm);
}

/* A start that is refused inside a group keeps the others of the group from waiting for it. */
static meshcclResult_t init_rank(meshcclComm_t* comm, int nranks, const mci_id* id, int rank,
                                 const meshcclConfig_t* config) {
  meshcclResult_t result = start_rank(comm, nranks, id, rank, config);
  if (result != meshcclSuccess && result != meshcclInProgress) mci_group_error(result);
  return result;
}

meshcclResult_t meshcclCommInitRankConfig(meshcclComm_t* comm, int nranks, meshcclUniqueId id, int rank,
                                          meshcclConfig_t* config) {
  mci_id inner;
  memcpy(&inner, &id, sizeof inner);
  return init_rank(comm, nranks, &inner, rank, config);
}

meshcclResult_t meshcclCommInitRank(meshcclComm_t* comm, int nranks, meshcclUniqueId id, int rank) {
  return meshcclCommInitRankConfig(comm, nranks, id, rank, NULL);
}

meshcclResult_t meshcclCommInitEnv(meshcclComm_t* comm, meshcclConfig_t* config) {
  mci_boot_env env;
  MCI_TRY(mci_boot_env_read(&env));
  return init_rank(comm, env.nranks, &env.id, env.rank, config);
}

meshcclResult_t meshcclCommInitAll(meshcclComm_t* comms, int ndev, const int* devlist) {
  if (!comms || ndev < 1)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommInitAll: comms is NULL or ndev is %d (at least 1)", ndev);
  for (int i = 0; devlist && i < ndev; i++)
    if (devlist[i] != i)
      MCI_FAIL(meshcclInvalidArgument, "meshcclCommInitAll: devlist[%d] is %d; only 0..%d in order is supported", i,
               devlist[i], ndev - 1);
  meshcclUniqueId id;
  MCI_TRY(meshcclGetUniqueId(&id));
  MCI_TRY(meshcclGroupStart());
  meshcclResult_t result = meshcclSuccess;
  for (int i = 0; i < ndev && result == meshcclSuccess; i++) result = meshcclCommInitRank(&comms[i], ndev, id, i);
  meshcclResult_t ended = meshcclGroupEnd();
  return result != meshcclSuccess ? result : ended;
}
