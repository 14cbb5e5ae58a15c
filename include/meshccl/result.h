/* Result codes, element types and reduction operators shared by the public API and the plugin tables.
 * Values 0..8 of the results, all types and the built-in operators equal NCCL's, so that porting is a change of prefix. */
#ifndef MESHCCL_RESULT_H
#define MESHCCL_RESULT_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  meshcclSuccess = 0,
  meshcclUnhandledDeviceError = 1, /* a device plugin failed */
  meshcclSystemError = 2,          /* the operating system refused: memory, files, sockets */
  meshcclInternalError = 3,        /* a bug in meshccl */
  meshcclInvalidArgument = 4,      /* an argument is wrong by itself */
  meshcclInvalidUsage = 5,         /* the call does not fit the state, or the ranks' calls differ */
  meshcclRemoteError = 6,          /* another rank died, aborted or reported an error */
  meshcclInProgress = 7,           /* started, not finished */
  meshcclTimeout = 8,              /* a limit passed without progress */
  meshcclNotSupported = 9,         /* this build, transport or device cannot do it */
  meshcclBusy = 10,                /* back-pressure between transports and executor: try again after progress */
  meshcclNumResults = 11
} meshcclResult_t;

typedef enum {
  meshcclInt8 = 0,
  meshcclChar = 0,
  meshcclUint8 = 1,
  meshcclInt32 = 2,
  meshcclInt = 2,
  meshcclUint32 = 3,
  meshcclInt64 = 4,
  meshcclUint64 = 5,
  meshcclFloat16 = 6,
  meshcclHalf = 6,
  meshcclFloat32 = 7,
  meshcclFloat = 7,
  meshcclFloat64 = 8,
  meshcclDouble = 8,
  meshcclBfloat16 = 9,
  meshcclFloat8e4m3 = 10, /* no infinity; conversions round to nearest even and saturate at 448 */
  meshcclFloat8e5m2 = 11, /* conversions round to nearest even and saturate at 57344 */
  meshcclNumTypes = 12
} meshcclDataType_t;

typedef enum {
  meshcclSum = 0,
  meshcclProd = 1,
  meshcclMax = 2,
  meshcclMin = 3,
  meshcclAvg = 4, /* sum, then one division: floats round once, integers truncate toward zero */
  meshcclNumOps = 5,
  meshcclMaxRedOp = 0x7fffffff /* handles from meshcclRedOpCreatePreMulSum lie between */
} meshcclRedOp_t;

#ifdef __cplusplus
}
#endif
#endif
