/* Notices fork: communicators of the parent are not usable in the child. The locks of the globals are held across the
 * fork, so that a child of a process with several threads finds them free and what they guard whole. */
#include "base/globals.h"

static void before(void) {
  pthread_mutex_lock(&mci_globals.plugins_lock);
  pthread_mutex_lock(&mci_globals.lock);
}

static void in_parent(void) {
  pthread_mutex_unlock(&mci_globals.lock);
  pthread_mutex_unlock(&mci_globals.plugins_lock);
}

static void in_child(void) {
  in_parent();
  atomic_fetch_add(&mci_globals.forks, 1);
}

void mci_fork_watch(void) {
  if (atomic_exchange(&mci_globals.fork_hooked, 1) == 0) pthread_atfork(before, in_parent, in_child);
}

uint32_t mci_fork_generation(void) { return atomic_load_explicit(&mci_globals.forks, memory_order_relaxed); }
