/* One suite that every transport must pass: the whole test of a transport is one CONFORMANCE declaration.
 *
 * The suite knows only include/meshccl/transport.h. Each rule of that header is a case; a case runs with all contexts
 * in one thread, with a thread for each context and with a process for each context, as far as the subject can. */
#ifndef MCI_CONFORMANCE_SUITE_H
#define MCI_CONFORMANCE_SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meshccl/transport.h"

/* Processes that a launcher started and that must all run the test (MPI); others are forked by the suite. */
typedef struct {
  int rank, nranks;
  /* All ranks' `bytes` bytes, in rank order. Blocks. */
  void (*gather)(const void* mine, void* all, size_t bytes);
  /* First call: this rank is ready. True once every rank is. Never blocks; the next round starts after true. */
  bool (*everybody)(void);
} suite_launcher;

enum {
  SUITE_SELF_ONLY = 1, /* reaches only its own context */
  SUITE_THREADS = 2,   /* contexts of one process may be driven by different threads at once */
  SUITE_FORK = 4       /* contexts of forked processes reach each other */
};

typedef struct {
  const meshcclTransport_t* transport;
  const char* variant;   /* added to the name in the output; NULL: none */
  const char* parameter; /* MESHCCL_<parameter> is `value` for the transport; NULL: none is set */
  const char* value;
  uint32_t traits;                /* SUITE_* */
  uint32_t patience_ms;           /* a case that stands still for so long has failed; 0: 20000 */
  const suite_launcher* launcher; /* NULL: forked processes, if the traits say so */
} suite_subject;

/* Runs everything; the number of failed cases, for main(). */
int suite_run(const suite_subject* subject);
/* For a transport that is not built or not usable here: says so and returns the status that ctest shows as skipped. */
int suite_skip(const char* transport, const char* why);

#define CONFORMANCE(...)                                \
  int main(void) {                                      \
    static const suite_subject subject = {__VA_ARGS__}; \
    return suite_run(&subject);                         \
  }
#endif
