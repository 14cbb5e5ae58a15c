/* The lists of communicators and streams that the process's waiters and its progress thread drive (runtime.c). The one
 * instance is in globals.c of this folder. */
#ifndef MCI_RUNTIME_H
#define MCI_RUNTIME_H
#include <pthread.h>

#include "api/comm.h"

/* lock guards all of it. */
struct mci_runtime {
  pthread_mutex_t lock;
  pthread_cond_t wake;
  meshcclComm_t comms;
  meshcclStream_t streams;
  pthread_t thread;
  bool running, fork_hooked;
  bool asleep;     /* the thread, on descriptors: wake_fd is written to wake it */
  int wake_fd;     /* 0: none */
  uint64_t tenure; /* of the thread: one with an older number ends */
};
extern struct mci_runtime mci_runtime;
#endif
