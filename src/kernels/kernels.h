/* Folds on host memory: a portable reference for all 12 types and all operators, and overrides per processor behind one
 * dispatch table. MESHCCL_KERNELS forces a set. Every set gives the reference's bits. */
#ifndef MCI_KERNELS_H
#define MCI_KERNELS_H

#include "base/base.h"
#include "meshccl/device.h"

size_t mci_type_size(meshcclDataType_t type);
const char* mci_type_name(
    meshcclDataType_t type); /* int8 uint8 int32 uint32 int64 uint64 half float double bfloat16 f8e4m3 f8e5m2 */
bool mci_type_parse(const char* name, meshcclDataType_t* out);
const char* mci_op_name(meshcclRedOp_t op); /* sum prod max min avg */
bool mci_type_is_float(meshcclDataType_t type);

/* Runs the fold to its end. Keeps running results in registers, reads every source once and writes every destination
 * once. Never fails: arguments are the executor's. Integers wrap; integer averages truncate toward zero. Max and min give
 * NaN when a source is NaN and order -0 below +0. Every NaN that a fold computes is the positive quiet NaN without
 * payload; a fold that is a mere copy keeps all bits. Two sources give the same bits in either order. */
void mci_fold(const meshcclFold_t* fold);
/* The same with the portable kernels only: what tests compare with. */
void mci_fold_reference(const meshcclFold_t* fold);
/* memcpy; dst may be equal to src. It stores through the cache: what is copied here is read again soon. */
void mci_copy(void* dst, const void* src, size_t bytes);

/* Conversions of the narrow floats: to nearest even, subnormals included. Too large becomes infinity in half and
 * bfloat16, the largest number (448, 57344) in the 8-bit formats. Infinity stays infinity but in f8e4m3, which has none:
 * there it becomes 448. NaNs become the format's positive quiet NaN. */
float mci_half_to_float(uint16_t bits);
uint16_t mci_float_to_half(float value);
float mci_bfloat16_to_float(uint16_t bits);
uint16_t mci_float_to_bfloat16(float value);
float mci_f8e4m3_to_float(uint8_t bits);
uint8_t mci_float_to_f8e4m3(float value);
float mci_f8e5m2_to_float(uint8_t bits);
uint8_t mci_float_to_f8e5m2(float value);

/* Names of the sets that this processor can run, and the one in use. */
const char* mci_kernels_in_use(void);
uint32_t mci_kernels_available(const char** names, uint32_t cap);
/* Tests: force a set by name; NotSupported when the processor lacks it. */
meshcclResult_t mci_kernels_force(const char* name);
#endif
