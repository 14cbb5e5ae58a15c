/* The trees of this process and the one thread that serves those that want a thread. The thread sleeps in poll on an
 * epoll set of the trees' own epoll sets; it is started by the first such tree and ended by the last. A forked child
 * has no thread: it starts afresh, and what it inherited stays untouched (its locks may be held for ever) but
 * reachable. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/globals.h"
#include "boot/control.h"

struct service {
  pthread_mutex_t lock; /* held while a tree is served: after mci_service_remove nobody looks at the tree */
  pthread_t thread;
  bool running;
  int epoll_fd, stop_fd;
  mci_boot* boots;
  struct mci_observers* observers; /* NULL: cannot listen for them */
  int users;                       /* under the globals' lock */
  uint32_t generation;
  struct service* before_fork;
};

static void* serve(void* argument) {
  struct service* service = argument;
  struct pollfd ready = {.fd = service->epoll_fd, .events = POLLIN};
  for (bool stop = false; !stop;) {
    poll(&ready, 1, -1);
    /* Collected under the lock, so that no tree of the list can be removed before it is served. */
    struct epoll_event events[16];
    pthread_mutex_lock(&service->lock);
    int n = epoll_wait(service->epoll_fd, events, (int)MCI_COUNT(events), 0);
    for (int i = 0; i < n; i++) {
      mci_boot* boot = events[i].data.ptr;
      if (!boot) {
        stop = true;
        continue;
      }
      if (events[i].data.ptr == service) {
        mci_observe_serve(service->observers, service->boots);
        continue;
      }
      pthread_mutex_lock(&boot->lock);
      mci_control_progress(boot);
      pthread_mutex_unlock(&boot->lock);
    }
    pthread_mutex_unlock(&service->lock);
  }
  return NULL;
}

static void destroy(struct service* service) {
  mci_observe_stop(service->observers);
  if (service->epoll_fd >= 0) close(service->epoll_fd);
  if (service->stop_fd >= 0) close(service->stop_fd);
  pthread_mutex_destroy(&service->lock);
  mci_free(service);
}

static meshcclResult_t create(struct service** out) {
  struct service* service = mci_alloc(sizeof *service);
  if (!service) return mci_oom(sizeof *service);
  pthread_mutex_init(&service->lock, NULL);
  service->generation = mci_fork_generation();
  service->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  service->stop_fd = eventfd(0, EFD_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  if (service->epoll_fd < 0 || service->stop_fd < 0 ||
      epoll_ctl(service->epoll_fd, EPOLL_CTL_ADD, service->stop_fd, &event) < 0) {
    int cause = errno;
    destroy(service);
    MCI_FAIL(meshcclSystemError, "descriptors for the control thread: %s; see ulimit -n", strerror(cause));
  }
  *out = service;
  return meshcclSuccess;
}

/* Made outside of the globals' lock, because an error is logged and the log takes that lock. */
static meshcclResult_t acquire(struct service** out) {
  struct service *fresh = NULL, *got = NULL;
  for (;;) {
    pthread_mutex_lock(&mci_globals.lock);
    struct service* current = mci_globals.boot_service;
    if (current && current->generation == mci_fork_generation()) {
      got = current;
    } else if (fresh) {
      fresh->before_fork = current;
      mci_globals.boot_service = got = fresh;
      fresh = NULL;
    }
    if (got) got->users++;
    pthread_mutex_unlock(&mci_globals.lock);
    if (got) break;
    MCI_TRY(create(&fresh));
  }
  if (fresh) destroy(fresh);
  *out = got;
  return meshcclSuccess;
}

/* The thread is ended outside of the globals' lock: it may be writing to the log, which takes that lock. */
static void release(struct service* service) {
  pthread_mutex_lock(&mci_globals.lock);
  bool last = --service->users == 0;
  if (last) mci_globals.boot_service = service->before_fork;
  pthread_mutex_unlock(&mci_globals.lock);
  if (!last) return;
  if (service->running) {
    uint64_t one = 1;
    ssize_t ignored = write(service->stop_fd, &one, sizeof one);
    (void)ignored;
    pthread_join(service->thread, NULL);
  }
  destroy(service);
}

/* The application's signals are not for this thread. */
static meshcclResult_t start_thread(struct service* service) {
  if (service->running) return meshcclSuccess;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int cause = pthread_create(&service->thread, NULL, serve, service);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (cause) MCI_FAIL(meshcclSystemError, "the control thread cannot be started: %s", strerror(cause));
  pthread_setname_np(service->thread, "meshccl-control");
  service->running = true;
  return meshcclSuccess;
}

/* Nothing depends on observers: without them the trees work all the same. */
static void let_observe(struct service* service) {
  if (service->observers || !(service->observers = mci_observe_start())) return;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = service};
  epoll_ctl(service->epoll_fd, EPOLL_CTL_ADD, mci_observe_fd(service->observers), &event);
}

static meshcclResult_t enter(struct service* service, mci_boot* boot) {
  if (!boot->threadless) {
    MCI_TRY(start_thread(service));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = boot};
    if (epoll_ctl(service->epoll_fd, EPOLL_CTL_ADD, boot->epoll_fd, &event) < 0)
      MCI_FAIL(meshcclSystemError, "rank %d: epoll_ctl: %s", boot->rank, strerror(errno));
    let_observe(service);
    boot->observers = service->observers;
  }
  boot->next = service->boots;
  service->boots = boot;
  return meshcclSuccess;
}

meshcclResult_t mci_service_add(mci_boot* boot) {
  struct service* service;
  MCI_TRY(acquire(&service));
  pthread_mutex_lock(&service->lock);
  meshcclResult_t result = enter(service, boot);
  pthread_mutex_unlock(&service->lock);
  if (result != meshcclSuccess) release(service);
  return result;
}

void mci_service_remove(mci_boot* boot) {
  pthread_mutex_lock(&mci_globals.lock);
  struct service* service = mci_globals.boot_service;
  pthread_mutex_unlock(&mci_globals.lock);
  pthread_mutex_lock(&service->lock);
  if (!boot->threadless) epoll_ctl(service->epoll_fd, EPOLL_CTL_DEL, boot->epoll_fd, NULL);
  mci_observe_forget(service->observers, boot);
  boot->observers = NULL;
  mci_boot** at = &service->boots;
  while (*at != boot) at = &(*at)->next;
  *at = boot->next;
  pthread_mutex_unlock(&service->lock);
  release(service);
}

void mci_service_serve_threadless(void) {
  pthread_mutex_lock(&mci_globals.lock);
  struct service* service = mci_globals.boot_service;
  if (service && service->generation != mci_fork_generation()) service = NULL;
  if (service) service->users++;
  pthread_mutex_unlock(&mci_globals.lock);
  if (!service) return;
  pthread_mutex_lock(&service->lock);
  for (mci_boot* boot = service->boots; boot; boot = boot->next) {
    if (!boot->threadless || pthread_mutex_trylock(&boot->lock) != 0) continue; /* somebody serves it */
    mci_control_progress(boot);
    pthread_mutex_unlock(&boot->lock);
  }
  pthread_mutex_unlock(&service->lock);
  release(service);
}

void mci_service_kin(mci_boot* boot, char* text, size_t size) {
  mci_str ranks = {0};
  pthread_mutex_lock(&mci_globals.lock);
  struct service* service = mci_globals.boot_service;
  pthread_mutex_unlock(&mci_globals.lock);
  pthread_mutex_lock(&service->lock);
  for (const mci_boot* other = service->boots; other; other = other->next)
    if (other != boot && memcmp(mci_id_name(&other->id), mci_id_name(&boot->id), 32) == 0 && ranks.length + 16 < size)
      mci_str_add(&ranks, "%s%d", ranks.length ? ", " : "rank ", other->rank);
  pthread_mutex_unlock(&service->lock);
  snprintf(text, size, "%s", ranks.text && !ranks.failed ? ranks.text : "");
  mci_str_fini(&ranks);
}
