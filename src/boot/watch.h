/* The observer's end of observe.c: looks into a running job from another process of the same user on the same host.
 * Read-only. Used by `meshccl top`; one thread. */
#ifndef MCI_WATCH_H
#define MCI_WATCH_H

#include "boot/boot.h"

typedef struct mci_watch mci_watch;

/* Connects to process `pid` and proves to know the id's secret. InvalidUsage: no such process, it cannot be observed,
 * or another id or secret; the message says the remedy. Timeout: it does not answer. */
meshcclResult_t mci_watch_open(int32_t pid, const mci_id* id, mci_watch** out);
void mci_watch_close(mci_watch* watch); /* NULL allowed */
int mci_watch_nranks(const mci_watch* watch);
int mci_watch_rank(const mci_watch* watch);         /* of the process */
const char* mci_watch_name(const mci_watch* watch); /* of the communicator */

/* Asks all ranks and waits for their answers, at most timeout_ns: answered[r] says whether status[r] is set; both have
 * nranks entries. RemoteError: the process has ended. */
meshcclResult_t mci_watch_ask(mci_watch* watch, uint64_t timeout_ns, mci_rank_status* status, bool* answered);
#endif
