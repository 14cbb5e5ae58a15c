/* A detached thread that looks at the pulse of the world a few times per second. */
#include "perf/engine/watchdog.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const double slack = 2; /* seconds that the library's own limit gets to speak first */

static void* watch(void* argument) {
  perf_world* world = argument;
  double limit = world->options.timeout + slack, since = perf_seconds();
  for (uint64_t seen = world->pulse;;) {
    nanosleep(&(struct timespec){0, 200000000}, NULL);
    uint64_t now = world->pulse;
    if (now != seen) since = perf_seconds();
    seen = now;
    if (perf_seconds() - since < limit) continue;
    fprintf(stderr, "%s: process %d: nothing finished for %g s (-T %g); giving up\n", world->program->program,
            world->process, limit, world->options.timeout);
    _exit(3);
  }
  return NULL;
}

void perf_watchdog_start(perf_world* world) {
  pthread_t thread;
  if (world->options.timeout > 0 && pthread_create(&thread, NULL, watch, world) == 0) pthread_detach(thread);
}
