/* Inside of `meshccl top`: which process and with what secret (top_find.c), what is to be seen (top_show.c). */
#ifndef MCI_TOOLS_TOP_H
#define MCI_TOOLS_TOP_H

#include "boot/watch.h"

typedef struct {
  const char* name;
  int nranks, through, answered_count;
  int32_t pid;
  const mci_rank_status* status; /* nranks, */
  const bool* answered;          /* and which of them are set */
} mci_top_view;

/* ---- top_find.c ---- */
/* The process itself when it listens for observers, else one that descends from it (a launcher's rank). */
int32_t mci_top_process(int32_t pid);
/* "PID (program)" per line for every process of this user that can be observed. */
void mci_top_candidates(mci_str* out);
/* The id of MESHCCL_ID, or the one that the process's own environment and launcher give; MESHCCL_SECRET and
 * MESHCCL_SECRET_FILE of this environment go before those of the process. */
meshcclResult_t mci_top_id(int32_t pid, mci_id* out);

/* ---- top_show.c ---- */
void mci_top_text(const mci_top_view* view, int most_ranks, mci_str* out);
void mci_top_json(const mci_top_view* view, mci_str* out);
#endif
