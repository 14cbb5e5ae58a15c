/* Every mutable global of the library, in one place: log sink, parameters, registries, table of shared memory, forked
 * flag. All else hangs on a communicator or a thread, so that ranks may be threads of one process. */
#include "base/globals.h"

struct mci_globals mci_globals = {
    .fail_after = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .plugins_lock = PTHREAD_MUTEX_INITIALIZER};
