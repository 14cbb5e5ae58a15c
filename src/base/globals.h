/* The mutable globals of the library; see globals.c. */
#ifndef MCI_GLOBALS_H
#define MCI_GLOBALS_H
#include <pthread.h>
#include <stdatomic.h>

#include "base/base.h"

#define MCI_MAX_PLUGINS 32

struct mci_param_value {
  bool from_env;
  int64_t integer;
  double real;
  char* text;
};

/* lock guards everything below that is not atomic. */
struct mci_globals {
  pthread_mutex_t lock;
  atomic_int params_ready; /* 0 not read, 1 read */
  meshcclResult_t params_result;
  char params_error[512];
  struct mci_param_value params[MCI_NUM_PARAMS];
  int log_fd;                   /* 0: not opened yet */
  _Atomic int64_t fail_after;   /* test hook of alloc.c */
  pthread_mutex_t plugins_lock; /* guards transports; taken before lock */
  const void* transports[MCI_MAX_PLUGINS];
  const void* faulty[MCI_MAX_PLUGINS]; /* what MESHCCL_FAULT puts in front of them, by index; NULL: not needed yet */
  int ntransports;
  const void* devices[MCI_MAX_PLUGINS];
  int ndevices;
  _Atomic(const void*) kernels;      /* the set of kernels in use; NULL: not chosen yet */
  struct mci_shared_region* regions; /* by ascending base */
  uint32_t nregions, cap_regions;
  _Atomic uint64_t next_region, region_frees;
  void* boot_service;          /* src/boot/service.c: the trees of this process and the thread that serves them */
  void* boot_listeners;        /* src/boot/meeting.c: sockets that wait for rank 0 of an id */
  atomic_int listener_adopted; /* src/boot/env.c: MESHCCL_LISTEN_FD was taken over */
  atomic_uint pmix_meetings;   /* src/boot/pmix.c: keys used so far */
  atomic_int pmix_place[3];    /* there: job size, local size, local rank, each plus 1; 0: not known */
  atomic_int fork_hooked;
  _Atomic uint32_t forks; /* generation: incremented in each forked child */
};
extern struct mci_globals mci_globals;

/* Generation of this process: a communicator made before a fork has an older one. */
uint32_t mci_fork_generation(void);
void mci_fork_watch(void);
#endif
