/* Handles of the test device: addresses without access, each allocation mirrored by hidden memory. Thread-safe. */
#ifndef MCI_TEST_DEVICE_MEMORY_H
#define MCI_TEST_DEVICE_MEMORY_H

#include "base/base.h"

meshcclResult_t test_memory_alloc(size_t bytes, void** handle);
/* Ends the process when handle is not allocated: the test device's user has a bug. */
void test_memory_free(void* handle);
/* The hidden memory of a handle; a host pointer as it is. InvalidArgument: [ptr, ptr + bytes) leaves its allocation. */
meshcclResult_t test_memory_translate(const void* ptr, size_t bytes, void** real);
uint64_t test_memory_allocations(void);
#endif
