/* Lets libraries that wait by polling share few processors; loaded by LD_PRELOAD into their ranks in perf/lab.
 *
 * With many ranks on two processors a rank that polls keeps a processor for a whole turn of the scheduler, so that what
 * is measured is the scheduler and not the links. Here a call that asks for events without waiting and finds none, or
 * that yields, sleeps for 50 us once it has found nothing four times in a row. The library pays that at a wake-up,
 * little against the milliseconds that a message takes on links as slow as the lab's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>

#define PATIENCE 4
#define NAP_NS 50000

static __thread int misses;

static void found(int something) {
  if (something) {
    misses = 0;
  } else if (++misses > PATIENCE) {
    nanosleep(&(struct timespec){0, NAP_NS}, NULL);
  }
}

/* Sleeps are not rounded up to the default slack of 50 us. */
__attribute__((constructor)) static void sharpen(void) { prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL); }

int sched_yield(void) {
  found(0);
  return 0;
}

int poll(struct pollfd* fds, nfds_t n, int timeout) {
  static int (*next)(struct pollfd*, nfds_t, int);
  if (!next) *(void**)&next = dlsym(RTLD_NEXT, "poll");
  int ready = next(fds, n, timeout);
  if (timeout == 0) found(ready != 0);
  return ready;
}

int epoll_wait(int fd, struct epoll_event* events, int most, int timeout) {
  static int (*next)(int, struct epoll_event*, int, int);
  if (!next) *(void**)&next = dlsym(RTLD_NEXT, "epoll_wait");
  int ready = next(fd, events, most, timeout);
  if (timeout == 0) found(ready != 0);
  return ready;
}
