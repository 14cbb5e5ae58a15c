/* See pmix.h. The declarations below are the few of the PMIx ABI (version 2 and later, always the same) that are needed
 * here; a test compares them with the header where it is installed. Values only travel one at a time and are made by
 * the side that knows their whole size, so that their tail does not matter. */
#include "boot/pmix.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/globals.h"
#include "boot/pmix_abi.h"

typedef struct {
  int (*init)(mci_pmix_proc* me, mci_pmix_info* info, size_t n);
  int (*finalize)(const mci_pmix_info* info, size_t n);
  int (*get)(const mci_pmix_proc* of, const char* key, const mci_pmix_info* info, size_t n, mci_pmix_value** out);
  int (*put)(uint8_t scope, const char* key, mci_pmix_value* value);
  int (*commit)(void);
  int (*fence)(const mci_pmix_proc* procs, size_t nprocs, const mci_pmix_info* info, size_t n);
  const char* (*text)(int status);
} pmix;

bool mci_pmix_started(void) { return mci_env("PMIX_NAMESPACE") && mci_env("PMIX_RANK"); }

static meshcclResult_t open_library(pmix* out) {
  pmix p = {.init = NULL};
  static const char* const names[] = {"PMIx_Init",   "PMIx_Finalize", "PMIx_Get",         "PMIx_Put",
                                      "PMIx_Commit", "PMIx_Fence",    "PMIx_Error_string"};
  void* const slots[] = {&p.init, &p.finalize, &p.get, &p.put, &p.commit, &p.fence, &p.text};
  void* library = dlopen(MCI_PMIX_LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) MCI_FAIL(meshcclNotSupported, "%s", dlerror());
  for (size_t i = 0; i < MCI_COUNT(names); i++) {
    void* symbol = dlsym(library, names[i]);
    if (!symbol) MCI_FAIL(meshcclNotSupported, "%s lacks %s", MCI_PMIX_LIBRARY, names[i]);
    memcpy(slots[i], &symbol, sizeof symbol);
  }
  *out = p;
  return meshcclSuccess;
}

static meshcclResult_t check(const pmix* p, int status, const char* what) {
  if (status != 0) MCI_FAIL(meshcclSystemError, "PMIx: %s: %s", what, p->text(status));
  return meshcclSuccess;
}

/* A number; the server chooses its type. */
static meshcclResult_t get_number(const pmix* p, const mci_pmix_proc* of, const char* key, int* out) {
  mci_pmix_value* value = NULL;
  MCI_TRY(check(p, p->get(of, key, NULL, 0, &value), key));
  uint64_t number = UINT64_MAX;
  if (value->type == MCI_PMIX_UINT32) number = value->data.uint32;
  if (value->type == MCI_PMIX_UINT16) number = value->data.uint16;
  free(value);
  if (number >= INT32_MAX) MCI_FAIL(meshcclSystemError, "PMIx: %s is no number that is understood", key);
  *out = (int)number;
  return meshcclSuccess;
}

/* Asked for once per process: a library that was finalized and initialized again no longer knows. */
static meshcclResult_t get_place(const pmix* p, const mci_pmix_proc* me, const mci_pmix_proc* all, mci_boot_env* env) {
  static const char* const keys[] = {"pmix.job.size", "pmix.local.size", "pmix.lrank"};
  int place[MCI_COUNT(keys)];
  for (size_t i = 0; i < MCI_COUNT(keys); i++) {
    place[i] = atomic_load(&mci_globals.pmix_place[i]) - 1; /* 0: not known */
    if (place[i] < 0) MCI_TRY(get_number(p, i == 2 ? me : all, keys[i], &place[i]));
    atomic_store(&mci_globals.pmix_place[i], place[i] + 1);
  }
  env->rank = (int)me->rank;
  env->nranks = place[0];
  env->local_size = place[1];
  env->local_rank = place[2];
  if (me->rank >= (uint32_t)env->nranks)
    MCI_FAIL(meshcclSystemError, "PMIx: rank %u of a job of %d processes", me->rank, env->nranks);
  return meshcclSuccess;
}

static meshcclResult_t put_id(const pmix* p, const char* key, const mci_id* id) {
  mci_str text = {0};
  mci_id_print(id, &text);
  meshcclResult_t result = mci_str_result(&text);
  mci_pmix_value value = {.type = MCI_PMIX_STRING, .data.string = text.text};
  if (result == meshcclSuccess) result = check(p, p->put(MCI_PMIX_GLOBAL, key, &value), "put");
  if (result == meshcclSuccess) result = check(p, p->commit(), "commit");
  mci_str_fini(&text);
  return result;
}

static meshcclResult_t fence(const pmix* p) {
  mci_pmix_info info[2] = {
      {.key = "pmix.collect", .value = {.type = MCI_PMIX_BOOL, .data.flag = true}},
      {.key = "pmix.timeout",
       .value = {.type = MCI_PMIX_INT, .data.integer = (int)mci_param_seconds(MCI_P_INIT_TIMEOUT) + 1}}};
  return check(p, p->fence(NULL, 0, info, MCI_COUNT(info)), "fence (all processes of the job must take part)");
}

static meshcclResult_t get_id(const pmix* p, mci_pmix_proc root, const char* key, mci_id* out) {
  mci_pmix_value* value = NULL;
  root.rank = 0;
  MCI_TRY(check(p, p->get(&root, key, NULL, 0, &value), "get of rank 0's id"));
  bool is_text = value->type == MCI_PMIX_STRING && value->data.string;
  meshcclResult_t result =
      is_text ? mci_id_parse(value->data.string, out) : mci_fail(meshcclSystemError, "PMIx: rank 0's id is no text");
  if (is_text) free(value->data.string);
  free(value);
  return result;
}

/* Every meeting has a key of its own, since what was put stays. All ranks fence, also one that failed before. */
static meshcclResult_t exchange(const pmix* p, const mci_pmix_proc* me, meshcclResult_t (*make)(mci_id* out),
                                mci_id* id) {
  char key[64];
  snprintf(key, sizeof key, "meshccl.id.%u", atomic_fetch_add(&mci_globals.pmix_meetings, 1));
  meshcclResult_t result = meshcclSuccess;
  if (me->rank == 0) result = make(id);
  if (me->rank == 0 && result == meshcclSuccess) result = put_id(p, key, id);
  meshcclResult_t fenced = fence(p);
  if (result == meshcclSuccess) result = fenced;
  if (me->rank != 0 && result == meshcclSuccess) result = get_id(p, *me, key, id);
  return result;
}

meshcclResult_t mci_pmix_meet(meshcclResult_t (*make)(mci_id* out), mci_boot_env* out) {
  pmix p = {.init = NULL};
  MCI_TRY(open_library(&p));
  mci_pmix_proc me = {.rank = 0}, all;
  int status = p.init(&me, NULL, 0);
  if (status != 0) MCI_FAIL(meshcclNotSupported, "PMIx: the server does not answer: %s", p.text(status));
  all = me;
  all.rank = MCI_PMIX_WILDCARD;
  mci_boot_env env = {.source = "PMIx"};
  meshcclResult_t result = get_place(&p, &me, &all, &env);
  if (result == meshcclSuccess) result = exchange(&p, &me, make, &env.id);
  p.finalize(NULL, 0);
  if (result == meshcclSuccess)
    MCI_INFO("PMIx: rank %d of %d, local rank %d of %d", env.rank, env.nranks, env.local_rank, env.local_size);
  if (result == meshcclSuccess) *out = env;
  return result;
}
