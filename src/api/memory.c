/* Public memory and user operators. */
#include <string.h>

#include "api/comm.h"
#include "kernels/kernels.h"

meshcclResult_t meshcclMemAlloc(void** ptr, size_t size) {
  if (!ptr) MCI_FAIL(meshcclInvalidArgument, "meshcclMemAlloc: ptr is NULL");
  struct mci_shared_region region;
  MCI_TRY(mci_shared_alloc(size, &region));
  *ptr = region.base;
  return meshcclSuccess;
}

meshcclResult_t meshcclMemFree(void* ptr) { return ptr ? mci_shared_free(ptr) : meshcclSuccess; }

/* No transport keeps mappings of foreign memory today, so a registration is only checked and counted. */
meshcclResult_t meshcclCommRegister(meshcclComm_t comm, void* buffer, size_t size, void** handle) {
  MCI_TRY(mci_comm_enter(comm, "meshcclCommRegister"));
  mci_comm_leave(comm);
  if (!buffer || !size || !handle)
    MCI_FAIL(meshcclInvalidArgument, "meshcclCommRegister: buffer or handle is NULL, or size is 0");
  *handle = buffer;
  return meshcclSuccess;
}

meshcclResult_t meshcclCommDeregister(meshcclComm_t comm, void* handle) {
  MCI_TRY(mci_comm_enter(comm, "meshcclCommDeregister"));
  mci_comm_leave(comm);
  if (!handle) MCI_FAIL(meshcclInvalidArgument, "meshcclCommDeregister: handle is NULL");
  return meshcclSuccess;
}

static meshcclResult_t create_op(meshcclComm_t comm, const void* scalar, meshcclDataType_t datatype,
                                 meshcclRedOp_t* op) {
  uint32_t index = 0;
  while (index < comm->nuser_ops && comm->user_ops[index].live) index++;
  MCI_TRY(mci_grow(&comm->user_ops, sizeof *comm->user_ops, &comm->cap_user_ops, (size_t)index + 1));
  mci_user_op* user = &comm->user_ops[index];
  *user = (mci_user_op){.live = true, .type = datatype};
  memcpy(&user->scalar, scalar, mci_type_size(datatype));
  comm->nuser_ops = MCI_MAX(comm->nuser_ops, index + 1);
  *op = (meshcclRedOp_t)(meshcclNumOps + index);
  return meshcclSuccess;
}

meshcclResult_t meshcclRedOpCreatePreMulSum(meshcclRedOp_t* op, void* scalar, meshcclDataType_t datatype,
                                            meshcclScalarResidence_t residence, meshcclComm_t comm) {
  MCI_TRY(mci_comm_enter(comm, "meshcclRedOpCreatePreMulSum"));
  meshcclResult_t result;
  if (!op || !scalar || datatype < 0 || datatype >= meshcclNumTypes) {
    result = mci_fail(meshcclInvalidArgument,
                      "meshcclRedOpCreatePreMulSum: op or scalar is NULL, or datatype %d is unknown", (int)datatype);
  } else if (residence != meshcclScalarHostImmediate && strcmp(comm->device->name, "host") != 0) {
    result = mci_fail(meshcclNotSupported,
                      "meshcclRedOpCreatePreMulSum: only host scalars are supported (meshcclScalarHostImmediate)");
  } else {
    pthread_mutex_lock(&comm->lock);
    result = create_op(comm, scalar, datatype, op);
    pthread_mutex_unlock(&comm->lock);
  }
  mci_comm_leave(comm);
  return result;
}

meshcclResult_t meshcclRedOpDestroy(meshcclRedOp_t op, meshcclComm_t comm) {
  MCI_TRY(mci_comm_enter(comm, "meshcclRedOpDestroy"));
  pthread_mutex_lock(&comm->lock);
  uint32_t index = (uint32_t)op - meshcclNumOps;
  bool known = op >= meshcclNumOps && index < comm->nuser_ops && comm->user_ops[index].live;
  if (known) comm->user_ops[index].live = false;
  pthread_mutex_unlock(&comm->lock);
  mci_comm_leave(comm);
  if (!known)
    MCI_FAIL(meshcclInvalidArgument, "meshcclRedOpDestroy: operator %d was not made by this communicator", (int)op);
  return meshcclSuccess;
}
