/* The table of devices: plugins and tests enter by mci_device_register, the host device is always there. */
#include <stdio.h>
#include <string.h>

#include "base/globals.h"
#include "device/device.h"

static meshcclResult_t check_table(const meshcclDevice_t* device) {
  if (device->abi != MESHCCL_DEVICE_ABI)
    MCI_FAIL(meshcclInvalidArgument,
             "a device plugin has ABI %u, this library has %u: build the plugin with its headers", device->abi,
             MESHCCL_DEVICE_ABI);
  if (device->size < sizeof *device)
    MCI_FAIL(meshcclInvalidArgument,
             "a device plugin's table has %u bytes, this library's has %zu: set size to sizeof(meshcclDevice_t)",
             device->size, sizeof *device);
  if (!device->name || !device->name[0]) MCI_FAIL(meshcclInvalidArgument, "a device plugin has no name: set name");
  const struct {
    const char* name;
    bool there;
  } slots[] = {{"open", device->open != NULL},   {"close", device->close != NULL},
               {"alloc", device->alloc != NULL}, {"free", device->free != NULL},
               {"fold", device->fold != NULL},   {"copy", device->copy != NULL},
               {"poll", device->poll != NULL},   {"hostAccessible", device->hostAccessible != NULL}};
  for (size_t i = 0; i < MCI_COUNT(slots); i++) {
    if (!slots[i].there)
      MCI_FAIL(meshcclInvalidArgument, "device \"%s\" has no %s: every slot is required", device->name, slots[i].name);
  }
  return meshcclSuccess;
}

/* Of the registered ones; with the lock held. */
static const meshcclDevice_t* lookup(const char* name) {
  for (int i = 0; i < mci_globals.ndevices; i++) {
    const meshcclDevice_t* device = mci_globals.devices[i];
    if (strcmp(device->name, name) == 0) return device;
  }
  return NULL;
}

meshcclResult_t mci_device_register(const meshcclDevice_t* device) {
  MCI_TRY(check_table(device));
  pthread_mutex_lock(&mci_globals.lock);
  bool taken = strcmp(device->name, mci_device_host.name) == 0 || lookup(device->name);
  bool full = mci_globals.ndevices == MCI_MAX_PLUGINS;
  if (!taken && !full) mci_globals.devices[mci_globals.ndevices++] = device;
  pthread_mutex_unlock(&mci_globals.lock);
  if (taken)
    MCI_FAIL(meshcclInvalidArgument, "a device \"%s\" is registered already: choose another name", device->name);
  if (full)
    MCI_FAIL(meshcclInvalidArgument, "device \"%s\": %d devices are registered, more cannot be", device->name,
             MCI_MAX_PLUGINS);
  return meshcclSuccess;
}

meshcclResult_t mci_device_find(const char* name, const meshcclDevice_t** out) {
  if (!name || strcmp(name, mci_device_host.name) == 0) {
    *out = &mci_device_host;
    return meshcclSuccess;
  }
  char known[512];
  pthread_mutex_lock(&mci_globals.lock);
  const meshcclDevice_t* device = lookup(name);
  size_t used = (size_t)snprintf(known, sizeof known, "%s", mci_device_host.name);
  for (int i = 0; i < mci_globals.ndevices && used < sizeof known; i++) {
    const meshcclDevice_t* other = mci_globals.devices[i];
    used += (size_t)snprintf(known + used, sizeof known - used, ", %s", other->name);
  }
  pthread_mutex_unlock(&mci_globals.lock);
  if (!device) MCI_FAIL(meshcclNotSupported, "no device \"%s\"; known: %s", name, known);
  *out = device;
  return meshcclSuccess;
}
