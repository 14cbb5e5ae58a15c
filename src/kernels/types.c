/* Sizes and names of the element types and names of the operators, as the tools print and parse them. */
#include <string.h>

#include "kernels/kernels.h"

static const struct {
  const char* name;
  size_t size;
  bool is_float;
} types[meshcclNumTypes] = {
    [meshcclInt8] = {"int8", 1, false},        [meshcclUint8] = {"uint8", 1, false},
    [meshcclInt32] = {"int32", 4, false},      [meshcclUint32] = {"uint32", 4, false},
    [meshcclInt64] = {"int64", 8, false},      [meshcclUint64] = {"uint64", 8, false},
    [meshcclFloat16] = {"half", 2, true},      [meshcclFloat32] = {"float", 4, true},
    [meshcclFloat64] = {"double", 8, true},    [meshcclBfloat16] = {"bfloat16", 2, true},
    [meshcclFloat8e4m3] = {"f8e4m3", 1, true}, [meshcclFloat8e5m2] = {"f8e5m2", 1, true},
};

static bool known(meshcclDataType_t type) { return (unsigned)type < meshcclNumTypes; }

size_t mci_type_size(meshcclDataType_t type) { return known(type) ? types[type].size : 0; }

const char* mci_type_name(meshcclDataType_t type) { return known(type) ? types[type].name : "unknown type"; }

bool mci_type_is_float(meshcclDataType_t type) { return known(type) && types[type].is_float; }

bool mci_type_parse(const char* name, meshcclDataType_t* out) {
  for (int type = 0; type < meshcclNumTypes; type++) {
    if (strcmp(types[type].name, name) != 0) continue;
    *out = (meshcclDataType_t)type;
    return true;
  }
  return false;
}

const char* mci_op_name(meshcclRedOp_t op) {
  static const char* const names[meshcclNumOps] = {"sum", "prod", "max", "min", "avg"};
  return (unsigned)op < meshcclNumOps ? names[op] : "unknown operator";
}
