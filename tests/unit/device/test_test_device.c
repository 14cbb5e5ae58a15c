/* device: the device that other tests rely on keeps its promises: its memory cannot be touched, its work is late and
 * out of order, its mistakes are found, and nothing is left. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/test_device.h"

/* The signal that ends a child that loads (or stores) one byte through ptr; 0: none. */
static int touch(void* ptr, bool store) {
  pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    volatile char* byte = ptr;
    if (store) {
      *byte = 1;
    } else {
      (void)*byte;
    }
    _exit(0);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void touching_a_handle_crashes(void** state) {
  (void)state;
  void *ctx, *handle;
  char host = 0;
  check_ok(test_device.open(&ctx));
  check_ok(test_device.alloc(ctx, 100000, &handle));
  assert_int_equal(touch(handle, false), SIGSEGV);
  assert_int_equal(touch((char*)handle + 99999, true), SIGSEGV);
  assert_int_equal(touch(&host, true), 0);
  assert_false(test_device.hostAccessible(ctx, handle));
  assert_false(test_device.hostAccessible(ctx, (char*)handle + 99999));
  assert_true(test_device.hostAccessible(ctx, &host));
  test_device.free(ctx, handle);
  assert_false(test_device.hostAccessible(ctx, handle));
  test_device.close(ctx);
  assert_int_equal(test_device_count().allocations, 0);
}

static void it_is_found_by_name_and_registers_once(void** state) {
  (void)state;
  const meshcclDevice_t* device = NULL;
  test_device_register();
  test_device_register();
  check_ok(mci_device_find("test", &device));
  assert_ptr_equal(device, &test_device);
}

/* By pointer: the start function, called in the same expression, sets the token. */
static meshcclResult_t wait_for(void* ctx, meshcclResult_t started, const uint64_t* token) {
  while (started == meshcclInProgress) started = test_device.poll(ctx, *token);
  return started;
}

static void results_appear_only_when_the_token_is_done(void** state) {
  (void)state;
  void *ctx, *handle;
  check_ok(test_device.open(&ctx));
  check_ok(test_device.alloc(ctx, 4096, &handle));
  int late = 0;
  for (int round = 0; round < 200; round++) {
    uint32_t value = 1000u + (uint32_t)round, read;
    uint64_t token = 0;
    void* at = (char*)handle + round * 4 + 1;
    meshcclResult_t result = test_device.copy(ctx, at, &value, sizeof value, &token);
    while (result == meshcclInProgress) {
      test_device_read(&read, at, sizeof read);
      assert_int_equal(read, 0xdbdbdbdbu);
      late++;
      result = test_device.poll(ctx, token);
    }
    check_ok(result);
    test_device_read(&read, at, sizeof read);
    assert_int_equal(read, value);
  }
  assert_true(late > 100);
  test_device.free(ctx, handle);
  test_device.close(ctx);
}

static void tokens_finish_out_of_order_and_all_finish(void** state) {
  (void)state;
  enum { N = 64 };
  void *ctx, *handle;
  float from[N], sum, expected = 0;
  uint64_t tokens[N];
  meshcclResult_t results[N];
  test_device_counts before = test_device_count();
  check_ok(test_device.open(&ctx));
  check_ok(test_device.alloc(ctx, sizeof from, &handle));
  for (int i = 0; i < N; i++) {
    from[i] = (float)i;
    expected += from[i];
    results[i] = test_device.copy(ctx, (float*)handle + i, &from[i], sizeof from[i], &tokens[i]);
  }
  for (int pending = 1; pending;) {
    pending = 0;
    for (int i = 0; i < N; i++) {
      if (results[i] == meshcclInProgress) results[i] = test_device.poll(ctx, tokens[i]);
      pending += results[i] == meshcclInProgress;
    }
  }
  for (int i = 0; i < N; i++) check_ok(results[i]);
  /* One fold over all of them, from the device's memory into the host's. */
  const void* sources[N];
  void* destination = &sum;
  for (int i = 0; i < N; i++) sources[i] = (float*)handle + i;
  meshcclFold_t fold = {.destinations = &destination,
                        .sources = sources,
                        .ndestinations = 1,
                        .nsources = N,
                        .count = 1,
                        .type = meshcclFloat32,
                        .op = meshcclSum};
  uint64_t token = 0;
  check_ok(wait_for(ctx, test_device.fold(ctx, &fold, &token), &token));
  assert_true(sum == expected);
  test_device_counts after = test_device_count();
  assert_true(after.out_of_order > before.out_of_order);
  assert_int_equal(after.copies - before.copies, N);
  assert_int_equal(after.folds - before.folds, 1);
  test_device.free(ctx, handle);
  test_device.close(ctx);
}

static void the_struct_of_a_fold_is_read_before_the_start_returns(void** state) {
  (void)state;
  void* ctx;
  check_ok(test_device.open(&ctx));
  for (int round = 0; round < 50; round++) {
    int32_t a = 5, b = 6, scale = 2, out = 0;
    const void* sources[] = {&a, &b};
    void* destination = &out;
    meshcclFold_t fold = {.destinations = &destination,
                          .sources = sources,
                          .ndestinations = 1,
                          .nsources = 2,
                          .count = 1,
                          .type = meshcclInt32,
                          .op = meshcclSum,
                          .scaled = 2,
                          .scale = &scale};
    uint64_t token = 0;
    meshcclResult_t result = test_device.fold(ctx, &fold, &token);
    sources[0] = sources[1] = NULL;
    destination = NULL;
    scale = 1000;
    memset(&fold, 0, sizeof fold);
    check_ok(wait_for(ctx, result, &token));
    assert_int_equal(out, 17);
  }
  test_device.close(ctx);
}

static void work_outside_of_an_allocation_is_refused(void** state) {
  (void)state;
  void *ctx, *handle;
  char host[16] = {0};
  uint64_t token;
  check_ok(test_device.open(&ctx));
  check_ok(test_device.alloc(ctx, 16, &handle));
  check_fails(test_device.copy(ctx, (char*)handle + 1, host, 16, &token), meshcclInvalidArgument, "not inside");
  check_fails(test_device.copy(ctx, host, (char*)handle - 1, 1, &token), meshcclInvalidArgument, "not inside");
  /* Freed while the work is pending: found when it would take effect. */
  meshcclResult_t result;
  void* freed;
  do {
    check_ok(test_device.alloc(ctx, 16, &freed));
    result = test_device.copy(ctx, freed, host, 16, &token);
    test_device.free(ctx, freed);
  } while (result == meshcclSuccess);
  check_fails(wait_for(ctx, result, &token), meshcclInvalidArgument, "not inside");
  check_fails(test_device.poll(ctx, token), meshcclInvalidArgument, "not pending");
  test_device.free(ctx, handle);
  test_device.close(ctx);
}

static void told_to_fail_it_fails_once(void** state) {
  (void)state;
  void* ctx;
  char from = 1, to = 0;
  check_ok(test_device.open(&ctx));
  test_device_fail_after(2);
  for (int i = 1; i <= 3; i++) {
    uint64_t token = 0;
    meshcclResult_t result = wait_for(ctx, test_device.copy(ctx, &to, &from, 1, &token), &token);
    assert_int_equal(result, i == 2 ? meshcclUnhandledDeviceError : meshcclSuccess);
  }
  test_device_fail_after(-1);
  test_device.close(ctx);
}

static void pending_work_is_dropped_and_counted_at_close(void** state) {
  (void)state;
  void* ctx;
  static char from[64], to[64];
  uint64_t token, before = test_device_count().dropped, pending = 0;
  check_ok(test_device.open(&ctx));
  for (int i = 0; i < 64; i++) pending += test_device.copy(ctx, &to[i], &from[i], 1, &token) == meshcclInProgress;
  test_device.close(ctx);
  assert_int_equal(test_device_count().dropped - before, pending);
  assert_true(pending > 0);
}

static void* use_in_thread(void* arg) {
  void *ctx, *handle;
  uint64_t value = (uintptr_t)arg, read = 0, wrong = 0;
  if (test_device.open(&ctx) != meshcclSuccess) return (void*)1;
  for (int i = 0; i < 200; i++) {
    uint64_t token = 0;
    value = value * 3 + 1;
    if (test_device.alloc(ctx, sizeof value, &handle) != meshcclSuccess) return (void*)1;
    wrong += wait_for(ctx, test_device.copy(ctx, handle, &value, sizeof value, &token), &token) != meshcclSuccess;
    wrong += wait_for(ctx, test_device.copy(ctx, &read, handle, sizeof value, &token), &token) != meshcclSuccess;
    wrong += read != value;
    test_device.free(ctx, handle);
  }
  test_device.close(ctx);
  return (void*)(uintptr_t)wrong;
}

static void contexts_of_several_threads_do_not_disturb_each_other(void** state) {
  (void)state;
  pthread_t threads[4];
  for (uintptr_t i = 0; i < MCI_COUNT(threads); i++)
    assert_int_equal(pthread_create(&threads[i], NULL, use_in_thread, (void*)(i + 1)), 0);
  for (size_t i = 0; i < MCI_COUNT(threads); i++) {
    void* wrong = NULL;
    assert_int_equal(pthread_join(threads[i], &wrong), 0);
    assert_null(wrong);
  }
  assert_int_equal(test_device_count().allocations, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_is_found_by_name_and_registers_once),
      cmocka_unit_test(touching_a_handle_crashes),
      cmocka_unit_test(results_appear_only_when_the_token_is_done),
      cmocka_unit_test(tokens_finish_out_of_order_and_all_finish),
      cmocka_unit_test(the_struct_of_a_fold_is_read_before_the_start_returns),
      cmocka_unit_test(work_outside_of_an_allocation_is_refused),
      cmocka_unit_test(told_to_fail_it_fails_once),
      cmocka_unit_test(pending_work_is_dropped_and_counted_at_close),
      cmocka_unit_test(contexts_of_several_threads_do_not_disturb_each_other),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
