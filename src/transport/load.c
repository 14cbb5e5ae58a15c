/* Brings transports into the registry: first those linked in, then the plugins of MESHCCL_PLUGIN. May be called by
 * every communicator and after a failure: what is registered already is passed over. A plugin stays loaded for the life
 * of the process, because its table is in use. */
#include <dlfcn.h>
#include <string.h>

#include "base/globals.h"
#include "transport/builtin.h"
#include "transport/internal.h"
#include "transport/registry.h"

static const meshcclTransport_t* const builtins[] = {
    &mci_transport_self, &mci_transport_shm, &mci_transport_tcp,
#ifdef MESHCCL_HAVE_UCX
    &mci_transport_ucx,
#endif
#ifdef MESHCCL_HAVE_MPI
    &mci_transport_mpi,
#endif
};

static meshcclResult_t register_plugin(void* library, const char* path) {
  meshcclTransportPlugin_t plugin;
  void* symbol = dlsym(library, "meshcclTransportPlugin");
  if (!symbol)
    MCI_FAIL(meshcclInvalidArgument, "MESHCCL_PLUGIN: %s does not export meshcclTransportPlugin; is it a transport?",
             path);
  memcpy(&plugin, &symbol, sizeof plugin);
  const meshcclTransport_t* table = plugin();
  if (table && table->abi == MESHCCL_TRANSPORT_ABI && table->name && mci_transport_has(table)) return meshcclSuccess;
  return mci_transport_add(table);
}

static meshcclResult_t load_plugin(const char* path) {
  if (path[0] != '/')
    MCI_FAIL(meshcclInvalidArgument, "MESHCCL_PLUGIN: \"%s\" is not an absolute path; plugins are not searched for",
             path);
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) MCI_FAIL(meshcclInvalidArgument, "MESHCCL_PLUGIN: %s", dlerror());
  meshcclResult_t result = register_plugin(library, path);
  if (result != meshcclSuccess) dlclose(library);
  return result;
}

static meshcclResult_t load_all(const char* plugins) {
  for (size_t i = 0; i < MCI_COUNT(builtins); i++)
    if (!mci_transport_has(builtins[i])) MCI_TRY(mci_transport_add(builtins[i]));
  char path[4096];
  for (const char* p = plugins; p && *p;) {
    size_t length = strcspn(p, ":");
    if (length >= sizeof path)
      MCI_FAIL(meshcclInvalidArgument, "MESHCCL_PLUGIN: a path of %zu bytes is too long; at most %zu", length,
               sizeof path - 1);
    memcpy(path, p, length);
    path[length] = 0;
    if (length > 0) MCI_TRY(load_plugin(path));
    p += length + (p[length] == ':');
  }
  return meshcclSuccess;
}

meshcclResult_t mci_transport_load(void) {
  const char* plugins = mci_param_text(MCI_P_PLUGIN);
  pthread_mutex_lock(&mci_globals.plugins_lock);
  meshcclResult_t result = load_all(plugins);
  pthread_mutex_unlock(&mci_globals.plugins_lock);
  return result;
}

bool mci_transport_is_builtin(const meshcclTransport_t* transport) {
  for (size_t i = 0; i < MCI_COUNT(builtins); i++)
    if (builtins[i]->open == transport->open) return true;
  return false;
}
