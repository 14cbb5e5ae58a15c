/* Registry of devices and the built-in host device. Plugins and tests enter through the same register function. */
#ifndef MCI_DEVICE_H
#define MCI_DEVICE_H

#include "base/base.h"
#include "meshccl/device.h"

extern const meshcclDevice_t mci_device_host;
/* InvalidArgument: ABI number (both are named), missing slot, or a name that is taken. */
meshcclResult_t mci_device_register(const meshcclDevice_t* device);
/* NULL or "host": the host device. NotSupported lists the known names. */
meshcclResult_t mci_device_find(const char* name, const meshcclDevice_t** out);
#endif
