#ifndef MCI_RUNTIME_H
#define MCI_RUNTIME_H
#include <pthread.h>

#include "api/comm.h"

/* Lives in base/globals.c's neighbour for the api: src/api/globals.c. lock guards all of it. */
struct mci_runtime {
  pthread_mutex_t lock;
  pthread_cond_t wake;
  meshcclComm_t comms;
  meshcclStream_t streams;
  pthread_t thread;
  bool running, fork_hooked;
  uint64_t tenure; /* of the thread: one with an older number ends */
};
extern struct mci_runtime mci_runtime;
#endif
