/* What print and parse share with each other and with error messages of the verifier. */
#ifndef MCI_SCHED_TEXT_H
#define MCI_SCHED_TEXT_H

#include "base/base.h"
#include "sched/sched.h"

#define MCI_TEXT_MAGIC "meshccl-schedule"
#define MCI_TEXT_VERSION 1
#define MCI_TEXT_MAX_RANKS (1u << 20)
#define MCI_TEXT_MAX_PARTS (1u << 16)
#define MCI_TEXT_MAX_LAYOUT_BYTES (UINT64_C(1) << 30) /* of all ranks together */

/* Whether the name fits the `algorithm` line: printable, no '#', no blanks at its ends. */
bool mci_text_algorithm_ok(const char* name);
/* One step as it stands in the text, without indentation and newline. `depth` repeats enclose it. */
void mci_text_step(mci_str* out, const mci_layout* layout, const mci_channel* channel, const mci_instr* step,
                   uint32_t depth);
#endif
