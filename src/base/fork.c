/* Notices fork: communicators of the parent are not usable in the child. */
#include "base/globals.h"

static void in_child(void) { atomic_fetch_add(&mci_globals.forks, 1); }

void mci_fork_watch(void) {
  if (atomic_exchange(&mci_globals.fork_hooked, 1) == 0) pthread_atfork(NULL, NULL, in_child);
}

uint32_t mci_fork_generation(void) { return atomic_load_explicit(&mci_globals.forks, memory_order_relaxed); }
