/* The api's only mutable global: the lists of the process and its progress thread (see runtime.c). */
#include "api/runtime.h"

struct mci_runtime mci_runtime = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
