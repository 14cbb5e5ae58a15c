/* -T: ends the process when no half of a line has finished for too long. The library's own limit (opTimeout, set to the
 * same value) comes first and names the culprit; this is for the case that it does not. */
#ifndef PERF_WATCHDOG_H
#define PERF_WATCHDOG_H

#include "perf/engine/perf.h"

/* Does nothing without a time-out. The thread ends with the process. */
void perf_watchdog_start(perf_world* world);
#endif
