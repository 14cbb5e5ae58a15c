/* The table of a kind of memory. Host memory is built in; accelerators are plugins.
 *
 * The executor never dereferences user buffers: it asks the device to copy and to fold. Staging memory (allocStaging) is
 * readable and writable by the host, by the device and, where the transport can map memory, by peers of the host.
 * Start functions never block. They finish at once (Success) or later (InProgress and a token to poll). Tokens may
 * finish in any order. Every slot may be called from any thread, one at a time per context. */
#ifndef MESHCCL_DEVICE_H
#define MESHCCL_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "meshccl/result.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MESHCCL_DEVICE_ABI 1
#define MESHCCL_MAX_FOLD_SOURCES 64
#define MESHCCL_MAX_FOLD_DESTINATIONS 8

enum {
  MESHCCL_FOLD_WIDE = 1,  /* accumulate 16- and 8-bit floats in float32 and round once, when stored */
  MESHCCL_FOLD_FINISH = 2 /* the result is complete: apply the operator's last step (avg: divide by `divisor`) */
};

/* destinations[*][i] = sources[0][i] op sources[1][i] op ..., left to right, i < count. One source: a copy (with its
 * scale). A destination may be equal to a source; partial overlap is not allowed. Elements need only byte alignment. */
typedef struct {
  void* const* destinations;
  const void* const* sources;
  int ndestinations, nsources;
  size_t count; /* elements */
  meshcclDataType_t type;
  meshcclRedOp_t op; /* Sum, Prod, Max, Min, Avg */
  uint32_t flags;    /* MESHCCL_FOLD_* */
  uint32_t divisor;  /* for Avg with FINISH */
  uint64_t scaled;   /* bit k: source k is multiplied by *scale before it enters (PreMulSum) */
  const void* scale; /* one element of `type`, host memory; NULL when scaled is 0 */
  uint64_t streamed; /* bit k: nobody here reads destination k soon, so it may bypass the processor's caches */
} meshcclFold_t;

typedef struct {
  uint32_t abi, size;
  const char* name;
  meshcclResult_t (*open)(void** ctx);
  void (*close)(void* ctx);
  /* User memory of this device. */
  meshcclResult_t (*alloc)(void* ctx, size_t size, void** ptr);
  void (*free)(void* ctx, void* ptr);
  /* Start a fold. Success: done. InProgress: *token is set, poll it. The struct and its arrays are read before return. */
  meshcclResult_t (*fold)(void* ctx, const meshcclFold_t* fold, uint64_t* token);
  /* Start a byte copy between any two of: device memory, staging memory, host memory. Results as fold. */
  meshcclResult_t (*copy)(void* ctx, void* dst, const void* src, size_t bytes, uint64_t* token);
  /* Success: the token is done and gone. InProgress: not yet. Other: the work failed, the token is gone. */
  meshcclResult_t (*poll)(void* ctx, uint64_t token);
  /* 1 when the host may load and store through ptr. Then transports may send from and receive into it directly. */
  int (*hostAccessible)(void* ctx, const void* ptr);
} meshcclDevice_t;

#ifdef __cplusplus
}
#endif
#endif
