/* A device for tests, registered under the name "test", whose memory the host cannot touch.
 *
 * Its memory is known by handles: addresses in a range that is reserved without access, so that whoever dereferences
 * one crashes. The bytes lie in a hidden mapping. fold and copy accept handles and host pointers mixed. Work that is
 * started takes effect only when its token is polled to the end: some at once, most after a random number of polls of
 * their own, so that tokens finish out of order, and what reads results early, or reuses a source early, shows.
 * Destinations in the device's memory that are no sources of the same work hold garbage until then. */
#ifndef MCI_TEST_DEVICE_H
#define MCI_TEST_DEVICE_H

#include "device/device.h"
#include "support/test.h"

extern const meshcclDevice_t test_device;

/* Puts the device into the registry; prints the seed of the delays. May be called again. */
void test_device_register(void);

/* Copies between host memory and [handle, handle + bytes), which must lie in one allocation: else the test fails. */
void test_device_write(void* handle, const void* from, size_t bytes);
void test_device_read(void* to, const void* handle, size_t bytes);
bool test_device_is_handle(const void* ptr);

/* The calls-th next fold or copy of any context fails when it would complete; negative: none. */
void test_device_fail_after(int64_t calls);

/* Of the whole process, since it started. */
typedef struct {
  uint64_t folds, copies;
  uint64_t immediate;    /* done when the start function returned */
  uint64_t out_of_order; /* completed while an older token of the same context was pending */
  uint64_t dropped;      /* tokens pending when their context was closed: their work was never done */
  uint64_t allocations;  /* handles that are allocated now */
} test_device_counts;
test_device_counts test_device_count(void);
#endif
