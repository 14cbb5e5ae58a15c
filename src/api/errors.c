/* Version, error strings and the last message: what works without a communicator. */
#include "base/base.h"
#include "meshccl/meshccl.h"

meshcclResult_t meshcclGetVersion(int* version) {
  if (!version) MCI_FAIL(meshcclInvalidArgument, "meshcclGetVersion: version is NULL");
  *version = MESHCCL_VERSION_CODE;
  return meshcclSuccess;
}

const char* meshcclGetErrorString(meshcclResult_t result) { return mci_result_text(result); }
