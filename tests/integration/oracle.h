/* One call of a collective on fresh buffers, of any type, in host memory or on a device, checked against the definition
 * of the collective. Values are small whole numbers, so that every order of additions gives the same result in every
 * type but the 8-bit floats; those are used for moving only. Public headers only. */
#ifndef MCI_INTEGRATION_ORACLE_H
#define MCI_INTEGRATION_ORACLE_H

#include "harness.h"

enum { ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, BROADCAST, REDUCE, ALL_TO_ALL, GATHER, SCATTER, NUM_COLLS };
extern const char* const oracle_names[NUM_COLLS];

/* Where buffers live. write and read copy between host memory and a buffer. */
typedef struct {
  void* (*alloc)(size_t bytes);
  void (*give)(void* ptr);
  void (*write)(void* to, const void* from, size_t bytes);
  void (*read)(void* to, const void* from, size_t bytes);
} oracle_memory;
extern const oracle_memory oracle_host, oracle_mem_alloc;

typedef struct {
  const oracle_memory* memory; /* NULL: oracle_host */
  meshcclStream_t stream;
  meshcclDataType_t type;
  meshcclRedOp_t op; /* Sum, Max or Min */
  int coll, root;
  size_t count;
  size_t offset; /* bytes between the start of an allocation and the buffer */
  bool in_place;
} oracle_call;

size_t oracle_type_size(meshcclDataType_t type);
bool oracle_rooted(int coll);
bool oracle_can_be_in_place(int coll);
/* Issues the call as it stands. */
meshcclResult_t oracle_issue(const oracle_call* call, const void* in, void* out, meshcclComm_t comm);
/* 0 when the result, the untouched input and the guard behind the output are as they must be. */
int oracle_run(rank_env* env, meshcclComm_t comm, const oracle_call* call);
/* Every collective with every root, in place and not, for one type and count. */
int oracle_run_all(rank_env* env, meshcclComm_t comm, const oracle_call* like);
/* Sends `count` elements round the ring of ranks, in one group. */
int oracle_exchange(rank_env* env, meshcclComm_t comm, const oracle_call* like);
#endif
