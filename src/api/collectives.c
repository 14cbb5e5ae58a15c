/* The public collectives and point to point calls: arguments are checked here, then all go the same way (issue.c). */
#include "api/comm.h"
#include "kernels/kernels.h"

void mci_call_extents(const mci_request_call* request, uint32_t rank, uint32_t nranks, uint64_t* in, uint64_t* out) {
  if (request->coll == MCI_SEND_RECV) {
    *in = request->is_send ? request->count : 0;
    *out = request->is_send ? 0 : request->count;
    return;
  }
  mci_coll_buffers_t buffers = mci_coll_buffers(request->coll, rank, request->root);
  uint64_t whole = mci_coll_block_major(request->coll) ? request->count * nranks : request->count;
  *in = !buffers.in_used ? 0 : buffers.in_one_block ? request->count : whole;
  *out = !buffers.out_used ? 0 : buffers.out_one_block ? request->count : whole;
}

/* In place as NCCL means it: the block that the rank owns of the larger buffer, or the same buffer. */
static bool in_place(const mci_request_call* request, uint32_t rank, uint64_t type_size) {
  const char *in = request->in, *out = request->out;
  uint64_t own = rank * request->count * type_size;
  switch (request->coll) {
    case MCI_ALL_GATHER:
    case MCI_GATHER:
      return in == out + own;
    case MCI_REDUCE_SCATTER:
    case MCI_SCATTER:
      return out == in + own;
    case MCI_ALL_TO_ALL:
      return false;
    default:
      return in == out;
  }
}

static meshcclResult_t check_buffers(const mci_request_call* request, uint32_t rank, uint32_t nranks) {
  uint64_t in, out, size = mci_type_size(request->type);
  if (request->count > (uint64_t)INT64_MAX / 64 / nranks)
    MCI_FAIL(meshcclInvalidArgument, "%s: count %llu is too large for %u ranks", request->function,
             (unsigned long long)request->count, nranks);
  mci_call_extents(request, rank, nranks, &in, &out);
  if (in && !request->in) MCI_FAIL(meshcclInvalidArgument, "%s: sendbuff is NULL", request->function);
  if (out && !request->out) MCI_FAIL(meshcclInvalidArgument, "%s: recvbuff is NULL", request->function);
  if (!in || !out || in_place(request, rank, size)) return meshcclSuccess;
  uintptr_t in_at = (uintptr_t)request->in, out_at = (uintptr_t)request->out;
  if (in_at < out_at + out * size && out_at < in_at + in * size)
    MCI_FAIL(meshcclInvalidArgument,
             "%s: sendbuff and recvbuff overlap, but not as the in-place rule of this call allows", request->function);
  return meshcclSuccess;
}

meshcclResult_t mci_call_check(meshcclComm_t comm, const mci_request_call* request) {
  if (request->type < 0 || request->type >= meshcclNumTypes)
    MCI_FAIL(meshcclInvalidArgument, "%s: datatype %d is not one of 0..%d", request->function, (int)request->type,
             meshcclNumTypes - 1);
  if (request->op < 0)
    MCI_FAIL(meshcclInvalidArgument, "%s: operator %d is negative", request->function, (int)request->op);
  bool peer = request->coll == MCI_SEND_RECV;
  if ((peer || mci_coll_rooted(request->coll)) && request->root >= comm->nranks)
    MCI_FAIL(meshcclInvalidArgument, "%s: %s %d is outside 0..%u", request->function, peer ? "peer" : "root",
             (int)request->root, comm->nranks - 1);
  return check_buffers(request, comm->rank, comm->nranks);
}

static meshcclResult_t call(meshcclComm_t comm, const mci_request_call* request, meshcclStream_t stream) {
  meshcclResult_t result = mci_comm_enter(comm, request->function);
  if (result == meshcclSuccess) {
    result = mci_issue(comm, request, stream);
    mci_comm_leave(comm);
  }
  if (result != meshcclSuccess) mci_group_error(result);
  return result;
}

meshcclResult_t meshcclAllReduce(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype,
                                 meshcclRedOp_t op, meshcclComm_t comm, meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclAllReduce",
                              .coll = MCI_ALL_REDUCE,
                              .in = sendbuff,
                              .out = recvbuff,
                              .count = count,
                              .type = datatype,
                              .op = op};
  return call(comm, &request, stream);
}

meshcclResult_t meshcclReduce(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype,
                              meshcclRedOp_t op, int root, meshcclComm_t comm, meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclReduce",
                              .coll = MCI_REDUCE,
                              .in = sendbuff,
                              .out = recvbuff,
                              .count = count,
                              .type = datatype,
                              .op = op,
                              .root = (uint32_t)root};
  return call(comm, &request, stream);
}

meshcclResult_t meshcclBroadcast(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype,
                                 int root, meshcclComm_t comm, meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclBroadcast",
                              .coll = MCI_BROADCAST,
                              .in = sendbuff,
                              .out = recvbuff,
                              .count = count,
                              .type = datatype,
                              .root = (uint32_t)root};
  return call(comm, &request, stream);
}

meshcclResult_t meshcclBcast(void* buff, size_t count, meshcclDataType_t datatype, int root, meshcclComm_t comm,
                             meshcclStream_t stream) {
  return meshcclBroadcast(buff, buff, count, datatype, root, comm, stream);
}

meshcclResult_t meshcclReduceScatter(const void* sendbuff, void* recvbuff, size_t recvcount, meshcclDataType_t datatype,
                                     meshcclRedOp_t op, meshcclComm_t comm, meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclReduceScatter",
                              .coll = MCI_REDUCE_SCATTER,
                              .in = sendbuff,
                              .out = recvbuff,
                              .count = recvcount,
                              .type = datatype,
                              .op = op};
  return call(comm, &request, stream);
}

meshcclResult_t meshcclAllGather(const void* sendbuff, void* recvbuff, size_t sendcount, meshcclDataType_t datatype,
                                 meshcclComm_t comm, meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclAllGather",
                              .coll = MCI_ALL_GATHER,
                              .in = sendbuff,
                              .out = recvbuff,
                              .count = sendcount,
                              .type = datatype};
  return call(comm, &request, stream);
}

meshcclResult_t meshcclAlltoAll(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype,
                                meshcclComm_t comm, meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclAlltoAll",
                              .coll = MCI_ALL_TO_ALL,
                              .in = sendbuff,
                              .out = recvbuff,
                              .count = count,
                              .type = datatype};
  return call(comm, &request, stream);
}

meshcclResult_t meshcclGather(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype, int root,
                              meshcclComm_t comm, meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclGather",
                              .coll = MCI_GATHER,
                              .in = sendbuff,
                              .out = recvbuff,
                              .count = count,
                              .type = datatype,
                              .root = (uint32_t)root};
  return call(comm, &request, stream);
}

meshcclResult_t meshcclScatter(const void* sendbuff, void* recvbuff, size_t count, meshcclDataType_t datatype, int root,
                               meshcclComm_t comm, meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclScatter",
                              .coll = MCI_SCATTER,
                              .in = sendbuff,
                              .out = recvbuff,
                              .count = count,
                              .type = datatype,
                              .root = (uint32_t)root};
  return call(comm, &request, stream);
}

meshcclResult_t meshcclBarrier(meshcclComm_t comm, meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclBarrier", .coll = MCI_BARRIER};
  return call(comm, &request, stream);
}

meshcclResult_t meshcclSend(const void* sendbuff, size_t count, meshcclDataType_t datatype, int peer,
                            meshcclComm_t comm, meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclSend",
                              .coll = MCI_SEND_RECV,
                              .in = sendbuff,
                              .count = count,
                              .type = datatype,
                              .root = (uint32_t)peer,
                              .is_send = true};
  return call(comm, &request, stream);
}

meshcclResult_t meshcclRecv(void* recvbuff, size_t count, meshcclDataType_t datatype, int peer, meshcclComm_t comm,
                            meshcclStream_t stream) {
  mci_request_call request = {.function = "meshcclRecv",
                              .coll = MCI_SEND_RECV,
                              .out = recvbuff,
                              .count = count,
                              .type = datatype,
                              .root = (uint32_t)peer};
  return call(comm, &request, stream);
}
